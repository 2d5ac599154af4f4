#include "array_in.hpp"
#include "array_out.hpp"
#include "gramian/linalg/iterate.hpp"
#include "map_in.hpp"

namespace gramian::python {
namespace {

// b, x: k x n arrays, a row per right-hand side.
py::tuple solve(const py::object& a, const py::array_t<double, py::array::c_style>& b,
                const py::array_t<double, py::array::c_style>& x0, const py::object& precondition, bool flat,
                std::int64_t directions, std::int64_t restart, std::int64_t max_iterations, double rtol, double atol,
                std::int64_t stall_window, std::int64_t fallback_rank, std::uint64_t seed, const std::string& device,
                int threads) {
  const Exec exec = make_exec(device, threads);
  GRAMIAN_REQUIRE(b.ndim() == 2 && x0.ndim() == 2 && b.shape(0) == x0.shape(0) && b.shape(1) == x0.shape(1),
                  shape_mismatch, "b and x0 differ in shape");
  const std::int64_t k = b.shape(0), n = b.shape(1);
  const MapIn matrix(exec, a, flat, "A"), by(exec, precondition, flat, "precondition");
  matrix.require_size(n, "A");
  by.require_size(n, "precondition");
  FlexibleCgOptions options;
  options.directions = directions;
  options.restart = restart;
  options.max_iterations = max_iterations;
  options.rtol = rtol;
  options.atol = atol;
  options.stall_window = stall_window;
  options.fallback_rank = fallback_rank;
  options.seed = seed;
  const MatrixOut<double> out(k, n);
  FlexibleCgReport report;
  without_gil([&] {
    Array<double> rhs(exec, k, n), x(exec, k, n);
    upload<double>(exec, {b.data(), k, n}, rhs.view());
    upload<double>(exec, {x0.data(), k, n}, x.view());
    report = flexible_cg(exec, matrix.map(), rhs.view(), x.view(), by.map(), options);
    download<double>(exec, x.view(), out.view());
  });
  py::list decrease;
  for (const std::vector<double>& one : report.decrease) decrease.append(vector_out(one));
  py::dict found;
  found["iterations"] = report.iterations;
  found["products"] = report.products;
  found["fallbacks"] = report.fallbacks;
  found["restarts"] = report.restarts;
  found["switched_at"] = report.switched_at;
  found["then"] = report.then;
  found["converged"] = report.converged;
  found["residual"] = vector_out(report.residual);
  found["decrease"] = decrease;
  return py::make_tuple(out.array(), found);
}

}  // namespace

void bind_iterate(py::module_& module) {
  module.def("flexible_cg", &solve, py::arg("A"), py::arg("b"), py::arg("x0"), py::arg("precondition"), py::arg("flat"),
             py::arg("directions"), py::arg("restart"), py::arg("max_iterations"), py::arg("rtol"), py::arg("atol"),
             py::arg("stall_window"), py::arg("fallback_rank"), py::arg("seed"), py::arg("device"), py::arg("threads"));
}

}  // namespace gramian::python
