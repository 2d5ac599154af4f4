#include "regression/preconditioner.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/linalg/solve.hpp"

namespace gramian::regression {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kPowerSteps = 4;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

Array<double> uploaded(const Exec& exec, const std::vector<double>& values) {
  Array<double> out(exec, static_cast<std::int64_t>(values.size()));
  upload<double>(exec, {values.data(), 1, out.size()}, out.view());
  return out;
}

// |x_c| where the squares of the entries leave the range of double.
double scaled_norm(MatrixView<const double> x, std::int64_t c) {
  double largest = 0, sum = 0;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    // A NaN is the largest of all.
    const double size = std::abs(x(r, c));
    largest = size <= largest ? largest : size;
  }
  if (!(largest > 0) || !std::isfinite(largest)) return largest;
  for (std::int64_t r = 0; r < x.rows; ++r) sum += x(r, c) / largest * (x(r, c) / largest);
  return largest * std::sqrt(sum);
}

}  // namespace

std::vector<double> column_norms(const Exec& exec, MatrixView<const double> x) {
  std::vector<double> host, sums(at(x.cols), 0.0);
  MatrixView<const double> values = x;
  if (exec.device() != Device::cpu) {
    host.resize(at(x.rows * x.cols));
    download<double>(exec, x, {host.data(), x.rows, x.cols});
    values = {host.data(), x.rows, x.cols};
  }
  for (std::int64_t r = 0; r < values.rows; ++r)
    for (std::int64_t c = 0; c < values.cols; ++c) sums[at(c)] += values(r, c) * values(r, c);
  for (std::int64_t c = 0; c < values.cols; ++c) {
    // Outside this range squares have overflowed, or lost digits that count.
    const bool squares_fit = sums[at(c)] > 1e-280 && sums[at(c)] < 1e280;
    sums[at(c)] = squares_fit ? std::sqrt(sums[at(c)]) : scaled_norm(values, c);
  }
  return sums;
}

Preconditioner::Preconditioner(const Exec& exec, std::vector<double> scale, SymmetricMatrix<double> factor)
    : exec_(exec), d_(factor.size()), rank_(d_), scale_(std::move(scale)), scale_device_(uploaded(exec, scale_)) {
  factors_.push_back(std::move(factor));
}

Preconditioner::Preconditioner(const Exec& exec, Array<double> basis, std::vector<double> values)
    : exec_(exec),
      d_(basis.rows()),
      rank_(basis.cols()),
      has_basis_(true),
      basis_(std::move(basis)),
      values_(std::move(values)) {}

void Preconditioner::refine(SymmetricMatrix<double> factor) {
  factors_.push_back(std::move(factor));
}

void Preconditioner::apply(MatrixView<const double> y, MatrixView<double> z) const {
  Array<double> work(exec_, rank_, y.cols);
  axpby<double, double>(exec_, 1.0, y, 0.0, work.view());
  for (auto l = factors_.rbegin(); l != factors_.rend(); ++l)
    cholesky_solve_half<double>(exec_, Trans::yes, *l, work.view());
  if (has_basis_) {
    gemm<double>(exec_, Trans::no, Trans::no, 1.0, basis_.view(), work.view(), 0.0, z);
  } else {
    axpby<double, double>(exec_, 1.0, work.view(), 0.0, z);
    scale_rows<double>(exec_, scale_, z);
  }
}

void Preconditioner::apply_transposed(MatrixView<const double> g, MatrixView<double> c) const {
  if (has_basis_) {
    gemm<double>(exec_, Trans::yes, Trans::no, 1.0, basis_.view(), g, 0.0, c);
  } else {
    axpby<double, double>(exec_, 1.0, g, 0.0, c);
    scale_rows<double>(exec_, scale_, c);
  }
  for (const SymmetricMatrix<double>& l : factors_) cholesky_solve_half<double>(exec_, Trans::no, l, c);
}

MatrixView<double> Preconditioner::apply_to_rows(MatrixView<double> w, MatrixView<double> out) const {
  MatrixView<double> rows = w;
  if (has_basis_) {
    gemm<double>(exec_, Trans::no, Trans::no, 1.0, w, basis_.view(), 0.0, out);
    rows = out;
  } else {
    scale_columns<double>(exec_, scale_device_.data(), w);
  }
  for (const SymmetricMatrix<double>& l : factors_) cholesky_solve_rows<double>(exec_, l, rows);
  return rows;
}

Array<double> Preconditioner::triangle() const {
  // M^-1 = ... L2' L1' diag(1 / scale), or diag(values) V' in place of the last two.
  Array<double> r(exec_, d_, d_), square(exec_, rank_, rank_), next(exec_, rank_, rank_);
  // I, multiplied from the left by each L'.
  std::vector<double> host(at(rank_ * rank_), 0.0);
  for (std::int64_t j = 0; j < rank_; ++j) host[at(j * rank_ + j)] = 1.0;
  upload<double>(exec_, {host.data(), rank_, rank_}, square.view());
  for (const SymmetricMatrix<double>& l : factors_) {
    // L' as a square: its packed lower triangle by rows is the upper one by columns.
    std::vector<double> packed(at(rank_ * (rank_ + 1) / 2));
    l.pack(exec_, packed.data());
    std::fill(host.begin(), host.end(), 0.0);
    for (std::int64_t i = 0; i < rank_; ++i)
      for (std::int64_t j = 0; j <= i; ++j) host[at(j * rank_ + i)] = packed[at(i * (i + 1) / 2 + j)];
    Array<double> upper(exec_, rank_, rank_);
    upload<double>(exec_, {host.data(), rank_, rank_}, upper.view());
    gemm<double>(exec_, Trans::no, Trans::no, 1.0, upper.view(), square.view(), 0.0, next.view());
    std::swap(square, next);
  }
  axpby<double, double>(exec_, 0.0, {}, 0.0, r.view());
  const MatrixView<double> top = r.view().block(0, 0, rank_, d_);
  if (has_basis_) {
    // basis = V diag(1 / values), so values V' = diag(values^2) basis'.
    if (rank_ == 0) return r;
    Array<double> turned(exec_, rank_, d_);
    transpose<double>(exec_, basis_.view(), turned.view());
    std::vector<double> squares(values_);
    for (double& value : squares) value *= value;
    scale_rows<double>(exec_, squares, turned.view());
    gemm<double>(exec_, Trans::no, Trans::no, 1.0, square.view(), turned.view(), 0.0, top);
    return r;
  }
  axpby<double, double>(exec_, 1.0, square.view(), 0.0, top);
  std::vector<double> inverse(scale_);
  for (double& value : inverse) value = 1.0 / value;
  const Array<double> device = uploaded(exec_, inverse);
  scale_columns<double>(exec_, device.data(), r.view());
  return r;
}

BackwardError::BackwardError(const Exec& exec, Array<double> triangle) : exec_(exec), r_(std::move(triangle)) {
  for (const double norm : column_norms(exec_, r_.view())) norm_ = std::hypot(norm_, norm);
}

double BackwardError::damped_norm(MatrixView<const double> g, double mu) {
  const std::int64_t d = r_.rows();
  // A tenth more or less in mu changes the estimate by a twentieth: not worth another factorisation.
  if (!(mu_ >= 0) || mu > 1.1 * mu_ || mu < 0.9 * mu_) {
    Array<double> merged(exec_, d, d), penalty(exec_, d, d);
    axpby<double, double>(exec_, 1.0, r_.view(), 0.0, merged.view());
    std::vector<double> diagonal(at(d * d), 0.0);
    for (std::int64_t j = 0; j < d; ++j) diagonal[at(j * d + j)] = std::sqrt(mu);
    upload<double>(exec_, {diagonal.data(), d, d}, penalty.view());
    qr_merge_r<double>(exec_, penalty.view(), merged.view());
    damped_ = lower_factor<double, double>(exec_, merged.view());
    mu_ = mu;
  }
  Array<double> c(exec_, d, 1);
  axpby<double, double>(exec_, 1.0, g, 0.0, c.view());
  cholesky_solve_half<double>(exec_, Trans::no, damped_, c.view());
  return column_norms(exec_, c.view())[0];
}

void BackwardError::decompose() {
  if (!values_.empty()) return;
  const std::int64_t d = r_.rows();
  Array<double> u(exec_, d, d);
  vt_ = Array<double>(exec_, d, d);
  small_svd<double>(exec_, r_.view(), u.view(), values_, vt_.view());
}

std::vector<double> BackwardError::operator()(MatrixView<const double> g, const std::vector<double>& residual_norms,
                                              const std::vector<double>& solution_norms) {
  const std::int64_t d = g.rows, k = g.cols;
  std::vector<double> out(at(k), 0.0);
  const auto mu_of = [&](std::int64_t j) {
    // At x = 0 the limit of mu large: |A'r| / |r|.
    const double ratio = residual_norms[at(j)] / solution_norms[at(j)];
    return ratio * ratio;
  };
  const std::vector<double> gradients = column_norms(exec_, g);
  if (k > 1) decompose();
  Array<double> coordinates;
  std::vector<double> host;
  if (k > 1) {
    coordinates = Array<double>(exec_, d, k);
    gemm<double>(exec_, Trans::no, Trans::no, 1.0, vt_.view(), g, 0.0, coordinates.view());
    host.resize(at(d * k));
    download<double>(exec_, coordinates.view(), {host.data(), d, k});
  }
  for (std::int64_t j = 0; j < k; ++j) {
    const double r = residual_norms[at(j)], x = solution_norms[at(j)];
    if (gradients[at(j)] == 0 || r == 0) continue;
    double numerator = 0, scale = x;
    if (!(x > 0) || !std::isfinite(mu_of(j))) {
      numerator = gradients[at(j)];
      scale = r;
    } else if (k == 1) {
      numerator = damped_norm(g, mu_of(j));
    } else {
      const double mu = mu_of(j);
      for (std::int64_t i = 0; i < d; ++i) {
        const double s = values_[at(i)], weight = std::sqrt(s * s + mu);
        if (weight > 0) numerator = std::hypot(numerator, host[at(i * k + j)] / weight);
      }
    }
    // A gradient where the factor says that A is zero: nothing is known.
    out[at(j)] = norm_ > 0 ? numerator / scale / norm_ : kInfinity;
  }
  return out;
}

double unscaled_bound(const ScaledFactor& scaled) {
  if (scaled.scale.empty()) return scaled.condition;
  const auto ends = std::minmax_element(scaled.scale.begin(), scaled.scale.end());
  return scaled.condition * *ends.second / *ends.first;
}

ScaledFactor factor_scaled(const Exec& exec, SymmetricMatrix<double> g) {
  const std::int64_t d = g.size();
  ScaledFactor out;
  std::vector<double> diagonal(at(d));
  g.diagonal(exec, diagonal.data());
  out.condition = kInfinity;
  for (const double value : diagonal) {
    if (!(value > 0) || !std::isfinite(value)) return out;
    out.scale.push_back(1.0 / std::sqrt(value));
  }
  g.scale(exec, out.scale);
  const double largest = power_norm(exec, d, kPowerSteps, [&](MatrixView<const double> x, MatrixView<double> y) {
    symmetric_multiply(exec, 1.0, g, x, 0.0, y);
  });
  if (cholesky(exec, g) != 0) return out;
  out.factor = std::move(g);
  out.condition = std::max(1.0, std::sqrt(largest) * inverse_norm(exec, out.factor, kPowerSteps));
  return out;
}

ScaledFactor factor_scaled_triangle(const Exec& exec, MatrixView<const double> r) {
  const std::int64_t d = r.rows;
  ScaledFactor out;
  out.condition = kInfinity;
  for (const double norm : column_norms(exec, r)) {
    if (!(norm > 0) || !std::isfinite(norm)) return out;
    out.scale.push_back(1.0 / norm);
  }
  Array<double> scaled(exec, d, d);
  axpby<double, double>(exec, 1.0, r, 0.0, scaled.view());
  const Array<double> device = uploaded(exec, out.scale);
  scale_columns<double>(exec, device.data(), scaled.view());
  out.factor = lower_factor<double, double>(exec, scaled.view());
  Array<double> image(exec, d, 1);
  const double largest = power_norm(exec, d, kPowerSteps, [&](MatrixView<const double> x, MatrixView<double> y) {
    gemm<double>(exec, Trans::no, Trans::no, 1.0, scaled.view(), x, 0.0, image.view());
    gemm<double>(exec, Trans::yes, Trans::no, 1.0, scaled.view(), image.view(), 0.0, y);
  });
  out.condition = std::max(1.0, std::sqrt(largest) * inverse_norm(exec, out.factor, kPowerSteps));
  return out;
}

}  // namespace gramian::regression
