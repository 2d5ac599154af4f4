#include "gramian/regression/linf_lstsq.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/gram/r_factor.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/regression/lstsq.hpp"
#include "regression/preconditioner.h"
#include "regression/tall_operand.h"

namespace gramian {
namespace {

using regression::column_norms;
using regression::Preconditioner;
using regression::ScaledFactor;
using regression::TallOperand;

constexpr double kEps = std::numeric_limits<double>::epsilon();

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
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) +
                                b * std::log(y));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, y) / b;
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
      : exec_(exec), a_(a), b_(b), options_(options), n_(a.rows), d_(a.cols), k_(b.cols) {}

  LinfResult solve() {
    std::int64_t rows = wanted_rows();
    if (!why_exact_.empty()) return solve_exactly();
    operand_ = regression::rows_operand(exec_, a_, "A");
    right_ = Array<double>(exec_, n_, k_);
    load_rows<double>(exec_, b_, nullptr, nullptr, right_.view(), "b");
    for (int attempt = 0; attempt <= options_.redraws; ++attempt) {
      result_.n_rows = rows;
      result_.redraws = attempt;
      if (try_sketch(rows, attempt)) return std::move(result_);
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
    const std::int64_t rows =
        linf_rows(options_.rule, n_, d_, options_.eps, options_.delta / static_cast<double>(k_));
    result_.why = options_.rule == LinfRows::theorem ? "rows by the theorem" : "rows by the calibrated rule";
    if (rows >= n_) {
      why_exact_ = "the rule wants " + std::to_string(rows) + " rows and A has " + std::to_string(n_);
    } else if (static_cast<double>(n_) < 4 * static_cast<double>(d_) / (options_.eps * options_.eps)) {
      why_exact_ = "a sketch of " + std::to_string(rows) + " rows of " + std::to_string(n_) + " does not pay";
    }
    return rows;
  }

  // False where the sketch has lost rank.
  bool try_sketch(std::int64_t rows, int attempt) {
    SketchDist dist;
    dist.kind = options_.family;
    dist.n_out = rows;
    dist.n_in = n_;
    dist.seed = options_.seed;
    dist.permute = options_.permute;
    dist.nnz = std::min(options_.nnz, rows);
    dist.generation = static_cast<std::uint32_t>(attempt);
    const SketchOp op(dist);
    Array<double> both(exec_, rows, d_ + k_), r(exec_, d_ + k_, d_ + k_);
    operand_->sketch(op, both.view().block(0, 0, rows, d_));
    op.apply<double>(exec_, b_, both.view().block(0, d_, rows, k_));
    qr_factor_r<double>(exec_, both.view(), r.view());
    const MatrixView<const double> r11 = r.view().block(0, 0, d_, d_);
    ScaledFactor scaled = regression::factor_scaled_triangle(exec_, r11);
    if (scaled.scale.empty()) return false;
    // The estimate may be low by some factor; what is in doubt is decided by the singular values.
    if (!(10 * scaled.condition * options_.rtol < 1) && !has_full_rank(r11, scaled.scale)) return false;
    Array<double> x(exec_, d_, k_);
    axpby<double, double>(exec_, 1.0, r.view().block(0, d_, d_, k_), 0.0, x.view());
    cholesky_solve_half<double>(exec_, Trans::yes, scaled.factor, x.view());
    scale_rows<double>(exec_, scaled.scale, x.view());
    const Preconditioner m(exec_, std::move(scaled.scale), std::move(scaled.factor));
    // A dense sketch of m rows keeps all lengths in the column space to 1 +- sqrt(d / m); a quarter more is never seen.
    const double distortion = 1.25 * std::sqrt(static_cast<double>(d_) / static_cast<double>(rows));
    certify(m, x.view(), distortion);
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

  // x* - x' = (A'A)^-1 g with g = A'(b - A x'), and M M' g is the same but for the distortion of M: its size bounds
  // what is left, coordinate by coordinate, by the rows of M.
  void certify(const Preconditioner& m, MatrixView<const double> x, double distortion) {
    Array<double> rest(exec_, n_, k_), g(exec_, d_, k_), c(exec_, d_, k_), correction(exec_, d_, k_);
    operand_->sweep(x, right_.view(), rest.view(), g.view());
    m.apply_transposed(g.view(), c.view());
    m.apply(c.view(), correction.view());
    const std::vector<double> sizes = column_norms(exec_, c.view());
    const std::vector<double> lengths = row_lengths(m);
    std::vector<double> corrections(at(d_ * k_));
    download<double>(exec_, correction.view(), {corrections.data(), d_, k_});
    const double left = (1 + distortion) * (1 + distortion) - 1;
    result_.bounds.resize(at(d_ * k_));
    for (std::int64_t i = 0; i < d_; ++i)
      for (std::int64_t j = 0; j < k_; ++j)
        result_.bounds[at(i * k_ + j)] = std::abs(corrections[at(i * k_ + j)]) + left * lengths[at(i)] * sizes[at(j)];
    take(x, rest.view());
  }

  // |e_i' M|, the square roots of the diagonal of nearly (A'A)^-1.
  std::vector<double> row_lengths(const Preconditioner& m) {
    std::vector<double> identity(at(d_ * d_), 0.0), squares(at(d_));
    for (std::int64_t j = 0; j < d_; ++j) identity[at(j * d_ + j)] = 1.0;
    Array<double> unit(exec_, d_, d_), sums(exec_, d_);
    dense_ = Array<double>(exec_, d_, d_);
    upload<double>(exec_, {identity.data(), d_, d_}, unit.view());
    m.apply(unit.view(), dense_.view());
    row_sumsq<double>(exec_, dense_.view(), sums.data());
    download<double>(exec_, sums.view(), {squares.data(), 1, d_});
    for (double& value : squares) value = std::sqrt(value);
    return squares;
  }

  void take(MatrixView<const double> x, MatrixView<const double> rest) {
    result_.x.resize(at(d_ * k_));
    download<double>(exec_, x, {result_.x.data(), d_, k_});
    result_.residual_norms = column_norms(exec_, rest);
    // |A^+| is nearly |M|.
    Array<double> u(exec_, d_, d_), vt(exec_, d_, d_);
    std::vector<double> s;
    small_svd<double>(exec_, dense_.view(), u.view(), s, vt.view());
    for (const double norm : result_.residual_norms)
      result_.targets.push_back(options_.eps / std::sqrt(static_cast<double>(d_)) * norm * s.front());
  }

  LinfResult solve_exactly() {
    LstsqResult solution = lstsq(exec_, a_, b_, LstsqOptions());
    LinfResult out;
    out.exact = true;
    out.redraws = result_.redraws;
    out.x = std::move(solution.x);
    out.residual_norms = std::move(solution.residual_norms);
    out.rank = solution.rank;
    out.why = "solved without a sketch: " + why_exact_;
    // First-order bounds of the error of a solution that is exact for a matrix within some eps of A.
    RFactor factor(exec_, d_, 0);
    factor.add(a_, RowsView(), nullptr, "A");
    Array<double> r(exec_, d_, d_), u(exec_, d_, d_), vt(exec_, d_, d_);
    std::vector<double> host(at(d_ * d_)), s, v(at(d_ * d_));
    factor.triangle({host.data(), d_, d_});
    upload<double>(exec_, {host.data(), d_, d_}, r.view());
    small_svd<double>(exec_, r.view(), u.view(), s, vt.view());
    download<double>(exec_, vt.view(), {v.data(), d_, d_});
    const double largest = s.front(), smallest = out.rank > 0 ? s[at(out.rank - 1)] : 1.0;
    const double unit = 8 * kEps * std::sqrt(static_cast<double>(d_));
    out.bounds.assign(at(d_ * k_), 0.0);
    for (std::int64_t j = 0; j < k_; ++j) {
      double size = 0;
      for (std::int64_t i = 0; i < d_; ++i) size = std::hypot(size, out.x[at(i * k_ + j)]);
      const double change = unit * (largest * size + out.residual_norms[at(j)] * (1 + largest / smallest));
      for (std::int64_t i = 0; i < d_ && largest > 0; ++i) {
        double length = 0;
        for (std::int64_t t = 0; t < out.rank; ++t) length = std::hypot(length, v[at(t * d_ + i)] / s[at(t)]);
        out.bounds[at(i * k_ + j)] = length * change;
      }
      out.targets.push_back(options_.eps / std::sqrt(static_cast<double>(d_)) * out.residual_norms[at(j)] / smallest);
    }
    return out;
  }

  const Exec& exec_;
  const RowsView& a_;
  const RowsView& b_;
  const LinfOptions& options_;
  const std::int64_t n_, d_, k_;
  std::unique_ptr<TallOperand> operand_;
  Array<double> right_, dense_;
  std::string why_exact_;
  LinfResult result_;
};

}  // namespace

double student_t_tail(double t, double freedom) {
  GRAMIAN_REQUIRE(t >= 0 && freedom > 0, invalid_argument, "student_t_tail: t must be at least 0, freedom above 0");
  const double square = t * t;
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
