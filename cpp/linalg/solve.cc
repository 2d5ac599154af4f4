#include "gramian/linalg/solve.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>
#include <vector>

#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "linalg/binary_scale.h"
#include "linalg/call.h"

namespace gramian {

using namespace linalg;

namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr std::int64_t kMixedFrom = 2048;  // smaller systems factor in double faster than they refine
constexpr int kSweeps = 6;                 // of refinement, before the double factor takes over
constexpr double kConverged = 1e-15;       // scaled backward residual at which refinement stops
constexpr double kTrustedShare = 1e-2;     // of 1 / eps: a condition beyond it takes the trust in a factor

// The root of a sum of squares that may itself lie outside the range of double.
class ScaledNorm {
 public:
  void add(double value, double times) {
    const double size = std::abs(value);
    if (size == 0) return;
    if (!std::isfinite(size)) {
      finite_ = false;
    } else if (size > largest_) {
      sum_ = sum_ * (largest_ / size) * (largest_ / size) + times;
      largest_ = size;
    } else {
      sum_ += times * (size / largest_) * (size / largest_);
    }
  }
  // Infinite where a value is; what is only too long for a double is the largest one.
  double value() const {
    if (!finite_) return std::numeric_limits<double>::infinity();
    return std::min(largest_ * std::sqrt(sum_), std::numeric_limits<double>::max());
  }

 private:
  double largest_ = 0;
  double sum_ = 0;  // of the squares over that of the largest
  bool finite_ = true;
};

// Has no square in this sum overflowed or lost digits below the range of double?
bool in_range(double sum_of_squares) {
  return sum_of_squares > 1e-280 && sum_of_squares <= std::numeric_limits<double>::max();
}

double frobenius(const Exec& exec, MatrixView<const double> x) {
  if (x.empty()) return 0;
  const double total = sum_of_squares<double>(exec, x);
  if (in_range(total)) return std::sqrt(total);
  ScaledNorm norm;
  std::vector<double> host(static_cast<std::size_t>(x.rows * x.cols));
  download<double>(exec, x, {host.data(), x.rows, x.cols});
  for (const double value : host) norm.add(value, 1);
  return norm.value();
}

// The same entry by entry on the host, those below the diagonal twice.
template <class T>
double scaled_frobenius(const Exec& exec, const SymmetricMatrix<T>& a) {
  ScaledNorm norm;
  std::vector<T> host(static_cast<std::size_t>(a.tile_edge() * a.tile_edge()));
  for (std::int64_t i = 0; i < a.tiles(); ++i) {
    exec.poll();
    for (std::int64_t j = 0; j <= i; ++j) {
      const MatrixView<T> t = a.tile(i, j);
      const MatrixView<T> copy(host.data(), t.rows, t.cols);
      download<T>(exec, t, copy);
      for (std::int64_t r = 0; r < t.rows; ++r)
        for (std::int64_t c = 0; c < (i == j ? r + 1 : t.cols); ++c)
          norm.add(static_cast<double>(copy(r, c)), i == j && c == r ? 1 : 2);
    }
  }
  return norm.value();
}

template <class T>
double frobenius(const Exec& exec, const SymmetricMatrix<T>& a) {
  double total = 0;
  std::vector<double> host(static_cast<std::size_t>(a.tile_edge()));
  Array<double> sums(exec, a.tile_edge());
  for (std::int64_t i = 0; i < a.tiles(); ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      const MatrixView<T> t = a.tile(i, j);
      // The upper triangle of a diagonal tile is free for use: with the mirror image in it, it counts like the others.
      if (i == j) GRAMIAN_CALL(exec, symmetrize, code_of<T>(), t.rows, static_cast<void*>(t.data), t.stride);
      GRAMIAN_CALL(exec, row_sumsq, code_of<T>(), t.rows, t.cols, static_cast<const void*>(t.data), t.stride,
                   sums.data());
      download<double>(exec, {sums.data(), 1, t.rows}, {host.data(), 1, t.rows});
      for (std::int64_t r = 0; r < t.rows; ++r) total += (i == j ? 1.0 : 2.0) * host[static_cast<std::size_t>(r)];
    }
  }
  return in_range(total) ? std::sqrt(total) : scaled_frobenius(exec, a);
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", value);
  return text;
}

// D A D. The accuracy of a Cholesky factor and of an eigen-decomposition follows the condition of the matrix whose
// columns have one size, not of one where a feature is in seconds and another one a flag.
class ScaledOperator final : public SpdOperator {
 public:
  ScaledOperator(const SpdOperator& a, const std::vector<double>& scale) : a_(a), scale_(scale) {}
  std::int64_t size() const override { return a_.size(); }
  void build(const Exec& exec, SymmetricMatrix<double>& a) const override {
    a_.build(exec, a);
    a.scale(exec, scale_);
  }
  void build(const Exec& exec, SymmetricMatrix<float>& a) const override {
    a_.build(exec, a);
    a.scale(exec, scale_);
  }
  void apply(const Exec& exec, MatrixView<const double> w, MatrixView<double> out) const override {
    const Array<double> scaled(exec, w.rows, w.cols);
    axpby<double, double>(exec, 1.0, w, 0.0, scaled.view());
    scale_rows(exec, scale_, scaled.view());
    a_.apply(exec, scaled.view(), out);
    scale_rows(exec, scale_, out);
  }

 private:
  const SpdOperator& a_;
  const std::vector<double>& scale_;
};

// Powers of two that bring a positive diagonal near 1 where its entries differ widely; nothing where they do not, or
// where one is not positive.
std::vector<double> scale_of(const Exec& exec, const SymmetricMatrix<double>& a) {
  std::vector<double> out(static_cast<std::size_t>(a.size()));
  a.diagonal(exec, out.data());
  const auto [least, most] = std::minmax_element(out.begin(), out.end());
  if (out.empty() || !(*least > 0) || !std::isfinite(*most) || *most <= kUnlikeSquares * *least) return {};
  for (double& value : out) value = std::ldexp(1.0, -exponent_of(std::sqrt(value)));
  return out;
}

// One system on its way through the ladder.
class Ladder {
 public:
  Ladder(const Exec& exec, const SpdOperator& a, MatrixView<const double> b, MatrixView<double> w,
         bool require_full_rank, const RankRule& rule)
      : exec_(exec),
        a_(a),
        b_(b),
        w_(w),
        require_full_rank_(require_full_rank),
        rule_(rule),
        condition_limit_(kTrustedShare / (require_full_rank ? std::max(kEps, rule.unit) : kEps)),
        residual_(exec, b.rows, b.cols),
        norm_b_(frobenius(exec, b)) {
    report_.size = report_.rank = a.size();
  }

  SolveReport run(Precision precision) {
    const auto start = std::chrono::steady_clock::now();
    const bool mixed = precision == Precision::mixed || (precision == Precision::automatic && a_.size() >= kMixedFrom);
    if (!(mixed && solve_mixed()) && !solve_full()) solve_eigh();
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report_;
  }

 private:
  // Factor in float of the matrix scaled to unit diagonal, refine in double. False: the next rung must answer.
  bool solve_mixed() {
    const std::int64_t n = a_.size();
    // Squares of the residuals must neither vanish nor overflow: refinement lives on their norms.
    if (!(norm_b_ > 1e-130 && norm_b_ < 1e130))
      return fall("the size of the right-hand side lies outside the range of float refinement");
    SymmetricMatrix<float> l(exec_, n);
    a_.build(exec_, l);
    const double norm_a = frobenius(exec_, l);
    std::vector<float> diagonal(static_cast<std::size_t>(n));
    l.diagonal(exec_, diagonal.data());
    std::vector<double> inverse_root(static_cast<std::size_t>(n));
    for (std::size_t k = 0; k < diagonal.size(); ++k) {
      if (!(diagonal[k] > 0) || !std::isfinite(diagonal[k]) || !std::isfinite(norm_a))
        return fall("the diagonal does not fit into float");
      inverse_root[k] = 1.0 / std::sqrt(static_cast<double>(diagonal[k]));
    }
    l.scale(exec_, inverse_root);
    if (cholesky(exec_, l) != 0) return fall("the float factor met a pivot that is not positive");

    const auto solve = [&](MatrixView<double> x) {
      const double size = frobenius(exec_, x);
      if (size == 0) return;
      scale_rows(exec_, inverse_root, x);
      const double scaled = frobenius(exec_, x);
      Array<float> z(exec_, x.rows, x.cols);
      axpby<double, float>(exec_, 1.0 / scaled, x, 0.0, z.view());
      cholesky_solve_half<float>(exec_, Trans::no, l, z.view());
      cholesky_solve_half<float>(exec_, Trans::yes, l, z.view());
      axpby<float, double>(exec_, scaled, z.view(), 0.0, x);
      scale_rows(exec_, inverse_root, x);
    };
    estimate_condition(exec_, a_, solve, report_);
    // Beyond eps(float) a float factor cannot tell a small eigenvalue from none, and refinement would hide the rank.
    if (!(report_.condition * static_cast<double>(std::numeric_limits<float>::epsilon()) < 1))
      return fall("the condition number of about " + number(report_.condition) + " is too large for a float factor");
    if (!is_trusted(report_)) return fall("a factor in double must tell the rank");
    axpby<double, double>(exec_, 0.0, {}, 0.0, w_);
    axpby<double, double>(exec_, 1.0, b_, 0.0, residual_.view());
    double before = std::numeric_limits<double>::infinity();
    for (int sweep = 0; sweep <= kSweeps; ++sweep) {
      solve(residual_.view());
      axpby<double, double>(exec_, 1.0, residual_.view(), 1.0, w_);
      measure_residual(norm_a);
      report_.refinements = sweep;
      if (report_.residual <= kConverged) {
        // One sweep more, which costs little beside the factor, takes the weights to the floor that a factor in double
        // would reach.
        if (before <= kConverged || sweep == kSweeps) {
          report_.method = "cholesky_mixed";
          return true;
        }
      } else if (!(report_.residual < 0.1 * before)) {
        break;
      }
      before = report_.residual;
    }
    return fall("float refinement stalled at a residual of " + number(report_.residual));
  }

  bool solve_full() {
    SymmetricMatrix<double> l(exec_, a_.size());
    a_.build(exec_, l);
    const double norm_a = frobenius(exec_, l);
    GRAMIAN_REQUIRE(std::isfinite(norm_a), non_finite, "the sums of the state have overflowed");
    const std::vector<double> scale = scale_of(exec_, l);
    if (const std::int64_t pivot = cholesky(exec_, l); pivot != 0)
      return fall("Cholesky met a pivot that is not positive at " + std::to_string(pivot));
    const auto solve = [&](MatrixView<double> x) {
      cholesky_solve_half<double>(exec_, Trans::no, l, x);
      cholesky_solve_half<double>(exec_, Trans::yes, l, x);
    };
    estimate_condition(exec_, a_, solve, report_);
    if (!is_trusted(report_) && !is_sound_once_scaled(solve, require_full_rank_ ? rule_.scale : scale))
      return fall("the condition number is about " + number(report_.condition));
    axpby<double, double>(exec_, 1.0, b_, 0.0, w_);
    solve(w_);
    report_.refinements = 0;
    measure_residual(norm_a);
    report_.method = "cholesky";
    return true;
  }

  bool is_trusted(const SolveReport& report) const {
    if (require_full_rank_ && !(report.smallest_eigenvalue > rule_.floor)) return false;
    return report.condition <= condition_limit_;
  }

  // The factor of D A D is D L, so L is as good as that one. Without a ridge sizes are left alone unless the caller
  // gives D: a column that is constant but for rounding must not grow into one that has a say.
  bool is_sound_once_scaled(const std::function<void(MatrixView<double>)>& solve, const std::vector<double>& scale) {
    if (scale.empty()) return false;
    std::vector<double> inverse(scale);
    for (double& value : inverse) value = 1.0 / value;
    SolveReport scaled;
    const auto solve_scaled = [&](MatrixView<double> x) {
      scale_rows(exec_, inverse, x);
      solve(x);
      scale_rows(exec_, inverse, x);
    };
    estimate_condition(exec_, ScaledOperator(a_, scale), solve_scaled, scaled);
    if (require_full_rank_ && !(scaled.smallest_eigenvalue > rule_.scaled_floor)) return false;
    return scaled.condition <= condition_limit_;
  }

  void solve_eigh() {
    const std::int64_t n = a_.size();
    std::vector<double> values, scale;
    Array<double> vectors;
    double norm_a = 0;
    {
      SymmetricMatrix<double> a(exec_, n);
      a_.build(exec_, a);
      norm_a = frobenius(exec_, a);
      scale = require_full_rank_ ? rule_.scale : scale_of(exec_, a);
      if (!scale.empty()) a.scale(exec_, scale);
      symmetric_eigen(exec_, a, values, vectors);
    }
    const double largest = values.empty() ? 0.0 : std::max(std::abs(values.front()), std::abs(values.back()));
    const double rounding = static_cast<double>(n) * kEps * largest;
    const double threshold = require_full_rank_ ? std::max(rounding, rule_.noise) : rounding;
    std::vector<double> inverse(values.size());
    report_.rank = 0;
    double smallest = largest;
    for (std::size_t k = 0; k < values.size(); ++k) {
      const bool kept = values[k] > threshold;
      inverse[k] = kept ? 1.0 / values[k] : 0.0;
      if (kept) smallest = std::min(smallest, values[k]);
      report_.rank += kept ? 1 : 0;
    }
    if (require_full_rank_ && report_.rank < n) {
      throw Error(ErrorCode::not_positive_definite,
                  "ridge = 0 needs features of full rank: the rank is " + std::to_string(report_.rank) + " of " +
                      std::to_string(n) + "; use a ridge above 0, or standardize where features differ widely in size");
    }
    Array<double> coordinates(exec_, n, b_.cols), right(exec_, n, b_.cols);
    axpby<double, double>(exec_, 1.0, b_, 0.0, right.view());
    if (!scale.empty()) scale_rows(exec_, scale, right.view());
    gemm<double>(exec_, Trans::no, Trans::no, 1.0, vectors.view(), right.view(), 0.0, coordinates.view());
    scale_rows(exec_, inverse, coordinates.view());
    gemm<double>(exec_, Trans::yes, Trans::no, 1.0, vectors.view(), coordinates.view(), 0.0, w_);
    if (!scale.empty()) scale_rows(exec_, scale, w_);
    report_.method = "eigh";
    report_.condition = smallest > 0 ? largest / smallest : 1.0;
    // Of A itself: no smaller than that of D A D over the largest square of D.
    const double largest_scale = scale.empty() ? 1.0 : *std::max_element(scale.begin(), scale.end());
    report_.smallest_eigenvalue = smallest / largest_scale / largest_scale;
    report_.refinements = 0;
    measure_residual(norm_a);
  }

  bool fall(const std::string& reason) {
    report_.fallback += (report_.fallback.empty() ? "" : "; ") + reason;
    return false;
  }

  // residual_ = B - A W and its size in the report.
  void measure_residual(double norm_a) {
    a_.apply(exec_, w_, residual_.view());
    axpby<double, double>(exec_, 1.0, b_, -1.0, residual_.view());
    // Everything over |A|, so that the product |A| |W| cannot leave the range of double.
    const double scale = norm_a > 0 ? frobenius(exec_, w_) + norm_b_ / norm_a : 0.0;
    report_.residual = scale > 0 ? frobenius(exec_, residual_.view()) / norm_a / scale : 0.0;
  }

  const Exec& exec_;
  const SpdOperator& a_;
  MatrixView<const double> b_;
  MatrixView<double> w_;
  bool require_full_rank_;
  const RankRule& rule_;
  double condition_limit_;
  Array<double> residual_;
  double norm_b_;
  SolveReport report_;
};

template <class T>
void build_ridged(const Exec& exec, const SymmetricMatrix<double>& k, double ridge, SymmetricMatrix<T>& a) {
  a.axpby(exec, 1.0, k, 0.0);
  a.add_diagonal(exec, ridge);
}

// Signs with sizes between 1 and 2 that no two entries share: a vector of ones and minus ones is orthogonal to the null
// vectors of matrices with equal or opposite columns.
std::vector<double> start_vector(std::int64_t d) {
  const RngStream signs(0, RngFamily::rademacher);
  std::vector<double> v(static_cast<std::size_t>(d));
  constexpr double golden = 0.6180339887498949;
  double total = 0;
  for (std::int64_t j = 0; j < d; ++j) {
    const double size = 1 + std::fmod(golden * static_cast<double>(j + 1), 1.0);
    v[static_cast<std::size_t>(j)] = signs.row_sign(static_cast<std::uint64_t>(j)) * size;
    total += size * size;
  }
  for (double& value : v) value /= std::sqrt(total);
  return v;
}

}  // namespace

RidgedMatrix::RidgedMatrix(SymmetricMatrix<double> k, double ridge) : k_(std::move(k)), ridge_(ridge) {}

void RidgedMatrix::build(const Exec& exec, SymmetricMatrix<double>& a) const {
  build_ridged(exec, k_, ridge_, a);
}

void RidgedMatrix::build(const Exec& exec, SymmetricMatrix<float>& a) const {
  build_ridged(exec, k_, ridge_, a);
}

void RidgedMatrix::apply(const Exec& exec, MatrixView<const double> w, MatrixView<double> out) const {
  symmetric_multiply(exec, 1.0, k_, w, 0.0, out);
  axpby<double, double>(exec, ridge_, w, 1.0, out);
}

double power_norm(const Exec& exec, std::int64_t d, int steps,
                  const std::function<void(MatrixView<const double>, MatrixView<double>)>& apply) {
  std::vector<double> v = start_vector(d);
  Array<double> x(exec, d, 1), y(exec, d, 1);
  double norm = 0;
  for (int step = 0; step < steps; ++step) {
    upload<double>(exec, {v.data(), d, 1}, x.view());
    apply(x.view(), y.view());
    norm = frobenius(exec, y.view());
    if (!(norm > 0) || !std::isfinite(norm)) return norm > 0 ? std::numeric_limits<double>::infinity() : norm;
    download<double>(exec, y.view(), {v.data(), d, 1});
    for (double& value : v) value /= norm;
  }
  return norm;
}

double inverse_norm(const Exec& exec, const SymmetricMatrix<double>& l, int steps) {
  const double square = power_norm(exec, l.size(), steps, [&](MatrixView<const double> x, MatrixView<double> y) {
    axpby<double, double>(exec, 1.0, x, 0.0, y);
    cholesky_solve_half<double>(exec, Trans::no, l, y);
    cholesky_solve_half<double>(exec, Trans::yes, l, y);
  });
  return square > 0 ? std::sqrt(square) : std::numeric_limits<double>::infinity();
}

void estimate_condition(const Exec& exec, const SpdOperator& a, const std::function<void(MatrixView<double>)>& solve,
                        SolveReport& report) {
  const auto apply = [&](MatrixView<const double> x, MatrixView<double> y) { a.apply(exec, x, y); };
  estimate_condition(exec, a.size(), apply, solve, report);
}

void estimate_condition(const Exec& exec, std::int64_t n,
                        const std::function<void(MatrixView<const double>, MatrixView<double>)>& apply,
                        const std::function<void(MatrixView<double>)>& solve, SolveReport& report) {
  const RngStream signs(0, RngFamily::rademacher);
  std::vector<double> start(static_cast<std::size_t>(n));
  for (std::int64_t k = 0; k < n; ++k)
    start[static_cast<std::size_t>(k)] =
        signs.row_sign(static_cast<std::uint64_t>(k)) / std::sqrt(static_cast<double>(n));
  Array<double> x(exec, n, 1), y(exec, n, 1);
  const auto normalised = [&](Array<double>& v, double size) {
    axpby<double, double>(exec, 1.0 / size, v.view(), 0.0, v.view());
  };
  upload<double>(exec, {start.data(), n, 1}, x.view());
  double largest = 0;
  for (int step = 0; step < 3; ++step) {
    apply(x.view(), y.view());
    largest = frobenius(exec, y.view());
    std::swap(x, y);
    if (!(largest > 0) || !std::isfinite(largest)) break;
    normalised(x, largest);
  }
  upload<double>(exec, {start.data(), n, 1}, x.view());
  double inverse = 0;
  for (int step = 0; step < 3; ++step) {
    solve(x.view());
    inverse = frobenius(exec, x.view());
    if (!(inverse > 0) || !std::isfinite(inverse)) break;
    normalised(x, inverse);
  }
  report.condition = std::max(1.0, largest * inverse);
  report.smallest_eigenvalue = inverse > 0 ? 1.0 / inverse : 0.0;
}

SolveReport solve_spd(const Exec& exec, const SpdOperator& a, MatrixView<const double> b, MatrixView<double> w,
                      Precision precision, bool require_full_rank, const RankRule& rule) {
  GRAMIAN_REQUIRE(b.rows == a.size() && w.rows == b.rows && w.cols == b.cols, shape_mismatch,
                  "solve_spd: the shapes of A, B and W do not fit");
  return Ladder(exec, a, b, w, require_full_rank, rule).run(precision);
}

}  // namespace gramian
