#include "gramian/linalg/symmetric.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "gramian/core/error.hpp"
#include "support/helpers.h"

namespace {

using gramian::Array;
using gramian::Error;
using gramian::ErrorCode;
using gramian::Exec;
using gramian::MatrixView;
using gramian::SymmetricMatrix;
using gramian::Trans;
using testkit::cpu;
using testkit::expect_error;
using testkit::kEps;
using testkit::same_bits;

// Around the edges of tiles, of the table of this library and of others.
const std::int64_t kSizes[] = {1, 7, 127, 128, 129, 255, 256, 257, 300, 511, 513, 770};
// The last has panels of two block rows, and one that has only one.
const std::int64_t kSizesWithPanels[] = {1, 7, 127, 128, 129, 255, 256, 257, 300, 511, 513, 770, 1700};

std::size_t at(std::int64_t i, std::int64_t j) {
  return static_cast<std::size_t>(std::max(i, j) * (std::max(i, j) + 1) / 2 + std::min(i, j));
}
std::size_t packed_size(std::int64_t n) {
  return static_cast<std::size_t>(n * (n + 1) / 2);
}

template <class T>
std::vector<T> uniform(std::size_t count, std::uint64_t seed, double low = -1, double high = 1) {
  std::mt19937_64 draw(seed);
  std::uniform_real_distribution<double> values(low, high);
  std::vector<T> out(count);
  for (T& v : out) v = static_cast<T>(values(draw));
  return out;
}

// A packed, diagonally dominated positive definite matrix with a spread of diagonals.
template <class T>
std::vector<T> definite(std::int64_t n, std::uint64_t seed) {
  std::vector<T> a = uniform<T>(packed_size(n), seed);
  for (std::int64_t i = 0; i < n; ++i)
    a[at(i, i)] = static_cast<T>(std::sqrt(static_cast<double>(n)) * (2.5 + static_cast<double>(i % 3)));
  return a;
}

template <class T>
SymmetricMatrix<T> matrix(const Exec& exec, std::int64_t n, const std::vector<T>& packed) {
  SymmetricMatrix<T> a(exec, n);
  a.unpack(exec, packed.data());
  return a;
}

template <class T>
std::vector<T> packed_of(const SymmetricMatrix<T>& a) {
  std::vector<T> out(packed_size(a.size()));
  a.pack(cpu(1), out.data());
  return out;
}

// Ends the program if what it guards hangs.
struct Watchdog {
  Watchdog() { alarm(120); }
  ~Watchdog() { alarm(0); }
};

template <class T>
class Symmetric : public testing::Test {};
using Real = testing::Types<float, double>;
TYPED_TEST_SUITE(Symmetric, Real);

TYPED_TEST(Symmetric, PackUnpackAndDiagonalKeepEveryBit) {
  using T = TypeParam;
  for (const std::int64_t n : kSizesWithPanels) {
    const std::vector<T> values = uniform<T>(packed_size(n), 1);
    const SymmetricMatrix<T> a = matrix<T>(cpu(2), n, values);
    EXPECT_TRUE(same_bits(values, packed_of(a))) << n;
    std::vector<T> diagonal(static_cast<std::size_t>(n) + 1, T(99));
    a.diagonal(cpu(1), diagonal.data());
    for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(diagonal[static_cast<std::size_t>(i)], values[at(i, i)]) << n;
    EXPECT_EQ(diagonal.back(), T(99));
    for (std::int64_t i = 0; i < n; i += 13)
      for (std::int64_t j = 0; j <= i; j += 7)
        ASSERT_EQ(a.tile(i / a.tile_edge(), j / a.tile_edge())(i % a.tile_edge(), j % a.tile_edge()), values[at(i, j)]);
  }
}

TYPED_TEST(Symmetric, StartsAsZerosAndReturnsToThem) {
  using T = TypeParam;
  for (const std::int64_t n : {1, 129, 300}) {
    SymmetricMatrix<T> a(cpu(2), n);
    const std::vector<T> zeros(packed_size(n), T(0));
    EXPECT_TRUE(same_bits(zeros, packed_of(a)));
    a.add_diagonal(cpu(2), 3);
    EXPECT_FALSE(same_bits(zeros, packed_of(a)));
    a.set_zero(cpu(2));
    EXPECT_TRUE(same_bits(zeros, packed_of(a)));
  }
  const SymmetricMatrix<T> none(cpu(1), 0);
  EXPECT_EQ(none.tiles(), 0);
  EXPECT_EQ(none.bytes(), 0u);
}

TYPED_TEST(Symmetric, HoldsLittleMoreThanItsTriangle) {
  using T = TypeParam;
  const SymmetricMatrix<T> a(cpu(1), 4100);
  EXPECT_LE(static_cast<double>(a.bytes()), 0.65 * 4100.0 * 4100.0 * sizeof(T));
}

TYPED_TEST(Symmetric, OuterProductsDiagonalsAndScales) {
  using T = TypeParam;
  for (const std::int64_t n : {1, 7, 129, 257, 513, 770}) {
    const std::vector<T> values = uniform<T>(packed_size(n), 2), x = uniform<T>(static_cast<std::size_t>(n), 3),
                         y = uniform<T>(static_cast<std::size_t>(n), 4);
    const std::vector<double> v = uniform<double>(static_cast<std::size_t>(n), 5);
    std::vector<T> first;
    for (int threads = 1; threads <= 4; ++threads) {
      const Exec exec = cpu(threads);
      SymmetricMatrix<T> a = matrix<T>(exec, n, values);
      a.add_outer(exec, -0.75, x.data(), x.data());
      a.add_outer(exec, 1.25, x.data(), y.data());
      a.add_diagonal(exec, 0.5);
      a.scale(exec, v);
      const std::vector<T> out = packed_of(a);
      if (threads > 1) {
        EXPECT_TRUE(same_bits(first, out)) << n << ' ' << threads;
        continue;
      }
      first = out;
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j <= i; ++j) {
          const auto a_i = static_cast<std::size_t>(i), a_j = static_cast<std::size_t>(j);
          const long double xi = x[a_i], xj = x[a_j], yi = y[a_i], yj = y[a_j];
          const long double factor = static_cast<long double>(v[a_i]) * static_cast<long double>(v[a_j]);
          const long double expected =
              factor * (values[at(i, j)] - 0.75L * xi * xj + 1.25L * (xi * yj + yi * xj) + (i == j ? 0.5L : 0.0L));
          ASSERT_LE(std::abs(out[at(i, j)] - expected), 10 * kEps<T> * std::abs(factor) * 5)
              << n << ' ' << i << ' ' << j;
        }
      }
    }
  }
}

template <class S, class D>
void check_axpby() {
  for (const std::int64_t n : {1, 129, 300, 770, 1600}) {
    const std::vector<S> s = uniform<S>(packed_size(n), 6);
    const std::vector<D> d = uniform<D>(packed_size(n), 7);
    const SymmetricMatrix<S> source = matrix<S>(cpu(1), n, s);
    SymmetricMatrix<D> target = matrix<D>(cpu(1), n, d);
    target.axpby(cpu(3), -1.5, source, 0.25);
    const std::vector<D> out = packed_of(target);
    for (std::size_t k = 0; k < out.size(); ++k)
      ASSERT_LE(std::abs(out[k] - (-1.5L * s[k] + 0.25L * d[k])), 4 * kEps<D>);
    target.axpby(cpu(3), 1.0, source, 0.0);
    const std::vector<D> copied = packed_of(target);
    for (std::size_t k = 0; k < out.size(); ++k) ASSERT_EQ(copied[k], static_cast<D>(s[k]));
  }
  SymmetricMatrix<D> small(cpu(1), 5);
  expect_error(ErrorCode::shape_mismatch, "sizes differ",
               [&] { small.axpby(cpu(1), 1.0, SymmetricMatrix<S>(cpu(1), 6), 1.0); });
}

TEST(SymmetricAxpby, WithinAndAcrossPrecisions) {
  check_axpby<float, float>();
  check_axpby<float, double>();
  check_axpby<double, float>();
  check_axpby<double, double>();
}

// --- Gram updates

// Worst error of G += alpha X'X over eps |alpha| |X|'|X| + |G|, by entry.
template <class P>
long double gram_error(const std::vector<P>& x, std::int64_t rows, std::int64_t n, std::int64_t stride, double alpha,
                       const std::vector<double>& before, const std::vector<double>& after) {
  std::vector<long double> sum(before.begin(), before.end()), size(before.size());
  for (std::size_t k = 0; k < size.size(); ++k) size[k] = std::abs(sum[k]);
  for (std::int64_t r = 0; r < rows; ++r) {
    const P* row = x.data() + r * stride;
    for (std::int64_t i = 0; i < n; ++i) {
      const long double left = static_cast<long double>(alpha) * row[i];
      for (std::int64_t j = 0; j <= i; ++j) {
        const long double term = left * row[j];
        sum[at(i, j)] += term;
        size[at(i, j)] += std::abs(term);
      }
    }
  }
  long double worst = 0;
  for (std::size_t k = 0; k < size.size(); ++k) worst = std::max(worst, std::abs(after[k] - sum[k]) / size[k]);
  return worst / kEps<P>;
}

TYPED_TEST(Symmetric, GramUpdateAddsTheProductWithinItsBound) {
  using P = TypeParam;
  for (const std::int64_t n : kSizesWithPanels) {
    for (const std::int64_t rows : {1, 37, 2049}) {
      if (rows > 100 && n > 130) continue;
      const std::int64_t stride = n + 2;
      std::vector<P> x = uniform<P>(static_cast<std::size_t>(rows * stride), 8);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = n; c < stride; ++c)
          x[static_cast<std::size_t>(r * stride + c)] = std::numeric_limits<P>::quiet_NaN();
      const std::vector<double> before = uniform<double>(packed_size(n), 9);
      const double alpha = n % 2 == 0 ? 1.0 : -1.0;
      std::vector<double> first;
      for (int threads = 1; threads <= 4; ++threads) {
        SymmetricMatrix<double> g = matrix<double>(cpu(threads), n, before);
        gramian::gram_update<P>(cpu(threads), alpha, MatrixView<const P>(x.data(), rows, n, stride), g);
        const std::vector<double> after = packed_of(g);
        if (threads == 1) {
          first = after;
          EXPECT_LE(gram_error<P>(x, rows, n, stride, alpha, before, after),
                    static_cast<long double>(std::min<std::int64_t>(rows, 2048) + 2))
              << n << ' ' << rows;
        }
        EXPECT_TRUE(same_bits(first, after)) << n << ' ' << rows << ' ' << threads;
      }
    }
  }
}

// Whole numbers whose products over 2048 rows stay exact in float and over more rows do not: the sum is exact if, and
// only if, no more than 2048 rows are added up in float.
TEST(GramUpdate, FloatProductsOfMoreThan2048RowsAreSummedInDouble) {
  const std::int64_t rows = 20480 + 333;
  for (const std::int64_t n : {3, 140, 300}) {
    std::mt19937_64 draw(10);
    std::vector<float> x(static_cast<std::size_t>(rows * n));
    for (float& v : x) v = static_cast<float>(80 + draw() % 11);
    SymmetricMatrix<double> g(cpu(2), n);
    gramian::gram_update<float>(cpu(2), 1.0, MatrixView<const float>(x.data(), rows, n), g);
    const std::vector<double> sums = packed_of(g);
    Array<float> in_float(cpu(1), n, n);
    const MatrixView<const float> view(x.data(), rows, n);
    gramian::gemm<float>(cpu(1), Trans::yes, Trans::no, 1.0, view, view, 0.0, in_float.view());
    std::int64_t wrong = 0, wrong_in_float = 0;
    for (std::int64_t i = 0; i<n; i += n> 100 ? 19 : 1) {
      for (std::int64_t j = 0; j <= i; j += n > 100 ? 3 : 1) {
        std::int64_t exact = 0;
        for (std::int64_t r = 0; r < rows; ++r)
          exact += static_cast<std::int64_t>(x[static_cast<std::size_t>(r * n + i)]) *
                   static_cast<std::int64_t>(x[static_cast<std::size_t>(r * n + j)]);
        wrong += sums[at(i, j)] == static_cast<double>(exact) ? 0 : 1;
        wrong_in_float += static_cast<double>(in_float.view()(i, j)) == static_cast<double>(exact) ? 0 : 1;
      }
    }
    EXPECT_EQ(wrong, 0) << n;
    EXPECT_GT(wrong_in_float, 0) << "the test has no power";
  }
}

TEST(GramUpdate, TallInputIsTheSameForEveryThreadCountAndTakenOutAgain) {
  const std::int64_t rows = 6001;
  for (const std::int64_t n : {5, 129, 260}) {
    std::mt19937_64 draw(11);
    std::vector<double> x(static_cast<std::size_t>(rows * n));
    for (double& v : x) v = static_cast<double>(draw() % 2001) - 1000;  // exact sums
    std::vector<double> first;
    for (int threads = 1; threads <= 4; ++threads) {
      SymmetricMatrix<double> g(cpu(threads), n);
      const MatrixView<const double> view(x.data(), rows, n);
      gramian::gram_update<double>(cpu(threads), 1.0, view, g);
      const std::vector<double> sums = packed_of(g);
      if (threads == 1) first = sums;
      EXPECT_TRUE(same_bits(first, sums));
      gramian::gram_update<double>(cpu(threads), -1.0, view, g);
      for (const double v : packed_of(g)) ASSERT_EQ(v, 0.0);
    }
    double expected = 0;
    for (std::int64_t r = 0; r < rows; ++r)
      expected += x[static_cast<std::size_t>(r * n + n - 1)] * x[static_cast<std::size_t>(r * n)];
    EXPECT_EQ(first[at(n - 1, 0)], expected);
  }
}

TEST(GramUpdate, NoRowsChangeNothingAndOtherWidthsAreRefused) {
  const std::vector<double> before = uniform<double>(packed_size(130), 12);
  SymmetricMatrix<double> g = matrix<double>(cpu(1), 130, before);
  gramian::gram_update<float>(cpu(2), 1.0, MatrixView<const float>(nullptr, 0, 130), g);
  gramian::gram_update<double>(cpu(2), 1.0, MatrixView<const double>(nullptr, 0, 130), g);
  EXPECT_TRUE(same_bits(before, packed_of(g)));
  const std::vector<double> x(131, 1.0);
  expect_error(ErrorCode::shape_mismatch, "gram_update",
               [&] { gramian::gram_update<double>(cpu(1), 1.0, MatrixView<const double>(x.data(), 1, 131), g); });
  expect_error(ErrorCode::shape_mismatch, "outer_gram_update",
               [&] { gramian::outer_gram_update(cpu(1), 1.0, MatrixView<const double>(x.data(), 131, 1), g); });
}

TEST(OuterGramUpdate, AddsRowsTimesRows) {
  for (const std::int64_t n : kSizes) {
    const std::int64_t k = n > 500 ? 11 : 40, stride = k + 1;
    const std::vector<double> x = uniform<double>(static_cast<std::size_t>(n * stride), 13);
    const std::vector<double> before = uniform<double>(packed_size(n), 14);
    std::vector<double> first;
    for (int threads = 1; threads <= 4; ++threads) {
      SymmetricMatrix<double> g = matrix<double>(cpu(threads), n, before);
      gramian::outer_gram_update(cpu(threads), -0.5, MatrixView<const double>(x.data(), n, k, stride), g);
      const std::vector<double> after = packed_of(g);
      if (threads == 1) {
        first = after;
        for (std::int64_t i = 0; i < n; ++i) {
          for (std::int64_t j = 0; j <= i; ++j) {
            long double sum = before[at(i, j)], size = std::abs(sum);
            for (std::int64_t t = 0; t < k; ++t) {
              const long double term =
                  -0.5L * x[static_cast<std::size_t>(i * stride + t)] * x[static_cast<std::size_t>(j * stride + t)];
              sum += term;
              size += std::abs(term);
            }
            ASSERT_LE(std::abs(after[at(i, j)] - sum), static_cast<long double>(k + 2) * kEps<double> * size);
          }
        }
      }
      EXPECT_TRUE(same_bits(first, after)) << n << ' ' << threads;
    }
  }
}

TEST(SymmetricMultiply, IsTheFullProduct) {
  for (const std::int64_t n : kSizes) {
    for (const std::int64_t c : {1, 65}) {
      const std::vector<double> a = uniform<double>(packed_size(n), 15);
      const std::int64_t stride = c + 1;
      const std::vector<double> w = uniform<double>(static_cast<std::size_t>(n * stride), 16),
                                before = uniform<double>(static_cast<std::size_t>(n * stride), 17);
      SymmetricMatrix<double> g = matrix<double>(cpu(1), n, a);
      // The upper triangle of a diagonal tile does not count.
      for (std::int64_t t = 0; t < g.tiles(); ++t)
        for (std::int64_t j = 1; j < g.tile(t, t).cols; ++j)
          g.tile(t, t)(0, j) = std::numeric_limits<double>::quiet_NaN();
      for (const double beta : {0.0, 2.0}) {
        std::vector<double> first;
        for (int threads = 1; threads <= 4; ++threads) {
          std::vector<double> out = before;
          gramian::symmetric_multiply(cpu(threads), 1.5, g, MatrixView<const double>(w.data(), n, c, stride), beta,
                                      MatrixView<double>(out.data(), n, c, stride));
          if (threads == 1) {
            first = out;
            for (std::int64_t i = 0; i<n; i += n> 300 ? 5 : 1) {
              for (std::int64_t k = 0; k < c; k += 16) {
                const auto here = static_cast<std::size_t>(i * stride + k);
                long double sum = static_cast<long double>(beta) * before[here], size = std::abs(sum);
                for (std::int64_t j = 0; j < n; ++j) {
                  const long double term = 1.5L * a[at(i, j)] * w[static_cast<std::size_t>(j * stride + k)];
                  sum += term;
                  size += std::abs(term);
                }
                ASSERT_LE(std::abs(out[here] - sum), static_cast<long double>(n + 6) * kEps<double> * size)
                    << n << ' ' << i;
              }
            }
            for (std::int64_t i = 0; i < n; ++i)
              ASSERT_EQ(out[static_cast<std::size_t>(i * stride + c)],
                        before[static_cast<std::size_t>(i * stride + c)]);
          }
          EXPECT_TRUE(same_bits(first, out)) << n << ' ' << threads;
        }
      }
    }
  }
}

// --- Cholesky

// Worst |A - L L'| over eps |L||L'|.
template <class T>
long double factor_error(const std::vector<T>& a, const std::vector<T>& l, std::int64_t n) {
  const std::vector<long double> wide(l.begin(), l.end());
  long double worst = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const long double* li = wide.data() + at(i, 0);
    for (std::int64_t j = 0; j <= i; ++j) {
      const long double* lj = wide.data() + at(j, 0);
      long double sum = 0, size = 0;
      for (std::int64_t k = 0; k <= j; ++k) {
        const long double term = li[k] * lj[k];
        sum += term;
        size += std::abs(term);
      }
      worst = std::max(worst, std::abs(a[at(i, j)] - sum) / size);
    }
  }
  return worst / kEps<T>;
}

TYPED_TEST(Symmetric, TheFactorReproducesTheMatrix) {
  using T = TypeParam;
  for (const std::int64_t n : kSizes) {
    const std::vector<T> a = definite<T>(n, 20);
    std::vector<T> first;
    for (int threads = 1; threads <= 4; ++threads) {
      SymmetricMatrix<T> l = matrix<T>(cpu(threads), n, a);
      ASSERT_EQ(gramian::cholesky<T>(cpu(threads), l), 0) << n;
      const std::vector<T> factor = packed_of(l);
      if (threads == 1) {
        first = factor;
        for (std::int64_t i = 0; i < n; ++i) ASSERT_GT(factor[at(i, i)], T(0));
        EXPECT_LE(factor_error<T>(a, factor, n), static_cast<long double>(n + 4)) << n;
      }
      EXPECT_TRUE(same_bits(first, factor)) << n << ' ' << threads;
    }
  }
}

TYPED_TEST(Symmetric, TheFactorErrorSeesAWrongEntry) {
  using T = TypeParam;
  const std::vector<T> a = definite<T>(129, 20);
  SymmetricMatrix<T> l = matrix<T>(cpu(1), 129, a);
  ASSERT_EQ(gramian::cholesky<T>(cpu(1), l), 0);
  std::vector<T> factor = packed_of(l);
  factor[at(128, 3)] += static_cast<T>(0.01);
  EXPECT_GT(factor_error<T>(a, factor, 129), 1000.0L);
}

// From 1536 rows on, tasks of a factorisation take two tiles of a column; the last panel has one, or a part of one.
TYPED_TEST(Symmetric, TheFactorOfPanelsReproducesProducts) {
  using T = TypeParam;
  for (const std::int64_t n : {std::int64_t{1537}, std::int64_t{1700}}) {
    const std::vector<T> a = definite<T>(n, 23);
    std::vector<T> first;
    for (const int threads : {1, 2, 4}) {
      SymmetricMatrix<T> l = matrix<T>(cpu(threads), n, a);
      ASSERT_EQ(gramian::cholesky<T>(cpu(threads), l), 0) << n;
      const std::vector<T> factor = packed_of(l);
      if (threads == 1) first = factor;
      ASSERT_TRUE(same_bits(first, factor)) << n << ' ' << threads;
    }
    // L (L'v) against A v for v = (1, -1, 1, ...), with |L| |L'| |v| for the size of what rounding may do.
    std::vector<long double> inner(static_cast<std::size_t>(n), 0), inner_size(static_cast<std::size_t>(n), 0);
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j <= i; ++j) {
        inner[static_cast<std::size_t>(j)] += (i % 2 == 0 ? 1 : -1) * static_cast<long double>(first[at(i, j)]);
        inner_size[static_cast<std::size_t>(j)] += std::abs(static_cast<long double>(first[at(i, j)]));
      }
    long double worst = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      long double product = 0, size = 0, wanted = 0;
      for (std::int64_t j = 0; j <= i; ++j) {
        const long double value = first[at(i, j)];
        product += value * inner[static_cast<std::size_t>(j)];
        size += std::abs(value) * inner_size[static_cast<std::size_t>(j)];
      }
      for (std::int64_t j = 0; j < n; ++j)
        wanted += (j % 2 == 0 ? 1 : -1) * static_cast<long double>(a[at(std::max(i, j), std::min(i, j))]);
      worst = std::max(worst, std::abs(product - wanted) / size);
    }
    EXPECT_LE(worst / kEps<T>, static_cast<long double>(n + 4)) << n;
  }
}

TYPED_TEST(Symmetric, TheFirstPivotThatIsNotPositiveIsNamed) {
  using T = TypeParam;
  const Watchdog watchdog;
  for (const std::int64_t n : {1, 129, 300, 770, 1600}) {
    for (const std::int64_t bad : {std::int64_t{0}, std::int64_t{1}, n / 3, n / 2, n - 2, n - 1}) {
      if (bad < 0 || bad >= n) continue;
      for (const bool more : {false, true}) {
        std::vector<T> a = definite<T>(n, 21);
        a[at(bad, bad)] = T(-1);
        if (more) {  // later failures must not win a race
          for (std::int64_t later = bad + 1; later < n; later += 50) a[at(later, later)] = T(-1);
        }
        for (int threads = 1; threads <= 4; ++threads) {
          SymmetricMatrix<T> l = matrix<T>(cpu(threads), n, a);
          ASSERT_EQ(gramian::cholesky<T>(cpu(threads), l), bad + 1) << n << ' ' << threads;
        }
      }
    }
    std::vector<T> a = definite<T>(n, 21);
    a[at(n / 2, n / 2)] = std::numeric_limits<T>::quiet_NaN();
    SymmetricMatrix<T> l = matrix<T>(cpu(3), n, a);
    EXPECT_EQ(gramian::cholesky<T>(cpu(3), l), n / 2 + 1) << "NaN";
  }
}

TEST(Cholesky, CancellationAndExceptionsEndIt) {
  const Watchdog watchdog;
  const std::int64_t n = 1400;
  const std::vector<double> a = definite<double>(n, 22);
  for (int threads = 1; threads <= 4; ++threads) {
    Exec exec = cpu(threads);
    int polls = 0;
    exec.set_cancel_hook([&] {
      ++polls;
      return false;
    });
    SymmetricMatrix<double> l = matrix<double>(exec, n, a);
    polls = 0;
    ASSERT_EQ(gramian::cholesky<double>(exec, l), 0);
    const int all = polls;
    ASSERT_GE(all, 1);  // how often the caller gets a task itself is a matter of luck
    for (int stop = 1; stop <= all; stop += 3) {
      exec.set_cancel_hook(nullptr);
      l.unpack(exec, a.data());
      int left = stop;
      exec.set_cancel_hook([&] { return --left <= 0; });
      // With several threads the caller may poll less often than it did before.
      try {
        gramian::cholesky<double>(exec, l);
        EXPECT_GT(left, 0);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::cancelled);
      }
      left = stop;
      exec.set_cancel_hook([&]() -> bool {
        if (--left <= 0) throw std::runtime_error("from the hook");
        return false;
      });
      try {
        gramian::cholesky<double>(exec, l);  // of garbage by now
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "from the hook");
      }
    }
  }
}

template <class T>
std::vector<long double> inverse_factor(const std::vector<T>& l, std::int64_t n) {
  std::vector<long double> z(packed_size(n), 0.0L);
  for (std::int64_t j = 0; j < n; ++j) {
    z[at(j, j)] = 1 / static_cast<long double>(l[at(j, j)]);
    for (std::int64_t i = j + 1; i < n; ++i) {
      long double sum = 0;
      for (std::int64_t k = j; k < i; ++k) sum += static_cast<long double>(l[at(i, k)]) * z[at(k, j)];
      z[at(i, j)] = -sum / l[at(i, i)];
    }
  }
  return z;
}

TYPED_TEST(Symmetric, HalfSolvesGiveBackTheRightHandSide) {
  using T = TypeParam;
  for (const std::int64_t n : kSizesWithPanels) {
    SymmetricMatrix<T> l = matrix<T>(cpu(2), n, definite<T>(n, 23));
    ASSERT_EQ(gramian::cholesky<T>(cpu(2), l), 0);
    const std::vector<T> factor = packed_of(l);
    for (const std::int64_t c : {1, 3, 10, 16, 33, 67}) {
      const std::int64_t stride = c + 1;
      const std::vector<T> b = uniform<T>(static_cast<std::size_t>(n * stride), 24);
      for (const Trans trans : {Trans::no, Trans::yes}) {
        std::vector<T> first;
        for (int threads = 1; threads <= 4; ++threads) {
          std::vector<T> x = b;
          gramian::cholesky_solve_half<T>(cpu(threads), trans, l, MatrixView<T>(x.data(), n, c, stride));
          if (threads == 1) first = x;
          EXPECT_TRUE(same_bits(first, x)) << n << ' ' << c << ' ' << threads;
        }
        for (std::int64_t i = 0; i < n; ++i) {
          ASSERT_EQ(first[static_cast<std::size_t>(i * stride + c)], b[static_cast<std::size_t>(i * stride + c)]);
          for (std::int64_t k = 0; k < c; k += 11) {
            // Row i of L x, or of L' x.
            long double sum = 0, size = 0;
            const std::int64_t begin = trans == Trans::no ? 0 : i, end = trans == Trans::no ? i + 1 : n;
            for (std::int64_t j = begin; j < end; ++j) {
              const long double term =
                  static_cast<long double>(factor[at(i, j)]) * first[static_cast<std::size_t>(j * stride + k)];
              sum += term;
              size += std::abs(term);
            }
            ASSERT_LE(std::abs(b[static_cast<std::size_t>(i * stride + k)] - sum),
                      static_cast<long double>(n + 2) * kEps<T> * size)
                << n << ' ' << i << ' ' << static_cast<int>(trans);
          }
        }
      }
    }
  }
}

TYPED_TEST(Symmetric, TheTraceOfTheInverse) {
  using T = TypeParam;
  for (const std::int64_t n : {1, 7, 129, 257, 513}) {
    SymmetricMatrix<T> l = matrix<T>(cpu(2), n, definite<T>(n, 25));
    ASSERT_EQ(gramian::cholesky<T>(cpu(2), l), 0);
    const std::vector<T> factor = packed_of(l);
    long double expected = 0;
    for (const long double v : inverse_factor<T>(factor, n)) expected += v * v;
    const double first = gramian::inverse_trace<T>(cpu(1), l);
    EXPECT_NEAR(first, static_cast<double>(expected), static_cast<double>(50 * kEps<T> * expected)) << n;
    for (int threads = 2; threads <= 4; ++threads) EXPECT_EQ(gramian::inverse_trace<T>(cpu(threads), l), first) << n;
    EXPECT_TRUE(same_bits(factor, packed_of(l)));
  }
  EXPECT_EQ(gramian::inverse_trace<T>(cpu(1), SymmetricMatrix<T>(cpu(1), 0)), 0.0);
}

TEST(SymmetricEigen, VectorsAndValuesRebuildTheMatrix) {
  for (const std::int64_t n : {1, 7, 129, 257}) {
    const std::vector<double> a = uniform<double>(packed_size(n), 26);
    SymmetricMatrix<double> matrix_a = matrix<double>(cpu(2), n, a);
    std::vector<double> w;
    Array<double> v;
    gramian::symmetric_eigen(cpu(2), matrix_a, w, v);
    EXPECT_TRUE(std::is_sorted(w.begin(), w.end()));
    const MatrixView<double> rows = v.view();
    const double largest = std::max(std::abs(w.front()), std::abs(w.back()));
    const double bound = 10 * static_cast<double>(n) * 2.3e-16;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) {
        long double product = 0, rebuilt = 0;
        for (std::int64_t k = 0; k < n; ++k) {
          product += static_cast<long double>(rows(i, k)) * rows(j, k);
          rebuilt += static_cast<long double>(w[static_cast<std::size_t>(k)]) * rows(k, i) * rows(k, j);
        }
        ASSERT_NEAR(static_cast<double>(product), i == j ? 1.0 : 0.0, bound);
        ASSERT_NEAR(static_cast<double>(rebuilt), a[at(i, j)], bound * largest);
      }
    }
    EXPECT_TRUE(same_bits(a, packed_of(matrix_a)));
    for (int threads = 1; threads <= 4; threads += 3) {
      std::vector<double> again;
      Array<double> vectors;
      gramian::symmetric_eigen(cpu(threads), matrix_a, again, vectors);
      EXPECT_TRUE(same_bits(w, again));
      EXPECT_EQ(std::memcmp(v.data(), vectors.data(), static_cast<std::size_t>(n * n) * sizeof(double)), 0);
    }
  }
  std::vector<double> w(3, 1.0);
  Array<double> v;
  gramian::symmetric_eigen(cpu(1), SymmetricMatrix<double>(cpu(1), 0), w, v);
  EXPECT_TRUE(w.empty());
}

}  // namespace
