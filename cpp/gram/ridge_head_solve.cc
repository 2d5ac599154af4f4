// From sums to weights: the grid of ridges, the choice of ridge and width, the solve, noise and scores.
#include "gram/ridge_head_impl.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/gram/nested.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

namespace {

constexpr int kDefaultRidges = 13;  // one a decade
constexpr int kPublishedRidges = 17;

std::int64_t prediction_rows(std::int64_t d) {
  // About 8 MiB of features at a time.
  return std::clamp<std::int64_t>((std::int64_t{1} << 20) / d, 64, 4096);
}

}  // namespace

std::vector<double> RidgeHead::Impl::grid(const GramState& sums) const {
  if (!config.ridges.empty()) return config.ridges;
  std::vector<double> out;
  if (config.holdout == HoldoutRule::ranpac) {
    for (int k = 0; k < kPublishedRidges; ++k) out.push_back(std::pow(10.0, k - 8));
    return out;
  }
  std::vector<double> mean, variance;
  sums.feature_moments(mean, variance);
  double total = 0;
  for (const double value : variance) total += value;
  const double unit =
      config.standardize ? sums.weight_sum() : total / static_cast<double>(variance.size()) * sums.weight_sum();
  GRAMIAN_REQUIRE(unit == 0 || unit >= std::numeric_limits<double>::min(), invalid_argument,
                  "the features are so small that their squares underflow, so there is no grid of ridges around their "
                  "variance; multiply X by a large number");
  for (int k = 0; k < kDefaultRidges; ++k) out.push_back((unit > 0 ? unit : 1.0) * std::pow(10.0, k - 10));
  return out;
}

std::unique_ptr<RidgeHead::Impl::Solved> RidgeHead::Impl::solve() const {
  const std::int64_t rows = state ? state->n_rows() : balanced ? balanced->n_rows() : 0;
  GRAMIAN_REQUIRE(rows > 0, not_fitted, "the model has not seen any rows yet");
  // Weighted sums that nobody asked to see do not outlive the solve.
  std::optional<GramState> passing;
  const GramState* kept = state.get();
  if (balanced) {
    const std::lock_guard<std::mutex> lock(mutex);
    kept = weighted.get();
  }
  if (kept == nullptr) passing.emplace(balanced->weighted());
  const GramState& sums = kept != nullptr ? *kept : *passing;
  SolveOptions options;
  options.ridge = ridge();
  options.standardize = config.standardize;
  auto out = std::make_unique<Solved>();
  GRAMIAN_REQUIRE(choice || !chooses(), not_fitted,
                  "ridge or width are chosen once all rows are there: RidgeHead::choose has not been called");
  out->at_edge = config.gcv && ridge_is_kept() && choice->at_edge;
  if (config.low_latency && out->live.anchor(sums, ridge(), out->solution)) return out;
  out->curve = judge();
  if (ridge_is_kept()) {
    options.ridge = ridge();
  } else if (!out->curve.ridges.empty()) {
    options.ridge = out->curve.ridges[out->curve.best];
    out->at_edge = out->curve.at_edge;
  } else if (config.gcv || config.holdout != HoldoutRule::none) {
    const GcvCurve curve = sums.gcv(grid(sums), config.standardize);
    options.ridge = curve.ridges[curve.best];
    out->at_edge = curve.at_edge;
  }
  const std::int64_t used = width_used();
  out->solution = used < width()
                      ? padded(std::move(prefix_solutions(sums, {used}, options.ridge, config.standardize).front()))
                      : sums.solve(options);
  out->noise_variance = noise_of(sums, out->solution);
  out->noise_known = true;
  return out;
}

double RidgeHead::Impl::noise_of(const GramState& sums, const Solution& solution) const {
  double noise = 0;
  for (const double value : sums.penalised_residual_sums(solution)) noise += value;
  return noise / (sums.weight_sum() * static_cast<double>(std::max<std::int64_t>(1, n_outputs)));
}

const RidgeHead::Impl::Solved& RidgeHead::Impl::solved_now() {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (solved) return *solved;
  }
  // Not under the lock: a solve is long, and its cancel hook may wait for a lock of the caller's that another reader
  // holds. Readers that come before there are weights each solve; all get the weights that are there first, which
  // are the same bits.
  std::unique_ptr<Solved> mine = solve();
  const std::lock_guard<std::mutex> lock(mutex);
  if (!solved) {
    solved = std::move(mine);
    if (solved->live.live()) solved->solution.report.anchors = ++anchors;
  }
  return *solved;
}

// As solved_now, and not under the lock for the same reason.
const GramState& RidgeHead::Impl::weighted_now() {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (weighted) return *weighted;
  }
  GRAMIAN_REQUIRE(balanced->n_rows() > 0, not_fitted, "the model has not seen any rows yet");
  auto mine = std::make_unique<GramState>(balanced->weighted());
  const std::lock_guard<std::mutex> lock(mutex);
  if (!weighted) weighted = std::move(mine);
  return *weighted;
}

std::int64_t RidgeHead::Impl::width_used() const {
  if (loaded_width > 0) return loaded_width;
  if (choice && config.loo_width) return choice->width;
  return config.width > 0 ? config.width : width();
}

Solution RidgeHead::Impl::padded(Solution narrow) const {
  Array<double> coef(exec, n_outputs, width());
  axpby<double, double>(exec, 0.0, {}, 0.0, coef.view());
  if (n_outputs > 0)
    axpby<double, double>(exec, 1.0, narrow.coef.view(), 0.0, coef.view().block(0, 0, n_outputs, narrow.coef.cols()));
  narrow.coef = std::move(coef);
  return narrow;
}

RidgeChoice RidgeHead::Impl::best_choice(const GramState& sums, const LabelledRows& rows) const {
  RidgeChoice out;
  if (config.low_latency && config.gcv) {
    const GcvCurve curve = sums.gcv(grid(sums), config.standardize);
    out.ridge = curve.ridges[curve.best];
    out.width = width();
    out.at_edge = curve.at_edge;
    out.ridges = curve.ridges;
    out.ridge_scores = curve.scores;
    return out;
  }
  const bool all = config.width == 0 && !config.loo_width;
  if (all) {
    const LooCurve curve = loo_curve(sums, grid(sums), config.standardize, rows);
    out.ridge = curve.ridges[curve.best];
    out.width = width();
    out.at_edge = curve.at_edge;
    out.ridges = curve.ridges;
    out.ridge_scores = curve.scores;
    return out;
  }
  const HoldoutCurve held_out = judge();
  if (config.loo) {
    out.ridges = grid(sums);
  } else if (!held_out.ridges.empty()) {
    out.ridges = {held_out.ridges[held_out.best]};
  } else if (config.gcv || config.holdout != HoldoutRule::none) {
    const GcvCurve curve = sums.gcv(grid(sums), config.standardize);
    out.ridges = {curve.ridges[curve.best]};
  } else {
    out.ridges = {config.ridge};
  }
  constexpr double kNone = std::numeric_limits<double>::infinity();
  double best = kNone;
  for (const double ridge : out.ridges) {
    out.ridge_scores.push_back(kNone);
    NestedCurve curve;
    try {
      curve = nested_curve(sums, RidgeFactor(sums, ridge, config.standardize), rows);
    } catch (const Error& error) {
      // Too small a ridge for these features: numerically singular, and no candidate.
      if (error.code() != ErrorCode::not_positive_definite || out.ridges.size() == 1) throw;
      continue;
    }
    const std::int64_t k = config.loo_width ? curve.best : config.width;
    const double score = curve.scores[static_cast<std::size_t>(k - 1)];
    out.ridge_scores.back() = score;
    if (!(score < best)) continue;
    best = score;
    out.ridge = ridge;
    out.width = k;
    out.width_scores = std::move(curve.scores);
    out.at_edge = out.ridges.size() > 1 && (ridge == out.ridges.front() || ridge == out.ridges.back());
  }
  GRAMIAN_REQUIRE(std::isfinite(best), invalid_argument,
                  "no ridge and width leave a model without each of the rows; use larger ridges");
  return out;
}

std::vector<double> RidgeHead::Impl::balanced_weights(const RowsView& x, const Targets& y, const double* weight) const {
  GRAMIAN_REQUIRE(y.codes != nullptr || x.rows == 0, invalid_argument, "balanced classes need class codes");
  const std::vector<double> of_class = balanced->class_weights();
  std::vector<double> out(static_cast<std::size_t>(x.rows));
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const std::int64_t code = y.codes[r];
    GRAMIAN_REQUIRE(code >= 0 && code < n_outputs, invalid_argument,
                    "class code " + std::to_string(code) + " lies outside 0 .. " + std::to_string(n_outputs - 1));
    out[static_cast<std::size_t>(r)] = of_class[static_cast<std::size_t>(code)] * (weight == nullptr ? 1.0 : weight[r]);
  }
  return out;
}

void RidgeHead::choose(const RowsView& x, const Targets& y, const double* weight) {
  const GramState& sums = state();
  if (!impl_->chooses()) return;
  std::vector<double> balanced;
  if (impl_->balanced) {
    balanced = impl_->balanced_weights(x, y, weight);
    weight = balanced.data();
  }
  RidgeChoice found = impl_->best_choice(sums, {x, y, weight, impl_->map.get()});
  impl_->choice = std::make_unique<RidgeChoice>(std::move(found));
  impl_->forget_derived();
}

const RidgeChoice* RidgeHead::choice() const {
  return impl_->choice.get();
}

std::int64_t RidgeHead::width_used() const {
  return impl_->width_used();
}

const Solution& RidgeHead::solution() const {
  return impl_->solved_now().solution;
}

double RidgeHead::ridge_used() const {
  return solution().report.ridge;
}

bool RidgeHead::gcv_at_edge() const {
  return impl_->solved_now().at_edge;
}

const HoldoutCurve& RidgeHead::holdout() const {
  return impl_->solved_now().curve;
}

double RidgeHead::noise_variance() const {
  const Impl::Solved& now = impl_->solved_now();
  {
    const std::lock_guard<std::mutex> lock(impl_->mutex);
    if (now.noise_known) return now.noise_variance;
  }
  const double noise = impl_->noise_of(state(), now.solution);  // not under the lock, see solved_now
  const std::lock_guard<std::mutex> lock(impl_->mutex);
  impl_->solved->noise_variance = noise;
  impl_->solved->noise_known = true;
  return noise;
}

namespace {

// Features in T, products with the weights in double: rows far from the origin have scores that are small beside the
// products behind them, which single precision would lose.
template <class T>
void score_rows(const RidgeHead& head, const Solution& solution, const RowsView& x, MatrixView<double> out) {
  const Exec& exec = head.exec();
  const std::int64_t all = head.n_features(), c = head.n_outputs(), used = head.width_used();
  // Of rows that lie open, the columns without weights are not even read.
  const bool narrow = !head.map() && !x.sparse;
  const std::int64_t d = narrow ? used : all;
  const std::int64_t edge = std::min(prediction_rows(d), std::max<std::int64_t>(1, x.rows));
  constexpr bool kWiden = sizeof(T) < sizeof(double);
  Array<T> z(exec, edge, d);
  Array<double> widened(exec, kWiden ? edge : 0, used), scores(exec, edge, c);
  const auto coef = solution.coef.view().block(0, 0, c, used);
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    exec.poll();
    const std::int64_t count = std::min(edge, x.rows - begin);
    const MatrixView<T> features = z.view().block(0, 0, count, d);
    if (head.map()) {
      head.map()->transform(exec, x.slice(begin, count), features);
    } else {
      RowsView rows = x.slice(begin, count);
      rows.cols = d;
      load_rows<T>(exec, rows, nullptr, nullptr, features, "X");
    }
    const MatrixView<T> with_weights = features.block(0, 0, count, used);
    const MatrixView<double> block = scores.view().block(0, 0, count, c);
    if constexpr (kWiden) {
      const MatrixView<double> wide = widened.view().block(0, 0, count, used);
      axpby<T, double>(exec, 1.0, with_weights, 0.0, wide);
      gemm<double>(exec, Trans::no, Trans::yes, 1.0, wide, coef, 0.0, block);
    } else {
      gemm<double>(exec, Trans::no, Trans::yes, 1.0, with_weights, coef, 0.0, block);
    }
    download<double>(exec, block, out.block(begin, 0, count, c));
  }
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t k = 0; k < c; ++k) out(r, k) += solution.intercept[static_cast<std::size_t>(k)];
}

}  // namespace

void RidgeHead::scores(const RowsView& x, MatrixView<double> out) const {
  GRAMIAN_REQUIRE(x.cols == n_inputs(), shape_mismatch,
                  "X has " + std::to_string(x.cols) + " features, but " + std::to_string(n_inputs()) + " are expected");
  GRAMIAN_REQUIRE(out.rows == x.rows && out.cols == n_outputs(), shape_mismatch, "the output has the wrong shape");
  const Solution& weights = solution();
  if (x.rows == 0) return;
  // Without a map the rows are read as they are: rounded to float they would be other rows.
  if (impl_->config.gram.products == DType::f32 && impl_->map) {
    score_rows<float>(*this, weights, x, out);
  } else {
    score_rows<double>(*this, weights, x, out);
  }
}

}  // namespace gramian
