// The head itself: its construction, what it says of its sums, and changes that it hands on to them.
#include "gram/ridge_head_impl.h"

#include <cmath>
#include <exception>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gramian/core/error.hpp"

namespace gramian {

RidgeHead::Impl::Impl(std::int64_t inputs, std::int64_t outputs, RidgeConfig config_, FeatureMapPtr map_,
                      const Exec& exec_)
    : n_inputs(inputs), n_outputs(outputs), config(std::move(config_)), map(std::move(map_)), exec(exec_) {
  GRAMIAN_REQUIRE(n_inputs >= 1, invalid_argument, "X must have at least one feature");
  GRAMIAN_REQUIRE(map == nullptr || map->n_inputs() == n_inputs, shape_mismatch,
                  "X has " + std::to_string(n_inputs) + " features, but the feature map expects " +
                      std::to_string(map == nullptr ? 0 : map->n_inputs()));
  GRAMIAN_REQUIRE(std::isfinite(config.ridge) && config.ridge >= 0, invalid_argument,
                  "ridge must be finite and not negative, got " + std::to_string(config.ridge));
  GRAMIAN_REQUIRE(config.holdout_fraction > 0 && config.holdout_fraction < 1, invalid_argument,
                  "holdout_fraction must lie between 0 and 1, got " + std::to_string(config.holdout_fraction));
  GRAMIAN_REQUIRE(config.holdout == HoldoutRule::none || !config.gcv, invalid_argument,
                  "the ridge is chosen by gcv or by held-out rows, not by both");
  GRAMIAN_REQUIRE(config.holdout == HoldoutRule::none || config.balance == Balance::none, invalid_argument,
                  "held-out rows do not go with balanced classes: their weights change with every count");
  GRAMIAN_REQUIRE(config.width >= 0 && config.width <= width(), invalid_argument,
                  "width must be at most the number of features, " + std::to_string(width()) + ", got " +
                      std::to_string(config.width));
  GRAMIAN_REQUIRE(!config.loo || (config.holdout == HoldoutRule::none && !config.gcv), invalid_argument,
                  "the ridge is chosen by leave-one-out errors, by gcv or by held-out rows, not by two of them");
  for (const double ridge : config.ridges)
    GRAMIAN_REQUIRE(std::isfinite(ridge) && ridge > 0, invalid_argument, "ridges must be finite and above 0");
  const bool plain =
      config.balance == Balance::none && config.holdout == HoldoutRule::none && !config.loo_width && config.width == 0;
  GRAMIAN_REQUIRE(plain || (!config.low_latency && config.forgetting == 1), invalid_argument,
                  "low_latency and forgetting go with all features, a ridge that no held-out rows choose and classes "
                  "that are not balanced");
  GRAMIAN_REQUIRE(!config.low_latency || !config.standardize, invalid_argument,
                  "low_latency needs standardize=False: new deviations make the factor anew");
  GRAMIAN_REQUIRE(config.forgetting > 0 && config.forgetting <= 1, invalid_argument,
                  "forgetting must be above 0 and at most 1, got " + std::to_string(config.forgetting));
  GRAMIAN_REQUIRE(config.forgetting == 1 || !(config.gcv || config.loo), invalid_argument,
                  "forgetting below 1 needs a ridge that is a number, for it ages with the rows");
}

void RidgeHead::Impl::make_empty_state() {
  if (config.balance == Balance::none) {
    state = std::make_unique<GramState>(empty_state());
    if (config.holdout != HoldoutRule::none) held = std::make_unique<GramState>(empty_state());
    if (config.holdout == HoldoutRule::ranpac) fitted = std::make_unique<GramState>(empty_state());
  } else {
    balanced = std::make_unique<BalancedState>(exec, width(), n_outputs, config.gram, config.balance);
  }
}

RidgeHead::RidgeHead(const Exec& exec, std::int64_t n_inputs, std::int64_t n_outputs, RidgeConfig config,
                     FeatureMapPtr map)
    : impl_(std::make_unique<Impl>(n_inputs, n_outputs, std::move(config), std::move(map), exec)) {
  impl_->make_empty_state();
}
RidgeHead::RidgeHead(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RidgeHead::RidgeHead(RidgeHead&&) noexcept = default;
RidgeHead& RidgeHead::operator=(RidgeHead&&) noexcept = default;
RidgeHead::~RidgeHead() = default;

std::int64_t RidgeHead::n_inputs() const {
  return impl_->n_inputs;
}
std::int64_t RidgeHead::n_features() const {
  return impl_->width();
}
std::int64_t RidgeHead::n_outputs() const {
  return impl_->n_outputs;
}
const RidgeConfig& RidgeHead::config() const {
  return impl_->config;
}
const FeatureMapPtr& RidgeHead::map() const {
  return impl_->map;
}
const Exec& RidgeHead::exec() const {
  return impl_->exec;
}
bool RidgeHead::has_state() const {
  return impl_->has_state();
}

const GramState& RidgeHead::state() const {
  impl_->require_state();
  if (impl_->state) return *impl_->state;
  return impl_->weighted_now();
}

std::int64_t RidgeHead::n_rows() const {
  impl_->require_state();
  return impl_->state ? impl_->state->n_rows() : impl_->balanced->n_rows();
}

double RidgeHead::weight_sum() const {
  impl_->require_state();
  return impl_->state ? impl_->state->weight_sum() : impl_->balanced->weight_sum();
}

std::vector<std::int64_t> RidgeHead::counts() const {
  impl_->require_state();
  return impl_->state ? impl_->state->counts() : impl_->balanced->counts();
}

std::size_t RidgeHead::bytes() const {
  impl_->require_state();
  return impl_->state ? impl_->state->bytes() : impl_->balanced->bytes();
}

void RidgeHead::add(const RowsView& x, const Targets& y, const double* weight, bool atomic, const double* totals) {
  impl_->require_state();
  GRAMIAN_REQUIRE(totals == nullptr || impl_->balanced, invalid_argument, "only balanced classes have declared counts");
  if (impl_->held) {
    impl_->forget_derived();
    impl_->add_with_holdout(x, y, weight);
  } else if (impl_->state) {
    impl_->learn(x, y, weight, atomic, 1.0);
  } else {
    impl_->forget_derived();
    GRAMIAN_REQUIRE(y.codes != nullptr || x.rows == 0, invalid_argument, "balanced classes need class codes");
    impl_->balanced->add(x, y.codes, weight, impl_->map.get(), totals);
  }
}

void RidgeHead::remove(const RowsView& x, const Targets& y, const double* weight, bool atomic) {
  impl_->require_state();
  if (impl_->held) {
    impl_->forget_derived();
    impl_->remove_with_holdout(x, y, weight);
  } else if (impl_->state) {
    impl_->learn(x, y, weight, atomic, -1.0);
  } else {
    impl_->forget_derived();
    GRAMIAN_REQUIRE(y.codes != nullptr || x.rows == 0, invalid_argument, "balanced classes need class codes");
    impl_->balanced->remove(x, y.codes, weight, impl_->map.get());
  }
}

void RidgeHead::add_moved(const GramState& rows, std::int64_t output, double factor, const double* by) {
  GRAMIAN_REQUIRE(impl_->config.balance == Balance::none, unsupported, "balanced classes take rows, not sums");
  impl_->require_state();
  impl_->forget_derived();
  impl_->state->add_moved(rows, output, factor, by);
}

void RidgeHead::merge(const RidgeHead& other) {
  impl_->require_state();
  other.impl_->require_state();
  GRAMIAN_REQUIRE((impl_->state != nullptr) == (other.impl_->state != nullptr), invalid_argument,
                  "a model with balanced classes and one without cannot be merged");
  if (impl_->state) {
    const bool first = impl_->state->n_rows() == 0;
    impl_->merge_holdout(*other.impl_, false);
    if (first) impl_->decay = other.impl_->decay;
  } else {
    impl_->balanced->merge(*other.impl_->balanced);
  }
  impl_->forget_derived();
}

void RidgeHead::merge(const GramState& other) {
  state();
  GRAMIAN_REQUIRE(!impl_->balanced, invalid_argument, "bare sums cannot be merged into balanced classes");
  GRAMIAN_REQUIRE(!impl_->held, invalid_argument,
                  "bare sums do not say which rows are held out, so they cannot be merged into a model that holds out");
  impl_->state->merge(other);
  impl_->forget_derived();
}

void RidgeHead::unmerge(const RidgeHead& other) {
  GRAMIAN_REQUIRE(impl_->config.balance == Balance::none, unsupported, "balanced classes cannot be taken apart");
  impl_->require_state();
  other.state();
  impl_->merge_holdout(*other.impl_, true);
  if (impl_->state->n_rows() == 0) impl_->decay = 1;
  impl_->forget_derived();
}

void RidgeHead::rearrange_outputs(const std::vector<std::int64_t>& source) {
  impl_->require_state();
  std::unique_ptr<GramState> held, fitted;
  for (auto [from, to] : {std::pair{&impl_->held, &held}, std::pair{&impl_->fitted, &fitted}}) {
    if (!*from) continue;
    *to = std::make_unique<GramState>((*from)->clone());
    (*to)->rearrange_outputs(source);
  }
  if (impl_->state) {
    impl_->state->rearrange_outputs(source);
  } else {
    impl_->balanced->rearrange_outputs(source);
  }
  impl_->held = std::move(held);
  impl_->fitted = std::move(fitted);
  impl_->n_outputs = static_cast<std::int64_t>(source.size());
  if (!impl_->solved || !impl_->solved->live.live()) return impl_->forget_derived();
  try {
    impl_->solved->live.rearrange(impl_->exec, source, impl_->solved->solution);
    impl_->solved->noise_known = false;
  } catch (const std::exception&) {
    impl_->forget_derived();  // out of memory, see Impl::learn
  }
}

double RidgeHead::room(std::int64_t place) const {
  return impl_->balanced ? impl_->balanced->room(place) : std::numeric_limits<double>::infinity();
}

void RidgeHead::close(const std::vector<std::int64_t>& places) {
  impl_->require_state();
  GRAMIAN_REQUIRE(impl_->balanced, invalid_argument, "only balanced classes can be closed");
  impl_->balanced->close(places);
  impl_->forget_derived();
}

}  // namespace gramian
