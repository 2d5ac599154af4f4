#include "gramian/regression/sketched_ridge.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/iterate.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/regression/lstsq.hpp"
#include "linalg/binary_scale.h"
#include "regression/centred_rows.h"
#include "regression/ridge_sketch.h"
#include "regression/tall_operand.h"

namespace gramian {
namespace {

using linalg::column_maxima;
using linalg::exponents_of;
using linalg::is_safe;
using linalg::largest_of;
using linalg::ScaledRows;
using linalg::ShiftedRows;
using regression::CentredRows;
using regression::RidgeInverse;
using regression::RidgeSketch;
using regression::RidgeSpectrum;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kEps = std::numeric_limits<double>::epsilon();
// The most that rounding of products with A'A, eps |A|^2 / ridge, excuses; and the backward error above which a single
// solution is left to lstsq.
constexpr double kExcused = 1e-6;
constexpr double kUnimprovable = 4 * kEps;
// Rows of the sketch: 8 D + 24. The condition of the preconditioned system is then below ((1 + e) / (1 - e))^2 with
// e = 1 / sqrt(8), and each step of conjugate gradients gains a factor of about 1 / e.
constexpr double kRowsOverDimension = 8;
constexpr std::int64_t kMoreRows = 24;
constexpr std::int64_t kFirstRows = 32;
// An appended batch that is smaller than this share of the sketch is not worth a reading of A.
constexpr double kWorthAppending = 1.03;
// The least gain of a step: below it the sketch is too small.
constexpr double kLeastGain = 2;
// A single ridge takes Cholesky instead of a spectrum where the system is larger.
constexpr std::int64_t kSpectrumSize = 512;
// Right-hand sides that share a reading of A.
constexpr std::int64_t kColumns = 32;
// Solutions whose true gradient is not yet small are continued so often.
constexpr int kRounds = 3;
// The grid where none is given, in units of the mean square of a column.
constexpr int kGrid = 50;
constexpr double kLowestDecade = -7, kHighestDecade = 2;
// Ridges and squared lengths of A beyond kFar, or below its inverse, are solved for powers of two of everything.
constexpr double kFar = 1e60;
// Then a ridge above 2^kMostRidge makes the solution A'b / ridge, to all digits, and one below 2^kLeastRidge is none.
constexpr int kMostRidge = 200, kLeastRidge = -1000;
// A row with a leverage this near 1 cannot be left out.
constexpr double kIndispensable = 1e-10;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

Array<double> turned(const Exec& exec, MatrixView<const double> x) {
  Array<double> out(exec, x.cols, x.rows);
  transpose<double>(exec, x, out.view());
  return out;
}

std::vector<double> on_host(const Exec& exec, MatrixView<const double> x) {
  std::vector<double> out(at(x.rows * x.cols));
  download<double>(exec, x, {out.data(), x.rows, x.cols});
  return out;
}

double dot(const std::vector<double>& x, const std::vector<double>& y, std::int64_t row, std::int64_t size) {
  double sum = 0;
  for (std::int64_t i = row * size; i < (row + 1) * size; ++i) sum += x[at(i)] * y[at(i)];
  return sum;
}

// What a problem was divided by: A by 2^a, the weights by 4^weight, column t of b by 2^b[t]. Ridge j, in the order that
// they were given, was divided by 2^beyond[j] besides, where it is too large to matter otherwise.
struct Units {
  bool chosen = false;
  int a = 0, weight = 0;
  std::vector<int> b, beyond;
};

// fraction 2^exponent, for squares of targets beyond the range of double. Infinite: no score.
struct Score {
  double fraction = kInfinity;
  int exponent = 0;

  double value() const { return std::ldexp(fraction, exponent); }
  bool operator<(const Score& other) const {
    const bool ordinary = fraction != 0 && std::isfinite(fraction) && other.fraction != 0;
    if (ordinary && exponent != other.exponent) return exponent < other.exponent || std::isinf(other.fraction);
    return fraction < other.fraction;
  }
};

// x 2^exponent, x >= 0.
Score score_of(double x, int exponent) {
  int own = 0;
  const double fraction = std::frexp(x, &own);
  if (std::isnan(x)) return {};
  return x == 0 || std::isinf(x) ? Score{x, 0} : Score{fraction, own + exponent};
}

std::int64_t lowest(const std::vector<Score>& scores) {
  const auto found = std::min_element(scores.begin(), scores.end());
  return found == scores.end() || std::isinf(found->fraction) ? -1 : found - scores.begin();
}

// Numbers of this size leave the range in which they can be squared and summed: other units, please.
struct OutOfRange {};

class PathSolver {
 public:
  PathSolver(const Exec& exec, const RowsView& a, const RowsView& b, const double* weight,
             const SketchedRidgeOptions& options, const Units& units)
      : exec_(exec),
        options_(options),
        units_(units),
        n_(a.rows),
        d_(a.cols),
        k_(b.cols),
        count_(static_cast<std::int64_t>(options.ridges.size())),
        rows_(exec, a, weight, options.intercept, options.name),
        sketch_(exec, rows_, options.sketch),
        order_(options.ridges.size()),
        b_(exec, n_, k_),
        g_(exec, k_, d_),
        x_(exec, count_ * k_, d_) {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::stable_sort(order_.begin(), order_.end(),
                     [&](std::size_t i, std::size_t j) { return options.ridges[i] < options.ridges[j]; });
    for (const std::size_t place : order_) ridges_.push_back(options.ridges[place]);
    result_.points.resize(at(count_));
    gcv_.resize(at(count_));
    loo_.resize(at(count_));
    for (std::int64_t j = 0; j < count_; ++j) point(j).ridge = ridges_[at(j)];
    squares_.resize(at(count_ * k_));
    if (ridges_.back() > kFar && !units_.chosen) throw OutOfRange();
    load_targets(b);
    if (options.intercept) ++result_.readings;
  }

  SketchedRidgeResult solve() {
    axpby<double, double>(exec_, 0.0, {}, 0.0, x_.view());
    if (ridges_[0] == 0) {
      by_least_squares(0);
    } else {
      size_sketch();
      decompose();
      if (options_.loo) find_leverages();
      if (options_.refine) {
        solve_path();
      } else {
        sketched_solutions();
      }
    }
    for (std::int64_t j = 0; j < count_; j += chunk()) check(j, std::min(chunk(), count_ - j));
    return finish();
  }

 private:
  // Ridges are numbered in ascending order inside; their rows of x_ are k_ from j k_.
  SketchedRidgePoint& point(std::int64_t j) { return result_.points[order_[at(j)]]; }
  std::int64_t chunk() const { return std::max<std::int64_t>(1, kColumns / k_); }
  MatrixView<double> solutions(std::int64_t j, std::int64_t count) const {
    return x_.view().block(j * k_, 0, count * k_, d_);
  }
  int beyond(std::int64_t j) const { return units_.beyond.empty() ? 0 : units_.beyond[order_[at(j)]]; }
  int unit_of_target(std::int64_t t) const { return units_.b.empty() ? 0 : units_.b[at(t)]; }
  // In the units of the caller.
  double given_ridge(std::int64_t j) const {
    return std::ldexp(ridges_[at(j)], beyond(j) + 2 * (units_.a + units_.weight));
  }
  std::vector<double> ridges_of_rows(std::int64_t j, std::int64_t count) const {
    std::vector<double> out;
    for (std::int64_t i = j; i < j + count; ++i) out.insert(out.end(), at(k_), ridges_[at(i)]);
    return out;
  }

  void load_targets(const RowsView& b) {
    load_rows<double>(exec_, b, nullptr, nullptr, b_.view(), "b");
    target_mean_.assign(at(k_), 0.0);
    if (options_.intercept) {
      target_mean_ = column_sums<double>(exec_, b_.view(), rows_.weight());
      for (double& mean : target_mean_) mean /= rows_.weight_sum();
      load_rows<double>(exec_, b, target_mean_.data(), nullptr, b_.view(), "b");
    }
    // A'W b, the gradient at zero.
    Array<double> zero(exec_, d_, k_), r(exec_, n_, k_), g(exec_, d_, k_);
    axpby<double, double>(exec_, 0.0, {}, 0.0, zero.view());
    sweep(zero.view(), b_.view(), r.view(), g.view());
    transpose<double>(exec_, g.view(), g_.view());
  }

  void sweep(MatrixView<const double> x, MatrixView<const double> b, MatrixView<double> r, MatrixView<double> g) {
    exec_.poll();
    rows_.sweep(x, b, r, g);
    ++result_.readings;
  }

  // --- the sketch ----------------------------------------------------------------------------------------------------

  void size_sketch() {
    char text[160];
    if (options_.sketch_rows > 0) {
      append(options_.sketch_rows);
      why_ = sketch_.exact() ? "as many rows asked for as A has: A itself" : "asked for";
      return;
    }
    append(kFirstRows);
    while (!sketch_.exact()) {
      const double dimension = sketch_.raw_dimension(ridges_[0]);
      const auto wanted = static_cast<std::int64_t>(std::ceil(kRowsOverDimension * dimension)) + kMoreRows;
      if (wanted >= n_) {
        sketch_.take_all();
        std::snprintf(text, sizeof text, "A itself: an effective dimension of %.4g or more asks for %lld rows or more",
                      dimension, static_cast<long long>(wanted));
        why_ = text;
        return;
      }
      if (static_cast<double>(wanted) <= kWorthAppending * static_cast<double>(sketch_.rows())) {
        std::snprintf(text, sizeof text, "8 times the effective dimension of the sketch, %.4g at ridge %.3g, and %lld",
                      dimension, given_ridge(0), static_cast<long long>(kMoreRows));
        why_ = text;
        return;
      }
      append(wanted - sketch_.rows());
    }
    why_ = "A itself: it has no more rows than the smallest sketch";
  }

  void append(std::int64_t more) {
    exec_.poll();
    if (sketch_.rows() + more >= n_) {
      sketch_.take_all();
    } else {
      sketch_.grow(more);
    }
    const double energy = sketch_.energy();
    if (!units_.chosen && !(energy < kFar && energy > 1 / kFar)) throw OutOfRange();
  }

  // The preconditioner anew, after the sketch has changed.
  void decompose() {
    single_.reset();
    spectrum_.reset();
    if (count_ == 1 && !options_.loo && std::min(sketch_.rows(), d_) > kSpectrumSize) {
      single_ = sketch_.inverse(ridges_[0]);
      if (single_ != nullptr) return;
    }
    spectrum_ = sketch_.spectrum();
  }

  std::unique_ptr<RidgeInverse> inverse_of(std::int64_t j, std::int64_t count) const {
    return RidgeSketch::inverse(exec_, *spectrum_, ridges_of_rows(j, count));
  }
  // out = rows of `in` preconditioned, `own` being null where one factor serves all.
  void precondition(const RidgeInverse* own, MatrixView<const double> in, MatrixView<double> out) const {
    (own != nullptr ? *own : *single_).apply(in, out);
  }

  double effective_dimension(double ridge) const {
    if (spectrum_) return spectrum_->effective_dimension(ridge);
    double matching = ridge, dimension = 0;
    // Two steps of what the spectrum's fixed point takes to the end.
    for (int step = 0; step < 3; ++step) {
      dimension = sketch_.raw_dimension(matching);
      if (sketch_.exact()) break;
      matching = ridge * std::max(1e-6, 1 - dimension / static_cast<double>(sketch_.rows()));
    }
    return dimension;
  }

  // --- leverages -----------------------------------------------------------------------------------------------------

  void find_leverages() {
    stale_ = false;
    leverages_.resize(at(count_ * n_));
    const MatrixView<double> all(leverages_.data(), count_, n_);
    regression::ridge_leverages(exec_, rows_, *spectrum_, ridges_, nullptr, all);
    ++result_.readings;
    if (sketch_.exact()) return;
    std::vector<double> errors;
    for (const double ridge : ridges_) errors.push_back(spectrum_->leverage_error(ridge));
    // A relative error e of the leverage h changes r / (1 - h) by e h / (1 - h), relatively.
    std::vector<std::int64_t> doubtful;
    for (std::int64_t i = 0; i < n_; ++i) {
      for (std::int64_t j = 0; j < count_; ++j) {
        const double h = all(j, i) + share_of_intercept(i);
        if (errors[at(j)] * h <= options_.loo_rtol * (1 - h)) continue;
        doubtful.push_back(i);
        break;
      }
    }
    if (doubtful.empty()) return;
    sketch_.take_all();
    decompose();
    const auto many = static_cast<std::int64_t>(doubtful.size());
    std::vector<double> exact(at(count_ * many));
    const MatrixView<double> found(exact.data(), count_, many);
    regression::ridge_leverages(exec_, rows_, *spectrum_, ridges_, &doubtful, found);
    ++result_.readings;
    for (std::int64_t j = 0; j < count_; ++j)
      for (std::int64_t i = 0; i < many; ++i) all(j, doubtful[at(i)]) = found(j, i);
    result_.refined_rows = many;
    char text[120];
    std::snprintf(text, sizeof text, "; then A'A, for the leverages of %lld rows within %.2g",
                  static_cast<long long>(many), options_.loo_rtol);
    why_ += text;
  }

  double share_of_intercept(std::int64_t i) const {
    if (!options_.intercept) return 0.0;
    return (rows_.weight().empty() ? 1.0 : rows_.weight()[at(i)]) / rows_.weight_sum();
  }

  // --- solutions -----------------------------------------------------------------------------------------------------

  void sketched_solutions() {
    for (std::int64_t j = 0; j < count_; ++j) {
      const std::unique_ptr<RidgeInverse> own = spectrum_ ? inverse_of(j, 1) : nullptr;
      precondition(own.get(), g_.view(), solutions(j, 1));
      point(j).converged = true;
    }
  }

  void solve_path() {
    for (std::int64_t j = 0; j < count_; j += chunk()) {
      const std::int64_t count = std::min(chunk(), count_ - j);
      // The last solution is the start of the next ones.
      for (std::int64_t i = j; j > 0 && i < j + count; ++i)
        axpby<double, double>(exec_, 1.0, solutions(j - 1, 1), 0.0, solutions(i, 1));
      iterate(j, count);
    }
  }

  // Conjugate gradients for ridges j .. j + count at once, on a sketch that grows while they are slow.
  void iterate(std::int64_t j, std::int64_t count) {
    const std::int64_t size = count * k_;
    const std::vector<double> ridges = ridges_of_rows(j, count);
    Array<double> right(exec_, size, d_);
    for (std::int64_t i = 0; i < count; ++i)
      axpby<double, double>(exec_, 1.0, g_.view(), 0.0, right.view().block(i * k_, 0, k_, d_));
    Array<double> r(exec_, n_, size), g(exec_, d_, size), scaled(exec_, size, d_);
    const BlockMap system = [&](MatrixView<const double> in, MatrixView<double> out) {
      const Array<double> columns = turned(exec_, in);
      sweep(columns.view(), {}, r.view(), g.view());
      transpose<double>(exec_, g.view(), out);
      axpby<double, double>(exec_, 1.0, in, 0.0, scaled.view());
      scale_rows<double>(exec_, ridges, scaled.view());
      axpby<double, double>(exec_, 1.0, scaled.view(), -1.0, out);
    };
    FlexibleCgOptions cg;
    cg.directions = 1;
    cg.rtol = 0;
    cg.correction_rtol = options_.rtol;
    cg.stall_window = 0;
    const auto fair = static_cast<std::int64_t>(std::ceil(std::log(1 / options_.rtol) / std::log(kLeastGain))) + 4;
    std::vector<std::int64_t> before;
    for (std::int64_t i = j; i < j + count; ++i) before.push_back(point(i).iterations);
    const std::int64_t allowed = options_.max_iterations - *std::max_element(before.begin(), before.end());
    std::int64_t used = 0;
    while (used < allowed) {
      const std::unique_ptr<RidgeInverse> own = spectrum_ ? inverse_of(j, count) : nullptr;
      const BlockMap preconditioner = [&](MatrixView<const double> in, MatrixView<double> out) {
        precondition(own.get(), in, out);
      };
      cg.max_iterations = std::min(fair, allowed - used);
      FlexibleCgReport report;
      try {
        report = flexible_cg(exec_, system, right.view(), solutions(j, count), preconditioner, cg);
      } catch (const Error& error) {
        // To rounding the system is singular; `check` sees how good the solutions are.
        if (error.code() != ErrorCode::not_positive_definite) throw;
        return;
      }
      for (std::int64_t q = 0; q < size; ++q) {
        std::int64_t& most = point(j + q / k_).iterations;
        const auto own_steps = static_cast<std::int64_t>(report.decrease[at(q)].size());
        if (own_steps > 0) most = std::max(most, before[at(q / k_)] + used + own_steps);
      }
      used += report.iterations;
      // With all of A in the preconditioner nothing but rounding can be in the way.
      if (report.converged || used >= allowed || sketch_.exact()) return;
      if (options_.sketch_rows > 0) continue;
      char text[120];
      std::snprintf(text, sizeof text, "; doubled from %lld because %lld steps were not enough",
                    static_cast<long long>(sketch_.rows()), static_cast<long long>(report.iterations));
      why_ += text;
      append(sketch_.rows());
      decompose();
      stale_ = options_.loo;
    }
  }

  // The same problem for lstsq, on centred and weighted copies.
  void by_least_squares(std::int64_t j) {
    const std::vector<double>& weight = rows_.weight();
    std::vector<double> a(at(n_ * d_));
    const std::int64_t edge = std::min(n_, rows_.block_rows());
    Array<double> block(exec_, edge, d_);
    for (std::int64_t begin = 0; begin < n_; begin += edge) {
      exec_.poll();
      const std::int64_t size = std::min(edge, n_ - begin);
      const MatrixView<double> part = block.view().block(0, 0, size, d_);
      rows_.load(begin, part);
      download<double>(exec_, part, {a.data() + begin * d_, size, d_});
    }
    std::vector<double> b = on_host(exec_, b_.view());
    for (std::int64_t i = 0; i < n_ && !weight.empty(); ++i)
      for (std::int64_t t = 0; t < k_; ++t) b[at(i * k_ + t)] *= std::sqrt(weight[at(i)]);
    LstsqOptions options;
    options.ridge = ridges_[at(j)];
    options.seed = options_.sketch.seed;
    const LstsqResult solved =
        lstsq(exec_, RowsView::dense<double>({a.data(), n_, d_}), RowsView::dense<double>({b.data(), n_, k_}), options);
    Array<double> x(exec_, d_, k_);
    upload<double>(exec_, {solved.x.data(), d_, k_}, x.view());
    transpose<double>(exec_, x.view(), solutions(j, 1));
    result_.readings += solved.iterations + 1;
    SketchedRidgePoint& p = point(j);
    p.iterations = solved.iterations;
    p.backward_error = *std::max_element(solved.backward_errors.begin(), solved.backward_errors.end());
    p.effective_dimension = static_cast<double>(solved.rank);
    condition_ = solved.condition;
    if (options.ridge > 0) from_triangle(a, options.ridge, p);
    by_lstsq_ = true;
    why_ += std::string(why_.empty() ? "" : "; ") + "least squares by method \"" + name_of(solved.method) + "\"";
  }

  // The effective dimension and the condition from the triangle T of [A; sqrt(ridge) I], which does not square it:
  // D = p - ridge tr (T'T)^-1, for A or its transpose, whichever is tall.
  void from_triangle(const std::vector<double>& a, double ridge, SketchedRidgePoint& point) {
    const bool wide = n_ < d_;
    const std::int64_t rows = std::max(n_, d_), p = std::min(n_, d_);
    std::vector<double> copy;
    const double* values = a.data();
    if (wide) {
      copy.resize(a.size());
      for (std::int64_t i = 0; i < n_; ++i)
        for (std::int64_t c = 0; c < d_; ++c) copy[at(c * n_ + i)] = a[at(i * d_ + c)];
      values = copy.data();
    }
    Array<double> r(exec_, p, p), penalty(exec_, p, p);
    const RowLoader<double> load = [&](std::int64_t begin, MatrixView<double> out) {
      upload<double>(exec_, {values + begin * p, out.rows, p}, out);
    };
    qr_factor_r<double>(exec_, rows, load, r.view());
    std::vector<double> diagonal(at(p * p), 0.0);
    for (std::int64_t i = 0; i < p; ++i) diagonal[at(i * p + i)] = std::sqrt(ridge);
    upload<double>(exec_, {diagonal.data(), p, p}, penalty.view());
    qr_merge_r<double>(exec_, penalty.view(), r.view());
    const double trace = inverse_trace(exec_, lower_factor<double, double>(exec_, r.view()));
    double size = 0;
    for (const double value : on_host(exec_, r.view())) size = std::hypot(size, value);
    condition_ = size * std::sqrt(std::min(trace, 1 / ridge));
    const auto most = static_cast<double>(p);
    point.effective_dimension = std::isfinite(trace) ? std::clamp(most - ridge * trace, 0.0, most) : most;
  }

  // --- what came out -------------------------------------------------------------------------------------------------

  // Residuals and gradients of ridges j .. j + count from x alone; another round of iterations where they are not as
  // small as the recursion had it.
  void check(std::int64_t j, std::int64_t count) {
    const std::int64_t size = count * k_;
    Array<double> right(exec_, n_, size), r(exec_, n_, size), g(exec_, d_, size), rows(exec_, size, d_);
    double before = kInfinity;
    for (int round = 0;; ++round) {
      if (stale_) find_leverages();
      for (std::int64_t i = 0; i < count; ++i)
        axpby<double, double>(exec_, 1.0, b_.view(), 0.0, right.view().block(0, i * k_, n_, k_));
      sweep(turned(exec_, solutions(j, count)).view(), right.view(), r.view(), g.view());
      take_residuals(j, count, r.view());
      if (by_lstsq_) return estimate_error(j);
      transpose<double>(exec_, g.view(), rows.view());
      const double left = judge(j, count, rows.view());
      if (left == 0 || !options_.refine || point(j).iterations >= options_.max_iterations) return;
      if (round < kRounds && left < 0.5 * before) {
        before = left;
        iterate(j, count);
        continue;
      }
      // Rounding is in the way. Where it leaves more than a change of A by rounding does, that is that of A'A, and the
      // rest is for a method that does not square the condition.
      if (count_ > 1 || point(j).backward_error <= kUnimprovable) return;
      by_least_squares(j);
    }
  }

  // Of a solution by least squares, from its backward error: to first order a relative change e of the matrix changes x
  // by e times the condition, and by e times its square where the residual is large.
  void estimate_error(std::int64_t j) {
    SketchedRidgePoint& p = point(j);
    const std::vector<double> x = on_host(exec_, solutions(j, 1)), b = on_host(exec_, b_.view());
    const double backward = std::max(p.backward_error, kEps / 4);
    p.error = 0;
    for (std::int64_t t = 0; t < k_; ++t) {
      const double length = dot(x, x, t, d_);
      if (length == 0) continue;
      double whole = 0;
      for (std::int64_t i = 0; i < n_; ++i) {
        const double value = b[at(i * k_ + t)];
        whole += (rows_.weight().empty() ? 1.0 : rows_.weight()[at(i)]) * value * value;
      }
      const double rest = squares_[at(j * k_ + t)] + ridges_[at(j)] * length;
      const double slant = whole > rest ? std::sqrt(rest / (whole - rest)) : kInfinity;
      p.error = std::max(p.error, backward * condition_ * (1 + condition_ * slant));
    }
    p.converged = is_reached(p.error) || p.error <= excused_error(ridges_[at(j)]);
  }

  bool is_reached(double error) const { return error <= 4 * options_.rtol; }
  // The error that rounding of products with A'A leaves.
  double excused_error(double ridge) const {
    return ridge > 0 ? std::min(kExcused, kEps * (sketch_.energy() / ridge + static_cast<double>(d_))) : kExcused;
  }

  // gradients: A'W r (rows of length d). The largest error that is more than was asked for, or 0.
  double judge(std::int64_t j, std::int64_t count, MatrixView<double> gradients) {
    const std::int64_t size = count * k_;
    const std::vector<double> ridges = ridges_of_rows(j, count);
    Array<double> corrections(exec_, size, d_);
    axpby<double, double>(exec_, 1.0, solutions(j, count), 0.0, corrections.view());
    scale_rows<double>(exec_, ridges, corrections.view());
    axpby<double, double>(exec_, -1.0, corrections.view(), 1.0, gradients);
    const std::unique_ptr<RidgeInverse> own = spectrum_ ? inverse_of(j, count) : nullptr;
    precondition(own.get(), gradients, corrections.view());
    const std::vector<double> x = on_host(exec_, solutions(j, count)), g = on_host(exec_, gradients),
                              z = on_host(exec_, corrections.view());
    double left = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      SketchedRidgePoint& p = point(j + i);
      p.error = p.backward_error = 0;
      const double ridge = ridges_[at(j + i)];
      const double norm = std::sqrt(sketch_.energy() + static_cast<double>(d_) * ridge);
      for (std::int64_t q = i * k_; q < (i + 1) * k_; ++q) {
        const double length = std::sqrt(dot(x, x, q, d_)), slope = dot(g, g, q, d_);
        const double correction = std::sqrt(dot(z, z, q, d_));
        if (slope == 0) continue;
        p.error = std::max(p.error, length > 0 ? correction / length : kInfinity);
        const double squares = squares_[at((j + i) * k_ + q - i * k_)];
        const double mu = length > 0 ? squares / (length * length) + ridge : kInfinity;
        // |(A'A + ridge + mu)^(-1/2) g| is below both of these.
        const double damped = std::sqrt(std::min(std::max(0.0, dot(g, z, q, d_)), slope / (ridge + mu)));
        const double backward = length > 0 ? damped / length / norm : std::sqrt(slope / squares) / norm;
        p.backward_error = std::max(p.backward_error, backward);
      }
      p.converged = is_reached(p.error) || p.error <= excused_error(ridge);
      if (!is_reached(p.error)) left = std::max(left, p.error);
    }
    return left;
  }

  // r: weighted residuals, n x (count k); becomes garbage.
  void take_residuals(std::int64_t j, std::int64_t count, MatrixView<double> r) {
    if (!rows_.weight().empty()) {
      std::vector<double> roots;
      for (const double weight : rows_.weight()) roots.push_back(weight > 0 ? 1 / std::sqrt(weight) : 0.0);
      scale_rows<double>(exec_, roots, r);
    }
    const auto squares_of = [&](MatrixView<const double> x) {
      std::vector<double> out = regression::column_norms(exec_, x);
      for (double& value : out) value *= value;
      return out;
    };
    // Weights, and so degrees of freedom, in units of 4^units_.weight.
    const auto weighted = [&](double degrees) { return std::ldexp(degrees, -2 * units_.weight); };
    const double n = rows_.weight_sum();
    for (std::int64_t i = 0; i < count; ++i) {
      SketchedRidgePoint& p = point(j + i);
      if (!by_lstsq_) p.effective_dimension = std::ldexp(effective_dimension(ridges_[at(j + i)]), -beyond(j + i));
      const MatrixView<double> own = r.block(0, i * k_, n_, k_);
      const std::vector<double> squares = squares_of(own);
      std::copy(squares.begin(), squares.end(), squares_.begin() + (j + i) * k_);
      const double left = n - weighted(p.effective_dimension) - weighted(options_.intercept ? 1.0 : 0.0);
      const std::size_t place = order_[at(j + i)];
      const Score sum = sum_of_targets(squares);
      gcv_[place] = left > 0 ? score_of(sum.fraction / left * (n / left), sum.exponent) : Score();
      p.gcv = gcv_[place].value();
      if (options_.loo) loo_[place] = left_out(j + i, own, squares_of);
      p.loo = options_.loo ? loo_[place].value() : std::numeric_limits<double>::quiet_NaN();
    }
  }

  // Over the columns of b, in the units of the caller.
  Score sum_of_targets(const std::vector<double>& squares) const {
    std::vector<Score> terms;
    Score largest{0.0, 0};
    for (std::int64_t t = 0; t < k_; ++t) {
      terms.push_back(score_of(squares[at(t)], 2 * unit_of_target(t)));
      largest = std::max(largest, terms.back());
    }
    double sum = 0;
    for (const Score& term : terms) sum += std::ldexp(term.fraction, term.exponent - largest.exponent);
    return {sum, largest.exponent};
  }

  template <class Squares>
  Score left_out(std::int64_t j, MatrixView<double> r, const Squares& squares_of) {
    std::vector<double> factors;
    for (std::int64_t i = 0; i < n_; ++i) {
      const double left = 1 - std::ldexp(leverages_[at(j * n_ + i)], -beyond(j)) - share_of_intercept(i);
      if (!(left > kIndispensable)) return {};
      factors.push_back(1 / left);
    }
    scale_rows<double>(exec_, factors, r);
    const Score sum = sum_of_targets(squares_of(r));
    return score_of(sum.fraction / rows_.weight_sum(), sum.exponent);
  }

  SketchedRidgeResult finish() {
    const std::vector<double> x = on_host(exec_, x_.view());
    result_.coef.resize(x.size());
    result_.intercept.assign(at(count_ * k_), 0.0);
    result_.residual_norms.resize(squares_.size());
    if (options_.loo) result_.leverages.resize(at(count_ * n_));
    for (std::int64_t j = 0; j < count_; ++j) {
      const auto place = static_cast<std::int64_t>(order_[at(j)]);
      point(j).ridge = given_ridge(j);
      for (std::int64_t t = 0; t < k_; ++t) {
        const int unit = unit_of_target(t);
        result_.residual_norms[at(place * k_ + t)] =
            std::ldexp(std::sqrt(squares_[at(j * k_ + t)]), unit + units_.weight);
        double along = 0;
        for (std::int64_t c = 0; c < d_; ++c) {
          const double value = x[at((j * k_ + t) * d_ + c)];
          along += value * rows_.mean()[at(c)];
          const double own = std::ldexp(value, unit - units_.a - beyond(j));
          GRAMIAN_REQUIRE(std::isfinite(own), invalid_argument,
                          "the solution lies outside the range of float64: A and b are scaled too far apart");
          result_.coef[at((place * k_ + t) * d_ + c)] = own;
        }
        result_.intercept[at(place * k_ + t)] =
            options_.intercept ? std::ldexp(target_mean_[at(t)] - std::ldexp(along, -beyond(j)), unit) : 0.0;
      }
      for (std::int64_t i = 0; options_.loo && i < n_; ++i)
        result_.leverages[at(place * n_ + i)] =
            std::ldexp(leverages_[at(j * n_ + i)], -beyond(j)) + share_of_intercept(i);
    }
    result_.exact = by_lstsq_ || sketch_.exact();
    result_.sketch_rows = result_.exact ? 0 : sketch_.rows();
    result_.readings += sketch_.readings();
    result_.why = why_;
    result_.best_gcv = lowest(gcv_);
    result_.best_loo = lowest(loo_);
    return std::move(result_);
  }

  const Exec& exec_;
  const SketchedRidgeOptions& options_;
  const Units& units_;
  const std::int64_t n_, d_, k_, count_;
  SketchedRidgeResult result_;
  CentredRows rows_;
  RidgeSketch sketch_;
  std::vector<std::size_t> order_;
  std::vector<Score> gcv_, loo_;  // in the order that the ridges were given
  std::vector<double> ridges_, target_mean_, leverages_, squares_;
  Array<double> b_, g_, x_;  // n x k, centred; k x d; (ridges k) x d
  std::optional<RidgeSpectrum> spectrum_;
  std::unique_ptr<RidgeInverse> single_;  // in its place for one ridge of a large system
  bool stale_ = false;                    // leverages, of a sketch that turned out too small
  bool by_lstsq_ = false;
  double condition_ = 0;  // of what lstsq has solved
  std::string why_;
};

// The default grid where no ridges were given.
SketchedRidgeOptions with_ridges(const Exec& exec, const RowsView& a, const double* weight,
                                 const SketchedRidgeOptions& options, const Units& units) {
  SketchedRidgeOptions out = options;
  if (!out.ridges.empty()) return out;
  const CentredRows rows(exec, a, weight, options.intercept, options.name);
  const double energy = rows.energy(), unit = energy / static_cast<double>(a.cols);
  if (!units.chosen && !(energy < kFar && energy > 1 / kFar)) throw OutOfRange();
  for (int j = 0; j < kGrid; ++j) {
    const double decade = kLowestDecade + (kHighestDecade - kLowestDecade) * j / (kGrid - 1);
    out.ridges.push_back((unit > 0 ? unit : 1.0) * std::pow(10.0, decade));
    const double given = std::ldexp(out.ridges.back(), 2 * (units.a + units.weight));
    GRAMIAN_REQUIRE(std::isnormal(given), invalid_argument,
                    std::string("the ridges that fit ") + options.name +
                        " lie outside the range of float64: multiply it by a power of ten, or pass ridges");
  }
  return out;
}

// For A and weights of any size: divided by powers of two, in a copy of double.
SketchedRidgeResult solve_scaled(const Exec& exec, const RowsView& a, const RowsView& b, const double* weight,
                                 const SketchedRidgeOptions& options, Units units) {
  units.chosen = true;
  const double largest = largest_of(column_maxima(exec, a, options.name));
  if (largest > 0) std::frexp(largest, &units.a);
  const ShiftedRows rows(exec, a, std::vector<int>(at(a.cols), -units.a), options.name);
  std::vector<double> weights;
  if (weight != nullptr) {
    weights.assign(weight, weight + a.rows);
    std::frexp(*std::max_element(weights.begin(), weights.end()), &units.weight);
    units.weight /= 2;
    for (double& value : weights) value = std::ldexp(value, -2 * units.weight);
    weight = weights.data();
  }
  SketchedRidgeOptions scaled = options;
  for (double& ridge : scaled.ridges) {
    int power = 0;
    const double part = std::frexp(ridge, &power);
    power -= 2 * (units.a + units.weight);
    units.beyond.push_back(ridge > 0 ? std::max(0, power - kMostRidge) : 0);
    ridge = std::ldexp(part, std::clamp(power, kLeastRidge, kMostRidge));
  }
  scaled = with_ridges(exec, rows.view(), weight, scaled, units);
  SketchedRidgeResult out = PathSolver(exec, rows.view(), b, weight, scaled, units).solve();
  for (std::size_t j = 0; j < options.ridges.size(); ++j) out.points[j].ridge = options.ridges[j];
  return out;
}

void require(const RowsView& a, const RowsView& b, const double* weight, const SketchedRidgeOptions& options) {
  GRAMIAN_REQUIRE(
      a.rows >= 1 && a.cols >= 1, invalid_argument,
      "A must have at least one row and one column, it is " + std::to_string(a.rows) + " x " + std::to_string(a.cols));
  GRAMIAN_REQUIRE(b.rows == a.rows && b.cols >= 1, shape_mismatch,
                  "b must have " + std::to_string(a.rows) + " rows, as A has, and at least one column; it is " +
                      std::to_string(b.rows) + " x " + std::to_string(b.cols));
  const bool many = options.ridges.size() != 1 || options.loo || !options.refine;
  for (const double ridge : options.ridges) {
    GRAMIAN_REQUIRE(std::isfinite(ridge) && ridge >= 0, invalid_argument,
                    "ridge must be finite and not negative, got " + std::to_string(ridge));
    GRAMIAN_REQUIRE(ridge > 0 || !many, invalid_argument,
                    "a path, leave-one-out errors and solutions of the sketch alone need ridges above 0");
  }
  GRAMIAN_REQUIRE(options.rtol > 0 && options.rtol < 1 && options.loo_rtol > 0, invalid_argument,
                  "rtol must lie between 0 and 1, loo_rtol must be above 0");
  GRAMIAN_REQUIRE(options.sketch_rows >= 0 && options.max_iterations >= 1, invalid_argument,
                  "sketch_rows must not be negative, max_iterations must be at least 1");
  for (std::int64_t i = 0; weight != nullptr && i < a.rows; ++i) {
    GRAMIAN_REQUIRE(std::isfinite(weight[i]) && weight[i] >= 0, invalid_argument,
                    "weights must be finite and not negative, that of row " + std::to_string(i) + " is " +
                        std::to_string(weight[i]));
  }
}

}  // namespace

SketchedRidgeResult sketched_ridge(const Exec& exec, const RowsView& a, const RowsView& b, const double* weight,
                                   const SketchedRidgeOptions& options) {
  require(a, b, weight, options);
  Units units;
  units.b = exponents_of(column_maxima(exec, b, "b"));
  if (is_safe(units.b)) units.b.clear();
  try {
    const ScaledRows right = units.b.empty() ? ScaledRows(b) : ScaledRows(exec, b, units.b, "b");
    try {
      const SketchedRidgeOptions complete = with_ridges(exec, a, weight, options, units);
      return PathSolver(exec, a, right.view(), weight, complete, units).solve();
    } catch (const OutOfRange&) {
    } catch (const Error& error) {
      // Sums may overflow where no value is infinite.
      if (error.code() != ErrorCode::non_finite) throw;
      regression::require_finite(exec, a, options.name);
    }
    return solve_scaled(exec, a, right.view(), weight, options, units);
  } catch (const Error& error) {
    // Blocks are read by several threads and in a sketch's own order: the row that is named is the first bad one.
    if (error.code() == ErrorCode::non_finite) regression::require_finite(exec, a, options.name);
    throw;
  }
}

}  // namespace gramian
