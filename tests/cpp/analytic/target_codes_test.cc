#include "gramian/analytic/target_codes.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "gramian/analytic/label_scan.hpp"
#include "gramian/analytic/probabilities.hpp"
#include "support/data.h"
#include "support/helpers.h"

namespace {

using gramian::ErrorCode;
using gramian::LabelScan;
using gramian::MatrixView;
using testkit::cpu;
using testkit::expect_error;

struct Code {
  Code(std::int64_t n_, std::int64_t dim_) : n(n_), dim(dim_), values(static_cast<std::size_t>(n * dim)) {}
  MatrixView<double> view() { return {values.data(), n, dim}; }
  double inner(std::int64_t i, std::int64_t j) {
    double sum = 0;
    for (std::int64_t k = 0; k < dim; ++k) sum += view()(i, k) * view()(j, k);
    return sum;
  }
  double coherence() {
    double largest = 0;
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < i; ++j) largest = std::max(largest, std::abs(inner(i, j)));
    return largest;
  }
  std::int64_t n, dim;
  std::vector<double> values;
};

TEST(TargetCodes, SimplexIsRegular) {
  for (std::int64_t n : {2, 5, 64}) {
    Code code(n, n - 1);
    gramian::simplex_code(code.view());
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j <= i; ++j)
        EXPECT_NEAR(code.inner(i, j), i == j ? 1.0 : -1.0 / static_cast<double>(n - 1), 1e-14);
    EXPECT_NEAR(gramian::code_coherence(cpu(), code.view()), code.coherence(), 1e-14);
  }
  Code wrong(4, 4);
  expect_error(ErrorCode::invalid_argument, "simplex", [&] { gramian::simplex_code(wrong.view()); });
}

TEST(TargetCodes, EquiangularApproachesTheBoundAndKeepsGivenRows) {
  Code code(48, 12);
  const double reached = gramian::equiangular_code(cpu(), 1, 300, 0, code.view());
  const double bound = gramian::welch_bound(48, 12);
  EXPECT_NEAR(reached, code.coherence(), 1e-14);
  EXPECT_GE(reached, bound);
  EXPECT_LE(reached, 1.35 * bound);
  Code again(48, 12);
  gramian::equiangular_code(cpu(1), 1, 300, 0, again.view());
  EXPECT_TRUE(testkit::same_bits(code.values, again.values));

  Code longer(60, 12);
  std::copy(code.values.begin(), code.values.end(), longer.values.begin());
  gramian::equiangular_code(cpu(), 1, 300, 48, longer.view());
  longer.values.resize(code.values.size());
  EXPECT_TRUE(testkit::same_bits(longer.values, code.values));

  Code none(48, 12);
  EXPECT_GT(gramian::equiangular_code(cpu(), 1, 0, 0, none.view()), 1.5 * bound);  // without descent
}

TEST(LabelScan, TilesInAnyOrderAndTiesToTheLowest) {
  const std::vector<double> rows{1, 0, 0, 1, -1, 2}, labels{1, 0, 1, 0, 0, 1, 0, 1};  // labels in rows, twice each
  for (const gramian::DType type : {gramian::DType::f32, gramian::DType::f64}) {
    LabelScan scan(cpu(), testkit::rows_of(rows, 2), type, "P");
    EXPECT_EQ(scan.labels()[0], -1);
    const gramian::RowsView all = testkit::rows_of(labels, 2);
    scan.take(2, all.slice(2, 2), true, -1.0, nullptr);
    scan.take(0, all.slice(0, 2), true, -1.0, nullptr);
    EXPECT_EQ(scan.labels(), (std::vector<std::int64_t>{0, 2, 2}));
    EXPECT_EQ(scan.costs(), (std::vector<double>{-1, -1, -2}));
    const std::vector<double> offset{-5};
    scan.take(4, all.slice(0, 1), true, 0.0, offset.data());
    EXPECT_EQ(scan.labels(), (std::vector<std::int64_t>{4, 4, 4}));
    expect_error(ErrorCode::shape_mismatch, "P has 2 columns",
                 [&] { scan.take(0, testkit::rows_of(labels, 4), true, 1.0, nullptr); });
  }
}

TEST(Probabilities, KnownAnswers) {
  std::vector<double> x{0.5, 0.5, 0.5, 2.0, -1.0, 0.0};
  gramian::project_rows_to_simplex(cpu(), {x.data(), 2, 3});
  for (int k = 0; k < 3; ++k) EXPECT_NEAR(x[static_cast<std::size_t>(k)], 1.0 / 3, 1e-15);
  EXPECT_EQ(std::vector<double>(x.begin() + 3, x.end()), (std::vector<double>{1, 0, 0}));
  std::vector<double> y{3, 1, -4, -1, -2, -3};
  gramian::clip_rows(cpu(), {y.data(), 2, 3});
  EXPECT_NEAR(y[0], 0.75, 1e-15);
  EXPECT_EQ(y[2], 0);
  EXPECT_NEAR(y[4], 1.0 / 3, 1e-15);
  expect_error(ErrorCode::invalid_argument, "temperature", [&] {
    gramian::softmax_rows(cpu(), 0.0, {y.data(), 2, 3});
  });
}

}  // namespace
