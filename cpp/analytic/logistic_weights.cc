#include "gramian/analytic/logistic_weights.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {
namespace {

constexpr int kMostSteps = 100;
constexpr int kMostHalvings = 40;
constexpr double kTolerance = 1e-12;  // of the loss, relative
// Of the weights p (1 - p) of rows: a row that is decided beyond doubt still has a working response.
constexpr double kSmallWeight = 1e-12;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

struct Problem {
  MatrixView<const double> x;
  const std::uint8_t* y;
  double ridge;

  double score(std::int64_t r, const std::vector<double>& w) const {
    double sum = w[at(x.cols)];
    for (std::int64_t j = 0; j < x.cols; ++j) sum += x(r, j) * w[at(j)];
    return sum;
  }
  // log(1 + exp(-s)) of the signed score s, without overflow.
  double loss(const std::vector<double>& w) const {
    double sum = 0;
    for (std::int64_t r = 0; r < x.rows; ++r) {
      const double s = y[r] != 0 ? score(r, w) : -score(r, w);
      sum += std::max(0.0, -s) + std::log1p(std::exp(-std::fabs(s)));
    }
    for (std::int64_t j = 0; j < x.cols; ++j) sum += ridge / 2 * w[at(j)] * w[at(j)];
    return sum;
  }
};

}  // namespace

double logistic_weights(const Exec& exec, MatrixView<const double> x, const std::uint8_t* y, double ridge,
                        double* coef) {
  GRAMIAN_REQUIRE(std::isfinite(ridge) && ridge > 0, invalid_argument, "ridge must be finite and above 0");
  const std::int64_t positive = std::count_if(y, y + x.rows, [](std::uint8_t label) { return label != 0; });
  GRAMIAN_REQUIRE(positive > 0 && positive < x.rows, invalid_argument, "both kinds of rows are needed");
  const Problem problem{x, y, ridge};
  std::vector<double> w(at(x.cols + 1), 0.0), weight(at(x.rows)), response(at(x.rows));
  w.back() = std::log(static_cast<double>(positive) / static_cast<double>(x.rows - positive));
  double loss = problem.loss(w);
  GramState state(exec, x.cols, 1);
  for (int step = 0; step < kMostSteps; ++step) {
    exec.poll();
    for (std::int64_t r = 0; r < x.rows; ++r) {
      const double score = problem.score(r, w);
      const double p = 1 / (1 + std::exp(-score));
      weight[at(r)] = std::max(p * (1 - p), kSmallWeight);
      response[at(r)] = score + ((y[r] != 0 ? 1.0 : 0.0) - p) / weight[at(r)];
    }
    state.clear();
    const RowsView targets = RowsView::dense<double>({response.data(), x.rows, 1});
    state.add(RowsView::dense<double>(x), Targets::of_values(targets), weight.data());
    SolveOptions options;
    options.ridge = ridge;
    options.precision = Precision::full;
    const Solution newton = state.solve(options);
    std::vector<double> goal(w.size()), next(w.size());
    download<double>(exec, newton.coef.view(), {goal.data(), 1, x.cols});
    goal.back() = newton.intercept[0];
    double length = 1, fell = -1;
    for (int halving = 0; halving < kMostHalvings && fell < 0; ++halving, length /= 2) {
      for (std::size_t j = 0; j < w.size(); ++j) next[j] = w[j] + length * (goal[j] - w[j]);
      fell = loss - problem.loss(next);
    }
    // No step makes the loss smaller: it is as small as rounding lets it be.
    if (fell >= 0) w = next;
    if (fell <= kTolerance * loss) {
      std::copy(w.begin(), w.end() - 1, coef);
      return w.back();
    }
    loss -= fell;
  }
  throw Error(ErrorCode::no_convergence,
              "the logistic weights did not settle in " + std::to_string(kMostSteps) + " steps; a larger ridge helps");
}

}  // namespace gramian
