// The normal equations of a tall matrix: residual rows by warps, then their weighted column sums.
#include "cuda_common.h"

namespace gramian_cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 8;

/* r[i] = b[i] - a_i . x, a warp a row, summed in double in a fixed order. */
template <class T>
__global__ void residual_kernel(int64_t rows, int64_t cols, const T* a, int64_t lda, const double* x, const double* b,
                                double* r) {
  for (int64_t i = static_cast<int64_t>(blockIdx.y) * kWarps + threadIdx.y; i < rows;
       i += static_cast<int64_t>(gridDim.y) * kWarps) {
    double sum = 0;
    for (int64_t c = threadIdx.x; c < cols; c += kWarp) sum += static_cast<double>(a[i * lda + c]) * x[c];
    for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffffu, sum, offset);
    if (threadIdx.x == 0) r[i] = (b == nullptr ? 0.0 : b[i]) - sum;
  }
}

constexpr int kPartRows = 1024;

/* part[p, c] = sum of r[i] a[i, c] over the p-th kPartRows rows, in order. */
template <class T>
__global__ void part_sums_kernel(int64_t rows, int64_t cols, const T* a, int64_t lda, const double* r, double* part) {
  const int64_t parts = (rows + kPartRows - 1) / kPartRows;
  for (int64_t p = blockIdx.y; p < parts; p += gridDim.y) {
    const int64_t begin = p * kPartRows, end = begin + kPartRows < rows ? begin + kPartRows : rows;
    for (int64_t c = first_x(); c < cols; c += step_x()) {
      double sum = 0;
      for (int64_t i = begin; i < end; ++i) sum += r[i] * static_cast<double>(a[i * lda + c]);
      part[p * cols + c] = sum;
    }
  }
}

__global__ void add_parts_kernel(int64_t parts, int64_t cols, const double* part, double* g) {
  for (int64_t c = first_x(); c < cols; c += step_x()) {
    double sum = 0;
    for (int64_t p = 0; p < parts; ++p) sum += part[p * cols + c];
    g[c] += sum;
  }
}

}  // namespace

int normal_sweep(gramian_context* context, int dtype, int64_t rows, int64_t cols, const void* a, int64_t lda,
                 const double* x, const double* b, double* r, double* g) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0) return invalid("normal_sweep: a negative size");
    if (rows == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      const T* matrix = static_cast<const T*>(a);
      residual_kernel<<<dim3(1, grid_size(rows, kWarps)), dim3(kWarp, kWarps), 0, state.stream>>>(rows, cols, matrix,
                                                                                                  lda, x, b, r);
      GRAMIAN_CUDA_TRY(launched("residual"));
      if (cols == 0) return kOk;
      const int64_t parts = (rows + kPartRows - 1) / kPartRows;
      void* scratch = nullptr;
      GRAMIAN_CUDA_TRY(workspace(state, static_cast<size_t>(parts * cols) * sizeof(double), &scratch));
      double* const part = static_cast<double*>(scratch);
      part_sums_kernel<<<dim3(grid_size(cols, 64), grid_size(parts, 1)), 64, 0, state.stream>>>(rows, cols, matrix, lda,
                                                                                                r, part);
      GRAMIAN_CUDA_TRY(launched("part_sums"));
      add_parts_kernel<<<grid_size(cols, kBlockThreads), kBlockThreads, 0, state.stream>>>(parts, cols, part, g);
      return launched("add_parts");
    });
  });
}

}  // namespace gramian_cuda
