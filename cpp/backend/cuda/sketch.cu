// What sketches need beside products and transforms. Sums have the order of the CPU's: one thread owns an element of
// the output and takes the rows in order, so no atomic addition is needed and every run gives the same bits.
#include "cuda_common.h"

namespace gramian_cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kSketchWarps = 8;
constexpr unsigned kAllLanes = 0xffffffffu;

/* Calls visit(row, sign is negative) for every code that names output row `target`, in order: a warp reads 32 codes at
 * a time and votes. */
template <class Visit>
__device__ void for_each_hit(int64_t target, int64_t rows, int64_t nnz, const int32_t* codes, Visit visit) {
  const int lane = threadIdx.x;
  for (int64_t first = 0; first < rows * nnz; first += kWarp) {
    const int32_t code = first + lane < rows * nnz ? codes[first + lane] : -1;
    unsigned hits = __ballot_sync(kAllLanes, code >= 0 && (code >> 1) == target);
    while (hits != 0) {
      const int at = __ffs(static_cast<int>(hits)) - 1;
      hits &= hits - 1;
      visit((first + at) / nnz, (__shfl_sync(kAllLanes, code, at) & 1) != 0);
    }
  }
}

/* A warp an output row and 32 columns of it. */
template <class T>
__global__ void sparse_sketch_kernel(int64_t rows, int64_t cols, int64_t nnz, const int32_t* codes, const T* x,
                                     int64_t ldx, int64_t m, int64_t panel, T* out) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kSketchWarps + threadIdx.y; i < m;
       i += static_cast<int64_t>(gridDim.x) * kSketchWarps) {
    for (int64_t c0 = static_cast<int64_t>(blockIdx.y) * kWarp; c0 < cols;
         c0 += static_cast<int64_t>(gridDim.y) * kWarp) {
      const int64_t c = c0 + threadIdx.x;
      const bool inside = c < cols;
      T* at = out + (inside ? c / panel * m * panel + i * panel + c % panel : 0);
      T sum = inside ? *at : T(0);
      for_each_hit(i, rows, nnz, codes, [&](int64_t r, bool negative) {
        if (inside) sum += negative ? -x[r * ldx + c] : x[r * ldx + c];
      });
      if (inside) *at = sum;
    }
  }
}

/* A warp an output row; of each row of x that falls there, lane l takes the entries of the columns l, l + 32, ..., so
 * entries of one column keep their order. */
template <class T, class Value, class Index>
__global__ void sparse_sketch_csr_kernel(int64_t m, int64_t rows, int64_t nnz, const int32_t* codes,
                                         const Index* indptr, const Index* indices, const Value* values, T* out,
                                         int64_t ld_out) {
  const int lane = threadIdx.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kSketchWarps + threadIdx.y; i < m;
       i += static_cast<int64_t>(gridDim.x) * kSketchWarps) {
    for_each_hit(i, rows, nnz, codes, [&](int64_t r, bool negative) {
      const int64_t end = indptr[r + 1];
      for (int64_t e = indptr[r]; e < end; ++e) {
        const int64_t column = static_cast<int64_t>(indices[e]);
        if (column % kWarp != lane) continue;
        const T value = static_cast<T>(values[e]);
        out[i * ld_out + column] += negative ? -value : value;
      }
    });
  }
}

__global__ void largest_code_kernel(int64_t count, const int32_t* codes, int64_t* largest) {
  for (int64_t t = first_x(); t < count; t += step_x()) {
    atomicMax(reinterpret_cast<long long*>(largest), static_cast<long long>(codes[t]));
  }
}

/* No index: c itself, and a zero from `width` on. */
template <class T>
__global__ void gather_columns_kernel(int64_t rows, int64_t cols, int64_t width, const T* x, int64_t ldx,
                                      const int64_t* index, const T* scale, int times, T* out, int64_t ld_out) {
  for (int64_t r = first_y(); r < rows; r += step_y()) {
    for (int64_t c = first_x(); c < cols; c += step_x()) {
      const int64_t from = index != nullptr ? index[c] : c < width ? c : -1;
      const T value = from < 0 ? T(0) : x[r * ldx + from];
      const T scaled = scale != nullptr ? scale[c] * value : value;
      T& entry = out[r * ld_out + c];
      entry = times != 0 ? entry * scaled : scaled;
    }
  }
}

/* The sum as it is written: n products for each element, which beats transforms at the lengths of a sketch. */
template <class T>
__global__ void convolve_kernel(int64_t rows, int64_t n, const T* a, int64_t lda, const T* b, int64_t ldb, T* out,
                                int64_t ld_out) {
  for (int64_t r = first_y(); r < rows; r += step_y()) {
    for (int64_t k = first_x(); k < n; k += step_x()) {
      double sum = 0;
      for (int64_t t = 0; t < n; ++t) {
        const int64_t other = k >= t ? k - t : k - t + n;
        sum += static_cast<double>(a[r * lda + t]) * static_cast<double>(b[r * ldb + other]);
      }
      out[r * ld_out + k] = static_cast<T>(sum);
    }
  }
}

template <class Body>
int with_index(int index_dtype, Body body) {
  if (index_dtype == GRAMIAN_I32) return body(int32_t{});
  if (index_dtype == GRAMIAN_I64) return body(int64_t{});
  return invalid("index_dtype is neither I32 nor I64");
}

int gather(gramian_context* context, int dtype, int64_t rows, int64_t cols, int64_t width, const void* x, int64_t ldx,
           const int64_t* index, const void* scale, int times, void* out, int64_t ld_out) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0) return invalid("gather_columns: a negative size");
    if (rows == 0 || cols == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      const Shape shape = matrix_shape(rows, cols);
      gather_columns_kernel<<<shape.grid, shape.block, 0, state.stream>>>(rows, cols, width, static_cast<const T*>(x),
                                                                          ldx, index, static_cast<const T*>(scale),
                                                                          times, static_cast<T*>(out), ld_out);
      return launched("gather_columns");
    });
  });
}

}  // namespace

int sparse_sketch(gramian_context* context, int dtype, int64_t rows, int64_t cols, int64_t nnz, const int32_t* codes,
                  const void* x, int64_t ldx, int64_t m, int64_t panel, void* out) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0 || nnz < 1 || m < 0 || panel < 1) return invalid("sparse_sketch: a negative size");
    if (rows == 0 || cols == 0 || m == 0) return kOk;
    const dim3 grid(grid_size(m, kSketchWarps), grid_size(cols, kWarp));
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      sparse_sketch_kernel<<<grid, dim3(kWarp, kSketchWarps), 0, state.stream>>>(
          rows, cols, nnz, codes, static_cast<const T*>(x), ldx, m, panel, static_cast<T*>(out));
      return launched("sparse_sketch");
    });
  });
}

int sparse_sketch_csr(gramian_context* context, int dtype, int value_dtype, int index_dtype, int64_t rows, int64_t nnz,
                      const int32_t* codes, const void* indptr, const void* indices, const void* values, void* out,
                      int64_t ld_out) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || nnz < 1) return invalid("sparse_sketch_csr: a negative size");
    if (rows == 0) return kOk;
    // The number of output rows is not told; it need not go beyond the largest code.
    int64_t largest = 0;
    GRAMIAN_CUDA_TRY(check(cudaMemsetAsync(state.answer, 0, sizeof largest, state.stream), "sparse_sketch_csr"));
    largest_code_kernel<<<grid_size(rows * nnz, kBlockThreads), kBlockThreads, 0, state.stream>>>(rows * nnz, codes,
                                                                                                  state.answer);
    GRAMIAN_CUDA_TRY(launched("sparse_sketch_csr"));
    GRAMIAN_CUDA_TRY(read_word(state, state.answer, &largest, sizeof largest));
    const int64_t m = (largest >> 1) + 1;
    return with_type(dtype, [&](auto zero) {
      return with_type(value_dtype, [&](auto value_zero) {
        return with_index(index_dtype, [&](auto index_zero) {
          using Index = decltype(index_zero);
          sparse_sketch_csr_kernel<<<grid_size(m, kSketchWarps), dim3(kWarp, kSketchWarps), 0, state.stream>>>(
              m, rows, nnz, codes, static_cast<const Index*>(indptr), static_cast<const Index*>(indices),
              static_cast<const decltype(value_zero)*>(values), static_cast<decltype(zero)*>(out), ld_out);
          return launched("sparse_sketch_csr");
        });
      });
    });
  });
}

int gather_columns(gramian_context* context, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx,
                   const int64_t* index, const void* scale, int times, void* out, int64_t ld_out) {
  return gather(context, dtype, rows, cols, 0, x, ldx, index, scale, times, out, ld_out);
}

int hadamard_rows(gramian_context* context, int dtype, int64_t rows, int64_t cols, int64_t n, int64_t m, const void* x,
                  int64_t ldx, const int64_t* index, const void* sign, int64_t rounds, const void* further,
                  double factor, const int64_t* choice, const void* scale, int times, void* work, void* out,
                  int64_t ld_out) {
  if (n < 1 || (n & (n - 1)) != 0 || cols > n || rounds < 1) return invalid("hadamard_rows: sizes that do not fit");
  const int64_t round_bytes = n * (dtype == GRAMIAN_F32 ? sizeof(float) : sizeof(double));
  int status = gather(context, dtype, rows, n, cols, x, ldx, index, sign, 0, work, n);
  for (int64_t round = 0; status == kOk && round < rounds; ++round) {
    if (round > 0) {
      const char* signs = static_cast<const char*>(further) + (round - 1) * round_bytes;
      status = scale_columns(context, dtype, rows, n, signs, work, n);
    }
    if (status == kOk) status = fwht(context, dtype, rows, n, round + 1 < rounds ? 1.0 : factor, work, n, work, n);
  }
  return status == kOk ? gather(context, dtype, rows, m, n, work, n, choice, scale, times, out, ld_out) : status;
}

int circular_convolve(gramian_context* context, int dtype, int64_t rows, int64_t n, const void* a, int64_t lda,
                      const void* b, int64_t ldb, double*, void* out, int64_t ld_out) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || n < 0) return invalid("circular_convolve: a negative size");
    if (rows == 0 || n == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      const Shape shape = matrix_shape(rows, n);
      convolve_kernel<<<shape.grid, shape.block, 0, state.stream>>>(
          rows, n, static_cast<const T*>(a), lda, static_cast<const T*>(b), ldb, static_cast<T*>(out), ld_out);
      return launched("circular_convolve");
    });
  });
}

}  // namespace gramian_cuda
