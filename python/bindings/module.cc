// The compiled half of the Python package: models and operations, no defaults and no prose. Arguments arrive here
// checked and named by the Python files; what is checked here again is what memory safety needs.
#include "bindings.hpp"

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  gramian::python::bind_errors(module);
  gramian::python::bind_core(module);
  gramian::python::bind_features(module);
  gramian::python::bind_fixed_point(module);
  gramian::python::bind_gram(module);
  gramian::python::bind_flow(module);
  gramian::python::bind_iterate(module);
  gramian::python::bind_kernels(module);
  gramian::python::bind_low_rank(module);
  gramian::python::bind_r_factor(module);
  gramian::python::bind_regression(module);
  gramian::python::bind_risk(module);
  gramian::python::bind_analytic(module);
  gramian::python::bind_dual_stream(module);
  gramian::python::bind_transforms(module);
  gramian::python::bind_truncated(module);
  gramian::python::bind_leave_one_out(module);
  gramian::python::bind_composite(module);
  gramian::python::bind_conformal(module);
  gramian::python::bind_influence(module);
  gramian::python::bind_quantiles(module);
  gramian::python::bind_broad(module);
  gramian::python::bind_heads(module);
  gramian::python::bind_second_order(module);
  gramian::python::bind_diagonal_steps(module);
  gramian::python::bind_logistic_head(module);
  gramian::python::bind_softmax_regression(module);
  gramian::python::bind_targets(module);
  gramian::python::bind_sketch(module);
}
