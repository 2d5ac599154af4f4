#include "regression/tall_solver.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/linalg/symmetric.hpp"
#include "gramian/sketch/operator.hpp"
#include "linalg/binary_scale.h"
#include "regression/contraction.h"
#include "regression/preconditioner.h"

namespace gramian::regression {

using linalg::column_maxima;
using linalg::exponent_of;
using linalg::exponents_of;
using linalg::largest_of;
using linalg::shift_columns;

namespace {

constexpr double kUnit = std::numeric_limits<double>::epsilon() / 2;
// Backward errors at which nothing is left to gain, at which a correction that gains nothing is the last, and above
// which another method is tried where we may choose.
constexpr double kReached = kUnit / 4;
constexpr double kSettled = kUnit / 2;
constexpr double kAccepted = 8 * kUnit;
// The largest backward error of an answer that is returned: whoever asks for less asks for "sketch_and_solve".
constexpr double kReturned = 1e-13;
// What rtol may be raised up to.
constexpr double kWidest = 1e-9;
// Singular values of a sketch below the first part of the largest are rounding of the sketch, unless rtol is given, and
// those below the second may be.
constexpr double kSketched = 64 * kUnit, kDoubt = 200 * kUnit;
// Singular values above this part of the largest are no rounding of A.
constexpr double kCuts = 800 * kUnit;
// New sketches, of twice the rows each, where one has lost rank or is no preconditioner.
constexpr int kRedraws = 3;
// Norms of A whose squares, and whose products with solutions of any condition, stay well inside the range of double;
// other matrices are brought near 1 first. The second pair is for products in float.
constexpr double kLeastNorm = 1e-60, kMostNorm = 1e60;
constexpr double kLeastSingleNorm = 1e-12, kMostSingleNorm = 1e15;

// Corrections in a row that may fail to halve the backward error while it is not settled: large residuals and
// conditions make single ones miss.
constexpr int kPatience = 3;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

// The inner solver where A M is as good as orthonormal: y = c, which it holds already.
void as_it_is(MatrixView<const double>, MatrixView<double>) {}

std::string in_words(double backward_error) {
  char text[80];
  std::snprintf(text, sizeof text, "its backward error stayed at %.1e", backward_error);
  return text;
}

// Blocks of the d x k iterates of inner solvers, a scalar for each column.
class Columns {
 public:
  Columns(const Exec& exec, std::int64_t rows, std::int64_t cols) : exec_(exec), rows_(rows), cols_(cols) {}

  // sum over rows of x y, column by column.
  std::vector<double> dots(MatrixView<const double> x, MatrixView<const double> y) const {
    std::vector<double> sums(at(cols_), 0.0);
    const std::vector<double> left = on_host(x), right = on_host(y);
    for (std::int64_t r = 0; r < rows_; ++r)
      for (std::int64_t c = 0; c < cols_; ++c) sums[at(c)] += left[at(r * cols_ + c)] * right[at(r * cols_ + c)];
    return sums;
  }

  // y += x diag(factors)
  void add(const std::vector<double>& factors, MatrixView<const double> x, MatrixView<double> y) const {
    const Array<double> scaled = copied(exec_, x);
    scale(factors, scaled.view());
    axpby<double, double>(exec_, 1.0, scaled.view(), 1.0, y);
  }

  // x = x diag(factors)
  void scale(const std::vector<double>& factors, MatrixView<double> x) const {
    Array<double> device(exec_, cols_);
    upload<double>(exec_, {factors.data(), 1, cols_}, device.view());
    scale_columns<double>(exec_, device.data(), x);
  }

 private:
  std::vector<double> on_host(MatrixView<const double> x) const {
    std::vector<double> host(at(rows_ * cols_));
    download<double>(exec_, x, {host.data(), rows_, cols_});
    return host;
  }

  const Exec& exec_;
  std::int64_t rows_, cols_;
};

std::vector<double> quotients(const std::vector<double>& above, const std::vector<double>& below) {
  std::vector<double> out(above.size(), 0.0);
  // 0 / 0: a column that has converged stays where it is.
  for (std::size_t j = 0; j < out.size(); ++j) out[j] = below[j] > 0 ? above[j] / below[j] : 0.0;
  return out;
}

// One problem, as solve_tall takes it.
class TallSolver {
 public:
  TallSolver(const Exec& exec, const TallOperand& a, const RowsView& a_rows, const RowsView& b,
             const LstsqOptions& options, std::optional<int> a_power)
      : exec_(exec),
        a_(a),
        a_rows_(a_rows),
        options_(options),
        a_power_(a_power),
        n_(a.rows()),
        d_(a.cols()),
        k_(b.cols),
        rtol_(asked_rtol()),
        b_(exec, n_, k_),
        r_(exec, n_, k_),
        g_(exec, d_, k_) {
    load_rows<double>(exec_, b, nullptr, nullptr, b_.view(), "b");
    b_powers_ = exponents_of(column_maxima(exec_, b_.view()));
    shift_columns(exec_, b_powers_, -1, b_.view());
    b_norms_ = column_norms(exec_, b_.view());
    if (exec_.device() == Device::cpu) {
      b_rows_ = RowsView::dense<double>(b_.view());
    } else {
      b_host_.resize(at(n_ * k_));
      download<double>(exec_, b_.view(), {b_host_.data(), n_, k_});
      b_rows_ = RowsView::dense<double>({b_host_.data(), n_, k_});
    }
    shape_.n = n_;
    shape_.d = d_;
    shape_.k = k_;
    a_.describe(shape_);
  }

  LstsqResult solve() {
    if (options_.method != LstsqMethod::automatic) {
      why_ = "asked for";
      const bool done = run(options_.method, std::nullopt);
      if (done && good_enough()) return finish();
      if (done) failure_ = shortcoming();
      const char* advice = !a_.has_rows()                       ? "; method \"qr\" forms the matrix of the operator"
                           : options_.method == LstsqMethod::qr ? ""
                                                                : "; method \"auto\" takes another one";
      throw Error(ErrorCode::not_positive_definite,
                  std::string("method \"") + name_of(options_.method) + "\" breaks down: " + failure_ + advice);
    }
    const LstsqCost first = choose();
    std::vector<LstsqMethod> order = {first.method};
    if (first.method == LstsqMethod::cholesky) order.push_back(LstsqMethod::preconditioned_cholesky);
    if (first.method != LstsqMethod::qr && a_.has_rows()) order.push_back(LstsqMethod::qr);
    if (!a_.has_rows()) order.push_back(first.method == LstsqMethod::spir ? LstsqMethod::fossils : LstsqMethod::spir);
    std::optional<LstsqResult> best;
    for (const LstsqMethod method : order) {
      const bool is_first = method == first.method;
      if (run(method, is_first ? std::optional<bool>(first.single) : std::nullopt)) {
        // Where rtol cuts, what is cut off shows as a backward error that is meant to be.
        const bool good = good_enough();
        const bool nearer = !best || largest_of(result_.backward_errors) < largest_of(best->backward_errors);
        if (cuts_through_ || (good == best_is_good_ ? nearer : good)) {
          best = result_;
          best_is_good_ = good;
        }
        if (best_is_good_ && (cuts_through_ || largest_of(result_.backward_errors) <= kAccepted)) break;
        failure_ = shortcoming();
      }
      // No other sketch would answer either.
      const bool last = method == order.back() || (cuts_through_ && !a_.has_rows());
      if (!last) why_ += "; " + std::string(name_of(method)) + " given up: " + failure_;
      if (last) break;
    }
    if (!best_is_good_) {
      throw Error(ErrorCode::not_positive_definite,
                  "no method solves the problem: " + failure_ +
                      (a_.has_rows() ? "" : "; method \"qr\" forms the matrix of the operator"));
    }
    result_ = std::move(*best);
    return finish();
  }

 private:
  // --- which method --------------------------------------------------------------------------------------------------

  LstsqCost choose() {
    // Where even a perfectly conditioned matrix would be factored by QR, its condition need not be known.
    shape_.condition = 1;
    LstsqPlan plan = plan_lstsq(shape_, options_.speeds);
    if (plan.choice.method == LstsqMethod::cholesky) {
      shape_.condition = sampled_condition();
      plan = plan_lstsq(shape_, options_.speeds);
    }
    char text[256];
    double other = std::numeric_limits<double>::infinity();
    LstsqMethod runner_up = plan.choice.method;
    for (const LstsqCost& cost : plan.costs) {
      const bool same = cost.method == plan.choice.method || cost.method == LstsqMethod::sketch_and_solve;
      if (!same && cost.seconds < other) {
        other = cost.seconds;
        runner_up = cost.method;
      }
    }
    if (std::isfinite(other)) {
      std::snprintf(text, sizeof text, "cheapest by the cost model: %.2g s, next %s %.2g s", plan.choice.seconds,
                    name_of(runner_up), other);
    } else {
      std::snprintf(text, sizeof text, "the only method for this matrix");
    }
    why_ = text;
    return plan.choice;
  }

  // The condition, for columns of equal length, of some 4 d rows in 32 runs: a hint that decides about time only.
  double sampled_condition() {
    const std::int64_t wanted = std::min(n_, std::max<std::int64_t>(4 * d_, 256));
    const std::int64_t runs = std::min<std::int64_t>(32, n_);
    const std::int64_t length = std::min(n_ / runs, (wanted + runs - 1) / runs);
    Array<double> rows(exec_, runs * length, d_);
    for (std::int64_t k = 0; k < runs; ++k) a_.load(k * (n_ / runs), rows.view().block(k * length, 0, length, d_));
    SymmetricMatrix<double> gram(exec_, d_);
    gram_update<double>(exec_, 1.0, rows.view(), gram);
    const double condition = factor_scaled(exec_, std::move(gram)).condition;
    return std::isfinite(condition) ? condition : 1e16;
  }

  // --- pieces --------------------------------------------------------------------------------------------------------

  double asked_rtol() const { return options_.rtol >= 0 ? options_.rtol : default_rtol(d_); }

  // Is this an answer that may be returned?
  bool good_enough() const {
    if (result_.method == LstsqMethod::sketch_and_solve) return true;
    return fits_b() && (cuts_through_ || largest_of(result_.backward_errors) <= kReturned);
  }

  // A solution that is worse than x = 0 has followed directions in which A is nothing but rounding. Backward errors do
  // not show it: they are relative to |A| |x|.
  bool fits_b() const { return are_residuals(result_.residual_norms, b_norms_); }

  std::string shortcoming() const {
    return fits_b() ? in_words(largest_of(result_.backward_errors)) : "its residual is longer than b";
  }

  // The last method there is raises rtol until the rank fits; before that another method takes over.
  bool may_widen(LstsqMethod method) const {
    const bool last = method == LstsqMethod::qr || options_.method != LstsqMethod::automatic || !a_.has_rows();
    return last && raised_rtol(rtol_) > rtol_;
  }

  // Is the rank one that only A itself can tell, and may it be asked?
  bool sketch_in_doubt() {
    in_doubt_ = in_doubt_ && options_.method == LstsqMethod::automatic && a_.has_rows();
    if (in_doubt_) failure_ = "singular values of the sketch are near rounding, which takes those of A itself (\"qr\")";
    return in_doubt_;
  }

  void require_range(double norm, double least, double most) const {
    if (!a_power_.has_value() && !(norm >= least && norm <= most)) throw OutOfRange{};
  }

  // A direction that the sketch says is in the null space of A, and is not: the sketch, not A, has lost rank.
  bool sketch_lost_rank() {
    if (null_.size() == 0) return false;
    constexpr std::int64_t probes = 2;
    Array<double> weights(exec_, null_.cols(), probes), x(exec_, d_, probes), image(exec_, n_, probes),
        gradient(exec_, d_, probes);
    fill_random<double>(exec_, Distribution::gaussian, RngStream(0, RngFamily::gaussian), 1.0, weights.view());
    gemm<double>(exec_, Trans::no, Trans::no, 1.0, null_.view(), weights.view(), 0.0, x.view());
    a_.sweep(x.view(), {}, image.view(), gradient.view());
    ++readings_;
    const std::vector<double> found = column_norms(exec_, image.view()), sizes = column_norms(exec_, x.view());
    // The distortion of the sketch and the probes' own luck: five times covers them.
    const double rounding = 5 * std::max(rtol_, kSketched) * largest_value_;
    for (std::size_t j = 0; j < found.size(); ++j) {
      if (found[j] <= rounding * sizes[j]) continue;
      failure_ = "a sketch of " + std::to_string(result_.sketch_rows) + " rows has lost rank";
      return true;
    }
    return false;
  }

  // Has a sketch answered for singular values that only A itself can tell?
  bool sketch_cuts_through() {
    if (cuts_through_) failure_ = "rtol cuts through the singular values, which takes those of A itself (\"qr\")";
    return cuts_through_;
  }

  // r_ = b - A x (or -A x) and g = A'r_ - ridge x.
  void sweep(MatrixView<const double> x, bool with_b, MatrixView<double> g) {
    exec_.poll();
    a_.sweep(x, with_b ? b_.view() : MatrixView<const double>(), r_.view(), g);
    if (options_.ridge > 0) axpby<double, double>(exec_, -options_.ridge, x, 1.0, g);
    ++readings_;
  }

  // R of [S A, S b; sqrt(ridge) I, 0]: (d + k) x (d + k).
  Array<double> sketched_triangle(double ratio) {
    const auto wanted = static_cast<std::int64_t>(ratio * static_cast<double>(d_));
    const std::int64_t first = options_.sketch_rows > 0 ? options_.sketch_rows : std::max<std::int64_t>(wanted, 16);
    result_.sketch_rows = first << draw_;
    GRAMIAN_REQUIRE(result_.sketch_rows >= d_, invalid_argument,
                    "sketch_rows must be at least the number of columns, " + std::to_string(d_) + ", got " +
                        std::to_string(result_.sketch_rows));
    SketchDist dist;
    dist.kind = SketchKind::sparse_sign;
    dist.n_out = result_.sketch_rows;
    dist.n_in = n_;
    dist.seed = options_.seed;
    dist.nnz = std::min<std::int64_t>(8, dist.n_out);
    dist.generation = static_cast<std::uint32_t>(draw_);
    const SketchOp op(dist);
    const std::int64_t penalty = options_.ridge > 0 ? d_ : 0;
    Array<double> both = zeros(exec_, dist.n_out + penalty, d_ + k_);
    a_.sketch(op, both.view().block(0, 0, dist.n_out, d_));
    op.apply<double>(exec_, b_rows_, both.view().block(0, d_, dist.n_out, k_));
    ++readings_;
    if (penalty > 0) {
      std::vector<double> diagonal(at(d_ * d_), 0.0);
      for (std::int64_t j = 0; j < d_; ++j) diagonal[at(j * d_ + j)] = std::sqrt(options_.ridge);
      upload<double>(exec_, {diagonal.data(), d_, d_}, both.view().block(dist.n_out, 0, d_, d_));
    }
    Array<double> r(exec_, d_ + k_, d_ + k_);
    qr_factor_r<double>(exec_, both.view(), r.view());
    return r;
  }

  // The preconditioner of the triangle of [A b], or of a sketch of it, and in x_ the solution of the problem that the
  // triangle stands for.
  Preconditioner of_triangle(MatrixView<const double> r) {
    const MatrixView<const double> r11 = r.block(0, 0, d_, d_), r12 = r.block(0, d_, d_, k_);
    null_ = Array<double>();
    double norm = 0;
    for (const double length : column_norms(exec_, r11)) norm = std::hypot(norm, length);
    require_range(norm, kLeastNorm, kMostNorm);
    ScaledFactor scaled = factor_scaled_triangle(exec_, r11);
    x_ = zeros(exec_, d_, k_);
    result_.condition = scaled.condition;
    result_.rank = d_;
    const bool sketched = result_.sketch_rows > 0;
    const double rtol = sketched && options_.rtol < 0 ? std::max(rtol_, kSketched) : rtol_;
    // Singular values are those of A itself; ten covers what the estimate may be off.
    const double least = sketched ? std::max(rtol, kDoubt) : rtol;
    if (10 * unscaled_bound(scaled) * least < 1) return full_rank(std::move(scaled), r12);
    Array<double> u(exec_, d_, d_), vt(exec_, d_, d_);
    std::vector<double> s;
    small_svd<double>(exec_, r11, u.view(), s, vt.view());
    std::int64_t rank = 0;
    while (rank < d_ && s[at(rank)] > rtol * s[0]) ++rank;
    in_doubt_ = std::any_of(s.begin(), s.end(), [&](double v) { return v > rtol_ * s[0] && v < kDoubt * s[0]; });
    result_.rank = rank;
    result_.condition = rank > 0 ? s[0] / s[at(rank - 1)] : 1.0;
    if (rank == d_ && std::isfinite(scaled.condition)) return full_rank(std::move(scaled), r12);
    // What is cut off must be rounding: else the directions of a sketch are not those of A.
    cuts_through_ = rank < d_ && s[at(rank)] > kCuts * s[0];
    largest_value_ = s[0];
    if (rank < d_) {
      null_ = Array<double>(exec_, d_, d_ - rank);
      transpose<double>(exec_, vt.view().block(rank, 0, d_ - rank, d_), null_.view());
    }
    s.resize(at(rank));
    Array<double> basis(exec_, d_, rank), coordinates(exec_, rank, k_);
    if (rank > 0) {
      std::vector<double> inverse(s);
      for (double& value : inverse) value = 1.0 / value;
      scale_rows<double>(exec_, inverse, vt.view().block(0, 0, rank, d_));
      transpose<double>(exec_, vt.view().block(0, 0, rank, d_), basis.view());
      gemm<double>(exec_, Trans::yes, Trans::no, 1.0, u.view().block(0, 0, d_, rank), r12, 0.0, coordinates.view());
      gemm<double>(exec_, Trans::no, Trans::no, 1.0, basis.view(), coordinates.view(), 0.0, x_.view());
    }
    return Preconditioner(exec_, std::move(basis), std::move(s));
  }

  Preconditioner full_rank(ScaledFactor scaled, MatrixView<const double> r12) {
    axpby<double, double>(exec_, 1.0, r12, 0.0, x_.view());
    cholesky_solve_half<double>(exec_, Trans::yes, scaled.factor, x_.view());
    scale_rows<double>(exec_, scaled.scale, x_.view());
    return Preconditioner(exec_, std::move(scaled.scale), std::move(scaled.factor));
  }

  // gram += (A M)'(A M), sums = (A M)'b with M given (null: M = I), products in P. One reading of A.
  template <class P>
  void accumulate(const Preconditioner* m, SymmetricMatrix<double>& gram, MatrixView<double> sums) {
    const std::int64_t rank = gram.size();
    const std::int64_t edge = std::clamp<std::int64_t>((std::int64_t{1} << 20) / d_, 512, 8192);
    const std::int64_t height = std::min(edge, n_);
    GramUpdater<P> updater(exec_, gram, height);
    Array<P> block(exec_, height, rank), part(exec_, rank, k_);
    Array<double> wide(exec_, m != nullptr ? height : 0, d_);
    const bool turns = m != nullptr && m->has_basis();
    Array<double> turned(exec_, turns ? height : 0, rank);
    // b in P, of size 1, so that it fits the range of float.
    const double size = largest_of(column_norms(exec_, b_.view()));
    const double scale = size > 0 ? 1.0 / size : 1.0;
    Array<P> right(exec_, height, k_);
    axpby<double, double>(exec_, 0.0, {}, 0.0, sums);
    for (std::int64_t begin = 0; begin < n_; begin += edge) {
      exec_.poll();
      const std::int64_t rows = std::min(edge, n_ - begin);
      const MatrixView<P> x = block.view().block(0, 0, rows, rank), b = right.view().block(0, 0, rows, k_);
      if (m == nullptr) {
        a_.load(begin, x);
      } else {
        const MatrixView<double> w = wide.view().block(0, 0, rows, d_);
        a_.load(begin, w);
        const MatrixView<double> turn = turns ? turned.view().block(0, 0, rows, rank) : MatrixView<double>();
        axpby<double, P>(exec_, 1.0, m->apply_to_rows(w, turn), 0.0, x);
      }
      updater.update(exec_, 1.0, x, gram);
      axpby<double, P>(exec_, scale, b_.view().block(begin, 0, rows, k_), 0.0, b);
      gemm<P>(exec_, Trans::yes, Trans::no, 1.0, x, b, 0.0, part.view());
      axpby<P, double>(exec_, 1.0 / scale, part.view(), 1.0, sums);
    }
    ++readings_;
  }

  // --- the methods; false with the reason in failure_ where one breaks down ---------------------------------------

  // single: whether products may be made in float; unset: as the condition allows.
  bool run(LstsqMethod method, std::optional<bool> single) {
    readings_ = 0;
    redrawn_.clear();
    rtol_ = asked_rtol();
    draw_ = 0;
    while (true) {
      cuts_through_ = in_doubt_ = false;
      result_ = LstsqResult();
      result_.method = method;
      result_.rank = d_;
      const bool done = run_once(method, single);
      result_.iterations = readings_;
      result_.why = redrawn_;
      if (done && good_enough()) return true;
      if (done && !fits_b() && may_widen(method)) {
        rtol_ = raised_rtol(rtol_);
        redrawn_ = raised_in_words(rtol_);
        continue;
      }
      // A sketch of as many rows as A has is no cheaper than A itself, unless both are small.
      const bool too_tall = 2 * result_.sketch_rows > std::max<std::int64_t>(n_, 4096);
      if (cuts_through_ || in_doubt_ || result_.sketch_rows == 0 || draw_ == kRedraws || too_tall) return done;
      redrawn_ = "; sketched anew with twice the rows: " + (done ? shortcoming() : failure_);
      ++draw_;
    }
  }

  bool run_once(LstsqMethod method, std::optional<bool> single) {
    switch (method) {
      case LstsqMethod::qr:
        return by_qr();
      case LstsqMethod::cholesky:
        return by_cholesky(single);
      case LstsqMethod::preconditioned_cholesky:
        return by_preconditioned_cholesky();
      default:
        return by_sketch(method);
    }
  }

  bool by_qr() {
    const std::int64_t size = d_ + k_;
    Array<double> r(exec_, size, size);
    const RowLoader<double> load = [&](std::int64_t begin, MatrixView<double> out) {
      load_rows<double>(exec_, a_rows_.slice(begin, out.rows), nullptr, nullptr, out.block(0, 0, out.rows, d_), "A");
      load_rows<double>(exec_, b_rows_.slice(begin, out.rows), nullptr, nullptr, out.block(0, d_, out.rows, k_), "b");
    };
    qr_factor_r<double>(exec_, n_, load, r.view());
    ++readings_;
    if (options_.ridge > 0) {
      std::vector<double> host(at(size * size), 0.0);
      for (std::int64_t j = 0; j < d_; ++j) host[at(j * size + j)] = std::sqrt(options_.ridge);
      Array<double> penalty(exec_, size, size);
      upload<double>(exec_, {host.data(), size, size}, penalty.view());
      qr_merge_r<double>(exec_, penalty.view(), r.view());
    }
    const Preconditioner m = of_triangle(r.view());
    refine(m, as_it_is);
    return true;
  }

  bool by_cholesky(std::optional<bool> single) {
    const bool narrow = single.has_value()
                            ? *single
                            : shape_.item_bytes == 4 || single_contraction(sampled_condition()) < kUsefulContraction;
    for (const bool in_float : {true, false}) {
      if (in_float && !narrow) continue;
      SymmetricMatrix<double> gram(exec_, d_);
      Array<double> sums(exec_, d_, k_);
      if (in_float) {
        accumulate<float>(nullptr, gram, sums.view());
      } else {
        accumulate<double>(nullptr, gram, sums.view());
      }
      if (options_.ridge > 0) gram.add_diagonal(exec_, options_.ridge);
      std::vector<double> squares(at(d_));
      gram.diagonal(exec_, squares.data());
      double norm = 0;
      for (const double square : squares) norm = std::hypot(norm, std::sqrt(square));
      require_range(norm, in_float ? kLeastSingleNorm : kLeastNorm, in_float ? kMostSingleNorm : kMostNorm);
      ScaledFactor factor = factor_scaled(exec_, std::move(gram));
      result_.condition = factor.condition;
      const double rate = in_float ? single_contraction(factor.condition) : double_contraction(factor.condition);
      if (!(rate <= kUsefulContraction)) {
        char text[64];
        std::snprintf(text, sizeof text, "the condition of A'A is %.1e", factor.condition * factor.condition);
        failure_ = std::isfinite(factor.condition) ? text : "A'A is numerically singular";
        continue;
      }
      if (!(10 * unscaled_bound(factor) * rtol_ < 1)) {
        failure_ = "the rank is in doubt at this rtol";
        return false;
      }
      const Preconditioner m(exec_, std::move(factor.scale), std::move(factor.factor));
      start_from(m, sums.view());
      refine(m, as_it_is);
      return true;
    }
    return false;
  }

  bool by_preconditioned_cholesky() {
    const Array<double> r = sketched_triangle(kDirectRows);
    Preconditioner m = of_triangle(r.view());
    if (sketch_cuts_through() || sketch_in_doubt() || sketch_lost_rank()) return false;
    const std::int64_t rank = m.rank();
    SymmetricMatrix<double> gram(exec_, rank);
    Array<double> sums(exec_, rank, k_);
    if (rank > 0) {
      accumulate<float>(&m, gram, sums.view());
      if (options_.ridge > 0) add_penalty(m, gram);
      if (cholesky(exec_, gram) != 0) {
        failure_ = "the sketch is no preconditioner of A";
        return false;
      }
      m.refine(std::move(gram));
      for_refined(m, sums.view());
    }
    refine(m, as_it_is);
    return true;
  }

  // x_ = M M' (A'b) where sums = A'b.
  void start_from(const Preconditioner& m, MatrixView<const double> sums) {
    Array<double> c(exec_, m.rank(), k_);
    x_ = zeros(exec_, d_, k_);
    m.apply_transposed(sums, c.view());
    m.apply(c.view(), x_.view());
  }

  // The same where sums = M1' A'b for the M1 that m was before its last factor L: M = M1 L^-T, so M'A'b = L^-1 sums.
  void for_refined(const Preconditioner& m, MatrixView<double> sums) {
    cholesky_solve_half<double>(exec_, Trans::no, m.last_factor(), sums);
    m.apply(sums, x_.view());
  }

  // gram += ridge M'M
  void add_penalty(const Preconditioner& m, SymmetricMatrix<double>& gram) {
    const std::int64_t rank = m.rank();
    std::vector<double> identity(at(rank * rank), 0.0);
    for (std::int64_t j = 0; j < rank; ++j) identity[at(j * rank + j)] = 1.0;
    Array<double> unit(exec_, rank, rank), dense(exec_, d_, rank);
    upload<double>(exec_, {identity.data(), rank, rank}, unit.view());
    m.apply(unit.view(), dense.view());
    gram_update<double>(exec_, options_.ridge, dense.view(), gram);
  }

  bool by_sketch(LstsqMethod method) {
    const Array<double> r = sketched_triangle(kIterativeRows);
    const Preconditioner m = of_triangle(r.view());
    if (sketch_cuts_through() || sketch_in_doubt() || sketch_lost_rank()) return false;
    if (method == LstsqMethod::sketch_and_solve) {
      BackwardError error(exec_, m.triangle());
      measure(error);
      take_solution();
      return true;
    }
    const double ratio = std::max(1.5, static_cast<double>(result_.sketch_rows) / static_cast<double>(d_));
    const int needed = static_cast<int>(inner_steps(ratio));
    const int steps = options_.inner_steps > 0 ? options_.inner_steps : needed;
    refine(m, [&](MatrixView<const double> c, MatrixView<double> y) {
      if (method == LstsqMethod::spir) {
        conjugate_gradients(m, c, steps, y);
      } else {
        heavy_ball(m, c, steps, 1 / ratio, y);
      }
    });
    return true;
  }

  // --- iterations ----------------------------------------------------------------------------------------------------

  // out = M'(A'A + ridge) M y
  void apply_operator(const Preconditioner& m, MatrixView<const double> y, MatrixView<double> out) {
    Array<double> z(exec_, d_, k_), g(exec_, d_, k_);
    m.apply(y, z.view());
    sweep(z.view(), false, g.view());
    m.apply_transposed(g.view(), out);
    axpby<double, double>(exec_, 0.0, {}, -1.0, out);
  }

  // y = (approximately) (M'A'A M)^-1 c, from zero.
  void conjugate_gradients(const Preconditioner& m, MatrixView<const double> c, int steps, MatrixView<double> y) {
    const std::int64_t rank = m.rank();
    const Columns columns(exec_, rank, k_);
    axpby<double, double>(exec_, 0.0, {}, 0.0, y);
    const Array<double> rest = copied(exec_, c), p = copied(exec_, c), q(exec_, rank, k_);
    std::vector<double> square = columns.dots(rest.view(), rest.view());
    for (int step = 0; step < steps; ++step) {
      if (!(largest_of(square) > 0)) return;
      apply_operator(m, p.view(), q.view());
      std::vector<double> alpha = quotients(square, columns.dots(p.view(), q.view()));
      columns.add(alpha, p.view(), y);
      for (double& value : alpha) value = -value;
      columns.add(alpha, q.view(), rest.view());
      const std::vector<double> next = columns.dots(rest.view(), rest.view());
      columns.scale(quotients(next, square), p.view());
      axpby<double, double>(exec_, 1.0, rest.view(), 1.0, p.view());
      square = next;
    }
  }

  // The same by Polyak's heavy ball for eigenvalues in (1 +- sqrt(beta))^-2: no inner products.
  void heavy_ball(const Preconditioner& m, MatrixView<const double> c, int steps, double beta, MatrixView<double> y) {
    const std::int64_t rank = m.rank();
    const double alpha = (1 - beta) * (1 - beta);
    axpby<double, double>(exec_, 1.0, c, 0.0, y);
    const Array<double> before = copied(exec_, c), q(exec_, rank, k_);
    for (int step = 0; step < steps; ++step) {
      apply_operator(m, y, q.view());
      // next = y + alpha (c - q) + beta (y - before), and before = y.
      axpby<double, double>(exec_, alpha, c, -alpha, q.view());
      axpby<double, double>(exec_, 1 + beta, y, 1.0, q.view());
      axpby<double, double>(exec_, -beta, before.view(), 1.0, q.view());
      axpby<double, double>(exec_, 1.0, y, 0.0, before.view());
      axpby<double, double>(exec_, 1.0, q.view(), 0.0, y);
    }
  }

  // Residual, gradient and backward errors at x_, into the result.
  double measure(BackwardError& error) {
    sweep(x_.view(), true, g_.view());
    result_.residual_norms = column_norms(exec_, r_.view());
    std::vector<double> sizes = column_norms(exec_, x_.view()), residuals = result_.residual_norms;
    if (options_.ridge > 0) {
      for (std::size_t j = 0; j < sizes.size(); ++j)
        residuals[j] = std::hypot(residuals[j], std::sqrt(options_.ridge) * sizes[j]);
    }
    result_.backward_errors = error(g_.view(), residuals, sizes);
    some_zero_ = false;
    for (std::size_t j = 0; j < sizes.size(); ++j)
      some_zero_ = some_zero_ || (sizes[j] == 0 && result_.backward_errors[j] > 0);
    return largest_of(result_.backward_errors);
  }

  // Corrections x += M y, y = inner(M' A'(b - A x)), until the backward error no longer falls. The best x stays.
  template <class Inner>
  void refine(const Preconditioner& m, const Inner& inner) {
    BackwardError error(exec_, m.triangle());
    const std::int64_t rank = m.rank();
    Array<double> c(exec_, rank, k_), y(exec_, rank, k_), step(exec_, d_, k_);
    double before = std::numeric_limits<double>::infinity();
    int failures = 0;
    Array<double> best_x;
    LstsqResult best;
    for (int round = 0;; ++round) {
      const double now = measure(error);
      if (round == 0 || now < largest_of(best.backward_errors)) {
        best_x = copied(exec_, x_.view());
        best = result_;
      }
      const double least = largest_of(best.backward_errors);
      failures = round > 0 && !(now < 0.5 * before) ? failures + 1 : 0;
      // Where the ridge is out of all proportion x = 0 is accurate in norm, but the solution is one correction away.
      const bool stuck = failures > 0 && (least <= kSettled || failures == kPatience);
      if (stuck || (least <= kReached && !(round == 0 && some_zero_))) break;
      if (round >= options_.max_rounds || rank == 0) break;
      before = now;
      m.apply_transposed(g_.view(), c.view());
      // Near 1, so that squares of what the inner solver gains stay in range.
      std::vector<int> powers;
      for (const double size : column_norms(exec_, c.view())) powers.push_back(exponent_of(size));
      shift_columns(exec_, powers, -1, c.view());
      axpby<double, double>(exec_, 1.0, c.view(), 0.0, y.view());
      inner(c.view(), y.view());
      shift_columns(exec_, powers, 1, y.view());
      m.apply(y.view(), step.view());
      axpby<double, double>(exec_, 1.0, step.view(), 1.0, x_.view());
    }
    result_ = best;
    x_ = std::move(best_x);
    take_solution();
  }

  void take_solution() {
    result_.x.resize(at(d_ * k_));
    download<double>(exec_, x_.view(), {result_.x.data(), d_, k_});
  }

  LstsqResult finish() {
    result_.why = why_ + result_.why;
    shift_back(result_, a_power_.value_or(0), b_powers_);
    return std::move(result_);
  }

  const Exec& exec_;
  const TallOperand& a_;
  const RowsView& a_rows_;
  const LstsqOptions& options_;
  const std::optional<int> a_power_;
  const std::int64_t n_, d_, k_;
  double rtol_;  // as asked for, or raised
  LstsqShape shape_;
  Array<double> b_, r_, g_, x_;
  std::vector<double> b_norms_;
  std::vector<int> b_powers_;  // b_ is b with column j times 2^-b_powers_[j]
  std::vector<double> b_host_;
  RowsView b_rows_;  // of b_
  LstsqResult result_;
  std::int64_t readings_ = 0;
  int draw_ = 0;              // of the sketch
  Array<double> null_;        // what the last triangle says is in the null space of A, empty for full rank
  double largest_value_ = 0;  // singular value of that triangle
  bool cuts_through_ = false, best_is_good_ = false;
  bool in_doubt_ = false;   // a singular value of the last triangle that counts is near rounding
  bool some_zero_ = false;  // a column of x is zero where the gradient is not
  std::string why_, failure_, redrawn_;
};

}  // namespace

LstsqResult solve_tall(const Exec& exec, const TallOperand& a, const RowsView& a_rows, const RowsView& b,
                       const LstsqOptions& options, std::optional<int> a_power) {
  return TallSolver(exec, a, a_rows, b, options, a_power).solve();
}

bool are_residuals(const std::vector<double>& norms, const std::vector<double>& b_norms) {
  // A backward error of eps in A of condition c adds (c eps)^2 |b| at most, which is 5e-4 for 1e14.
  constexpr double longest = 1.001;
  for (std::size_t j = 0; j < norms.size(); ++j)
    if (!(norms[j] <= longest * b_norms[j])) return false;
  return true;
}

double raised_rtol(double rtol) {
  return rtol < kWidest ? std::max(32 * rtol, kSketched) : rtol;
}

std::string raised_in_words(double rtol) {
  char text[120];
  std::snprintf(text, sizeof text, "; solved anew with rtol %.1e: the residual was longer than b", rtol);
  return text;
}

void shift_back(LstsqResult& result, int a_power, const std::vector<int>& b_powers) {
  const std::size_t k = b_powers.size();
  for (std::size_t i = 0; i < result.x.size(); ++i) result.x[i] = std::ldexp(result.x[i], b_powers[i % k] - a_power);
  for (std::size_t j = 0; j < k; ++j) result.residual_norms[j] = std::ldexp(result.residual_norms[j], b_powers[j]);
  for (const double value : result.x) {
    GRAMIAN_REQUIRE(std::isfinite(value), no_convergence,
                    "the solution lies outside the range of float64: A or b are scaled too far apart");
  }
  for (const double value : result.backward_errors) {
    GRAMIAN_REQUIRE(!std::isnan(value), no_convergence, "the solution cannot be computed in float64");
  }
}

Array<double> copied(const Exec& exec, MatrixView<const double> x) {
  Array<double> out(exec, x.rows, x.cols);
  axpby<double, double>(exec, 1.0, x, 0.0, out.view());
  return out;
}

Array<double> zeros(const Exec& exec, std::int64_t rows, std::int64_t cols) {
  Array<double> out(exec, rows, cols);
  axpby<double, double>(exec, 0.0, {}, 0.0, out.view());
  return out;
}

}  // namespace gramian::regression
