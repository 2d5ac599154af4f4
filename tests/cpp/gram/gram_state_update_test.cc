// Adding and removing rows: the sums, the weights they give, and what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "gram_state_support.h"
#include "gramian/core/error.hpp"

namespace {

using gramian::DType;
using gramian::Error;
using gramian::ErrorCode;
using gramian::GramState;
using gramian::MatrixView;
using gramian::RowsView;
using gramian::Solution;
using gramian::Targets;
using testkit::add;
using testkit::Bytes;
using testkit::bytes_of;
using testkit::cpu;
using testkit::Data;
using testkit::difference;
using testkit::expect_error;
using testkit::expect_sums;
using testkit::Moments;
using testkit::moments_of;
using testkit::naive_ridge;
using testkit::range;
using testkit::remove;
using testkit::weights_of;
using testkit::with;
using testkit::with_ridge;

TEST(GramState, SumsAndWeightsAreThoseOfTheRows) {
  const Data data(400, 13, 3, 1, 2.0);
  for (const bool codes : {true, false}) {
    for (const bool weighted : {true, false}) {
      for (const bool intercept : {true, false}) {
        GramState state(cpu(), 13, 3, with(intercept));
        for (const std::int64_t begin : {0, 1, 150})
          add(state, data, begin, begin == 0 ? 1 : begin == 1 ? 149 : 250, codes, weighted);
        expect_sums(state, data, range(0, 400), codes, weighted, 1e-14);
        for (const double ridge : {0.0, 0.1, 50.0}) {
          EXPECT_LE(difference(weights_of(state.solve(with_ridge(ridge))),
                               naive_ridge(data, range(0, 400), codes, weighted, intercept, ridge)),
                    1e-12);
          EXPECT_LE(difference(weights_of(state.solve(with_ridge(ridge, true))),
                               naive_ridge(data, range(0, 400), codes, weighted, intercept, ridge, true)),
                    1e-12);
        }
        // Another answer is told apart.
        EXPECT_GT(difference(weights_of(state.solve(with_ridge(1.0))),
                             naive_ridge(data, range(0, 399), codes, weighted, intercept, 1.0)),
                  1e-6);
        if (codes) {
          for (std::int64_t k = 0; k < 3; ++k)
            EXPECT_EQ(state.counts()[static_cast<std::size_t>(k)], std::count(data.codes.begin(), data.codes.end(), k));
        } else {
          EXPECT_EQ(state.counts(), std::vector<std::int64_t>(3, 0));
        }
      }
    }
  }
}

// Rows that come a few at a time join G together, in their order: whenever somebody looks, and however often.
TEST(GramState, NoBitSaysWhenAFewRowsCameIn) {
  for (const std::int64_t d : {1, 5, 16, 17, 130, 300}) {
    for (const bool intercept : {true, false}) {
      Data data(150, d, 2, 3, 2.0);
      // The mean runs away, and the shift has to follow it.
      for (std::int64_t k = 0; k < 150 * d; ++k)
        data.x[static_cast<std::size_t>(k)] += 0.3 * static_cast<double>(k / d);
      GramState late(cpu(), d, 2, with(intercept)), seen(cpu(1), d, 2, with(intercept));
      GramState direct(cpu(), d, 2, with(intercept));
      late.let_few_rows_wait(true);
      seen.let_few_rows_wait(true);
      std::int64_t begin = 0, count = 0;
      const auto all = {&late, &seen, &direct};
      const auto change = [&](const auto& body) {
        for (GramState* state : all) body(*state);
        bytes_of(seen);
        direct.scale(1.0);  // after which no row waits
      };
      for (int turn = 0; begin < 140; ++turn, begin += count) {
        count = std::min<std::int64_t>(turn % 5 == 4 ? 12 : 1 + turn % 8, 150 - begin);
        change([&](GramState& state) { add(state, data, begin, count, true, turn % 2 == 0); });
        if (turn == 9) change([&](GramState& state) { remove(state, data, begin, 1, true, false); });
        if (turn == 13) change([](GramState& state) { state.scale(0.5); });
      }
      EXPECT_EQ(bytes_of(late), bytes_of(seen)) << d;
      const Moments found = moments_of(late), expected = moments_of(direct);
      EXPECT_EQ(found.gram, expected.gram) << d;
      EXPECT_EQ(found.cross, expected.cross) << d;
      EXPECT_EQ(late.largest_trace(), direct.largest_trace());
      add(late, data, 0, 1, true);
      EXPECT_NE(bytes_of(late), bytes_of(seen));
      add(seen, data, 0, 1, true);
      GramState copy = late.clone();
      EXPECT_EQ(bytes_of(copy), bytes_of(seen));
    }
  }
}

TEST(GramState, ReadersMayBringInTheRowsThatWait) {
  const std::int64_t d = 200;
  const Data data(40, d, 2, 4, 1.0);
  GramState state(cpu(), d, 2, with(true)), expected(cpu(), d, 2, with(true));
  state.let_few_rows_wait(true);
  for (GramState* one : {&state, &expected}) {
    add(*one, data, 0, 20, false);
    for (std::int64_t r = 20; r < 27; ++r) add(*one, data, r, 1, false);
  }
  std::vector<Moments> found(4);
  std::vector<std::thread> readers;
  for (Moments& out : found) readers.emplace_back([&] { out = moments_of(state); });
  for (std::thread& reader : readers) reader.join();
  const Moments moments = moments_of(expected);
  for (const Moments& out : found) EXPECT_EQ(out.gram, moments.gram);
}

TEST(GramState, WithoutRowsItIsExactlyTheEmptyState) {
  const Data data(300, 9, 3, 3, 1e3);
  for (const bool codes : {true, false}) {
    for (const DType products : {DType::f64, DType::f32}) {
      const Bytes empty = bytes_of(GramState(cpu(), 9, 3, with(true, products)));
      GramState state(cpu(), 9, 3, with(true, products));
      add(state, data, 0, 200, codes, true);
      remove(state, data, 0, 150, codes, true);
      remove(state, data, 150, 50, codes, true);
      EXPECT_EQ(bytes_of(state), empty);
      EXPECT_EQ(state.largest_trace(), 0);
      add(state, data, 0, 200, codes);
      GramState other = state.clone();
      state.unmerge(other);
      EXPECT_EQ(bytes_of(state), empty);
      add(state, data, 0, 7, codes);
      state.unmerge(state);
      EXPECT_EQ(bytes_of(state), empty);
      add(state, data, 0, 200, !codes);  // the kind of targets is forgotten, too
      state.clear();
      EXPECT_EQ(bytes_of(state), empty);
      // And it behaves like a new one.
      GramState fresh(cpu(), 9, 3, with(true, products));
      add(state, data, 100, 200, codes, true);
      add(fresh, data, 100, 200, codes, true);
      EXPECT_EQ(bytes_of(state), bytes_of(fresh));
    }
  }
}

TEST(GramState, AClassWithoutRowsHasExactZeros) {
  const Data data(90, 6, 3, 4, 100);
  for (const bool weighted : {false, true}) {
    GramState state(cpu(), 6, 3);
    add(state, data, 0, 90, true, weighted);
    for (std::int64_t r = 0; r < 90; ++r)
      if (data.codes[static_cast<std::size_t>(r)] == 1) remove(state, data, r, 1, true, weighted);
    EXPECT_EQ(state.counts()[1], 0);
    for (const double v : weights_of(state.solve(with_ridge(0.5)))) EXPECT_TRUE(std::isfinite(v));
    const Moments moments = moments_of(state);
    for (std::size_t j = 0; j < 6; ++j) EXPECT_EQ(moments.cross[6 + j], 0.0) << j;
    const Solution solution = state.solve(with_ridge(0.5));
    EXPECT_EQ(solution.intercept[1], 0.0);
    for (std::int64_t j = 0; j < 6; ++j) EXPECT_EQ(solution.coef.view()(1, j), 0.0);
  }
}

TEST(GramState, LargeMeansCostNoDigits) {
  const Data near(500, 8, 2, 5), far(500, 8, 2, 5, 1e6);
  for (const bool weighted : {false, true}) {
    GramState a(cpu(), 8, 2), b(cpu(), 8, 2);
    add(a, near, 0, 500, false, weighted);
    for (const std::int64_t begin : {0, 100, 200, 300, 400}) add(b, far, begin, 100, false, weighted);
    remove(b, far, 0, 100, false, weighted);
    add(b, far, 0, 100, false, weighted);
    const Solution wa = a.solve(with_ridge(0.1)), wb = b.solve(with_ridge(0.1));
    for (std::int64_t k = 0; k < 2; ++k)
      for (std::int64_t j = 0; j < 8; ++j) EXPECT_NEAR(wa.coef.view()(k, j), wb.coef.view()(k, j), 1e-8);
    std::vector<double> mean, variance, near_mean, near_variance;
    a.feature_moments(near_mean, near_variance);
    b.feature_moments(mean, variance);
    for (std::size_t j = 0; j < 8; ++j) {
      EXPECT_NEAR(variance[j], near_variance[j], 1e-8);
      EXPECT_NEAR(mean[j] - 1e6, near_mean[j], 1e-8);
    }
    for (std::size_t r = 0; r < 500; r += 50) {
      for (std::int64_t k = 0; k < 2; ++k) {
        double pa = wa.intercept[static_cast<std::size_t>(k)], pb = wb.intercept[static_cast<std::size_t>(k)];
        for (std::int64_t j = 0; j < 8; ++j) {
          pa += wa.coef.view()(k, j) * near.x[r * 8 + static_cast<std::size_t>(j)];
          pb += wb.coef.view()(k, j) * far.x[r * 8 + static_cast<std::size_t>(j)];
        }
        EXPECT_NEAR(pa, pb - 1e6, 1e-6);
      }
    }
  }
}

TEST(GramState, CodesAreOneHotTargets) {
  const Data data(500, 10, 4, 6, 3);
  std::vector<double> hot(2000, 0.0);
  for (std::size_t r = 0; r < 500; ++r) hot[r * 4 + static_cast<std::size_t>(data.codes[r])] = 1;
  const RowsView y = RowsView::dense(MatrixView<const double>(hot.data(), 500, 4));
  for (const bool intercept : {true, false}) {
    for (const double* w : {static_cast<const double*>(nullptr), data.w.data()}) {
      for (const DType products : {DType::f64, DType::f32}) {
        GramState a(cpu(), 10, 4, with(intercept, products)), b(cpu(), 10, 4, with(intercept, products));
        a.add(data.xs, Targets::of_codes(data.codes.data()), w);
        b.add(data.xs, Targets::of_values(y), w);
        const double bound = products == DType::f32 ? 1e-5 : 1e-12;
        const Solution wa = a.solve(with_ridge(0.3)), wb = b.solve(with_ridge(0.3));
        EXPECT_LE(difference(weights_of(wa), weights_of(wb)), bound);
        EXPECT_LE(difference(a.residual_sums(wa), b.residual_sums(wb)), bound);
        expect_error(ErrorCode::invalid_argument, "class codes", [&] { a.add(data.xs, Targets::of_values(y), w); });
        expect_error(ErrorCode::invalid_argument, "numeric targets",
                     [&] { b.add(data.xs, Targets::of_codes(data.codes.data()), w); });
        expect_error(ErrorCode::invalid_argument, "class codes", [&] { a.merge(b); });
      }
    }
  }
}

TEST(GramState, FloatProductsAreCloseAndSaySo) {
  const Data data(5000, 16, 2, 7, 10);
  GramState narrow(cpu(), 16, 2, with(true, DType::f32)), wide(cpu(), 16, 2);
  for (const std::int64_t begin : {0, 2500}) {
    add(narrow, data, begin, 2500, false, true);
    add(wide, data, begin, 2500, false, true);
  }
  const double error = difference(weights_of(narrow.solve(with_ridge(0.1))), weights_of(wide.solve(with_ridge(0.1))));
  EXPECT_LE(error, 1e-5);
  EXPECT_GT(error, 1e-12) << "these were not float products";
  remove(narrow, data, 0, 1000, false, true);
  remove(wide, data, 0, 1000, false, true);
  const double bound = narrow.solve(with_ridge(0.1)).report.removal_bound;
  EXPECT_GT(bound, 1e3 * wide.solve(with_ridge(0.1)).report.removal_bound);
  EXPECT_LE(difference(weights_of(narrow.solve(with_ridge(0.1))),
                       naive_ridge(data, range(1000, 5000), false, true, true, 0.1)),
            bound);
  wide.merge(narrow);
  EXPECT_EQ(wide.options().products, DType::f32);
}

TEST(GramState, RowsOfWeightZeroAreNotThere) {
  Data data(200, 7, 2, 8);
  for (const bool codes : {true, false}) {
    for (const DType products : {DType::f64, DType::f32}) {
      GramState state(cpu(), 7, 2, with(true, products));
      add(state, data, 0, 100, codes);
      const Bytes before = bytes_of(state);
      const std::vector<double> none(100, 0.0);
      const RowsView y = data.ys.slice(100, 100);
      const Targets t = codes ? Targets::of_codes(data.codes.data() + 100) : Targets::of_values(y);
      state.add(data.xs.slice(100, 100), t, none.data());
      EXPECT_EQ(bytes_of(state), before);
      state.remove(data.xs.slice(100, 100), t, none.data());
      EXPECT_EQ(bytes_of(state), before);
      // Between others, with NaN in it.
      GramState with_gap(cpu(), 7, 2, with(true, products)), without(cpu(), 7, 2, with(true, products));
      std::vector<double> x(data.x.begin(), data.x.begin() + 3 * 7), y3(data.y.begin(), data.y.begin() + 6),
          w{1.5, 0, 2.5};
      x[9] = std::nan("");
      const std::vector<double> x2{x[0],  x[1],  x[2],  x[3],  x[4],  x[5],  x[6],
                                   x[14], x[15], x[16], x[17], x[18], x[19], x[20]},
          y2{y3[0], y3[1], y3[4], y3[5]}, w2{1.5, 2.5};
      const std::vector<std::int64_t> codes3{0, 1, 1}, codes2{0, 1};
      const RowsView ys3 = RowsView::dense(MatrixView<const double>(y3.data(), 3, 2)),
                     ys2 = RowsView::dense(MatrixView<const double>(y2.data(), 2, 2));
      with_gap.add(RowsView::dense(MatrixView<const double>(x.data(), 3, 7)),
                   codes ? Targets::of_codes(codes3.data()) : Targets::of_values(ys3), w.data());
      without.add(RowsView::dense(MatrixView<const double>(x2.data(), 2, 7)),
                  codes ? Targets::of_codes(codes2.data()) : Targets::of_values(ys2), w2.data());
      EXPECT_EQ(bytes_of(with_gap), bytes_of(without));
    }
  }
  // A bad row is named as the caller counts, skipped rows included.
  data.x[50 * 7] = INFINITY;
  std::vector<double> w(200, 1.0);
  w[3] = w[40] = 0;
  GramState state(cpu(), 7, 2);
  expect_error(ErrorCode::non_finite, "X contains NaN or infinity, first in row 50",
               [&] { state.add(data.xs, Targets::of_values(data.ys), w.data()); });
  data.x[50 * 7] = 0;
  data.y[70 * 2] = std::nan("");
  expect_error(ErrorCode::non_finite, "y contains NaN or infinity, first in row 70",
               [&] { state.add(data.xs, Targets::of_values(data.ys), w.data()); });
}

TEST(GramState, WhatItCannotTakeIsRefusedAndChangesNothing) {
  const Data data(60, 5, 3, 11), wide(10, 6, 3, 11), more(10, 5, 4, 11);
  GramState state(cpu(), 5, 3);
  add(state, data, 0, 30, true);
  const Bytes before = bytes_of(state);
  std::vector<std::int64_t> codes{0, 3};
  expect_error(ErrorCode::shape_mismatch, "X has 6 features, but 5 are expected",
               [&] { add(state, wide, 0, 10, true); });
  expect_error(ErrorCode::invalid_argument, "class code 3",
               [&] { state.add(data.xs.slice(0, 2), Targets::of_codes(codes.data())); });
  codes[1] = -1;
  expect_error(ErrorCode::invalid_argument, "class code -1",
               [&] { state.add(data.xs.slice(0, 2), Targets::of_codes(codes.data())); });
  for (const double bad : {-1.0, std::nan(""), static_cast<double>(INFINITY)}) {
    const std::vector<double> w{1.0, bad};
    expect_error(ErrorCode::invalid_argument, "row 1",
                 [&] { state.add(data.xs.slice(0, 2), Targets::of_codes(data.codes.data()), w.data()); });
  }
  expect_error(ErrorCode::invalid_argument, "cannot remove 60 rows: the state holds 30",
               [&] { remove(state, data, 0, 60, true); });
  codes.assign(20, 0);
  expect_error(ErrorCode::invalid_argument, "cannot remove 20 rows of output 0",
               [&] { state.remove(data.xs.slice(0, 20), Targets::of_codes(codes.data())); });
  GramState big(cpu(), 5, 3), shape(cpu(), 5, 4), flat(cpu(), 5, 3, with(false));
  add(big, data, 0, 60, true);
  add(shape, more, 0, 10, true);
  add(flat, data, 0, 10, true);
  expect_error(ErrorCode::invalid_argument, "cannot remove 60 rows", [&] { state.unmerge(big); });
  expect_error(ErrorCode::shape_mismatch, "differ in size", [&] { state.merge(shape); });
  expect_error(ErrorCode::invalid_argument, "intercept", [&] { state.merge(flat); });
  expect_error(ErrorCode::invalid_argument, "y is missing", [&] { GramState(cpu(), 5, 3).add(data.xs, Targets()); });
  GramState values(cpu(), 5, 3);
  const RowsView short_y = data.ys.slice(0, 59);
  expect_error(ErrorCode::shape_mismatch, "but y has 59", [&] { values.add(data.xs, Targets::of_values(short_y)); });
  expect_error(ErrorCode::shape_mismatch, "y has 4 columns, but 3",
               [&] { values.add(data.xs.slice(0, 10), Targets::of_values(more.ys)); });
  for (const double ridge : {-1.0, std::nan("")})
    expect_error(ErrorCode::invalid_argument, "ridge", [&] { state.solve(with_ridge(ridge)); });
  EXPECT_THROW(GramState(cpu(), 0, 1), Error);
  EXPECT_THROW(GramState(cpu(), 1, -1), Error);
  EXPECT_EQ(bytes_of(state), before);
  state.add(data.xs.slice(0, 0), Targets::of_codes(data.codes.data()));
  EXPECT_EQ(bytes_of(state), before);
}

// The call must refuse these rows and leave the state as it was.
void expect_overflow(const Data& data, DType products, const std::vector<double>& x, const std::vector<double>& y) {
  GramState state(cpu(), 4, 2, with(true, products));
  add(state, data, 0, 20, false);
  const Bytes before = bytes_of(state);
  const RowsView xs = RowsView::dense(MatrixView<const double>(x.data(), 20, 4));
  const RowsView ys = RowsView::dense(MatrixView<const double>(y.data(), 20, 2));
  expect_error(ErrorCode::non_finite, "", [&] { state.add(xs, Targets::of_values(ys)); });
  const Moments moments = moments_of(state);
  for (const double v : moments.gram) ASSERT_TRUE(std::isfinite(v));
  for (const double v : moments.cross) ASSERT_TRUE(std::isfinite(v));
  EXPECT_TRUE(bytes_of(state) == before);
}

TEST(GramState, FeaturesBeyondFloatAreRefused) {
  const Data data(20, 4, 2, 12);
  std::vector<double> x(data.x);
  x[9] = 1e300;
  expect_overflow(data, DType::f32, x, data.y);
}

TEST(GramState, TargetsBeyondFloatAreRefused) {
  const Data data(20, 4, 2, 12);
  std::vector<double> y(data.y);
  y[7] = 1e300;
  expect_overflow(data, DType::f32, data.x, y);
}

TEST(GramState, FeaturesWhoseSquaresOverflowAreRefused) {
  const Data data(20, 4, 2, 12);
  std::vector<double> x(data.x);
  x[9] = 1e200;
  expect_overflow(data, DType::f64, x, data.y);
  x[9] = 1e25;
  expect_overflow(data, DType::f32, x, data.y);
}

// The shift moves along, which must change nothing that the state says.
TEST(GramState, RowsThatDriftOneByOne) {
  Data data(300, 7, 3, 17);
  for (std::int64_t r = 0; r < 300; ++r) {
    for (std::int64_t j = 0; j < 7; ++j) data.x[static_cast<std::size_t>(r * 7 + j)] += 0.1 * static_cast<double>(r);
    for (std::int64_t k = 0; k < 3; ++k) data.y[static_cast<std::size_t>(r * 3 + k)] -= 0.1 * static_cast<double>(r);
  }
  for (const bool codes : {true, false}) {
    for (const bool weighted : {true, false}) {
      GramState state(cpu(), 7, 3), merged(cpu(), 7, 3);
      for (std::int64_t r = 0; r < 300; ++r) {
        add(state, data, r, 1, codes, weighted);
        GramState one(cpu(), 7, 3);
        add(one, data, r, 1, codes, weighted);
        merged.merge(one);
      }
      const std::vector<double> expected = naive_ridge(data, range(0, 300), codes, weighted, true, 0.1);
      for (const GramState* each : {&state, &merged}) {
        expect_sums(*each, data, range(0, 300), codes, weighted, 1e-13);
        EXPECT_LE(difference(weights_of(each->solve(with_ridge(0.1))), expected), 1e-10);
      }
      // All rows but one go, so that what is left is small beside what has been.
      remove(state, data, 0, 299, codes, weighted);
      expect_sums(state, data, range(299, 300), codes, weighted, 1e-11);
    }
  }
}

}  // namespace
