// Calls of more than one block: failures, cancellation, thread counts, feature maps, memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gram_state_support.h"
#include "gramian/core/error.hpp"

namespace {

using gramian::DType;
using gramian::Error;
using gramian::ErrorCode;
using gramian::Exec;
using gramian::FeatureMapPtr;
using gramian::GramState;
using gramian::RowsView;
using gramian::Targets;
using testkit::add;
using testkit::Bytes;
using testkit::bytes_of;
using testkit::cpu;
using testkit::Data;
using testkit::difference;
using testkit::expect_error;
using testkit::expect_sums;
using testkit::file_of;
using testkit::range;
using testkit::remove;
using testkit::weights_of;
using testkit::with;
using testkit::with_ridge;

constexpr std::int64_t kLong = 8192 * 2 + 500;

TEST(GramState, ALaterBlockThatFailsLeavesNoTrace) {
  Data data(kLong, 5, 2, 13, 3);
  for (const bool codes : {true, false}) {
    for (const bool filled : {true, false}) {
      GramState state(cpu(), 5, 2);
      if (filled) add(state, data, 0, 40, codes);
      const Bytes before = bytes_of(state);
      const double kept = data.x[(kLong - 3) * 5 + 2];
      data.x[(kLong - 3) * 5 + 2] = std::nan("");
      expect_error(ErrorCode::non_finite, "row " + std::to_string(kLong - 3),
                   [&] { add(state, data, 0, kLong, codes); });
      EXPECT_EQ(bytes_of(state), before);
      // In place: the blocks before it are in.
      GramState partial = state.clone();
      EXPECT_THROW(add(partial, data, 0, kLong, codes, false, false), Error);
      GramState expected = state.clone();
      const std::int64_t in = partial.n_rows() - state.n_rows();
      EXPECT_EQ(in, 2 * 8192);
      add(expected, data, 0, in, codes, false, false);
      EXPECT_EQ(bytes_of(partial), bytes_of(expected));
      data.x[(kLong - 3) * 5 + 2] = kept;
      add(state, data, 0, kLong, codes);
      const Bytes full = bytes_of(state);
      data.x[(kLong - 3) * 5 + 2] = std::nan("");
      EXPECT_THROW(remove(state, data, 0, kLong, codes), Error);
      EXPECT_EQ(bytes_of(state), full);
      data.x[(kLong - 3) * 5 + 2] = kept;
      remove(state, data, 0, kLong, codes);
      EXPECT_EQ(state.n_rows(), filled ? 40 : 0);
      if (!filled) {
        EXPECT_EQ(bytes_of(state), before);
      }
    }
  }
}

TEST(GramState, ManyBlocksAreTheSumOfTheirRows) {
  const Data data(kLong, 5, 2, 14, 3);
  for (const bool codes : {true, false}) {
    GramState state(cpu(), 5, 2);
    add(state, data, 0, 300, codes, true);
    add(state, data, 300, kLong - 300, codes, true);
    expect_sums(state, data, range(0, kLong), codes, true, 1e-13);
    remove(state, data, 0, 9000, codes, true);
    expect_sums(state, data, range(9000, kLong), codes, true, 1e-13);
  }
}

// Fires after k polls, for every k up to the end of the call.
void check_cancellation(bool adding, bool codes, bool atomic, bool filled, int threads) {
  const std::int64_t rows = 8192 + 700;
  const Data data(rows, 4, 2, 15, 1);
  Exec exec = cpu(threads);
  GramState start(exec, 4, 2);
  if (filled || !adding) add(start, data, 0, adding ? 50 : rows, codes);
  if (!adding && filled) add(start, data, 0, 60, codes);
  const auto work = [&](GramState& state) {
    if (adding) {
      add(state, data, 0, rows, codes, false, atomic);
    } else {
      remove(state, data, 0, rows, codes, false, atomic);
    }
  };
  const Bytes before = bytes_of(start);
  GramState whole = start.clone();
  int polls = 0;
  exec.set_cancel_hook([&] {
    ++polls;
    return false;
  });
  work(whole);
  const int all = polls;
  ASSERT_GT(all, 4);
  const Bytes after = bytes_of(whole);
  const int step = std::max(1, all / 60);
  int cancelled = 0;
  for (int k = 1; k <= all; k += step) {
    exec.set_cancel_hook(nullptr);
    GramState state = start.clone();
    int left = k;
    exec.set_cancel_hook([&] { return --left <= 0; });
    bool stopped = false;
    try {
      work(state);
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::cancelled);
      stopped = true;
      ++cancelled;
    }
    exec.set_cancel_hook(nullptr);
    if (!stopped) {
      ASSERT_EQ(bytes_of(state), after) << k;
    } else if (atomic) {
      ASSERT_EQ(bytes_of(state), before) << k << " of " << all;
    } else {
      const std::int64_t done = std::abs(state.n_rows() - start.n_rows());
      GramState expected = start.clone();
      if (done > 0 && adding) add(expected, data, 0, done, codes, false, false);
      if (done > 0 && !adding) remove(expected, data, 0, done, codes, false, false);
      ASSERT_EQ(bytes_of(state), bytes_of(expected)) << k << " of " << all;
    }
  }
  EXPECT_GT(cancelled, 0);
}

TEST(GramState, CancellationLeavesTheStateOrItsFirstRows) {
  for (const bool adding : {true, false})
    for (const bool codes : {true, false})
      for (const bool atomic : {true, false})
        for (const bool filled : {true, false})
          for (const int threads : {1, 2}) check_cancellation(adding, codes, atomic, filled, threads);
}

// A hook that only the last poll before a change asks: the pause between two polls is longer than any machine has run.
constexpr double kNeverPolled = 1e12;

TEST(GramState, IsAskedOnceMoreBeforeItsSumsChange) {
  struct Size {
    std::int64_t rows, features;
  };
  // In place, by a second set of sums for the work of one block, and for more than one block.
  for (const Size size : {Size{40, 6}, Size{600, 1000}, Size{8192 + 300, 5}}) {
    const Data data(size.rows, size.features, 2, 25);
    for (const bool codes : {true, false}) {
      Exec exec = cpu(2);
      GramState empty(exec, size.features, 2), filled(exec, size.features, 2);
      add(filled, data, 0, 30, codes);
      add(filled, data, 0, size.rows, codes);
      for (GramState* state : {&empty, &filled}) {
        for (const bool adding : {true, false}) {
          if (!adding && state == &empty) continue;
          const Bytes before = bytes_of(*state);
          int asked = 0;
          bool raised = true;
          exec.set_cancel_hook(
              [&] {
                ++asked;
                return raised;
              },
              kNeverPolled);
          const auto work = [&] {
            adding ? add(*state, data, 0, size.rows, codes) : remove(*state, data, 0, size.rows, codes);
          };
          expect_error(ErrorCode::cancelled, "", work);
          EXPECT_EQ(bytes_of(*state), before) << size.rows << codes << adding;
          const int first = asked;
          EXPECT_GE(first, 1);
          raised = false;
          work();
          exec.set_cancel_hook(nullptr);
          EXPECT_GE(asked, 2 * first);
          EXPECT_NE(bytes_of(*state), before);
        }
      }
    }
  }
}

TEST(GramState, CountsNoMoreRowsThanItsFileMayHold) {
  const Data data(8, 2, 1, 26);
  GramState state(cpu(), 2, 1);
  add(state, data, 0, 8, false);
  int doublings = 3;  // 2^3 rows
  expect_error(ErrorCode::invalid_argument, "2^53", [&] {
    for (;; ++doublings) state.merge(state);
  });
  EXPECT_EQ(doublings, 53);
  EXPECT_EQ(state.n_rows(), std::int64_t{1} << 53);
  const Bytes before = bytes_of(state);
  expect_error(ErrorCode::invalid_argument, "2^53", [&] { add(state, data, 0, 1, false); });
  EXPECT_EQ(bytes_of(state), before);
}

TEST(GramState, RefusesWeightsThatUnderflow) {
  const Data data(30, 2, 1, 27);
  GramState state(cpu(), 2, 1);
  const auto weigh = [&](double weight) {
    const std::vector<double> weights(30, weight);
    state.add(data.xs, Targets::of_values(data.ys), weights.data());
  };
  expect_error(ErrorCode::invalid_argument, "sample_weight underflows", [&] { weigh(5e-324); });
  EXPECT_EQ(state.n_rows(), 0);
  weigh(0);  // rows that are not there
  weigh(1e-307);
  weigh(5e-324);  // beside what is in, such rows are of no weight, but there
  EXPECT_EQ(state.n_rows(), 60);
  for (const double weight : weights_of(state.solve(with_ridge(1)))) EXPECT_TRUE(std::isfinite(weight));
}

TEST(GramState, HasTheSameBitsForEveryThreadCountAndLayout) {
  const Data data(900, 140, 3, 16, 2);
  std::vector<double> columns(data.x.size());
  for (std::size_t r = 0; r < 900; ++r)
    for (std::size_t c = 0; c < 140; ++c) columns[c * 900 + r] = data.x[r * 140 + c];
  RowsView turned = data.xs;
  turned.data = columns.data();
  turned.row_stride = sizeof(double);
  turned.col_stride = 900 * sizeof(double);
  for (const DType products : {DType::f64, DType::f32}) {
    Bytes first;
    std::vector<double> weights;
    for (int threads = 1; threads <= 4; ++threads) {
      for (const bool layout : {false, true}) {
        GramState state(cpu(threads), 140, 3, with(true, products));
        const RowsView& x = layout ? turned : data.xs;
        const RowsView head = data.ys.slice(0, 500), tail = data.ys.slice(500, 400);
        state.add(x.slice(0, 500), Targets::of_values(head), data.w.data());
        state.add(x.slice(500, 400), Targets::of_values(tail), data.w.data() + 500);
        state.remove(x.slice(0, 500), Targets::of_values(head), data.w.data());
        const std::vector<double> solved = weights_of(state.solve(with_ridge(0.5)));
        if (first.empty()) {
          first = bytes_of(state);
          weights = solved;
        }
        EXPECT_EQ(bytes_of(state), first) << threads << layout;
        EXPECT_EQ(solved, weights);
      }
    }
  }
}

TEST(GramState, WithAMapNoBlockOfAllRowsExists) {
  const Data data(20000, 10, 3, 17);
  gramian::RandomFeaturesConfig config;
  config.n_inputs = 10;
  config.n_features = 600;
  config.seed = 3;
  const FeatureMapPtr map = gramian::make_random_features(config);
  for (const DType products : {DType::f64, DType::f32}) {
    GramState state(cpu(), 600, 3, with(true, products));
    const std::size_t element = products == DType::f32 ? 4 : 8;
    gramian::reset_memory_stats();
    const std::size_t live = gramian::memory_stats().live;
    state.add(data.xs, Targets::of_codes(data.codes.data()), nullptr, map.get());
    const gramian::MemoryStats stats = gramian::memory_stats();
    EXPECT_LE(stats.largest, 8192 * 600 * element);
    EXPECT_LT(stats.largest, 20000 * 600 * element / 2);
    EXPECT_LE(stats.peak - live, (std::size_t{8192} * 600 * element * 3) / 2 + (std::size_t{16} << 20));
    // The same sums as from the features themselves, and one row at a time.
    if (products == DType::f64) {
      gramian::Array<double> z(cpu(), 2000, 600);
      map->transform(cpu(), data.xs.slice(0, 2000), z.view());
      GramState mapped(cpu(), 600, 3), direct(cpu(), 600, 3);
      mapped.add(data.xs.slice(0, 2000), Targets::of_codes(data.codes.data()), data.w.data(), map.get());
      direct.add(RowsView::dense<double>(z.view()), Targets::of_codes(data.codes.data()), data.w.data());
      EXPECT_LE(difference(weights_of(mapped.solve(with_ridge(1))), weights_of(direct.solve(with_ridge(1)))), 1e-10);
    }
    expect_error(ErrorCode::shape_mismatch, "600 features, but the state holds 599", [&] {
      GramState(cpu(), 599, 3).add(data.xs, Targets::of_codes(data.codes.data()), nullptr, map.get());
    });
  }
}

TEST(GramState, ItsSizeDoesNotDependOnTheRows) {
  const Data data(3000, 12, 2, 18);
  GramState few(cpu(), 12, 2), many(cpu(), 12, 2);
  add(few, data, 0, 10, true);
  add(many, data, 0, 3000, true);
  EXPECT_EQ(few.bytes(), many.bytes());
  EXPECT_EQ(file_of(few).bytes.size(), file_of(many).bytes.size());
}

}  // namespace
