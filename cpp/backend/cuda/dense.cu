// Dense products by cuBLAS. cuBLAS is column-major: a row-major matrix handed to it is its transpose, so the operands
// of a product swap places and "lower" becomes "upper". The 64-bit interface is used throughout.
#include "cuda_common.h"

namespace gramian_cuda {
namespace {

cublasStatus_t call_gemm(cublasHandle_t handle, cublasOperation_t trans_a, cublasOperation_t trans_b, int64_t m,
                         int64_t n, int64_t k, double alpha, const float* a, int64_t lda, const float* b, int64_t ldb,
                         double beta, float* c, int64_t ldc) {
  const float alpha_f = static_cast<float>(alpha), beta_f = static_cast<float>(beta);
  return cublasSgemm_v2_64(handle, trans_a, trans_b, m, n, k, &alpha_f, a, lda, b, ldb, &beta_f, c, ldc);
}

cublasStatus_t call_gemm(cublasHandle_t handle, cublasOperation_t trans_a, cublasOperation_t trans_b, int64_t m,
                         int64_t n, int64_t k, double alpha, const double* a, int64_t lda, const double* b, int64_t ldb,
                         double beta, double* c, int64_t ldc) {
  return cublasDgemm_v2_64(handle, trans_a, trans_b, m, n, k, &alpha, a, lda, b, ldb, &beta, c, ldc);
}

cublasStatus_t call_syrk(cublasHandle_t handle, cublasOperation_t trans, int64_t n, int64_t k, double alpha,
                         const float* a, int64_t lda, double beta, float* c, int64_t ldc) {
  const float alpha_f = static_cast<float>(alpha), beta_f = static_cast<float>(beta);
  return cublasSsyrk_v2_64(handle, CUBLAS_FILL_MODE_UPPER, trans, n, k, &alpha_f, a, lda, &beta_f, c, ldc);
}

cublasStatus_t call_syrk(cublasHandle_t handle, cublasOperation_t trans, int64_t n, int64_t k, double alpha,
                         const double* a, int64_t lda, double beta, double* c, int64_t ldc) {
  return cublasDsyrk_v2_64(handle, CUBLAS_FILL_MODE_UPPER, trans, n, k, &alpha, a, lda, &beta, c, ldc);
}

/* c = beta * c on the whole matrix or its lower triangle; beta == 0 does not read c. */
template <class T>
__global__ void scale_product_kernel(int64_t rows, int64_t cols, bool lower_only, T beta, T* c, int64_t ldc) {
  for (int64_t r = first_y(); r < rows; r += step_y()) {
    const int64_t end = lower_only && r + 1 < cols ? r + 1 : cols;
    for (int64_t i = first_x(); i < end; i += step_x()) {
      T& entry = c[r * ldc + i];
      entry = beta == T(0) ? T(0) : beta * entry;
    }
  }
}

/* A product without terms (k == 0 or alpha == 0), where A and B may have no memory at all. */
template <class T>
int scale_product(State& state, int64_t rows, int64_t cols, bool lower_only, double beta, T* c, int64_t ldc) {
  const Shape shape = matrix_shape(rows, cols);
  scale_product_kernel<<<shape.grid, shape.block, 0, state.stream>>>(rows, cols, lower_only, static_cast<T>(beta), c,
                                                                     ldc);
  return launched("scale_product");
}

}  // namespace

int gemm(gramian_context* context, int dtype, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, double alpha,
         const void* a, int64_t lda, const void* b, int64_t ldb, double beta, void* c, int64_t ldc) {
  return guarded(context, [&](State& state) {
    if (m < 0 || n < 0 || k < 0) return invalid("gemm: a negative size");
    if (m == 0 || n == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      if (k == 0 || alpha == 0) return scale_product(state, m, n, false, beta, static_cast<T*>(c), ldc);
      // C' (n x m, column-major) = op(B)' op(A)', and the memory of B read by columns is B'.
      return submitted(
          call_gemm(state.blas, trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, n, m, k,
                    alpha, static_cast<const T*>(b), ldb, static_cast<const T*>(a), lda, beta, static_cast<T*>(c), ldc),
          "cublas gemm");
    });
  });
}

int gram(gramian_context* context, int dtype, int trans, int64_t n, int64_t k, double alpha, const void* a, int64_t lda,
         double beta, void* c, int64_t ldc) {
  return guarded(context, [&](State& state) {
    if (n < 0 || k < 0) return invalid("gram: a negative size");
    if (n == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      if (k == 0 || alpha == 0) return scale_product(state, n, n, true, beta, static_cast<T*>(c), ldc);
      // The memory of A (k x n) read by columns is A' (n x k): A' A is the untransposed product there.
      return submitted(call_syrk(state.blas, trans ? CUBLAS_OP_N : CUBLAS_OP_T, n, k, alpha, static_cast<const T*>(a),
                                 lda, beta, static_cast<T*>(c), ldc),
                       "cublas syrk");
    });
  });
}

}  // namespace gramian_cuda
