// Ridge regression by a sketch that follows the effective dimension.
#include "array_in.hpp"
#include "array_out.hpp"
#include "bindings.hpp"
#include "gramian/regression/sketched_ridge.hpp"

namespace gramian::python {
namespace {

using Values = py::array_t<double>;

template <class Field>
Values column_of(const std::vector<SketchedRidgePoint>& points, Field SketchedRidgePoint::*field) {
  Values out(static_cast<py::ssize_t>(points.size()));
  for (std::size_t j = 0; j < points.size(); ++j)
    out.mutable_at(static_cast<py::ssize_t>(j)) = static_cast<double>(points[j].*field);
  return out;
}

SketchedRidgeOptions options_in(const py::dict& given) {
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

py::dict solve(const py::object& a, const py::object& b, const py::object& weight, const py::dict& given,
               const std::string& device, int threads) {
  const auto name = given["name"].cast<std::string>();
  const RowsIn rows(a, name.c_str()), right(b, "b");
  const VectorIn<double> weights(weight, rows.rows(), "sample_weight");
  SketchedRidgeOptions options = options_in(given);
  options.name = name.c_str();
  SketchedRidgeResult result;
  without_gil([&] {
    result = sketched_ridge(make_exec(device, threads), rows.view(), right.view(), weights.data(), options);
  });
  const auto count = static_cast<py::ssize_t>(result.points.size()), n = static_cast<py::ssize_t>(rows.rows()),
             d = static_cast<py::ssize_t>(rows.view().cols), k = static_cast<py::ssize_t>(right.view().cols);
  py::dict out;
  out["ridges"] = column_of(result.points, &SketchedRidgePoint::ridge);
  out["coef"] = vector_out(result.coef).reshape({count, k, d});
  out["intercept"] = vector_out(result.intercept).reshape({count, k});
  out["residual_squares"] = vector_out(result.residual_squares).reshape({count, k});
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

void bind_sketched_ridge(py::module_& module) {
  module.def("sketched_ridge", &solve, py::arg("A"), py::arg("b"), py::arg("weight"), py::arg("options"),
             py::arg("device"), py::arg("threads"));
}

}  // namespace gramian::python
