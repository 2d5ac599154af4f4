#include "gramian/regression/softmax_regression.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/softmax.hpp"
#include "regression/row_source.h"

namespace gramian {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr std::int64_t kBlock = 4096;  // rows that a Gram update takes
constexpr int kMostTrials = 40;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
  return sum;
}

}  // namespace

struct SoftmaxObjective::Impl {
  Impl(const Exec& exec_, const RowsView& a_, const double* b_, double ridge_)
      : exec(exec_), a(a_), b(b_, b_ + a_.rows), ridge(ridge_), source(exec_, a_, false, "A") {
    GRAMIAN_REQUIRE(a.rows >= 1 && a.cols >= 1, invalid_argument, "A has no rows or no columns");
    GRAMIAN_REQUIRE(std::isfinite(ridge) && ridge >= 0, invalid_argument, "ridge must be finite and not negative");
    for (std::int64_t r = 0; r < a.rows; ++r)
      GRAMIAN_REQUIRE(std::isfinite(b[at(r)]), non_finite,
                      "b contains NaN or infinity, first in row " + std::to_string(r));
    source.for_blocks([&](std::int64_t, MatrixView<const double> block) {
      const std::vector<double> squares = row_squares<double>(exec, block);
      largest = std::max(largest, *std::max_element(squares.begin(), squares.end()));
    });
  }

  // softmax(A x), host.
  std::vector<double> forward(const std::vector<double>& x) const {
    const Array<double> w(exec, a.cols, 1), scores(exec, 1, a.rows);
    upload<double>(exec, {x.data(), a.cols, 1}, w.view());
    source.for_blocks([&](std::int64_t begin, MatrixView<const double> block) {
      gemm<double>(exec, Trans::no, Trans::no, 1.0, block, w.view(), 0.0, {scores.data() + begin, block.rows, 1});
    });
    SoftmaxOptions options;
    options.subnormals = true;
    softmax_rows<double>(exec, Softmax::probabilities, options, scores.view(), scores.view());
    std::vector<double> out(at(a.rows));
    download<double>(exec, scores.view(), {out.data(), 1, a.rows});
    GRAMIAN_REQUIRE(std::isfinite(out.front()), non_finite, "A x contains NaN or infinity");
    return out;
  }

  // A'v for two vectors at a time (n x 2, host): d x 2 on the device.
  Array<double> backward(const std::vector<double>& v, const std::vector<double>& u) const {
    std::vector<double> pairs;
    pairs.reserve(2 * v.size());
    for (std::size_t r = 0; r < v.size(); ++r) {
      pairs.push_back(v[r]);
      pairs.push_back(u[r]);
    }
    Array<double> out(exec, 2, a.cols);
    source.for_blocks([&](std::int64_t begin, MatrixView<const double> block) {
      Array<double> y(exec, block.rows, 2);
      upload<double>(exec, {pairs.data() + 2 * begin, block.rows, 2}, y.view());
      gemm<double>(exec, Trans::yes, Trans::no, 1.0, y.view(), block, begin == 0 ? 0.0 : 1.0, out.view());
    });
    return out;
  }

  // h += A'diag(weight) A: the rows of positive weight, then those of negative weight, each scaled by its root. Rows of
  // no weight are not read.
  void add_weighted_gram(const std::vector<double>& weight, SymmetricMatrix<double>& h) const {
    for (const double sign : {1.0, -1.0}) {
      std::vector<std::int64_t> picked;
      std::vector<double> roots;
      for (std::int64_t r = 0; r < a.rows; ++r) {
        if (!(sign * weight[at(r)] > 0)) continue;
        picked.push_back(a.row_index == nullptr ? r : a.row_index[r]);
        roots.push_back(std::sqrt(sign * weight[at(r)]));
      }
      const auto count = static_cast<std::int64_t>(picked.size());
      Array<double> block(exec, std::min(count, kBlock), a.cols);
      for (std::int64_t begin = 0; begin < count; begin += kBlock) {
        exec.poll();
        RowsView rows = a;
        rows.rows = std::min(kBlock, count - begin);
        rows.row_index = picked.data() + begin;
        const MatrixView<double> target = block.view().block(0, 0, rows.rows, a.cols);
        load_rows<double>(exec, rows, nullptr, roots.data() + begin, target, "A");
        gram_update<double>(exec, sign, target, h);
      }
    }
  }

  const Exec exec;
  RowsView a;
  std::vector<double> b;
  double ridge;
  RowSource source;
  double largest = 0;
  bool there = false;
  std::vector<double> f;
};

SoftmaxObjective::SoftmaxObjective(const Exec& exec, const RowsView& a, const double* b, double ridge)
    : impl_(std::make_unique<Impl>(exec, a, b, ridge)) {}
SoftmaxObjective::~SoftmaxObjective() = default;

std::int64_t SoftmaxObjective::rows() const {
  return impl_->a.rows;
}
std::int64_t SoftmaxObjective::size() const {
  return impl_->a.cols;
}
double SoftmaxObjective::largest_row() const {
  return impl_->largest;
}
const std::vector<double>& SoftmaxObjective::probabilities() const {
  return impl_->f;
}

double SoftmaxObjective::evaluate(const std::vector<double>& x, std::vector<double>& gradient) {
  Impl& my = *impl_;
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(x.size()) == size(), shape_mismatch,
                  "x has " + std::to_string(x.size()) + " entries, A has " + std::to_string(size()) + " columns");
  std::vector<double> f = my.forward(x);
  double loss = 0, fc = 0;
  std::vector<double> inner(f.size());
  for (std::size_t r = 0; r < f.size(); ++r) {
    const double c = f[r] - my.b[r];
    loss += c * c / 2;
    fc += f[r] * c;
  }
  for (std::size_t r = 0; r < f.size(); ++r) inner[r] = f[r] * (f[r] - my.b[r] - fc);
  const Array<double> slopes = my.backward(inner, f);
  gradient.resize(x.size());
  download<double>(my.exec, slopes.view().block(0, 0, 1, size()), {gradient.data(), 1, size()});
  for (std::size_t k = 0; k < x.size(); ++k) {
    gradient[k] += my.ridge * x[k];
    loss += my.ridge / 2 * x[k] * x[k];
  }
  my.f = std::move(f);
  my.there = true;
  return loss;
}

SymmetricMatrix<double> SoftmaxObjective::hessian() const {
  const Impl& my = *impl_;
  GRAMIAN_REQUIRE(my.there, invalid_argument, "the Hessian is that of a point: evaluate one first");
  double ff = 0, fc = 0;
  for (std::size_t r = 0; r < my.f.size(); ++r) {
    ff += my.f[r] * my.f[r];
    fc += my.f[r] * (my.f[r] - my.b[r]);
  }
  std::vector<double> weight(my.f.size()), h(my.f.size());
  for (std::size_t r = 0; r < my.f.size(); ++r) {
    const double c = my.f[r] - my.b[r];
    h[r] = my.f[r] * (my.f[r] + c);
    weight[r] = my.f[r] * (my.f[r] + c - fc);
  }
  SymmetricMatrix<double> out(my.exec, size());
  my.add_weighted_gram(weight, out);
  const Array<double> sides = my.backward(my.f, h);  // p, u
  out.add_outer(my.exec, -1.0, sides.view().row(0), sides.view().row(1));
  out.add_outer(my.exec, ff + 2 * fc, sides.view().row(0), sides.view().row(0));
  out.add_diagonal(my.exec, my.ridge);
  return out;
}

SymmetricMatrix<double> SoftmaxObjective::gauss_newton() const {
  const Impl& my = *impl_;
  GRAMIAN_REQUIRE(my.there, invalid_argument, "the Hessian is that of a point: evaluate one first");
  std::vector<double> squares(my.f.size());
  double ff = 0;
  for (std::size_t r = 0; r < my.f.size(); ++r) ff += squares[r] = my.f[r] * my.f[r];
  SymmetricMatrix<double> out(my.exec, size());
  my.add_weighted_gram(squares, out);
  const Array<double> sides = my.backward(my.f, squares);
  out.add_outer(my.exec, -1.0, sides.view().row(0), sides.view().row(1));
  out.add_outer(my.exec, ff, sides.view().row(0), sides.view().row(0));
  out.add_diagonal(my.exec, my.ridge);
  return out;
}

std::int64_t softmax_start(const Exec& exec, const RowsView& a, const double* b, std::vector<double>& x) {
  std::vector<double> logs(at(a.rows), 0.0), weight(at(a.rows), 0.0);
  std::int64_t left_out = 0;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    GRAMIAN_REQUIRE(std::isfinite(b[r]), non_finite, "b contains NaN or infinity, first in row " + std::to_string(r));
    if (b[r] > 0) {
      logs[at(r)] = std::log(b[r]);
      weight[at(r)] = b[r];
    } else {
      left_out += 1;
    }
  }
  GRAMIAN_REQUIRE(a.rows - left_out >= 2, invalid_argument, "the start needs two entries of b above 0");
  GramState state(exec, a.cols, 1);
  const RowsView targets = RowsView::dense<double>({logs.data(), a.rows, 1});
  state.add(a, Targets::of_values(targets), weight.data());
  // The intercept is -mu. No more of a ridge than it takes to choose among weights that answer the same.
  std::vector<double> mean, variance;
  state.feature_moments(mean, variance);
  double trace = 0;
  for (const double value : variance) trace += value;
  SolveOptions options;
  options.ridge = kEps * state.weight_sum() * trace + std::numeric_limits<double>::min();
  options.precision = Precision::full;
  const Solution solution = state.solve(options);
  x.resize(at(a.cols));
  download<double>(exec, solution.coef.view(), {x.data(), 1, a.cols});
  return left_out;
}

SoftmaxFit fit_softmax(const Exec& exec, const RowsView& a, const double* b, std::vector<double> x,
                       const SoftmaxFitOptions& options) {
  GRAMIAN_REQUIRE(options.max_iterations >= 1 && options.tol >= 0, invalid_argument,
                  "max_iter must be at least 1, tol not negative");
  SoftmaxObjective objective(exec, a, b, options.ridge);
  const std::int64_t d = objective.size();
  std::vector<double> g;
  SoftmaxFit fit;
  fit.loss = fit.start_loss = objective.evaluate(x, g);
  const double goal = options.tol * std::sqrt(objective.largest_row());
  double mu = -1;
  for (; fit.iterations < options.max_iterations && !(std::sqrt(dot(g, g)) <= goal); ++fit.iterations) {
    exec.poll();
    SymmetricMatrix<double> h = objective.hessian(), safe;
    std::vector<double> diagonal(at(d));
    h.diagonal(exec, diagonal.data());
    double top = std::numeric_limits<double>::min();
    for (const double value : diagonal) top = std::max(top, std::fabs(value));
    // Damping never falls below the rounding of H, which has directions without curvature where A has constant columns.
    const double floor = 16 * kEps * top * static_cast<double>(d);
    mu = std::max(mu < 0 ? 1e-3 * top : mu, floor);
    bool moved = false, indefinite = false;
    for (int trial = 0; trial < kMostTrials && !moved; ++trial) {
      SymmetricMatrix<double> l(exec, d);
      l.axpby(exec, 1.0, indefinite ? safe : h, 0.0);
      l.add_diagonal(exec, mu);
      if (cholesky(exec, l) != 0) {
        if (indefinite) {
          mu *= 10;
        } else {
          indefinite = true;
          safe = objective.gauss_newton();
        }
        continue;
      }
      Array<double> s(exec, d, 1);
      upload<double>(exec, {g.data(), d, 1}, s.view());
      cholesky_solve_half<double>(exec, Trans::no, l, s.view());
      cholesky_solve_half<double>(exec, Trans::yes, l, s.view());
      std::vector<double> step(at(d)), next(x), next_g;
      download<double>(exec, s.view(), {step.data(), d, 1});
      for (std::size_t k = 0; k < step.size(); ++k) next[k] -= step[k];
      const double promised = (dot(g, step) + mu * dot(step, step)) / 2;
      const double loss = objective.evaluate(next, next_g);
      const double share = (fit.loss - loss) / promised;
      // Where the loss is all rounding, a smaller gradient is the progress there is.
      moved = share > 1e-4 || (loss <= fit.loss * (1 + 8 * kEps) && dot(next_g, next_g) <= 0.25 * dot(g, g));
      if (!moved) {
        mu *= 4;
        continue;
      }
      x = std::move(next);
      g = std::move(next_g);
      fit.loss = loss;
      fit.gauss_newton_steps += indefinite ? 1 : 0;
      mu = share > 0.75 ? mu / 10 : share < 0.25 ? mu * 2 : mu;
    }
    if (!moved) break;
  }
  fit.gradient = std::sqrt(dot(g, g));
  fit.converged = fit.gradient <= goal;
  fit.x = std::move(x);
  return fit;
}

}  // namespace gramian
