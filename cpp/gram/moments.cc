// The sums of a state as one vector, and back.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gram/gram_sums.h"
#include "gramian/gram/gram_state.hpp"
#include "gramian/linalg/elementwise.hpp"

namespace gramian {

namespace {

// Where the parts of the vector begin.
struct MomentLayout {
  MomentLayout(std::int64_t d, std::int64_t c)
      : features(static_cast<std::size_t>(d)), outputs(static_cast<std::size_t>(c)) {}
  std::size_t features, outputs;
  std::size_t feature_sums() const { return 2; }  // after the sum of the weights and the number of rows
  std::size_t target_sums() const { return feature_sums() + features; }
  std::size_t energies() const { return target_sums() + outputs; }
  std::size_t counts() const { return energies() + outputs; }
  std::size_t cross() const { return counts() + outputs; }
  std::size_t gram() const { return cross() + outputs * features; }
  std::size_t size() const { return gram() + features * (features + 1) / 2; }
};

void check_points(std::int64_t d, std::int64_t c, bool intercept, const std::vector<double>& center,
                  const std::vector<double>& target_center) {
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(center.size()) == d, shape_mismatch,
                  "center has " + std::to_string(center.size()) + " entries for " + std::to_string(d) + " features");
  GRAMIAN_REQUIRE(
      static_cast<std::int64_t>(target_center.size()) == c, shape_mismatch,
      "target_center has " + std::to_string(target_center.size()) + " entries for " + std::to_string(c) + " outputs");
  const auto finite = [](double value) { return std::isfinite(value); };
  GRAMIAN_REQUIRE(std::all_of(center.begin(), center.end(), finite), non_finite, "center holds NaN or infinity");
  GRAMIAN_REQUIRE(std::all_of(target_center.begin(), target_center.end(), finite), non_finite,
                  "target_center holds NaN or infinity");
  const auto zero = [](double value) { return value == 0; };
  GRAMIAN_REQUIRE(intercept || (std::all_of(center.begin(), center.end(), zero) &&
                                std::all_of(target_center.begin(), target_center.end(), zero)),
                  invalid_argument, "a state without intercept has its sums around zero: center must be zero");
}

}  // namespace

std::vector<double> GramState::moments(const std::vector<double>& center,
                                       const std::vector<double>& target_center) const {
  check_points(sums_->d, sums_->c, sums_->options.intercept, center, target_center);
  const GramState copy = clone();
  Sums& sums = *copy.sums_;
  std::vector<double> by(center), targets_by(target_center);
  for (std::size_t j = 0; j < by.size(); ++j) by[j] -= sums.shift[j];
  for (std::size_t k = 0; k < targets_by.size(); ++k) targets_by[k] -= sums.target_shift[k];
  if (sums.n_rows > 0) sums.move_shift(by, targets_by);
  const MomentLayout at(sums.d, sums.c);
  std::vector<double> out(at.size());
  out[0] = sums.weight_sum;
  out[1] = static_cast<double>(sums.n_rows);
  const auto put = [&](const auto& values, std::size_t where) {
    for (std::size_t k = 0; k < values.size(); ++k) out[where + k] = static_cast<double>(values[k]);
  };
  put(sums.s, at.feature_sums());
  put(sums.t, at.target_sums());
  put(sums.energy, at.energies());
  put(sums.counts, at.counts());
  download<double>(sums.exec, sums.q.view(), {out.data() + at.cross(), sums.c, sums.d});
  sums.g().pack(sums.exec, out.data() + at.gram());
  return out;
}

GramState GramState::of_moments(const Exec& exec, std::int64_t n_features, std::int64_t n_outputs, GramOptions options,
                                const std::vector<double>& moments, const std::vector<double>& center,
                                const std::vector<double>& target_center, bool codes) {
  check_points(n_features, n_outputs, options.intercept, center, target_center);
  GramState state(exec, n_features, n_outputs, options);
  Sums& sums = *state.sums_;
  const MomentLayout at(n_features, n_outputs);
  GRAMIAN_REQUIRE(moments.size() == at.size(), shape_mismatch,
                  "moments has " + std::to_string(moments.size()) + " entries, expected " + std::to_string(at.size()));
  GRAMIAN_REQUIRE(std::all_of(moments.begin(), moments.end(), [](double value) { return std::isfinite(value); }),
                  non_finite, "moments holds NaN or infinity");
  sums.n_rows = std::llround(moments[1]);
  sums.weight_sum = moments[0];
  sums.weighted_rows = -1;
  GRAMIAN_REQUIRE(sums.n_rows >= 0 && (sums.weight_sum > 0) == (sums.n_rows > 0), invalid_argument,
                  "moments hold a weight of " + std::to_string(moments[0]) + " on " + std::to_string(sums.n_rows) +
                      " rows, which no rows have");
  if (sums.n_rows == 0) {
    sums.reset();
    return state;
  }
  const auto take = [&](std::vector<double>& values, std::size_t where) {
    for (std::size_t k = 0; k < values.size(); ++k) values[k] = moments[where + k];
  };
  take(sums.s, at.feature_sums());
  take(sums.t, at.target_sums());
  take(sums.energy, at.energies());
  std::int64_t left = sums.n_rows;
  for (std::size_t k = 0; k < sums.counts.size(); ++k) {
    sums.counts[k] = std::clamp<std::int64_t>(std::llround(moments[at.counts() + k]), 0, left);
    left -= sums.counts[k];
  }
  upload<double>(exec, {moments.data() + at.cross(), n_outputs, n_features}, sums.q.view());
  sums.mutable_g().unpack(exec, moments.data() + at.gram());
  sums.shift = center;
  sums.target_shift = target_center;
  sums.shift_known = true;
  sums.kind = codes ? Sums::TargetKind::codes : n_outputs > 0 ? Sums::TargetKind::values : Sums::TargetKind::none;
  sums.longest_sum = sums.n_rows;
  sums.note_trace();
  return state;
}

void GramState::make_positive() {
  Sums& sums = *sums_;
  if (sums.n_rows == 0) return;
  const Exec& exec = sums.exec;
  const bool centred = sums.options.intercept;
  const Array<double> s = to_device(exec, sums.s);
  SymmetricMatrix<double> a(exec, sums.d);
  a.axpby(exec, 1.0, sums.g(), 0.0);
  if (centred) a.add_outer(exec, -1.0 / sums.weight_sum, s.data(), s.data());
  std::vector<double> values;
  Array<double> vectors;
  symmetric_eigen(exec, a, values, vectors);
  if (values.empty() || values.front() >= 0) return;
  // sum of value v v' over the modes that stay.
  for (double& value : values) value = std::sqrt(std::max(0.0, value));
  scale_rows<double>(exec, values, vectors.view());
  a.set_zero(exec);
  gram_update<double>(exec, 1.0, vectors.view(), a);
  if (centred) a.add_outer(exec, 1.0 / sums.weight_sum, s.data(), s.data());
  sums.mutable_g() = std::move(a);
  sums.note_trace();
}

}  // namespace gramian
