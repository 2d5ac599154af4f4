// Givens rotations on many rows at once: a thread a row, since along one row each step needs the one before.
#include "cuda_common.h"

namespace gramian_cuda {
namespace {

template <bool kIn>
__global__ void rotate_kernel(int64_t rows, int64_t cols, int64_t b, const double* cosine, const double* sine,
                              double* l, int64_t ldl, double* x, int64_t ldx) {
  for (int64_t r = first_x(); r < rows; r += step_x()) {
    double* const row = l + r * ldl;
    for (int64_t p = 0; p < b; ++p) {
      double left = x[r * ldx + p];
      for (int64_t j = 0; j < cols; ++j) {
        const double c = cosine[p * cols + j], s = sine[p * cols + j], old = row[j];
        if (kIn) {
          row[j] = c * old + s * left;
          left = c * left - s * old;
        } else {
          row[j] = (old - s * left) / c;
          left = c * left - s * row[j];
        }
      }
      x[r * ldx + p] = left;
    }
  }
}

}  // namespace

int rotate_rows(gramian_context* context, int sign, int64_t rows, int64_t cols, int64_t b, const double* cosine,
                const double* sine, double* l, int64_t ldl, double* x, int64_t ldx) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0 || b < 0 || sign == 0) return invalid("rotate_rows: a negative size or no sign");
    if (rows == 0 || cols == 0 || b == 0) return kOk;
    const auto grid = grid_size(rows, kBlockThreads);
    if (sign > 0) {
      rotate_kernel<true><<<grid, kBlockThreads, 0, state.stream>>>(rows, cols, b, cosine, sine, l, ldl, x, ldx);
    } else {
      rotate_kernel<false><<<grid, kBlockThreads, 0, state.stream>>>(rows, cols, b, cosine, sine, l, ldl, x, ldx);
    }
    return launched("rotate_rows");
  });
}

}  // namespace gramian_cuda
