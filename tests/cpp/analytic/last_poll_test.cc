// Models that make their new state beside the old one ask once more before it takes the old one's place.
#include <gtest/gtest.h>

#include <vector>

#include "gramian/analytic/class_moments.hpp"
#include "gramian/analytic/dual_stream.hpp"
#include "gramian/analytic/truncated.hpp"
#include "support/helpers.h"

namespace {

using gramian::ErrorCode;
using gramian::Exec;
using gramian::Labels;
using gramian::RowsView;
using testkit::cpu;
using testkit::expect_error;

constexpr std::int64_t kRows = 40, kInputs = 3;

struct Batch {
  Batch() {
    for (std::int64_t r = 0; r < kRows; ++r) {
      codes.push_back(r % 2);
      for (std::int64_t j = 0; j < kInputs; ++j) x.push_back(static_cast<double>((7 * r + 3 * j) % 11 + codes.back()));
    }
  }
  RowsView rows() const { return RowsView::dense<double>({x.data(), kRows, kInputs}); }
  gramian::ClassTargets targets() const { return {&labels, codes.data()}; }
  std::vector<double> x;
  std::vector<std::int64_t> codes;
  Labels labels = Labels::integers({1, 2});
};

// change(model) is refused by a hook that only the last poll asks, since its pause is longer than any machine has run.
template <class Model, class Change>
void expect_last_poll(Exec exec, Model& model, const Change& change) {
  change(model);
  change(model);
  const auto before = model.save_bytes();
  exec.set_cancel_hook([] { return true; }, 1e12);
  expect_error(ErrorCode::cancelled, "", [&] { change(model); });
  exec.set_cancel_hook(nullptr);
  EXPECT_EQ(model.save_bytes(), before);
  change(model);
  EXPECT_NE(model.save_bytes(), before);
}

TEST(LastPoll, ClassMoments) {
  const Batch batch;
  const Exec exec = cpu();
  gramian::ClassMoments model(exec, kInputs, {}, nullptr);
  expect_last_poll(exec, model, [&](auto& m) { m.partial_fit(batch.rows(), batch.targets(), nullptr); });
  expect_last_poll(exec, model, [&](auto& m) { m.forget(batch.rows().slice(0, 9), batch.targets(), nullptr); });
}

TEST(LastPoll, TruncatedRidgeClassifier) {
  const Batch batch;
  const Exec exec = cpu();
  gramian::TruncatedRidgeClassifier model(exec, kInputs, {}, nullptr);
  expect_last_poll(exec, model, [&](auto& m) { m.partial_fit(batch.rows(), batch.targets()); });
}

TEST(LastPoll, DualStreamClassifier) {
  const Batch batch;
  for (const bool invariant : {false, true}) {
    const Exec exec = cpu();
    gramian::RandomFeaturesConfig features;
    features.n_inputs = kInputs;
    features.n_features = 8;
    gramian::DualStreamConfig config;
    config.invariant = invariant;
    gramian::DualStreamClassifier model(exec, kInputs, config, gramian::make_random_features(features),
                                        gramian::make_random_features(features));
    expect_last_poll(exec, model, [&](auto& m) { m.partial_fit(batch.rows(), batch.targets(), nullptr); });
  }
}

}  // namespace
