// Heads that need no rows, only the sums of a classifier.
#include <memory>
#include <string>
#include <vector>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bind_features.hpp"
#include "bind_gram.hpp"
#include "bindings.hpp"
#include "gramian/analytic/class_moments.hpp"
#include "gramian/analytic/classifier.hpp"
#include "gramian/analytic/gaussian.hpp"
#include "gramian/analytic/logistic_weights.hpp"
#include "gramian/core/error.hpp"
#include "model_files.hpp"

namespace gramian::python {
namespace {

using ClassifierBox = Guarded<AnalyticClassifier>;

// Constant once made, so threads share it without a lock; the labels are those of the moment it was made.
struct Gaussian {
  GaussianHead head;
  Labels labels;
};

GaussianConfig::Priors priors_in(const std::string& name) {
  if (name == "empirical") return GaussianConfig::Priors::empirical;
  if (name == "uniform") return GaussianConfig::Priors::uniform;
  GRAMIAN_REQUIRE(name == "given", invalid_argument, "priors must be 'empirical', 'uniform' or an array");
  return GaussianConfig::Priors::given;
}

std::unique_ptr<Gaussian> make_gaussian(const ClassifierBox& model, const std::string& priors,
                                        const std::vector<double>& given, double shrinkage, bool oracle, double ridge) {
  GaussianConfig config;
  config.priors = priors_in(priors);
  config.given = given;
  config.shrinkage = shrinkage;
  config.oracle = oracle;
  config.ridge = ridge;
  std::unique_ptr<Gaussian> out;
  model.read([&](const AnalyticClassifier& read) {
    out = std::make_unique<Gaussian>(
        Gaussian{GaussianHead(read.head().state(), config, read.head().map()), read.classes()});
  });
  return out;
}

// A method that fills one matrix, as wide as `columns` says.
template <class Fill, class Columns>
auto matrix_method(Fill fill, Columns columns) {
  return [fill, columns](const Gaussian& self, const py::object& x) {
    const RowsIn rows(x, "X");
    const MatrixOut<double> out(rows.rows(), columns(self.head));
    without_gil([&] { fill(self.head, rows.view(), out.view()); });
    return out.array();
  };
}

std::int64_t class_count(const GaussianHead& head) {
  return head.n_classes();
}

std::int64_t feature_count(const GaussianHead& head) {
  return head.n_features();
}

py::object predict(const Gaussian& self, const py::object& x) {
  const RowsIn rows(x, "X");
  const MatrixOut<std::int64_t> out(1, rows.rows());
  without_gil([&] { self.head.predict(rows.view(), out.view().data); });
  return out.array().reshape({static_cast<py::ssize_t>(rows.rows())});
}

py::object ood_score(const Gaussian& self, const py::object& x) {
  const RowsIn rows(x, "X");
  const MatrixOut<double> out(1, rows.rows());
  without_gil([&] { self.head.ood_score(rows.view(), out.view().data); });
  return out.array().reshape({static_cast<py::ssize_t>(rows.rows())});
}

py::tuple weights(const Gaussian& self) {
  const MatrixOut<double> coef(self.head.n_classes(), self.head.n_features());
  std::vector<double> intercept;
  without_gil([&] { self.head.weights(coef.view(), intercept); });
  return py::make_tuple(coef.array(), vector_out(intercept));
}

py::tuple fit_logistic(const py::array_t<double, py::array::c_style>& x,
                       const py::array_t<std::uint8_t, py::array::c_style>& y, double ridge, const std::string& device,
                       int threads) {
  GRAMIAN_REQUIRE(x.ndim() == 2 && y.ndim() == 1 && x.shape(0) == y.shape(0) && x.shape(1) > 0, shape_mismatch,
                  "X must have two dimensions and y one, with as many rows");
  std::vector<double> coef(static_cast<std::size_t>(x.shape(1)));
  const MatrixView<const double> rows(x.data(), x.shape(0), x.shape(1));
  const std::uint8_t* labels = y.data();
  double intercept = 0;
  without_gil([&] { intercept = logistic_weights(make_exec(device, threads), rows, labels, ridge, coef.data()); });
  return py::make_tuple(vector_out(coef), intercept);
}

using MomentsBox = Guarded<ClassMoments>;

// Rows, labels and weights of one call.
struct Batch {
  Batch(const py::object& x, const std::string& kind, const py::object& values, const py::object& code_array,
        const py::object& weight_array)
      : rows(x, "X"),
        labels(labels_in(kind, values)),
        codes(code_array, rows.rows(), "y"),
        weight(weight_array, rows.rows(), "sample_weight") {}
  ClassTargets targets() const { return {&labels, codes.data()}; }
  RowsIn rows;
  Labels labels;
  VectorIn<std::int64_t> codes;
  VectorIn<double> weight;
};

void moments_add(MomentsBox& self, const py::object& x, const std::string& kind, const py::object& values,
                 const py::object& codes, const py::object& weight, bool /* always atomic */) {
  const Batch batch(x, kind, values, codes, weight);
  self.write([&](ClassMoments& m) { m.partial_fit(batch.rows.view(), batch.targets(), batch.weight.data()); });
}

void moments_remove(MomentsBox& self, const py::object& x, const std::string& kind, const py::object& values,
                    const py::object& codes, const py::object& weight, bool /* always atomic */) {
  const Batch batch(x, kind, values, codes, weight);
  self.write([&](ClassMoments& m) { m.forget(batch.rows.view(), batch.targets(), batch.weight.data()); });
}

// (kind, values, counts) of one moment.
py::tuple moments_classes(const MomentsBox& self) {
  Labels labels;
  std::vector<std::int64_t> counts;
  self.read([&](const ClassMoments& model) {
    labels = model.classes();
    counts = model.class_counts();
  });
  const py::tuple out = labels_out(labels);
  return py::make_tuple(out[0], out[1], vector_out(counts));
}

// (centroids, whether a class is past) of one moment.
py::tuple moments_centroids(const MomentsBox& self) {
  std::vector<double> values;
  std::vector<bool> past;
  std::int64_t width = 0;
  self.read([&](const ClassMoments& model) {
    width = model.n_features();
    for (std::int64_t k = 0; k < model.classes().size(); ++k) {
      const std::vector<double> mean = model.centroid(k);
      values.insert(values.end(), mean.begin(), mean.end());
      past.push_back(model.past(k));
    }
  });
  const auto classes = static_cast<py::ssize_t>(past.size());
  return py::make_tuple(vector_out(values).reshape({classes, static_cast<py::ssize_t>(width)}), past);
}

RidgeConfig ridge_config(double ridge, bool gcv, const std::vector<double>& ridges, bool standardize,
                         const std::string& products, bool intercept) {
  RidgeConfig config;
  config.ridge = ridge;
  config.gcv = gcv;
  config.ridges = ridges;
  config.standardize = standardize;
  config.gram = gram_options(products, intercept);
  return config;
}

std::unique_ptr<ClassifierBox> translated(const MomentsBox& self, double ridge, bool gcv,
                                          const std::vector<double>& ridges, bool standardize,
                                          const std::string& products, bool intercept) {
  const RidgeConfig config = ridge_config(ridge, gcv, ridges, standardize, products, intercept);
  std::unique_ptr<ClassifierBox> out;
  self.read([&](const ClassMoments& model) { out = std::make_unique<ClassifierBox>(translate_past(model, config)); });
  return out;
}

std::unique_ptr<ClassifierBox> topped_up(const MomentsBox& self, double ridge, bool gcv,
                                         const std::vector<double>& ridges, bool standardize,
                                         const std::string& products, bool intercept) {
  const RidgeConfig config = ridge_config(ridge, gcv, ridges, standardize, products, intercept);
  std::unique_ptr<ClassifierBox> out;
  self.read([&](const ClassMoments& model) { out = std::make_unique<ClassifierBox>(top_up(model, config)); });
  return out;
}

// Model: ClassMoments (a covariance for each class) or AnalyticClassifier (one for all).
template <class Model>
std::unique_ptr<ClassifierBox> aligned(const Guarded<Model>& model, const std::vector<double>& class_weight,
                                       double ridge, bool gcv, const std::vector<double>& ridges, bool standardize,
                                       const std::string& products, bool intercept) {
  const RidgeConfig config = ridge_config(ridge, gcv, ridges, standardize, products, intercept);
  std::unique_ptr<ClassifierBox> out;
  model.read([&](const Model& read) { out = std::make_unique<ClassifierBox>(align(read, class_weight, config)); });
  return out;
}

}  // namespace

void bind_heads(py::module_& module) {
  using Rows = const RowsView&;
  using Out = MatrixView<double>;
  py::class_<Gaussian>(module, "GaussianHead")
      .def(py::init(&make_gaussian), py::arg("model"), py::arg("priors"), py::arg("given"), py::arg("shrinkage"),
           py::arg("oracle"), py::arg("ridge"))
      .def_property_readonly("shrinkage", [](const Gaussian& self) { return self.head.shrinkage(); })
      .def_property_readonly("ridge_used", [](const Gaussian& self) { return self.head.ridge_used(); })
      .def_property_readonly("priors", [](const Gaussian& self) { return vector_out(self.head.priors()); })
      .def_property_readonly("means",
                             [](const Gaussian& self) {
                               const MatrixOut<double> out(self.head.n_classes(), self.head.n_features());
                               self.head.class_means(out.view());
                               return out.array();
                             })
      .def("classes", [](const Gaussian& self) { return labels_out(self.labels); })
      .def("distances", matrix_method([](const GaussianHead& h, Rows x, Out out) { h.distances(x, out); }, class_count),
           py::arg("X"))
      .def("scores", matrix_method([](const GaussianHead& h, Rows x, Out out) { h.scores(x, out); }, class_count),
           py::arg("X"))
      .def("predict_proba",
           matrix_method([](const GaussianHead& h, Rows x, Out out) { h.predict_proba(x, out); }, class_count),
           py::arg("X"))
      .def("ood_gradient",
           matrix_method([](const GaussianHead& h, Rows x, Out out) { h.ood_gradient(x, out); }, feature_count),
           py::arg("X"))
      .def("predict", &predict, py::arg("X"))
      .def("ood_score", &ood_score, py::arg("X"))
      .def("weights", &weights);
  py::class_<MomentsBox>(module, "ClassMoments")
      .def(py::init([](std::int64_t n_inputs, const py::object& feature_map, const std::string& products,
                       const std::string& device, int threads, std::int64_t rank, bool keep_inputs) {
             return std::make_unique<MomentsBox>(ClassMoments(make_exec(device, threads), n_inputs,
                                                              gram_options(products, true), map_in(feature_map), rank,
                                                              keep_inputs));
           }),
           py::arg("n_inputs"), py::arg("feature_map"), py::arg("products"), py::arg("device"), py::arg("threads"),
           py::arg("rank") = -1, py::arg("keep_inputs") = false)
      .def_property_readonly("keeps_inputs", getter<ClassMoments>([](const auto& m) { return m.keeps_inputs(); }))
      .def_property_readonly("rank", getter<ClassMoments>([](const auto& m) { return m.rank(); }))
      .def(
          "align_error",
          [](const MomentsBox& self, const std::vector<double>& class_weight) {
            double out = 0;
            self.read([&](const ClassMoments& model) { out = align_error(model, class_weight); });
            return out;
          },
          py::arg("class_weight"))
      .def_property_readonly("n_inputs", getter<ClassMoments>([](const auto& m) { return m.n_inputs(); }))
      .def_property_readonly("n_rows", getter<ClassMoments>([](const auto& m) { return m.n_rows(); }))
      .def_property_readonly("changes", &MomentsBox::changes)
      .def_property_readonly("has_state", [](const MomentsBox&) { return true; })
      .def_property_readonly("state_nbytes", getter<ClassMoments>([](const auto& m) { return m.bytes(); }))
      .def_property_readonly(
          "products", getter<ClassMoments>([](const auto& m) { return std::string(name_of(m.options().products)); }))
      .def_property_readonly("feature_map",
                             [](const MomentsBox& self) {
                               return map_out(getter<ClassMoments>([](const auto& m) { return m.map(); })(self));
                             })
      .def("partial_fit", &moments_add, py::arg("X"), py::arg("kind"), py::arg("labels"), py::arg("codes"),
           py::arg("weight"), py::arg("atomic"))
      .def("forget", &moments_remove, py::arg("X"), py::arg("kind"), py::arg("labels"), py::arg("codes"),
           py::arg("weight"), py::arg("atomic"))
      .def("end_phase", [](MomentsBox& self) { self.write([](ClassMoments& model) { model.end_phase(); }); })
      .def("classes", &moments_classes)
      .def("class_weights", getter<ClassMoments>([](const auto& m) {
             std::vector<double> weight;
             for (std::int64_t k = 0; k < m.classes().size(); ++k) weight.push_back(m.weight(k));
             return weight;
           }))
      .def("centroids", &moments_centroids)
      .def("translated", &translated, py::arg("ridge"), py::arg("gcv"), py::arg("ridges"), py::arg("standardize"),
           py::arg("products"), py::arg("intercept"))
      .def("topped_up", &topped_up, py::arg("ridge"), py::arg("gcv"), py::arg("ridges"), py::arg("standardize"),
           py::arg("products"), py::arg("intercept"))
      .def(
          "set_threads",
          [](const MomentsBox& self, int threads) {
            self.alone([&](const ClassMoments& model) { Exec(model.exec()).set_threads(threads); });
          },
          py::arg("threads"))
      .def("save_bytes", &model_bytes<ClassMoments>, py::arg("extra"));
  module.def("aligned", &aligned<ClassMoments>, py::arg("model"), py::arg("class_weight"), py::arg("ridge"),
             py::arg("gcv"), py::arg("ridges"), py::arg("standardize"), py::arg("products"), py::arg("intercept"));
  module.def("aligned", &aligned<AnalyticClassifier>, py::arg("model"), py::arg("class_weight"), py::arg("ridge"),
             py::arg("gcv"), py::arg("ridges"), py::arg("standardize"), py::arg("products"), py::arg("intercept"));
  module.def(
      "class_weights",
      [](const ClassifierBox& model) {
        std::vector<double> weight, offsets;
        model.read([&](const AnalyticClassifier& read) {
          const GramState& state = read.head().state();
          offsets.resize(static_cast<std::size_t>(state.n_outputs() * state.n_features()));
          state.class_moments(weight, {offsets.data(), state.n_outputs(), state.n_features()});
        });
        return weight;
      },
      py::arg("model"));
  module.def(
      "load_class_moments",
      [](const py::bytes& data, const std::string& device, int threads) {
        return read_bytes(data, model_reader<ClassMoments>(device, threads)).tuple();
      },
      py::arg("data"), py::arg("device"), py::arg("threads"));
  module.def("logistic_weights", &fit_logistic, py::arg("X"), py::arg("y"), py::arg("ridge"), py::arg("device"),
             py::arg("threads"));
}

}  // namespace gramian::python
