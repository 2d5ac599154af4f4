#include "gramian/gram/ridge_head.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "gramian/core/error.hpp"
#include "support/data.h"
#include "support/helpers.h"
#include "support/saved.h"

namespace {

using gramian::DType;
using gramian::ErrorCode;
using gramian::Exec;
using gramian::FeatureMapPtr;
using gramian::GramState;
using gramian::Json;
using gramian::MatrixView;
using gramian::RidgeConfig;
using gramian::RidgeHead;
using gramian::RowsView;
using gramian::Solution;
using gramian::Targets;
using testkit::cpu;
using testkit::Data;
using testkit::expect_error;
using testkit::File;
using testkit::file_of;
using testkit::loaded;

FeatureMapPtr some_map(std::int64_t inputs, std::int64_t features) {
  gramian::RandomFeaturesConfig config;
  config.n_inputs = inputs;
  config.n_features = features;
  config.seed = 9;
  return gramian::make_random_features(config);
}

std::vector<double> scores(const RidgeHead& head, const RowsView& x) {
  std::vector<double> out(static_cast<std::size_t>(x.rows * head.n_outputs()), std::nan(""));
  head.scores(x, MatrixView<double>(out.data(), x.rows, head.n_outputs()));
  return out;
}

TEST(RidgeHead, ScoresAreTheWeightsTimesTheFeatures) {
  const Data rows(4500, 8, 3, 41, 5.0);  // more than one block
  for (const FeatureMapPtr& map : {FeatureMapPtr(), some_map(8, 40)}) {
    for (const DType products : {DType::f64, DType::f32}) {
      RidgeConfig config;
      config.ridge = 0.2;
      config.gram.products = products;
      RidgeHead head(cpu(), 8, 3, config, map);
      head.add(rows.xs, Targets::of_values(rows.ys), rows.w.data(), true);
      GramState state(cpu(), map ? 40 : 8, 3, config.gram);
      state.add(rows.xs, Targets::of_values(rows.ys), rows.w.data(), map.get());
      gramian::SolveOptions options;
      options.ridge = 0.2;
      const Solution expected = state.solve(options);
      ASSERT_EQ(head.solution().intercept, expected.intercept);
      EXPECT_EQ(head.ridge_used(), 0.2);
      const std::vector<double> got = scores(head, rows.xs);
      std::vector<double> z(rows.x);
      const std::int64_t d = head.n_features();
      if (map) {
        z.resize(static_cast<std::size_t>(4500 * 40));
        map->transform(cpu(), rows.xs, MatrixView<double>(z.data(), 4500, 40));
      }
      for (std::int64_t r = 0; r < 4500; r += 7) {
        for (std::int64_t k = 0; k < 3; ++k) {
          double value = expected.intercept[static_cast<std::size_t>(k)];
          for (std::int64_t j = 0; j < d; ++j)
            value += expected.coef.view()(k, j) * z[static_cast<std::size_t>(r * d + j)];
          ASSERT_NEAR(got[static_cast<std::size_t>(r * 3 + k)], value, products == DType::f32 ? 1e-4 : 1e-11);
        }
      }
      EXPECT_TRUE(scores(head, rows.xs.slice(0, 0)).empty());
      for (const int threads : {1, 3}) {
        RidgeHead again(cpu(threads), 8, 3, config, map);
        again.add(rows.xs, Targets::of_values(rows.ys), rows.w.data(), true);
        EXPECT_EQ(scores(again, rows.xs), got);
      }
      double noise = 0;
      for (const double v : state.penalised_residual_sums(expected)) noise += v;
      EXPECT_NEAR(head.noise_variance(), noise / (3 * state.weight_sum()), 1e-12);
      EXPECT_GT(head.noise_variance(), 0);
    }
  }
}

TEST(RidgeHead, EveryChangeIsFollowedByNewWeights) {
  const Data rows(300, 5, 3, 41);
  RidgeHead head(cpu(), 5, 3, {}, nullptr), other(cpu(), 5, 3, {}, nullptr);
  head.add(rows.xs.slice(0, 100), Targets::of_codes(rows.codes.data()), nullptr, true);
  const std::vector<double> first = scores(head, rows.xs);
  head.add(rows.xs.slice(100, 100), Targets::of_codes(rows.codes.data() + 100), nullptr, true);
  const std::vector<double> second = scores(head, rows.xs);
  EXPECT_NE(first, second);
  other.add(rows.xs.slice(200, 100), Targets::of_codes(rows.codes.data() + 200), nullptr, true);
  head.merge(other);
  const std::vector<double> third = scores(head, rows.xs);
  EXPECT_NE(second, third);
  head.unmerge(other);
  const std::vector<double> fourth = scores(head, rows.xs);
  for (std::size_t k = 0; k < second.size(); ++k) ASSERT_NEAR(fourth[k], second[k], 1e-11);
  head.remove(rows.xs.slice(100, 100), Targets::of_codes(rows.codes.data() + 100), nullptr, true);
  const std::vector<double> fifth = scores(head, rows.xs);
  for (std::size_t k = 0; k < first.size(); ++k) ASSERT_NEAR(fifth[k], first[k], 1e-11);
  head.rearrange_outputs({2, -1, 0, 1});
  EXPECT_EQ(head.n_outputs(), 4);
  const std::vector<double> sixth = scores(head, rows.xs);
  for (std::size_t r = 0; r < 300; ++r) {
    EXPECT_NEAR(sixth[r * 4], fifth[r * 3 + 2], 1e-13);
    EXPECT_EQ(sixth[r * 4 + 1], 0.0);
    EXPECT_NEAR(sixth[r * 4 + 2], fifth[r * 3], 1e-13);
  }
}

TEST(RidgeHead, WeightsFollowTheRowsWithLowLatency) {
  const Data rows(300, 5, 3, 41, 10.0);
  for (const double forgetting : {1.0, 0.98}) {
    RidgeConfig config;
    config.ridge = 0.3;
    config.forgetting = forgetting;
    RidgeHead lazy(cpu(), 5, 3, config, some_map(5, 40));
    config.low_latency = true;
    RidgeHead live(cpu(), 5, 3, config, some_map(5, 40));
    const auto same = [&] {
      const Solution &a = live.solution(), &b = lazy.solution();
      for (std::int64_t k = 0; k < live.n_outputs(); ++k) {
        EXPECT_NEAR(a.intercept[static_cast<std::size_t>(k)], b.intercept[static_cast<std::size_t>(k)], 1e-9);
        for (std::int64_t j = 0; j < 40; ++j) ASSERT_NEAR(a.coef.view()(k, j), b.coef.view()(k, j), 1e-10);
      }
      EXPECT_NEAR(live.noise_variance(), lazy.noise_variance(), 1e-10);
      EXPECT_EQ(live.ridge_used(), lazy.ridge_used());
    };
    for (RidgeHead* head : {&live, &lazy})
      head->add(rows.xs.slice(0, 50), Targets::of_codes(rows.codes.data()), rows.w.data(), true);
    same();
    for (std::int64_t r = 50; r < 110; r += 3) {
      for (RidgeHead* head : {&live, &lazy})
        head->add(rows.xs.slice(r, 3), Targets::of_codes(rows.codes.data() + r), rows.w.data() + r, true);
      same();
    }
    EXPECT_EQ(live.solution().report.method, "cholesky_updated");
    EXPECT_EQ(live.solution().report.updates, 60);
    EXPECT_EQ(live.solution().report.anchors, 1);
    for (RidgeHead* head : {&live, &lazy}) head->rearrange_outputs({2, -1, 0, 1});
    same();
    EXPECT_EQ(live.solution().report.anchors, 1);
    if (forgetting < 1) continue;
    for (std::int64_t r = 0; r < 50; r += 2) {
      std::vector<std::int64_t> codes;
      const std::int64_t place[] = {2, 3, 0};  // of the old outputs among the new
      for (std::int64_t k = r; k < r + 2; ++k) codes.push_back(place[rows.codes[static_cast<std::size_t>(k)]]);
      for (RidgeHead* head : {&live, &lazy})
        head->remove(rows.xs.slice(r, 2), Targets::of_codes(codes.data()), rows.w.data() + r, true);
      same();
    }
    EXPECT_EQ(live.solution().report.updates, 110);
    EXPECT_GT(live.solution().report.removal_bound, 0);
  }
  // Sums that are scaled say the same with the ridge scaled alike.
  RidgeHead head(cpu(), 5, 3, {}, nullptr);
  head.add(rows.xs, Targets::of_codes(rows.codes.data()), nullptr, true);
  GramState scaled = head.state().clone();
  scaled.scale(0.25);
  gramian::SolveOptions options;
  options.ridge = 0.25;
  const Solution a = scaled.solve(options);
  for (std::int64_t j = 0; j < 5; ++j) EXPECT_NEAR(a.coef.view()(0, j), head.solution().coef.view()(0, j), 1e-13);
  EXPECT_EQ(scaled.n_rows(), 300);
  EXPECT_THROW(scaled.scale(0.0), gramian::Error);
}

TEST(RidgeHead, AFailedCallChangesNothing) {
  Data rows(100, 5, 2, 41);
  RidgeHead head(cpu(), 5, 2, {}, nullptr);
  head.add(rows.xs.slice(0, 50), Targets::of_codes(rows.codes.data()), nullptr, true);
  const std::vector<double> before = scores(head, rows.xs.slice(0, 50));
  rows.x[80 * 5] = INFINITY;
  expect_error(ErrorCode::non_finite, "row 80",
               [&] { head.add(rows.xs, Targets::of_codes(rows.codes.data()), nullptr, true); });
  expect_error(ErrorCode::invalid_argument, "cannot remove",
               [&] { head.remove(rows.xs, Targets::of_codes(rows.codes.data()), nullptr, true); });
  expect_error(ErrorCode::non_finite, "row 80", [&] { scores(head, rows.xs); });
  EXPECT_EQ(scores(head, rows.xs.slice(0, 50)), before);
  EXPECT_EQ(head.state().n_rows(), 50);
}

// A ridge that has aged comes with the rows that it aged with, and so not from a merge that is refused.
TEST(RidgeHead, ARefusedMergeLeavesTheRidgeAsItWas) {
  const Data rows(50, 5, 2, 41);
  RidgeConfig config;
  config.ridge = 3;
  config.forgetting = 0.9;
  RidgeHead head(cpu(), 5, 2, config, nullptr), untouched(cpu(), 5, 2, config, nullptr);
  RidgeHead wider(cpu(), 5, 3, config, nullptr), merged(cpu(), 5, 3, config, nullptr);
  const auto learn = [&](RidgeHead& one) { one.add(rows.xs, Targets::of_codes(rows.codes.data()), nullptr, true); };
  learn(wider);
  expect_error(ErrorCode::shape_mismatch, "outputs", [&] { head.merge(wider); });
  learn(head);
  learn(untouched);
  EXPECT_EQ(head.ridge_used(), untouched.ridge_used());
  merged.merge(wider);
  EXPECT_EQ(merged.ridge_used(), wider.ridge_used());
  EXPECT_LT(merged.ridge_used(), 3);
}

TEST(RidgeHead, GcvChoosesTheBestOfTheGridAtEachSolve) {
  const Data rows(200, 6, 2, 41);
  RidgeConfig config;
  config.gcv = true;
  config.ridges = {0.01, 1, 5, 20, 1e5};
  RidgeHead head(cpu(), 6, 2, config, nullptr);
  head.add(rows.xs, Targets::of_values(rows.ys), nullptr, true);
  const gramian::GcvCurve curve = head.state().gcv(config.ridges);
  EXPECT_EQ(head.ridge_used(), curve.ridges[curve.best]);
  EXPECT_EQ(head.gcv_at_edge(), curve.at_edge);
  config.ridges = {1e6, 1e8};
  RidgeHead edge(cpu(), 6, 2, config, nullptr);
  edge.add(rows.xs, Targets::of_values(rows.ys), nullptr, true);
  EXPECT_EQ(edge.ridge_used(), 1e6);
  EXPECT_TRUE(edge.gcv_at_edge());
  // The default grid follows the scale of the features.
  config.ridges.clear();
  std::vector<double> scaled(rows.x);
  for (double& v : scaled) v *= 1e4;
  RidgeHead a(cpu(), 6, 2, config, nullptr), b(cpu(), 6, 2, config, nullptr);
  a.add(rows.xs, Targets::of_values(rows.ys), nullptr, true);
  b.add(RowsView::dense(MatrixView<const double>(scaled.data(), 200, 6)), Targets::of_values(rows.ys), nullptr, true);
  EXPECT_NEAR(b.ridge_used() / a.ridge_used(), 1e8, 1.0);
}

RidgeHead trained(const Data& rows, const FeatureMapPtr& map) {
  RidgeConfig config;
  config.gcv = true;
  config.standardize = true;
  config.ridges = {0.5, 7.0, 1.0 / 3};
  RidgeHead head(cpu(), rows.d, rows.c, config, map);
  head.add(rows.xs, Targets::of_codes(rows.codes.data()), rows.w.data(), true);
  return head;
}

TEST(RidgeHead, ALoadedHeadScoresAndLearnsOnAlike) {
  const Data rows(150, 5, 3, 41);
  for (const FeatureMapPtr& map : {FeatureMapPtr(), some_map(5, 24)}) {
    RidgeHead head = trained(rows, map);
    const File full = file_of(head, false), weights = file_of(head, true);
    RidgeHead whole = loaded<RidgeHead>(full), thin = loaded<RidgeHead>(weights);
    EXPECT_EQ(scores(whole, rows.xs), scores(head, rows.xs));
    EXPECT_EQ(scores(thin, rows.xs), scores(head, rows.xs));
    EXPECT_EQ(whole.noise_variance(), head.noise_variance());
    EXPECT_EQ(thin.noise_variance(), head.noise_variance());
    EXPECT_EQ(thin.ridge_used(), head.ridge_used());
    EXPECT_EQ(file_of(whole, false).bytes, full.bytes);
    EXPECT_EQ(file_of(whole, false).description.dump(), full.description.dump());
    EXPECT_EQ(file_of(thin, true).bytes, weights.bytes);
    EXPECT_TRUE(whole.has_state());
    EXPECT_FALSE(thin.has_state());
    EXPECT_LT(weights.bytes.size(), full.bytes.size());
    whole.add(rows.xs, Targets::of_codes(rows.codes.data()), nullptr, true);
    head.add(rows.xs, Targets::of_codes(rows.codes.data()), nullptr, true);
    EXPECT_EQ(scores(whole, rows.xs), scores(head, rows.xs));
    const auto unsupported = [](const auto& call) { expect_error(ErrorCode::unsupported, "weights-only", call); };
    unsupported([&] { thin.add(rows.xs, Targets::of_codes(rows.codes.data()), nullptr, true); });
    unsupported([&] { thin.remove(rows.xs, Targets::of_codes(rows.codes.data()), nullptr, true); });
    unsupported([&] { thin.merge(head); });
    unsupported([&] { head.merge(thin); });
    unsupported([&] { thin.rearrange_outputs({0}); });
    unsupported([&] { file_of(thin, false); });
    EXPECT_EQ(scores(head, rows.xs), scores(whole, rows.xs));
  }
}

TEST(RidgeHead, InconsistentFilesAreFileErrors) {
  const Data rows(60, 5, 3, 41);
  const RidgeHead head = trained(rows, some_map(5, 8));
  const auto refused = [](const File& file, const std::string& key, const Json& value) {
    File changed = file;
    changed.description[key] = value;
    SCOPED_TRACE(key + " = " + value.dump());
    expect_error(ErrorCode::file_format, "", [&] { loaded<RidgeHead>(changed); });
  };
  for (const bool weights_only : {false, true}) {
    SCOPED_TRACE(weights_only);
    const File file = file_of(head, weights_only);
    refused(file, "n_outputs", 2);
    refused(file, "n_outputs", -1);
    refused(file, "n_inputs", 6);
    refused(file, "n_inputs", 0);
    refused(file, "products", "float8");
    refused(file, "ridge", -1.0);
    refused(file, "ridges", Json(1.0));
    refused(file, "map", Json());
    refused(file, "map", "none");
    if (!weights_only) {
      refused(file, "intercept", false);  // the state has one
    }
  }
}

TEST(RidgeHead, BadConfigurationsAreRefused) {
  RidgeConfig config;
  for (const double ridge : {-1.0, std::nan(""), static_cast<double>(INFINITY)}) {
    config.ridge = ridge;
    expect_error(ErrorCode::invalid_argument, "ridge", [&] { RidgeHead(cpu(), 3, 1, config, nullptr); });
  }
  config.ridge = 1;
  config.ridges = {1.0, 0.0};
  expect_error(ErrorCode::invalid_argument, "ridges", [&] { RidgeHead(cpu(), 3, 1, config, nullptr); });
  config.ridges.clear();
  config.low_latency = config.gcv = true;
  config.forgetting = 0.9;
  expect_error(ErrorCode::invalid_argument, "ridge that is a number", [&] { RidgeHead(cpu(), 3, 1, config, nullptr); });
  config.forgetting = 1;
  config.gcv = false;
  config.standardize = true;
  expect_error(ErrorCode::invalid_argument, "standardize", [&] { RidgeHead(cpu(), 3, 1, config, nullptr); });
  config.low_latency = config.standardize = false;
  for (const double forgetting : {0.0, 1.5, std::nan("")}) {
    config.forgetting = forgetting;
    expect_error(ErrorCode::invalid_argument, "forgetting", [&] { RidgeHead(cpu(), 3, 1, config, nullptr); });
  }
  config.forgetting = 1;
  expect_error(ErrorCode::invalid_argument, "at least one feature", [&] { RidgeHead(cpu(), 0, 1, config, nullptr); });
  expect_error(ErrorCode::shape_mismatch, "expects 4", [&] { RidgeHead(cpu(), 3, 1, config, some_map(4, 5)); });
  const RidgeHead head(cpu(), 3, 2, config, nullptr);
  expect_error(ErrorCode::not_fitted, "not seen any rows", [&] { head.solution(); });
  const Data rows(10, 3, 2, 41), wide(10, 4, 2, 41);
  expect_error(ErrorCode::not_fitted, "not seen any rows", [&] { scores(head, rows.xs); });
  expect_error(ErrorCode::shape_mismatch, "X has 4 features, but 3", [&] { scores(head, wide.xs); });
}

TEST(RidgeHead, MayBeReadByManyThreadsAtOnce) {
  const Data rows(200, 5, 3, 41);
  const RidgeHead head = trained(rows, some_map(5, 24)), other = trained(rows, some_map(5, 24));
  const std::vector<double> expected = scores(other, rows.xs);
  std::vector<std::vector<double>> got(4);
  std::vector<std::thread> readers;
  for (auto& out : got) readers.emplace_back([&] { out = scores(head, rows.xs); });
  for (std::thread& reader : readers) reader.join();
  for (const auto& out : got) EXPECT_EQ(out, expected);
}

// A cancel hook may wait for what another reader holds (the lock of an interpreter, say), so no reader may wait for a
// solve. Here the hook itself waits for another reader to be through.
TEST(RidgeHead, AReaderIsThroughWhileAnotherOnesSolveStandsStill) {
  const Data rows(200, 5, 3, 41);
  const RidgeHead head = trained(rows, nullptr);
  const std::thread::id first = std::this_thread::get_id();
  std::future<const Solution*> other;
  bool through = false;
  Exec exec = head.exec();
  exec.set_cancel_hook([&] {
    if (std::this_thread::get_id() != first || other.valid()) return false;
    other = std::async(std::launch::async, [&] { return &head.solution(); });
    through = other.wait_for(std::chrono::seconds(60)) == std::future_status::ready;
    return false;
  });
  const Solution* mine = &head.solution();
  exec.set_cancel_hook(nullptr);
  ASSERT_TRUE(other.valid()) << "the hook was not asked";
  EXPECT_TRUE(through);
  EXPECT_EQ(mine, other.get()) << "two answers were given out";
}

// A hook that only the last poll before a change asks, since the pause is longer than any machine has run.
TEST(RidgeHead, IsAskedOnceMoreBeforeItsSumsChange) {
  const Data rows(200, 5, 3, 41);
  for (const char* kind : {"plain", "moments", "ranpac", "aged"}) {
    RidgeConfig config;
    if (std::string(kind) == "moments") config.holdout = gramian::HoldoutRule::moments;
    if (std::string(kind) == "ranpac") config.holdout = gramian::HoldoutRule::ranpac;
    if (std::string(kind) == "aged") config.forgetting = 0.5;  // 200 rows leave nothing: by way of a second state
    Exec exec(gramian::Device::cpu, 1);
    RidgeHead head(exec, 5, 3, config, nullptr);
    head.add(rows.xs, Targets::of_values(rows.ys), nullptr, true);
    const testkit::Bytes before = file_of(head.state()).bytes;
    exec.set_cancel_hook([] { return true; }, 1e12);
    expect_error(ErrorCode::cancelled, "", [&] { head.add(rows.xs, Targets::of_values(rows.ys), nullptr, true); });
    if (config.forgetting == 1)
      expect_error(ErrorCode::cancelled, "",
                   [&] { head.remove(rows.xs.slice(0, 9), Targets::of_values(rows.ys.slice(0, 9)), nullptr, true); });
    exec.set_cancel_hook(nullptr);
    EXPECT_EQ(file_of(head.state()).bytes, before) << kind;
  }
}

TEST(RidgeHead, ACancelledSolveLeavesNothingBehind) {
  const Data rows(200, 5, 3, 41);
  const RidgeHead head = trained(rows, nullptr), whole = trained(rows, nullptr);
  Exec exec = head.exec();
  exec.set_cancel_hook([] { return true; });
  expect_error(ErrorCode::cancelled, "", [&] { head.solution(); });
  expect_error(ErrorCode::cancelled, "", [&] { head.noise_variance(); });
  exec.set_cancel_hook(nullptr);
  EXPECT_EQ(scores(head, rows.xs), scores(whole, rows.xs));
  EXPECT_EQ(head.noise_variance(), whole.noise_variance());
  EXPECT_EQ(head.gcv_at_edge(), whole.gcv_at_edge());
}

}  // namespace
