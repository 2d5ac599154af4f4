// Cholesky, triangular solves and the symmetric eigenproblem by cuSOLVER and cuBLAS. Read by columns, a row-major lower
// triangle is an upper one, and L is U = L'.
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

cublasStatus_t call_trsm(cublasHandle_t handle, cublasSideMode_t side, cublasOperation_t trans, int64_t m, int64_t n,
                         const float* l, int64_t ldl, float* b, int64_t ldb) {
  const float one = 1;
  return cublasStrsm_v2_64(handle, side, CUBLAS_FILL_MODE_UPPER, trans, CUBLAS_DIAG_NON_UNIT, m, n, &one, l, ldl, b,
                           ldb);
}

cublasStatus_t call_trsm(cublasHandle_t handle, cublasSideMode_t side, cublasOperation_t trans, int64_t m, int64_t n,
                         const double* l, int64_t ldl, double* b, int64_t ldb) {
  const double one = 1;
  return cublasDtrsm_v2_64(handle, side, CUBLAS_FILL_MODE_UPPER, trans, CUBLAS_DIAG_NON_UNIT, m, n, &one, l, ldl, b,
                           ldb);
}

/* *answer = min(*answer, 1-based index of the first pivot that is not positive). Pivots behind the one that cuSOLVER
 * stopped at (info > 0) are not pivots yet and are left out; that one counts whatever stands there. */
template <class T>
__global__ void first_bad_pivot_kernel(int64_t n, const T* a, int64_t lda, const int* info, int64_t* answer) {
  const int64_t stopped = *info > 0 ? *info : n + 1;
  for (int64_t i = first_x(); i < n && i < stopped; i += step_x()) {
    if (i + 1 == stopped || !(a[i * lda + i] > T(0))) lower_word(answer, i + 1);
  }
}

/* *answer = 0 where an entry of the lower triangle is NaN or infinite. */
template <class T>
__global__ void find_non_finite_kernel(int64_t n, const T* a, int64_t lda, int64_t* answer) {
  for (int64_t r = first_y(); r < n; r += step_y()) {
    for (int64_t c = first_x(); c <= r; c += step_x()) {
      if (!isfinite(a[r * lda + c])) lower_word(answer, 0);
    }
  }
}

struct HostFree {
  void operator()(void* pointer) const { ::free(pointer); }
};
using HostScratch = std::unique_ptr<void, HostFree>;

/* The two scratch areas that cuSOLVER asks for. */
int make_scratch(State& state, size_t device_bytes, size_t host_bytes, void** device, HostScratch& host) {
  host.reset(host_bytes > 0 ? malloc(host_bytes) : nullptr);
  if (host_bytes > 0 && host == nullptr) {
    return failed(GRAMIAN_STATUS_NO_MEMORY, "cusolver", "no host memory for a workspace");
  }
  return workspace(state, device_bytes, device);
}

int read_solver_info(State& state, int* info, const char* what) {
  GRAMIAN_CUDA_TRY(read_word(state, state.solver_info, info, sizeof *info));
  return *info < 0 ? failed(GRAMIAN_STATUS_BACKEND, what, "the library refused an argument") : kOk;
}

template <class T>
int potrf_typed(State& state, int64_t n, T* a, int64_t lda) {
  const cudaDataType type = vendor_type(T{});
  const cublasFillMode_t upper = CUBLAS_FILL_MODE_UPPER;
  size_t device_bytes = 0, host_bytes = 0;
  GRAMIAN_CUDA_TRY(check(cusolverDnXpotrf_bufferSize(state.solver, state.solver_params, upper, n, type, a, lda, type,
                                                     &device_bytes, &host_bytes),
                         "cusolver potrf workspace"));
  void* device = nullptr;
  HostScratch host;
  GRAMIAN_CUDA_TRY(make_scratch(state, device_bytes, host_bytes, &device, host));
  GRAMIAN_CUDA_TRY(submitted(cusolverDnXpotrf(state.solver, state.solver_params, upper, n, type, a, lda, type, device,
                                              device_bytes, host.get(), host_bytes, state.solver_info),
                             "cusolver potrf"));
  // cuSOLVER lets a NaN pivot pass, so the diagonal is looked at in any case.
  GRAMIAN_CUDA_TRY(reset_answer(state));
  first_bad_pivot_kernel<<<grid_size(n, kBlockThreads), kBlockThreads, 0, state.stream>>>(n, a, lda, state.solver_info,
                                                                                          state.answer);
  GRAMIAN_CUDA_TRY(launched("first_bad_pivot"));
  int info = 0;
  GRAMIAN_CUDA_TRY(read_solver_info(state, &info, "cusolver potrf"));
  int64_t pivot = kNone;
  GRAMIAN_CUDA_TRY(read_word(state, state.answer, &pivot, sizeof pivot));
  return pivot == kNone ? kOk : static_cast<int>(pivot < INT32_MAX ? pivot : INT32_MAX);
}

template <class T>
int syevd_typed(State& state, int64_t n, T* a, int64_t lda, T* w) {
  // The library's answer to NaN ranges from an error to an illegal access; such a matrix never reaches it.
  GRAMIAN_CUDA_TRY(reset_answer(state));
  const Shape shape = matrix_shape(n, n);
  find_non_finite_kernel<<<shape.grid, shape.block, 0, state.stream>>>(n, a, lda, state.answer);
  GRAMIAN_CUDA_TRY(launched("find_non_finite"));
  int64_t found = kNone;
  GRAMIAN_CUDA_TRY(read_word(state, state.answer, &found, sizeof found));
  if (found != kNone) return failed(GRAMIAN_STATUS_NO_CONVERGENCE, "syevd", "the matrix holds a NaN or an infinity");

  const cudaDataType type = vendor_type(T{});
  const cublasFillMode_t upper = CUBLAS_FILL_MODE_UPPER;
  const cusolverEigMode_t vectors = CUSOLVER_EIG_MODE_VECTOR;
  size_t device_bytes = 0, host_bytes = 0;
  GRAMIAN_CUDA_TRY(check(cusolverDnXsyevd_bufferSize(state.solver, state.solver_params, vectors, upper, n, type, a, lda,
                                                     type, w, type, &device_bytes, &host_bytes),
                         "cusolver syevd workspace"));
  void* device = nullptr;
  HostScratch host;
  GRAMIAN_CUDA_TRY(make_scratch(state, device_bytes, host_bytes, &device, host));
  // Eigenvectors come as columns of a column-major matrix: the rows of ours.
  GRAMIAN_CUDA_TRY(submitted(cusolverDnXsyevd(state.solver, state.solver_params, vectors, upper, n, type, a, lda, type,
                                              w, type, device, device_bytes, host.get(), host_bytes, state.solver_info),
                             "cusolver syevd"));
  int info = 0;
  GRAMIAN_CUDA_TRY(read_solver_info(state, &info, "cusolver syevd"));
  return info > 0 ? failed(GRAMIAN_STATUS_NO_CONVERGENCE, "cusolver syevd", "the iteration did not converge") : kOk;
}

}  // namespace

int potrf(gramian_context* context, int dtype, int64_t n, void* a, int64_t lda) {
  return guarded(context, [&](State& state) {
    if (n < 0) return invalid("potrf: a negative size");
    if (n == 0) return kOk;
    return with_type(dtype, [&](auto zero) { return potrf_typed(state, n, static_cast<decltype(zero)*>(a), lda); });
  });
}

int trsm(gramian_context* context, int dtype, int side, int trans, int64_t m, int64_t n, const void* l, int64_t ldl,
         void* b, int64_t ldb) {
  return guarded(context, [&](State& state) {
    if (m < 0 || n < 0) return invalid("trsm: a negative size");
    if (side != GRAMIAN_LEFT && side != GRAMIAN_RIGHT) return invalid("trsm: unknown side");
    if (m == 0 || n == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      // Transposing op(L) X = B gives X' op(L)' = B': the side flips; op(L)' is op(U) with the same flag.
      return submitted(
          call_trsm(state.blas, side == GRAMIAN_LEFT ? CUBLAS_SIDE_RIGHT : CUBLAS_SIDE_LEFT,
                    trans ? CUBLAS_OP_T : CUBLAS_OP_N, n, m, static_cast<const T*>(l), ldl, static_cast<T*>(b), ldb),
          "cublas trsm");
    });
  });
}

int syevd(gramian_context* context, int dtype, int64_t n, void* a, int64_t lda, void* w) {
  return guarded(context, [&](State& state) {
    if (n < 0) return invalid("syevd: a negative size");
    if (n == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      return syevd_typed(state, n, static_cast<T*>(a), lda, static_cast<T*>(w));
    });
  });
}

}  // namespace gramian_cuda
