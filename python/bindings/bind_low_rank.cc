// Low-rank approximations, frequent directions and leverage scores.
#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bindings.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/iterate.hpp"
#include "gramian/linalg/nystrom.hpp"
#include "gramian/sketch/frequent_directions.hpp"
#include "gramian/sketch/leverage.hpp"
#include "gramian/sketch/randomized_svd.hpp"
#include "map_in.hpp"
#include "model_files.hpp"

namespace gramian::python {
namespace {

SvdOptions svd_options_in(const py::dict& given) {
  SvdOptions out;
  out.rank = given["rank"].cast<std::int64_t>();
  out.tol = given["tol"].cast<double>();
  out.rtol = given["rtol"].cast<double>();
  out.power_iterations = given["power_iterations"].cast<int>();
  out.oversampling = given["oversampling"].cast<std::int64_t>();
  out.block = given["block"].cast<std::int64_t>();
  out.krylov = given["krylov"].cast<bool>();
  out.centre = given["centre"].cast<bool>();
  out.probes = given["probes"].cast<int>();
  out.certificate_powers = given["certificate_powers"].cast<int>();
  out.seed = given["seed"].cast<std::uint64_t>();
  return out;
}

template <class T, class Solve>
py::dict decompose(const Exec& exec, const Solve& solve) {
  RandomizedSvd<T> found;
  without_gil([&] { found = solve(); });
  const MatrixOut<T> u(found.u.rows(), found.u.cols()), vt(found.vt.rows(), found.vt.cols());
  without_gil([&] {
    copy_out<T>(exec, found.u.view(), u.view());
    copy_out<T>(exec, found.vt.view(), vt.view());
  });
  py::dict out;
  out["U"] = u.array();
  out["Vt"] = vt.array();
  out["s"] = vector_out(std::vector<T>(found.s.begin(), found.s.end()));
  out["mean"] = vector_out(std::vector<T>(found.mean.begin(), found.mean.end()));
  out["rank"] = found.rank;
  out["error"] = found.error;
  out["frobenius_error"] = found.frobenius_error;
  out["norm"] = found.norm;
  out["converged"] = found.converged;
  out["passes"] = found.passes;
  out["basis"] = found.basis;
  out["why"] = found.why;
  return out;
}

// single: products in float.
py::dict svd(const py::object& a, bool single, const py::dict& given, const std::string& device, int threads) {
  const RowsIn rows(a, "A");
  const SvdOptions options = svd_options_in(given);
  const Exec exec = make_exec(device, threads);
  if (single) return decompose<float>(exec, [&] { return randomized_svd<float>(exec, rows.view(), options); });
  return decompose<double>(exec, [&] { return randomized_svd<double>(exec, rows.view(), options); });
}

py::dict svd_map(std::int64_t n, std::int64_t d, const py::function& apply, const py::function& adjoint,
                 const py::dict& given, const std::string& device, int threads) {
  LinearMap map;
  map.n = n;
  map.d = d;
  map.apply = products_of(apply, "A.matvec");
  map.adjoint = products_of(adjoint, "A.rmatvec");
  const SvdOptions options = svd_options_in(given);
  const Exec exec = make_exec(device, threads);
  return decompose<double>(exec, [&] { return randomized_svd(exec, map, options); });
}

NystromOptions nystrom_options_in(const py::dict& given) {
  NystromOptions out;
  out.rank = given["rank"].cast<std::int64_t>();
  out.max_rank = given["max_rank"].cast<std::int64_t>();
  out.tol = given["tol"].cast<double>();
  out.rtol = given["rtol"].cast<double>();
  out.unit = given["unit"].cast<double>();
  out.seed = given["seed"].cast<std::uint64_t>();
  return out;
}

py::dict approximate(const py::object& k, std::int64_t n, const py::dict& given, const std::string& device,
                     int threads) {
  const Exec exec = make_exec(device, threads);
  const MapIn matrix(exec, k, false, "K");
  matrix.require_size(n, "K");
  const NystromOptions options = nystrom_options_in(given);
  NystromFactor found;
  without_gil([&] { found = nystrom(exec, matrix.map(), n, options); });
  const MatrixOut<double> u(found.rank(), n);
  without_gil([&] { copy_out<double>(exec, found.u.view(), u.view()); });
  py::dict out;
  out["U"] = u.array();
  out["eigenvalues"] = vector_out(found.eigenvalues);
  out["error"] = found.error;
  out["products"] = found.products;
  out["converged"] = found.converged;
  out["why"] = found.why;
  return out;
}

// b: k x n, a row per right-hand side.
py::tuple ridge_solve(const py::object& k, const py::array_t<double, py::array::c_style>& b, double mu, bool flat,
                      const py::dict& given, std::int64_t max_iterations, double rtol, double atol,
                      const std::string& device, int threads) {
  const Exec exec = make_exec(device, threads);
  GRAMIAN_REQUIRE(b.ndim() == 2, shape_mismatch, "b must have two dimensions");
  const std::int64_t count = b.shape(0), n = b.shape(1);
  const MapIn matrix(exec, k, flat, "K");
  matrix.require_size(n, "K");
  const NystromOptions options = nystrom_options_in(given);
  FlexibleCgOptions steps;
  steps.directions = 1;
  steps.max_iterations = max_iterations;
  steps.rtol = rtol;
  steps.atol = atol;
  const MatrixOut<double> out(count, n);
  NystromPcgReport report;
  without_gil([&] {
    Array<double> rhs(exec, count, n), x(exec, count, n);
    upload<double>(exec, {b.data(), count, n}, rhs.view());
    axpby<double, double>(exec, 0.0, {}, 0.0, x.view());
    report = nystrom_pcg(exec, matrix.map(), rhs.view(), x.view(), mu, options, steps);
    download<double>(exec, x.view(), out.view());
  });
  py::dict found;
  found["iterations"] = report.cg.iterations;
  found["converged"] = report.cg.converged;
  found["residual"] = vector_out(report.cg.residual);
  found["rank"] = report.rank;
  found["preconditioned"] = report.preconditioned;
  found["smallest"] = report.smallest;
  found["condition"] = report.condition;
  found["products"] = report.products;
  return py::make_tuple(out.array(), found);
}

py::dict leverage(const py::object& a, const std::string& method, double eps, double delta, std::int64_t projection,
                  double rtol, std::uint64_t seed, const std::string& device, int threads) {
  const RowsIn rows(a, "A");
  LeverageOptions options;
  options.method = method == "exact"      ? LeverageMethod::exact
                   : method == "sketched" ? LeverageMethod::sketched
                                          : LeverageMethod::automatic;
  options.eps = eps;
  options.delta = delta;
  options.projection = projection;
  options.rtol = rtol;
  options.seed = seed;
  LeverageScores found;
  without_gil([&] { found = leverage_scores(make_exec(device, threads), rows.view(), options); });
  py::dict out;
  out["scores"] = vector_out(found.scores);
  out["method"] = found.method == LeverageMethod::exact ? "exact" : "sketched";
  out["rank"] = found.rank;
  out["sketch_rows"] = found.sketch_rows;
  out["projection"] = found.projection;
  return out;
}

using Box = Guarded<FrequentDirections>;

// (rows, delta, shed)
py::tuple sketch(const Box& self) {
  DirectionsSketch out;
  std::int64_t d = 0;
  self.read([&](const FrequentDirections& f) {
    d = f.n_features();
    out = f.sketch();
  });
  return py::make_tuple(
      vector_out(out.rows).reshape({static_cast<py::ssize_t>(out.count), static_cast<py::ssize_t>(d)}), out.delta,
      out.shed);
}

void bind_directions(py::module_& module) {
  using F = FrequentDirections;
  py::class_<Box> box(module, "FrequentDirections");
  box.def(py::init([](std::int64_t ell, std::int64_t n_features, const std::string& device, int threads) {
            return std::make_unique<Box>(F(make_exec(device, threads), ell, n_features));
          }),
          py::arg("ell"), py::arg("n_features"), py::arg("device"), py::arg("threads"))
      .def_property_readonly("ell", getter<FrequentDirections>([](const F& f) { return f.ell(); }))
      .def_property_readonly("n_features", getter<FrequentDirections>([](const F& f) { return f.n_features(); }))
      .def_property_readonly("n_rows", getter<FrequentDirections>([](const F& f) { return f.n_rows(); }))
      .def_property_readonly("squares", getter<FrequentDirections>([](const F& f) { return f.squares(); }))
      .def_property_readonly("nbytes", getter<FrequentDirections>([](const F& f) { return f.bytes(); }))
      .def(
          "add",
          [](Box& self, const py::object& x) {
            const RowsIn rows(x, "X");
            self.write([&](F& f) { f.add(rows.view()); });
          },
          py::arg("X"))
      .def(
          "merge",
          [](Box& self, const Box& other) {
            self.write_with(other, [](F& mine, const F& theirs) { mine.merge(theirs); });
          },
          py::arg("other"))
      .def("sketch", &sketch);
  def_state_files(box, "frequent_directions");
}

}  // namespace

void bind_low_rank(py::module_& module) {
  module.def("randomized_svd", &svd, py::arg("A"), py::arg("single"), py::arg("options"), py::arg("device"),
             py::arg("threads"));
  module.def("randomized_svd_map", &svd_map, py::arg("n"), py::arg("d"), py::arg("apply"), py::arg("adjoint"),
             py::arg("options"), py::arg("device"), py::arg("threads"));
  module.def("nystrom", &approximate, py::arg("K"), py::arg("n"), py::arg("options"), py::arg("device"),
             py::arg("threads"));
  module.def("nystrom_pcg", &ridge_solve, py::arg("K"), py::arg("b"), py::arg("mu"), py::arg("flat"),
             py::arg("options"), py::arg("max_iterations"), py::arg("rtol"), py::arg("atol"), py::arg("device"),
             py::arg("threads"));
  module.def("leverage_scores", &leverage, py::arg("A"), py::arg("method"), py::arg("eps"), py::arg("delta"),
             py::arg("projection"), py::arg("rtol"), py::arg("seed"), py::arg("device"), py::arg("threads"));
  bind_directions(module);
}

}  // namespace gramian::python
