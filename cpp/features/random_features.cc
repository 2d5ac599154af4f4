#include <algorithm>
#include <charconv>
#include <cmath>
#include <mutex>
#include <string>
#include <vector>

#include "features/maps.h"
#include "features/orthogonal_weights.h"
#include "features/sparse_weights.h"
#include "gramian/core/array.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/transforms.hpp"

namespace gramian {

namespace {

// Tags of the streams of family `features`; part of the law in feature_map.hpp.
constexpr std::uint32_t kSignTag = 1;
constexpr std::uint32_t kPhaseTag = 8;
constexpr std::uint32_t kBiasTag = 9;
constexpr int kStages = 3;
// Elements of rows and their features that pass through loading, transforms and activation together: they stay in the
// last cache.
constexpr std::int64_t kPieceElements = std::int64_t{1} << 20;
constexpr std::int64_t kLargestSide = (std::int64_t{1} << 31) - 1;  // sizes multiply without overflow below it

std::int64_t next_power_of_two(std::int64_t n) {
  std::int64_t p = 1;
  while (p < n) p *= 2;
  return p;
}

// Values drawn from the seed that are worth keeping between calls: work space, never part of the model.
template <class T>
struct Drawn {
  const void* device = nullptr;  // whose memory the values are in
  Array<T> weights;              // n_inputs x n_features times the scale; empty for hadamard and sparse
  SparseWeights<T> sparse;       // of kind sparse
  Array<T> signs;                // hadamard: (blocks * stages) x P
  Array<T> shift;                // n_features, empty if none
};

class RandomFeatures final : public FeatureMap {
 public:
  explicit RandomFeatures(const RandomFeaturesConfig& config) : config_(config) {
    GRAMIAN_REQUIRE(config.n_inputs >= 1 && config.n_inputs <= kLargestSide, invalid_argument,
                    "n_inputs must be at least 1 and below 2^31, got " + std::to_string(config.n_inputs));
    GRAMIAN_REQUIRE(config.n_features >= 1 && config.n_features <= kLargestSide, invalid_argument,
                    "n_features must be at least 1 and below 2^31, got " + std::to_string(config.n_features));
    GRAMIAN_REQUIRE(std::isfinite(config.scale) && config.scale >= 0, invalid_argument,
                    "scale must be finite and not negative");
    GRAMIAN_REQUIRE(std::isfinite(config.bias) && config.bias >= 0, invalid_argument,
                    "bias must be finite and not negative");
    scale_ = config.scale > 0 ? config.scale : 1.0 / std::sqrt(static_cast<double>(config.n_inputs));
    padded_ = next_power_of_two(config.n_inputs);
    blocks_ = (config.n_features + padded_ - 1) / padded_;
    GRAMIAN_REQUIRE(config.kind != RandomKind::hadamard || blocks_ <= 65536, invalid_argument,
                    "kind='hadamard' makes at most 65536 blocks of features");
    if (config.kind != RandomKind::sparse) return;
    GRAMIAN_REQUIRE(config.n_nonzero >= 0 && config.n_nonzero <= config.n_inputs, invalid_argument,
                    "n_nonzero must be at least 1 and at most the " + std::to_string(config.n_inputs) +
                        " inputs, got " + std::to_string(config.n_nonzero));
    if (config_.n_nonzero == 0) config_.n_nonzero = std::llround(std::sqrt(static_cast<double>(config.n_inputs)));
  }

  std::int64_t n_inputs() const override { return config_.n_inputs; }
  std::int64_t n_features() const override { return config_.n_features; }

  double flops_per_row() const override {
    const auto d = static_cast<double>(config_.n_features), p = static_cast<double>(padded_);
    if (config_.kind == RandomKind::sparse) return 2.0 * static_cast<double>(config_.n_nonzero) * d;
    if (config_.kind != RandomKind::hadamard) return 2.0 * static_cast<double>(config_.n_inputs) * d;
    return kStages * static_cast<double>(blocks_) * p * std::log2(p);
  }

  void transform(const Exec& exec, const RowsView& x, MatrixView<float> out) const override {
    transform_in<float>(exec, x, out);
  }
  void transform(const Exec& exec, const RowsView& x, MatrixView<double> out) const override {
    transform_in<double>(exec, x, out);
  }
  void apply(const Exec& exec, MatrixView<const float> x, MatrixView<float> out) const override {
    apply_in<float>(exec, x, out);
  }
  void apply(const Exec& exec, MatrixView<const double> x, MatrixView<double> out) const override {
    apply_in<double>(exec, x, out);
  }

  Json save(ModelWriter&, const std::string&) const override {
    Json json = Json::object();
    json["type"] = "random";
    json["n_inputs"] = config_.n_inputs;
    json["n_features"] = config_.n_features;
    json["kind"] = name_of(config_.kind);
    json["activation"] = name_of(config_.activation);
    json["scale"] = scale_;
    json["bias"] = config_.bias;
    if (config_.kind == RandomKind::sparse) json["n_nonzero"] = config_.n_nonzero;
    json["seed"] = std::to_string(config_.seed);  // 64 bits, more than a JSON number keeps
    return json;
  }

  void release_workspace() const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    drawn_float_.reset();
    drawn_double_.reset();
  }

 private:
  template <class T>
  void transform_in(const Exec& exec, const RowsView& x, MatrixView<T> out) const {
    if (config_.kind == RandomKind::hadamard && exec.device() == Device::cpu) {
      check_shapes(x.rows, x.cols, out.rows, out.cols);
      const std::int64_t edge = std::max<std::int64_t>(64, kPieceElements / (x.cols + out.cols));
      for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
        const std::int64_t count = std::min(edge, x.rows - begin);
        FeatureMap::transform(exec, x.slice(begin, count), out.block(begin, 0, count, out.cols));
      }
      return;
    }
    const bool dense_weights = config_.kind != RandomKind::hadamard && config_.kind != RandomKind::sparse;
    const bool direct = x.sparse && dense_weights && (x.dtype == DType::f32 || x.dtype == DType::f64);
    if (!direct) {
      FeatureMap::transform(exec, x, out);
      return;
    }
    check_shapes(x.rows, x.cols, out.rows, out.cols);
    check_finite(x);
    const auto drawn = draw<T>(exec);
    sparse_multiply<T>(exec, x, drawn->weights.view(), out);
    activate<T>(exec, config_.activation, drawn->shift.data(), output_scale(), out);
  }

  template <class T>
  void apply_in(const Exec& exec, MatrixView<const T> x, MatrixView<T> out) const {
    check_shapes(x.rows, x.cols, out.rows, out.cols);
    const auto drawn = draw<T>(exec);
    if (config_.kind == RandomKind::hadamard) {
      for (std::int64_t block = 0; block < blocks_; ++block) hadamard_block<T>(exec, *drawn, x, block, out);
      const bool done = config_.activation == Activation::identity && drawn->shift.data() == nullptr;
      if (!done) activate<T>(exec, config_.activation, drawn->shift.data(), output_scale(), out);
    } else if (config_.kind == RandomKind::sparse) {
      drawn->sparse.multiply(exec, x, out);
      activate<T>(exec, config_.activation, drawn->shift.data(), output_scale(), out);
    } else {
      gemm_activate<T>(exec, x, drawn->weights.view(), config_.activation, drawn->shift.data(), output_scale(), out);
    }
  }

  // Columns [block P, ...) of out = scale sqrt(P) (H D3)(H D2)(H D1) x with H orthonormal; the three 1 / sqrt(P) of H
  // and the factor in front make scale / P, spent in the last transform.
  template <class T>
  void hadamard_block(const Exec& exec, const Drawn<T>& drawn, MatrixView<const T> x, std::int64_t block,
                      MatrixView<T> out) const {
    const std::int64_t first = block * padded_, width = std::min(padded_, config_.n_features - first);
    signed_hadamard_rows<T>(exec, scale_ / static_cast<double>(padded_),
                            drawn.signs.view().block(block * kStages, 0, kStages, padded_), x,
                            out.block(0, first, out.rows, width));
  }

  double output_scale() const {
    return config_.activation == Activation::cos ? std::sqrt(2.0 / static_cast<double>(config_.n_features)) : 1.0;
  }

  template <class T>
  std::shared_ptr<const Drawn<T>> draw(const Exec& exec) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::shared_ptr<const Drawn<T>>& kept = slot<T>();
    // Host memory serves every Exec of the CPU.
    const void* device = exec.device() == Device::cpu ? static_cast<const void*>(&exec.table()) : exec.context();
    if (kept && kept->device == device) return kept;
    // What is kept outlives the caller, and so must not hold its cancel hook; the filling may be cancelled.
    const Exec steady = exec.uninterrupted();
    auto drawn = std::make_shared<Drawn<T>>();
    drawn->device = device;
    if (config_.kind == RandomKind::hadamard) {
      drawn->signs = Array<T>(steady, blocks_ * kStages, padded_);
      for (std::uint32_t stage = 0; stage < kStages; ++stage) {
        for (std::int64_t block = 0; block < blocks_; ++block) {
          const RngStream stream(config_.seed, RngFamily::features, kSignTag, stage, static_cast<std::uint32_t>(block));
          fill_signs<T>(exec, stream, padded_, drawn->signs.view().row(block * kStages + stage));
        }
      }
    } else if (config_.kind == RandomKind::sparse) {
      drawn->sparse = SparseWeights<T>(config_.seed, config_.n_inputs, config_.n_features, config_.n_nonzero, scale_);
    } else if (config_.kind == RandomKind::orthogonal) {
      drawn->weights = Array<T>(steady, config_.n_inputs, config_.n_features);
      draw_orthogonal<T>(exec, config_.seed, scale_, drawn->weights.view());
    } else {
      const bool gaussian = config_.kind == RandomKind::gaussian;
      const RngStream stream(config_.seed, gaussian ? RngFamily::gaussian : RngFamily::rademacher);
      drawn->weights = Array<T>(steady, config_.n_inputs, config_.n_features);
      fill_random<T>(exec, gaussian ? Distribution::gaussian : Distribution::rademacher, stream, scale_,
                     drawn->weights.view());
    }
    draw_shift<T>(steady, *drawn);
    kept = std::move(drawn);
    return kept;
  }

  template <class T>
  void draw_shift(const Exec& exec, Drawn<T>& drawn) const {
    constexpr double kTwoPi = 6.283185307179586;
    if (config_.activation == Activation::cos) {
      drawn.shift = Array<T>(exec, config_.n_features);
      fill_uniform<T>(exec, RngStream(config_.seed, RngFamily::features, kPhaseTag), config_.n_features, 0.0, kTwoPi,
                      drawn.shift.data());
    } else if (config_.bias > 0) {
      const RngStream stream(config_.seed, RngFamily::features, kBiasTag);
      std::vector<T> host(static_cast<std::size_t>(config_.n_features));
      for (std::size_t i = 0; i < host.size(); ++i) host[i] = static_cast<T>(config_.bias * stream.gaussian(i, 0));
      drawn.shift = Array<T>(exec, config_.n_features);
      upload<T>(exec, {host.data(), 1, config_.n_features}, drawn.shift.view());
    }
  }

  template <class T>
  std::shared_ptr<const Drawn<T>>& slot() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return drawn_float_;
    } else {
      return drawn_double_;
    }
  }

  static void check_finite(const RowsView& x) {
    const auto at = [&](const void* array, std::int64_t k) {
      return x.index_dtype == DType::i32 ? static_cast<std::int64_t>(static_cast<const std::int32_t*>(array)[k])
                                         : static_cast<const std::int64_t*>(array)[k];
    };
    for (std::int64_t r = 0; r < x.rows; ++r) {
      const std::int64_t row = x.row_index != nullptr ? x.row_index[r] : r;
      for (std::int64_t k = at(x.indptr, row); k < at(x.indptr, row + 1); ++k) {
        const double value =
            x.dtype == DType::f32 ? static_cast<const float*>(x.values)[k] : static_cast<const double*>(x.values)[k];
        GRAMIAN_REQUIRE(std::isfinite(value), non_finite,
                        "X contains NaN or infinity, first in row " + std::to_string(x.first_row + row));
      }
    }
  }

  RandomFeaturesConfig config_;
  double scale_;
  std::int64_t padded_, blocks_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Drawn<float>> drawn_float_;
  mutable std::shared_ptr<const Drawn<double>> drawn_double_;
};

constexpr const char* kActivations[] = {"identity", "relu", "tanh", "sigmoid", "cos", "sign"};
constexpr const char* kKinds[] = {"gaussian", "rademacher", "hadamard", "orthogonal", "sparse"};

}  // namespace

FeatureMapPtr make_random_features(const RandomFeaturesConfig& config) {
  return std::make_shared<RandomFeatures>(config);
}

const char* name_of(Activation activation) {
  return kActivations[static_cast<int>(activation)];
}
const char* name_of(RandomKind kind) {
  return kKinds[static_cast<int>(kind)];
}

Activation parse_activation(const std::string& name) {
  for (int k = 0; k < 6; ++k)
    if (name == kActivations[k]) return static_cast<Activation>(k);
  throw Error(ErrorCode::invalid_argument,
              "activation must be one of 'identity', 'relu', 'tanh', 'sigmoid', 'cos', "
              "'sign', got '" +
                  name + "'");
}

RandomKind parse_random_kind(const std::string& name) {
  for (int k = 0; k < 5; ++k)
    if (name == kKinds[k]) return static_cast<RandomKind>(k);
  throw Error(ErrorCode::invalid_argument,
              "kind must be one of 'gaussian', 'rademacher', 'hadamard', 'orthogonal', 'sparse', got '" + name + "'");
}

FeatureMapPtr load_random_features(const Json& json) {
  RandomFeaturesConfig config;
  config.n_inputs = json.at("n_inputs").integer();
  config.n_features = json.at("n_features").integer();
  config.kind = parse_random_kind(json.at("kind").string());
  config.activation = parse_activation(json.at("activation").string());
  config.scale = json.at("scale").number();
  config.bias = json.at("bias").number();
  if (json.contains("n_nonzero")) config.n_nonzero = json.at("n_nonzero").integer();
  const std::string& seed = json.at("seed").string();
  const auto parsed = std::from_chars(seed.data(), seed.data() + seed.size(), config.seed);
  GRAMIAN_REQUIRE(parsed.ec == std::errc() && parsed.ptr == seed.data() + seed.size(), file_format,
                  "the seed of a feature map is not a number");
  // A few bytes of a file must not make the first prediction ask for more memory than any machine has.
  constexpr double kLargestWeights = 8e9;
  GRAMIAN_REQUIRE(static_cast<double>(config.n_inputs) * static_cast<double>(config.n_features) < kLargestWeights,
                  file_format, "a random feature map of this size is not believed");
  return make_random_features(config);
}

}  // namespace gramian
