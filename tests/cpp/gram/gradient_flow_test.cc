#include "gramian/gram/gradient_flow.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"

namespace {

using gramian::Error;
using gramian::ErrorCode;
using gramian::Exec;
using gramian::FlowStop;
using gramian::GradientFlow;
using gramian::GramOptions;
using gramian::GramState;
using gramian::MatrixView;
using gramian::RowsView;
using gramian::Targets;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<double> normals(std::int64_t count, std::uint64_t seed) {
  const gramian::RngStream stream(seed, gramian::RngFamily::gaussian, 7);
  std::vector<double> out;
  for (std::int64_t i = 0; i < count; ++i) out.push_back(stream.gaussian(static_cast<std::uint64_t>(i), 0));
  return out;
}

struct Problem {
  std::int64_t n, d, c;
  std::vector<double> x, y;
  Problem(std::int64_t n_, std::int64_t d_, std::int64_t c_)
      : n(n_), d(d_), c(c_), x(normals(n_ * d_, 1)), y(normals(n_ * c_, 2)) {}
  RowsView rows() const { return RowsView::dense(MatrixView<const double>(x.data(), n, d)); }
  RowsView targets() const { return RowsView::dense(MatrixView<const double>(y.data(), n, c)); }
  GramState state(int threads = 2) const {
    GramOptions options;
    options.intercept = false;
    GramState out(Exec(gramian::Device::cpu, threads), d, c, options);
    out.add(rows(), Targets::of_values(targets()));
    return out;
  }
};

// Steps on the modes themselves, one recursion each.
TEST(GradientFlow, StepsWithMomentum) {
  const Problem p(30, 5, 2);
  for (const bool nesterov : {false, true}) {
    const gramian::Momentum momentum{0.8, nesterov};
    const GradientFlow flow(p.state(), 0.3, nullptr, momentum), plain(p.state(), 0.3);
    EXPECT_NEAR(flow.largest_step() / plain.largest_step(), nesterov ? 1.8 / 2.6 : 1.8, 1e-14);
    const double step = 0.9 * flow.largest_step();
    const std::vector<double> end = plain.mode_weights(FlowStop::at(kInfinity));
    for (const std::int64_t steps : {0, 1, 2, 7, 400}) {
      const std::vector<double> found = flow.mode_weights(FlowStop::after(steps, step));
      for (std::int64_t j = 0; j < p.d; ++j) {
        const double a = step * (flow.eigenvalues()[static_cast<std::size_t>(j)] + 0.3) / static_cast<double>(p.n);
        double now = 1, last = 1;
        for (std::int64_t k = 0; k < steps; ++k) {
          const double next = nesterov ? (1 - a) * (now + 0.8 * (now - last)) : now - a * now + 0.8 * (now - last);
          last = now;
          now = next;
        }
        for (std::int64_t k = 0; k < p.c; ++k) {
          const auto at = static_cast<std::size_t>(j * p.c + k);
          EXPECT_NEAR(found[at], (1 - now) * end[at], 1e-12 * std::fabs(end[at])) << steps << " steps, mode " << j;
        }
      }
    }
    EXPECT_THROW(flow.weights(FlowStop::after(1, flow.largest_step())), Error);
  }
  EXPECT_THROW(GradientFlow(p.state(), 0.0, nullptr, {1.0, false}), Error);
  EXPECT_THROW(GradientFlow(p.state(), 0.0, nullptr, {-0.1, true}), Error);
}

TEST(GradientFlow, StepsOneByOne) {
  const Problem p(30, 5, 2);
  const std::vector<double> start = normals(10, 3);
  const GradientFlow flow(p.state(), 0.3, start.data());
  const double step = 0.7 * flow.largest_step();
  std::vector<double> w = start;
  for (int k = 0; k < 200; ++k) {
    std::vector<double> slope(w.size(), 0.0);
    for (std::int64_t r = 0; r < p.n; ++r)
      for (std::int64_t o = 0; o < p.c; ++o) {
        double residual = -p.y[static_cast<std::size_t>(r * p.c + o)];
        for (std::int64_t j = 0; j < p.d; ++j)
          residual += p.x[static_cast<std::size_t>(r * p.d + j)] * w[static_cast<std::size_t>(o * p.d + j)];
        for (std::int64_t j = 0; j < p.d; ++j)
          slope[static_cast<std::size_t>(o * p.d + j)] += p.x[static_cast<std::size_t>(r * p.d + j)] * residual;
      }
    for (std::size_t i = 0; i < w.size(); ++i) w[i] -= step / 30 * (slope[i] + 0.3 * w[i]);
  }
  const std::vector<double> found = flow.weights(FlowStop::after(200, step)).coef;
  for (std::size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(found[i], w[i], 1e-12);
}

TEST(GradientFlow, FrozenModesKeepTheirBits) {
  const Problem p(4, 9, 1);
  const std::vector<double> start = normals(9, 4);
  const GradientFlow flow(p.state(), 0.0, start.data());
  const std::vector<double> begin = flow.mode_weights(FlowStop::at(0)),
                            end = flow.mode_weights(FlowStop::at(kInfinity));
  int frozen = 0;
  for (std::size_t j = 0; j < 9; ++j) {
    if (flow.eigenvalues()[j] > 0) continue;
    ++frozen;
    EXPECT_EQ(begin[j], end[j]);
  }
  EXPECT_EQ(frozen, 5);
}

TEST(GradientFlow, TheSameBitsForAnyThreads) {
  const Problem p(400, 300, 3);
  const FlowStop stop = FlowStop::at(1.5);
  const std::vector<double> one = GradientFlow(p.state(1), 0.0).weights(stop).coef;
  EXPECT_EQ(one, GradientFlow(p.state(2), 0.0).weights(stop).coef);
}

TEST(GradientFlow, LeaveOneOutAtTheEndIsThatOfLeastSquares) {
  const Problem p(1500, 3, 1);  // more rows than a block
  const GradientFlow flow(p.state(), 0.0);
  const double score = flow.loo(p.rows(), p.targets(), {FlowStop::at(0), FlowStop::at(kInfinity)})[1];
  // Residuals over 1 - h, h of an orthogonal projection on 3 of 1500 dimensions: close to the mean square.
  const double mean = flow.residual_sum(FlowStop::at(kInfinity)) / 1500;
  EXPECT_GT(score, mean);
  EXPECT_NEAR(score / mean, 1 / std::pow(1 - 3.0 / 1500, 2), 1e-3);
}

TEST(GradientFlow, Errors) {
  const Problem p(10, 3, 1);
  const auto code_of = [](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::internal;
  };
  const GradientFlow flow(p.state(), 0.0);
  EXPECT_EQ(code_of([&] { GradientFlow(GramState(Exec(), 3, 1), 0.0); }), ErrorCode::not_fitted);
  EXPECT_EQ(code_of([&] { GradientFlow(p.state(), -1.0); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { flow.weights(FlowStop::at(-1)); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { flow.weights(FlowStop::at(std::nan(""))); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { flow.weights(FlowStop::after(3, flow.largest_step())); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { flow.loo(p.rows().slice(0, 4), p.targets().slice(0, 4), {}); }), ErrorCode::shape_mismatch);
}

}  // namespace
