// QR and the singular value decomposition by cuSOLVER, which knows column-major matrices only. A row-major matrix is
// the transpose of a column-major one, and R of A is not L of A', so matrices are turned around in scratch memory.
#include <limits.h>
#include <stdlib.h>

#include <memory>

#include "cuda_common.h"

namespace gramian_cuda {
namespace {

cudaDataType vendor_type(float) {
  return CUDA_R_32F;
}
cudaDataType vendor_type(double) {
  return CUDA_R_64F;
}

cublasStatus_t call_geam(cublasHandle_t handle, int64_t rows, int64_t cols, const float* from, int64_t ld_from,
                         float* to, int64_t ld_to) {
  const float one = 1, zero = 0;
  return cublasSgeam_64(handle, CUBLAS_OP_T, CUBLAS_OP_N, rows, cols, &one, from, ld_from, &zero, to, ld_to, to, ld_to);
}

cublasStatus_t call_geam(cublasHandle_t handle, int64_t rows, int64_t cols, const double* from, int64_t ld_from,
                         double* to, int64_t ld_to) {
  const double one = 1, zero = 0;
  return cublasDgeam_64(handle, CUBLAS_OP_T, CUBLAS_OP_N, rows, cols, &one, from, ld_from, &zero, to, ld_to, to, ld_to);
}

/* to[c, r] = from[r, c], both row-major. */
template <class T>
int transpose(State& state, int64_t rows, int64_t cols, const T* from, int64_t ld_from, T* to, int64_t ld_to) {
  // Read by columns, `to` is rows x cols and `from` cols x rows.
  return submitted(call_geam(state.blas, rows, cols, from, ld_from, to, ld_to), "cublas geam");
}

cusolverStatus_t ormqr_size(cusolverDnHandle_t handle, cublasOperation_t trans, int m, int n, int k, const float* a,
                            int lda, const float* tau, const float* c, int ldc, int* size) {
  return cusolverDnSormqr_bufferSize(handle, CUBLAS_SIDE_RIGHT, trans, m, n, k, a, lda, tau, c, ldc, size);
}
cusolverStatus_t ormqr_size(cusolverDnHandle_t handle, cublasOperation_t trans, int m, int n, int k, const double* a,
                            int lda, const double* tau, const double* c, int ldc, int* size) {
  return cusolverDnDormqr_bufferSize(handle, CUBLAS_SIDE_RIGHT, trans, m, n, k, a, lda, tau, c, ldc, size);
}
cusolverStatus_t call_ormqr(cusolverDnHandle_t handle, cublasOperation_t trans, int m, int n, int k, const float* a,
                            int lda, const float* tau, float* c, int ldc, float* work, int size, int* info) {
  return cusolverDnSormqr(handle, CUBLAS_SIDE_RIGHT, trans, m, n, k, a, lda, tau, c, ldc, work, size, info);
}
cusolverStatus_t call_ormqr(cusolverDnHandle_t handle, cublasOperation_t trans, int m, int n, int k, const double* a,
                            int lda, const double* tau, double* c, int ldc, double* work, int size, int* info) {
  return cusolverDnDormqr(handle, CUBLAS_SIDE_RIGHT, trans, m, n, k, a, lda, tau, c, ldc, work, size, info);
}

/* *answer = 0 where an entry is NaN or infinite. */
template <class T>
__global__ void find_non_finite_kernel(int64_t rows, int64_t cols, const T* a, int64_t lda, int64_t* answer) {
  for (int64_t r = first_y(); r < rows; r += step_y()) {
    for (int64_t c = first_x(); c < cols; c += step_x()) {
      if (!isfinite(a[r * lda + c])) lower_word(answer, 0);
    }
  }
}

struct HostFree {
  void operator()(void* pointer) const { ::free(pointer); }
};
using HostScratch = std::unique_ptr<void, HostFree>;

int make_host(size_t bytes, HostScratch& host) {
  host.reset(bytes > 0 ? malloc(bytes) : nullptr);
  if (bytes == 0 || host != nullptr) return kOk;
  return failed(GRAMIAN_STATUS_NO_MEMORY, "cusolver", "no host memory for a workspace");
}

int check_info(State& state, const char* what, int status_if_positive) {
  int info = 0;
  GRAMIAN_CUDA_TRY(read_word(state, state.solver_info, &info, sizeof info));
  if (info < 0) return failed(GRAMIAN_STATUS_BACKEND, what, "the library refused an argument");
  return info > 0 ? failed(status_if_positive, what, "the iteration did not converge") : kOk;
}

/* Elements of T, rounded up so that what follows is aligned to 256 bytes. */
template <class T>
int64_t padded(int64_t elements) {
  const int64_t unit = 256 / static_cast<int64_t>(sizeof(T));
  return (elements + unit - 1) / unit * unit;
}

template <class T>
int geqrf_typed(State& state, int64_t m, int64_t n, T* a, int64_t lda, T* tau) {
  const cudaDataType type = vendor_type(T{});
  size_t device_bytes = 0, host_bytes = 0;
  // The sizes do not depend on the addresses.
  GRAMIAN_CUDA_TRY(check(cusolverDnXgeqrf_bufferSize(state.solver, state.solver_params, m, n, type, a, m, type, tau,
                                                     type, &device_bytes, &host_bytes),
                         "cusolver geqrf workspace"));
  HostScratch host;
  GRAMIAN_CUDA_TRY(make_host(host_bytes, host));
  const int64_t turned_size = padded<T>(m * n);
  void* scratch = nullptr;
  GRAMIAN_CUDA_TRY(workspace(state, static_cast<size_t>(turned_size) * sizeof(T) + device_bytes, &scratch));
  T* const turned = static_cast<T*>(scratch);
  GRAMIAN_CUDA_TRY(transpose(state, m, n, a, lda, turned, m));
  GRAMIAN_CUDA_TRY(
      submitted(cusolverDnXgeqrf(state.solver, state.solver_params, m, n, type, turned, m, type, tau, type,
                                 turned + turned_size, device_bytes, host.get(), host_bytes, state.solver_info),
                "cusolver geqrf"));
  GRAMIAN_CUDA_TRY(transpose(state, n, m, turned, m, a, lda));
  return check_info(state, "cusolver geqrf", GRAMIAN_STATUS_BACKEND);
}

template <class T>
int ormqr_typed(State& state, int trans, int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* tau, T* c,
                int64_t ldc) {
  if (m > INT_MAX || n > INT_MAX || ldc > INT_MAX) {
    return failed(GRAMIAN_STATUS_UNSUPPORTED, "cusolver ormqr", "sizes beyond 32 bits");
  }
  const int rows = static_cast<int>(m), cols = static_cast<int>(n), count = static_cast<int>(k);
  const int stride = static_cast<int>(ldc);
  // Read by columns, C is C' (n x m), and op(Q) C becomes C' op(Q)'.
  const cublasOperation_t flipped = trans ? CUBLAS_OP_N : CUBLAS_OP_T;
  int size = 0;
  GRAMIAN_CUDA_TRY(check(ormqr_size(state.solver, flipped, cols, rows, count, a, rows, tau, c, stride, &size),
                         "cusolver ormqr workspace"));
  const int64_t turned_size = padded<T>(m * k);
  void* scratch = nullptr;
  GRAMIAN_CUDA_TRY(workspace(state, static_cast<size_t>(turned_size + size) * sizeof(T), &scratch));
  T* const turned = static_cast<T*>(scratch);
  GRAMIAN_CUDA_TRY(transpose(state, m, k, a, lda, turned, m));
  GRAMIAN_CUDA_TRY(submitted(call_ormqr(state.solver, flipped, cols, rows, count, turned, rows, tau, c, stride,
                                        turned + turned_size, size, state.solver_info),
                             "cusolver ormqr"));
  return check_info(state, "cusolver ormqr", GRAMIAN_STATUS_BACKEND);
}

template <class T>
int gesvd_typed(State& state, int64_t m, int64_t n, T* a, int64_t lda, T* s, T* u, int64_t ldu, T* vt, int64_t ldvt) {
  // The library's answer to NaN is not documented; such a matrix never reaches it.
  GRAMIAN_CUDA_TRY(reset_answer(state));
  const Shape shape = matrix_shape(m, n);
  find_non_finite_kernel<<<shape.grid, shape.block, 0, state.stream>>>(m, n, a, lda, state.answer);
  GRAMIAN_CUDA_TRY(launched("find_non_finite"));
  int64_t found = kNone;
  GRAMIAN_CUDA_TRY(read_word(state, state.answer, &found, sizeof found));
  if (found != kNone) return failed(GRAMIAN_STATUS_NO_CONVERGENCE, "gesvd", "the matrix holds a NaN or an infinity");

  const cudaDataType type = vendor_type(T{});
  // cuSOLVER wants at least as many rows as columns. A wide A is, read by columns, tall as it stands (A' = V S U');
  // a tall one is turned around first, and so are its vectors afterwards.
  const bool tall = m > n;
  const int64_t rows = tall ? m : n, cols = tall ? n : m;
  const int64_t a_size = tall ? padded<T>(m * n) : 0, left_size = tall ? padded<T>(rows * cols) : 0;
  const int64_t right_size = tall ? padded<T>(cols * cols) : 0, turned_size = a_size + left_size + right_size;
  size_t device_bytes = 0, host_bytes = 0;
  GRAMIAN_CUDA_TRY(check(cusolverDnXgesvd_bufferSize(state.solver, state.solver_params, 'S', 'S', rows, cols, type, a,
                                                     tall ? rows : lda, type, s, type, vt, tall ? rows : ldvt, type, u,
                                                     tall ? cols : ldu, type, &device_bytes, &host_bytes),
                         "cusolver gesvd workspace"));
  HostScratch host;
  GRAMIAN_CUDA_TRY(make_host(host_bytes, host));
  void* scratch = nullptr;
  GRAMIAN_CUDA_TRY(workspace(state, static_cast<size_t>(turned_size) * sizeof(T) + device_bytes, &scratch));
  T* const turned = static_cast<T*>(scratch);
  T* const left = tall ? turned + a_size : vt;
  T* const right = tall ? turned + a_size + left_size : u;
  const int64_t ld_left = tall ? rows : ldvt, ld_right = tall ? cols : ldu;
  if (tall) GRAMIAN_CUDA_TRY(transpose(state, m, n, a, lda, turned, rows));
  GRAMIAN_CUDA_TRY(
      submitted(cusolverDnXgesvd(state.solver, state.solver_params, 'S', 'S', rows, cols, type, tall ? turned : a,
                                 tall ? rows : lda, type, s, type, left, ld_left, type, right, ld_right, type,
                                 turned + turned_size, device_bytes, host.get(), host_bytes, state.solver_info),
                "cusolver gesvd"));
  if (tall) {
    // By rows, `left` is U' (n x m) and `right` is V (n x n).
    GRAMIAN_CUDA_TRY(transpose(state, cols, rows, left, ld_left, u, ldu));
    GRAMIAN_CUDA_TRY(transpose(state, cols, cols, right, ld_right, vt, ldvt));
  }
  return check_info(state, "cusolver gesvd", GRAMIAN_STATUS_NO_CONVERGENCE);
}

}  // namespace

int geqrf(gramian_context* context, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* tau) {
  return guarded(context, [&](State& state) {
    if (m < 0 || n < 0) return invalid("geqrf: a negative size");
    if (m == 0 || n == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      return geqrf_typed(state, m, n, static_cast<T*>(a), lda, static_cast<T*>(tau));
    });
  });
}

int ormqr(gramian_context* context, int dtype, int trans, int64_t m, int64_t n, int64_t k, const void* a, int64_t lda,
          const void* tau, void* c, int64_t ldc) {
  return guarded(context, [&](State& state) {
    if (m < 0 || n < 0 || k < 0) return invalid("ormqr: a negative size");
    if (k > m) return invalid("ormqr: more reflectors than rows");
    if (m == 0 || n == 0 || k == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      return ormqr_typed(state, trans, m, n, k, static_cast<const T*>(a), lda, static_cast<const T*>(tau),
                         static_cast<T*>(c), ldc);
    });
  });
}

int gesvd(gramian_context* context, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* s, void* u,
          int64_t ldu, void* vt, int64_t ldvt) {
  return guarded(context, [&](State& state) {
    if (m < 0 || n < 0) return invalid("gesvd: a negative size");
    if (m == 0 || n == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      return gesvd_typed(state, m, n, static_cast<T*>(a), lda, static_cast<T*>(s), static_cast<T*>(u), ldu,
                         static_cast<T*>(vt), ldvt);
    });
  });
}

}  // namespace gramian_cuda
