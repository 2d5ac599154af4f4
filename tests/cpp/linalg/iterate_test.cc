#include "gramian/linalg/iterate.hpp"

#include <cmath>
#include <vector>

#include "gramian/linalg/ops.hpp"
#include "support/data.h"
#include "support/helpers.h"

namespace {

using gramian::BlockMap;
using gramian::ErrorCode;
using gramian::Exec;
using gramian::FlexibleCgOptions;
using gramian::FlexibleCgReport;
using gramian::MatrixView;
using testkit::cpu;
using testkit::expect_error;

// X'X + 0.1 I for 2 n rows of normals.
std::vector<double> spd(std::int64_t n) {
  const std::vector<double> x = testkit::normals<double>(2 * n, n, 3);
  std::vector<double> a(static_cast<std::size_t>(n * n), 0.0);
  gramian::gemm<double>(cpu(), gramian::Trans::yes, gramian::Trans::no, 1.0, {x.data(), 2 * n, n}, {x.data(), 2 * n, n},
                        0.0, {a.data(), n, n});
  for (std::int64_t i = 0; i < n; ++i) a[static_cast<std::size_t>(i * n + i)] += 0.1;
  return a;
}

struct Problem {
  explicit Problem(std::int64_t n_, std::int64_t k_ = 1)
      : n(n_), k(k_), a(spd(n_)), b(testkit::normals<double>(k_, n_, 4)), x(b.size(), 0.0), map(of()) {}
  Problem(const Problem&) = delete;
  BlockMap of() { return gramian::dense_map(exec, {a.data(), n, n}); }
  FlexibleCgReport solve(const BlockMap& by, FlexibleCgOptions options = {}) {
    std::fill(x.begin(), x.end(), 0.0);
    return gramian::flexible_cg(exec, map, {b.data(), k, n}, {x.data(), k, n}, by, options);
  }
  std::int64_t n, k;
  Exec exec = cpu();
  std::vector<double> a, b, x;
  BlockMap map;
};

BlockMap filled(double value) {
  return [value](MatrixView<const double> in, MatrixView<double> out) {
    for (std::int64_t r = 0; r < in.rows; ++r)
      for (std::int64_t c = 0; c < in.cols; ++c) out(r, c) = value;
  };
}

TEST(FlexibleCg, AnyCallbackDescendsAndUselessOnesCostNothing) {
  Problem p(120);
  const FlexibleCgReport plain = p.solve({});
  ASSERT_TRUE(plain.converged);
  const std::vector<double> answer = p.x;
  for (const double value : {0.0, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    const FlexibleCgReport found = p.solve(filled(value));
    EXPECT_TRUE(found.converged);
    EXPECT_EQ(found.iterations, plain.iterations);
    EXPECT_EQ(found.fallbacks, found.iterations);
    EXPECT_LE(testkit::difference(p.x, answer), 1e-12);
  }
  FlexibleCgOptions stay;
  stay.stall_window = 0;
  stay.max_iterations = 50;
  std::uint64_t seed = 10;
  const FlexibleCgReport random = p.solve(
      [&](MatrixView<const double> in, MatrixView<double> out) {
        const std::vector<double> draw = testkit::normals<double>(in.rows, in.cols, seed++);
        std::copy(draw.begin(), draw.end(), out.data);
      },
      stay);
  for (const double fell : random.decrease[0]) EXPECT_GE(fell, 0);
  EXPECT_EQ(random.iterations, 50);
}

TEST(FlexibleCg, SolvesManyAtOnceAsOneByOne) {
  Problem many(90, 3);
  const FlexibleCgReport together = many.solve({});
  EXPECT_TRUE(together.converged);
  for (std::int64_t j = 0; j < 3; ++j) {
    Problem one(90);
    one.b.assign(many.b.begin() + j * 90, many.b.begin() + (j + 1) * 90);
    one.solve({});
    const std::vector<double> mine(many.x.begin() + j * 90, many.x.begin() + (j + 1) * 90);
    EXPECT_LE(testkit::difference(mine, one.x), 1e-7) << j;  // both stop at a residual of 1e-8
  }
}

TEST(FlexibleCg, SaysThatAMatrixIsNotPositive) {
  Problem p(20);
  for (double& value : p.a) value = -value;
  expect_error(ErrorCode::not_positive_definite, "not positive definite", [&] { p.solve({}); });
  // One direction is enough, and the callback that returns it is not to blame.
  Problem bent(20);
  for (std::size_t j = 1; j < 20; ++j) bent.a[j] = bent.a[20 * j] = 0;
  bent.a[0] = -1;
  const BlockMap first = [](MatrixView<const double>, MatrixView<double> out) {
    for (std::int64_t c = 0; c < out.cols; ++c) out(0, c) = c == 0 ? 1 : 0;
  };
  expect_error(ErrorCode::not_positive_definite, "for a direction", [&] { bent.solve(first); });
}

TEST(FlexibleCg, SolvesRightHandSidesOfAnySize) {
  Problem plain(60, 3);
  ASSERT_TRUE(plain.solve({}).converged);
  for (const double size : {1e-300, 1e-170, 1e160, 1e300}) {
    Problem scaled(60, 3);
    for (std::int64_t c = 0; c < 60; ++c) scaled.b[static_cast<std::size_t>(60 + c)] *= size;
    const FlexibleCgReport found = scaled.solve({});
    EXPECT_TRUE(found.converged);
    for (std::int64_t c = 0; c < 60; ++c) scaled.x[static_cast<std::size_t>(60 + c)] /= size;
    EXPECT_LE(testkit::difference(scaled.x, plain.x), 1e-6) << size;
    EXPECT_GT(found.residual[1], 0) << size;
    EXPECT_LE(found.residual[1], 1e-7 * size) << size;
  }
}

TEST(Nystrom, IsAPreconditioner) {
  // One large eigenvalue in a thousand: rank 10 takes it out.
  Problem p(200);
  std::vector<double> spike = testkit::normals<double>(1, 200, 9);
  for (std::int64_t i = 0; i < 200; ++i)
    for (std::int64_t j = 0; j < 200; ++j)
      p.a[static_cast<std::size_t>(i * 200 + j)] +=
          1e4 * spike[static_cast<std::size_t>(i)] * spike[static_cast<std::size_t>(j)];
  const gramian::NystromPreconditioner by(p.exec, p.map, 200, 10, 0.0, 1);
  EXPECT_TRUE(by.worthwhile());
  const FlexibleCgReport plain = p.solve({});
  const std::vector<double> answer = p.x;
  const FlexibleCgReport found =
      p.solve([&](MatrixView<const double> in, MatrixView<double> out) { by.apply(in, out); });
  EXPECT_TRUE(found.converged);
  EXPECT_LE(found.iterations, plain.iterations);
  EXPECT_LE(testkit::difference(p.x, answer), 1e-6);
  expect_error(ErrorCode::invalid_argument, "rank",
               [&] { gramian::NystromPreconditioner(p.exec, p.map, 200, 201, 0.0, 1); });
}

}  // namespace
