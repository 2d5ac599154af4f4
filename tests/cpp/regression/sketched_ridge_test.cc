#include "gramian/regression/sketched_ridge.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/regression/lstsq.hpp"

namespace gramian {
namespace {

// n x d values of fixed signs and sizes, columns shrinking.
std::vector<double> rows_of(std::int64_t n, std::int64_t d) {
  std::vector<double> out;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < d; ++j)
      out.push_back(std::sin(static_cast<double>(i * d + j) * 1.7 + static_cast<double>(i)) /
                    static_cast<double>(j + 1));
  }
  return out;
}

class SketchedRidge : public ::testing::Test {
 protected:
  static constexpr std::int64_t n = 3000, d = 40, k = 2;
  const Exec exec_;
  const std::vector<double> a_ = rows_of(n, d), b_ = rows_of(n, k);
  RowsView a() const { return RowsView::dense<double>({a_.data(), n, d}); }
  RowsView b() const { return RowsView::dense<double>({b_.data(), n, k}); }
};

TEST_F(SketchedRidge, IsTheSolutionOfLeastSquaresWithARidge) {
  SketchedRidgeOptions options;
  options.ridges = {100.0, 10.0, 1000.0};
  options.intercept = false;
  const SketchedRidgeResult result = sketched_ridge(exec_, a(), b(), nullptr, options);
  ASSERT_EQ(result.points.size(), 3u);
  for (std::size_t j = 0; j < 3; ++j) {
    EXPECT_EQ(result.points[j].ridge, options.ridges[j]);
    EXPECT_TRUE(result.points[j].converged);
    LstsqOptions exact;
    exact.ridge = options.ridges[j];
    const LstsqResult expected = lstsq(exec_, a(), b(), exact);
    double square = 0, difference = 0;
    for (std::size_t t = 0; t < k; ++t) {
      for (std::size_t c = 0; c < d; ++c) {
        const double x = expected.x[c * k + t], mine = result.coef[(j * k + t) * d + c];
        square += x * x;
        difference += (mine - x) * (mine - x);
      }
    }
    EXPECT_LE(std::sqrt(difference), 1e-8 * std::sqrt(square));
  }
}

TEST_F(SketchedRidge, RefusesWhatItCannotSolve) {
  SketchedRidgeOptions options;
  options.ridges = {1.0, 0.0};
  EXPECT_THROW(sketched_ridge(exec_, a(), b(), nullptr, options), Error);
  options.ridges = {-1.0};
  EXPECT_THROW(sketched_ridge(exec_, a(), b(), nullptr, options), Error);
  options.ridges = {1.0};
  EXPECT_THROW(sketched_ridge(exec_, a(), a().slice(0, 5), nullptr, options), Error);
  const std::vector<double> zero(static_cast<std::size_t>(n), 0.0);
  EXPECT_THROW(sketched_ridge(exec_, a(), b(), zero.data(), options), Error);
}

}  // namespace
}  // namespace gramian
