// CSR rows: loading them as dense rows, and CSR times dense.
#include "cuda_common.h"
#include "source.h"

namespace gramian_cuda {
namespace {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

struct CsrSource {
  int dtype;
  bool aligned;
  int64_t item_bytes;
  const char* values;
  const int64_t* row_index;
};

constexpr int kLoadWarps = 4;
constexpr int kLoadColumns = 1024;

/* A warp makes kLoadColumns columns of one row at a time in shared memory. Entries are added in their order: lanes of a
 * batch that hold the same column take turns. Every run gives the same bits and duplicates are summed in double. */
template <class Index, class T>
__global__ void load_csr_kernel(CsrSource source, const Index* indptr, const Index* indices, int64_t rows, int64_t cols,
                                T* dst, int64_t ld_dst, const double* shift, const double* row_scale,
                                int64_t* first_bad) {
  __shared__ double sums[kLoadWarps][kLoadColumns];
  const int lane = threadIdx.x;
  double* sum = sums[threadIdx.y];
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * kLoadWarps + threadIdx.y; r < rows;
       r += static_cast<int64_t>(gridDim.x) * kLoadWarps) {
    const int64_t row = source.row_index == nullptr ? r : source.row_index[r];
    const int64_t begin = indptr[row], end = indptr[row + 1];
    for (int64_t c0 = static_cast<int64_t>(blockIdx.y) * kLoadColumns; c0 < cols;
         c0 += static_cast<int64_t>(gridDim.y) * kLoadColumns) {
      const int width = cols - c0 < kLoadColumns ? static_cast<int>(cols - c0) : kLoadColumns;
      for (int i = lane; i < width; i += kWarp) sum[i] = 0;
      __syncwarp();
      for (int64_t e0 = begin; e0 < end; e0 += kWarp) {
        const int64_t e = e0 + lane;
        int column = -1;
        double value = 0;
        if (e < end) {
          value = widen(source.dtype, source.values + e * source.item_bytes, source.aligned);
          if (c0 == 0 && !isfinite(value)) lower_word(first_bad, r);
          const int64_t offset = static_cast<int64_t>(indices[e]) - c0;
          if (offset >= 0 && offset < width) column = static_cast<int>(offset);
        }
        const unsigned same = __match_any_sync(kAllLanes, column);
        const int turn = column < 0 ? -1 : __popc(same & ((1u << lane) - 1));
        for (int now = 0; __any_sync(kAllLanes, turn >= now); ++now) {
          if (turn == now) sum[column] += value;
          __syncwarp();
        }
      }
      for (int i = lane; i < width; i += kWarp) {
        dst[r * ld_dst + c0 + i] = static_cast<T>(shift_and_scale(sum[i], shift, c0 + i, row_scale, r));
      }
      __syncwarp();
    }
  }
}

constexpr int kGemmWarps = 8;

/* A warp a row. `width` (a power of two up to 32) lanes stand for columns; the 32 / width groups of lanes share the
 * entries of the row and meet in a fixed tree, so that thin products use whole warps too. */
template <class T, class Value, class Index>
__global__ void csr_gemm_kernel(int width, int64_t m, int64_t n, T alpha, const Index* indptr, const Index* indices,
                                const Value* values, const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
  const int lane = threadIdx.x;
  const int group = lane / width, groups = kWarp / width;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kGemmWarps + threadIdx.y; row < m;
       row += static_cast<int64_t>(gridDim.x) * kGemmWarps) {
    const int64_t begin = indptr[row], end = alpha == T(0) ? begin : static_cast<int64_t>(indptr[row + 1]);
    for (int64_t c0 = static_cast<int64_t>(blockIdx.y) * width; c0 < n; c0 += static_cast<int64_t>(gridDim.y) * width) {
      const int64_t column = c0 + lane % width;
      T sum = 0;
      if (column < n) {
        for (int64_t e = begin + group; e < end; e += groups) {
          sum += static_cast<T>(values[e]) * b[static_cast<int64_t>(indices[e]) * ldb + column];
        }
      }
      for (int offset = kWarp / 2; offset >= width; offset /= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
      if (group == 0 && column < n) {
        T& entry = c[row * ldc + column];
        entry = beta == T(0) ? alpha * sum : alpha * sum + beta * entry;
      }
    }
  }
}

template <class Body>
int with_index(int index_dtype, Body body) {
  if (index_dtype == GRAMIAN_I32) return body(int32_t{});
  if (index_dtype == GRAMIAN_I64) return body(int64_t{});
  return invalid("index_dtype is neither I32 nor I64");
}

}  // namespace

int load_csr(gramian_context* context, int src_dtype, int index_dtype, const void* indptr, const void* indices,
             const void* values, const int64_t* row_index, int64_t rows, int64_t cols, int dst_dtype, void* dst,
             int64_t ld_dst, const double* shift, const double* row_scale, int64_t* first_bad) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0) return invalid("load_csr: a negative size");
    if (!can_widen(src_dtype, dst_dtype)) return invalid("load_csr: no such pair of dtypes");
    if (first_bad != nullptr) *first_bad = -1;
    if (rows == 0 || cols == 0) return kOk;
    const int64_t bytes = dtype_bytes(src_dtype);
    const bool aligned = (reinterpret_cast<uintptr_t>(values) & static_cast<uintptr_t>(bytes - 1)) == 0;
    const CsrSource source = {src_dtype, aligned, bytes, static_cast<const char*>(values), row_index};
    const dim3 grid(grid_size(rows, kLoadWarps), grid_size(cols, kLoadColumns));
    GRAMIAN_CUDA_TRY(reset_answer(state));
    GRAMIAN_CUDA_TRY(with_type(dst_dtype, [&](auto zero) {
      return with_index(index_dtype, [&](auto index_zero) {
        using Index = decltype(index_zero);
        load_csr_kernel<<<grid, dim3(kWarp, kLoadWarps), 0, state.stream>>>(
            source, static_cast<const Index*>(indptr), static_cast<const Index*>(indices), rows, cols,
            static_cast<decltype(zero)*>(dst), ld_dst, shift, row_scale, state.answer);
        return launched("load_csr");
      });
    }));
    return read_first_bad(state, first_bad);
  });
}

int csr_gemm(gramian_context* context, int dtype, int value_dtype, int index_dtype, int64_t m, int64_t n, int64_t k,
             double alpha, const void* indptr, const void* indices, const void* values, const void* b, int64_t ldb,
             double beta, void* c, int64_t ldc) {
  return guarded(context, [&](State& state) {
    if (m < 0 || n < 0 || k < 0) return invalid("csr_gemm: a negative size");
    if (m == 0 || n == 0) return kOk;
    int width = 1;
    while (width < n && width < kWarp) width *= 2;
    const dim3 grid(grid_size(m, kGemmWarps), grid_size(n, width));
    return with_type(dtype, [&](auto zero) {
      return with_type(value_dtype, [&](auto value_zero) {
        return with_index(index_dtype, [&](auto index_zero) {
          using T = decltype(zero);
          using Index = decltype(index_zero);
          csr_gemm_kernel<<<grid, dim3(kWarp, kGemmWarps), 0, state.stream>>>(
              width, m, n, static_cast<T>(alpha), static_cast<const Index*>(indptr), static_cast<const Index*>(indices),
              static_cast<const decltype(value_zero)*>(values), static_cast<const T*>(b), ldb, static_cast<T>(beta),
              static_cast<T*>(c), ldc);
          return launched("csr_gemm");
        });
      });
    });
  });
}

}  // namespace gramian_cuda
