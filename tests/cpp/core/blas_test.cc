// What the BLAS provider promises beyond the products themselves, at sizes that reach OpenBLAS.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "backend/registry.h"

namespace {

constexpr std::int64_t kSize = 200;

const gramian_op_table* openblas() {
  for (const gramian_op_table* table : gramian::backend::all_tables()) {
    if (std::string(table->name) == "openblas") return table;
  }
  return nullptr;
}

template <class T>
class Blas : public testing::Test {
 protected:
  void SetUp() override {
    table_ = openblas();
    if (table_ == nullptr) GTEST_SKIP() << "built without OpenBLAS";
  }
  static constexpr int dtype() { return sizeof(T) == 4 ? GRAMIAN_F32 : GRAMIAN_F64; }

  // I + 1 / (1 + |r - c|), which is positive definite, in the lower triangle; a mark above it.
  static std::vector<T> matrix(std::int64_t n) {
    std::vector<T> a(static_cast<std::size_t>(n * n), kMark);
    for (std::int64_t r = 0; r < n; ++r) {
      for (std::int64_t c = 0; c <= r; ++c) {
        a[static_cast<std::size_t>(r * n + c)] = T(1) / static_cast<T>(1 + r - c) + static_cast<T>(r == c);
      }
    }
    return a;
  }
  static bool mark_is_left(const std::vector<T>& a, std::int64_t n) {
    for (std::int64_t r = 0; r < n; ++r) {
      for (std::int64_t c = r + 1; c < n; ++c) {
        if (a[static_cast<std::size_t>(r * n + c)] != kMark) return false;
      }
    }
    return true;
  }
  int potrf(std::vector<T>& a) const { return table_->potrf(nullptr, dtype(), kSize, a.data(), kSize); }

  static constexpr T kMark = T(-77);
  static constexpr T kNan = std::numeric_limits<T>::quiet_NaN();
  const gramian_op_table* table_ = nullptr;
};

using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Blas, Types);

TYPED_TEST(Blas, CholeskyLeavesTheUpperTriangle) {
  std::vector<TypeParam> a = this->matrix(kSize);
  EXPECT_EQ(this->potrf(a), 0);
  EXPECT_TRUE(this->mark_is_left(a, kSize));
}

TYPED_TEST(Blas, CholeskyNamesTheFirstBadPivot) {
  for (const std::int64_t bad : {0, 1, 77, 130, 199}) {
    for (const TypeParam value : {TypeParam(-1), TypeParam(0), this->kNan}) {
      std::vector<TypeParam> a = this->matrix(kSize);
      a[static_cast<std::size_t>(bad * (kSize + 1))] = value;
      EXPECT_EQ(this->potrf(a), bad + 1) << value;
      EXPECT_TRUE(this->mark_is_left(a, kSize));
    }
  }
  // A NaN beside the diagonal spoils the pivot of its row, before the negative one further down.
  std::vector<TypeParam> a = this->matrix(kSize);
  a[150 * kSize + 3] = this->kNan;
  a[160 * (kSize + 1)] = -1;
  EXPECT_EQ(this->potrf(a), 151);
}

TYPED_TEST(Blas, GramLeavesTheUpperTriangle) {
  const std::vector<TypeParam> a(static_cast<std::size_t>(kSize * kSize), TypeParam(1));
  std::vector<TypeParam> c = this->matrix(kSize);
  for (std::int64_t r = 0; r < kSize; ++r) c[static_cast<std::size_t>(r * kSize)] = this->kNan;
  EXPECT_EQ(this->table_->gram(nullptr, this->dtype(), 1, kSize, kSize, 1, a.data(), kSize, 0, c.data(), kSize), 0);
  EXPECT_TRUE(this->mark_is_left(c, kSize));
  EXPECT_EQ(c[199 * kSize], TypeParam(kSize));
}

TYPED_TEST(Blas, BetaZeroDoesNotReadTheOutput) {
  const std::vector<TypeParam> ones(static_cast<std::size_t>(kSize * kSize), TypeParam(1));
  const struct {
    std::int64_t m, n, k;
  } shapes[] = {{kSize, kSize, kSize}, {1, kSize, kSize}, {kSize, 1, kSize}, {kSize, kSize, 1}, {1, 1, kSize}};
  for (const auto& shape : shapes) {
    for (const int trans : {0, 1, 2, 3}) {
      std::vector<TypeParam> c(static_cast<std::size_t>(kSize * kSize), this->kNan);
      ASSERT_EQ(this->table_->gemm(nullptr, this->dtype(), trans & 1, trans >> 1, shape.m, shape.n, shape.k, 1,
                                   ones.data(), kSize, ones.data(), kSize, 0, c.data(), kSize),
                0);
      for (std::int64_t r = 0; r < shape.m; ++r) {
        for (std::int64_t j = 0; j < shape.n; ++j) {
          ASSERT_EQ(c[static_cast<std::size_t>(r * kSize + j)], TypeParam(shape.k));
        }
      }
      if (shape.m < kSize) {
        EXPECT_TRUE(std::isnan(c[static_cast<std::size_t>(shape.m * kSize)]));
      }
    }
  }
}

TYPED_TEST(Blas, EigenvectorsAreRows) {
  std::vector<TypeParam> a = this->matrix(kSize), w(kSize);
  const std::vector<TypeParam> before = a;
  ASSERT_EQ(this->table_->syevd(nullptr, this->dtype(), kSize, a.data(), kSize, w.data()), 0);
  const auto symmetric = [&before](std::int64_t r, std::int64_t c) {
    return double{before[static_cast<std::size_t>(r >= c ? r * kSize + c : c * kSize + r)]};
  };
  const double bound = 20 * kSize * double{std::numeric_limits<TypeParam>::epsilon()} * double{w[kSize - 1]};
  for (const std::int64_t i : {std::int64_t{0}, kSize / 2, kSize - 1}) {
    const TypeParam* v = &a[static_cast<std::size_t>(i * kSize)];
    double norm = 0, residual = 0;
    for (std::int64_t r = 0; r < kSize; ++r) {
      double image = 0;
      for (std::int64_t c = 0; c < kSize; ++c) image += symmetric(r, c) * double{v[c]};
      const double gap = image - double{w[static_cast<std::size_t>(i)]} * double{v[r]};
      residual += gap * gap;
      norm += double{v[r]} * double{v[r]};
    }
    EXPECT_LT(std::abs(norm - 1), bound);
    EXPECT_LT(std::sqrt(residual), bound);
    if (i > 0) {
      EXPECT_LE(w[static_cast<std::size_t>(i - 1)], w[static_cast<std::size_t>(i)]);
    }
  }
}

TYPED_TEST(Blas, EigenvaluesOfNanDoNotConverge) {
  std::vector<TypeParam> a = this->matrix(kSize), w(kSize);
  a[100 * kSize + 7] = this->kNan;
  EXPECT_EQ(this->table_->syevd(nullptr, this->dtype(), kSize, a.data(), kSize, w.data()),
            GRAMIAN_STATUS_NO_CONVERGENCE);
}

TYPED_TEST(Blas, RefusesOtherTypes) {
  TypeParam x = 0;
  EXPECT_EQ(this->table_->gemm(nullptr, GRAMIAN_I32, 0, 0, kSize, kSize, kSize, 1, &x, kSize, &x, kSize, 0, &x, kSize),
            GRAMIAN_STATUS_INVALID);
}

// More callers than OpenBLAS has buffers for: all must get through, with the right result.
TYPED_TEST(Blas, ManyCallersAtOnce) {
  const std::vector<TypeParam> ones(static_cast<std::size_t>(kSize * kSize), TypeParam(1));
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 200; ++t) {
    callers.emplace_back([&] {
      std::vector<TypeParam> c(static_cast<std::size_t>(kSize * kSize));
      const int status = this->table_->gemm(nullptr, this->dtype(), 0, 0, kSize, kSize, kSize, 1, ones.data(), kSize,
                                            ones.data(), kSize, 0, c.data(), kSize);
      for (const TypeParam value : c) {
        if (status != 0 || value != TypeParam(kSize)) wrong.fetch_add(1);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong.load(), 0);
}

}  // namespace
