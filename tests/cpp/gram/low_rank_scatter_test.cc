#include "gramian/gram/low_rank_scatter.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/io/model_file.hpp"

namespace {

using gramian::Error;
using gramian::Exec;
using gramian::GramState;
using gramian::LowRankScatter;
using gramian::MatrixView;
using gramian::RowsView;

std::vector<double> rows_of(std::int64_t n, std::int64_t d) {
  std::mt19937_64 draw(5);
  std::normal_distribution<double> values;
  std::vector<double> out(static_cast<std::size_t>(n * d));
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t j = 0; j < d; ++j)
      out[static_cast<std::size_t>(r * d + j)] = 3.0 + values(draw) / static_cast<double>(1 + j);
  return out;
}

RowsView view(const std::vector<double>& x, std::int64_t begin, std::int64_t end, std::int64_t d) {
  return RowsView::dense<double>({x.data() + begin * d, end - begin, d});
}

// sum w (x - mean)(x - mean)' of a state, both triangles, by rows.
std::vector<double> scatter_of(const GramState& state) {
  const std::int64_t d = state.n_features();
  std::vector<double> gram(static_cast<std::size_t>(d * d)), mean, variance;
  std::vector<double> none;
  state.raw_moments({gram.data(), d, d}, {none.data(), 0, d});
  state.feature_moments(mean, variance);
  for (std::int64_t i = 0; i < d; ++i)
    for (std::int64_t j = 0; j < d; ++j)
      gram[static_cast<std::size_t>(i * d + j)] -=
          state.weight_sum() * mean[static_cast<std::size_t>(i)] * mean[static_cast<std::size_t>(j)];
  return gram;
}

GramState sums_of(const std::vector<double>& x, std::int64_t n, std::int64_t d, const double* weight) {
  GramState state(Exec(), d, 0, {});
  RowsView none;
  none.rows = n;
  state.add(view(x, 0, n, d), gramian::Targets::of_values(none), weight);
  return state;
}

TEST(LowRankScatter, TraceDiagonalAndMeanAreExactAndTheRestIsBounded) {
  const std::int64_t n = 500, d = 20;
  const std::vector<double> x = rows_of(n, d);
  std::vector<double> weight(static_cast<std::size_t>(n));
  for (std::size_t r = 0; r < weight.size(); ++r) weight[r] = 0.5 + static_cast<double>(r % 7);
  const GramState sums = sums_of(x, n, d, weight.data());
  const std::vector<double> expected = scatter_of(sums);
  double before = std::numeric_limits<double>::infinity();
  for (const std::int64_t rank : {0, 1, 5, 20, 100}) {
    LowRankScatter scatter(Exec(), d, rank);
    for (std::int64_t begin = 0; begin < n; begin += 90)
      scatter.add(view(x, begin, std::min(n, begin + 90), d), weight.data() + begin, nullptr);
    const GramState found = scatter.moments({});
    ASSERT_EQ(found.n_rows(), n);
    EXPECT_NEAR(found.weight_sum(), sums.weight_sum(), 1e-10);
    const std::vector<double> near = scatter_of(found);
    double error = 0, largest = 0;
    for (std::int64_t i = 0; i < d; ++i)
      for (std::int64_t j = 0; j < d; ++j) {
        const auto at = static_cast<std::size_t>(i * d + j);
        largest = std::max(largest, std::abs(expected[at]));
        error += (near[at] - expected[at]) * (near[at] - expected[at]);
        if (i == j) {
          EXPECT_NEAR(near[at], expected[at], 1e-10 * largest) << rank;
        }
      }
    error = std::sqrt(error);  // no less than the spectral norm, and at most sqrt(d) of it
    EXPECT_LE(error, std::sqrt(static_cast<double>(d)) * scatter.error_bound() + 1e-9 * largest) << rank;
    EXPECT_LE(scatter.error_bound(), before);
    before = scatter.error_bound();
    if (rank < d) {
      EXPECT_GT(error, 1e-3 * largest) << rank;  // something was cut
      EXPECT_LE(scatter.bytes(), static_cast<std::size_t>((rank + 2) * d) * sizeof(double));
    } else {
      EXPECT_LE(scatter.bytes(), static_cast<std::size_t>((d + 2) * d) * sizeof(double));
    }
  }
}

TEST(LowRankScatter, FilesAndErrors) {
  const std::int64_t n = 200, d = 12;
  std::vector<double> x = rows_of(n, d);
  LowRankScatter scatter(Exec(), d, 3);
  scatter.add(view(x, 0, n, d), nullptr, nullptr);
  for (const LowRankScatter* one : {&scatter}) {
    gramian::ModelWriter writer("scatter", gramian::Json::object());
    gramian::Json config = gramian::Json::object();
    config["scatter"] = one->save(writer, "s.");
    writer.set_config(std::move(config));
    const std::vector<std::uint8_t> bytes = writer.bytes();
    const gramian::ModelReader reader = gramian::ModelReader::from_bytes(bytes.data(), bytes.size());
    const LowRankScatter read = LowRankScatter::load(Exec(), reader.config().at("scatter"), reader, "s.");
    EXPECT_EQ(read.mean(), one->mean());
    EXPECT_EQ(read.error_bound(), one->error_bound());
    EXPECT_EQ(scatter_of(read.moments({})), scatter_of(one->moments({})));
  }
  x[5 * d + 2] = std::nan("");
  EXPECT_THROW(scatter.add(view(x, 0, n, d), nullptr, nullptr), Error);
  x[5 * d + 2] = 1e200;
  EXPECT_THROW(scatter.add(view(x, 0, n, d), nullptr, nullptr), Error);
  const std::vector<double> wrong = {0.0, 1.0};
  EXPECT_THROW(scatter.add(view(x, 0, 2, d), wrong.data(), nullptr), Error);
  EXPECT_THROW(scatter.add(view(x, 0, 2, d - 1), nullptr, nullptr), Error);
  EXPECT_THROW(LowRankScatter(Exec(), d, -1), Error);
}

}  // namespace
