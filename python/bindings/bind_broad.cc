// Ridge weights on features that come and go.
#include <algorithm>
#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bind_gram.hpp"
#include "bindings.hpp"
#include "gramian/gram/growing_ridge.hpp"

namespace gramian::python {
namespace {

using GrowingBox = Guarded<GrowingRidge>;

struct CodedRows {
  CodedRows(const py::object& x_, const py::object& codes_, const py::object& weight_)
      : x(x_, "X"), codes(codes_, x.rows(), "y"), weight(weight_, x.rows(), "sample_weight") {}
  Targets targets() const { return Targets::of_codes(codes.data()); }
  RowsIn x;
  VectorIn<std::int64_t> codes;
  VectorIn<double> weight;
};

void add(GrowingBox& self, const py::object& x, const py::object& codes, const py::object& weight) {
  const CodedRows rows(x, codes, weight);
  self.write([&](GrowingRidge& model) { model.add(rows.x.view(), rows.targets(), rows.weight.data()); });
}

void append_features(GrowingBox& self, const py::object& x, const py::object& codes, const py::object& weight) {
  const CodedRows rows(x, codes, weight);
  self.write([&](GrowingRidge& model) { model.append_features(rows.x.view(), rows.targets(), rows.weight.data()); });
}

py::tuple weights(const GrowingBox& self) {
  std::int64_t c = 0, d = 0;
  std::vector<double> coef, intercept;
  self.alone([&](const GrowingRidge& model) {
    c = model.state().n_outputs();
    d = model.state().n_features();
    coef.resize(static_cast<std::size_t>(c * d));
    model.weights({coef.data(), c, d}, intercept);
  });
  const MatrixOut<double> out(c, d);
  std::copy(coef.begin(), coef.end(), out.view().data);
  return py::make_tuple(out.array(), vector_out(intercept));
}

std::unique_ptr<GramBox> state(const GrowingBox& self) {
  std::unique_ptr<GramBox> out;
  self.read([&](const GrowingRidge& model) { out = std::make_unique<GramBox>(model.state().clone()); });
  return out;
}

}  // namespace

void bind_broad(py::module_& module) {
  py::class_<GrowingBox>(module, "GrowingRidge")
      .def(py::init([](const GramBox& state, double ridge) {
             std::unique_ptr<GrowingBox> out;
             state.read(
                 [&](const GramState& held) { out = std::make_unique<GrowingBox>(GrowingRidge(held.clone(), ridge)); });
             return out;
           }),
           py::arg("state"), py::arg("ridge"))
      .def("add", &add, py::arg("X"), py::arg("codes"), py::arg("weight"))
      .def("append_features", &append_features, py::arg("X"), py::arg("codes"), py::arg("weight"))
      .def(
          "delete_features",
          [](GrowingBox& self, const std::vector<std::int64_t>& features) {
            self.write([&](GrowingRidge& model) { model.delete_features(features); });
          },
          py::arg("features"))
      .def(
          "rearrange_outputs",
          [](GrowingBox& self, const std::vector<std::int64_t>& source) {
            self.write([&](GrowingRidge& model) { model.rearrange_outputs(source); });
          },
          py::arg("source"))
      .def("weights", &weights)
      .def("state", &state);
}

}  // namespace gramian::python
