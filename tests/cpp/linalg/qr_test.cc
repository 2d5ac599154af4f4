#include "gramian/linalg/qr.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/sweep.hpp"
#include "support/helpers.h"

namespace {

using gramian::Array;
using gramian::Exec;
using gramian::MatrixView;
using gramian::SymmetricMatrix;
using gramian::Trans;
using testkit::cpu;
using testkit::expect_error;
using testkit::same_bits;

template <class T>
std::vector<T> uniform(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 draw(seed);
  std::uniform_real_distribution<double> values(-1, 1);
  std::vector<T> out(static_cast<std::size_t>(count));
  for (T& v : out) v = static_cast<T>(values(draw));
  return out;
}

template <class T>
MatrixView<T> view(std::vector<T>& values, std::int64_t rows, std::int64_t cols) {
  return {values.data(), rows, cols};
}

// max |X'X - R'R| over |X|_F^2, in long double.
template <class T>
double gram_error(const std::vector<T>& x, std::int64_t n, const std::vector<T>& r, std::int64_t rows, std::int64_t d) {
  const auto gram = [d](const std::vector<T>& m, std::int64_t height, std::int64_t i, std::int64_t j) {
    long double sum = 0;
    for (std::int64_t t = 0; t < height; ++t)
      sum += static_cast<long double>(m[static_cast<std::size_t>(t * d + i)]) * m[static_cast<std::size_t>(t * d + j)];
    return sum;
  };
  long double size = 0, worst = 0;
  for (const T value : x) size += static_cast<long double>(value) * value;
  for (std::int64_t i = 0; i < d; ++i)
    for (std::int64_t j = 0; j <= i; ++j) worst = std::max(worst, std::abs(gram(x, n, i, j) - gram(r, rows, i, j)));
  return static_cast<double>(size > 0 ? worst / size : worst);
}

template <class T>
double eps() {
  return static_cast<double>(std::numeric_limits<T>::epsilon());
}

// Sizes on both sides of one block, several chunks, fewer rows than columns, one column.
struct Shape {
  std::int64_t n, d;
};
const Shape kShapes[] = {{0, 3}, {1, 1}, {5000, 1}, {2, 5}, {7, 7}, {1100, 9}, {9000, 33}, {70001, 12}, {3000, 130}};

template <class T>
void check_factor_r(Shape shape) {
  std::vector<T> x = uniform<T>(shape.n * shape.d, 3), r(static_cast<std::size_t>(shape.d * shape.d), T(7));
  const Exec exec = cpu();
  gramian::qr_factor_r<T>(exec, view(x, shape.n, shape.d), view(r, shape.d, shape.d));
  for (std::int64_t i = 0; i < shape.d; ++i) {
    for (std::int64_t j = 0; j < i; ++j) EXPECT_EQ(r[static_cast<std::size_t>(i * shape.d + j)], T(0));
    EXPECT_GE(r[static_cast<std::size_t>(i * shape.d + i)], T(0));
  }
  // |X'X - R'R| <= 2 c d eps |X|^2 for a backward stable factorisation; c = 8 as in the conformance list.
  EXPECT_LE(gram_error(x, shape.n, r, shape.d, shape.d), 16 * static_cast<double>(shape.d + 1) * eps<T>())
      << shape.n << " x " << shape.d;
}

TEST(Qr, FactorRReproducesTheGramMatrix) {
  for (const Shape shape : kShapes) {
    check_factor_r<double>(shape);
    check_factor_r<float>(shape);
  }
}

// Equal columns leave in R what the sums of reflections round: below the default rtol, for any number of rows.
TEST(Qr, EqualColumnsAreToldFromRank) {
  const Exec exec = cpu();
  for (const Shape shape : {Shape{1000, 2}, {3000, 2}, {400000, 2}, {3000, 10}, {10000, 64}}) {
    for (const double value : {1.0, 1.0 / 3, 0.7}) {
      std::vector<double> x(static_cast<std::size_t>(shape.n * shape.d), value);
      std::vector<double> r(static_cast<std::size_t>(shape.d * shape.d)), u(r), vt(r), s;
      gramian::qr_factor_r<double>(exec, view(x, shape.n, shape.d), view(r, shape.d, shape.d));
      gramian::small_svd<double>(exec, view(r, shape.d, shape.d), view(u, shape.d, shape.d), s,
                                 view(vt, shape.d, shape.d));
      EXPECT_LT(s[1], gramian::default_rtol(shape.d) * s[0]) << shape.n << " x " << shape.d << ", " << value;
      gramian::qr_thin<double>(exec, view(x, shape.n, shape.d), view(r, shape.d, shape.d));
      gramian::small_svd<double>(exec, view(r, shape.d, shape.d), view(u, shape.d, shape.d), s,
                                 view(vt, shape.d, shape.d));
      EXPECT_LT(s[1], gramian::default_rtol(shape.d) * s[0]) << "thin, " << shape.n << " x " << shape.d;
    }
  }
  EXPECT_LT(gramian::default_rtol(100000), 1e-14);
}

TEST(Qr, FactorRIsTheSameBitsForAllThreads) {
  const std::int64_t n = 40000, d = 20;
  std::vector<double> x = uniform<double>(n * d, 5), first(d * d), other(d * d);
  gramian::qr_factor_r<double>(cpu(1), view(x, n, d), view(first, d, d));
  for (const int threads : {2, 3, 8}) {
    gramian::qr_factor_r<double>(cpu(threads), view(x, n, d), view(other, d, d));
    EXPECT_TRUE(same_bits(first, other)) << threads;
  }
}

TEST(Qr, MergeIsTheFactorOfAllRows) {
  const std::int64_t n = 600, d = 17;
  std::vector<double> x = uniform<double>(n * d, 6), all(d * d), one(d * d), two(d * d);
  const Exec exec = cpu();
  gramian::qr_factor_r<double>(exec, view(x, n, d), view(all, d, d));
  gramian::qr_factor_r<double>(exec, view(x, n, d).block(0, 0, 250, d), view(one, d, d));
  gramian::qr_factor_r<double>(exec, view(x, n, d).block(250, 0, 350, d), view(two, d, d));
  gramian::qr_merge_r<double>(exec, view(two, d, d), view(one, d, d));
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_NEAR(one[i], all[i], 1e-12);
}

template <class T>
void check_thin(Shape shape) {
  const std::int64_t k = std::min(shape.n, shape.d);
  const std::vector<T> x = uniform<T>(shape.n * shape.d, 8);
  std::vector<T> q = x, r(static_cast<std::size_t>(k * shape.d));
  const Exec exec = cpu();
  gramian::qr_thin<T>(exec, view(q, shape.n, shape.d), view(r, k, shape.d));
  std::vector<T> identity(static_cast<std::size_t>(k * k)), product(x.size());
  const MatrixView<T> left = view(q, shape.n, shape.d).block(0, 0, shape.n, k);
  gramian::gemm<T>(exec, Trans::yes, Trans::no, 1.0, left, left, 0.0, view(identity, k, k));
  gramian::gemm<T>(exec, Trans::no, Trans::no, 1.0, left, view(r, k, shape.d), 0.0, view(product, shape.n, shape.d));
  const double bound = 16 * static_cast<double>(shape.d + 1) * eps<T>();
  for (std::int64_t i = 0; i < k; ++i)
    for (std::int64_t j = 0; j < k; ++j)
      EXPECT_NEAR(static_cast<double>(identity[static_cast<std::size_t>(i * k + j)]), i == j ? 1.0 : 0.0, bound);
  // Entries of X are at most 1, columns at most sqrt(n) long.
  const double size = bound * std::sqrt(static_cast<double>(shape.n));
  for (std::size_t t = 0; t < x.size(); ++t)
    ASSERT_NEAR(static_cast<double>(product[t]), static_cast<double>(x[t]), size) << shape.n << " x " << shape.d;
}

TEST(Qr, ThinFactorsMultiplyToTheMatrix) {
  for (const Shape shape : kShapes) {
    check_thin<double>(shape);
    check_thin<float>(shape);
  }
}

TEST(Qr, SvdOfATriangle) {
  const std::int64_t d = 40;
  std::vector<double> a = uniform<double>(d * d, 9), u(d * d), vt(d * d), s, back(d * d);
  const Exec exec = cpu();
  gramian::small_svd<double>(exec, view(a, d, d), view(u, d, d), s, view(vt, d, d));
  for (std::int64_t i = 0; i < d; ++i)
    for (std::int64_t j = 0; j < d; ++j) u[static_cast<std::size_t>(i * d + j)] *= s[static_cast<std::size_t>(j)];
  gramian::gemm<double>(exec, Trans::no, Trans::no, 1.0, view(u, d, d), view(vt, d, d), 0.0, view(back, d, d));
  for (std::size_t t = 0; t < a.size(); ++t) EXPECT_NEAR(back[t], a[t], 1e-13);
  a[3] = NAN;
  expect_error(gramian::ErrorCode::no_convergence, "gesvd",
               [&] { gramian::small_svd<double>(exec, view(a, d, d), view(u, d, d), s, view(vt, d, d)); });
}

TEST(Qr, LowerFactorSolves) {
  const std::int64_t n = 900, d = 300;
  std::vector<double> x = uniform<double>(n * d, 10), r(d * d), w = uniform<double>(d, 11), b(d);
  const Exec exec = cpu();
  gramian::qr_factor_r<double>(exec, view(x, n, d), view(r, d, d));
  gramian::gemm<double>(exec, Trans::no, Trans::no, 1.0, view(r, d, d), view(w, d, 1), 0.0, view(b, d, 1));
  const SymmetricMatrix<double> l = gramian::lower_factor<double, double>(exec, view(r, d, d));
  gramian::cholesky_solve_half<double>(exec, Trans::yes, l, view(b, d, 1));
  for (std::size_t t = 0; t < b.size(); ++t) EXPECT_NEAR(b[t], w[t], 1e-11);
}

template <class T>
void check_sweep(std::int64_t n, std::int64_t d, std::int64_t k, bool with_b) {
  std::vector<T> a = uniform<T>(n * d, 12);
  std::vector<double> x = uniform<double>(d * k, 13), b = uniform<double>(n * k, 14);
  std::vector<double> r(static_cast<std::size_t>(n * k), 9), g(static_cast<std::size_t>(d * k), 9);
  gramian::normal_sweep<T>(cpu(), view(a, n, d), view(x, d, k), with_b ? view(b, n, k) : MatrixView<double>(),
                           view(r, n, k), view(g, d, k));
  for (std::int64_t c = 0; c < k; ++c) {
    std::vector<long double> want(static_cast<std::size_t>(d), 0);
    for (std::int64_t i = 0; i < n; ++i) {
      long double value = with_b ? b[static_cast<std::size_t>(i * k + c)] : 0;
      for (std::int64_t j = 0; j < d; ++j)
        value -=
            static_cast<long double>(a[static_cast<std::size_t>(i * d + j)]) * x[static_cast<std::size_t>(j * k + c)];
      // Sums of d + 1 terms of at most 1.
      ASSERT_NEAR(r[static_cast<std::size_t>(i * k + c)], static_cast<double>(value),
                  static_cast<double>((d + 3) * (d + 1)) * eps<double>());
      for (std::int64_t j = 0; j < d; ++j)
        want[static_cast<std::size_t>(j)] += a[static_cast<std::size_t>(i * d + j)] * value;
    }
    const auto terms = static_cast<double>(n), size = static_cast<double>(d + 1);
    for (std::int64_t j = 0; j < d; ++j)
      ASSERT_NEAR(g[static_cast<std::size_t>(j * k + c)], static_cast<double>(want[static_cast<std::size_t>(j)]),
                  (terms + size + 6) * terms * size * eps<double>());
  }
}

TEST(Sweep, ResidualAndGradient) {
  for (const bool with_b : {false, true}) {
    for (const std::int64_t k : {1, 3}) {
      check_sweep<double>(0, 3, k, with_b);
      check_sweep<double>(9001, 5, k, with_b);
      check_sweep<float>(9001, 5, k, with_b);
      check_sweep<double>(700, 40, k, with_b);
      check_sweep<float>(300, 41, k, with_b);
    }
  }
}

TEST(Sweep, SameBitsForAllThreads) {
  const std::int64_t n = 50000, d = 13;
  std::vector<double> a = uniform<double>(n * d, 15), x = uniform<double>(d, 16), b = uniform<double>(n, 17);
  std::vector<double> r(static_cast<std::size_t>(n)), first(d), other(d);
  gramian::normal_sweep<double>(cpu(1), view(a, n, d), view(x, d, 1), view(b, n, 1), view(r, n, 1), view(first, d, 1));
  for (const int threads : {2, 5}) {
    gramian::normal_sweep<double>(cpu(threads), view(a, n, d), view(x, d, 1), view(b, n, 1), view(r, n, 1),
                                  view(other, d, 1));
    EXPECT_TRUE(same_bits(first, other)) << threads;
  }
}

}  // namespace
