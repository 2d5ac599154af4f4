#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bind_gram.hpp"
#include "gramian/gram/gradient_flow.hpp"

namespace gramian::python {
namespace {

// time where step is 0, else steps of that size.
FlowStop stop_in(double time, std::int64_t steps, double step) {
  return step == 0 ? FlowStop::at(time) : FlowStop::after(steps, step);
}

// rows x cols host values -> NumPy.
py::array_t<double> matrix_of(const std::vector<double>& values, std::int64_t rows, std::int64_t cols) {
  return py::array_t<double>({static_cast<py::ssize_t>(rows), static_cast<py::ssize_t>(cols)}, values.data());
}

std::unique_ptr<GradientFlow> make_flow(const GramBox& state, double ridge, const py::object& start, double momentum,
                                        bool nesterov) {
  const double* values = nullptr;
  Values array;
  if (!start.is_none()) {
    array = start.cast<Values>();
    values = array.data();
  }
  std::unique_ptr<GradientFlow> out;
  state.read([&](const GramState& sums) {
    if (values != nullptr && array.size() != sums.n_features() * sums.n_outputs())
      throw Error(ErrorCode::shape_mismatch, "start must have a row per output and a column per feature");
    out = std::make_unique<GradientFlow>(sums, ridge, values, Momentum{momentum, nesterov});
  });
  return out;
}

py::tuple weights(const GradientFlow& self, double time, std::int64_t steps, double step) {
  FlowWeights out;
  without_gil([&] { out = self.weights(stop_in(time, steps, step)); });
  return py::make_tuple(matrix_of(out.coef, self.n_outputs(), self.n_features()), vector_out(out.intercept));
}

py::array_t<double> mode_weights(const GradientFlow& self, double time, std::int64_t steps, double step) {
  return matrix_of(self.mode_weights(stop_in(time, steps, step)), self.n_features(), self.n_outputs());
}

py::array_t<double> loo(const GradientFlow& self, const py::object& x, const py::object& y,
                        const std::vector<double>& times) {
  const RowsIn rows(x, "X");
  const RowsIn targets(y, "y");
  std::vector<FlowStop> stops;
  for (const double time : times) stops.push_back(FlowStop::at(time));
  std::vector<double> out;
  without_gil([&] { out = self.loo(rows.view(), targets.view(), stops); });
  return vector_out(out);
}

}  // namespace

void bind_flow(py::module_& module) {
  py::class_<GradientFlow>(module, "GradientFlow")
      .def(py::init(&make_flow), py::arg("state"), py::arg("ridge"), py::arg("start"), py::arg("momentum"),
           py::arg("nesterov"))
      .def_property_readonly("n_features", &GradientFlow::n_features)
      .def_property_readonly("n_outputs", &GradientFlow::n_outputs)
      .def_property_readonly("weight_sum", &GradientFlow::weight_sum)
      .def_property_readonly("largest_step", &GradientFlow::largest_step)
      .def_property_readonly("eigenvalues", [](const GradientFlow& self) { return vector_out(self.eigenvalues()); })
      .def("weights", &weights, py::arg("time"), py::arg("steps"), py::arg("step"))
      .def("mode_weights", &mode_weights, py::arg("time"), py::arg("steps"), py::arg("step"))
      .def(
          "residual_sum",
          [](const GradientFlow& self, double time, std::int64_t steps, double step) {
            return self.residual_sum(stop_in(time, steps, step));
          },
          py::arg("time"), py::arg("steps"), py::arg("step"))
      .def(
          "degrees_of_freedom",
          [](const GradientFlow& self, double time, std::int64_t steps, double step) {
            return self.degrees_of_freedom(stop_in(time, steps, step));
          },
          py::arg("time"), py::arg("steps"), py::arg("step"))
      .def(
          "gcv",
          [](const GradientFlow& self, double time, std::int64_t steps, double step) {
            return self.gcv(stop_in(time, steps, step));
          },
          py::arg("time"), py::arg("steps"), py::arg("step"))
      .def(
          "mode_risk",
          [](const GradientFlow& self, double time, std::int64_t steps, double step, double signal, double noise) {
            return vector_out(self.mode_risk(stop_in(time, steps, step), signal, noise));
          },
          py::arg("time"), py::arg("steps"), py::arg("step"), py::arg("signal"), py::arg("noise"))
      .def("loo", &loo, py::arg("X"), py::arg("y"), py::arg("times"));
}

}  // namespace gramian::python
