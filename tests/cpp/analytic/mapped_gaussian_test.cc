#include "gramian/analytic/mapped_gaussian.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gramian/core/error.hpp"

namespace {

using gramian::rectified_covariance;
using gramian::rectified_mean;

constexpr double kPi = 3.14159265358979323846, kEps = std::numeric_limits<double>::epsilon();

double density(double h) {
  return std::exp(-0.5 * h * h) / std::sqrt(2 * kPi);
}
double probability(double h) {
  return 0.5 * std::erfc(-h / std::sqrt(2.0));
}

// Correlations of all sizes, on both sides of every place where the rule of the integral changes.
const std::vector<double> kCorrelations = {1e-12, 1e-3, 0.1,  0.299,    0.301,     0.5, 0.749,
                                           0.751, 0.9,  0.99, 0.999999, 1 - 1e-12, 1.0};

TEST(MappedGaussian, MeansOfZeroGiveTheArcCosineKernel) {
  for (const double size : kCorrelations) {
    for (const double rho : {size, -size}) {
      const double theta = std::acos(rho), s = 1.7, t = 0.4;
      const double kernel = (std::sin(theta) + (kPi - theta) * rho) / (2 * kPi);
      const double expected = s * t * (kernel - 1 / (2 * kPi));
      EXPECT_NEAR(rectified_covariance(0, 0, s * s, t * t, rho * s * t), expected, 20 * kEps * s * t) << rho;
    }
  }
  EXPECT_DOUBLE_EQ(rectified_mean(0, 2.25), 1.5 / std::sqrt(2 * kPi));
}

TEST(MappedGaussian, EqualAndOppositeNumbersHaveClosedForms) {
  for (const double h : {-6.0, -1.3, -0.2, 0.0, 0.4, 2.0, 5.0}) {
    const double mean = h * probability(h) + density(h);
    EXPECT_NEAR(rectified_mean(h, 1), mean, 4 * kEps * (1 + std::abs(h)));
    const double square = (h * h + 1) * probability(h) + h * density(h);
    EXPECT_NEAR(rectified_covariance(h, h, 1, 1, 1), square - mean * mean, 40 * kEps * (1 + h * h)) << h;
    for (const double k : {-2.0, 0.1, 1.5}) {
      // v = k - (u - h): both are positive where the standard normal number lies between -h and k.
      const double other = k * probability(k) + density(k);
      double product = 0;
      if (k > -h) {
        const double between = probability(k) - probability(-h), first = density(-h) - density(k);
        const double second = between - k * density(k) - h * density(h);
        product = h * k * between + (k - h) * first - second;
      }
      EXPECT_NEAR(rectified_covariance(h, k, 1, 1, -1), product - mean * other, 60 * kEps * (1 + h * h + k * k));
    }
  }
}

// The derivative by the correlation is the probability that both are positive, which lies between bounds of its own.
TEST(MappedGaussian, CovariancesGrowWithTheCorrelation) {
  for (const double h : {-1.0, 0.5, 3.0}) {
    for (const double k : {-2.0, 0.0, 0.7}) {
      double before = rectified_covariance(h, k, 1, 1, -1);
      for (int step = -199; step <= 200; ++step) {
        const double here = rectified_covariance(h, k, 1, 1, step / 200.0), slope = (here - before) * 200;
        EXPECT_GE(slope, -1e-11);
        EXPECT_LE(slope, std::min(probability(h), probability(k)) + 1e-11);
        before = here;
      }
    }
  }
}

TEST(MappedGaussian, NumbersThatDoNotVaryHaveNoCovariance) {
  EXPECT_EQ(rectified_covariance(1, 2, 0, 1, 0), 0);
  EXPECT_EQ(rectified_covariance(1, 2, 1, 0, 0), 0);
  EXPECT_EQ(rectified_mean(-2, 0), 0);
  EXPECT_EQ(rectified_mean(3, 0), 3);
  EXPECT_EQ(rectified_mean(-60, 1), 0);
  // A correlation that rounding took above one.
  EXPECT_DOUBLE_EQ(rectified_covariance(0.3, 0.3, 1, 1, 1 + 1e-9), rectified_covariance(0.3, 0.3, 1, 1, 1));
}

TEST(MappedGaussian, RefusesMapsAndSizesThatItDoesNotKnow) {
  gramian::RandomFeaturesConfig config;
  config.n_inputs = 3;
  config.n_features = 5;
  const auto relu = gramian::make_random_features(config);
  config.activation = gramian::Activation::sigmoid;
  const auto sigmoid = gramian::make_random_features(config);
  const gramian::Exec exec;
  const std::vector<double> mean(3, 0.5), variance(3, 1.0);
  EXPECT_EQ(gramian::mapped_gaussian(exec, *relu, mean, variance, {}, 7).n_rows(), 7);
  for (const auto& call : {std::pair(sigmoid, mean), std::pair(relu, std::vector<double>(2))})
    EXPECT_THROW(gramian::mapped_gaussian(exec, *call.first, call.second, variance, {}, 7), gramian::Error);
}

}  // namespace
