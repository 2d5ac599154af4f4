#include "gramian/gram/leave_one_out.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/gram/nested.hpp"

namespace {

using gramian::DType;
using gramian::Error;
using gramian::ErrorCode;
using gramian::Exec;
using gramian::GramOptions;
using gramian::GramState;
using gramian::LabelledRows;
using gramian::LooCurve;
using gramian::MatrixView;
using gramian::NestedCurve;
using gramian::RidgeFactor;
using gramian::RowsView;
using gramian::Solution;
using gramian::SolveOptions;
using gramian::Targets;

constexpr std::int64_t kRows = 40, kFeatures = 6, kOutputs = 2;

std::vector<double> normals(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  const gramian::RngStream stream(seed, gramian::RngFamily::gaussian, 7);
  std::vector<double> out;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < cols; ++k)
      out.push_back(1 + stream.gaussian(static_cast<std::uint64_t>(r), static_cast<std::uint64_t>(k)));
  return out;
}

RowsView view(const std::vector<double>& values, std::int64_t cols) {
  return RowsView::dense(
      MatrixView<const double>(values.data(), static_cast<std::int64_t>(values.size()) / cols, cols));
}

struct Problem {
  std::vector<double> x = normals(kRows, kFeatures, 1), y = normals(kRows, kOutputs, 2), weight;
  Exec exec{gramian::Device::cpu, 2};
  RowsView xs = view(x, kFeatures), ys = view(y, kOutputs);
  GramState state;
  LabelledRows rows;

  explicit Problem(bool intercept) : state(exec, kFeatures, kOutputs, options(intercept)) {
    for (std::int64_t r = 0; r < kRows; ++r) weight.push_back(0.5 + 0.05 * static_cast<double>(r));
    state.add(xs, Targets::of_values(ys), weight.data());
    rows = {xs, Targets::of_values(ys), weight.data(), nullptr};
  }
  static GramOptions options(bool intercept) {
    GramOptions out;
    out.intercept = intercept;
    return out;
  }

  // Error of row r for the first `width` features, by a model without it.
  double refitted(std::int64_t r, std::int64_t k, double ridge, std::int64_t width) const {
    std::vector<double> x_left, y_left, w_left;
    for (std::int64_t i = 0; i < kRows; ++i) {
      if (i == r) continue;
      for (std::int64_t j = 0; j < width; ++j) x_left.push_back(x[at(i * kFeatures + j)]);
      for (std::int64_t m = 0; m < kOutputs; ++m) y_left.push_back(y[at(i * kOutputs + m)]);
      w_left.push_back(weight[at(i)]);
    }
    GramState left(exec, width, kOutputs, state.options());
    const RowsView targets = view(y_left, kOutputs);
    left.add(view(x_left, width), Targets::of_values(targets), w_left.data());
    SolveOptions solve;
    solve.ridge = ridge;
    const Solution solution = left.solve(solve);
    double error = y[at(r * kOutputs + k)] - solution.intercept[at(k)];
    for (std::int64_t j = 0; j < width; ++j) error -= solution.coef.view()(k, j) * x[at(r * kFeatures + j)];
    return error;
  }
  double refitted_score(double ridge, std::int64_t width) const {
    double total = 0, weights = 0;
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t k = 0; k < kOutputs; ++k) total += weight[at(r)] * std::pow(refitted(r, k, ridge, width), 2);
      weights += weight[at(r)];
    }
    return total / weights;
  }
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
};

class LeaveOneOutTest : public ::testing::TestWithParam<bool> {};

TEST_P(LeaveOneOutTest, ErrorsAreThoseOfRefits) {
  const Problem p(GetParam());
  const RidgeFactor factor(p.state, 0.7);
  std::vector<double> errors(kRows * kOutputs), leverages(kRows);
  for (const std::int64_t width : {kFeatures, std::int64_t{3}}) {
    gramian::loo_errors(factor, p.rows, DType::f64, {errors.data(), kRows, kOutputs}, width);
    for (std::int64_t r = 0; r < kRows; ++r)
      for (std::int64_t k = 0; k < kOutputs; ++k)
        EXPECT_NEAR(errors[Problem::at(r * kOutputs + k)], p.refitted(r, k, 0.7, width), 1e-11);
  }
  gramian::leverages(factor, p.xs, p.weight.data(), nullptr, DType::f64, leverages.data());
  double sum = 0;
  for (const double h : leverages) sum += h;
  EXPECT_NEAR(sum, p.state.gcv({0.7}).degrees_of_freedom[0], 1e-11);
}

TEST_P(LeaveOneOutTest, CurvesAreThoseOfRefits) {
  const Problem p(GetParam());
  const LooCurve curve = gramian::loo_curve(p.state, {0.1, 1.0, 10.0, 1000.0}, false, p.rows);
  for (std::size_t k = 0; k < curve.ridges.size(); ++k)
    EXPECT_NEAR(curve.scores[k], p.refitted_score(curve.ridges[k], kFeatures), 1e-11 * curve.scores[k]);
  const NestedCurve nested = gramian::nested_curve(p.state, RidgeFactor(p.state, 1.0), p.rows);
  ASSERT_EQ(nested.scores.size(), static_cast<std::size_t>(kFeatures));
  for (std::int64_t width = 1; width <= kFeatures; ++width) {
    const double score = nested.scores[Problem::at(width - 1)];
    EXPECT_NEAR(score, p.refitted_score(1.0, width), 1e-11 * score);
    if (width > 1) {
      EXPECT_LE(nested.losses[Problem::at(width - 1)], nested.losses[Problem::at(width - 2)]);
    }
  }
}

TEST_P(LeaveOneOutTest, PrefixWeightsAreThoseOfTheFirstFeatures) {
  const Problem p(GetParam());
  const std::vector<Solution> solutions = gramian::prefix_solutions(p.state, {2, 6}, 0.3);
  std::vector<double> narrow;
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t j = 0; j < 2; ++j) narrow.push_back(p.x[Problem::at(r * kFeatures + j)]);
  GramState alone(p.exec, 2, kOutputs, p.state.options());
  alone.add(view(narrow, 2), Targets::of_values(p.ys), p.weight.data());
  SolveOptions options;
  options.ridge = 0.3;
  const Solution expected = alone.solve(options);
  for (std::int64_t k = 0; k < kOutputs; ++k) {
    for (std::int64_t j = 0; j < 2; ++j) EXPECT_NEAR(solutions[0].coef.view()(k, j), expected.coef.view()(k, j), 1e-13);
    EXPECT_NEAR(solutions[0].intercept[Problem::at(k)], expected.intercept[Problem::at(k)], 1e-12);
  }
}

TEST_P(LeaveOneOutTest, RefusesWhatCannotBe) {
  Problem p(GetParam());
  const RidgeFactor factor(p.state, 1.0);
  std::vector<double> out(kRows * kOutputs);
  const auto code_of = [](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::internal;
  };
  const MatrixView<double> errors(out.data(), kRows, kOutputs);
  EXPECT_EQ(code_of([&] { gramian::loo_errors(factor, p.rows, DType::f64, errors, 7); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { gramian::prefix_solutions(p.state, {0}, 1.0); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { gramian::loo_curve(p.state, {}, false, p.rows); }), ErrorCode::invalid_argument);
  p.weight[3] = -1;
  EXPECT_EQ(code_of([&] { gramian::loo_errors(factor, p.rows, DType::f64, errors); }), ErrorCode::invalid_argument);
  p.weight[3] = 1;
  p.x[9] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(code_of([&] { gramian::loo_errors(factor, p.rows, DType::f64, errors); }), ErrorCode::non_finite);
}

INSTANTIATE_TEST_SUITE_P(All, LeaveOneOutTest, ::testing::Bool());

}  // namespace
