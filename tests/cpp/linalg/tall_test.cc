#include "gramian/linalg/tall.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/linalg/probes.hpp"
#include "support/helpers.h"

namespace {

using gramian::Array;
using gramian::Exec;
using gramian::MatrixView;
using gramian::OrthonormalColumns;
using gramian::Trans;
using testkit::cpu;
using testkit::same_bits;

template <class T>
std::vector<T> normals(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 draw(seed);
  std::normal_distribution<double> values;
  std::vector<T> out(static_cast<std::size_t>(count));
  for (T& v : out) v = static_cast<T>(values(draw));
  return out;
}

template <class T>
Array<T> array_of(const Exec& exec, const std::vector<T>& values, std::int64_t rows, std::int64_t cols) {
  Array<T> out(exec, rows, cols);
  std::copy(values.begin(), values.end(), out.data());
  return out;
}

// max |Q'Q - I| over all columns of the basis.
template <class T>
double loss(const OrthonormalColumns<T>& basis) {
  double worst = 0;
  std::vector<std::vector<double>> columns;
  for (std::int64_t k = 0; k < basis.blocks(); ++k) {
    for (std::int64_t j = 0; j < basis.block(k).cols; ++j) {
      columns.emplace_back();
      for (std::int64_t i = 0; i < basis.length(); ++i)
        columns.back().push_back(static_cast<double>(basis.block(k)(i, j)));
    }
  }
  for (std::size_t a = 0; a < columns.size(); ++a) {
    for (std::size_t b = 0; b <= a; ++b) {
      double sum = a == b ? -1 : 0;
      for (std::size_t i = 0; i < columns[a].size(); ++i) sum += columns[a][i] * columns[b][i];
      worst = std::max(worst, std::abs(sum));
    }
  }
  return worst;
}

template <class T>
class Tall : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Tall, Types);

TYPED_TEST(Tall, ProductsAreTheSameBitsForAnyThreads) {
  using T = TypeParam;
  const std::int64_t n = 20011, p = 7, q = 5;
  const std::vector<T> a = normals<T>(n * p, 1), y = normals<T>(n * q, 2);
  std::vector<T> first;
  for (const int threads : {1, 2, 3, 5}) {
    std::vector<T> out(static_cast<std::size_t>(p * q));
    gramian::long_gemm<T>(cpu(threads), Trans::yes, {a.data(), n, p}, {y.data(), n, q}, {out.data(), p, q});
    if (first.empty()) first = out;
    EXPECT_TRUE(same_bits(out, first));
  }
  for (std::int64_t i = 0; i < p; ++i) {
    for (std::int64_t j = 0; j < q; ++j) {
      double sum = 0;
      for (std::int64_t t = 0; t < n; ++t)
        sum += static_cast<double>(a[static_cast<std::size_t>(t * p + i)]) *
               static_cast<double>(y[static_cast<std::size_t>(t * q + j)]);
      EXPECT_NEAR(first[static_cast<std::size_t>(i * q + j)], sum,
                  64 * static_cast<double>(std::numeric_limits<T>::epsilon()) * static_cast<double>(n));
    }
  }
}

// Blocks of any condition: Y = Q C with orthonormal Q, and what is below the floor is replaced.
TYPED_TEST(Tall, BasisStaysOrthonormalForAnyBlock) {
  using T = TypeParam;
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  const std::int64_t n = 3000, b = 6;
  for (const double condition : {1.0, 1e2, 1e4, 1e7, 1e12}) {
    OrthonormalColumns<T> basis(cpu(), n, 1, 10);
    std::vector<T> old = normals<T>(n * b, 3), y = normals<T>(n * b, 4);
    basis.extend(array_of<T>(cpu(), old, n, b), 0.0);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < b; ++j) {
        const double scale = std::pow(condition, -static_cast<double>(j) / static_cast<double>(b - 1));
        auto& value = y[static_cast<std::size_t>(i * b + j)];
        value = static_cast<T>(scale * static_cast<double>(value) +
                               static_cast<double>(old[static_cast<std::size_t>(i * b)]));
      }
    }
    const double floor = 1e3 * eps;
    const std::vector<double> c = basis.extend(array_of<T>(cpu(), y, n, b), floor);
    EXPECT_LE(loss(basis), 40 * eps) << condition;
    // Y - Q C
    std::vector<T> back(static_cast<std::size_t>(n * b));
    basis.combine(c, b, {back.data(), n, b});
    double worst = 0;
    for (std::size_t k = 0; k < y.size(); ++k)
      worst = std::max(worst, std::abs(static_cast<double>(back[k]) - static_cast<double>(y[k])));
    EXPECT_LE(worst, 10 * floor) << condition;
  }
}

TYPED_TEST(Tall, DirectionsThatRunOutAreReplaced) {
  using T = TypeParam;
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  const std::int64_t n = 40, b = 10;
  OrthonormalColumns<T> basis(cpu(), n, 1, 10);
  const std::vector<T> first = normals<T>(n * b, 5);
  basis.extend(array_of<T>(cpu(), first, n, b), 0.0);
  basis.extend(array_of<T>(cpu(), first, n, b), 1e3 * eps);                                      // nothing new
  basis.extend(array_of<T>(cpu(), std::vector<T>(static_cast<std::size_t>(n * b)), n, b), 0.0);  // zeros
  basis.extend(array_of<T>(cpu(), normals<T>(n * b, 6), n, b), 1e3 * eps);  // up to the whole space
  EXPECT_EQ(basis.size(), n);
  EXPECT_LE(loss(basis), 100 * eps);
}

TEST(Probes, TheFactorIsTheOneOfTheBound) {
  // Ten probes, one check: 10 sqrt(2 / pi).
  EXPECT_NEAR(gramian::bound_of_norm(0.0, 0, 10, 0), 10 * std::sqrt(2 / 3.14159265358979323846), 1e-12);
  EXPECT_NEAR(gramian::bound_of_norm(std::log(8.0), 1, 10, 0), std::cbrt(80 * std::sqrt(2 / 3.14159265358979323846)),
              1e-12);
  EXPECT_GT(gramian::bound_of_norm(0.0, 0, 10, 5), gramian::bound_of_norm(0.0, 0, 10, 1));
}

}  // namespace
