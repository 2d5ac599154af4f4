// The system behind ridge weights, built from the sums of a state.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gram/gram_sums.h"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/solve.hpp"

namespace gramian {

// S (G - s s'/n) S + ridge I, S = 1 / deviation of each feature where asked for, else I.
class CentredGram final : public SpdOperator {
 public:
  CentredGram(const GramState::Sums& sums, double ridge, bool standardize) : sums_(sums), ridge_(ridge) {
    centred_ = sums.options.intercept && sums.weight_sum > 0;
    if (centred_) s_ = to_device(sums.exec, sums.s);
    scale_.assign(sums.s.size(), 1.0);
    if (standardize) standardize_features();
    scaled_ = standardize;
  }

  std::int64_t size() const override { return sums_.d; }
  void build(const Exec& exec, SymmetricMatrix<double>& a) const override { build_in<double>(exec, a); }
  void build(const Exec& exec, SymmetricMatrix<float>& a) const override { build_in<float>(exec, a); }

  void apply(const Exec& exec, MatrixView<const double> w, MatrixView<double> out) const override {
    Array<double> scaled;
    MatrixView<const double> v = w;
    if (scaled_) {
      scaled = Array<double>(exec, w.rows, w.cols);
      axpby<double, double>(exec, 1.0, w, 0.0, scaled.view());
      scale_rows(exec, scale_, scaled.view());
      v = scaled.view();
    }
    symmetric_multiply(exec, 1.0, sums_.g(), v, 0.0, out);
    if (centred_) {
      Array<double> projection(exec, 1, w.cols);
      const MatrixView<const double> s(s_.data(), 1, size());
      gemm<double>(exec, Trans::no, Trans::no, 1.0, s, v, 0.0, projection.view());
      gemm<double>(exec, Trans::yes, Trans::no, -1.0 / sums_.weight_sum, s, projection.view(), 1.0, out);
    }
    if (scaled_) scale_rows(exec, scale_, out);
    axpby<double, double>(exec, ridge_, w, 1.0, out);
  }

  const std::vector<double>& scale() const { return scale_; }
  // Of scaled features: is none of them constant but for rounding?
  bool all_vary() const { return all_vary_; }
  // The largest over the smallest diagonal entry without the ridge, constant features left out.
  double diagonal_spread() const {
    std::vector<double> diagonal(scale_.size());
    sums_.g().diagonal(sums_.exec, diagonal.data());
    double least = std::numeric_limits<double>::infinity(), most = 0;
    for (std::size_t k = 0; k < scale_.size(); ++k) {
      const double centre = centred_ ? sums_.s[k] / sums_.weight_sum * sums_.s[k] : 0.0;
      const double value = diagonal[k] - centre;
      if (!(value > 1e-8 * diagonal[k])) continue;
      least = std::min(least, value * scale_[k] * scale_[k]);
      most = std::max(most, value * scale_[k] * scale_[k]);
    }
    return most > 0 ? most / least : 1.0;
  }
  // S (Q' - s t'/n), d x c, on the device.
  Array<double> right_hand_side() const {
    std::vector<double> b = sums_.centred_cross();
    for (std::int64_t j = 0; j < sums_.d; ++j)
      for (std::int64_t k = 0; k < sums_.c; ++k)
        b[static_cast<std::size_t>(j * sums_.c + k)] *= scale_[static_cast<std::size_t>(j)];
    Array<double> out(sums_.exec, sums_.d, sums_.c);
    upload<double>(sums_.exec, {b.data(), sums_.d, sums_.c}, out.view());
    return out;
  }

 private:
  template <class T>
  void build_in(const Exec& exec, SymmetricMatrix<T>& a) const {
    a.axpby(exec, 1.0, sums_.g(), 0.0);
    if (centred_) {
      std::vector<T> rounded(sums_.s.begin(), sums_.s.end());
      Array<T> s(exec, sums_.d);
      upload<T>(exec, {rounded.data(), 1, sums_.d}, s.view());
      a.add_outer(exec, -1.0 / sums_.weight_sum, s.data(), s.data());
    }
    if (scaled_) a.scale(exec, scale_);
    a.add_diagonal(exec, ridge_);
  }

  void standardize_features() {
    const double n = sums_.weight_sum;
    if (n <= 0) return;
    std::vector<double> diagonal(scale_.size());
    sums_.g().diagonal(sums_.exec, diagonal.data());
    for (std::size_t k = 0; k < scale_.size(); ++k) {
      const double offset = sums_.s[k] / n, variance = diagonal[k] / n - offset * offset;
      // A constant feature has no unit to be measured in and keeps its own, as scikit-learn's StandardScaler has it.
      // Rounding leaves some variance behind: of the products (errors add up like a random walk), of the rows that once
      // were here, and of the numbers themselves.
      const double mean = sums_.shift[k] + offset;
      const double digits = 4 * std::numeric_limits<double>::epsilon() * mean;
      const double noise = std::max(
          10 * sums_.rounding_unit() * std::sqrt(sums_.terms()) * sums_.largest_diagonal()[k] / n, digits * digits);
      scale_[k] = variance > noise ? 1.0 / std::sqrt(variance) : 1.0;
      all_vary_ = all_vary_ && variance > noise;
    }
  }

  const GramState::Sums& sums_;
  double ridge_;
  bool centred_ = false, scaled_ = false, all_vary_ = true;
  Array<double> s_;
  std::vector<double> scale_;
};

}  // namespace gramian
