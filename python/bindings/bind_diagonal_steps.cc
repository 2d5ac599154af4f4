// Estimated diagonals and the steps that use them.
#include <utility>

#include "array_in.hpp"
#include "array_out.hpp"
#include "gramian/regression/diagonal_steps.hpp"
#include "vector_callback.hpp"

namespace gramian::python {
namespace {

py::tuple hutchinson(const py::object& product, std::int64_t n, std::int64_t samples, std::uint64_t seed) {
  const Exec exec = make_exec("cpu", 1);
  const VectorCallback ask(exec, product, true, "hessian_product");
  DiagonalEstimate out;
  without_gil([&] {
    out = hutchinson_diagonal(
        exec, [&](const double* z, double* hz) { ask.on_host(z, n, hz); }, n, samples, seed);
  });
  return py::make_tuple(vector_out(out.diagonal), vector_out(out.error));
}

const double* diagonal_in(const py::object& diagonal, std::size_t n, Values& kept) {
  if (diagonal.is_none()) return nullptr;
  kept = diagonal.cast<Values>();
  GRAMIAN_REQUIRE(kept.ndim() == 1 && static_cast<std::size_t>(kept.size()) == n, shape_mismatch,
                  "diagonal and params differ in length");
  return kept.data();
}

// (the next parameters, the share that was clipped, the next state).
template <class Step>
py::tuple stepped(const StepState& state, const Values& w, const Values& gradient, const py::object& diagonal,
                  const Step& step) {
  std::vector<double> next = vector_in(w, "params"), g = vector_in(gradient, "gradient");
  GRAMIAN_REQUIRE(g.size() == next.size(), shape_mismatch, "gradient and params differ in length");
  Values kept;
  const double* d = diagonal_in(diagonal, next.size(), kept);
  StepState after = state;
  const double clipped = step(static_cast<std::int64_t>(next.size()), g.data(), d, after, next.data());
  return py::make_tuple(vector_out(next), clipped, std::move(after));
}

py::tuple adahessian(const StepState& state, const Values& w, const Values& gradient, const py::object& diagonal,
                     double rate, double beta1, double beta2, double eps, double power, std::int64_t average) {
  const AdaHessianRule rule{rate, beta1, beta2, eps, power, average};
  return stepped(state, w, gradient, diagonal,
                 [&](std::int64_t n, const double* g, const double* d, StepState& kept, double* to) {
                   return adahessian_step(rule, n, g, d, kept, to);
                 });
}

py::tuple sophia(const StepState& state, const Values& w, const Values& gradient, const py::object& diagonal,
                 double rate, double beta1, double beta2, double scale, double eps) {
  const SophiaRule rule{rate, beta1, beta2, scale, eps};
  return stepped(state, w, gradient, diagonal,
                 [&](std::int64_t n, const double* g, const double* d, StepState& kept, double* to) {
                   return sophia_step(rule, n, g, d, kept, to);
                 });
}

}  // namespace

void bind_diagonal_steps(py::module_& module) {
  module.def("hutchinson_diagonal", &hutchinson, py::arg("product"), py::arg("n"), py::arg("samples"), py::arg("seed"));
  py::class_<StepState>(module, "StepState")
      .def(py::init<>())
      .def_property_readonly("steps", [](const StepState& self) { return self.steps; })
      .def("adahessian", &adahessian, py::arg("params"), py::arg("gradient"), py::arg("diagonal"), py::arg("rate"),
           py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("power"), py::arg("average"))
      .def("sophia", &sophia, py::arg("params"), py::arg("gradient"), py::arg("diagonal"), py::arg("rate"),
           py::arg("beta1"), py::arg("beta2"), py::arg("scale"), py::arg("eps"))
      .def(py::pickle([](const StepState& self) { return py::make_tuple(self.m, self.v, self.steps, self.diagonals); },
                      [](const py::tuple& parts) {
                        return StepState{parts[0].cast<std::vector<double>>(), parts[1].cast<std::vector<double>>(),
                                         parts[2].cast<std::int64_t>(), parts[3].cast<std::int64_t>()};
                      }));
}

}  // namespace gramian::python
