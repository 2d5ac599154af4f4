#include "regression/ridge_sketch.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"

namespace gramian::regression {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

Array<double> turned(const Exec& exec, MatrixView<const double> x) {
  Array<double> out(exec, x.cols, x.rows);
  transpose<double>(exec, x, out.view());
  return out;
}

// M M' of the Cholesky factor of the Gram matrix.
class PrimalInverse : public RidgeInverse {
 public:
  PrimalInverse(const Exec& exec, ScaledFactor factor)
      : exec_(exec), m_(exec, std::move(factor.scale), std::move(factor.factor)) {}

  void apply(MatrixView<const double> in, MatrixView<double> out) const override {
    const Array<double> columns = turned(exec_, in);
    Array<double> half(exec_, columns.rows(), columns.cols());
    m_.apply_transposed(columns.view(), half.view());
    m_.apply(half.view(), columns.view());
    transpose<double>(exec_, columns.view(), out);
  }

 private:
  const Exec& exec_;
  const Preconditioner m_;
};

// (I - Y'(Y Y' + ridge)^-1 Y) / ridge for Y = sqrt(scale) y.
class DualInverse : public RidgeInverse {
 public:
  DualInverse(const Exec& exec, MatrixView<const double> y, double scale, double ridge, SymmetricMatrix<double> factor)
      : exec_(exec), y_(y), scale_(scale), ridge_(ridge), factor_(std::move(factor)) {}

  void apply(MatrixView<const double> in, MatrixView<double> out) const override {
    Array<double> inner(exec_, y_.rows, in.rows);
    gemm<double>(exec_, Trans::no, Trans::yes, 1.0, y_, in, 0.0, inner.view());
    cholesky_solve_half<double>(exec_, Trans::no, factor_, inner.view());
    cholesky_solve_half<double>(exec_, Trans::yes, factor_, inner.view());
    axpby<double, double>(exec_, 1.0 / ridge_, in, 0.0, out);
    gemm<double>(exec_, Trans::yes, Trans::no, -scale_ / ridge_, inner.view(), y_, 1.0, out);
  }

 private:
  const Exec& exec_;
  const MatrixView<const double> y_;
  const double scale_, ridge_;
  const SymmetricMatrix<double> factor_;
};

// V'diag(1 / (v + ridge)) V, and 1 / ridge outside of the span of V; a ridge for each row.
class SpectralInverse : public RidgeInverse {
 public:
  SpectralInverse(const Exec& exec, const RidgeSpectrum& spectrum, const std::vector<double>& ridges)
      : exec_(exec), spectrum_(spectrum) {
    const auto p = static_cast<std::int64_t>(spectrum.values.size()), k = static_cast<std::int64_t>(ridges.size());
    std::vector<double> gains;
    for (const double ridge : ridges) {
      outside_.push_back(spectrum.complete ? 0.0 : 1.0 / ridge);
      for (const double value : spectrum.values) gains.push_back(1.0 / (value + ridge) - outside_.back());
    }
    gains_ = Array<double>(exec, k, p);
    if (p > 0) upload<double>(exec, {gains.data(), k, p}, gains_.view());
  }

  void apply(MatrixView<const double> in, MatrixView<double> out) const override {
    const MatrixView<double> v = spectrum_.vectors.view();
    const bool outside = !spectrum_.complete;
    if (outside) {
      axpby<double, double>(exec_, 1.0, in, 0.0, out);
      scale_rows<double>(exec_, outside_, out);
    }
    if (v.rows == 0) return;
    Array<double> inner(exec_, in.rows, v.rows);
    gemm<double>(exec_, Trans::no, Trans::yes, 1.0, in, v, 0.0, inner.view());
    for (std::int64_t j = 0; j < in.rows; ++j)
      scale_columns<double>(exec_, gains_.view().row(j), inner.view().block(j, 0, 1, v.rows));
    gemm<double>(exec_, Trans::no, Trans::no, 1.0, inner.view(), v, outside ? 1.0 : 0.0, out);
  }

 private:
  const Exec& exec_;
  const RidgeSpectrum& spectrum_;
  std::vector<double> outside_;
  Array<double> gains_;
};

}  // namespace

double RidgeSpectrum::raw_dimension(double ridge) const {
  double sum = 0;
  for (const double value : values) sum += value / (value + ridge);
  return sum;
}

double RidgeSpectrum::matching_ridge(double ridge) const {
  if (!std::isfinite(rows)) return ridge;
  // The largest fixed point from above; a sketch with too few rows has none above zero.
  double matching = ridge;
  for (int step = 0; step < 200; ++step) {
    const double next = ridge * std::max(1e-6, 1 - raw_dimension(matching) / rows);
    const bool settled = std::abs(next - matching) <= 1e-12 * ridge;
    matching = next;
    if (settled) break;
  }
  return matching;
}

double RidgeSpectrum::leverage_error(double ridge) const {
  if (!std::isfinite(rows)) return 0.0;
  return 5 * std::sqrt(2 / std::max(1.0, rows - effective_dimension(ridge) + 1));
}

RidgeSketch::RidgeSketch(const Exec& exec, const CentredRows& a, SketchDist dist)
    : exec_(exec), a_(a), dist_(std::move(dist)) {
  dist_.n_in = a.rows();
  dist_.generation = 0;
}

void RidgeSketch::grow(std::int64_t more) {
  const std::int64_t d = a_.cols(), before = rows_;
  // Each batch is a sketch of its own, with E[S'S] = I; together they count by their rows.
  const double weight = static_cast<double>(more);
  SketchDist dist = dist_;
  dist.n_out = more;
  dist.nnz = std::min(dist_.nnz, more);
  ++dist_.generation;
  const SketchOp op(dist);
  rows_ += more;
  ++readings_;
  scale_ = 1 / static_cast<double>(rows_);
  if (!dual()) {
    if (small_.size() != d || before < d) {
      small_ = SymmetricMatrix<double>(exec_, d);
      if (before > 0) gram_update<double>(exec_, 1.0, y_.view(), small_);
      y_ = Array<double>();
    }
    Array<double> part(exec_, more, d);
    a_.sketch(op, part.view());
    gram_update<double>(exec_, weight, part.view(), small_);
    return;
  }
  Array<double> joined(exec_, rows_, d);
  if (before > 0) axpby<double, double>(exec_, 1.0, y_.view(), 0.0, joined.view().block(0, 0, before, d));
  const MatrixView<double> fresh = joined.view().block(before, 0, more, d);
  Array<double> part(exec_, more, d);
  a_.sketch(op, part.view());
  axpby<double, double>(exec_, std::sqrt(weight), part.view(), 0.0, fresh);
  y_ = std::move(joined);
  small_ = SymmetricMatrix<double>(exec_, rows_);
  outer_gram_update(exec_, 1.0, y_.view(), small_);
}

void RidgeSketch::take_all() {
  const std::int64_t d = a_.cols();
  exact_ = true;
  rows_ = a_.rows();
  scale_ = 1;
  ++readings_;
  if (dual()) {
    y_ = Array<double>(exec_, rows_, d);
    a_.load(0, y_.view());
    small_ = SymmetricMatrix<double>(exec_, rows_);
    outer_gram_update(exec_, 1.0, y_.view(), small_);
    return;
  }
  y_ = Array<double>();
  small_ = SymmetricMatrix<double>(exec_, d);
  const std::int64_t edge = std::min(a_.block_rows(), rows_);
  GramUpdater<double> updater(exec_, small_, edge);
  Array<double> block(exec_, edge, d);
  for (std::int64_t begin = 0; begin < rows_; begin += edge) {
    exec_.poll();
    const MatrixView<double> part = block.view().block(0, 0, std::min(edge, rows_ - begin), d);
    a_.load(begin, part);
    updater.update(exec_, 1.0, part, small_);
  }
}

SymmetricMatrix<double> RidgeSketch::system(double ridge) const {
  SymmetricMatrix<double> out(exec_, small_.size());
  out.axpby<double>(exec_, scale_, small_, 0.0);
  if (ridge > 0) out.add_diagonal(exec_, ridge);
  return out;
}

double RidgeSketch::raw_dimension(double ridge) const {
  SymmetricMatrix<double> l = system(ridge);
  const auto p = static_cast<double>(l.size());
  if (cholesky(exec_, l) != 0) return p;
  return std::clamp(p - ridge * inverse_trace(exec_, l), 0.0, p);
}

double RidgeSketch::energy() const {
  std::vector<double> diagonal(at(small_.size()));
  small_.diagonal(exec_, diagonal.data());
  double sum = 0;
  for (const double value : diagonal) sum += value;
  return scale_ * sum;
}

std::unique_ptr<RidgeInverse> RidgeSketch::inverse(double ridge) const {
  if (dual()) {
    SymmetricMatrix<double> l = system(ridge);
    if (cholesky(exec_, l) != 0) return nullptr;
    return std::make_unique<DualInverse>(exec_, y_.view(), scale_, ridge, std::move(l));
  }
  ScaledFactor factor = factor_scaled(exec_, system(ridge));
  if (!std::isfinite(factor.condition)) return nullptr;
  return std::make_unique<PrimalInverse>(exec_, std::move(factor));
}

RidgeSpectrum RidgeSketch::spectrum() const {
  const std::int64_t d = a_.cols(), p = small_.size();
  RidgeSpectrum out;
  out.rows = exact_ ? std::numeric_limits<double>::infinity() : static_cast<double>(rows_);
  Array<double> vectors;
  symmetric_eigen(exec_, system(0.0), out.values, vectors);
  for (double& value : out.values) value = std::max(value, 0.0);
  if (!dual()) {
    out.complete = true;
    out.vectors = std::move(vectors);
    return out;
  }
  // Y = sqrt(scale) y has the right singular vectors diag(1 / sqrt(v)) Q Y; what is rounding has none.
  const double floor = 10 * kEps * static_cast<double>(p) * out.values.back();
  std::int64_t first = 0;
  while (first < p && out.values[at(first)] <= floor) ++first;
  out.values.erase(out.values.begin(), out.values.begin() + first);
  std::vector<double> lengths;
  for (const double value : out.values) lengths.push_back(1.0 / std::sqrt(value));
  out.vectors = Array<double>(exec_, p - first, d);
  if (first == p) return out;
  gemm<double>(exec_, Trans::no, Trans::no, std::sqrt(scale_), vectors.view().block(first, 0, p - first, p), y_.view(),
               0.0, out.vectors.view());
  scale_rows<double>(exec_, lengths, out.vectors.view());
  return out;
}

std::unique_ptr<RidgeInverse> RidgeSketch::inverse(const Exec& exec, const RidgeSpectrum& spectrum,
                                                   const std::vector<double>& ridges) {
  return std::make_unique<SpectralInverse>(exec, spectrum, ridges);
}

void ridge_leverages(const Exec& exec, const CentredRows& a, const RidgeSpectrum& spectrum,
                     const std::vector<double>& ridges, const std::vector<std::int64_t>* rows, MatrixView<double> out) {
  const std::int64_t d = a.cols(), p = spectrum.vectors.rows(), n = out.cols;
  const auto count = static_cast<std::int64_t>(ridges.size());
  // Column j of a block times steps[k][j] after steps[k - 1][j]: the roots of the gains at ridge k.
  Array<double> steps(exec, count, p);
  std::vector<double> matching, share, host(at(count * p));
  for (std::int64_t k = 0; k < count; ++k) {
    matching.push_back(spectrum.matching_ridge(ridges[at(k)]));
    share.push_back(matching.back() / ridges[at(k)]);
    for (std::int64_t j = 0; j < p; ++j) {
      const double value = spectrum.values[at(j)];
      host[at(k * p + j)] =
          std::sqrt(k == 0 ? 1 / (value + matching[0]) : (value + matching[at(k - 1)]) / (value + matching[at(k)]));
    }
  }
  if (p > 0) upload<double>(exec, {host.data(), count, p}, steps.view());
  const std::int64_t edge = std::min(a.block_rows(), std::max<std::int64_t>(1, n));
  Array<double> block(exec, edge, d), inside(exec, edge, p), sums(exec, edge);
  std::vector<double> outside(at(edge), 0.0), found(at(edge));
  for (std::int64_t begin = 0; begin < n; begin += edge) {
    exec.poll();
    const std::int64_t size = std::min(edge, n - begin);
    const MatrixView<double> x = block.view().block(0, 0, size, d), z = inside.view().block(0, 0, size, p);
    if (rows == nullptr) {
      a.load(begin, x);
    } else {
      a.load(std::vector<std::int64_t>(rows->begin() + begin, rows->begin() + begin + size), x);
    }
    const auto squares = [&](MatrixView<const double> of, std::vector<double>& to) {
      if (of.cols == 0) return std::fill(to.begin(), to.end(), 0.0);
      row_sumsq<double>(exec, of, sums.data());
      download<double>(exec, sums.view().block(0, 0, 1, size), {to.data(), 1, size});
    };
    if (p > 0) gemm<double>(exec, Trans::no, Trans::yes, 1.0, x, spectrum.vectors.view(), 0.0, z);
    if (!spectrum.complete) {
      squares(x, outside);
      squares(z, found);
      for (std::int64_t i = 0; i < size; ++i) outside[at(i)] = std::max(0.0, outside[at(i)] - found[at(i)]);
    }
    for (std::int64_t k = 0; k < count; ++k) {
      if (p > 0) scale_columns<double>(exec, steps.view().row(k), z);
      squares(z, found);
      for (std::int64_t i = 0; i < size; ++i)
        out(k, begin + i) = share[at(k)] * (found[at(i)] + outside[at(i)] / matching[at(k)]);
    }
  }
}

}  // namespace gramian::regression
