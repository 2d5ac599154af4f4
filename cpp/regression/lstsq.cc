#include "gramian/regression/lstsq.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/gram/r_factor.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/linalg/symmetric.hpp"
#include "gramian/sketch/operator.hpp"
#include "regression/contraction.h"
#include "regression/preconditioner.h"
#include "regression/tall_operand.h"

namespace gramian {
namespace {

using regression::BackwardError;
using regression::column_norms;
using regression::Preconditioner;
using regression::ScaledFactor;
using regression::TallOperand;

constexpr double kUnit = std::numeric_limits<double>::epsilon() / 2;
// Backward errors at which nothing is left to gain, at which a correction that gains nothing is the last, and above
// which another method is tried where we may choose.
constexpr double kReached = kUnit / 4;
constexpr double kSettled = kUnit / 2;
constexpr double kAccepted = 8 * kUnit;
// Corrections in a row that may fail to halve the backward error while it is not settled: large residuals and
// conditions make single ones miss.
constexpr int kPatience = 3;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

// The inner solver where A M is as good as orthonormal: y = c, which it holds already.
void as_it_is(MatrixView<const double>, MatrixView<double>) {}

double largest_of(const std::vector<double>& values) {
  double largest = 0;
  // A NaN is the largest of all.
  for (const double value : values) largest = value <= largest ? largest : value;
  return largest;
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

// A bound for the condition without the scaling of the columns.
double unscaled_bound(const ScaledFactor& scaled) {
  if (scaled.scale.empty()) return scaled.condition;
  const auto ends = std::minmax_element(scaled.scale.begin(), scaled.scale.end());
  return scaled.condition * *ends.second / *ends.first;
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

// One problem min |A x - b|^2 + ridge |x|^2 with A at least as tall as wide.
class TallSolver {
 public:
  TallSolver(const Exec& exec, const TallOperand& a, const RowsView& a_rows, const RowsView& b,
             const LstsqOptions& options)
      : exec_(exec),
        a_(a),
        a_rows_(a_rows),
        b_rows_(b),
        options_(options),
        n_(a.rows()),
        d_(a.cols()),
        k_(b.cols),
        rtol_(options.rtol >= 0 ? options.rtol : default_rtol(d_)),
        b_(exec, n_, k_),
        r_(exec, n_, k_),
        g_(exec, d_, k_) {
    load_rows<double>(exec_, b, nullptr, nullptr, b_.view(), "b");
    shape_.n = n_;
    shape_.d = d_;
    shape_.k = k_;
    a_.describe(shape_);
  }

  LstsqResult solve() {
    if (options_.method != LstsqMethod::automatic) {
      why_ = "asked for";
      if (!run(options_.method, std::nullopt)) {
        throw Error(ErrorCode::not_positive_definite,
                    std::string("method \"") + name_of(options_.method) + "\" breaks down: " + failure_ +
                        "; method \"auto\" takes another one");
      }
      return finish();
    }
    const LstsqCost first = choose();
    std::vector<LstsqMethod> order = {first.method};
    if (first.method == LstsqMethod::cholesky) order.push_back(LstsqMethod::preconditioned_cholesky);
    if (first.method != LstsqMethod::qr && a_.has_rows()) order.push_back(LstsqMethod::qr);
    std::optional<LstsqResult> best;
    for (const LstsqMethod method : order) {
      const bool is_first = method == first.method;
      if (run(method, is_first ? std::optional<bool>(first.single) : std::nullopt)) {
        if (!best || largest_of(result_.backward_errors) < largest_of(best->backward_errors)) best = result_;
        if (largest_of(result_.backward_errors) <= kAccepted) break;
        failure_ = "its backward error stayed at " + std::to_string(largest_of(result_.backward_errors) / kUnit) +
                   " units of rounding";
      }
      if (method != order.back()) why_ += "; " + std::string(name_of(method)) + " given up: " + failure_;
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
    for (std::int64_t k = 0; k < runs; ++k)
      a_.load(k * (n_ / runs), rows.view().block(k * length, 0, length, d_));
    SymmetricMatrix<double> gram(exec_, d_);
    gram_update<double>(exec_, 1.0, rows.view(), gram);
    const double condition = regression::factor_scaled(exec_, std::move(gram)).condition;
    return std::isfinite(condition) ? condition : 1e16;
  }

  // --- pieces --------------------------------------------------------------------------------------------------------

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
    result_.sketch_rows = options_.sketch_rows > 0 ? options_.sketch_rows : std::max<std::int64_t>(wanted, 16);
    GRAMIAN_REQUIRE(result_.sketch_rows >= d_, invalid_argument,
                    "sketch_rows must be at least the number of columns, " + std::to_string(d_) + ", got " +
                        std::to_string(result_.sketch_rows));
    SketchDist dist;
    dist.kind = SketchKind::sparse_sign;
    dist.n_out = result_.sketch_rows;
    dist.n_in = n_;
    dist.seed = options_.seed;
    dist.nnz = std::min<std::int64_t>(8, dist.n_out);
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
    ScaledFactor scaled = regression::factor_scaled_triangle(exec_, r11);
    x_ = zeros(exec_, d_, k_);
    result_.condition = scaled.condition;
    result_.rank = d_;
    // Singular values are those of A itself; ten covers what the estimate may be off.
    if (10 * unscaled_bound(scaled) * rtol_ < 1) return full_rank(std::move(scaled), r12);
    Array<double> u(exec_, d_, d_), vt(exec_, d_, d_);
    std::vector<double> s;
    small_svd<double>(exec_, r11, u.view(), s, vt.view());
    std::int64_t rank = 0;
    while (rank < d_ && s[at(rank)] > rtol_ * s[0]) ++rank;
    result_.rank = rank;
    result_.condition = rank > 0 ? s[0] / s[at(rank - 1)] : 1.0;
    if (rank == d_ && std::isfinite(scaled.condition)) return full_rank(std::move(scaled), r12);
    // What is cut off must be rounding: else the directions of a sketch are not those of A.
    cuts_through_ = rank < d_ && s[at(rank)] > 100 * default_rtol(d_) * s[0];
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
    Array<double> turned(exec_, m != nullptr && rank < d_ ? height : 0, rank);
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
        const MatrixView<double> turn = rank < d_ ? turned.view().block(0, 0, rows, rank) : MatrixView<double>();
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
    cuts_through_ = false;
    result_ = LstsqResult();
    result_.method = method;
    result_.rank = d_;
    bool done = false;
    switch (method) {
      case LstsqMethod::qr:
        done = by_qr();
        break;
      case LstsqMethod::cholesky:
        done = by_cholesky(single);
        break;
      case LstsqMethod::preconditioned_cholesky:
        done = by_preconditioned_cholesky();
        break;
      default:
        done = by_sketch(method);
    }
    result_.iterations = readings_;
    return done;
  }

  bool by_qr() {
    RFactor factor(exec_, d_, k_);
    factor.add(a_rows_, b_rows_, nullptr, "A", "b");
    ++readings_;
    const std::int64_t size = d_ + k_;
    std::vector<double> host(at(size * size));
    factor.triangle({host.data(), size, size});
    Array<double> r(exec_, size, size);
    upload<double>(exec_, {host.data(), size, size}, r.view());
    if (options_.ridge > 0) {
      std::fill(host.begin(), host.end(), 0.0);
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
    const bool narrow =
        single.has_value() ? *single
                           : shape_.item_bytes == 4 ||
                                 regression::single_contraction(sampled_condition()) < regression::kUsefulContraction;
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
      ScaledFactor factor = regression::factor_scaled(exec_, std::move(gram));
      result_.condition = factor.condition;
      const double rate = in_float ? regression::single_contraction(factor.condition)
                                   : regression::double_contraction(factor.condition);
      if (!(rate <= regression::kUsefulContraction)) {
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
    const Array<double> r = sketched_triangle(regression::kDirectRows);
    Preconditioner m = of_triangle(r.view());
    if (sketch_cuts_through()) return false;
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
    const Array<double> r = sketched_triangle(regression::kIterativeRows);
    const Preconditioner m = of_triangle(r.view());
    if (sketch_cuts_through()) return false;
    if (method == LstsqMethod::sketch_and_solve) {
      BackwardError error(exec_, m.triangle());
      measure(error);
      take_solution();
      return true;
    }
    const double ratio = std::max(1.5, static_cast<double>(result_.sketch_rows) / static_cast<double>(d_));
    const int needed = static_cast<int>(regression::inner_steps(ratio));
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
      if (least <= kReached || (failures > 0 && (least <= kSettled || failures == kPatience))) break;
      if (round >= options_.max_rounds || rank == 0) break;
      before = now;
      m.apply_transposed(g_.view(), c.view());
      axpby<double, double>(exec_, 1.0, c.view(), 0.0, y.view());
      inner(c.view(), y.view());
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
    result_.why = why_;
    return std::move(result_);
  }

  const Exec& exec_;
  const TallOperand& a_;
  const RowsView& a_rows_;
  const RowsView& b_rows_;
  const LstsqOptions& options_;
  const std::int64_t n_, d_, k_;
  const double rtol_;
  LstsqShape shape_;
  Array<double> b_, r_, g_, x_;
  LstsqResult result_;
  std::int64_t readings_ = 0;
  bool cuts_through_ = false;
  std::string why_, failure_;
};

// Fewer rows than columns: the solution of least norm by the QR factorisation of [A sqrt(ridge) I]'.
LstsqResult solve_wide(const Exec& exec, const RowsView& a, const RowsView& b, const LstsqOptions& options) {
  GRAMIAN_REQUIRE(options.method == LstsqMethod::automatic || options.method == LstsqMethod::qr, invalid_argument,
                  std::string("method \"") + name_of(options.method) +
                      "\" needs at least as many rows as columns, A is " + std::to_string(a.rows) + " x " +
                      std::to_string(a.cols) + "; method \"qr\" gives the solution of least norm");
  const std::int64_t n = a.rows, d = a.cols, k = b.cols;
  const bool ridge = options.ridge > 0;
  Array<double> rows(exec, n, d), right(exec, n, k), x = zeros(exec, d, k);
  load_rows<double>(exec, a, nullptr, nullptr, rows.view(), "A");
  load_rows<double>(exec, b, nullptr, nullptr, right.view(), "b");
  Array<double> q = zeros(exec, d + (ridge ? n : 0), n), r(exec, n, n);
  transpose<double>(exec, rows.view(), q.view().block(0, 0, d, n));
  if (ridge) {
    std::vector<double> diagonal(at(n * n), 0.0);
    for (std::int64_t i = 0; i < n; ++i) diagonal[at(i * n + i)] = std::sqrt(options.ridge);
    upload<double>(exec, {diagonal.data(), n, n}, q.view().block(d, 0, n, n));
  }
  qr_thin<double>(exec, q.view(), r.view());
  LstsqResult out;
  out.method = LstsqMethod::qr;
  out.why = options.method == LstsqMethod::qr ? "asked for" : "fewer rows than columns: least norm";
  out.iterations = 1;
  out.rank = n;
  // A = R'Q', so x = Q z with R'z = b; by the singular values of R where its rank is in doubt.
  const double rtol = options.rtol >= 0 ? options.rtol : default_rtol(n);
  const SymmetricMatrix<double> l = lower_factor<double, double>(exec, r.view());
  const ScaledFactor scaled = regression::factor_scaled_triangle(exec, r.view());
  out.condition = scaled.condition;
  Array<double> z = copied(exec, right.view());
  Array<double> vt;
  std::vector<double> s;
  if (!(10 * unscaled_bound(scaled) * rtol < 1)) {
    Array<double> u(exec, n, n), inside(exec, n, k);
    vt = Array<double>(exec, n, n);
    small_svd<double>(exec, r.view(), u.view(), s, vt.view());
    out.rank = 0;
    while (out.rank < n && s[at(out.rank)] > rtol * s[0]) ++out.rank;
    out.condition = out.rank > 0 ? s[0] / s[at(out.rank - 1)] : 1.0;
    if (out.rank < n) {
      // R' = V S U': z = U S^+ V'b.
      std::vector<double> inverse(at(n), 0.0);
      for (std::int64_t i = 0; i < out.rank; ++i) inverse[at(i)] = 1.0 / s[at(i)];
      gemm<double>(exec, Trans::no, Trans::no, 1.0, vt.view(), right.view(), 0.0, inside.view());
      scale_rows<double>(exec, inverse, inside.view());
      gemm<double>(exec, Trans::no, Trans::no, 1.0, u.view(), inside.view(), 0.0, z.view());
    }
  }
  if (out.rank == n) cholesky_solve_half<double>(exec, Trans::no, l, z.view());
  gemm<double>(exec, Trans::no, Trans::no, 1.0, q.view().block(0, 0, d, n), z.view(), 0.0, x.view());
  // Residuals b - A x, and the errors they mean: |r| / |x| where the equations can be solved, else only what of r lies
  // in the range of A counts.
  Array<double> rest = copied(exec, right.view());
  gemm<double>(exec, Trans::no, Trans::no, -1.0, rows.view(), x.view(), 1.0, rest.view());
  ++out.iterations;
  out.residual_norms = column_norms(exec, rest.view());
  const std::vector<double> sizes = column_norms(exec, x.view());
  Array<double> errors = copied(exec, rest.view());
  if (ridge) {
    // w = sqrt(ridge) z' is the part of the solution outside A; b - A x - ridge (A A' + ridge)^-1 b is what is wrong.
    gemm<double>(exec, Trans::no, Trans::no, -std::sqrt(options.ridge), q.view().block(d, 0, n, n), z.view(), 1.0,
                 errors.view());
  } else if (out.rank < n) {
    Array<double> inside(exec, n, k);
    gemm<double>(exec, Trans::no, Trans::no, 1.0, vt.view(), rest.view(), 0.0, inside.view());
    axpby<double, double>(exec, 0.0, {}, 0.0, inside.view().block(out.rank, 0, n - out.rank, k));
    axpby<double, double>(exec, 1.0, inside.view(), 0.0, errors.view());
  }
  double norm = 0;
  for (const double value : column_norms(exec, r.view())) norm = std::hypot(norm, value);
  out.backward_errors = column_norms(exec, errors.view());
  for (std::size_t j = 0; j < sizes.size(); ++j) {
    const double scale = norm * sizes[j];
    out.backward_errors[j] = scale > 0 ? out.backward_errors[j] / scale : 0.0;
  }
  out.x.resize(at(d * k));
  download<double>(exec, x.view(), {out.x.data(), d, k});
  return out;
}

void check(std::int64_t n, std::int64_t d, const RowsView& b, const LstsqOptions& options) {
  GRAMIAN_REQUIRE(n >= 1 && d >= 1, invalid_argument,
                  "A must have at least one row and one column, it is " + std::to_string(n) + " x " +
                      std::to_string(d));
  GRAMIAN_REQUIRE(b.rows == n && b.cols >= 1, shape_mismatch,
                  "b must have " + std::to_string(n) + " rows, as A has, and at least one column; it is " +
                      std::to_string(b.rows) + " x " + std::to_string(b.cols));
  GRAMIAN_REQUIRE(std::isfinite(options.ridge) && options.ridge >= 0, invalid_argument,
                  "ridge must be finite and not negative, got " + std::to_string(options.ridge));
  GRAMIAN_REQUIRE(!(options.rtol >= 1), invalid_argument, "rtol must be below 1, got " + std::to_string(options.rtol));
}

}  // namespace

LstsqResult lstsq(const Exec& exec, const RowsView& a, const RowsView& b, const LstsqOptions& options) {
  check(a.rows, a.cols, b, options);
  if (a.rows < a.cols) return solve_wide(exec, a, b, options);
  try {
    const std::unique_ptr<TallOperand> operand = regression::rows_operand(exec, a, "A");
    return TallSolver(exec, *operand, a, b, options).solve();
  } catch (const Error& error) {
    // Blocks are read by several threads and in a sketch's own order: the row that is named is the first bad one.
    if (error.code() == ErrorCode::non_finite) regression::require_finite(exec, a, "A");
    throw;
  }
}

LstsqResult lstsq(const Exec& exec, const LinearMap& a, const RowsView& b, const LstsqOptions& options) {
  check(a.n, a.d, b, options);
  const std::unique_ptr<TallOperand> operand = regression::map_operand(exec, a);
  const bool wants_rows = options.method == LstsqMethod::qr || options.method == LstsqMethod::cholesky ||
                          options.method == LstsqMethod::preconditioned_cholesky;
  if (wants_rows || static_cast<double>(a.n) <= 2 * regression::kIterativeRows * static_cast<double>(a.d)) {
    // Not tall enough for a sketch: the columns of A are its products with the unit vectors.
    Array<double> whole(exec, a.n, a.d);
    regression::materialise(exec, a, whole.view());
    return lstsq(exec, RowsView::dense<double>(whole.view()), b, options);
  }
  return TallSolver(exec, *operand, RowsView(), b, options).solve();
}

}  // namespace gramian
