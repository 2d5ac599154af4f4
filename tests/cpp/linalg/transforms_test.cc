#include "gramian/linalg/transforms.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/softmax.hpp"
#include "support/helpers.h"

namespace {

using gramian::ErrorCode;
using gramian::MatrixView;
using gramian::Softmax;
using gramian::SoftmaxOptions;
using testkit::cpu;
using testkit::expect_error;
using testkit::same_bits;

template <class T>
std::vector<T> draws(std::int64_t count, std::uint64_t seed, double reach = 1) {
  std::mt19937_64 draw(seed);
  std::uniform_real_distribution<double> uniform(-reach, reach);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = static_cast<T>(uniform(draw));
  return values;
}

template <class T>
std::vector<T> transposed(const std::vector<T>& x, std::int64_t rows, std::int64_t cols) {
  std::vector<T> out(x.size());
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c)
      out[static_cast<std::size_t>(c * rows + r)] = x[static_cast<std::size_t>(r * cols + c)];
  return out;
}

template <class T>
void columns_have_the_bits_of_rows() {
  const std::int64_t shapes[][2] = {{1, 3},    {8, 5},     {8, 300},      {1024, 70},
                                    {2048, 3}, {4096, 33}, {1 << 16, 40}, {1 << 16, 1}};
  for (const auto& shape : shapes) {
    const std::int64_t n = shape[0], cols = shape[1];
    const std::vector<T> x = draws<T>(n * cols, 7);
    std::vector<T> rows = transposed(x, n, cols);
    gramian::walsh_hadamard<T>(cpu(), 0.7, {rows.data(), cols, n});
    for (const int threads : {1, 2, 3}) {
      for (const std::int64_t gap : {0, 5}) {
        const std::int64_t stride = cols + gap;
        std::vector<T> wide(static_cast<std::size_t>(n * stride), static_cast<T>(-777));
        for (std::int64_t r = 0; r < n; ++r)
          for (std::int64_t c = 0; c < cols; ++c)
            wide[static_cast<std::size_t>(r * stride + c)] = x[static_cast<std::size_t>(r * cols + c)];
        gramian::walsh_hadamard_columns<T>(cpu(threads), 0.7, {wide.data(), n, cols, stride});
        std::vector<T> found;
        for (std::int64_t r = 0; r < n; ++r)
          for (std::int64_t c = 0; c < stride; ++c) {
            const T value = wide[static_cast<std::size_t>(r * stride + c)];
            if (c < cols) {
              found.push_back(value);
            } else {
              ASSERT_EQ(value, static_cast<T>(-777));
            }
          }
        EXPECT_TRUE(same_bits(transposed(found, n, cols), rows)) << n << " x " << cols << " gap " << gap;
      }
    }
  }
}

TEST(Transforms, columns_have_the_bits_of_rows) {
  columns_have_the_bits_of_rows<float>();
  columns_have_the_bits_of_rows<double>();
}

TEST(Transforms, runs_of_rows_are_transforms_of_their_own) {
  for (const std::int64_t n : {std::int64_t{4}, std::int64_t{64}, std::int64_t{4096}}) {
    const std::int64_t runs = 3, cols = 40;
    const std::vector<double> x = draws<double>(runs * n * cols, 3);
    std::vector<double> together = x, apart = x;
    gramian::walsh_hadamard_columns<double>(cpu(), 1.0, n, {together.data(), runs * n, cols});
    for (std::int64_t run = 0; run < runs; ++run)
      gramian::walsh_hadamard_columns<double>(cpu(), 1.0, {apart.data() + run * n * cols, n, cols});
    EXPECT_TRUE(same_bits(together, apart));
  }
}

TEST(Transforms, rows_into_another_matrix) {
  const std::int64_t rows = 700, n = 128;
  const std::vector<float> x = draws<float>(rows * n, 5);
  std::vector<float> in_place = x, out(x.size());
  gramian::walsh_hadamard_rows<float>(cpu(), 0.5, {in_place.data(), rows, n}, {in_place.data(), rows, n});
  gramian::walsh_hadamard_rows<float>(cpu(), 0.5, {x.data(), rows, n}, {out.data(), rows, n});
  EXPECT_TRUE(same_bits(in_place, out));
}

template <class T>
void signed_rows_have_the_bits_of_their_steps() {
  const std::int64_t shapes[][3] = {{1, 1, 1},        {5, 3, 4},        {40, 100, 128}, {16, 128, 60},
                                    {70, 1000, 1024}, {33, 3000, 4000}, {3, 8192, 8000}};
  for (const auto& shape : shapes) {
    const std::int64_t rows = shape[0], cols = shape[1], width = shape[2];
    std::int64_t n = 1;
    while (n < std::max(cols, width)) n *= 2;
    const std::vector<T> x = draws<T>(rows * cols, 13);
    std::vector<T> signs = draws<T>(3 * n, 17), work(static_cast<std::size_t>(rows * n)), want;
    for (T& sign : signs) sign = sign < 0 ? T(-1) : T(1);
    for (std::int64_t r = 0; r < rows; ++r) std::copy_n(x.data() + r * cols, cols, work.data() + r * n);
    for (std::int64_t stage = 0; stage < 3; ++stage) {
      for (std::int64_t k = 0; k < rows * n; ++k)
        work[static_cast<std::size_t>(k)] *= signs[static_cast<std::size_t>(stage * n + k % n)];
      gramian::walsh_hadamard<T>(cpu(), stage == 2 ? 0.7 : 1.0, {work.data(), rows, n});
    }
    for (std::int64_t r = 0; r < rows; ++r) want.insert(want.end(), work.data() + r * n, work.data() + r * n + width);
    for (const int threads : {1, 3}) {
      std::vector<T> out(static_cast<std::size_t>(rows * width));
      gramian::signed_hadamard_rows<T>(cpu(threads), 0.7, {signs.data(), 3, n}, {x.data(), rows, cols},
                                       {out.data(), rows, width});
      EXPECT_TRUE(same_bits(out, want)) << rows << " x " << cols << " -> " << width;
    }
  }
}

TEST(Transforms, signed_rows_have_the_bits_of_their_steps) {
  signed_rows_have_the_bits_of_their_steps<float>();
  signed_rows_have_the_bits_of_their_steps<double>();
}

TEST(Transforms, refuse_what_they_cannot_do) {
  std::vector<double> x(24);
  expect_error(ErrorCode::invalid_argument, "power of two, got 6", [&] {
    gramian::walsh_hadamard_columns<double>(cpu(), 1.0, {x.data(), 6, 4});
  });
  expect_error(ErrorCode::shape_mismatch, "6 rows are not a multiple", [&] {
    gramian::walsh_hadamard_columns<double>(cpu(), 1.0, 4, {x.data(), 6, 4});
  });
  expect_error(ErrorCode::invalid_argument, "power of two, got 3", [&] {
    gramian::walsh_hadamard_rows<double>(cpu(), 1.0, {x.data(), 8, 3}, {x.data(), 8, 3});
  });
  std::vector<double> out(24);
  expect_error(ErrorCode::shape_mismatch, "signed_hadamard_rows", [&] {
    gramian::signed_hadamard_rows<double>(cpu(), 1.0, {x.data(), 1, 4}, {x.data(), 3, 8}, {out.data(), 3, 4});
  });
}

template <class T>
std::vector<T> softmax_of(int threads, Softmax what, const SoftmaxOptions& options, const std::vector<T>& x,
                          std::int64_t rows, std::int64_t cols) {
  const std::int64_t width = what == Softmax::log_sum ? 1 : cols;
  std::vector<T> out(static_cast<std::size_t>(rows * width));
  gramian::softmax_rows<T>(cpu(threads), what, options, {x.data(), rows, cols}, {out.data(), rows, width});
  return out;
}

template <class T>
void two_passes_agree_with_three() {
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  for (const std::int64_t cols : {std::int64_t{1}, std::int64_t{100}, std::int64_t{70000}, std::int64_t{300001}}) {
    const std::vector<T> x = draws<T>(2 * cols, 11, 30);
    SoftmaxOptions options;
    options.scale = 0.5;
    for (const Softmax what : {Softmax::probabilities, Softmax::logarithms, Softmax::log_sum}) {
      options.passes = 3;
      const std::vector<T> three = softmax_of<T>(2, what, options, x, 2, cols);
      options.passes = 2;
      const std::vector<T> two = softmax_of<T>(1, what, options, x, 2, cols);
      EXPECT_TRUE(same_bits(two, softmax_of<T>(3, what, options, x, 2, cols)));
      for (std::size_t k = 0; k < two.size(); ++k) {
        const double a = static_cast<double>(two[k]), b = static_cast<double>(three[k]);
        const double bound =
            what == Softmax::probabilities ? eps * (2 * 30 + 24) * b : eps * (2 * 30 + 24 + std::fabs(b));
        ASSERT_NEAR(a, b, bound) << cols << " column " << k;
      }
    }
  }
}

TEST(SoftmaxOfRows, two_passes_agree_with_three) {
  two_passes_agree_with_three<float>();
  two_passes_agree_with_three<double>();
}

TEST(SoftmaxOfRows, a_hot_and_a_cold_scale) {
  const std::vector<double> x = {1, 2, 2, -5};
  SoftmaxOptions options;
  options.scale = std::numeric_limits<double>::infinity();
  EXPECT_EQ(softmax_of<double>(1, Softmax::probabilities, options, x, 1, 4), (std::vector<double>{0, 0.5, 0.5, 0}));
  options.scale = std::numeric_limits<double>::min();
  EXPECT_EQ(softmax_of<double>(1, Softmax::probabilities, options, x, 1, 4), std::vector<double>(4, 0.25));
}

TEST(SoftmaxOfColumns, runs_and_rows_agree) {
  const std::int64_t runs = 3, n = 37, cols = 130;
  const std::vector<double> x = draws<double>(runs * n * cols, 13, 5);
  std::vector<double> out(x.size()), sums(static_cast<std::size_t>(runs * cols));
  gramian::softmax_columns<double>(cpu(), Softmax::probabilities, {}, n, {x.data(), runs * n, cols},
                                   {out.data(), runs * n, cols});
  gramian::softmax_columns<double>(cpu(), Softmax::log_sum, {}, n, {x.data(), runs * n, cols},
                                   {sums.data(), runs, cols});
  for (std::int64_t run = 0; run < runs; ++run) {
    const auto begin = static_cast<std::ptrdiff_t>(run * n * cols);
    const std::vector<double> part(x.begin() + begin, x.begin() + begin + n * cols);
    const std::vector<double> rows = transposed(part, n, cols);
    const std::vector<double> expected =
        transposed(softmax_of<double>(1, Softmax::probabilities, {}, rows, cols, n), cols, n);
    for (std::size_t k = 0; k < expected.size(); ++k)
      ASSERT_NEAR(out[static_cast<std::size_t>(begin) + k], expected[k], 40 * 2.3e-16 * expected[k]);
    const std::vector<double> logs = softmax_of<double>(1, Softmax::log_sum, {}, rows, cols, n);
    for (std::size_t k = 0; k < logs.size(); ++k)
      ASSERT_NEAR(sums[static_cast<std::size_t>(run * cols) + k], logs[k], 40 * 2.3e-16 * 10);
  }
}

TEST(SoftmaxOfRows, refuses_what_does_not_fit) {
  std::vector<double> x(12), out(12);
  const MatrixView<const double> rows(x.data(), 3, 4);
  expect_error(ErrorCode::shape_mismatch, "does not fit", [&] {
    gramian::softmax_rows<double>(cpu(), Softmax::log_sum, {}, rows, {out.data(), 3, 4});
  });
  SoftmaxOptions options;
  options.scale = 0;
  expect_error(ErrorCode::invalid_argument, "scale must be", [&] {
    gramian::softmax_rows<double>(cpu(), Softmax::probabilities, options, rows, {out.data(), 3, 4});
  });
  options = {};
  options.passes = 1;
  expect_error(ErrorCode::invalid_argument, "passes must be", [&] {
    gramian::softmax_rows<double>(cpu(), Softmax::probabilities, options, rows, {out.data(), 3, 4});
  });
  expect_error(ErrorCode::shape_mismatch, "multiple of the length", [&] {
    gramian::softmax_columns<double>(cpu(), Softmax::probabilities, {}, 2, rows, {out.data(), 3, 4});
  });
}

}  // namespace
