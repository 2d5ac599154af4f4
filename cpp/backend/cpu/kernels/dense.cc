/* Dense products and triangular solves on Eigen's blocked kernels; what reading one matrix bounds on our own. */
#include "eigen_views.h"
#include "thin_product.h"
#include "thin_solve.h"

namespace {

template <class T>
void scale_output(View<T> c, T beta) {
  if (beta == T(0)) {
    c.setZero();
  } else if (beta != T(1)) {
    c *= beta;
  }
}

/* C += alpha A B by Eigen's blocked kernel itself: its product expressions would compile every path for vectors and
 * small matrices beside it, twice for each pair of orders. A transposed row-major matrix is a column-major one. */
template <class T, int left_order, int right_order>
void add_product(int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
                 int64_t ldc) {
  using Eigen::Dynamic;
  Eigen::internal::gemm_blocking_space<Eigen::RowMajor, T, T, Dynamic, Dynamic, Dynamic> blocking(m, n, k, 1, true);
  Eigen::internal::general_matrix_matrix_product<Eigen::Index, T, left_order, false, T, right_order, false,
                                                 Eigen::RowMajor, 1>::run(m, n, k, a, lda, b, ldb, c, 1, ldc, alpha,
                                                                          blocking);
}

int gemm(gramian_context*, int dtype, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, double alpha,
         const void* a, int64_t lda, const void* b, int64_t ldb, double beta, void* c, int64_t ldc) {
  return guarded(dtype, [&](auto zero) {
    using T = decltype(zero);
    const T factor = static_cast<T>(alpha);
    View<T> out = view<T>(c, m, n, ldc);
    scale_output<T>(out, static_cast<T>(beta));
    if (m == 0 || n == 0 || k == 0 || alpha == 0) return GRAMIAN_STATUS_OK;
    if (n <= kThinColumns) {
      thin_product<T>(trans_a, trans_b, m, n, k, factor, static_cast<const T*>(a), lda, static_cast<const T*>(b), ldb,
                      static_cast<T*>(c), ldc);
      return GRAMIAN_STATUS_OK;
    }
    if (k <= kFewTerms && !trans_b) {
      few_terms<T>(trans_a, false, m, n, k, factor, static_cast<const T*>(a), lda, static_cast<const T*>(b), ldb,
                   static_cast<T*>(c), ldc);
      return GRAMIAN_STATUS_OK;
    }
    const T *const left = static_cast<const T*>(a), *const right = static_cast<const T*>(b);
    if (m == 1) {  // C' = B'A', one column
      thin_product<T>(!trans_b, 0, n, 1, k, factor, right, ldb, left, trans_a ? lda : 1, static_cast<T*>(c), 1);
      return GRAMIAN_STATUS_OK;
    }
    T* const sum = static_cast<T*>(c);
    if (trans_a && trans_b) {
      add_product<T, Eigen::ColMajor, Eigen::ColMajor>(m, n, k, factor, left, lda, right, ldb, sum, ldc);
    } else if (trans_a) {
      add_product<T, Eigen::ColMajor, Eigen::RowMajor>(m, n, k, factor, left, lda, right, ldb, sum, ldc);
    } else if (trans_b) {
      add_product<T, Eigen::RowMajor, Eigen::ColMajor>(m, n, k, factor, left, lda, right, ldb, sum, ldc);
    } else {
      add_product<T, Eigen::RowMajor, Eigen::RowMajor>(m, n, k, factor, left, lda, right, ldb, sum, ldc);
    }
    return GRAMIAN_STATUS_OK;
  });
}

int gram(gramian_context*, int dtype, int trans, int64_t n, int64_t k, double alpha, const void* a, int64_t lda,
         double beta, void* c, int64_t ldc) {
  return guarded(dtype, [&](auto zero) {
    using T = decltype(zero);
    View<T> out = view<T>(c, n, n, ldc);
    for (int64_t row = 0; row < n; ++row) {
      scale_output<T>(view<T>(&out.coeffRef(row, 0), 1, row + 1, ldc), static_cast<T>(beta));
    }
    if (n == 0 || k == 0 || alpha == 0) return GRAMIAN_STATUS_OK;
    if (k <= kFewTerms && trans) {
      const T* const rows = static_cast<const T*>(a);
      few_terms<T>(1, true, n, n, k, static_cast<T>(alpha), rows, lda, rows, lda, static_cast<T*>(c), ldc);
      return GRAMIAN_STATUS_OK;
    }
    auto lower = out.template selfadjointView<Eigen::Lower>();
    if (trans) {
      lower.rankUpdate(const_view<T>(a, k, n, lda).transpose(), static_cast<T>(alpha));
    } else {
      lower.rankUpdate(const_view<T>(a, n, k, lda), static_cast<T>(alpha));
    }
    return GRAMIAN_STATUS_OK;
  });
}

int trsm(gramian_context*, int dtype, int side, int trans, int64_t m, int64_t n, const void* l, int64_t ldl, void* b,
         int64_t ldb) {
  return guarded(dtype, [&](auto zero) {
    using T = decltype(zero);
    if (m == 0 || n == 0) return GRAMIAN_STATUS_OK;
    if (side == GRAMIAN_LEFT && m <= kThinOrder && n <= kThinColumns) {
      thin_solve<T>(trans, m, n, static_cast<const T*>(l), ldl, static_cast<T*>(b), ldb);
      return GRAMIAN_STATUS_OK;
    }
    const int64_t order = side == GRAMIAN_LEFT ? m : n;
    const ConstView<T> factor = const_view<T>(l, order, order, ldl);
    View<T> x = view<T>(b, m, n, ldb);
    const auto lower = factor.template triangularView<Eigen::Lower>();
    const auto upper = factor.transpose().template triangularView<Eigen::Upper>();
    if (side == GRAMIAN_LEFT) {
      if (trans) {
        upper.template solveInPlace<Eigen::OnTheLeft>(x);
      } else {
        lower.template solveInPlace<Eigen::OnTheLeft>(x);
      }
    } else {
      if (trans) {
        upper.template solveInPlace<Eigen::OnTheRight>(x);
      } else {
        lower.template solveInPlace<Eigen::OnTheRight>(x);
      }
    }
    return GRAMIAN_STATUS_OK;
  });
}

}  // namespace

GRAMIAN_FILL_FUNCTION(dense) {
  table->gemm = gemm;
  table->gram = gram;
  table->trsm = trsm;
}
