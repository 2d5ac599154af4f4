// The Walsh-Hadamard transform of rows and of columns. Rows: the log2(n) butterfly stages run from stride 1 up, the
// first twelve in shared memory, the others in registers with three stages per pass over global memory. Columns: all
// stages in registers, four per pass; neighbouring threads take neighbouring columns.
#include "cuda_common.h"

namespace gramian_cuda {
namespace {

constexpr int kSharedLog = 12;
constexpr int kShared = 1 << kSharedLog;
constexpr int kSharedThreads = 512;

/* Stages 0 .. log_size - 1 of segments of 2^log_size consecutive entries; a row holds 2^log_per_row segments. A block
 * works on as many segments at a time as fill its shared memory; as all have the same power-of-two size, one butterfly
 * index runs over them all. */
template <class T>
__global__ void fwht_shared_kernel(int64_t segments, int log_size, int log_per_row, T scale, const T* from,
                                   int64_t ld_from, T* x, int64_t ldx) {
  __shared__ T tile[kShared];
  const int64_t per_block = int64_t(1) << (kSharedLog - log_size);
  const int64_t row_mask = (int64_t(1) << log_per_row) - 1;
  const int size_mask = (1 << log_size) - 1;
  for (int64_t s0 = blockIdx.x * per_block; s0 < segments; s0 += gridDim.x * per_block) {
    const int64_t left = segments - s0;
    const int count = static_cast<int>(left < per_block ? left : per_block) << log_size;
    for (int i = threadIdx.x; i < count; i += kSharedThreads) {
      const int64_t s = s0 + (i >> log_size);
      tile[i] = scale * from[(s >> log_per_row) * ld_from + ((s & row_mask) << log_size) + (i & size_mask)];
    }
    __syncthreads();
    for (int stage = 0; stage < log_size; ++stage) {
      const int stride = 1 << stage;
      for (int p = threadIdx.x; p < count / 2; p += kSharedThreads) {
        const int low = p & (stride - 1);
        const int i = ((p - low) << 1) + low;
        const T a = tile[i], b = tile[i + stride];
        tile[i] = a + b;
        tile[i + stride] = a - b;
      }
      __syncthreads();
    }
    for (int i = threadIdx.x; i < count; i += kSharedThreads) {
      const int64_t s = s0 + (i >> log_size);
      x[(s >> log_per_row) * ldx + ((s & row_mask) << log_size) + (i & size_mask)] = tile[i];
    }
    __syncthreads();
  }
}

/* Stages first .. first + kStages - 1 of rows of 2^log_n entries: a thread owns the 2^kStages entries that differ in
 * these bits of the column. */
template <int kStages, class T>
__global__ void fwht_global_kernel(int64_t rows, int log_n, int first, T* x, int64_t ldx) {
  constexpr int kPoints = 1 << kStages;
  const int log_groups = log_n - kStages;
  const int64_t group_mask = (int64_t(1) << log_groups) - 1;
  const int64_t stride = int64_t(1) << first;
  for (int64_t t = first_x(); t < rows << log_groups; t += step_x()) {
    const int64_t group = t & group_mask;
    const int64_t low = group & (stride - 1);
    T* at = x + (t >> log_groups) * ldx + ((group - low) << kStages) + low;
    T v[kPoints];
#pragma unroll
    for (int q = 0; q < kPoints; ++q) v[q] = at[q * stride];
#pragma unroll
    for (int h = 1; h < kPoints; h *= 2) {
#pragma unroll
      for (int q = 0; q < kPoints; ++q) {
        if ((q & h) != 0) continue;
        const T a = v[q], b = v[q + h];
        v[q] = a + b;
        v[q + h] = a - b;
      }
    }
#pragma unroll
    for (int q = 0; q < kPoints; ++q) at[q * stride] = v[q];
  }
}

template <int kStages, class T>
int launch_global(State& state, int64_t rows, int log_n, int first, T* x, int64_t ldx) {
  const int64_t groups = rows << (log_n - kStages);
  fwht_global_kernel<kStages>
      <<<grid_size(groups, kBlockThreads), kBlockThreads, 0, state.stream>>>(rows, log_n, first, x, ldx);
  return launched("fwht_global");
}

template <class T>
int fwht_typed(State& state, int64_t rows, int log_n, T scale, const T* from, int64_t ld_from, T* x, int64_t ldx) {
  const int log_size = log_n < kSharedLog ? log_n : kSharedLog;
  const int log_per_row = log_n - log_size;
  const int64_t segments = rows << log_per_row;
  const unsigned blocks = grid_size(segments, int64_t(1) << (kSharedLog - log_size));
  fwht_shared_kernel<<<blocks, kSharedThreads, 0, state.stream>>>(segments, log_size, log_per_row, scale, from, ld_from,
                                                                  x, ldx);
  GRAMIAN_CUDA_TRY(launched("fwht_shared"));
  for (int stage = log_size; stage < log_n;) {
    const int left = log_n - stage;
    GRAMIAN_CUDA_TRY(left >= 3   ? launch_global<3>(state, rows, log_n, stage, x, ldx)
                     : left == 2 ? launch_global<2>(state, rows, log_n, stage, x, ldx)
                                 : launch_global<1>(state, rows, log_n, stage, x, ldx));
    stage += left >= 3 ? 3 : left;
  }
  return kOk;
}

/* Stages first .. first + kStages - 1 of columns of 2^log_n entries: a thread owns the 2^kStages rows that differ in
 * these bits, of one column. */
template <int kStages, class T>
__global__ void fwht_columns_kernel(int log_n, int64_t cols, int first, T scale, T* x, int64_t ldx) {
  constexpr int kPoints = 1 << kStages;
  const int64_t stride = int64_t(1) << first;
  for (int64_t t = first_x(); t < cols << (log_n - kStages); t += step_x()) {
    const int64_t group = t / cols, c = t - group * cols;
    const int64_t low = group & (stride - 1);
    T* at = x + (((group - low) << kStages) + low) * ldx + c;
    T v[kPoints];
#pragma unroll
    for (int q = 0; q < kPoints; ++q) v[q] = at[q * stride * ldx];
#pragma unroll
    for (int h = 1; h < kPoints; h *= 2) {
#pragma unroll
      for (int q = 0; q < kPoints; ++q) {
        if ((q & h) != 0) continue;
        const T a = v[q], b = v[q + h];
        v[q] = a + b;
        v[q + h] = a - b;
      }
    }
#pragma unroll
    for (int q = 0; q < kPoints; ++q) at[q * stride * ldx] = scale * v[q];
  }
}

template <int kStages, class T>
int launch_columns(State& state, int log_n, int64_t cols, int first, T scale, T* x, int64_t ldx) {
  const int64_t groups = cols << (log_n - kStages);
  fwht_columns_kernel<kStages>
      <<<grid_size(groups, kBlockThreads), kBlockThreads, 0, state.stream>>>(log_n, cols, first, scale, x, ldx);
  return launched("fwht_columns");
}

template <class T>
int fwht_columns_typed(State& state, int log_n, int64_t cols, T scale, T* x, int64_t ldx) {
  int stage = 0;
  do {
    const int left = log_n - stage;
    const T factor = left <= 4 ? scale : T(1);
    GRAMIAN_CUDA_TRY(left >= 4   ? launch_columns<4>(state, log_n, cols, stage, factor, x, ldx)
                     : left == 3 ? launch_columns<3>(state, log_n, cols, stage, factor, x, ldx)
                     : left == 2 ? launch_columns<2>(state, log_n, cols, stage, factor, x, ldx)
                     : left == 1 ? launch_columns<1>(state, log_n, cols, stage, factor, x, ldx)
                                 : launch_columns<0>(state, log_n, cols, stage, factor, x, ldx));
    stage += left >= 4 ? 4 : left;
  } while (stage < log_n);
  return kOk;
}

/* log2 of a power of two. */
int log_of(int64_t n) {
  int log_n = 0;
  while (int64_t(1) << log_n < n) ++log_n;
  return log_n;
}

}  // namespace

int fwht_columns(gramian_context* context, int dtype, int64_t n, int64_t cols, double scale, void* x, int64_t ldx,
                 void*) {
  return guarded(context, [&](State& state) {
    if (n < 1 || cols < 0 || (n & (n - 1)) != 0) return invalid("fwht_columns: n is not a power of two");
    if (cols == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      return fwht_columns_typed(state, log_of(n), cols, static_cast<T>(scale), static_cast<T*>(x), ldx);
    });
  });
}

int fwht(gramian_context* context, int dtype, int64_t rows, int64_t n, double scale, const void* from, int64_t ld_from,
         void* x, int64_t ldx) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || n < 0 || (n & (n - 1)) != 0) return invalid("fwht: n is not a power of two");
    if (rows == 0 || n == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      return fwht_typed(state, rows, log_of(n), static_cast<T>(scale), static_cast<const T*>(from), ld_from,
                        static_cast<T*>(x), ldx);
    });
  });
}

}  // namespace gramian_cuda
