// The dual-stream classifier.
#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bind_features.hpp"
#include "bind_gram.hpp"
#include "bindings.hpp"
#include "gramian/analytic/dual_stream.hpp"
#include "gramian/core/error.hpp"
#include "model_files.hpp"

namespace gramian::python {
namespace {

using DualStreamBox = Guarded<DualStreamClassifier>;

SolveReport solve(const DualStreamClassifier& model) {
  model.solve();
  return model.head().solution().report;
}

std::unique_ptr<DualStreamBox> make(std::int64_t n_inputs, const py::object& main, const py::object& compensation_map,
                                    double ridge, double compensation_ridge, double compensation, bool invariant,
                                    const std::string& products, const std::string& device, int threads) {
  DualStreamConfig config;
  config.ridge = ridge;
  config.compensation_ridge = compensation_ridge;
  config.compensation = compensation;
  config.invariant = invariant;
  config.products = gram_options(products, false).products;
  return std::make_unique<DualStreamBox>(
      DualStreamClassifier(make_exec(device, threads), n_inputs, config, map_in(main), map_in(compensation_map)));
}

void add(DualStreamBox& self, const py::object& x, const std::string& kind, const py::object& values,
         const py::object& code_array, const py::object& weight_array) {
  const RowsIn rows(x, "X");
  const Labels labels = labels_in(kind, values);
  const VectorIn<std::int64_t> codes(code_array, rows.rows(), "y");
  const VectorIn<double> weight(weight_array, rows.rows(), "sample_weight");
  self.write([&](DualStreamClassifier& model) {
    model.partial_fit(rows.view(), {&labels, codes.data()}, weight.data());
  });
}

// (kind, values, counts) of one moment.
py::tuple classes(const DualStreamBox& self) {
  Labels labels;
  std::vector<std::int64_t> counts;
  self.read([&](const DualStreamClassifier& model) {
    labels = model.main().classes();
    counts = model.main().class_counts();
  });
  const py::tuple out = labels_out(labels);
  return py::make_tuple(out[0], out[1], vector_out(counts));
}

// (scores, kind, labels): columns mean something only beside the labels of the same moment.
py::tuple scores(const DualStreamBox& self, const py::object& x) {
  const RowsIn rows(x, "X");
  const auto count = getter<DualStreamClassifier>([](const auto& model) { return model.head().n_outputs(); });
  for (;;) {
    const MatrixOut<double> out(rows.rows(), count(self));
    Labels labels;
    bool fits = false;
    self.read_solved(solve, [&](const DualStreamClassifier& model) {
      fits = model.head().n_outputs() == out.view().cols;
      if (!fits) return;
      model.decision_function(rows.view(), out.view());
      labels = model.main().classes();
    });
    if (!fits) continue;
    const py::tuple known = labels_out(labels);
    return py::make_tuple(out.array(), known[0], known[1]);
  }
}

// (main weights, compensation weights, report of the main solve), weights with one row per class.
py::tuple solution(const DualStreamBox& self) {
  std::int64_t c = 0, d_main = 0, d_second = 0;
  std::vector<double> main, second;
  SolveReport report;
  self.read_solved(solve, [&](const DualStreamClassifier& model) {
    c = model.head().n_outputs();
    d_main = model.head().n_features();
    d_second = model.compensation_map()->n_features();
    main.resize(static_cast<std::size_t>(c * d_main));
    second.resize(static_cast<std::size_t>(c * d_second));
    copy_out<double>(model.head().exec(), model.head().solution().coef.view(), {main.data(), c, d_main});
    model.compensation_weights({second.data(), c, d_second});
    report = model.head().solution().report;
  });
  const MatrixOut<double> first_out(c, d_main), second_out(c, d_second);
  std::copy(main.begin(), main.end(), first_out.view().data);
  std::copy(second.begin(), second.end(), second_out.view().data);
  return py::make_tuple(first_out.array(), second_out.array(), report_out(report));
}

void set_threads(const DualStreamBox& self, int threads) {
  self.alone([&](const DualStreamClassifier& model) { Exec(model.head().exec()).set_threads(threads); });
}

}  // namespace

void bind_dual_stream(py::module_& module) {
  using Model = DualStreamClassifier;
  py::class_<DualStreamBox> box(module, "DualStream");
  box.def(py::init(&make), py::arg("n_inputs"), py::arg("main_map"), py::arg("compensation_map"), py::arg("ridge"),
          py::arg("compensation_ridge"), py::arg("compensation"), py::arg("invariant"), py::arg("products"),
          py::arg("device"), py::arg("threads"))
      .def_property_readonly("n_inputs", getter<Model>([](const auto& m) { return m.head().n_inputs(); }))
      .def_property_readonly("n_outputs", getter<Model>([](const auto& m) { return m.head().n_outputs(); }))
      .def_property_readonly("has_state", getter<Model>([](const auto& m) { return m.head().has_state(); }))
      .def_property_readonly("n_rows", getter<Model>([](const auto& m) { return m.head().n_rows(); }))
      .def_property_readonly("state_nbytes", getter<Model>([](const auto& m) { return m.bytes(); }))
      .def_property_readonly("n_phases", getter<Model>([](const auto& m) { return m.n_phases(); }))
      .def_property_readonly("products", getter<Model>([](const auto& m) {
                               return std::string(name_of(m.head().config().gram.products));
                             }))
      .def_property_readonly("main_map",
                             [](const DualStreamBox& self) {
                               return map_out(getter<Model>([](const auto& m) { return m.head().map(); })(self));
                             })
      .def_property_readonly("temperature",
                             [](const DualStreamBox& self) {
                               double value = 0;
                               self.read_solved(solve, [&](const auto& model) { value = model.main().temperature(); });
                               return value;
                             })
      .def_property_readonly("ridge_used", getter<Model>([](const auto& m) { return m.config().ridge; }))
      .def_property_readonly("compensation", getter<Model>([](const auto& m) { return m.config().compensation; }))
      .def(
          "set_compensation",
          [](DualStreamBox& self, double factor) {
            self.write([&](DualStreamClassifier& model) { model.set_compensation(factor); });
          },
          py::arg("factor"))
      .def("partial_fit", &add, py::arg("X"), py::arg("kind"), py::arg("labels"), py::arg("codes"), py::arg("weight"))
      .def("end_phase", [](DualStreamBox& self) { self.write([](DualStreamClassifier& model) { model.end_phase(); }); })
      .def("classes", &classes)
      .def("scores", &scores, py::arg("X"))
      .def("solution", &solution)
      .def("set_threads", &set_threads, py::arg("threads"));
  def_saving_weights(box);
  def_loading<DualStreamClassifier>(module, "dual_stream");
}

}  // namespace gramian::python
