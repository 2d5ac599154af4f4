#include "gramian/capi/gramian.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "gramian/analytic/classifier.hpp"
#include "gramian/core/error.hpp"
#include "gramian/version.hpp"

// One lock for reading too: the first prediction after a change solves for the weights.
struct gramian_classifier {
  explicit gramian_classifier(gramian::AnalyticClassifier model_) : model(std::move(model_)) {}
  gramian::AnalyticClassifier model;
  std::mutex mutex;
};

namespace {

using gramian::Error;
using gramian::ErrorCode;

// A fixed buffer: telling of an error must not need memory.
thread_local char last_error[1024] = "";

int fail(int result, const char* text) noexcept {
  std::snprintf(last_error, sizeof last_error, "%s", text);
  return result;
}

int result_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::shape_mismatch:
    case ErrorCode::non_finite:
      return GRAMIAN_ERROR_INVALID;
    case ErrorCode::wrong_dtype:
      return GRAMIAN_ERROR_DTYPE;
    case ErrorCode::not_fitted:
      return GRAMIAN_ERROR_NOT_FITTED;
    case ErrorCode::not_positive_definite:
    case ErrorCode::no_convergence:
      return GRAMIAN_ERROR_NUMERICAL;
    case ErrorCode::out_of_memory:
      return GRAMIAN_ERROR_MEMORY;
    case ErrorCode::unsupported:
      return GRAMIAN_ERROR_UNSUPPORTED;
    case ErrorCode::backend:
      return GRAMIAN_ERROR_BACKEND;
    case ErrorCode::file_format:
    case ErrorCode::io:
      return GRAMIAN_ERROR_FILE;
    case ErrorCode::cancelled:
      return GRAMIAN_ERROR_CANCELLED;
    case ErrorCode::internal:
      break;
  }
  return GRAMIAN_ERROR_INTERNAL;
}

// The one place where exceptions end.
template <class Body>
int guarded(const Body& body) noexcept {
  try {
    body();
    return GRAMIAN_OK;
  } catch (const Error& error) {
    return fail(result_of(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return fail(GRAMIAN_ERROR_MEMORY, "out of memory");
  } catch (const std::length_error&) {  // more than any allocator would be asked for
    return fail(GRAMIAN_ERROR_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return fail(GRAMIAN_ERROR_INTERNAL, error.what());
  } catch (...) {
    return fail(GRAMIAN_ERROR_INTERNAL, "an unknown exception");
  }
}

void require_pointer(const void* pointer, const char* name) {
  GRAMIAN_REQUIRE(pointer != nullptr, invalid_argument, std::string(name) + " is null");
}

// body(model) under the classifier's lock.
template <class Body>
int with_model(gramian_classifier* classifier, const Body& body) noexcept {
  return guarded([&] {
    require_pointer(classifier, "classifier");
    const std::lock_guard<std::mutex> lock(classifier->mutex);
    body(classifier->model);
  });
}

gramian_classifier_options default_options() noexcept {
  gramian_classifier_options options = {};
  options.struct_size = sizeof options;
  options.ridge = 1;
  options.fit_intercept = 1;
  options.cuda_device = -1;
  options.map_activation = GRAMIAN_MAP_RELU;
  options.map_features = 1024;
  return options;
}

// The caller's structure over the defaults, read no further than it reaches; `shortest`: what every caller has.
template <class Struct>
Struct complete(const Struct* given, Struct defaults, std::size_t shortest, const std::string& name) {
  const std::size_t size = given->struct_size;
  GRAMIAN_REQUIRE(size >= shortest, invalid_argument,
                  name + ".struct_size is " + std::to_string(size) + ", below the " + std::to_string(shortest) +
                      " bytes that every program has: it is not set");
  GRAMIAN_REQUIRE(size <= sizeof defaults, unsupported,
                  name + ".struct_size is that of a newer interface than this library's");
  std::memcpy(&defaults, given, size);
  return defaults;
}

gramian_classifier_options complete(const gramian_classifier_options* given) {
  const gramian_classifier_options defaults = default_options();
  if (given == nullptr) return defaults;
  const gramian_classifier_options options = complete(given, defaults, sizeof(std::size_t), "options");
  GRAMIAN_REQUIRE(options.reserved == 0, invalid_argument, "options.reserved is not 0");
  return options;
}

// Fields that come after those of the first interface get their defaults here: zeros.
gramian_rows complete(const gramian_rows* given) {
  constexpr std::size_t kFirst = offsetof(gramian_rows, reserved) + sizeof(std::int32_t);
  require_pointer(given, "rows");
  const gramian_rows rows = complete(given, gramian_rows{}, kFirst, "rows");
  GRAMIAN_REQUIRE(rows.reserved == 0, invalid_argument, "rows.reserved is not 0");
  return rows;
}

bool flag(std::int32_t value, const char* name) {
  GRAMIAN_REQUIRE(value == 0 || value == 1, invalid_argument,
                  std::string("options.") + name + " is " + std::to_string(value) + ", not 0 or 1");
  return value == 1;
}

gramian::Exec exec_of(const gramian_classifier_options& options) {
  GRAMIAN_REQUIRE(options.threads >= 0, invalid_argument, "options.threads is negative");
  GRAMIAN_REQUIRE(options.cuda_device >= -1, invalid_argument, "options.cuda_device is below -1");
  if (options.cuda_device < 0) return gramian::Exec(gramian::Device::cpu, options.threads);
  return gramian::Exec(gramian::Device::cuda, options.threads, options.cuda_device);
}

gramian::FeatureMapPtr map_of(std::int64_t n_inputs, const gramian_classifier_options& options) {
  if (options.map_kind == GRAMIAN_MAP_NONE) return nullptr;
  gramian::RandomFeaturesConfig config;
  switch (options.map_kind) {
    case GRAMIAN_MAP_GAUSSIAN:
      config.kind = gramian::RandomKind::gaussian;
      break;
    case GRAMIAN_MAP_RADEMACHER:
      config.kind = gramian::RandomKind::rademacher;
      break;
    case GRAMIAN_MAP_HADAMARD:
      config.kind = gramian::RandomKind::hadamard;
      break;
    default:
      throw Error(ErrorCode::invalid_argument, "options.map_kind is no gramian_map_kind");
  }
  GRAMIAN_REQUIRE(options.map_activation >= GRAMIAN_MAP_IDENTITY && options.map_activation <= GRAMIAN_MAP_SIGN,
                  invalid_argument, "options.map_activation is no gramian_map_activation");
  static_assert(static_cast<int>(gramian::Activation::relu) == GRAMIAN_MAP_RELU &&
                    static_cast<int>(gramian::Activation::sign) == GRAMIAN_MAP_SIGN,
                "one numbering");
  config.activation = static_cast<gramian::Activation>(options.map_activation);
  config.n_inputs = n_inputs;
  config.n_features = options.map_features;
  config.scale = options.map_scale;
  config.bias = options.map_bias;
  config.seed = options.map_seed;
  return gramian::make_random_features(config);
}

// Of two sizes >= 0, or out_of_memory: no memory holds so much.
std::int64_t product(std::int64_t a, std::int64_t b, const char* what) {
  GRAMIAN_REQUIRE(
      b == 0 || a <= PTRDIFF_MAX / b, out_of_memory,
      std::string(what) + ": " + std::to_string(a) + " times " + std::to_string(b) + " is more than any memory holds");
  return a * b;
}

gramian::RowsView view_of(const gramian_rows* given) {
  const gramian_rows rows = complete(given);
  GRAMIAN_REQUIRE(rows.n_rows >= 0 && rows.n_cols >= 0, invalid_argument, "rows.n_rows or rows.n_cols is negative");
  GRAMIAN_REQUIRE(rows.data != nullptr || rows.n_rows == 0, invalid_argument, "rows.data is null");
  GRAMIAN_REQUIRE(rows.element >= GRAMIAN_FLOAT32 && rows.element <= GRAMIAN_INT64, wrong_dtype,
                  "rows.element is no gramian_element");
  static_assert(static_cast<int>(gramian::DType::f64) == GRAMIAN_FLOAT64 &&
                    static_cast<int>(gramian::DType::i64) == GRAMIAN_INT64,
                "one numbering");
  gramian::RowsView view;
  view.dtype = static_cast<gramian::DType>(rows.element);
  view.rows = rows.n_rows;
  view.cols = rows.n_cols;
  view.data = rows.data;
  view.col_stride = static_cast<std::int64_t>(gramian::size_of(view.dtype));
  const std::int64_t row_bytes = product(view.cols, view.col_stride, "bytes of a row");
  view.row_stride = rows.row_stride != 0 ? rows.row_stride : row_bytes;
  GRAMIAN_REQUIRE(view.row_stride != INT64_MIN, invalid_argument, "rows.row_stride is out of range");
  product(view.rows, std::max(std::abs(view.row_stride), row_bytes), "bytes of the rows");
  return view;
}

// Places of a prediction, in as many words as there are rows.
std::vector<std::int64_t> predicted_places(const gramian::AnalyticClassifier& model, const gramian::RowsView& x) {
  std::vector<std::int64_t> places(static_cast<std::size_t>(x.rows));
  model.predict(x, places.data());
  return places;
}

const std::vector<std::int64_t>& integer_labels(const gramian::AnalyticClassifier& model) {
  const auto* labels = std::get_if<std::vector<std::int64_t>>(&model.classes().values);
  GRAMIAN_REQUIRE(labels != nullptr, wrong_dtype, "the labels of this model are not integers");
  return *labels;
}

void check_capacity(std::int64_t capacity, std::int64_t needed) {
  GRAMIAN_REQUIRE(
      capacity >= needed, invalid_argument,
      "the capacity is " + std::to_string(capacity) + ", but " + std::to_string(needed) + " values must fit");
}

}  // namespace

extern "C" {

const char* gramian_version(void) {
  return gramian::version();
}

const char* gramian_last_error(void) {
  return last_error;
}

int gramian_classifier_options_init(gramian_classifier_options* options, size_t struct_size) {
  return guarded([&] {
    require_pointer(options, "options");
    GRAMIAN_REQUIRE(struct_size >= sizeof(size_t), invalid_argument, "struct_size is too small");
    GRAMIAN_REQUIRE(struct_size <= sizeof *options, unsupported,
                    "struct_size is that of a newer interface than this library's");
    gramian_classifier_options defaults = default_options();
    defaults.struct_size = struct_size;
    std::memcpy(options, &defaults, struct_size);
  });
}

int gramian_classifier_create(int64_t n_inputs, const gramian_classifier_options* options, gramian_classifier** out) {
  return guarded([&] {
    require_pointer(out, "out");
    GRAMIAN_REQUIRE(n_inputs >= 1, invalid_argument, "n_inputs is " + std::to_string(n_inputs) + ", not 1 or more");
    const gramian_classifier_options all = complete(options);
    gramian::RidgeConfig config;
    config.ridge = all.ridge;
    config.standardize = flag(all.standardize, "standardize");
    config.gram.intercept = flag(all.fit_intercept, "fit_intercept");
    const bool narrow = flag(all.float32_products, "float32_products");
    config.gram.products = narrow ? gramian::DType::f32 : gramian::DType::f64;
    gramian::AnalyticClassifier model(exec_of(all), n_inputs, std::move(config), map_of(n_inputs, all));
    *out = new gramian_classifier(std::move(model));
  });
}

void gramian_classifier_free(gramian_classifier* classifier) {
  delete classifier;
}

int gramian_classifier_set_cancel_hook(gramian_classifier* classifier, gramian_cancel_hook hook, void* user) {
  return with_model(classifier, [&](gramian::AnalyticClassifier& model) {
    gramian::Exec exec = model.head().exec();  // copies share the hook
    if (hook) {
      exec.set_cancel_hook([hook, user] { return hook(user) != 0; });
    } else {
      exec.set_cancel_hook(nullptr);
    }
  });
}

int gramian_classifier_partial_fit(gramian_classifier* classifier, const gramian_rows* rows, const int64_t* labels,
                                   const double* weights) {
  return with_model(classifier, [&](gramian::AnalyticClassifier& model) {
    const gramian::RowsView x = view_of(rows);
    model.partial_fit(x, labels, weights);
  });
}

int gramian_classifier_forget(gramian_classifier* classifier, const gramian_rows* rows, const int64_t* labels,
                              const double* weights) {
  return with_model(classifier, [&](gramian::AnalyticClassifier& model) {
    const gramian::RowsView x = view_of(rows);
    model.forget(x, labels, weights);
  });
}

int gramian_classifier_merge(gramian_classifier* classifier, gramian_classifier* other) {
  if (classifier == other) {
    return with_model(classifier, [](gramian::AnalyticClassifier& model) { model.merge(model); });
  }
  return guarded([&] {
    require_pointer(classifier, "classifier");
    require_pointer(other, "other");
    const std::scoped_lock lock(classifier->mutex, other->mutex);
    classifier->model.merge(other->model);
  });
}

int gramian_classifier_n_inputs(gramian_classifier* classifier, int64_t* out) {
  return with_model(classifier, [&](const gramian::AnalyticClassifier& model) {
    require_pointer(out, "out");
    *out = model.head().n_inputs();
  });
}

int gramian_classifier_n_classes(gramian_classifier* classifier, int64_t* out) {
  return with_model(classifier, [&](const gramian::AnalyticClassifier& model) {
    require_pointer(out, "out");
    *out = model.classes().size();
  });
}

int gramian_classifier_classes(gramian_classifier* classifier, int64_t* labels, int64_t capacity) {
  return with_model(classifier, [&](const gramian::AnalyticClassifier& model) {
    const std::vector<std::int64_t>& all = integer_labels(model);
    check_capacity(capacity, model.classes().size());
    if (all.empty()) return;
    require_pointer(labels, "labels");
    std::memcpy(labels, all.data(), all.size() * sizeof(int64_t));
  });
}

int gramian_classifier_class_counts(gramian_classifier* classifier, int64_t* counts, int64_t capacity) {
  return with_model(classifier, [&](const gramian::AnalyticClassifier& model) {
    const std::vector<std::int64_t>& all = model.class_counts();
    check_capacity(capacity, model.classes().size());
    if (all.empty()) return;
    require_pointer(counts, "counts");
    std::memcpy(counts, all.data(), all.size() * sizeof(int64_t));
  });
}

int gramian_classifier_class_text(gramian_classifier* classifier, int64_t place, char* text, size_t capacity,
                                  size_t* needed) {
  return with_model(classifier, [&](const gramian::AnalyticClassifier& model) {
    const std::string label = model.classes().text(place);
    const std::size_t bytes = label.size() + 1;
    if (needed) *needed = bytes;
    GRAMIAN_REQUIRE(capacity >= bytes, invalid_argument,
                    "the text takes " + std::to_string(bytes) + " bytes, the capacity is " + std::to_string(capacity));
    require_pointer(text, "text");
    std::memcpy(text, label.c_str(), bytes);
  });
}

int gramian_classifier_predict(gramian_classifier* classifier, const gramian_rows* rows, int64_t* labels) {
  return with_model(classifier, [&](const gramian::AnalyticClassifier& model) {
    const gramian::RowsView x = view_of(rows);
    if (x.rows > 0) require_pointer(labels, "labels");
    const std::vector<std::int64_t>& classes = integer_labels(model);
    const std::vector<std::int64_t> places = predicted_places(model, x);
    for (std::size_t r = 0; r < places.size(); ++r) labels[r] = classes[static_cast<std::size_t>(places[r])];
  });
}

int gramian_classifier_predict_places(gramian_classifier* classifier, const gramian_rows* rows, int64_t* places) {
  return with_model(classifier, [&](const gramian::AnalyticClassifier& model) {
    const gramian::RowsView x = view_of(rows);
    if (x.rows > 0) require_pointer(places, "places");
    const std::vector<std::int64_t> result = predicted_places(model, x);
    if (!result.empty()) std::memcpy(places, result.data(), result.size() * sizeof(int64_t));
  });
}

int gramian_classifier_decision_function(gramian_classifier* classifier, const gramian_rows* rows, double* scores,
                                         int64_t capacity) {
  return with_model(classifier, [&](const gramian::AnalyticClassifier& model) {
    const gramian::RowsView x = view_of(rows);
    const std::int64_t classes = model.classes().size();
    check_capacity(capacity, product(x.rows, classes, "scores"));
    if (x.rows > 0) require_pointer(scores, "scores");
    // A row late in the call may be refused, which is to leave the caller's memory as it was.
    std::vector<double> made(static_cast<std::size_t>(x.rows * classes));
    model.decision_function(x, gramian::MatrixView<double>(made.data(), x.rows, classes));
    std::copy(made.begin(), made.end(), scores);
  });
}

int gramian_classifier_save(gramian_classifier* classifier, const char* path, int32_t weights_only) {
  return with_model(classifier, [&](const gramian::AnalyticClassifier& model) {
    require_pointer(path, "path");
    GRAMIAN_REQUIRE(weights_only == 0 || weights_only == 1, invalid_argument, "weights_only is not 0 or 1");
    model.save(path, weights_only == 1);
  });
}

int gramian_classifier_load(const char* path, const gramian_classifier_options* options, gramian_classifier** out) {
  return guarded([&] {
    require_pointer(path, "path");
    require_pointer(out, "out");
    *out = new gramian_classifier(gramian::AnalyticClassifier::load(exec_of(complete(options)), std::string(path)));
  });
}

}  // extern "C"
