// Sketched gradients through their C++ face: the operator of the round, clipping, noise and what is refused. Moments
// and descents are in the Python tests.
#include <cmath>
#include <limits>

#include "gramian/core/rng.hpp"
#include "gramian/core/round_seed.hpp"
#include "gramian/sketch/gradient_sketch.hpp"
#include "support/helpers.h"

using gramian::ErrorCode;
using gramian::GradientGuard;
using gramian::GradientSketch;
using gramian::MatrixView;
using gramian::RngFamily;
using gramian::RngStream;
using gramian::round_seed;
using gramian::RowsView;
using gramian::SketchKind;
using testkit::cpu;

namespace {

constexpr std::int64_t kClients = 3, kParams = 100, kNumbers = 24;

std::vector<double> gradients() {
  std::vector<double> out;
  for (int k = 0; k < kClients * kParams; ++k) out.push_back((k * 7919) % 1009 / 505.0 - 1.0);
  return out;
}

RowsView rows_of(const std::vector<double>& values) {
  return RowsView::dense<double>({values.data(), kClients, kParams});
}

std::vector<double> encoded(const GradientSketch& sketch, const std::vector<double>& values, std::uint64_t round,
                            const GradientGuard& guard = {}) {
  std::vector<double> out(kClients * kNumbers);
  sketch.encode<double>(cpu(), rows_of(values), round, guard, {out.data(), kClients, kNumbers});
  return out;
}

double length(const double* x, std::int64_t count) {
  double sum = 0;
  for (std::int64_t k = 0; k < count; ++k) sum += x[k] * x[k];
  return std::sqrt(sum);
}

TEST(GradientSketch, RoundIsAnOperatorOfItsOwnSeed) {
  const GradientSketch sketch(SketchKind::srht, kParams, kNumbers, 17);
  EXPECT_EQ(sketch.at(4).dist().seed, round_seed(17, 4));
  const std::vector<double> g = gradients(), sent = encoded(sketch, g, 4);
  std::vector<double> direct(sent.size());
  sketch.at(4).project<double>(cpu(), rows_of(g), {direct.data(), kClients, kNumbers});
  EXPECT_EQ(sent, direct);
  EXPECT_NE(sent, encoded(sketch, g, 5));
  EXPECT_EQ(sent, encoded(sketch, g, 4));  // and back
}

TEST(GradientSketch, DecodeIsTheAdjointForOneAndForMany) {
  for (const SketchKind kind : {SketchKind::srht, SketchKind::sparse_sign, SketchKind::gaussian}) {
    const GradientSketch sketch(kind, kParams, kNumbers, 17);
    const std::vector<double> g = gradients(), y = encoded(sketch, g, 1);
    std::vector<double> many(kClients * kParams), one(kParams);
    sketch.decode<double>(cpu(), {y.data(), kClients, kNumbers}, 1, {many.data(), kClients, kParams});
    for (int r = 0; r < kClients; ++r) {
      sketch.decode<double>(cpu(), {y.data() + r * kNumbers, 1, kNumbers}, 1, {one.data(), 1, kParams});
      double inner = 0, square = 0;
      for (int k = 0; k < kParams; ++k) {
        EXPECT_NEAR(one[k], many[r * kParams + k], 1e-12);
        inner += one[k] * g[r * kParams + k];
      }
      for (int k = 0; k < kNumbers; ++k) square += y[r * kNumbers + k] * y[r * kNumbers + k];
      EXPECT_NEAR(inner, square, 1e-11 * square);  // <R'y, g> = <y, R g>
    }
  }
}

TEST(GradientSketch, ClipsAndAddsTheNoiseOfTheLaw) {
  const GradientSketch sketch(SketchKind::srht, kParams, kNumbers, 17);
  const std::vector<double> g = gradients();
  GradientGuard guard;
  guard.clip = 1.5;
  std::vector<double> shorter = g;
  for (int r = 0; r < kClients; ++r) {
    const double size = length(g.data() + r * kParams, kParams);
    ASSERT_GT(size, 1.5);
    for (int k = 0; k < kParams; ++k) shorter[r * kParams + k] *= 1.5 / size;
  }
  const std::vector<double> clipped = encoded(sketch, g, 2, guard), expected = encoded(sketch, shorter, 2);
  for (std::size_t k = 0; k < clipped.size(); ++k) EXPECT_NEAR(clipped[k], expected[k], 1e-13);

  guard.deviation = 0.25;
  guard.noise_seed = 5;
  guard.noise = GradientGuard::Noise::sketch;
  const std::vector<double> late = encoded(sketch, g, 2, guard);
  guard.noise = GradientGuard::Noise::gradient;
  const std::vector<double> early = encoded(sketch, g, 2, guard);
  std::vector<double> noisy = shorter;
  for (int r = 0; r < kClients; ++r) {
    const RngStream noise(round_seed(5, static_cast<std::uint64_t>(r)), RngFamily::noise, 7);
    for (int k = 0; k < kNumbers; ++k)
      EXPECT_NEAR(late[r * kNumbers + k] - clipped[r * kNumbers + k], 0.25 * noise.gaussian(k, 0), 1e-13);
    for (int k = 0; k < kParams; ++k) noisy[r * kParams + k] += 0.25 * noise.gaussian(k, 0);
  }
  const std::vector<double> through = encoded(sketch, noisy, 2);
  for (std::size_t k = 0; k < early.size(); ++k) EXPECT_NEAR(early[k], through[k], 1e-12);
}

TEST(GradientSketch, MomentsAndBounds) {
  EXPECT_DOUBLE_EQ(GradientSketch(SketchKind::gaussian, 512, 32, 0).second_moment(), 1 + 513.0 / 32);
  EXPECT_DOUBLE_EQ(GradientSketch(SketchKind::rademacher, 512, 32, 0).second_moment(), 1 + 511.0 / 32);
  EXPECT_NEAR(GradientSketch(SketchKind::srht, 512, 32, 0).second_moment(), 16, 1e-12);
  EXPECT_NEAR(GradientSketch(SketchKind::hdhd, 512, 32, 0).second_moment(), 16, 1e-12);
  EXPECT_DOUBLE_EQ(GradientSketch(SketchKind::dct, 300, 30, 0).second_moment(), 10);
  EXPECT_DOUBLE_EQ(GradientSketch(SketchKind::srht, 300, 32, 0).norm_bound(), 4);
  EXPECT_TRUE(std::isinf(GradientSketch(SketchKind::gaussian, 300, 30, 0).norm_bound()));
}

TEST(GradientSketch, Refuses) {
  using testkit::expect_error;
  expect_error(ErrorCode::invalid_argument, "no sketch of gradients",
               [] { GradientSketch(SketchKind::row_sampling, 8, 4, 0); });
  expect_error(ErrorCode::invalid_argument, "", [] { GradientSketch(SketchKind::srht, 8, 9, 0); });
  expect_error(ErrorCode::invalid_argument, "at least 1", [] { GradientSketch(SketchKind::srht, 0, 1, 0); });
  const GradientSketch sketch(SketchKind::srht, kParams, kNumbers, 17);
  std::vector<double> g = gradients();
  GradientGuard guard;
  guard.clip = -1;
  expect_error(ErrorCode::invalid_argument, "clip", [&] { encoded(sketch, g, 0, guard); });
  guard.clip = 1;
  g[kParams + 3] = std::numeric_limits<double>::quiet_NaN();
  expect_error(ErrorCode::non_finite, "row 1", [&] { encoded(sketch, g, 0); });
  expect_error(ErrorCode::non_finite, "row 1", [&] { encoded(sketch, g, 0, guard); });
  std::vector<double> out(kNumbers);
  expect_error(ErrorCode::shape_mismatch, "n_sketch", [&] {
    sketch.decode<double>(cpu(), {out.data(), 1, kNumbers - 1}, 0, {g.data(), 1, kParams});
  });
}

}  // namespace
