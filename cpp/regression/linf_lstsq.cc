#include "gramian/regression/linf_lstsq.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/gram/r_factor.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/regression/lstsq.hpp"
#include "gramian/sketch/operator.hpp"
#include "linalg/binary_scale.h"
#include "regression/preconditioner.h"
#include "regression/tall_operand.h"
#include "sketch/distortion.h"

namespace gramian {
namespace {

using linalg::column_maxima;
using linalg::exponents_of;
using linalg::is_safe;
using linalg::largest_of;
using linalg::ScaledRows;
using regression::column_norms;
using regression::Preconditioner;
using regression::ScaledFactor;
using regression::TallOperand;
using sketching::distortion_of;

constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

// The continued fraction of the incomplete beta function, by Lentz's method.
double beta_fraction(double a, double b, double x) {
  constexpr double tiny = 1e-300;
  const auto kept = [](double value) { return std::abs(value) < tiny ? tiny : value; };
  double c = 1, d = 1 / kept(1 - (a + b) * x / (a + 1)), fraction = d;
  for (int m = 1; m < 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / kept(1 + even * d);
    c = kept(1 + even / c);
    fraction *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / kept(1 + odd * d);
    c = kept(1 + odd / c);
    const double change = d * c;
    fraction *= change;
    if (std::abs(change - 1) < 4 * kEps) break;
  }
  return fraction;
}

// The regularised incomplete beta function I_x(a, b); y = 1 - x is passed along, for it may be known more exactly.
double incomplete_beta(double a, double b, double x, double y) {
  if (x <= 0) return 0;
  if (y <= 0) return 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log(y));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, y) / b;
}

// Of the integral of exp(-a w) (1 - exp(-w))^(-1/2) from w on, a = freedom / 2, as a share of that from 0 on. With
// 1 - exp(-w) = 2 exp(-w / 2) sinh(w / 2) the second factor is w^(-1/2) exp(w / 4) times an even series, which makes
// incomplete gamma functions of orders 1/2 + 2 k. For freedom >= 1000 and w <= 1/4 what the series leaves out is below
// 1e-11 of the result.
double tail_of_many(double freedom, double w) {
  // sqrt(u / sinh u) in powers of u^2.
  constexpr double series[] = {1.0, -1.0 / 12, 1.0 / 160, -61.0 / 120960};
  const double rate = freedom / 2 - 0.25, z = rate * w;
  // Gamma(s, z) and Gamma(s) for s = 1/2, 3/2, ...
  double upper = std::sqrt(std::acos(-1.0)) * std::erfc(std::sqrt(z)), whole = std::sqrt(std::acos(-1.0));
  double power = std::sqrt(z) * std::exp(-z);  // z^s exp(-z)
  double above = 0, all = 0, order = 0.5, scale = 1;
  for (const double coefficient : series) {
    above += coefficient * scale * upper;
    all += coefficient * scale * whole;
    for (int step = 0; step < 2; ++step) {
      upper = order * upper + power;
      whole *= order;
      power *= z;
      order += 1;
    }
    scale /= 4 * rate * rate;  // u = w / 2
  }
  return above / all;
}

// --- the certificate -----------------------------------------------------------------------------------------------

// Sketches whose distortion is that of a Gaussian one, or less, whatever A is.
bool is_dense(const LinfOptions& options) {
  switch (options.family) {
    case SketchKind::gaussian:
    case SketchKind::rademacher:
    case SketchKind::hdhd:
      return true;
    case SketchKind::srht:
      return options.permute;
    default:
      return false;
  }
}

void check(const RowsView& a, const RowsView& b, const LinfOptions& options) {
  GRAMIAN_REQUIRE(a.rows >= 1 && a.cols >= 1 && a.rows >= a.cols, invalid_argument,
                  "A must have at least one column and as many rows as columns, it is " + std::to_string(a.rows) +
                      " x " + std::to_string(a.cols));
  GRAMIAN_REQUIRE(b.rows == a.rows && b.cols >= 1, shape_mismatch,
                  "b must have " + std::to_string(a.rows) + " rows, as A has, and at least one column; it is " +
                      std::to_string(b.rows) + " x " + std::to_string(b.cols));
  GRAMIAN_REQUIRE(options.n_rows == 0 || options.n_rows >= a.cols, invalid_argument,
                  "rows must be at least the number of columns, " + std::to_string(a.cols) + ", got " +
                      std::to_string(options.n_rows));
}

class Solver {
 public:
  Solver(const Exec& exec, const RowsView& a, const RowsView& b, const LinfOptions& options)
      : exec_(exec),
        given_(a),
        options_(options),
        n_(a.rows),
        d_(a.cols),
        k_(b.cols),
        a_(a),
        b_(exec, b, exponents_of(column_maxima(exec, b, "b")), "b") {}

  LinfResult solve() {
    std::int64_t rows = wanted_rows();
    if (!why_exact_.empty()) return solve_exactly();
    operand_ = regression::rows_operand(exec_, a_.view(), "A");
    right_ = Array<double>(exec_, n_, k_);
    load_rows<double>(exec_, b_.view(), nullptr, nullptr, right_.view(), "b");
    for (int attempt = 0; attempt <= options_.redraws; ++attempt) {
      result_.n_rows = rows;
      result_.redraws = attempt;
      if (try_sketch(rows, attempt)) return finish();
      if (2 * rows >= n_) break;
      rows *= 2;
    }
    why_exact_ = "the sketch of A was rank-deficient " + std::to_string(result_.redraws + 1) + " times";
    return solve_exactly();
  }

 private:
  std::int64_t wanted_rows() {
    if (options_.n_rows > 0) {
      result_.why = "as many rows as asked for";
      if (options_.n_rows >= n_) {
        why_exact_ = "a sketch of " + std::to_string(options_.n_rows) + " rows is no smaller than A";
      }
      return options_.n_rows;
    }
    const std::int64_t rows = linf_rows(options_.rule, n_, d_, options_.eps, options_.delta / static_cast<double>(k_));
    result_.why = options_.rule == LinfRows::theorem ? "rows by the theorem" : "rows by the calibrated rule";
    if (rows >= n_) {
      why_exact_ = "the rule wants " + std::to_string(rows) + " rows and A has " + std::to_string(n_);
    } else if (static_cast<double>(n_) < 4 * static_cast<double>(d_) / (options_.eps * options_.eps)) {
      why_exact_ = "a sketch of " + std::to_string(rows) + " rows of " + std::to_string(n_) + " does not pay";
    }
    return rows;
  }

  SketchOp drawn(SketchKind family, bool permute, std::int64_t rows, int generation) const {
    SketchDist dist;
    dist.kind = family;
    dist.n_out = rows;
    dist.n_in = n_;
    dist.seed = options_.seed;
    dist.permute = permute;
    dist.nnz = std::min(options_.nnz, rows);
    dist.generation = static_cast<std::uint32_t>(generation);
    return SketchOp(dist);
  }

  // False where the result is no matrix whose columns can be squared.
  bool sketch_fits(const SketchOp& op, MatrixView<double> out) {
    try {
      operand_->sketch(op, out);
    } catch (const Error& error) {
      // Sums may be too large where no value is.
      if (error.code() != ErrorCode::non_finite || measured_) throw;
      regression::require_finite(exec_, given_, "A");
      return false;
    }
    if (measured_) return true;
    const std::vector<double> peaks = column_maxima(exec_, out);
    return std::isfinite(largest_of(peaks)) && is_safe(exponents_of(peaks)) &&
           *std::min_element(peaks.begin(), peaks.end()) > 0;
  }

  // out = S A, of the columns divided by powers of two where their squares would leave the range of double.
  void sketch_columns(const SketchOp& op, MatrixView<double> out) {
    if (sketch_fits(op, out)) return;
    measured_ = true;
    std::vector<int> exponents = exponents_of(column_maxima(exec_, given_, "A"));
    if (is_safe(exponents)) return;
    operand_.reset();
    a_ = ScaledRows(exec_, given_, std::move(exponents), "A");
    operand_ = regression::rows_operand(exec_, a_.view(), "A");
    operand_->sketch(op, out);
  }

  // M with S A M orthonormal for R of S A, or an empty one where the sketch has lost rank.
  ScaledFactor factor_of(MatrixView<const double> r) {
    ScaledFactor scaled = regression::factor_scaled_triangle(exec_, r);
    // The estimate may be low by some factor; what is in doubt is decided by the singular values.
    const bool certain = 10 * scaled.condition * options_.rtol < 1;
    if (!scaled.scale.empty() && !certain && !has_full_rank(r, scaled.scale)) scaled.scale.clear();
    return scaled;
  }

  // False where the sketch has lost rank.
  bool try_sketch(std::int64_t rows, int attempt) {
    const SketchOp op = drawn(options_.family, options_.permute, rows, attempt);
    Array<double> both(exec_, rows, d_ + k_), r(exec_, d_ + k_, d_ + k_);
    sketch_columns(op, both.view().block(0, 0, rows, d_));
    op.apply<double>(exec_, b_.view(), both.view().block(0, d_, rows, k_));
    qr_factor_r<double>(exec_, both.view(), r.view());
    const MatrixView<const double> r11 = r.view().block(0, 0, d_, d_);
    ScaledFactor scaled = factor_of(r11);
    if (scaled.scale.empty()) return false;
    Array<double> x(exec_, d_, k_);
    axpby<double, double>(exec_, 1.0, r.view().block(0, d_, d_, k_), 0.0, x.view());
    cholesky_solve_half<double>(exec_, Trans::yes, scaled.factor, x.view());
    scale_rows<double>(exec_, scaled.scale, x.view());
    if (!is_dense(options_)) {
      // The distortion of a sparse sketch depends on A: what certifies its solution is a dense one.
      Array<double> second(exec_, rows, d_), triangle(exec_, d_, d_);
      sketch_columns(drawn(SketchKind::srht, true, rows, attempt), second.view());
      qr_factor_r<double>(exec_, second.view(), triangle.view());
      scaled = factor_of(triangle.view());
      if (scaled.scale.empty()) return false;
    }
    certify(std::move(scaled), x.view(), distortion_of(rows, d_));
    result_.rank = d_;
    return true;
  }

  bool has_full_rank(MatrixView<const double> r, const std::vector<double>& scale) {
    Array<double> copy(exec_, d_, d_), device(exec_, d_), u(exec_, d_, d_), vt(exec_, d_, d_);
    axpby<double, double>(exec_, 1.0, r, 0.0, copy.view());
    upload<double>(exec_, {scale.data(), 1, d_}, device.view());
    scale_columns<double>(exec_, device.data(), copy.view());
    std::vector<double> s;
    small_svd<double>(exec_, copy.view(), u.view(), s, vt.view());
    return s.back() > options_.rtol * s.front();
  }

  // x* - x' = (A'A)^-1 g with g = A'(b - A x'), and M M'g is the same but for the distortion of the sketch: with B the
  // inverse of M'A'A M it is M B M'g, and the eigenvalues of B are within `distortion` of 1. What M misses is so
  // bounded by the rows of M, coordinate by coordinate, and so is what rounding adds:
  //   in b - A x'  (d + 2) eps (|b| + sum_j |a_j| |x_j|), through the rows of A^+, which are those of M within the root
  //                of the eigenvalues of B
  //   in A'r       8 sqrt(n) eps |a_j| |r| in coordinate j (sums in many parts), through M B M'
  //   in M         a few sqrt(d) eps of its columns, times the condition
  void certify(ScaledFactor scaled, MatrixView<const double> x, double distortion) {
    std::vector<double> norms;  // |a_j|, nearly
    for (const double scale : scaled.scale) norms.push_back(1 / scale);
    const double width = std::sqrt(static_cast<double>(d_)), blur = 32 * width * kEps * scaled.condition;
    const Preconditioner m(exec_, std::move(scaled.scale), std::move(scaled.factor));
    Array<double> rest(exec_, n_, k_), g(exec_, d_, k_), c(exec_, d_, k_), correction(exec_, d_, k_);
    operand_->sweep(x, right_.view(), rest.view(), g.view());
    m.apply_transposed(g.view(), c.view());
    m.apply(c.view(), correction.view());
    const std::vector<double> sizes = column_norms(exec_, c.view()), sides = column_norms(exec_, right_.view());
    result_.residual_norms = column_norms(exec_, rest.view());
    std::vector<double> corrections(at(d_ * k_));
    download<double>(exec_, correction.view(), {corrections.data(), d_, k_});
    result_.x.resize(at(d_ * k_));
    download<double>(exec_, x, {result_.x.data(), d_, k_});
    take_rows_of(m);
    double spread = 0;  // | |M|' (|a_1|, ..) |
    for (std::int64_t t = 0; t < d_; ++t) {
      double sum = 0;
      for (std::int64_t i = 0; i < d_; ++i) sum += std::abs(m_[at(i * d_ + t)]) * norms[at(i)];
      spread = std::hypot(spread, sum);
    }
    const double most = 1 + distortion;  // of the eigenvalues of B
    result_.bounds.resize(at(d_ * k_));
    for (std::int64_t j = 0; j < k_; ++j) {
      double terms = sides[at(j)];
      for (std::int64_t i = 0; i < d_; ++i) terms += norms[at(i)] * std::abs(result_.x[at(i * k_ + j)]);
      const double in_residual = static_cast<double>(d_ + 2) * kEps * terms * std::sqrt(most);
      const double in_gradient =
          8 * std::sqrt(static_cast<double>(n_)) * kEps * spread * result_.residual_norms[at(j)] * most;
      const double missed = (distortion + 3 * blur) * sizes[at(j)] + in_residual + in_gradient;
      for (std::int64_t i = 0; i < d_; ++i) {
        const double bound = (1 + blur) * std::abs(corrections[at(i * k_ + j)]) + lengths_[at(i)] * missed;
        result_.bounds[at(i * k_ + j)] = blur < 0.5 ? bound : kInfinity;
      }
    }
  }

  // M, and |e_i'M|: the square roots of the diagonal of nearly (A'A)^-1.
  void take_rows_of(const Preconditioner& m) {
    std::vector<double> identity(at(d_ * d_), 0.0);
    for (std::int64_t j = 0; j < d_; ++j) identity[at(j * d_ + j)] = 1.0;
    Array<double> unit(exec_, d_, d_), product(exec_, d_, d_);
    upload<double>(exec_, {identity.data(), d_, d_}, unit.view());
    m.apply(unit.view(), product.view());
    m_.resize(at(d_ * d_));
    download<double>(exec_, product.view(), {m_.data(), d_, d_});
    for (std::int64_t i = 0; i < d_; ++i) {
      double length = 0;
      for (std::int64_t t = 0; t < d_; ++t) length = std::hypot(length, m_[at(i * d_ + t)]);
      lengths_.push_back(length);
    }
  }

  // Back to the scale of A and b; |A^+| is nearly |M|.
  LinfResult finish() {
    if (result_.redraws > 0) {
      result_.why += ", " + std::to_string(result_.n_rows >> result_.redraws) + ", doubled " +
                     std::to_string(result_.redraws) + (result_.redraws == 1 ? " time" : " times") +
                     " because the sketch of A was rank-deficient";
    }
    const int least = *std::min_element(a_.exponents().begin(), a_.exponents().end());
    for (std::int64_t i = 0; i < d_; ++i)
      for (std::int64_t t = 0; t < d_; ++t) m_[at(i * d_ + t)] = std::ldexp(m_[at(i * d_ + t)], least - a_.exponent(i));
    Array<double> rows(exec_, d_, d_), u(exec_, d_, d_), vt(exec_, d_, d_);
    upload<double>(exec_, {m_.data(), d_, d_}, rows.view());
    std::vector<double> s;
    small_svd<double>(exec_, rows.view(), u.view(), s, vt.view());
    result_.targets.assign(at(k_), s.front());
    return rescaled(std::move(result_), least);
  }

  // From the scale of a_ and b_ to that of A and b; targets are |A^+| in units of 2^-exponent of A.
  LinfResult rescaled(LinfResult out, int exponent) const {
    for (std::int64_t j = 0; j < k_; ++j) {
      out.targets[at(j)] =
          std::ldexp(options_.eps / std::sqrt(static_cast<double>(d_)) * out.residual_norms[at(j)] * out.targets[at(j)],
                     b_.exponent(j) - exponent);
      out.residual_norms[at(j)] = std::ldexp(out.residual_norms[at(j)], b_.exponent(j));
      for (std::int64_t i = 0; i < d_; ++i) {
        const int power = b_.exponent(j) - a_.exponent(i);
        double &x = out.x[at(i * k_ + j)], &bound = out.bounds[at(i * k_ + j)];
        x = std::ldexp(x, power);
        GRAMIAN_REQUIRE(std::isfinite(x), invalid_argument, "the solution is too large for double precision");
        // A product that is subnormal was rounded.
        bound = std::ldexp(bound, power);
        if (power != 0) bound = std::nextafter(bound, kInfinity);
      }
    }
    return out;
  }

  LinfResult solve_exactly() {
    // By one power of two for all columns: the rank is that of A.
    const std::vector<int> peaks = exponents_of(column_maxima(exec_, given_, "A"));
    const std::vector<int> common(at(d_), *std::max_element(peaks.begin(), peaks.end()));
    operand_.reset();
    a_ = ScaledRows(exec_, given_, common, "A");
    LstsqResult solution = lstsq(exec_, a_.view(), b_.view(), LstsqOptions());
    LinfResult out;
    out.exact = true;
    out.redraws = result_.redraws;
    out.x = std::move(solution.x);
    out.residual_norms = std::move(solution.residual_norms);
    out.rank = solution.rank;
    out.why = "solved without a sketch: " + why_exact_;
    // First-order bounds of the error of a solution that is exact for a matrix within some eps of A.
    RFactor factor(exec_, d_, 0);
    factor.add(a_.view(), RowsView(), nullptr, "A");
    Array<double> r(exec_, d_, d_), u(exec_, d_, d_), vt(exec_, d_, d_);
    std::vector<double> host(at(d_ * d_)), s, v(at(d_ * d_));
    factor.triangle({host.data(), d_, d_});
    upload<double>(exec_, {host.data(), d_, d_}, r.view());
    small_svd<double>(exec_, r.view(), u.view(), s, vt.view());
    download<double>(exec_, vt.view(), {v.data(), d_, d_});
    const double largest = s.front(), smallest = out.rank > 0 ? s[at(out.rank - 1)] : 1.0;
    out.targets.assign(at(k_), 1 / smallest);
    out.bounds.assign(at(d_ * k_), kInfinity);
    for (std::int64_t j = 0; j < k_; ++j) {
      const double unit = 8 * kEps * std::sqrt(static_cast<double>(d_)) + 2 * solution.backward_errors[at(j)];
      // Where the rank is below d, a change of A within rounding changes the solution by any amount; and so it does
      // where such a change can bring it there.
      const double changed = unit * largest / smallest;
      if (out.rank < d_ || !(changed < 0.5)) continue;
      double size = 0;
      for (std::int64_t i = 0; i < d_; ++i) size = std::hypot(size, out.x[at(i * k_ + j)]);
      const double change = unit / (1 - changed) *
                            (largest * size + out.residual_norms[at(j)] * (1 + largest / smallest / (1 - changed)));
      for (std::int64_t i = 0; i < d_; ++i) {
        double length = 0;
        for (std::int64_t t = 0; t < d_; ++t) length = std::hypot(length, v[at(t * d_ + i)] / s[at(t)]);
        out.bounds[at(i * k_ + j)] = length * change;
      }
    }
    return rescaled(std::move(out), a_.exponent(0));
  }

  const Exec& exec_;
  const RowsView& given_;
  const LinfOptions& options_;
  const std::int64_t n_, d_, k_;
  ScaledRows a_, b_;
  bool measured_ = false;  // whether the largest values of A itself are known
  std::unique_ptr<TallOperand> operand_;
  Array<double> right_;
  std::vector<double> m_, lengths_;  // M by rows, and their lengths
  std::string why_exact_;
  LinfResult result_;
};

}  // namespace

double student_t_tail(double t, double freedom) {
  GRAMIAN_REQUIRE(t >= 0 && freedom > 0, invalid_argument, "student_t_tail: t must be at least 0, freedom above 0");
  const double square = t * t, w = std::log1p(square / freedom);
  if (freedom >= 1000 && w <= 0.25) return 0.5 * tail_of_many(freedom, w);
  return 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + square), square / (freedom + square));
}

std::int64_t linf_rows(LinfRows rule, std::int64_t n, std::int64_t d, double eps, double delta) {
  GRAMIAN_REQUIRE(n >= 1 && d >= 1, invalid_argument, "linf_rows: the sizes must be at least 1");
  GRAMIAN_REQUIRE(eps > 0 && eps < 1, invalid_argument, "eps must lie between 0 and 1, got " + std::to_string(eps));
  GRAMIAN_REQUIRE(delta > 0 && delta < 1, invalid_argument,
                  "delta must lie between 0 and 1, got " + std::to_string(delta));
  const auto width = static_cast<double>(d);
  constexpr double most = 4e18;
  if (rule == LinfRows::theorem) {
    const double logarithm = std::log(static_cast<double>(n) / delta);
    return static_cast<std::int64_t>(std::min(most, std::ceil(width / (eps * eps) * std::pow(logarithm, 3))));
  }
  // The least m with 2 d P(t_(m - d + 1) > eps sqrt((m - d + 1) / d)) <= delta: the tail falls with m.
  const auto enough = [&](std::int64_t freedom) {
    const auto nu = static_cast<double>(freedom);
    return 2 * width * student_t_tail(eps * std::sqrt(nu / width), nu) <= delta;
  };
  std::int64_t high = 1;
  while (!enough(high)) {
    if (high > std::int64_t{1} << 60) return static_cast<std::int64_t>(most);
    high *= 2;
  }
  std::int64_t low = high / 2;  // not enough, or 0
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (enough(middle) ? high : low) = middle;
  }
  return high + d - 1;
}

LinfResult linf_lstsq(const Exec& exec, const RowsView& a, const RowsView& b, const LinfOptions& options) {
  check(a, b, options);
  try {
    return Solver(exec, a, b, options).solve();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::non_finite) regression::require_finite(exec, a, "A");
    throw;
  }
}

}  // namespace gramian
