#include "gramian/regression/logistic_head.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/iterate.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/symmetric.hpp"
#include "gramian/regression/diagonal_steps.hpp"
#include "regression/row_source.h"

namespace gramian {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr std::int64_t kTask = 512;           // rows of a task of the loops over scores
constexpr std::int64_t kLargestBound = 4096;  // wider systems are solved without the bound
constexpr int kMostTrials = 30;
constexpr double kArmijo = 1e-4;
constexpr int kPatience = 100;  // steps without a lower loss, momentum swings through many, before the rate is halved

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
  return sum;
}

double largest(const std::vector<double>& a) {
  double out = 0;
  for (const double value : a) out = std::max(out, std::fabs(value));
  return out;
}

}  // namespace

struct LogisticObjective::Impl {
  Impl(const Exec& exec_, const RowsView& x, const std::int64_t* codes_, const double* weight_, std::int64_t n_classes,
       double ridge_, bool intercept)
      : exec(exec_),
        source(exec_, x, intercept, "X"),
        codes(codes_),
        weight(weight_),
        classes(n_classes),
        columns(n_classes == 2 ? 1 : n_classes),
        penalised(x.cols) {
    GRAMIAN_REQUIRE(n_classes >= 2, invalid_argument, "two classes or more are needed");
    GRAMIAN_REQUIRE(std::isfinite(ridge_) && ridge_ >= 0, invalid_argument, "ridge must be finite and not negative");
    GRAMIAN_REQUIRE(x.rows > 0, invalid_argument, "X has no rows");
    double sum = 0;
    for (std::int64_t r = 0; r < x.rows; ++r) {
      GRAMIAN_REQUIRE(codes[r] >= 0 && codes[r] < classes, invalid_argument,
                      "class code " + std::to_string(codes[r]) + " lies outside 0 .. " + std::to_string(classes - 1));
      const double w = of(r);
      GRAMIAN_REQUIRE(std::isfinite(w) && w >= 0, invalid_argument,
                      "sample_weight must be finite and not negative, row " + std::to_string(r) + " is not");
      sum += w;
    }
    GRAMIAN_REQUIRE(sum > 0, invalid_argument, "sample_weight is zero for all rows");
    total = sum;
    ridge = ridge_ / sum;
    chances.assign(at(x.rows * columns), 0.0);
    losses.assign(at(x.rows), 0.0);
  }

  double of(std::int64_t r) const { return weight == nullptr ? 1.0 : weight[r]; }

  // body(row of the data, its scores) for a block of scores; rows do not depend on each other.
  template <class Body>
  void over(std::int64_t begin, MatrixView<double> scores, const Body& body) const {
    exec.on_host().parallel_for((scores.rows + kTask - 1) / kTask, [&](std::int64_t task) {
      const std::int64_t end = std::min(scores.rows, (task + 1) * kTask);
      for (std::int64_t r = task * kTask; r < end; ++r) body(begin + r, scores.row(r));
    });
  }

  // Scores become probabilities and the derivative of the weighted loss.
  void one_row(std::int64_t r, double* s) {
    double* p = chances.data() + r * columns;
    const double share = of(r) / total;
    if (columns == 1) {
      const double small = std::exp(-std::fabs(s[0])), signed_score = codes[r] == 1 ? s[0] : -s[0];
      p[0] = s[0] >= 0 ? 1 / (1 + small) : small / (1 + small);
      losses[at(r)] = share * (std::max(0.0, -signed_score) + std::log1p(small));
      // The smaller of p and 1 - p keeps its digits.
      const double other = s[0] >= 0 ? small / (1 + small) : 1 / (1 + small);
      s[0] = share * (codes[r] == 1 ? -other : p[0]);
      return;
    }
    const double top = *std::max_element(s, s + columns);
    double sum = 0;
    for (std::int64_t c = 0; c < columns; ++c) sum += p[c] = std::exp(s[c] - top);
    losses[at(r)] = share * (std::log(sum) - (s[codes[r]] - top));
    for (std::int64_t c = 0; c < columns; ++c) {
      p[c] /= sum;
      s[c] = share * (p[c] - (c == codes[r] ? 1.0 : 0.0));
    }
  }

  // The derivative of that along scores s.
  void one_row_second(std::int64_t r, double* s) const {
    const double* p = chances.data() + r * columns;
    const double share = of(r) / total;
    if (columns == 1) {
      s[0] *= share * p[0] * (1 - p[0]);
      return;
    }
    double mean = 0;
    for (std::int64_t c = 0; c < columns; ++c) mean += p[c] * s[c];
    for (std::int64_t c = 0; c < columns; ++c) s[c] = share * p[c] * (s[c] - mean);
  }

  // out = X' f(X w), f on host scores.
  template <class Body>
  void pass(MatrixView<const double> w, MatrixView<double> out, const Body& body) const {
    bool first = true;
    source.for_blocks([&](std::int64_t begin, MatrixView<const double> block) {
      Array<double> scores(exec, block.rows, columns);
      gemm<double>(exec, Trans::no, Trans::no, 1.0, block, w, 0.0, scores.view());
      std::vector<double> host(at(scores.size()));
      const MatrixView<double> view(host.data(), block.rows, columns);
      download<double>(exec, scores.view(), view);
      over(begin, view, body);
      upload<double>(exec, view, scores.view());
      gemm<double>(exec, Trans::yes, Trans::no, 1.0, block, scores.view(), first ? 0.0 : 1.0, out);
      first = false;
    });
    const auto part = [&](auto x) { return x.block(0, 0, penalised, columns); };
    if (ridge > 0) axpby<double, double>(exec, ridge, part(w), 1.0, part(out));
  }

  Exec exec;
  RowSource source;
  const std::int64_t* codes;
  const double* weight;
  std::int64_t classes, columns, penalised;
  double total = 0, ridge = 0;
  std::vector<double> chances, losses;
  std::int64_t evaluations = 0, products = 0;
  SymmetricMatrix<double> bound;
};

LogisticObjective::LogisticObjective(const Exec& exec, const RowsView& x, const std::int64_t* codes,
                                     const double* weight, std::int64_t n_classes, double ridge, bool intercept)
    : impl_(std::make_unique<Impl>(exec, x, codes, weight, n_classes, ridge, intercept)) {}
LogisticObjective::~LogisticObjective() = default;
LogisticObjective::LogisticObjective(LogisticObjective&&) noexcept = default;

std::int64_t LogisticObjective::rows() const {
  return impl_->source.width();
}
std::int64_t LogisticObjective::columns() const {
  return impl_->columns;
}
std::int64_t LogisticObjective::evaluations() const {
  return impl_->evaluations;
}
std::int64_t LogisticObjective::products() const {
  return impl_->products;
}

double LogisticObjective::evaluate(MatrixView<const double> w, MatrixView<double> gradient) {
  Impl& my = *impl_;
  GRAMIAN_REQUIRE(
      w.rows == rows() && w.cols == columns() && gradient.rows == w.rows && gradient.cols == w.cols, shape_mismatch,
      "the weights must have the shape (" + std::to_string(rows()) + ", " + std::to_string(columns()) + ")");
  my.pass(w, gradient, [&](std::int64_t r, double* s) { my.one_row(r, s); });
  my.evaluations += 1;
  double sum = 0;
  for (const double loss : my.losses) sum += loss;
  Array<double> squares(my.exec, my.penalised);
  row_sumsq<double>(my.exec, w.block(0, 0, my.penalised, w.cols), squares.data());
  std::vector<double> host(at(my.penalised));
  download<double>(my.exec, squares.view(), {host.data(), 1, my.penalised});
  for (const double square : host) sum += my.ridge / 2 * square;
  return sum;
}

void LogisticObjective::hessian_times(MatrixView<const double> v, MatrixView<double> out) {
  Impl& my = *impl_;
  GRAMIAN_REQUIRE(my.evaluations > 0, invalid_argument, "the Hessian is that of a point: evaluate one first");
  GRAMIAN_REQUIRE(
      v.rows == rows() && v.cols == columns() && out.rows == v.rows && out.cols == v.cols, shape_mismatch,
      "the vectors must have the shape (" + std::to_string(rows()) + ", " + std::to_string(columns()) + ")");
  my.pass(v, out, [&](std::int64_t r, double* s) { my.one_row_second(r, s); });
  my.products += 1;
}

void LogisticObjective::make_bound() {
  Impl& my = *impl_;
  SymmetricMatrix<double> a(my.exec, rows());
  my.source.for_blocks([&](std::int64_t begin, MatrixView<const double> block) {
    std::vector<double> roots;
    for (std::int64_t r = 0; r < block.rows; ++r) roots.push_back(std::sqrt(my.of(begin + r) / my.total));
    Array<double> scaled(my.exec, block.rows, block.cols);
    axpby<double, double>(my.exec, 1.0, block, 0.0, scaled.view());
    scale_rows<double>(my.exec, roots, scaled.view());
    gram_update<double>(my.exec, my.columns == 1 ? 0.25 : 0.5, scaled.view(), a);
  });
  a.add_diagonal(my.exec, my.ridge);
  // Columns that say the same twice, or nothing, must not stop a factor that only preconditions: a little more of each
  // column's own size.
  std::vector<double> diagonal(at(rows())), inverse(diagonal);
  a.diagonal(my.exec, diagonal.data());
  for (std::size_t k = 0; k < diagonal.size(); ++k) {
    diagonal[k] = diagonal[k] > 0 ? std::sqrt(diagonal[k]) : 1.0;
    inverse[k] = 1 / diagonal[k];
  }
  a.scale(my.exec, inverse);
  a.add_diagonal(my.exec, 1e-10);
  a.scale(my.exec, diagonal);
  GRAMIAN_REQUIRE(cholesky(my.exec, a) == 0, non_finite, "the second moments of X overflow");
  my.bound = std::move(a);
}

void LogisticObjective::solve_bound_half(Trans trans, MatrixView<double> v) const {
  cholesky_solve_half<double>(impl_->exec, trans, impl_->bound, v);
}

namespace {

// A point, its loss and its gradient, with weights on the host.
class Walk {
 public:
  Walk(const Exec& exec, LogisticObjective& objective)
      : exec_(exec),
        objective_(objective),
        size_(objective.rows() * objective.columns()),
        x_(exec, objective.rows(), objective.columns()),
        y_(exec, objective.rows(), objective.columns()) {}

  std::int64_t size() const { return size_; }
  double evaluate(const std::vector<double>& w, std::vector<double>& gradient) {
    put(w.data());
    const double loss = objective_.evaluate(x_.view(), y_.view());
    gradient.resize(at(size_));
    take(gradient.data());
    return loss;
  }
  void hessian_times(const double* v, double* out) {
    put(v);
    objective_.hessian_times(x_.view(), y_.view());
    take(out);
  }
  // Vectors of the weights in coordinates in which the bound is the identity: t = L' s, and L^-1 g for gradients.
  void use_bound() {
    objective_.make_bound();
    bound_ = true;
  }
  double size_of(const std::vector<double>& gradient) {
    put(gradient.data());
    half(Trans::no, x_.view());
    double sum = 0;
    std::vector<double> host(at(size_));
    download<double>(exec_, {x_.data(), 1, size_}, {host.data(), 1, size_});
    for (const double value : host) sum += value * value;
    return std::sqrt(sum);
  }
  // s of (H + mu M) s = -g.
  std::vector<double> newton_step(const std::vector<double>& g, double mu, double accuracy) {
    const auto shaped = [&](auto view) { return decltype(view)(view.data, objective_.rows(), objective_.columns()); };
    const BlockMap product = [&](MatrixView<const double> in, MatrixView<double> out) {
      axpby<double, double>(exec_, 1.0, shaped(in), 0.0, x_.view());
      half(Trans::yes, x_.view());
      objective_.hessian_times(x_.view(), shaped(out));
      half(Trans::no, shaped(out));
      axpby<double, double>(exec_, mu, in, 1.0, out);
    };
    Array<double> b(exec_, 1, size_), s(exec_, 1, size_);
    std::vector<double> out(at(size_));
    for (std::size_t k = 0; k < g.size(); ++k) out[k] = -g[k];
    upload<double>(exec_, {out.data(), 1, size_}, b.view());
    half(Trans::no, shaped(b.view()));
    axpby<double, double>(exec_, 0.0, {}, 0.0, s.view());
    FlexibleCgOptions options;
    options.rtol = accuracy;
    options.stall_window = 0;
    options.max_iterations = std::min<std::int64_t>(200, 2 * size_);
    flexible_cg(exec_, product, b.view(), s.view(), {}, options);
    half(Trans::yes, shaped(s.view()));
    download<double>(exec_, s.view(), {out.data(), 1, size_});
    return out;
  }

 private:
  void half(Trans trans, MatrixView<double> v) const {
    if (bound_) objective_.solve_bound_half(trans, v);
  }
  void put(const double* host) { upload<double>(exec_, {host, 1, size_}, {x_.data(), 1, size_}); }
  void take(double* host) const { download<double>(exec_, {y_.data(), 1, size_}, {host, 1, size_}); }
  const Exec& exec_;
  LogisticObjective& objective_;
  std::int64_t size_;
  bool bound_ = false;
  Array<double> x_, y_;
};

void by_newton(LogisticObjective& objective, Walk& walk, const LogisticOptions& options, LogisticFit& fit) {
  if (objective.rows() <= kLargestBound) walk.use_bound();
  std::vector<double> g;
  fit.loss = walk.evaluate(fit.weights, g);
  double h = 1e-3;
  for (; fit.iterations < options.max_iterations && !(largest(g) <= options.tol); ++fit.iterations) {
    const double size = walk.size_of(g);
    bool moved = false;
    for (int trial = 0; trial < kMostTrials && !moved; ++trial) {
      const std::vector<double> s = walk.newton_step(g, std::sqrt(h * size), std::min(1e-2, std::sqrt(size) * 1e-2));
      std::vector<double> next(fit.weights), next_g;
      for (std::size_t k = 0; k < s.size(); ++k) next[k] += s[k];
      const double loss = walk.evaluate(next, next_g);
      // Near the minimum the loss is all rounding; there the gradient tells.
      const bool descends = loss <= fit.loss + kArmijo * dot(g, s);
      moved = descends || (loss <= fit.loss * (1 + 8 * kEps) && walk.size_of(next_g) <= 0.5 * size);
      if (!moved) {
        h *= 8;
        // Products with the Hessian are those of the last point evaluated.
        walk.evaluate(fit.weights, g);
        continue;
      }
      fit.weights = std::move(next);
      fit.loss = loss;
      g = std::move(next_g);
      h = std::max(h / 4, 1e-12);
    }
    if (!moved) break;
  }
  fit.gradient = largest(g);
}

void by_diagonal(Walk& walk, const LogisticOptions& options, const Exec& exec, LogisticFit& fit) {
  const bool sophia = options.solver == LogisticSolver::sophia;
  AdaHessianRule ada;
  SophiaRule clip;
  ada.rate = options.rate > 0 ? options.rate : 1.0;
  clip.rate = options.rate > 0 ? options.rate : 0.3;
  StepState state;
  std::vector<double> g, best, w = fit.weights;
  double lowest = std::numeric_limits<double>::infinity(), least_gradient = lowest;
  int above = 0;
  const HessianProduct product = [&](const double* z, double* out) { walk.hessian_times(z, out); };
  for (;; ++fit.iterations) {
    const double loss = walk.evaluate(w, g), gradient = largest(g);
    if (gradient < least_gradient) {
      least_gradient = gradient;
      fit.weights = w;
      fit.loss = loss;
      fit.gradient = gradient;
    }
    if (gradient <= options.tol || fit.iterations >= options.max_iterations || !std::isfinite(loss)) break;
    above = loss < lowest ? 0 : above + 1;
    lowest = std::min(lowest, loss);
    if (above > kPatience) {
      ada.rate /= 2;
      clip.rate /= 2;
      above = 0;
    }
    const DiagonalEstimate d = hutchinson_diagonal(exec, product, walk.size(), 1, options.seed, fit.iterations);
    if (sophia) {
      sophia_step(clip, walk.size(), g.data(), d.diagonal.data(), state, w.data());
    } else {
      adahessian_step(ada, walk.size(), g.data(), d.diagonal.data(), state, w.data());
    }
  }
}

}  // namespace

LogisticFit fit_logistic(const Exec& exec, const RowsView& x, const std::int64_t* codes, const double* weight,
                         std::int64_t n_classes, const LogisticOptions& options) {
  GRAMIAN_REQUIRE(options.max_iterations >= 1, invalid_argument, "max_iter must be at least 1");
  GRAMIAN_REQUIRE(options.tol >= 0 && options.rate >= 0, invalid_argument, "tol and the rate must not be negative");
  LogisticObjective objective(exec, x, codes, weight, n_classes, options.ridge, options.intercept);
  Walk walk(exec, objective);
  LogisticFit fit;
  fit.weights.assign(at(walk.size()), 0.0);
  if (options.solver == LogisticSolver::newton) {
    by_newton(objective, walk, options, fit);
  } else {
    by_diagonal(walk, options, exec, fit);
  }
  fit.converged = fit.gradient <= options.tol;
  fit.evaluations = objective.evaluations();
  fit.products = objective.products();
  return fit;
}

void linear_scores(const Exec& exec, const RowsView& x, MatrixView<const double> w, bool intercept,
                   MatrixView<double> out) {
  const RowSource source(exec, x, intercept, "X");
  GRAMIAN_REQUIRE(source.width() == w.rows && out.rows == x.rows && out.cols == w.cols, shape_mismatch,
                  "linear_scores: the shapes do not fit");
  Array<double> weights(exec, w.rows, w.cols);
  upload<double>(exec, w, weights.view());
  source.for_blocks([&](std::int64_t begin, MatrixView<const double> block) {
    Array<double> scores(exec, block.rows, w.cols);
    gemm<double>(exec, Trans::no, Trans::no, 1.0, block, weights.view(), 0.0, scores.view());
    download<double>(exec, scores.view(), out.block(begin, 0, block.rows, w.cols));
  });
}

}  // namespace gramian
