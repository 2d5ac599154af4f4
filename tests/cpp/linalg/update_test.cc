#include "gramian/linalg/update.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gramian/core/error.hpp"

namespace {

using gramian::Array;
using gramian::Error;
using gramian::Exec;
using gramian::MatrixView;
using gramian::SymmetricMatrix;
using gramian::Trans;

constexpr double kEps = std::numeric_limits<double>::epsilon();

// Around the edges of panels, chunks and tiles.
const std::int64_t kSizes[] = {1, 5, 32, 33, 64, 71, 128, 129, 300, 700};
const std::int64_t kRows[] = {1, 2, 6, 7, 64, 300, 900};

Exec cpu(int threads = 2) {
  return Exec(gramian::Device::cpu, threads);
}

// A d x d matrix as a plain row-major square.
struct Square {
  explicit Square(std::int64_t n_) : n(n_), a(static_cast<std::size_t>(n_ * n_), 0.0) {}
  double& operator()(std::int64_t i, std::int64_t j) { return a[static_cast<std::size_t>(i * n + j)]; }
  double operator()(std::int64_t i, std::int64_t j) const { return a[static_cast<std::size_t>(i * n + j)]; }
  double norm() const {
    double sum = 0;
    for (const double v : a) sum += v * v;
    return std::sqrt(sum);
  }
  std::int64_t n;
  std::vector<double> a;
};

double distance(const Square& a, const Square& b) {
  double sum = 0;
  for (std::size_t k = 0; k < a.a.size(); ++k) sum += (a.a[k] - b.a[k]) * (a.a[k] - b.a[k]);
  return std::sqrt(sum) / std::max(b.norm(), 1e-300);
}

std::vector<double> normal(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 draw(seed);
  std::normal_distribution<double> values;
  std::vector<double> out(static_cast<std::size_t>(count));
  for (double& v : out) v = values(draw);
  return out;
}

MatrixView<const double> rows_of(const std::vector<double>& x, std::int64_t b, std::int64_t d) {
  return {x.data(), b, d};
}

void add_gram(Square& a, const std::vector<double>& x, std::int64_t b, double sign = 1) {
  for (std::int64_t r = 0; r < b; ++r)
    for (std::int64_t i = 0; i < a.n; ++i)
      for (std::int64_t j = 0; j < a.n; ++j)
        a(i, j) += sign * x[static_cast<std::size_t>(r * a.n + i)] * x[static_cast<std::size_t>(r * a.n + j)];
}

Square ridge(std::int64_t n, double value) {
  Square a(n);
  for (std::int64_t i = 0; i < n; ++i) a(i, i) = value;
  return a;
}

SymmetricMatrix<double> packed(const Exec& exec, const Square& a) {
  std::vector<double> lower;
  for (std::int64_t i = 0; i < a.n; ++i)
    for (std::int64_t j = 0; j <= i; ++j) lower.push_back(a(i, j));
  SymmetricMatrix<double> out(exec, a.n);
  out.unpack(exec, lower.data());
  return out;
}

SymmetricMatrix<double> factor_of(const Exec& exec, const Square& a) {
  SymmetricMatrix<double> l = packed(exec, a);
  EXPECT_EQ(gramian::cholesky(exec, l), 0);
  return l;
}

Square lower_of(const Exec& exec, const SymmetricMatrix<double>& l) {
  const std::int64_t n = l.size();
  std::vector<double> values(static_cast<std::size_t>(n * (n + 1) / 2));
  l.pack(exec, values.data());
  Square out(n);
  std::size_t at = 0;
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j <= i; ++j) out(i, j) = values[at++];
  return out;
}

Square product_of(const Exec& exec, const SymmetricMatrix<double>& l) {
  const Square f = lower_of(exec, l);
  Square out(f.n);
  for (std::int64_t i = 0; i < f.n; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (std::int64_t k = 0; k <= j; ++k) sum += f(i, k) * f(j, k);
      out(i, j) = out(j, i) = sum;
    }
  }
  return out;
}

// |L U' - X'| / |X| for solved rows U.
double solved_error(const Exec& exec, const SymmetricMatrix<double>& l, const std::vector<double>& u,
                    const std::vector<double>& x, std::int64_t b) {
  const Square f = lower_of(exec, l);
  double error = 0, size = 0;
  for (std::int64_t r = 0; r < b; ++r) {
    for (std::int64_t i = 0; i < f.n; ++i) {
      double sum = 0;
      for (std::int64_t k = 0; k <= i; ++k) sum += f(i, k) * u[static_cast<std::size_t>(r * f.n + k)];
      const double value = x[static_cast<std::size_t>(r * f.n + i)];
      error += (sum - value) * (sum - value);
      size += value * value;
    }
  }
  return std::sqrt(error / size);
}

// Backward error of one sweep: a few roundings per panel that a row passes, and per sweep.
double bound(std::int64_t d, std::int64_t b) {
  return 10 * kEps * std::sqrt(static_cast<double>(d + b)) * static_cast<double>((b + 255) / 256 + 1);
}

TEST(Update, AddsRowsOfAnyNumber) {
  const Exec exec = cpu();
  for (const std::int64_t d : kSizes) {
    for (const std::int64_t b : kRows) {
      Square a = ridge(d, 1e-3);
      add_gram(a, normal(d, 1), 1);
      SymmetricMatrix<double> l = factor_of(exec, a);
      const std::vector<double> x = normal(b * d, 2);
      std::vector<double> solved(x.size());
      gramian::cholesky_update(exec, l, rows_of(x, b, d), {solved.data(), b, d});
      add_gram(a, x, b);
      EXPECT_LE(distance(product_of(exec, l), a), bound(d, b)) << d << " features, " << b << " rows";
      EXPECT_LE(solved_error(exec, l, solved, x, b), 100 * bound(d, b)) << d << " features, " << b << " rows";
      const Square f = lower_of(exec, l);
      for (std::int64_t i = 0; i < d; ++i) EXPECT_GT(f(i, i), 0);
    }
  }
}

TEST(Update, TakesRowsOutAgain) {
  const Exec exec = cpu();
  for (const std::int64_t d : kSizes) {
    for (const std::int64_t b : kRows) {
      Square a = ridge(d, 1.0);
      add_gram(a, normal(2 * d * d, 3), 2 * d);
      const std::vector<double> x = normal(b * d, 4);
      Square both = a;
      add_gram(both, x, b);
      SymmetricMatrix<double> l = factor_of(exec, both);
      std::vector<double> solved(x.size());
      ASSERT_EQ(gramian::cholesky_downdate(exec, l, rows_of(x, b, d), {solved.data(), b, d}), 0) << d << " " << b;
      // What goes was larger than what stays: its rounding stays behind.
      const double growth = both.norm() / a.norm();
      EXPECT_LE(distance(product_of(exec, l), a), growth * bound(d, b)) << d << " features, " << b << " rows";
      EXPECT_LE(solved_error(exec, l, solved, x, b), 1e3 * growth * bound(d, b)) << d << " " << b;
    }
  }
}

TEST(Update, SameBitsForAnyNumberOfThreads) {
  for (const std::int64_t b : {1, 3, 7, 40}) {
    const std::int64_t d = 700;
    Square a = ridge(d, 1.0);
    add_gram(a, normal(3 * d, 5), 3);
    const std::vector<double> x = normal(b * d, 6);
    std::vector<std::vector<double>> found;
    for (const int threads : {1, 2, 5}) {
      const Exec exec = cpu(threads);
      SymmetricMatrix<double> l = factor_of(exec, a);
      gramian::cholesky_update(exec, l, rows_of(x, b, d));
      EXPECT_EQ(gramian::cholesky_downdate(exec, l, rows_of(x, b, d)), 0);
      found.push_back(lower_of(exec, l).a);
    }
    EXPECT_EQ(found[0], found[1]);
    EXPECT_EQ(found[0], found[2]);
  }
}

TEST(Update, RefusesWhatIsNotThere) {
  const Exec exec = cpu();
  const std::int64_t d = 40;
  for (const std::int64_t b : {3, 20}) {
    Square a = ridge(d, 1e-6);
    const std::vector<double> x = normal(b * d, 7);
    add_gram(a, x, b);
    SymmetricMatrix<double> l = factor_of(exec, a);
    const Square before = lower_of(exec, l);
    // All that is left is the ridge: 1e-6 of a square of about 40.
    EXPECT_EQ(gramian::cholesky_downdate(exec, l, rows_of(x, b, d), {}, 1e-4), 1) << b;
    std::vector<double> foreign(x);
    for (std::int64_t j = 0; j < d; ++j) foreign[static_cast<std::size_t>((b - 1) * d + j)] *= 1.5;
    for (std::int64_t j = 0; j < (b - 1) * d; ++j) foreign[static_cast<std::size_t>(j)] *= 1e-3;
    EXPECT_EQ(gramian::cholesky_downdate(exec, l, rows_of(foreign, b, d)), b);
    EXPECT_EQ(lower_of(exec, l).a, before.a) << "a refusal left traces";
  }
}

// 10^4 rank-1 updates at a ridge of 1e-3: the factor keeps the Gram matrix to 1e-12, and its weights those of a fresh
// factor. The recursion of least squares, which carries the inverse, is at 1e-7 in its weights: what it lost in its
// first rows, where the condition is |G| / ridge, it never finds again. The rows are rectified mixtures of 32 numbers
// of size 100, so that |G| is 6e13 ridges although the condition in the end is 650. (At size 5, 1.6e11 ridges, the
// recursion is at 1e-9; it takes 768 features and a condition of 1e4 to bring it to 1e-7 there.)
TEST(Update, TenThousandRowsAtASmallRidge) {
  const Exec exec = cpu(1);
  const std::int64_t d = 120, n = 10000, sources = 32;
  const std::vector<double> x = [&] {
    const std::vector<double> from = normal(n * sources, 8), mixing = normal(sources * d, 9);
    std::vector<double> out(static_cast<std::size_t>(n * d));
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t j = 0; j < d; ++j) {
        double sum = 0;
        for (std::int64_t s = 0; s < sources; ++s)
          sum += from[static_cast<std::size_t>(r * sources + s)] * mixing[static_cast<std::size_t>(s * d + j)];
        out[static_cast<std::size_t>(r * d + j)] = std::max(100 * sum, 0.0);
      }
    return out;
  }();
  const std::vector<double> y = normal(n, 10);
  Square a = ridge(d, 1e-3), r(d);
  SymmetricMatrix<double> l = factor_of(exec, a);
  for (std::int64_t i = 0; i < d; ++i) r(i, i) = 1e3;
  std::vector<double> rx(static_cast<std::size_t>(d)), xr(rx.size()), w(rx.size(), 0.0), cross(rx.size(), 0.0);
  for (std::int64_t k = 0; k < n; ++k) {
    const double* row = x.data() + k * d;
    gramian::cholesky_update(exec, l, {row, 1, d});
    double share = 1, miss = y[static_cast<std::size_t>(k)];
    for (std::int64_t i = 0; i < d; ++i) {
      double sum = 0, other = 0;
      for (std::int64_t j = 0; j < d; ++j) sum += r(i, j) * row[j];
      for (std::int64_t j = 0; j < d; ++j) other += row[j] * r(j, i);
      rx[static_cast<std::size_t>(i)] = sum;
      xr[static_cast<std::size_t>(i)] = other;
      share += sum * row[i];
      miss -= row[i] * w[static_cast<std::size_t>(i)];
      cross[static_cast<std::size_t>(i)] += row[i] * y[static_cast<std::size_t>(k)];
    }
    // As it is published: R -= R x' K x R, which keeps R symmetric in exact arithmetic only, then W += R x' (y - x W).
    for (std::int64_t i = 0; i < d; ++i) {
      double gain = 0;
      for (std::int64_t j = 0; j < d; ++j) {
        r(i, j) -= rx[static_cast<std::size_t>(i)] / share * xr[static_cast<std::size_t>(j)];
        gain += r(i, j) * row[j];
      }
      w[static_cast<std::size_t>(i)] += gain * miss;
    }
  }
  add_gram(a, x, n);
  const double error = distance(product_of(exec, l), a);
  const auto solved = [&](const SymmetricMatrix<double>& factor) {
    std::vector<double> out = cross;
    for (const Trans trans : {Trans::no, Trans::yes})
      gramian::cholesky_solve_half<double>(exec, trans, factor, {out.data(), d, 1});
    return out;
  };
  const auto apart = [](const std::vector<double>& found, const std::vector<double>& expected) {
    double sum = 0, norm = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      sum += (found[i] - expected[i]) * (found[i] - expected[i]);
      norm += expected[i] * expected[i];
    }
    return std::sqrt(sum / norm);
  };
  const std::vector<double> joint = solved(factor_of(exec, a));
  const double weights = apart(solved(l), joint), recursion = apart(w, joint);
  SCOPED_TRACE("error of the factor " + std::to_string(error * 1e15) + "e-15, of its weights " +
               std::to_string(weights * 1e15) + "e-15, of those of the recursion " + std::to_string(recursion * 1e9) +
               "e-9");
  EXPECT_LE(error, 1e-12);
  EXPECT_LE(weights, 1e-11);
  EXPECT_GE(recursion, 1e-7);
  // And all but a few rows out again, one at a time.
  for (std::int64_t k = n - 1; k >= 2000; --k) {
    ASSERT_EQ(gramian::cholesky_downdate(exec, l, {x.data() + k * d, 1, d}), 0);
  }
  Square left = ridge(d, 1e-3);
  add_gram(left, x, 2000);
  EXPECT_LE(distance(product_of(exec, l), left), 1e-12 * static_cast<double>(n) / 2000);
}

// Ten times as many, in and out again: what is left is the batch answer to 1e-12 of the largest Gram matrix held.
TEST(Update, AHundredThousandRowsDoNotDrift) {
  const Exec exec = cpu(1);
  const std::int64_t d = 16, n = 100000, kept = 50000;
  const std::vector<double> x = [&] {
    std::vector<double> out = normal(n * d, 11);
    for (double& v : out) v = std::max(8 * v, 0.0);
    return out;
  }();
  Square a = ridge(d, 1e-3), left = ridge(d, 1e-3);
  SymmetricMatrix<double> l = factor_of(exec, a);
  for (std::int64_t k = 0; k < n; ++k) gramian::cholesky_update(exec, l, {x.data() + k * d, 1, d});
  add_gram(a, x, n);
  EXPECT_LE(distance(product_of(exec, l), a), 1e-12);
  for (std::int64_t k = n - 1; k >= kept; --k)
    ASSERT_EQ(gramian::cholesky_downdate(exec, l, {x.data() + k * d, 1, d}), 0);
  add_gram(left, x, kept);
  EXPECT_LE(distance(product_of(exec, l), left), 1e-12 * static_cast<double>(n) / static_cast<double>(kept));
  EXPECT_GE(distance(left, a), 0.1);  // half of the rows are gone
}

TEST(Update, Ages) {
  const Exec exec = cpu();
  Square a = ridge(300, 2.0);
  add_gram(a, normal(300 * 4, 9), 4);
  SymmetricMatrix<double> l = factor_of(exec, a);
  gramian::cholesky_scale(exec, l, 0.25);
  for (double& v : a.a) v *= 0.25;
  EXPECT_LE(distance(product_of(exec, l), a), bound(300, 1));
  EXPECT_THROW(gramian::cholesky_scale(exec, l, 0.0), Error);
}

TEST(Update, AppendsFeatures) {
  const Exec exec = cpu();
  for (const std::int64_t d : {0, 1, 100, 300}) {
    for (const std::int64_t k : {1, 33, 400}) {
      const std::int64_t size = d + k;
      Square a = ridge(size, 1.0);
      add_gram(a, normal(20 * size, 10), 20);
      Square leading(d);
      for (std::int64_t i = 0; i < d; ++i)
        for (std::int64_t j = 0; j < d; ++j) leading(i, j) = a(i, j);
      SymmetricMatrix<double> l = factor_of(exec, leading);
      std::vector<double> rows(a.a.begin() + d * size, a.a.end());
      for (std::int64_t i = 0; i < k; ++i)  // the strict upper triangle of the corner is not read
        for (std::int64_t j = i + 1; j < k; ++j) rows[static_cast<std::size_t>(i * size + d + j)] = 1e300;
      ASSERT_EQ(gramian::cholesky_append(exec, l, rows_of(rows, k, size)), 0);
      EXPECT_LE(distance(lower_of(exec, l), lower_of(exec, factor_of(exec, a))), 1e-12) << d << " + " << k;
    }
  }
  // A copy of a feature, without ridge.
  Square a = ridge(3, 1.0);
  SymmetricMatrix<double> l = factor_of(exec, a);
  EXPECT_EQ(gramian::cholesky_append(exec, l, rows_of({0, 1, 0, 1}, 1, 4)), 4);
  EXPECT_EQ(l.size(), 3);
  EXPECT_THROW(gramian::cholesky_append(exec, l, rows_of({0, 1, 0}, 1, 3)), Error);
}

TEST(Update, DeletesFeatures) {
  const Exec exec = cpu();
  for (const std::int64_t d : {2, 40, 300, 700}) {
    Square a = ridge(d, 1.0);
    add_gram(a, normal(20 * d, 11), 20);
    std::vector<std::vector<std::int64_t>> cases = {{}, {0}, {d - 1}, {d / 2}};
    std::vector<std::int64_t> third;
    for (std::int64_t j = 0; j < d; j += 3) third.push_back(j);
    cases.push_back(third);
    for (const std::vector<std::int64_t>& gone : cases) {
      SymmetricMatrix<double> l = factor_of(exec, a);
      gramian::cholesky_delete(exec, l, gone);
      std::vector<std::int64_t> kept;
      for (std::int64_t j = 0; j < d; ++j)
        if (!std::binary_search(gone.begin(), gone.end(), j)) kept.push_back(j);
      Square left(static_cast<std::int64_t>(kept.size()));
      for (std::int64_t i = 0; i < left.n; ++i)
        for (std::int64_t j = 0; j < left.n; ++j)
          left(i, j) = a(kept[static_cast<std::size_t>(i)], kept[static_cast<std::size_t>(j)]);
      EXPECT_LE(distance(lower_of(exec, l), lower_of(exec, factor_of(exec, left))), 1e-12) << d << ", " << gone.size();
    }
  }
  SymmetricMatrix<double> l = factor_of(exec, ridge(3, 1.0));
  for (const std::vector<std::int64_t>& wrong : {std::vector<std::int64_t>{3}, {-1}, {1, 1}, {2, 0}})
    EXPECT_THROW(gramian::cholesky_delete(exec, l, wrong), Error);
  gramian::cholesky_delete(exec, l, {0, 1, 2});
  EXPECT_EQ(l.size(), 0);
}

TEST(Update, ReplacesARow) {
  const Exec exec = cpu();
  for (const std::int64_t d : kSizes) {
    Square a = ridge(d, 1.0);
    add_gram(a, normal(2 * d * d, 12), 2 * d);
    for (const std::int64_t index : {std::int64_t{0}, d / 2, d - 1}) {
      // The new row belongs to the matrix in which that feature was drawn again.
      Square b = ridge(d, 1.0);
      std::vector<double> x = normal(2 * d * d, 12);
      const std::vector<double> fresh = normal(2 * d, 13);
      for (std::int64_t r = 0; r < 2 * d; ++r)
        x[static_cast<std::size_t>(r * d + index)] = fresh[static_cast<std::size_t>(r)];
      add_gram(b, x, 2 * d);
      SymmetricMatrix<double> l = factor_of(exec, a);
      const std::vector<double> row(b.a.begin() + index * d, b.a.begin() + (index + 1) * d);
      ASSERT_TRUE(gramian::cholesky_replace(exec, l, index, rows_of(row, 1, d))) << d << ", row " << index;
      EXPECT_LE(distance(product_of(exec, l), b), 10 * bound(d, 1)) << d << ", row " << index;
    }
  }
}

TEST(Update, ReplacementRefusesWhatIsNotPositive) {
  const Exec exec = cpu();
  Square a = ridge(5, 1.0);
  SymmetricMatrix<double> l = factor_of(exec, a);
  const Square before = lower_of(exec, l);
  EXPECT_FALSE(gramian::cholesky_replace(exec, l, 2, rows_of({0, 0, -1, 0, 0}, 1, 5)));  // the diagonal
  EXPECT_FALSE(gramian::cholesky_replace(exec, l, 2, rows_of({0, 2, 1, 0, 0}, 1, 5)));   // against rows before it
  EXPECT_FALSE(gramian::cholesky_replace(exec, l, 2, rows_of({0, 0, 1, 0, 2}, 1, 5)));   // against rows behind it
  EXPECT_FALSE(gramian::cholesky_replace(exec, l, 2, rows_of({0, 0, NAN, 0, 0}, 1, 5)));
  EXPECT_FALSE(gramian::cholesky_replace(exec, l, 2, rows_of({0, 0, 1, 0, 0.9}, 1, 5), 0.5));
  EXPECT_EQ(lower_of(exec, l).a, before.a) << "a refusal left traces";
  EXPECT_TRUE(gramian::cholesky_replace(exec, l, 2, rows_of({0, 0, 1, 0, 0.9}, 1, 5)));
  EXPECT_THROW(gramian::cholesky_replace(exec, l, 5, rows_of({0, 0, 1, 0, 0}, 1, 5)), Error);
  EXPECT_THROW(gramian::cholesky_replace(exec, l, 0, rows_of({0, 0, 1, 0}, 1, 4)), Error);
}

TEST(Update, RefusesWrongShapes) {
  const Exec exec = cpu();
  SymmetricMatrix<double> l = factor_of(exec, ridge(3, 1.0));
  std::vector<double> x(8, 1.0), u(8);
  EXPECT_THROW(gramian::cholesky_update(exec, l, rows_of(x, 2, 4)), Error);
  EXPECT_THROW(gramian::cholesky_update(exec, l, rows_of(x, 2, 3), {u.data(), 1, 3}), Error);
  EXPECT_THROW(gramian::cholesky_downdate(exec, l, rows_of(x, 2, 4)), Error);
  gramian::cholesky_update(exec, l, rows_of(x, 0, 3));
}

}  // namespace
