// The two estimators. What they share (a RidgeHead) is bound once, for both.
#include <algorithm>
#include <memory>
#include <optional>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bind_features.hpp"
#include "bind_gram.hpp"
#include "bindings.hpp"
#include "gramian/analytic/classifier.hpp"
#include "gramian/analytic/regressor.hpp"
#include "gramian/core/error.hpp"
#include "model_files.hpp"

namespace gramian::python {
namespace {

using ClassifierBox = Guarded<AnalyticClassifier>;
using RegressorBox = Guarded<AnalyticRegressor>;

// The options that both estimators share, by the names that config_out gives them; what is missing has its default.
// rule: how the ridge is chosen, "fixed", "gcv" or "loo". width: 0 for all features, -1 to choose it.
RidgeConfig config_in(const py::kwargs& options) {
  RidgeConfig config;
  std::string products = "float64";
  bool intercept = true;
  for (const auto& [key, value] : options) {
    const auto name = key.cast<std::string>();
    if (name == "ridge") {
      config.ridge = value.cast<double>();
    } else if (name == "rule") {
      const auto rule = value.cast<std::string>();
      config.gcv = rule == "gcv";
      config.loo = rule == "loo";
    } else if (name == "ridges") {
      config.ridges = value.cast<std::vector<double>>();
    } else if (name == "width") {
      const auto width = value.cast<std::int64_t>();
      config.width = std::max<std::int64_t>(0, width);
      config.loo_width = width < 0;
    } else if (name == "holdout") {
      config.holdout = parse_holdout_rule(value.cast<std::string>());
    } else if (name == "holdout_fraction") {
      config.holdout_fraction = value.cast<double>();
    } else if (name == "holdout_seed") {
      config.holdout_seed = value.cast<std::uint64_t>();
    } else if (name == "standardize") {
      config.standardize = value.cast<bool>();
    } else if (name == "low_latency") {
      config.low_latency = value.cast<bool>();
    } else if (name == "forgetting") {
      config.forgetting = value.cast<double>();
    } else if (name == "products") {
      products = value.cast<std::string>();
    } else if (name == "intercept") {
      intercept = value.cast<bool>();
    } else if (name == "balance") {
      config.balance = parse_balance(value.cast<std::string>());
    } else {
      throw py::type_error("unknown option '" + name + "'");
    }
  }
  config.gram = gram_options(products, intercept);
  return config;
}

py::dict config_out(const RidgeConfig& config) {
  py::dict out;
  out["ridge"] = config.ridge;
  out["rule"] = config.loo ? "loo" : config.gcv ? "gcv" : "fixed";
  out["width"] = config.loo_width ? -1 : config.width;
  out["ridges"] = config.ridges;
  out["holdout"] = name_of(config.holdout);
  out["holdout_fraction"] = config.holdout_fraction;
  out["holdout_seed"] = config.holdout_seed;
  out["standardize"] = config.standardize;
  out["low_latency"] = config.low_latency;
  out["forgetting"] = config.forgetting;
  out["products"] = name_of(config.gram.products);
  out["intercept"] = config.gram.intercept;
  out["balance"] = name_of(config.balance);
  return out;
}

template <class Model>
SolveReport solve(const Model& model) {
  return model.head().solution().report;
}

// A value of the head that needs no weights.
template <class Model, class Get>
auto head_getter(Get get) {
  return getter<Model>([get](const Model& model) { return get(model.head()); });
}

// A value that needs the weights.
template <class T, class Model, class Get>
auto solved_getter(Get get) {
  return [get](const Guarded<Model>& self) {
    T value{};
    self.read_solved(solve<Model>, [&](const Model& model) { value = get(model); });
    return value;
  };
}

template <class Model>
py::tuple solution(const Guarded<Model>& self) {
  // The sizes may change between reading them and reading the weights, so both are read under one lock, into C++.
  std::int64_t n_outputs = 0;
  std::int64_t n_features = 0;
  std::vector<double> coef;
  std::vector<double> intercept;
  SolveReport report;
  self.read_solved(solve<Model>, [&](const Model& model) {
    const RidgeHead& head = model.head();
    n_outputs = head.n_outputs();
    n_features = head.n_features();
    coef.resize(static_cast<std::size_t>(n_outputs * n_features));
    copy_out<double>(head.exec(), head.solution().coef.view(), {coef.data(), n_outputs, n_features});
    intercept = head.solution().intercept;
    report = head.solution().report;
  });
  const MatrixOut<double> out(n_outputs, n_features);
  std::copy(coef.begin(), coef.end(), out.view().data);
  return py::make_tuple(out.array(), vector_out(intercept), report_out(report));
}

template <class Model>
std::int64_t output_count(const Guarded<Model>& self) {
  return head_getter<Model>([](const RidgeHead& head) { return head.n_outputs(); })(self);
}

// Runs body(model, x, out) for an output of one column per output of the model.
template <class Model, class Body>
py::object matrix_of_rows(const Guarded<Model>& self, const py::object& x, const Body& body) {
  const RowsIn rows(x, "X");
  for (;;) {
    const MatrixOut<double> out(rows.rows(), output_count(self));
    bool fits = false;  // not if another thread changed the classes since they were counted
    self.read_solved(solve<Model>, [&](const Model& model) {
      fits = model.head().n_outputs() == out.view().cols;
      if (fits) body(model, rows.view(), out.view());
    });
    if (fits) return out.array();
  }
}

template <class Model>
py::object scores(const Guarded<Model>& self, const py::object& x) {
  return matrix_of_rows(self, x, [](const Model& model, const RowsView& rows, MatrixView<double> out) {
    model.head().scores(rows, out);
  });
}

template <class Model>
void save_nested(const Guarded<Model>& self, const std::string& path, const std::string& extra) {
  const Json config = extra_in(extra);
  self.alone([&](const Model& model) { model.save_nested(path, config); });
}

// What leave-one-out errors chose, or None.
template <class Model>
py::object choice(const Guarded<Model>& self) {
  std::optional<RidgeChoice> found;
  self.read([&](const Model& model) {
    if (model.head().choice() != nullptr) found = *model.head().choice();
  });
  if (!found.has_value()) return py::none();
  py::dict out;
  out["ridge"] = found->ridge;
  out["width"] = found->width;
  out["at_edge"] = found->at_edge;
  out["ridges"] = vector_out(found->ridges);
  out["ridge_scores"] = vector_out(found->ridge_scores);
  out["width_scores"] = vector_out(found->width_scores);
  return std::move(out);
}

template <class Model>
std::unique_ptr<GramBox> state_copy(const Guarded<Model>& self) {
  std::unique_ptr<GramBox> out;
  self.read([&](const Model& model) { out = std::make_unique<GramBox>(model.head().state().clone()); });
  return out;
}

template <class Model>
void set_threads(const Guarded<Model>& self, int threads) {
  // Copies of an Exec share one state.
  self.alone([&](const Model& model) { Exec(model.head().exec()).set_threads(threads); });
}

template <class Model>
py::class_<Guarded<Model>> bind_head(py::module_& module, const char* name) {
  py::class_<Guarded<Model>> box(module, name);
  box.def_property_readonly("n_inputs", head_getter<Model>([](const auto& h) { return h.n_inputs(); }))
      .def_property_readonly("n_features", head_getter<Model>([](const auto& h) { return h.n_features(); }))
      .def_property_readonly("n_outputs", &output_count<Model>)
      .def_property_readonly("has_state", head_getter<Model>([](const auto& h) { return h.has_state(); }))
      .def_property_readonly("n_rows", head_getter<Model>([](const auto& h) { return h.n_rows(); }))
      .def_property_readonly("changes", &Guarded<Model>::changes)
      .def_property_readonly("weight_sum", head_getter<Model>([](const auto& h) { return h.weight_sum(); }))
      .def_property_readonly("state_nbytes", head_getter<Model>([](const auto& h) { return h.bytes(); }))
      .def_property_readonly("products", head_getter<Model>([](const auto& h) {
                               // Sums that float32 ones were merged into are not what the model was made with.
                               const bool plain = h.has_state() && h.config().balance == Balance::none;
                               const GramOptions& options = plain ? h.state().options() : h.config().gram;
                               return std::string(name_of(options.products));
                             }))
      .def_property_readonly("config",
                             [](const Guarded<Model>& self) {
                               return config_out(head_getter<Model>([](const auto& h) { return h.config(); })(self));
                             })
      .def_property_readonly("feature_map",
                             [](const Guarded<Model>& self) {
                               return map_out(head_getter<Model>([](const auto& h) { return h.map(); })(self));
                             })
      .def_property_readonly("ridge_used",
                             solved_getter<double, Model>([](const auto& m) { return m.head().ridge_used(); }))
      .def("holdout_curve",
           [](const Guarded<Model>& self) {
             return holdout_out(
                 solved_getter<HoldoutCurve, Model>([](const auto& m) { return m.head().holdout(); })(self));
           })
      .def_property_readonly("gcv_at_edge",
                             solved_getter<bool, Model>([](const auto& m) { return m.head().gcv_at_edge(); }))
      .def_property_readonly("noise_variance",
                             solved_getter<double, Model>([](const auto& m) { return m.head().noise_variance(); }))
      .def_property_readonly("width_used", head_getter<Model>([](const auto& h) { return h.width_used(); }))
      .def_property_readonly("choice", &choice<Model>)
      .def("save_nested", &save_nested<Model>, py::arg("path"), py::arg("extra"))
      .def("solution", &solution<Model>)
      .def("scores", &scores<Model>, py::arg("X"))
      .def("state", &state_copy<Model>)
      .def(
          "merge",
          [](Guarded<Model>& self, const Guarded<Model>& other) {
            self.write_with(other, [](Model& mine, const Model& theirs) { mine.merge(theirs); });
          },
          py::arg("other"))
      .def(
          "unmerge",
          [](Guarded<Model>& self, const Guarded<Model>& other) {
            self.write_with(other, [](Model& mine, const Model& theirs) { mine.unmerge(theirs); });
          },
          py::arg("other"))
      .def("set_threads", &set_threads<Model>, py::arg("threads"));
  def_saving_weights(box);
  return box;
}

// Rows, labels and weights of one call of the classifier.
struct LabelledBatch {
  LabelledBatch(const py::object& x, const std::string& kind, const py::object& values, const py::object& code_array,
                const py::object& weight_array)
      : rows(x, "X"),
        labels(labels_in(kind, values)),
        codes(code_array, rows.rows(), "y"),
        weight(weight_array, rows.rows(), "sample_weight") {
    const std::int64_t* code = codes.data();
    for (std::int64_t r = 0; r < rows.rows(); ++r) {
      GRAMIAN_REQUIRE(code != nullptr && code[r] >= 0 && code[r] < labels.size(), invalid_argument,
                      "the label codes must be places in the labels");
    }
  }
  ClassTargets targets() const { return {&labels, codes.data()}; }
  RowsIn rows;
  Labels labels;
  VectorIn<std::int64_t> codes;
  VectorIn<double> weight;
};

void classifier_add(ClassifierBox& self, const py::object& x, const std::string& kind, const py::object& values,
                    const py::object& codes, const py::object& weight, bool atomic, const py::object& totals) {
  const LabelledBatch batch(x, kind, values, codes, weight);
  const VectorIn<double> total(totals, batch.labels.size(), "class_counts");
  self.write([&](AnalyticClassifier& model) {
    model.partial_fit(batch.rows.view(), batch.targets(), batch.weight.data(), atomic, total.data());
  });
}

void classifier_close(ClassifierBox& self, const std::string& kind, const py::object& values) {
  const Labels labels = labels_in(kind, values);
  self.write([&](AnalyticClassifier& model) { model.close_classes(labels); });
}

void classifier_remove(ClassifierBox& self, const py::object& x, const std::string& kind, const py::object& values,
                       const py::object& codes, const py::object& weight, bool atomic) {
  const LabelledBatch batch(x, kind, values, codes, weight);
  self.write([&](AnalyticClassifier& model) {
    model.forget(batch.rows.view(), batch.targets(), batch.weight.data(), atomic);
  });
}

void classifier_choose(ClassifierBox& self, const py::object& x, const std::string& kind, const py::object& values,
                       const py::object& codes, const py::object& weight) {
  const LabelledBatch batch(x, kind, values, codes, weight);
  self.write([&](AnalyticClassifier& model) { model.choose(batch.rows.view(), batch.targets(), batch.weight.data()); });
}

void classifier_calibrate(ClassifierBox& self, const py::object& x, const std::string& kind, const py::object& values,
                          const py::object& codes) {
  const LabelledBatch batch(x, kind, values, codes, py::none());
  self.write([&](AnalyticClassifier& model) { model.calibrate(batch.rows.view(), batch.targets()); });
}

// A copy whose labels are others in the same order, as the same numbers of another type are.
std::unique_ptr<ClassifierBox> classifier_relabelled(const ClassifierBox& self, const std::string& kind,
                                                     const py::object& values) {
  const Labels labels = labels_in(kind, values);
  std::unique_ptr<ClassifierBox> out;
  self.alone([&](const AnalyticClassifier& model) {
    const std::vector<std::uint8_t> bytes = model.save_bytes();
    const ModelReader reader = ModelReader::from_bytes(bytes.data(), bytes.size());
    Json config = reader.config();
    config["labels"] = labels.to_json();
    ModelWriter writer(reader.model(), std::move(config));
    for (const std::string& name : reader.names()) {
      const TensorView tensor = reader.tensor(name);
      writer.add(name, tensor.type, tensor.shape, tensor.data);
    }
    const std::vector<std::uint8_t> changed = writer.bytes();
    out = std::make_unique<ClassifierBox>(
        AnalyticClassifier::load(model.head().exec(), ModelReader::from_bytes(changed.data(), changed.size())));
  });
  return out;
}

// (places, kind, labels): the places mean something only beside the labels of the same moment.
py::tuple classifier_predict(const ClassifierBox& self, const py::object& x) {
  const RowsIn rows(x, "X");
  const MatrixOut<std::int64_t> places(1, rows.rows());
  Labels labels;
  self.read_solved(solve<AnalyticClassifier>, [&](const AnalyticClassifier& model) {
    model.predict(rows.view(), places.view().data);
    labels = model.classes();
  });
  const py::tuple known = labels_out(labels);
  return py::make_tuple(places.array().reshape({static_cast<py::ssize_t>(rows.rows())}), known[0], known[1]);
}

py::object classifier_proba(const ClassifierBox& self, const py::object& x) {
  return matrix_of_rows(self, x, [](const AnalyticClassifier& model, const RowsView& rows, MatrixView<double> out) {
    model.predict_proba(rows, out);
  });
}

// (kind, values, counts) of one moment.
py::tuple classifier_classes(const ClassifierBox& self) {
  Labels labels;
  std::vector<std::int64_t> counts;
  self.read([&](const AnalyticClassifier& model) {
    labels = model.classes();
    counts = model.class_counts();
  });
  const py::tuple out = labels_out(labels);
  return py::make_tuple(out[0], out[1], vector_out(counts));
}

void regressor_add(RegressorBox& self, const py::object& x, const py::object& y, const py::object& weight,
                   bool atomic) {
  const RowsIn rows(x, "X");
  const RowsIn targets(y, "y");
  const VectorIn<double> weights(weight, rows.rows(), "sample_weight");
  self.write([&](AnalyticRegressor& model) { model.partial_fit(rows.view(), targets.view(), weights.data(), atomic); });
}

void regressor_remove(RegressorBox& self, const py::object& x, const py::object& y, const py::object& weight,
                      bool atomic) {
  const RowsIn rows(x, "X");
  const RowsIn targets(y, "y");
  const VectorIn<double> weights(weight, rows.rows(), "sample_weight");
  self.write([&](AnalyticRegressor& model) { model.forget(rows.view(), targets.view(), weights.data(), atomic); });
}

// A copy of the sums behind a GramState object, so that no two models are ever locked by one thread.
GramState sums_of(const GramBox& box) {
  std::optional<GramState> copy;
  box.read([&](const GramState& state) { copy.emplace(state.clone()); });
  return std::move(*copy);
}

void classifier_merge_sums(ClassifierBox& self, const GramBox& sums, const std::string& kind,
                           const py::object& values) {
  const Labels labels = labels_in(kind, values);
  const GramState copy = sums_of(sums);
  self.write([&](AnalyticClassifier& model) { model.merge(copy, labels); });
}

void regressor_merge_sums(RegressorBox& self, const GramBox& sums) {
  const GramState copy = sums_of(sums);
  self.write([&](AnalyticRegressor& model) { model.merge(copy); });
}

void regressor_choose(RegressorBox& self, const py::object& x, const py::object& y, const py::object& weight) {
  const RowsIn rows(x, "X");
  const RowsIn targets(y, "y");
  const VectorIn<double> weights(weight, rows.rows(), "sample_weight");
  self.write([&](AnalyticRegressor& model) { model.choose(rows.view(), targets.view(), weights.data()); });
}

// A model read back, not yet in Python.
struct LoadedModel {
  std::string kind;
  std::string config;
  std::string library_version;
  std::unique_ptr<ClassifierBox> classifier;
  std::unique_ptr<RegressorBox> regressor;
};

LoadedModel load_model(const ModelReader& reader, const std::string& device, int threads, std::int64_t width = 0) {
  LoadedModel out;
  out.kind = reader.model();
  out.config = reader.config().dump();
  out.library_version = reader.library_version();
  if (out.kind == "analytic_classifier") {
    out.classifier =
        std::make_unique<ClassifierBox>(AnalyticClassifier::load(make_exec(device, threads), reader, width));
  } else if (out.kind == "analytic_regressor") {
    out.regressor = std::make_unique<RegressorBox>(AnalyticRegressor::load(make_exec(device, threads), reader, width));
  }
  return out;
}

// (kind, model or None where the kind is none of ours here, JSON text of the configuration, version of the writer)
py::tuple wrap(LoadedModel loaded) {
  py::object model = py::none();
  if (loaded.classifier != nullptr) model = py::cast(std::move(loaded.classifier));
  if (loaded.regressor != nullptr) model = py::cast(std::move(loaded.regressor));
  return py::make_tuple(loaded.kind, model, loaded.config, loaded.library_version);
}

// width: of a nested file, of which only the beginning need be there; 0 for a whole file of any kind.
py::tuple load_file(const std::string& path, const std::string& device, int threads, std::int64_t width) {
  LoadedModel loaded;
  without_gil([&] {
    const ModelReader reader = width > 0 ? ModelReader::from_file_head(path) : ModelReader::from_file(path);
    loaded = load_model(reader, device, threads, width);
  });
  return wrap(std::move(loaded));
}

py::tuple load_bytes(const py::bytes& bytes, const std::string& device, int threads) {
  return wrap(read_bytes(bytes, [&](const ModelReader& reader) { return load_model(reader, device, threads); }));
}

}  // namespace

void bind_analytic(py::module_& module) {
  bind_head<AnalyticClassifier>(module, "Classifier")
      .def(py::init([](std::int64_t n_inputs, const py::object& feature_map, const std::string& device, int threads,
                       const py::kwargs& options) {
             return std::make_unique<ClassifierBox>(
                 AnalyticClassifier(make_exec(device, threads), n_inputs, config_in(options), map_in(feature_map)));
           }),
           py::arg("n_inputs"), py::arg("feature_map"), py::arg("device"), py::arg("threads"))
      .def("partial_fit", &classifier_add, py::arg("X"), py::arg("kind"), py::arg("labels"), py::arg("codes"),
           py::arg("weight"), py::arg("atomic"), py::arg("totals") = py::none())
      .def("close_classes", &classifier_close, py::arg("kind"), py::arg("labels"))
      .def("forget", &classifier_remove, py::arg("X"), py::arg("kind"), py::arg("labels"), py::arg("codes"),
           py::arg("weight"), py::arg("atomic"))
      .def("merge_sums", &classifier_merge_sums, py::arg("sums"), py::arg("kind"), py::arg("labels"))
      .def("classes", &classifier_classes)
      .def("relabelled", &classifier_relabelled, py::arg("kind"), py::arg("labels"))
      .def("predict", &classifier_predict, py::arg("X"))
      .def("predict_proba", &classifier_proba, py::arg("X"))
      .def_property_readonly("temperature", solved_getter<double, AnalyticClassifier>(
                                                [](const auto& model) { return model.temperature(); }))
      .def("choose", &classifier_choose, py::arg("X"), py::arg("kind"), py::arg("labels"), py::arg("codes"),
           py::arg("weight"))
      .def("calibrate", &classifier_calibrate, py::arg("X"), py::arg("kind"), py::arg("labels"), py::arg("codes"));

  bind_head<AnalyticRegressor>(module, "Regressor")
      .def(py::init([](std::int64_t n_inputs, std::int64_t n_outputs, const py::object& feature_map,
                       const std::string& device, int threads, const py::kwargs& options) {
             return std::make_unique<RegressorBox>(AnalyticRegressor(make_exec(device, threads), n_inputs, n_outputs,
                                                                     config_in(options), map_in(feature_map)));
           }),
           py::arg("n_inputs"), py::arg("n_outputs"), py::arg("feature_map"), py::arg("device"), py::arg("threads"))
      .def("partial_fit", &regressor_add, py::arg("X"), py::arg("y"), py::arg("weight"), py::arg("atomic"))
      .def("forget", &regressor_remove, py::arg("X"), py::arg("y"), py::arg("weight"), py::arg("atomic"))
      .def("merge_sums", &regressor_merge_sums, py::arg("sums"))
      .def("choose", &regressor_choose, py::arg("X"), py::arg("y"), py::arg("weight"));

  module.def("load_model", &load_file, py::arg("path"), py::arg("device"), py::arg("threads"), py::arg("width") = 0);
  module.def("load_model_bytes", &load_bytes, py::arg("data"), py::arg("device"), py::arg("threads"));
}

}  // namespace gramian::python
