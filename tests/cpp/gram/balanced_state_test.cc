#include "gramian/gram/balanced_state.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "gramian/core/error.hpp"

namespace gramian {
namespace {

// Rows of three classes, of which the second is far off and rare.
struct Data {
  Data(std::int64_t n_, std::int64_t d_) : n(n_), d(d_) {
    std::uint64_t state = 88172645463325252ull;
    const auto draw = [&] {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      return static_cast<double>(state >> 11) / 9007199254740992.0 - 0.5;
    };
    for (std::int64_t r = 0; r < n; ++r) {
      codes.push_back(r % 10 == 3 ? 1 : r % 10 < 3 ? 2 : 0);
      weight.push_back(0.75 + draw());
      for (std::int64_t j = 0; j < d; ++j) x.push_back(draw() + 3.0 * static_cast<double>(codes.back()));
    }
  }
  RowsView rows(std::int64_t begin, std::int64_t count) const {
    return RowsView::dense<double>({x.data() + begin * d, count, d});
  }
  // What the weighted sums must be: every row at once with its final weight.
  GramState joint(bool intercept, Balance balance) const {
    std::vector<double> total(3, 0.0), final_weight(weight);
    for (std::size_t r = 0; r < codes.size(); ++r) total[static_cast<std::size_t>(codes[r])] += weight[r];
    double inverse = 0, sum = 0;
    for (const double value : total) {
      inverse += 1 / value;
      sum += value;
    }
    const double scale = balance == Balance::rows ? sum / 3 : 3 / inverse;
    for (std::size_t r = 0; r < codes.size(); ++r) final_weight[r] *= scale / total[static_cast<std::size_t>(codes[r])];
    GramOptions options;
    options.intercept = intercept;
    GramState state(Exec(), d, 3, options);
    state.add(rows(0, n), Targets::of_codes(codes.data()), final_weight.data());
    return state;
  }
  std::int64_t n, d;
  std::vector<double> x, weight;
  std::vector<std::int64_t> codes;
};

std::vector<double> moments(const GramState& state) {
  const std::int64_t d = state.n_features(), c = state.n_outputs();
  std::vector<double> out(static_cast<std::size_t>(d * d + c * d));
  state.raw_moments({out.data(), d, d}, {out.data() + d * d, c, d});
  out.push_back(state.weight_sum());
  return out;
}

// Sums of `terms` products, each rounded to one part in 1e16 of the largest entry.
void expect_same(const GramState& found, const GramState& expected, std::int64_t terms) {
  const std::vector<double> a = moments(found), b = moments(expected);
  double largest = 0;
  for (const double value : b) largest = std::max(largest, std::abs(value));
  for (std::size_t k = 0; k < a.size(); ++k)
    ASSERT_NEAR(a[k], b[k], 8 * static_cast<double>(terms) * 1.2e-16 * largest) << "entry " << k;
  EXPECT_EQ(found.counts(), expected.counts());
  EXPECT_EQ(found.n_rows(), expected.n_rows());
}

// Widths at which classes are blocks of several groups, blocks and matrices, and matrices only.
class BalancedStateTest : public ::testing::TestWithParam<std::tuple<int, bool>> {};
INSTANTIATE_TEST_SUITE_P(Widths, BalancedStateTest,
                         ::testing::Combine(::testing::Values(7, 60, 400), ::testing::Bool()));

BalancedState empty(const Data& data, bool intercept, Balance balance = Balance::classes) {
  GramOptions options;
  options.intercept = intercept;
  return BalancedState(Exec(), data.d, 3, options, balance);
}

void feed(BalancedState& state, const Data& data, std::int64_t begin, std::int64_t end) {
  state.add(data.rows(begin, end - begin), data.codes.data() + begin, data.weight.data() + begin, nullptr);
}

TEST_P(BalancedStateTest, AnyStreamIsTheJointWeightedSum) {
  const auto [width, intercept] = GetParam();
  const Data data(230, width);
  for (const Balance balance : {Balance::rows, Balance::classes}) {
    BalancedState state = empty(data, intercept, balance);
    for (const std::int64_t step : {1, 2, 9, 70, 101, 47}) {
      const std::int64_t begin = state.n_rows();
      feed(state, data, begin, begin + step);
    }
    ASSERT_EQ(state.n_rows(), data.n);
    expect_same(state.weighted(), data.joint(intercept, balance), data.n);
    state.close({0});
    state.close({1, 2});
    expect_same(state.weighted(), data.joint(intercept, balance), data.n);
  }
}

TEST_P(BalancedStateTest, RemovalsAndMergesAreExact) {
  const auto [width, intercept] = GetParam();
  const Data data(230, width);
  BalancedState one = empty(data, intercept), other = empty(data, intercept);
  feed(one, data, 0, 90);
  feed(other, data, 90, 230);
  one.merge(other);
  expect_same(one.weighted(), data.joint(intercept, Balance::classes), data.n);
  Data more(300, width);
  feed(one, more, 230, 300);
  one.remove(more.rows(230, 70), more.codes.data() + 230, more.weight.data() + 230, nullptr);
  // What was removed was of the size of what is left, so this costs no more digits than a few more terms.
  expect_same(one.weighted(), data.joint(intercept, Balance::classes), 4 * data.n);
}

TEST(BalancedState, IsAskedOnceMoreBeforeItsSumsChange) {
  const Data data(300, 20);
  Exec exec(Device::cpu, 2);
  BalancedState state(exec, data.d, 3, GramOptions(), Balance::classes);
  feed(state, data, 0, 300);
  const std::vector<double> before = moments(state.weighted());
  // A pause that is longer than any machine has run: only the last poll asks.
  exec.set_cancel_hook([] { return true; }, 1e12);
  for (const bool adding : {true, false}) {
    try {
      if (adding) {
        feed(state, data, 0, 200);
      } else {
        state.remove(data.rows(0, 200), data.codes.data(), data.weight.data(), nullptr);
      }
      ADD_FAILURE() << "not cancelled";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::cancelled);
    }
  }
  exec.set_cancel_hook(nullptr);
  EXPECT_EQ(moments(state.weighted()), before);
  EXPECT_EQ(state.n_rows(), 300);
}

TEST(BalancedState, WrongWeightsAreAnotherState) {
  const Data data(230, 7);
  const std::vector<double> right = moments(data.joint(true, Balance::classes));
  const std::vector<double> wrong = moments(data.joint(true, Balance::rows));
  EXPECT_GT(std::abs(right[0] - wrong[0]), 1e-2 * std::abs(right[0]));
}

TEST(BalancedState, BlocksTakeLessAndClosedClassesLess) {
  const Data data(230, 400);
  BalancedState state = empty(data, true);
  feed(state, data, 0, 230);
  const std::size_t triangle = GramState(Exec(), 400, 3).bytes();
  EXPECT_LT(state.bytes(), triangle + 240 * 401 * sizeof(double));
  state.close({0, 1, 2});
  EXPECT_LT(state.bytes(), triangle + 1024);
}

TEST(BalancedState, BlocksAreNotTheRows) {
  const Data data(230, 400);
  BalancedState state = empty(data, true);
  feed(state, data, 0, 230);
  ModelWriter writer("test", Json::object());
  state.save(writer, "");
  const std::vector<std::uint8_t> bytes = writer.bytes();
  const ModelReader reader = ModelReader::from_bytes(bytes.data(), bytes.size());
  const TensorView block = reader.tensor("class1.block"), shift = reader.tensor("class1.shift");
  ASSERT_EQ(block.shape[0], 23);
  for (std::int64_t r = 0; r < 230; r += 10) {
    const double* row = data.x.data() + (r + 3) * 400;
    for (std::int64_t k = 0; k < 23; ++k) {
      double distance = 0, size = 0;
      const double root = std::sqrt(data.weight[static_cast<std::size_t>(r + 3)]);
      for (std::int64_t j = 0; j < 400; ++j) {
        const double value = root * (row[j] - shift.f64()[j]);
        distance += std::pow(std::abs(block.f64()[k * 401 + j]) - std::abs(value), 2);
        size += value * value;
      }
      EXPECT_GT(distance, 1e-3 * size);
    }
  }
}

TEST(BalancedState, RefusesWhatItCannotDoAndStaysAsItWas) {
  const Data data(230, 60);
  BalancedState state = empty(data, true);
  feed(state, data, 0, 200);
  state.close({1});
  const std::vector<double> before = moments(state.weighted());
  const std::int64_t one = 1, none = 7;
  const double minus = -1.0;
  EXPECT_THROW(state.add(data.rows(3, 1), &one, nullptr, nullptr), Error);
  EXPECT_THROW(state.remove(data.rows(3, 1), &one, nullptr, nullptr), Error);
  EXPECT_THROW(state.add(data.rows(0, 1), &none, nullptr, nullptr), Error);
  EXPECT_THROW(state.add(data.rows(0, 1), data.codes.data(), &minus, nullptr), Error);
  EXPECT_THROW(state.close({3}), Error);
  Data bad = data;
  bad.x[static_cast<std::size_t>(215 * 60)] = std::nan("");
  EXPECT_THROW(feed(state, bad, 200, 230), Error);
  EXPECT_EQ(moments(state.weighted()), before);
  EXPECT_THROW(BalancedState(Exec(), 4, 2, {}, Balance::none), Error);
  EXPECT_THROW(parse_balance("even"), Error);
}

}  // namespace
}  // namespace gramian
