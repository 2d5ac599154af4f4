// The classifier that keeps the leading directions of the features.
#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bind_features.hpp"
#include "bindings.hpp"
#include "gramian/analytic/truncated.hpp"
#include "model_files.hpp"

namespace gramian::python {
namespace {

using Model = TruncatedRidgeClassifier;
using Box = Guarded<Model>;

// Leaving directions out is what this model is for: nothing to warn of.
SolveReport solve(const Model& model) {
  model.coef();
  return {};
}

void partial_fit(Box& self, const py::object& x, const std::string& kind, const py::object& values,
                 const py::object& code_array) {
  const RowsIn rows(x, "X");
  const Labels labels = labels_in(kind, values);
  const VectorIn<std::int64_t> codes(code_array, rows.rows(), "y");
  self.write([&](Model& model) { model.partial_fit(rows.view(), {&labels, codes.data()}); });
}

// (kind, values, counts) of one moment.
py::tuple classes(const Box& self) {
  Labels labels;
  std::vector<std::int64_t> counts;
  self.read([&](const Model& model) {
    labels = model.classes();
    counts = model.class_counts();
  });
  const py::tuple known = labels_out(labels);
  return py::make_tuple(known[0], known[1], vector_out(counts));
}

// (scores, kind, labels): the columns mean something only beside the labels of the same moment.
py::tuple scores(const Box& self, const py::object& x) {
  const RowsIn rows(x, "X");
  std::vector<double> values;
  Labels labels;
  std::int64_t columns = 0;
  self.read_solved(solve, [&](const Model& model) {
    labels = model.classes();
    columns = labels.size();
    values.resize(static_cast<std::size_t>(rows.rows() * columns));
    model.decision_function(rows.view(), {values.data(), rows.rows(), columns});
  });
  const MatrixOut<double> out(rows.rows(), columns);
  std::copy(values.begin(), values.end(), out.view().data);
  const py::tuple known = labels_out(labels);
  return py::make_tuple(out.array(), known[0], known[1]);
}

// (coef, intercept)
py::tuple weights(const Box& self) {
  std::vector<double> coef, intercept;
  self.read_solved(solve, [&](const Model& model) {
    coef = model.coef();
    intercept = model.intercept();
  });
  const auto rows = static_cast<py::ssize_t>(intercept.size());
  const py::ssize_t columns = rows == 0 ? 0 : static_cast<py::ssize_t>(coef.size()) / rows;
  return py::make_tuple(vector_out(coef).reshape({rows, columns}), vector_out(intercept));
}

// (singular values, basis)
py::tuple directions(const Box& self) {
  std::vector<double> values, basis;
  std::int64_t features = 0;
  self.read([&](const Model& model) {
    values = model.singular_values();
    features = model.n_features();
    basis.resize(values.size() * static_cast<std::size_t>(features));
    model.basis({basis.data(), static_cast<std::int64_t>(values.size()), features});
  });
  return py::make_tuple(vector_out(values), vector_out(basis).reshape({static_cast<py::ssize_t>(values.size()),
                                                                       static_cast<py::ssize_t>(features)}));
}

}  // namespace

void bind_truncated(py::module_& module) {
  py::class_<Box>(module, "TruncatedClassifier")
      .def(py::init([](std::int64_t n_inputs, const py::object& feature_map, std::int64_t rank, double tau,
                       double ridge, bool intercept, const std::string& device, int threads) {
             TruncatedConfig config;
             config.rank = rank;
             config.tau = tau;
             config.ridge = ridge;
             config.intercept = intercept;
             return std::make_unique<Box>(Model(make_exec(device, threads), n_inputs, config, map_in(feature_map)));
           }),
           py::arg("n_inputs"), py::arg("feature_map"), py::arg("rank"), py::arg("tau"), py::arg("ridge"),
           py::arg("intercept"), py::arg("device"), py::arg("threads"))
      .def_property_readonly("n_inputs", getter<Model>([](const auto& m) { return m.n_inputs(); }))
      .def_property_readonly("n_rows", getter<Model>([](const auto& m) { return m.n_rows(); }))
      .def_property_readonly("nbytes", getter<Model>([](const auto& m) { return m.bytes(); }))
      .def_property_readonly("dropped_energy", getter<Model>([](const auto& m) { return m.dropped_energy(); }))
      .def_property_readonly(
          "feature_map",
          [](const Box& self) { return map_out(getter<Model>([](const auto& m) { return m.map(); })(self)); })
      .def("partial_fit", &partial_fit, py::arg("X"), py::arg("kind"), py::arg("labels"), py::arg("codes"))
      .def("classes", &classes)
      .def("scores", &scores, py::arg("X"))
      .def("weights", &weights)
      .def("directions", &directions)
      .def("save", &save_model<Model>, py::arg("path"), py::arg("extra"))
      .def("save_bytes", &model_bytes<Model>, py::arg("extra"));
  def_loading<Model>(module, "truncated");
}

}  // namespace gramian::python
