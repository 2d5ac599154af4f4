#include "gramian/regression/lstsq.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/regression/linf_lstsq.hpp"
#include "support/helpers.h"

namespace {

using gramian::ErrorCode;
using gramian::LstsqMethod;
using gramian::LstsqOptions;
using gramian::LstsqResult;
using gramian::MatrixView;
using gramian::RowsView;
using testkit::cpu;
using testkit::expect_error;
using testkit::same_bits;

struct Problem {
  std::int64_t n, d;
  std::vector<double> a, b, x;

  // b = A x + noise: columns of A fall by `grade` from one to the next.
  Problem(std::int64_t n_, std::int64_t d_, double grade, double noise) : n(n_), d(d_) {
    std::mt19937_64 draw(1);
    std::normal_distribution<double> normal;
    for (std::int64_t j = 0; j < d; ++j) x.push_back(normal(draw));
    for (std::int64_t i = 0; i < n; ++i) {
      double sum = noise * normal(draw);
      for (std::int64_t j = 0; j < d; ++j) {
        a.push_back(normal(draw) * std::pow(grade, static_cast<double>(j)));
        sum += a.back() * x[static_cast<std::size_t>(j)];
      }
      b.push_back(sum);
    }
  }
  RowsView rows() const { return RowsView::dense<double>({a.data(), n, d}); }
  RowsView right() const { return RowsView::dense<double>({b.data(), n, 1}); }
};

const LstsqMethod kMethods[] = {LstsqMethod::automatic, LstsqMethod::qr,
                                LstsqMethod::cholesky,  LstsqMethod::preconditioned_cholesky,
                                LstsqMethod::spir,      LstsqMethod::fossils};

TEST(Lstsq, AllMethodsFindTheSolution) {
  const Problem problem(3000, 20, 0.8, 0.0);
  for (const LstsqMethod method : kMethods) {
    LstsqOptions options;
    options.method = method;
    const LstsqResult result = gramian::lstsq(cpu(), problem.rows(), problem.right(), options);
    for (std::size_t j = 0; j < problem.x.size(); ++j)
      EXPECT_NEAR(result.x[j], problem.x[j], 1e-12 * std::pow(1.25, j)) << gramian::name_of(method);
    EXPECT_LT(result.backward_errors[0], 1e-15) << gramian::name_of(method);
    EXPECT_EQ(result.rank, 20);
    EXPECT_GT(result.iterations, 0);
  }
}

TEST(Lstsq, SameBitsForAllThreads) {
  const Problem problem(20000, 13, 0.9, 1.0);
  for (const LstsqMethod method : kMethods) {
    LstsqOptions options;
    options.method = method;
    const LstsqResult one = gramian::lstsq(cpu(1), problem.rows(), problem.right(), options);
    const LstsqResult many = gramian::lstsq(cpu(4), problem.rows(), problem.right(), options);
    EXPECT_TRUE(same_bits(one.x, many.x)) << gramian::name_of(method);
  }
}

TEST(Lstsq, LinearMaps) {
  const Problem problem(2000, 9, 0.7, 0.1);
  std::int64_t products = 0;
  gramian::LinearMap map;
  map.n = problem.n;
  map.d = problem.d;
  map.apply = [&](MatrixView<const double> x, MatrixView<double> out) {
    ++products;
    for (std::int64_t i = 0; i < problem.n; ++i)
      for (std::int64_t c = 0; c < x.cols; ++c) {
        out(i, c) = 0;
        for (std::int64_t j = 0; j < problem.d; ++j)
          out(i, c) += problem.a[static_cast<std::size_t>(i * problem.d + j)] * x(j, c);
      }
  };
  map.adjoint = [&](MatrixView<const double> y, MatrixView<double> out) {
    for (std::int64_t j = 0; j < problem.d; ++j)
      for (std::int64_t c = 0; c < y.cols; ++c) {
        out(j, c) = 0;
        for (std::int64_t i = 0; i < problem.n; ++i)
          out(j, c) += problem.a[static_cast<std::size_t>(i * problem.d + j)] * y(i, c);
      }
  };
  const LstsqResult direct = gramian::lstsq(cpu(), problem.rows(), problem.right(), {});
  const LstsqResult mapped = gramian::lstsq(cpu(), map, problem.right(), {});
  EXPECT_EQ(mapped.method, LstsqMethod::spir);
  EXPECT_GT(products, 20);
  for (std::size_t j = 0; j < problem.x.size(); ++j) EXPECT_NEAR(mapped.x[j], direct.x[j], 1e-12);
}

TEST(Lstsq, BadArguments) {
  const Problem problem(50, 4, 1.0, 1.0);
  LstsqOptions options;
  options.ridge = -1;
  expect_error(ErrorCode::invalid_argument, "ridge",
               [&] { gramian::lstsq(cpu(), problem.rows(), problem.right(), options); });
  options = {};
  options.rtol = 2;
  expect_error(ErrorCode::invalid_argument, "rtol",
               [&] { gramian::lstsq(cpu(), problem.rows(), problem.right(), options); });
  expect_error(ErrorCode::shape_mismatch, "b must have 50 rows",
               [&] { gramian::lstsq(cpu(), problem.rows(), problem.right().slice(0, 49), {}); });
  expect_error(ErrorCode::invalid_argument, "unknown method", [] { gramian::parse_lstsq_method("svd"); });
  for (const LstsqMethod method : kMethods) EXPECT_EQ(gramian::parse_lstsq_method(gramian::name_of(method)), method);
  expect_error(ErrorCode::invalid_argument, "eps",
               [] { gramian::linf_rows(gramian::LinfRows::calibrated, 100, 4, 1.5, 0.1); });
  expect_error(ErrorCode::invalid_argument, "as many rows as columns",
               [&] { gramian::linf_lstsq(cpu(), problem.rows().slice(0, 3), problem.right().slice(0, 3), {}); });
}

TEST(Lstsq, CancelStopsIt) {
  const Problem problem(20000, 30, 1.0, 1.0);
  for (const LstsqMethod method : {LstsqMethod::qr, LstsqMethod::spir, LstsqMethod::preconditioned_cholesky}) {
    gramian::Exec exec = cpu();
    int asked = 0;
    exec.set_cancel_hook([&] { return ++asked > 5; });
    LstsqOptions options;
    options.method = method;
    expect_error(ErrorCode::cancelled, "cancelled",
                 [&] { gramian::lstsq(exec, problem.rows(), problem.right(), options); });
  }
}

TEST(Linf, RowsOfTheGaussianLaw) {
  EXPECT_EQ(gramian::linf_rows(gramian::LinfRows::calibrated, 8192, 64, 0.5, 0.05), 2959);
  EXPECT_EQ(gramian::linf_rows(gramian::LinfRows::theorem, 8192, 64, 0.5, 0.05), 443104);
  // Two degrees of freedom have a closed form: P(T > t) = (1 - t / sqrt(2 + t^2)) / 2.
  for (const double t : {0.0, 0.3, 2.0, 50.0})
    EXPECT_NEAR(gramian::student_t_tail(t, 2), (1 - t / std::sqrt(2 + t * t)) / 2, 1e-13);
}

}  // namespace
