// Passes over rows: loading and widening them, and sums over them. Every sum has one fixed order, so results do not
// change from run to run; there are no floating-point atomics.
#include "cuda_common.h"
#include "source.h"

namespace gramian_cuda {
namespace {

constexpr int kTile = 32;
constexpr int kWarps = 8;
constexpr int kWarp = 32;

struct Source {
  int dtype;
  bool aligned;   /* every value lies on the grid of its size */
  bool by_column; /* neighbours in memory are rows: the source is column-major */
  const char* data;
  int64_t row_stride, col_stride;
  const int64_t* row_index;
};

/* Blocks of 32 x 8 threads. A tile is read along the memory of the source and written along the rows of dst; shared
 * memory turns the one into the other. */
template <class T>
__global__ void load_rows_kernel(Source source, int64_t rows, int64_t cols, T* dst, int64_t ld_dst, const double* shift,
                                 const double* row_scale, int64_t* first_bad) {
  __shared__ double tile[kTile][kTile + 1];  // one column more keeps a column off a single bank
  for (int64_t r0 = static_cast<int64_t>(blockIdx.y) * kTile; r0 < rows;
       r0 += static_cast<int64_t>(gridDim.y) * kTile) {
    for (int64_t c0 = static_cast<int64_t>(blockIdx.x) * kTile; c0 < cols;
         c0 += static_cast<int64_t>(gridDim.x) * kTile) {
      for (int along = threadIdx.y; along < kTile; along += kWarps) {
        const int tile_r = source.by_column ? threadIdx.x : along;
        const int tile_c = source.by_column ? along : threadIdx.x;
        const int64_t r = r0 + tile_r, c = c0 + tile_c;
        if (r >= rows || c >= cols) continue;
        const int64_t row = source.row_index == nullptr ? r : source.row_index[r];
        const double value =
            widen(source.dtype, source.data + row * source.row_stride + c * source.col_stride, source.aligned);
        if (!isfinite(value)) lower_word(first_bad, r);
        tile[tile_r][tile_c] = value;
      }
      __syncthreads();
      for (int along = threadIdx.y; along < kTile; along += kWarps) {
        const int64_t r = r0 + along, c = c0 + threadIdx.x;
        if (r >= rows || c >= cols) continue;
        dst[r * ld_dst + c] = static_cast<T>(shift_and_scale(tile[along][threadIdx.x], shift, c, row_scale, r));
      }
      __syncthreads();
    }
  }
}

/* A warp a row; lanes take every 32nd column, then meet in a fixed tree. */
template <class T>
__global__ void row_sumsq_kernel(int64_t rows, int64_t cols, const T* x, int64_t ldx, double* out) {
  for (int64_t r = first_y(); r < rows; r += step_y()) {
    double sum = 0;
    for (int64_t c = threadIdx.x; c < cols; c += kWarp) {
      const double value = static_cast<double>(x[r * ldx + c]);
      sum += value * value;
    }
    for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffffu, sum, offset);
    if (threadIdx.x == 0) out[r] = sum;
  }
}

constexpr int kSumRows = 64;

/* out[code[r], c] += weight[r] x[r, c], rows in order. A block owns 32 columns: its warps stage 64 weighted rows
 * together, then warp w adds those whose code is w modulo 8. Each output has one owner, which keeps its running sum
 * in a register while the code stays the same. code == NULL: all rows have code 0. */
template <class T>
__global__ void class_sums_kernel(int64_t rows, int64_t cols, const T* x, int64_t ldx, const int64_t* code,
                                  const double* weight, double* out, int64_t ld_out) {
  __shared__ double staged[kSumRows][kTile];
  __shared__ int64_t codes[kSumRows];
  const int thread = threadIdx.y * kTile + threadIdx.x;
  for (int64_t c0 = static_cast<int64_t>(blockIdx.x) * kTile; c0 < cols;
       c0 += static_cast<int64_t>(gridDim.x) * kTile) {
    const int64_t c = c0 + threadIdx.x;
    const bool inside = c < cols;
    int64_t current = -1;
    double sum = 0;
    for (int64_t r0 = 0; r0 < rows; r0 += kSumRows) {
      const int count = rows - r0 < kSumRows ? static_cast<int>(rows - r0) : kSumRows;
#pragma unroll
      for (int k = 0; k < kSumRows / kWarps; ++k) {
        const int along = k * kWarps + threadIdx.y;
        const int64_t r = r0 + along;
        double value = 0;
        if (along < count && inside) value = static_cast<double>(x[r * ldx + c]) * (weight == nullptr ? 1 : weight[r]);
        staged[along][threadIdx.x] = value;
      }
      if (thread < count) codes[thread] = code == nullptr ? 0 : code[r0 + thread];
      __syncthreads();
      for (int along = 0; along < count; ++along) {
        const int64_t k = codes[along];
        if (k % kWarps != threadIdx.y) continue;
        if (k != current) {
          if (current >= 0 && inside) out[current * ld_out + c] = sum;
          sum = inside ? out[k * ld_out + c] : 0;
          current = k;
        }
        sum += staged[along][threadIdx.x];
      }
      __syncthreads();
    }
    if (current >= 0 && inside) out[current * ld_out + c] = sum;
  }
}

int launch_class_sums(gramian_context* context, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx,
                      const int64_t* code, const double* weight, double* out, int64_t ld_out) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0) return invalid("sums: a negative size");
    if (rows == 0 || cols == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      class_sums_kernel<<<grid_size(cols, kTile), dim3(kTile, kWarps), 0, state.stream>>>(
          rows, cols, static_cast<const decltype(zero)*>(x), ldx, code, weight, out, ld_out);
      return launched("class_sums");
    });
  });
}

int64_t magnitude(int64_t stride) {
  return stride < 0 ? -stride : stride;
}

}  // namespace

int load_rows(gramian_context* context, int src_dtype, const void* src, int64_t row_stride, int64_t col_stride,
              const int64_t* row_index, int64_t rows, int64_t cols, int dst_dtype, void* dst, int64_t ld_dst,
              const double* shift, const double* row_scale, int64_t* first_bad) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0) return invalid("load_rows: a negative size");
    if (!can_widen(src_dtype, dst_dtype)) return invalid("load_rows: no such pair of dtypes");
    if (first_bad != nullptr) *first_bad = -1;
    if (rows == 0 || cols == 0) return kOk;
    const int64_t off_grid = static_cast<int64_t>(reinterpret_cast<uintptr_t>(src)) | row_stride | col_stride;
    const bool aligned = (off_grid & (dtype_bytes(src_dtype) - 1)) == 0;
    const bool by_column = cols == 1 || magnitude(row_stride) < magnitude(col_stride);
    const Source source = {src_dtype,  aligned,    by_column, static_cast<const char*>(src),
                           row_stride, col_stride, row_index};
    const dim3 grid(grid_size(cols, kTile), grid_size(rows, kTile));
    GRAMIAN_CUDA_TRY(reset_answer(state));
    GRAMIAN_CUDA_TRY(with_type(dst_dtype, [&](auto zero) {
      load_rows_kernel<<<grid, dim3(kTile, kWarps), 0, state.stream>>>(
          source, rows, cols, static_cast<decltype(zero)*>(dst), ld_dst, shift, row_scale, state.answer);
      return launched("load_rows");
    }));
    return read_first_bad(state, first_bad);
  });
}

int row_sumsq(gramian_context* context, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx,
              double* out) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0) return invalid("row_sumsq: a negative size");
    if (rows == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      row_sumsq_kernel<<<dim3(1, grid_size(rows, kWarps)), dim3(kWarp, kWarps), 0, state.stream>>>(
          rows, cols, static_cast<const decltype(zero)*>(x), ldx, out);
      return launched("row_sumsq");
    });
  });
}

int column_sums(gramian_context* context, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx,
                const double* weight, double* out) {
  return launch_class_sums(context, dtype, rows, cols, x, ldx, nullptr, weight, out, 0);
}

int class_sums(gramian_context* context, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx,
               const int64_t* code, const double* weight, int64_t n_codes, double* out, int64_t ld_out) {
  if (rows > 0 && (code == nullptr || n_codes < 1)) return invalid("class_sums: no codes");
  return launch_class_sums(context, dtype, rows, cols, x, ldx, code, weight, out, ld_out);
}

}  // namespace gramian_cuda
