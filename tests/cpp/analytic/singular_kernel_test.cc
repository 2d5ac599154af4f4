#include "gramian/analytic/singular_kernel.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"

namespace {

using gramian::Error;
using gramian::Exec;
using gramian::MatrixView;
using gramian::RowsView;
using gramian::SingularKernel;

RowsView rows_of(const std::vector<double>& x, std::int64_t d) {
  return RowsView::dense(MatrixView<const double>(x.data(), static_cast<std::int64_t>(x.size()) / d, d));
}

TEST(SingularKernel, WeighsByPowersOfDistance) {
  const std::vector<double> x = {0, 1, 3}, query = {2, 1};
  const std::vector<std::int64_t> codes = {0, 1, 0};
  SingularKernel model(1, 2.0);
  model.add(Exec(), rows_of(x, 1), codes.data());
  std::vector<double> out(4);
  model.probabilities(Exec(), rows_of(query, 1), 2, {out.data(), 2, 2});
  EXPECT_NEAR(out[0], 1.25 / 2.25, 1e-15);  // 1/4 + 1 against 1
  EXPECT_NEAR(out[1], 1.00 / 2.25, 1e-15);
  EXPECT_EQ(out[2], 0.0);  // a row of the model
  EXPECT_EQ(out[3], 1.0);
}

TEST(SingularKernel, CloseRowsFarFromTheOriginAndTheSameBitsForAnyThreads) {
  const gramian::RngStream stream(1, gramian::RngFamily::gaussian, 8);
  std::vector<double> x, query;
  std::vector<std::int64_t> codes;
  for (std::uint64_t i = 0; i < 900; ++i) {
    x.push_back(1e9 + stream.gaussian(i, 0));
    query.push_back(1e9 + stream.gaussian(i, 1));
    if (i % 3 == 0) codes.push_back(static_cast<std::int64_t>(i % 5));
  }
  SingularKernel model(3, 3.0);
  model.add(Exec(), rows_of(x, 3), codes.data());
  std::vector<double> one(300 * 5), two(300 * 5);
  model.probabilities(Exec(gramian::Device::cpu, 1), rows_of(query, 3), 5, {one.data(), 300, 5});
  model.probabilities(Exec(gramian::Device::cpu, 2), rows_of(query, 3), 5, {two.data(), 300, 5});
  EXPECT_EQ(one, two);
  // Against direct sums.
  for (std::size_t r = 0; r < 300; r += 17) {
    std::vector<double> f(5, 0.0);
    double total = 0;
    for (std::size_t i = 0; i < 300; ++i) {
      double squared = 0;
      for (std::size_t j = 0; j < 3; ++j) squared += std::pow(query[3 * r + j] - x[3 * i + j], 2);
      f[static_cast<std::size_t>(codes[i])] += std::pow(squared, -1.5);
      total += std::pow(squared, -1.5);
    }
    for (std::size_t c = 0; c < 5; ++c) EXPECT_NEAR(one[5 * r + c], f[c] / total, 1e-12);
  }
}

// Distances in other units have the same ratios; what differs is the rounding of their logarithms.
TEST(SingularKernel, UnitsChangeNothing) {
  const gramian::RngStream stream(2, gramian::RngFamily::gaussian, 8);
  std::vector<double> x, query;
  std::vector<std::int64_t> codes;
  for (std::uint64_t i = 0; i < 400; ++i) {
    x.push_back(stream.gaussian(i, 0));
    query.push_back(stream.gaussian(i, 1));
    if (i % 4 == 0) codes.push_back(static_cast<std::int64_t>(i / 4 % 3));
  }
  std::vector<double> plain(100 * 3);
  for (const int exponent : {0, -1000, -664, -150, 150, 664, 1000}) {
    const auto in_units = [&](std::vector<double> values) {
      for (double& value : values) value = std::ldexp(value, exponent);
      return values;
    };
    const std::vector<double> rows = in_units(x), asked = in_units(query);
    SingularKernel model(4, 4.0);
    model.add(Exec(), rows_of(rows, 4), codes.data());
    std::vector<double> out(plain.size());
    model.probabilities(Exec(), rows_of(asked, 4), 3, {out.data(), 100, 3});
    if (exponent == 0) plain = out;
    for (std::size_t k = 0; k < out.size(); ++k) EXPECT_NEAR(out[k], plain[k], 1e-13) << exponent;
  }
}

TEST(SingularKernel, DistancesFarBelowTheValues) {
  // Squares of none of the distances that matter are above zero, once those of the largest values are below infinity.
  const std::vector<double> x = {1e200, 1e-200, 3e-200, -1e200}, query = {0, 1.5e-200, 5e-324}, zero = {0};
  const std::vector<std::int64_t> codes = {0, 1, 2, 0};
  SingularKernel model(1, 2.0);
  model.add(Exec(), rows_of(x, 1), codes.data());
  std::vector<double> out(9);
  model.probabilities(Exec(), rows_of(query, 1), 3, {out.data(), 3, 3});
  for (std::size_t r = 0; r < 3; ++r) {  // the distances are 1 : 3 for all three
    EXPECT_EQ(out[3 * r], 0.0);
    EXPECT_NEAR(out[3 * r + 1], 0.9, 1e-12);
    EXPECT_NEAR(out[3 * r + 2], 0.1, 1e-12);
  }
  // A small exponent leaves the far rows a part: (1e-200 / 1e200)^0.01 = 1e-4 each.
  SingularKernel flat(1, 0.01);
  flat.add(Exec(), rows_of(x, 1), codes.data());
  std::vector<double> shares(3);
  flat.probabilities(Exec(), rows_of(zero, 1), 3, {shares.data(), 1, 3});
  const double third = std::pow(3.0, -0.01), total = 1 + third + 2e-4;
  EXPECT_NEAR(shares[0], 2e-4 / total, 1e-15);
  EXPECT_NEAR(shares[1], 1 / total, 1e-12);
  EXPECT_NEAR(shares[2], third / total, 1e-12);
}

TEST(SingularKernel, RemovesWhatWasAddedOrNothing) {
  const std::vector<double> x = {0, 0, 1, 2}, gone = {0, -0.0, 2}, wrong = {0, 5};
  const std::vector<std::int64_t> codes = {0, 0, 1, 1}, gone_codes = {0, 0, 1}, wrong_codes = {0, 1};
  SingularKernel model(1, 1.0);
  model.add(Exec(), rows_of(x, 1), codes.data());
  EXPECT_THROW(model.remove(Exec(), rows_of(wrong, 1), wrong_codes.data()), Error);
  EXPECT_EQ(model.n_rows(), 4);
  model.remove(Exec(), rows_of(gone, 1), gone_codes.data());
  ASSERT_EQ(model.n_rows(), 1);
  EXPECT_EQ(model.rows()(0, 0), 1.0);
  EXPECT_EQ(model.codes(), std::vector<std::int64_t>{1});
}

TEST(SingularKernel, Errors) {
  EXPECT_THROW(SingularKernel(1, -1), Error);
  EXPECT_THROW(SingularKernel(1, std::nan("")), Error);
  EXPECT_THROW(SingularKernel(0, 1), Error);
  SingularKernel model(2, std::numeric_limits<double>::infinity());
  const std::vector<double> bad = {1, std::nan("")};
  const std::int64_t code = 0;
  std::vector<double> out(1);
  EXPECT_THROW(model.probabilities(Exec(), rows_of(bad, 2), 1, {out.data(), 1, 1}), Error);
  EXPECT_THROW(model.add(Exec(), rows_of(bad, 2), &code), Error);
  EXPECT_EQ(model.n_rows(), 0);
}

}  // namespace
