#include "gramian/linalg/ops.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gramian/core/error.hpp"
#include "support/activation.h"
#include "support/helpers.h"

namespace {

using gramian::Activation;
using gramian::DType;
using gramian::ErrorCode;
using gramian::MatrixView;
using gramian::RowsView;
using gramian::Trans;
using testkit::activation;
using testkit::cpu;
using testkit::expect_error;
using testkit::kEps;
using testkit::same_bits;

// A matrix with a gap after each row; the gap holds a mark that must survive.
template <class T>
struct Padded {
  static constexpr T kMark = static_cast<T>(-777.25);
  std::int64_t rows, cols, stride;
  std::vector<T> values;

  Padded(std::int64_t rows_, std::int64_t cols_, std::uint64_t seed, std::int64_t gap = 3)
      : rows(rows_), cols(cols_), stride(cols_ + gap), values(static_cast<std::size_t>(rows_ * (cols_ + gap)), kMark) {
    std::mt19937_64 draw(seed);
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c) at(r, c) = static_cast<T>(uniform(draw));
  }
  T& at(std::int64_t r, std::int64_t c) { return values[static_cast<std::size_t>(r * stride + c)]; }
  T at(std::int64_t r, std::int64_t c) const { return values[static_cast<std::size_t>(r * stride + c)]; }
  MatrixView<T> view() { return {values.data(), rows, cols, stride}; }
  MatrixView<const T> view() const { return {values.data(), rows, cols, stride}; }
  bool gaps_intact() const {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = cols; c < stride; ++c)
        if (at(r, c) != kMark) return false;
    return true;
  }
};

struct Shape {
  std::int64_t m, n, k;
};

// The largest |computed - alpha op(A) op(B) - beta C| / (eps (|alpha| |A||B| + |beta C|)), in long double.
template <class T>
long double worst_error(const Padded<T>& a, Trans ta, const Padded<T>& b, Trans tb, double alpha, double beta,
                        const Padded<T>& before, const Padded<T>& after, std::int64_t k) {
  long double worst = 0;
  std::vector<long double> sum(static_cast<std::size_t>(after.cols)), size(sum.size());
  for (std::int64_t r = 0; r < after.rows; ++r) {
    for (std::int64_t c = 0; c < after.cols; ++c) {
      const long double old = beta == 0 ? 0 : static_cast<long double>(beta) * before.at(r, c);
      sum[static_cast<std::size_t>(c)] = old;
      size[static_cast<std::size_t>(c)] = std::abs(old);
    }
    for (std::int64_t t = 0; t < k; ++t) {
      const long double left = static_cast<long double>(alpha) * (ta == Trans::yes ? a.at(t, r) : a.at(r, t));
      for (std::int64_t c = 0; c < after.cols; ++c) {
        const long double term = left * (tb == Trans::yes ? b.at(c, t) : b.at(t, c));
        sum[static_cast<std::size_t>(c)] += term;
        size[static_cast<std::size_t>(c)] += std::abs(term);
      }
    }
    for (std::int64_t c = 0; c < after.cols; ++c) {
      const auto at = static_cast<std::size_t>(c);
      const long double error = std::abs(after.at(r, c) - sum[at]);
      if (!(error <= 0)) worst = std::max(worst, size[at] > 0 ? error / (kEps<T> * size[at]) : 1e30L);
      if (std::isnan(error)) return 1e30L;
    }
  }
  return worst;
}

template <class T>
class Products : public testing::Test {};
using Real = testing::Types<float, double>;
TYPED_TEST_SUITE(Products, Real);

TYPED_TEST(Products, GemmOfAllTransposesIsWithinItsBound) {
  using T = TypeParam;
  const Shape shapes[] = {{1, 1, 1},      {7, 129, 5},   {128, 127, 255}, {129, 257, 300}, {511, 33, 64},
                          {513, 130, 17}, {300, 770, 9}, {1, 600, 40},    {600, 1, 40}};
  std::uint64_t seed = 1;
  for (const Shape& s : shapes) {
    for (const Trans ta : {Trans::no, Trans::yes}) {
      for (const Trans tb : {Trans::no, Trans::yes}) {
        const bool at = ta == Trans::yes, bt = tb == Trans::yes;
        const Padded<T> a(at ? s.k : s.m, at ? s.m : s.k, seed++), b(bt ? s.n : s.k, bt ? s.k : s.n, seed++);
        const Padded<T> before(s.m, s.n, seed++);
        const double alpha = -1.5, beta = seed % 3 == 0 ? 0.0 : 0.75;
        Padded<T> after = before;
        if (beta == 0)
          for (std::int64_t r = 0; r < s.m; ++r) after.at(r, s.n - 1) = std::numeric_limits<T>::quiet_NaN();
        gramian::gemm<T>(cpu(3), ta, tb, alpha, a.view(), b.view(), beta, after.view());
        const long double worst = worst_error<T>(a, ta, b, tb, alpha, beta, before, after, s.k);
        EXPECT_LE(worst, static_cast<long double>(s.k + 3)) << s.m << 'x' << s.n << 'x' << s.k << ' ' << at << bt;
        EXPECT_TRUE(after.gaps_intact());
      }
    }
  }
}

TYPED_TEST(Products, TheErrorMeasureSeesAWrongEntry) {
  using T = TypeParam;
  const Padded<T> a(40, 30, 1), b(30, 50, 2), before(40, 50, 3);
  Padded<T> after = before;
  gramian::gemm<T>(cpu(1), Trans::no, Trans::no, 1.0, a.view(), b.view(), 1.0, after.view());
  after.at(39, 49) += static_cast<T>(1e-3);
  EXPECT_GT(worst_error<T>(a, Trans::no, b, Trans::no, 1.0, 1.0, before, after, 30), 33.0L);
}

TYPED_TEST(Products, GemmHasTheSameBitsForEveryThreadCount) {
  using T = TypeParam;
  const Padded<T> a(513, 129, 4), b(129, 300, 5);
  std::vector<T> first;
  for (int threads = 1; threads <= 4; ++threads) {
    Padded<T> c(513, 300, 6), f(513, 300, 7);
    gramian::gemm<T>(cpu(threads), Trans::no, Trans::no, 1.25, a.view(), b.view(), -0.5, c.view());
    gramian::gemm_activate<T>(cpu(threads), a.view(), b.view(), Activation::tanh, nullptr, 2.0, f.view());
    c.values.insert(c.values.end(), f.values.begin(), f.values.end());
    if (threads == 1) first = c.values;
    EXPECT_TRUE(same_bits(first, c.values)) << threads;
  }
}

TYPED_TEST(Products, GemmWithoutInnerSizeScalesAndWithoutOutputDoesNothing) {
  using T = TypeParam;
  const Padded<T> a(5, 0, 1), b(0, 4, 2);
  Padded<T> c(5, 4, 3);
  const Padded<T> before = c;
  gramian::gemm<T>(cpu(2), Trans::no, Trans::no, 1.0, a.view(), b.view(), 2.0, c.view());
  for (std::int64_t r = 0; r < 5; ++r)
    for (std::int64_t k = 0; k < 4; ++k) EXPECT_EQ(c.at(r, k), 2 * before.at(r, k));
  Padded<T> none(0, 4, 4);
  gramian::gemm<T>(cpu(2), Trans::no, Trans::no, 1.0, Padded<T>(0, 3, 1).view(), Padded<T>(3, 4, 2).view(), 0.0,
                   none.view());
}

TYPED_TEST(Products, ShapesThatDoNotFitAreRefused) {
  using T = TypeParam;
  Padded<T> c(4, 4, 1);
  expect_error(ErrorCode::shape_mismatch, "gemm", [&] {
    gramian::gemm<T>(cpu(1), Trans::no, Trans::no, 1.0, Padded<T>(4, 3, 1).view(), Padded<T>(2, 4, 2).view(), 0.0,
                     c.view());
  });
  expect_error(ErrorCode::shape_mismatch, "gemm_activate", [&] {
    gramian::gemm_activate<T>(cpu(1), Padded<T>(4, 3, 1).view(), Padded<T>(3, 5, 2).view(), Activation::relu, nullptr,
                              1.0, c.view());
  });
}

TYPED_TEST(Products, GemmActivateIsTheMapOfTheProduct) {
  using T = TypeParam;
  const std::int64_t m = 131, n = 530, k = 37;
  const Padded<T> a(m, k, 11), b(k, n, 12), shift(1, n, 13);
  for (const Activation f : {Activation::identity, Activation::relu, Activation::tanh, Activation::sigmoid,
                             Activation::cos, Activation::sign}) {
    for (const bool shifted : {false, true}) {
      Padded<T> out(m, n, 14);
      const double scale = shifted ? 0.5 : 1.0;
      gramian::gemm_activate<T>(cpu(2), a.view(), b.view(), f, shifted ? shift.values.data() : nullptr, scale,
                                out.view());
      EXPECT_TRUE(out.gaps_intact());
      long double worst = 0;
      for (std::int64_t r = 0; r < m; ++r) {
        for (std::int64_t c = 0; c < n; ++c) {
          long double x = shifted ? static_cast<long double>(shift.at(0, c)) : 0.0L, size = std::abs(x);
          for (std::int64_t t = 0; t < k; ++t) {
            const long double term = static_cast<long double>(a.at(r, t)) * b.at(t, c);
            x += term;
            size += std::abs(term);
          }
          const long double bound = static_cast<long double>(k + 12) * kEps<T> * (size + 1);
          if (f == Activation::sign && std::abs(x) <= bound) continue;
          worst = std::max(worst, std::abs(out.at(r, c) - scale * activation(f, x)) / bound);
        }
      }
      EXPECT_LE(worst, 1.0L) << static_cast<int>(f) << shifted;
    }
  }
}

template <class S, class D>
void check_axpby() {
  for (const std::int64_t rows : {1, 300}) {
    for (const std::int64_t cols : {1, 7, 257, 770}) {
      const Padded<S> src(rows, cols, 21);
      const Padded<D> before(rows, cols, 22);
      for (const double beta : {0.0, 1.0, -0.3}) {
        Padded<D> dst = before;
        if (beta == 0) dst.at(rows - 1, cols - 1) = std::numeric_limits<D>::quiet_NaN();
        gramian::axpby<S, D>(cpu(3), 1.7, src.view(), beta, dst.view());
        EXPECT_TRUE(dst.gaps_intact());
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t c = 0; c < cols; ++c) {
            const long double x = 1.7L * src.at(r, c),
                              y = beta == 0 ? 0 : static_cast<long double>(beta) * before.at(r, c);
            const long double bound = 2 * kEps<D> * (std::abs(x) + std::abs(y));
            ASSERT_LE(std::abs(dst.at(r, c) - (x + y)), bound) << rows << ' ' << cols << ' ' << beta;
          }
        }
      }
      Padded<D> zeroed = before;
      gramian::axpby<S, D>(cpu(2), 0.0, MatrixView<const S>(), 0.0, zeroed.view());
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < cols; ++c) ASSERT_EQ(zeroed.at(r, c), D(0));
    }
  }
}

TEST(Axpby, WithinAndAcrossPrecisions) {
  check_axpby<float, float>();
  check_axpby<float, double>();
  check_axpby<double, float>();
  check_axpby<double, double>();
}

// --- rows of every storage type

template <class S>
struct Stored {
  DType dtype;
  std::vector<S> values;
  std::vector<double> meant;
};

// Rows stored last to first and right to left, picked by an index, shifted and scaled.
template <class S, class T>
void check_storage(const Stored<S>& stored) {
  const std::int64_t rows = 401, cols = 131;  // more than one piece of work
  std::vector<S> data(static_cast<std::size_t>(rows * cols));
  std::vector<double> meant(data.size()), shift(static_cast<std::size_t>(cols)), scale(static_cast<std::size_t>(rows));
  std::mt19937_64 draw(5);
  for (std::size_t k = 0; k < data.size(); ++k) {
    const std::size_t pick = draw() % stored.values.size();
    data[k] = stored.values[pick];
    meant[k] = stored.meant[pick];
  }
  for (double& v : shift) v = static_cast<double>(draw() % 1000) / 7;
  for (double& v : scale) v = static_cast<double>(draw() % 1000) / 11;
  std::vector<std::int64_t> index(static_cast<std::size_t>(rows));
  for (auto& r : index) r = static_cast<std::int64_t>(draw() % static_cast<std::uint64_t>(rows));
  RowsView x;
  x.dtype = stored.dtype;
  x.rows = rows;
  x.cols = cols;
  x.data = data.data() + data.size() - 1;
  x.col_stride = -static_cast<std::int64_t>(sizeof(S));
  x.row_stride = cols * x.col_stride;
  for (const bool picked : {false, true}) {
    x.row_index = picked ? index.data() : nullptr;
    for (const bool moved : {false, true}) {
      Padded<T> out(rows, cols, 1);
      gramian::load_rows<T>(cpu(3), x, moved ? shift.data() : nullptr, moved ? scale.data() : nullptr, out.view(), "X");
      EXPECT_TRUE(out.gaps_intact());
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t source = picked ? index[static_cast<std::size_t>(r)] : r;
        for (std::int64_t c = 0; c < cols; ++c) {
          double value = meant[static_cast<std::size_t>((rows - 1 - source) * cols + cols - 1 - c)];
          if (moved) value = (value - shift[static_cast<std::size_t>(c)]) * scale[static_cast<std::size_t>(r)];
          ASSERT_EQ(out.at(r, c), static_cast<T>(value)) << gramian::name_of(stored.dtype) << r << ',' << c;
        }
      }
    }
  }
}

const Stored<std::uint16_t> kHalves{
    DType::f16,
    {0x0000, 0x3c00, 0xc000, 0x0001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x3555},
    {0.0, 1.0, -2.0, 0x1p-24, 1023 * 0x1p-24, 0x1p-14, 65504.0, -65504.0, 1365 * 0x1p-12}};

TYPED_TEST(Products, EveryNarrowStorageTypeIsWidenedExactly) {
  using T = TypeParam;
  check_storage<float, T>({DType::f32, {0.0f, 1.5f, -2.25f, 3e-30f, 1e30f}, {0.0, 1.5, -2.25, 3e-30f, 1e30f}});
  check_storage<double, T>({DType::f64, {0.0, 0.1, -2.7, 1e10, 1e-10}, {0.0, 0.1, -2.7, 1e10, 1e-10}});
  check_storage<std::uint16_t, T>(kHalves);
  check_storage<std::uint8_t, T>({DType::u8, {0, 1, 127, 128, 255}, {0, 1, 127, 128, 255}});
  check_storage<std::int16_t, T>({DType::i16, {0, -1, 32767, -32768}, {0, -1, 32767, -32768}});
  check_storage<std::uint8_t, T>({DType::boolean, {0, 1, 2, 255}, {0, 1, 1, 1}});
}

TEST(LoadRows, WideIntegersBecomeDoubles) {
  check_storage<std::int32_t, double>({DType::i32, {0, -1, 2147483647, -2147483647}, {0, -1, 2147483647, -2147483647}});
  check_storage<std::int64_t, double>(
      {DType::i64, {0, -1, std::int64_t{1} << 53, -(std::int64_t{1} << 53)}, {0, -1, 0x1p53, -0x1p53}});
}

TYPED_TEST(Products, TheFirstBadRowIsNamedWithItsArgument) {
  using T = TypeParam;
  const std::int64_t rows = 3000, cols = 40;
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY), -static_cast<double>(INFINITY)}) {
    Padded<double> x(rows, cols, 3);
    x.at(2977, 39) = bad;
    x.at(1733, 0) = bad;
    RowsView view = RowsView::dense<double>(x.view());
    view.first_row = 100000;
    Padded<T> out(rows, cols, 4);
    for (const int threads : {1, 4}) {
      expect_error(ErrorCode::non_finite, "features_x contains NaN or infinity, first in row 101733",
                   [&] { gramian::load_rows<T>(cpu(threads), view, nullptr, nullptr, out.view(), "features_x"); });
    }
  }
  std::vector<std::uint16_t> halves(30, 0x3c00);
  halves[25] = 0x7e00;
  RowsView view;
  view.dtype = DType::f16;
  view.rows = 10;
  view.cols = 3;
  view.data = halves.data();
  view.row_stride = 6;
  view.col_stride = 2;
  Padded<T> out(10, 3, 4);
  expect_error(ErrorCode::non_finite, "row 8",
               [&] { gramian::load_rows<T>(cpu(1), view, nullptr, nullptr, out.view(), "X"); });
}

template <class T, class I>
void check_csr() {
  const std::int64_t stored_rows = 900, cols = 61;
  std::vector<I> indptr{0}, indices;
  std::vector<float> values;
  std::vector<double> dense(static_cast<std::size_t>(stored_rows * cols), 0.0);
  std::mt19937_64 draw(9);
  for (std::int64_t r = 0; r < stored_rows; ++r) {
    const std::uint64_t count = r % 5 == 0 ? 0 : draw() % 12;
    for (std::uint64_t k = 0; k < count; ++k) {
      // Small integers: duplicates add up exactly in any order.
      const std::uint64_t c = draw() % static_cast<std::uint64_t>(cols);
      const float value = static_cast<float>(static_cast<int>(draw() % 64) - 32);
      indices.push_back(static_cast<I>(c));
      values.push_back(value);
      dense[static_cast<std::size_t>(r * cols) + c] += static_cast<double>(value);
    }
    indptr.push_back(static_cast<I>(indices.size()));
  }
  RowsView x = RowsView::csr(stored_rows, cols, indptr.data(), indices.data(), values.data());
  gramian::check_csr(x, static_cast<std::int64_t>(values.size()));
  std::vector<std::int64_t> index{7, 7, 899, 0, 5, 450};
  std::vector<double> shift(static_cast<std::size_t>(cols), 0.5), scale(static_cast<std::size_t>(stored_rows), 2.0);
  for (const bool picked : {false, true}) {
    x.row_index = picked ? index.data() : nullptr;
    x.rows = picked ? 6 : stored_rows;
    Padded<T> out(x.rows, cols, 1);
    gramian::load_rows<T>(cpu(3), x, shift.data(), scale.data(), out.view(), "X");
    EXPECT_TRUE(out.gaps_intact());
    for (std::int64_t r = 0; r < x.rows; ++r) {
      const std::int64_t source = picked ? index[static_cast<std::size_t>(r)] : r;
      for (std::int64_t c = 0; c < cols; ++c)
        ASSERT_EQ(out.at(r, c), static_cast<T>(2 * (dense[static_cast<std::size_t>(source * cols + c)] - 0.5)));
    }
  }
  x.row_index = nullptr;
  x.rows = stored_rows;
  values[static_cast<std::size_t>(indptr[801])] = std::numeric_limits<float>::infinity();
  Padded<T> out(x.rows, cols, 1);
  expect_error(ErrorCode::non_finite, "Y contains NaN or infinity, first in row 801",
               [&] { gramian::load_rows<T>(cpu(3), x, nullptr, nullptr, out.view(), "Y"); });
}

TYPED_TEST(Products, CsrRowsAreScatteredAndTheirDuplicatesAdded) {
  check_csr<TypeParam, std::int32_t>();
  check_csr<TypeParam, std::int64_t>();
}

TEST(LoadRows, ADestinationOfAnotherShapeIsRefused) {
  Padded<double> x(4, 3, 1), out(4, 4, 2);
  expect_error(ErrorCode::shape_mismatch, "load_rows", [&] {
    gramian::load_rows<double>(cpu(1), RowsView::dense<double>(x.view()), nullptr, nullptr, out.view(), "X");
  });
}

// --- column and class sums, rows, sparse products

TYPED_TEST(Products, ColumnAndClassSumsAreWeightedDoubleSums) {
  using T = TypeParam;
  const std::int64_t rows = 700, cols = 301, classes = 5;
  const Padded<T> x(rows, cols, 31);
  std::vector<double> weight;
  std::vector<std::int64_t> codes;
  for (std::int64_t r = 0; r < rows; ++r) {
    weight.push_back(static_cast<double>(r % 7) / 3);
    codes.push_back((r * r) % (classes - 1));  // the last class has no row
  }
  for (const std::vector<double>& w : {std::vector<double>(), weight}) {
    std::vector<double> first;
    for (int threads = 1; threads <= 4; ++threads) {
      std::vector<double> sums = gramian::column_sums<T>(cpu(threads), x.view(), w);
      std::vector<double> by_class(static_cast<std::size_t>(classes * cols), 0.25);
      gramian::class_sums<T>(cpu(threads), x.view(), codes.data(), w, {by_class.data(), classes, cols});
      for (std::int64_t c = 0; threads == 1 && c < cols; ++c) {
        std::vector<long double> part(static_cast<std::size_t>(classes), 0.25L);
        long double total = 0, size = 1;
        for (std::int64_t r = 0; r < rows; ++r) {
          const auto row = static_cast<std::size_t>(r);
          const long double term = (w.empty() ? 1.0L : w[row]) * static_cast<long double>(x.at(r, c));
          total += term;
          size += std::abs(term);
          part[static_cast<std::size_t>(codes[row])] += term;
        }
        const long double bound = static_cast<long double>(rows) * kEps<double> * size;
        ASSERT_LE(std::abs(sums[static_cast<std::size_t>(c)] - total), bound);
        for (std::int64_t k = 0; k < classes; ++k)
          ASSERT_LE(std::abs(by_class[static_cast<std::size_t>(k * cols + c)] - part[static_cast<std::size_t>(k)]),
                    bound);
      }
      sums.insert(sums.end(), by_class.begin(), by_class.end());
      if (threads == 1) first = sums;
      EXPECT_TRUE(same_bits(first, sums)) << threads;
    }
  }
}

TYPED_TEST(Products, RowAndColumnScalesAndRowNorms) {
  using T = TypeParam;
  const Padded<T> before(300, 257, 41), factors(1, 257, 42);
  std::vector<double> v(300);
  for (std::size_t r = 0; r < v.size(); ++r) v[r] = std::sin(static_cast<double>(r));
  Padded<T> x = before;
  gramian::scale_rows<T>(cpu(2), v, x.view());
  gramian::scale_columns<T>(cpu(2), factors.values.data(), x.view());
  std::vector<double> norms(300);
  gramian::row_sumsq<T>(cpu(2), before.view(), norms.data());
  EXPECT_TRUE(x.gaps_intact());
  for (std::int64_t r = 0; r < 300; ++r) {
    long double norm = 0;
    for (std::int64_t c = 0; c < 257; ++c) {
      const T scaled = static_cast<T>(before.at(r, c) * static_cast<T>(v[static_cast<std::size_t>(r)]));
      ASSERT_EQ(x.at(r, c), static_cast<T>(scaled * factors.at(0, c)));
      norm += static_cast<long double>(before.at(r, c)) * before.at(r, c);
    }
    ASSERT_NEAR(norms[static_cast<std::size_t>(r)], static_cast<double>(norm),
                257 * 2.3e-16 * static_cast<double>(norm));
  }
}

TYPED_TEST(Products, SparseMultiplyIsTheDenseProduct) {
  using T = TypeParam;
  const std::int64_t rows = 130, cols = 45, width = 270;
  std::vector<std::int64_t> indptr{0}, indices;
  std::vector<double> values;
  Padded<T> dense(rows, cols, 1);
  std::mt19937_64 draw(3);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) dense.at(r, c) = T(0);
    for (int k = 0; k < static_cast<int>(draw() % 9); ++k) {
      const auto c = static_cast<std::int64_t>(draw() % static_cast<std::uint64_t>(cols));
      const double value = static_cast<double>(draw() % 32) / 8;
      indices.push_back(c);
      values.push_back(value);
      dense.at(r, c) += static_cast<T>(value);
    }
    indptr.push_back(static_cast<std::int64_t>(indices.size()));
  }
  const RowsView x = RowsView::csr(rows, cols, indptr.data(), indices.data(), values.data());
  const Padded<T> b(cols, width, 2);
  std::vector<T> first;
  for (int threads = 1; threads <= 4; ++threads) {
    Padded<T> out(rows, width, 7);
    const Padded<T> before = out;
    gramian::sparse_multiply<T>(cpu(threads), x, b.view(), out.view());
    if (threads == 1) {
      EXPECT_LE(worst_error<T>(dense, Trans::no, b, Trans::no, 1.0, 0.0, before, out, cols), 20.0L);
      first = out.values;
    }
    EXPECT_TRUE(out.gaps_intact());
    EXPECT_TRUE(same_bits(first, out.values)) << threads;
  }
}

TYPED_TEST(Products, SquaresOfRowsAndTheirSum) {
  using T = TypeParam;
  const Padded<T> x(333, 17, 4);
  const std::vector<double> found = gramian::row_squares<T>(cpu(2), x.view());
  ASSERT_EQ(found.size(), 333u);
  double total = 0;
  for (std::int64_t r = 0; r < 333; ++r) {
    long double expected = 0;
    for (std::int64_t c = 0; c < 17; ++c) expected += static_cast<long double>(x.at(r, c)) * x.at(r, c);
    const double one = found[static_cast<std::size_t>(r)];
    EXPECT_NEAR(one, static_cast<double>(expected), static_cast<double>(20 * kEps<double> * expected));
    total += one;
  }
  EXPECT_EQ(gramian::sum_of_squares<T>(cpu(2), x.view()), total);
  EXPECT_TRUE(gramian::row_squares<T>(cpu(1), MatrixView<const T>(nullptr, 0, 5)).empty());
  EXPECT_EQ(gramian::sum_of_squares<T>(cpu(1), MatrixView<const T>(nullptr, 3, 0)), 0);
}

}  // namespace
