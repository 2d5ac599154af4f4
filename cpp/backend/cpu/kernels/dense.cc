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
    const ConstView<T> left = trans_a ? const_view<T>(a, k, m, lda) : const_view<T>(a, m, k, lda);
    const ConstView<T> right = trans_b ? const_view<T>(b, n, k, ldb) : const_view<T>(b, k, n, ldb);
    if (trans_a && trans_b) {
      out.noalias() += factor * left.transpose() * right.transpose();
    } else if (trans_a) {
      out.noalias() += factor * left.transpose() * right;
    } else if (trans_b) {
      out.noalias() += factor * left * right.transpose();
    } else {
      out.noalias() += factor * left * right;
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
