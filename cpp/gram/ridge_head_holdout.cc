// Held-out rows: which they are, sums that come and go in two parts, and what they say of the ridges.
#include "gram/ridge_head_impl.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "gramian/core/error.hpp"

namespace gramian {

namespace {

// Some rows of a call, with what belongs to them.
class Part {
 public:
  Part(const RowsView& x, const Targets& y, const double* weight, const std::vector<std::int64_t>& rows) {
    x_ = picked(x, rows, x_rows_);
    if (y.values != nullptr) values_ = picked(*y.values, rows, value_rows_);
    coded_ = y.codes != nullptr;
    for (const std::int64_t r : rows) {
      if (coded_) codes_.push_back(y.codes[r]);
      if (weight != nullptr) weight_.push_back(weight[r]);
    }
    weighted_ = weight != nullptr;
  }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;

  const RowsView& x() const { return x_; }
  Targets targets() const { return coded_ ? Targets::of_codes(codes_.data()) : Targets::of_values(values_); }
  const double* weight() const { return weighted_ ? weight_.data() : nullptr; }

 private:
  static RowsView picked(RowsView view, const std::vector<std::int64_t>& rows, std::vector<std::int64_t>& index) {
    index = rows;
    if (view.row_index != nullptr)
      for (std::int64_t& r : index) r = view.row_index[r];
    view.row_index = index.data();
    view.rows = static_cast<std::int64_t>(index.size());
    return view;
  }
  RowsView x_, values_;
  std::vector<std::int64_t> x_rows_, value_rows_, codes_;
  std::vector<double> weight_;
  bool coded_, weighted_;
};

}  // namespace

HoldoutCurve RidgeHead::Impl::judge() const {
  if (config.holdout == HoldoutRule::none || held->n_rows() == 0) return {};
  if (config.holdout == HoldoutRule::ranpac) {
    if (fitted->n_rows() == 0) return {};
    return holdout_curve(*fitted, *held, grid(*fitted), config.standardize, RidgeSearch::coarse_to_fine);
  }
  if (held->n_rows() == state->n_rows()) return {};
  GramState rest = state->clone();
  rest.unmerge(*held);
  return holdout_curve(rest, *held, grid(*state), config.standardize, RidgeSearch::coarse_to_fine);
}

RidgeHead::Impl::Sides RidgeHead::Impl::sides_of(const RowsView& x, const double* weight) const {
  Sides sides;
  if (config.holdout == HoldoutRule::moments) {
    const std::vector<bool> out = held_out_rows(exec, x, config.holdout_fraction, config.holdout_seed);
    for (std::int64_t r = 0; r < x.rows; ++r)
      (out[static_cast<std::size_t>(r)] ? sides.held : sides.fitted).push_back(r);
    return sides;
  }
  for (std::int64_t r = 0; r < x.rows; ++r)
    if (weight == nullptr || weight[r] != 0) sides.fitted.push_back(r);
  const auto kept =
      static_cast<std::ptrdiff_t>(static_cast<double>(sides.fitted.size()) * (1.0 - config.holdout_fraction));
  sides.held.assign(sides.fitted.begin() + kept, sides.fitted.end());
  sides.fitted.erase(sides.fitted.begin() + kept, sides.fitted.end());
  return sides;
}

// All that can fail comes before the first change.
void RidgeHead::Impl::add_with_holdout(const RowsView& x, const Targets& y, const double* weight) {
  const Sides sides = sides_of(x, weight);
  if (sides.held.empty() && sides.fitted.empty()) {
    // Rows that do not count leave the sides of the last call that did.
    state->add(x, y, weight, map.get());
    return;
  }
  const Part first(x, y, weight, sides.fitted), second(x, y, weight, sides.held);
  auto added = std::make_unique<GramState>(empty_state());
  added->add(second.x(), second.targets(), second.weight(), map.get());
  if (config.holdout == HoldoutRule::moments) {
    auto held_then = std::make_unique<GramState>(held->clone());
    held_then->merge(*added);
    added->add(first.x(), first.targets(), first.weight(), map.get());
    exec.poll_now();
    state->merge(*added);
    held = std::move(held_then);
    return;
  }
  auto fitted_now = std::make_unique<GramState>(empty_state());
  fitted_now->add(first.x(), first.targets(), first.weight(), map.get());
  GramState both = fitted_now->clone();
  both.merge(*added);
  exec.poll_now();
  state->merge(both);
  fitted = std::move(fitted_now);
  held = std::move(added);
}

void RidgeHead::Impl::remove_with_holdout(const RowsView& x, const Targets& y, const double* weight) {
  if (config.holdout == HoldoutRule::ranpac) {
    // Which of the rows were held out is not known, and whether any was: both sides go, and gcv chooses from the sums
    // until rows are added again.
    state->remove(x, y, weight, map.get());
    const bool any =
        weight == nullptr ? x.rows > 0 : std::any_of(weight, weight + x.rows, [](double w) { return w > 0; });
    if (any) drop_stale_sides();
    return;
  }
  const Part out(x, y, weight, sides_of(x, weight).held);
  auto held_then = std::make_unique<GramState>(held->clone());
  held_then->remove(out.x(), out.targets(), out.weight(), map.get());
  state->remove(x, y, weight, map.get());
  held = std::move(held_then);
  drop_stale_sides();
}

void RidgeHead::Impl::drop_stale_sides() {
  if (held == nullptr || (config.holdout != HoldoutRule::ranpac && state->n_rows() > 0)) return;
  held->clear();
  if (fitted) fitted->clear();
}

void RidgeHead::Impl::merge_holdout(const Impl& other, bool out) {
  if (config.holdout == HoldoutRule::none || other.config.holdout == HoldoutRule::none) {
    out ? state->unmerge(*other.state) : state->merge(*other.state);
    if (out && other.state->n_rows() > 0) drop_stale_sides();
    return;
  }
  GRAMIAN_REQUIRE(config.holdout == other.config.holdout && config.holdout_seed == other.config.holdout_seed &&
                      config.holdout_fraction == other.config.holdout_fraction,
                  invalid_argument, "the models hold out rows by different rules, fractions or seeds");
  const bool adopt = config.holdout == HoldoutRule::ranpac && state->n_rows() == 0 && !out;
  auto held_then = std::make_unique<GramState>((adopt ? other.held : held)->clone());
  auto fitted_then = adopt ? std::make_unique<GramState>(other.fitted->clone()) : nullptr;
  if (config.holdout == HoldoutRule::moments) out ? held_then->unmerge(*other.held) : held_then->merge(*other.held);
  out ? state->unmerge(*other.state) : state->merge(*other.state);
  held = std::move(held_then);
  if (adopt) fitted = std::move(fitted_then);
  if (out && other.state->n_rows() > 0) drop_stale_sides();
}

}  // namespace gramian
