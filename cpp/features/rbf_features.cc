#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "features/maps.h"
#include "gramian/core/array.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

namespace {

// Tells two sets of centres apart in a description (FNV-1a over their bytes).
std::string digest(const std::vector<double>& values) {
  std::uint64_t hash = 14695981039346656037ull;
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (std::size_t k = 0; k < values.size() * sizeof(double); ++k) hash = (hash ^ bytes[k]) * 1099511628211ull;
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

class RbfFeatures final : public FeatureMap {
 public:
  RbfFeatures(MatrixView<const double> centers, double gamma) : k_(centers.rows), p_(centers.cols), gamma_(gamma) {
    GRAMIAN_REQUIRE(k_ >= 1 && p_ >= 1, invalid_argument, "centers must have at least one row and one column");
    GRAMIAN_REQUIRE(std::isfinite(gamma) && gamma > 0, invalid_argument, "gamma must be finite and above 0");
    centers_.reserve(static_cast<std::size_t>(k_ * p_));
    for (std::int64_t r = 0; r < k_; ++r) {
      for (std::int64_t c = 0; c < p_; ++c) {
        GRAMIAN_REQUIRE(std::isfinite(centers(r, c)), non_finite,
                        "centers contains NaN or infinity, first in row " + std::to_string(r));
        centers_.push_back(centers(r, c));
      }
    }
    // |x - m|^2 by |x|^2 + |m|^2 - 2 x'm loses the digits that a common offset takes; so measure from the mean.
    mean_.assign(static_cast<std::size_t>(p_), 0.0);
    for (std::int64_t r = 0; r < k_; ++r)
      for (std::int64_t c = 0; c < p_; ++c)
        mean_[static_cast<std::size_t>(c)] += centers(r, c) / static_cast<double>(k_);
    centred_ = centers_;
    squares_.assign(static_cast<std::size_t>(k_), 0.0);
    for (std::int64_t r = 0; r < k_; ++r) {
      for (std::int64_t c = 0; c < p_; ++c) {
        double& value = centred_[static_cast<std::size_t>(r * p_ + c)];
        value -= mean_[static_cast<std::size_t>(c)];
        squares_[static_cast<std::size_t>(r)] += value * value;
      }
    }
  }

  std::int64_t n_inputs() const override { return p_; }
  std::int64_t n_features() const override { return k_; }
  double flops_per_row() const override { return 2.0 * static_cast<double>(k_) * static_cast<double>(p_); }

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

  Json save(ModelWriter& writer, const std::string& prefix) const override {
    writer.add(prefix + "centers", {k_, p_}, centers_);
    Json json = Json::object();
    json["type"] = "rbf";
    json["n_inputs"] = p_;
    json["n_features"] = k_;
    json["gamma"] = gamma_;
    json["digest"] = digest(centers_);
    return json;
  }

 private:
  template <class T>
  void transform_in(const Exec& exec, const RowsView& x, MatrixView<T> out) const {
    check_shapes(x.rows, x.cols, out.rows, out.cols);
    Array<T> block(exec, x.rows, p_);
    load_rows<T>(exec, x, mean_.data(), nullptr, block.view(), "X");
    measure<T>(exec, block.view(), out);
  }

  template <class T>
  void apply_in(const Exec& exec, MatrixView<const T> x, MatrixView<T> out) const {
    check_shapes(x.rows, x.cols, out.rows, out.cols);
    Array<T> block(exec, x.rows, p_), offset(exec, p_);
    std::vector<T> negative(mean_.size());
    for (std::size_t c = 0; c < mean_.size(); ++c) negative[c] = static_cast<T>(-mean_[c]);
    upload<T>(exec, {negative.data(), 1, p_}, offset.view());
    axpby<T, T>(exec, 1.0, x, 0.0, block.view());
    activate<T>(exec, Activation::identity, offset.data(), 1.0, block.view());
    measure<T>(exec, block.view(), out);
  }

  // x: rows minus the mean of the centres.
  template <class T>
  void measure(const Exec& exec, MatrixView<const T> x, MatrixView<T> out) const {
    const std::vector<T> rounded(centred_.begin(), centred_.end());
    Array<T> centers(exec, k_, p_);
    upload<T>(exec, {rounded.data(), k_, p_}, centers.view());
    Array<double> row_sq(exec, x.rows), col_sq(exec, k_);
    upload<double>(exec, {squares_.data(), 1, k_}, col_sq.view());
    row_sumsq<T>(exec, x, row_sq.data());
    gemm<T>(exec, Trans::no, Trans::yes, 1.0, x, centers.view(), 0.0, out);
    rbf<T>(exec, row_sq.data(), col_sq.data(), gamma_, out);
  }

  std::int64_t k_, p_;
  double gamma_;
  std::vector<double> centers_, mean_, centred_, squares_;
};

}  // namespace

FeatureMapPtr make_rbf_features(MatrixView<const double> centers, double gamma) {
  return std::make_shared<RbfFeatures>(centers, gamma);
}

FeatureMapPtr load_rbf_features(const Json& json, const ModelReader& reader, const std::string& prefix) {
  const std::int64_t k = json.at("n_features").integer(), p = json.at("n_inputs").integer();
  const double* centers = reader.tensor(prefix + "centers", TensorType::f64, {k, p}).f64();
  return make_rbf_features({centers, k, p}, json.at("gamma").number());
}

}  // namespace gramian
