// Least squares.
#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bindings.hpp"
#include "gramian/core/error.hpp"
#include "gramian/regression/linf_lstsq.hpp"
#include "gramian/regression/lstsq.hpp"
#include "gramian/regression/sketched_ridge.hpp"
#include "vector_callback.hpp"

namespace gramian::python {
namespace {

constexpr const char* kSpeedNames[] = {"flops64", "flops32", "qr_flops", "small_flops", "bandwidth"};

LstsqSpeeds speeds_in(const py::object& values) {
  LstsqSpeeds out;
  if (values.is_none()) return out;
  double* const fields[] = {&out.flops64, &out.flops32, &out.qr_flops, &out.small_flops, &out.bandwidth};
  for (std::size_t i = 0; i < 5; ++i) {
    *fields[i] = values[kSpeedNames[i]].cast<double>();
    GRAMIAN_REQUIRE(*fields[i] > 0, invalid_argument, std::string("speeds.") + kSpeedNames[i] + " must be above 0");
  }
  return out;
}

py::dict speeds_out(const LstsqSpeeds& speeds) {
  const double fields[] = {speeds.flops64, speeds.flops32, speeds.qr_flops, speeds.small_flops, speeds.bandwidth};
  py::dict out;
  for (std::size_t i = 0; i < 5; ++i) out[kSpeedNames[i]] = fields[i];
  return out;
}

LstsqOptions options_in(const py::dict& given) {
  LstsqOptions out;
  out.method = parse_lstsq_method(given["method"].cast<std::string>());
  out.ridge = given["ridge"].cast<double>();
  out.rtol = given["rtol"].cast<double>();
  out.seed = given["seed"].cast<std::uint64_t>();
  out.sketch_rows = given["sketch_rows"].cast<std::int64_t>();
  out.inner_steps = given["inner_steps"].cast<int>();
  out.speeds = speeds_in(given["speeds"]);
  return out;
}

py::dict result_out(const LstsqResult& result, std::int64_t d, std::int64_t k) {
  py::dict out;
  out["x"] = vector_out(result.x).reshape({static_cast<py::ssize_t>(d), static_cast<py::ssize_t>(k)});
  out["method"] = name_of(result.method);
  out["residual_norms"] = vector_out(result.residual_norms);
  out["backward_errors"] = vector_out(result.backward_errors);
  out["iterations"] = result.iterations;
  out["rank"] = result.rank;
  out["condition"] = result.condition;
  out["sketch_rows"] = result.sketch_rows;
  out["why"] = result.why;
  return out;
}

py::dict solve(const py::object& a, const py::object& b, const py::dict& given, const std::string& device,
               int threads) {
  const RowsIn rows(a, "A"), right(b, "b");
  const LstsqOptions options = options_in(given);
  LstsqResult result;
  without_gil([&] { result = lstsq(make_exec(device, threads), rows.view(), right.view(), options); });
  return result_out(result, rows.view().cols, right.view().cols);
}

py::dict solve_map(std::int64_t n, std::int64_t d, const py::function& apply, const py::function& adjoint,
                   const py::object& b, const py::dict& given, const std::string& device, int threads) {
  const RowsIn right(b, "b");
  const LstsqOptions options = options_in(given);
  LinearMap map;
  map.n = n;
  map.d = d;
  map.apply = products_of(apply, "A.matvec");
  map.adjoint = products_of(adjoint, "A.rmatvec");
  LstsqResult result;
  without_gil([&] { result = lstsq(make_exec(device, threads), map, right.view(), options); });
  return result_out(result, d, right.view().cols);
}

py::dict cost_out(const LstsqCost& cost) {
  py::dict out;
  out["method"] = name_of(cost.method);
  out["seconds"] = cost.seconds;
  out["readings"] = cost.readings;
  out["flops"] = cost.flops;
  out["single"] = cost.single;
  return out;
}

// (choice, list of costs)
py::tuple plan(std::int64_t n, std::int64_t d, std::int64_t k, std::int64_t item_bytes, double stored, bool has_rows,
               double condition, const py::object& speeds) {
  LstsqShape shape;
  shape.n = n;
  shape.d = d;
  shape.k = k;
  shape.item_bytes = item_bytes;
  shape.stored = stored;
  shape.has_rows = has_rows;
  shape.condition = condition;
  const LstsqPlan result = plan_lstsq(shape, speeds_in(speeds));
  py::list costs;
  for (const LstsqCost& cost : result.costs) costs.append(cost_out(cost));
  return py::make_tuple(cost_out(result.choice), costs);
}

LinfRows rule_in(const std::string& name) {
  if (name == "calibrated") return LinfRows::calibrated;
  if (name == "theorem") return LinfRows::theorem;
  throw Error(ErrorCode::invalid_argument,
              "rows must be \"calibrated\", \"theorem\" or a number, got \"" + name + "\"");
}

py::dict solve_linf(const py::object& a, const py::object& b, const py::dict& given, const std::string& device,
                    int threads) {
  const RowsIn rows(a, "A"), right(b, "b");
  LinfOptions options;
  options.eps = given["eps"].cast<double>();
  options.delta = given["delta"].cast<double>();
  options.rule = rule_in(given["rule"].cast<std::string>());
  options.n_rows = given["n_rows"].cast<std::int64_t>();
  options.family = parse_sketch_kind(given["family"].cast<std::string>());
  options.permute = given["permute"].cast<bool>();
  options.nnz = given["nnz"].cast<std::int64_t>();
  options.seed = given["seed"].cast<std::uint64_t>();
  options.rtol = given["rtol"].cast<double>();
  options.redraws = given["redraws"].cast<int>();
  LinfResult result;
  without_gil([&] { result = linf_lstsq(make_exec(device, threads), rows.view(), right.view(), options); });
  const auto d = static_cast<py::ssize_t>(rows.view().cols), k = static_cast<py::ssize_t>(right.view().cols);
  py::dict out;
  out["x"] = vector_out(result.x).reshape({d, k});
  out["bounds"] = vector_out(result.bounds).reshape({d, k});
  out["targets"] = vector_out(result.targets);
  out["residual_norms"] = vector_out(result.residual_norms);
  out["n_rows"] = result.n_rows;
  out["exact"] = result.exact;
  out["redraws"] = result.redraws;
  out["rank"] = result.rank;
  out["why"] = result.why;
  return out;
}

template <class Field>
py::array_t<double> column_of(const std::vector<SketchedRidgePoint>& points, Field SketchedRidgePoint::*field) {
  py::array_t<double> out(static_cast<py::ssize_t>(points.size()));
  for (std::size_t j = 0; j < points.size(); ++j)
    out.mutable_at(static_cast<py::ssize_t>(j)) = static_cast<double>(points[j].*field);
  return out;
}

SketchedRidgeOptions ridge_options_in(const py::dict& given) {
  SketchedRidgeOptions out;
  out.ridges = given["ridges"].cast<std::vector<double>>();
  out.intercept = given["intercept"].cast<bool>();
  out.rtol = given["rtol"].cast<double>();
  out.refine = given["refine"].cast<bool>();
  out.loo = given["loo"].cast<bool>();
  out.loo_rtol = given["loo_rtol"].cast<double>();
  out.sketch_rows = given["sketch_rows"].cast<std::int64_t>();
  out.max_iterations = given["max_iterations"].cast<std::int64_t>();
  out.sketch.kind = parse_sketch_kind(given["kind"].cast<std::string>());
  out.sketch.nnz = given["nnz"].cast<std::int64_t>();
  out.sketch.permute = given["permute"].cast<bool>();
  out.sketch.seed = given["seed"].cast<std::uint64_t>();
  return out;
}

py::dict solve_sketched_ridge(const py::object& a, const py::object& b, const py::object& weight, const py::dict& given,
                              const std::string& device, int threads) {
  const auto name = given["name"].cast<std::string>();
  const RowsIn rows(a, name.c_str()), right(b, "b");
  const VectorIn<double> weights(weight, rows.rows(), "sample_weight");
  SketchedRidgeOptions options = ridge_options_in(given);
  options.name = name.c_str();
  SketchedRidgeResult result;
  without_gil(
      [&] { result = sketched_ridge(make_exec(device, threads), rows.view(), right.view(), weights.data(), options); });
  const auto count = static_cast<py::ssize_t>(result.points.size()), n = static_cast<py::ssize_t>(rows.rows()),
             d = static_cast<py::ssize_t>(rows.view().cols), k = static_cast<py::ssize_t>(right.view().cols);
  py::dict out;
  out["ridges"] = column_of(result.points, &SketchedRidgePoint::ridge);
  out["best_gcv"] = result.best_gcv;
  out["best_loo"] = result.best_loo;
  out["coef"] = vector_out(result.coef).reshape({count, k, d});
  out["intercept"] = vector_out(result.intercept).reshape({count, k});
  out["residual_norms"] = vector_out(result.residual_norms).reshape({count, k});
  out["leverages"] = options.loo ? py::object(vector_out(result.leverages).reshape({count, n})) : py::none();
  out["effective_dimension"] = column_of(result.points, &SketchedRidgePoint::effective_dimension);
  out["iterations"] = column_of(result.points, &SketchedRidgePoint::iterations);
  out["error"] = column_of(result.points, &SketchedRidgePoint::error);
  out["backward_error"] = column_of(result.points, &SketchedRidgePoint::backward_error);
  out["gcv"] = column_of(result.points, &SketchedRidgePoint::gcv);
  out["loo"] = column_of(result.points, &SketchedRidgePoint::loo);
  out["converged"] = column_of(result.points, &SketchedRidgePoint::converged);
  out["sketch_rows"] = result.sketch_rows;
  out["exact"] = result.exact;
  out["refined_rows"] = result.refined_rows;
  out["readings"] = result.readings;
  out["why"] = result.why;
  return out;
}

}  // namespace

void bind_regression(py::module_& module) {
  module.def("lstsq", &solve, py::arg("A"), py::arg("b"), py::arg("options"), py::arg("device"), py::arg("threads"));
  module.def("linf_lstsq", &solve_linf, py::arg("A"), py::arg("b"), py::arg("options"), py::arg("device"),
             py::arg("threads"));
  module.def(
      "linf_rows",
      [](const std::string& rule, std::int64_t n, std::int64_t d, double eps, double delta) {
        return linf_rows(rule_in(rule), n, d, eps, delta);
      },
      py::arg("rule"), py::arg("n"), py::arg("d"), py::arg("eps"), py::arg("delta"));
  module.def("student_t_tail", &student_t_tail, py::arg("t"), py::arg("freedom"));
  module.def("lstsq_map", &solve_map, py::arg("n"), py::arg("d"), py::arg("apply"), py::arg("adjoint"), py::arg("b"),
             py::arg("options"), py::arg("device"), py::arg("threads"));
  module.def("lstsq_plan", &plan, py::arg("n"), py::arg("d"), py::arg("k"), py::arg("item_bytes"), py::arg("stored"),
             py::arg("has_rows"), py::arg("condition"), py::arg("speeds"));
  module.def(
      "measure_lstsq_speeds",
      [](const std::string& device, int threads) {
        LstsqSpeeds speeds;
        without_gil([&] { speeds = measure_lstsq_speeds(make_exec(device, threads)); });
        return speeds_out(speeds);
      },
      py::arg("device"), py::arg("threads"));
  module.def("sketched_ridge", &solve_sketched_ridge, py::arg("A"), py::arg("b"), py::arg("weight"), py::arg("options"),
             py::arg("device"), py::arg("threads"));
  module.def("default_lstsq_speeds", [] { return speeds_out(LstsqSpeeds()); });
}

}  // namespace gramian::python
