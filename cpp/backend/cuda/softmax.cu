// Softmax, its logarithm and log sum exp of rows and of columns, and the two halves of the two-pass form. A block takes
// a row, a thread takes a column; every sum is in double and has one fixed order.
#include <math.h>

#include "cuda_common.h"

namespace gramian_cuda {
namespace {

constexpr int kRowThreads = 256;
// log 2 in two parts; multiples of the first by |k| < 2^20 are exact.
constexpr double kLog2High = 0x1.62e42fee00000p-1, kLog2Low = 0x1.a39ef35793c76p-33;

template <class T>
struct Limits;
template <>
struct Limits<float> {
  static constexpr double kReach = 32768 - 256, kSmallest = 0x1p-126;
};
template <>
struct Limits<double> {
  static constexpr double kReach = 1048576 - 2048, kSmallest = 0x1p-1022;
};

__device__ inline float exponential(float z) {
  return expf(z);
}
__device__ inline double exponential(double z) {
  return exp(z);
}
/* fmax drops NaN, which the sums then find. */
__device__ inline double larger(double a, double b) {
  return fmax(a, b);
}
__device__ inline double added(double a, double b) {
  return a + b;
}

template <class Meet>
__device__ double over_block(double mine, double* shared, Meet meet) {
  shared[threadIdx.x] = mine;
  __syncthreads();
  for (int half = kRowThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) shared[threadIdx.x] = meet(shared[threadIdx.x], shared[threadIdx.x + half]);
    __syncthreads();
  }
  const double all = shared[0];
  __syncthreads();
  return all;
}

/* One softmax of `count` values `step` apart, shared by `threads` threads of which this is number `thread`. */
template <class T>
struct Run {
  const T* x;
  int64_t count, step;
  int64_t thread, threads;
  T scale;

  __device__ double largest() const {
    double most = -INFINITY;
    for (int64_t i = thread; i < count; i += threads) most = larger(most, static_cast<double>(x[i * step]));
    return most;
  }
  __device__ T difference(int64_t i, T top) const { return (x[i * step] - top) * scale; }
  /* exp of the difference, with the rounding error of it made good to first order. */
  __device__ double decay(int64_t i, T top) const {
    const T value = x[i * step], d = value - top, back = d - value;
    const T error = isinf(d) ? T(0) : ((value - (d - back)) - (top + back)) * scale;
    return static_cast<double>(exponential(d * scale)) * (1.0 + static_cast<double>(error));
  }
  __device__ double sum(T top) const {
    // The rounding error of each addition is kept: a column is one thread's, however long it is.
    double total = 0, lost = 0;
    for (int64_t i = thread; i < count; i += threads) {
      const double term = decay(i, top), next = total + term, part = next - total;
      lost += (total - (next - part)) + (term - part);
      total = next;
    }
    return total + lost;
  }
  __device__ bool has_nan() const {
    bool found = false;
    for (int64_t i = 0; i < count; ++i) found |= isnan(x[i * step]);
    return found;
  }
  __device__ void write(int kind, bool subnormals, double factor, double top, double total, T* out,
                        int64_t out_step) const {
    const T high = static_cast<T>(top);
    if (kind == GRAMIAN_LOGSUMEXP) {
      if (thread != 0) return;
      if (isinf(top)) {
        out[0] = has_nan() ? static_cast<T>(NAN) : high;
      } else {
        out[0] = static_cast<T>(top * factor + log(total));
      }
      return;
    }
    const T log_sum = static_cast<T>(log(total));
    for (int64_t i = thread; i < count; i += threads) {
      if (kind == GRAMIAN_LOG_SOFTMAX) {
        out[i * out_step] = difference(i, high) - log_sum;
      } else {
        const double y = decay(i, high) / total;
        out[i * out_step] = static_cast<T>(!subnormals && y < Limits<T>::kSmallest ? 0.0 : y);
      }
    }
  }
};

template <class T>
__global__ void softmax_rows_kernel(int kind, bool subnormals, int64_t rows, int64_t cols, double factor, const T* x,
                                    int64_t ldx, T* out, int64_t ldout) {
  __shared__ double shared[kRowThreads];
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const Run<T> run = {x + r * ldx, cols, 1, threadIdx.x, kRowThreads, static_cast<T>(factor)};
    const double top = over_block(run.largest(), shared, larger);
    const double total = over_block(run.sum(static_cast<T>(top)), shared, added);
    run.write(kind, subnormals, factor, top, total, out + r * ldout, 1);
    __syncthreads();
  }
}

template <class T>
__global__ void softmax_columns_kernel(int kind, bool subnormals, int64_t rows, int64_t cols, double factor, const T* x,
                                       int64_t ldx, T* out, int64_t ldout) {
  for (int64_t c = first_x(); c < cols; c += step_x()) {
    const Run<T> run = {x + c, rows, ldx, 0, 1, static_cast<T>(factor)};
    const double top = run.largest();
    run.write(kind, subnormals, factor, top, run.sum(static_cast<T>(top)), out + c, ldout);
  }
}

/* z - k log 2 */
__device__ inline double reduced(double z, double k) {
  return (z - k * kLog2High) - k * kLog2Low;
}

template <class T>
__global__ void exp_sums_kernel(int64_t rows, int64_t cols, T scale, const T* x, int64_t ldx, double* sums,
                                int64_t* out_of_reach) {
  __shared__ double shared[kRowThreads];
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const Run<T> run = {x + r * ldx, cols, 1, threadIdx.x, kRowThreads, scale};
    const double top = over_block(run.largest(), shared, larger);
    const double k =
        top == -INFINITY ? 0.0 : rint(static_cast<double>(static_cast<T>(top) * scale) * 1.4426950408889634);
    const bool reached = fabs(k) <= Limits<T>::kReach;
    double mine = 0;
    for (int64_t c = threadIdx.x; reached && c < cols; c += kRowThreads) {
      mine += exp(reduced(static_cast<double>(run.x[c] * scale), k));
    }
    const double total = over_block(mine, shared, added);
    if (threadIdx.x == 0) {
      if (!reached) lower_word(out_of_reach, r);
      sums[2 * r] = total;
      sums[2 * r + 1] = top == -INFINITY ? -INFINITY : k;
    }
    __syncthreads();
  }
}

template <class T>
__global__ void exp_write_kernel(int kind, bool subnormals, int64_t rows, int64_t cols, T scale, const T* x,
                                 int64_t ldx, const double* sums, T* out, int64_t ldout) {
  const double total = sums[0] > 0 ? sums[0] : NAN, k = sums[0] > 0 ? sums[1] : 0.0;
  const double log_total = log(total);
  for (int64_t r = first_y(); r < rows; r += step_y()) {
    for (int64_t c = first_x(); c < cols; c += step_x()) {
      const double rest = reduced(static_cast<double>(x[r * ldx + c] * scale), k);
      const double y = kind == GRAMIAN_LOG_SOFTMAX ? rest - log_total : exp(rest) / total;
      const bool vanishes = kind == GRAMIAN_SOFTMAX && !subnormals && y < Limits<T>::kSmallest;
      out[r * ldout + c] = static_cast<T>(vanishes ? 0.0 : y);
    }
  }
}

int check_kind(int kind) {
  return kind >= GRAMIAN_SOFTMAX && kind <= GRAMIAN_LOGSUMEXP ? kOk : invalid("softmax: unknown kind");
}

}  // namespace

int softmax(gramian_context* context, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
            const void* x, int64_t ldx, void* out, int64_t ldout) {
  return guarded(context, [&](State& state) {
    GRAMIAN_CUDA_TRY(check_kind(kind));
    if (rows <= 0 || (cols <= 0 && kind != GRAMIAN_LOGSUMEXP)) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      softmax_rows_kernel<<<grid_size(rows, 1), kRowThreads, 0, state.stream>>>(
          kind, (flags & GRAMIAN_SOFTMAX_SUBNORMALS) != 0, rows, cols, scale, static_cast<const T*>(x), ldx,
          static_cast<T*>(out), ldout);
      return launched("softmax");
    });
  });
}

int softmax_columns(gramian_context* context, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
                    const void* x, int64_t ldx, void* out, int64_t ldout) {
  return guarded(context, [&](State& state) {
    GRAMIAN_CUDA_TRY(check_kind(kind));
    if (cols <= 0 || (rows <= 0 && kind != GRAMIAN_LOGSUMEXP)) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      softmax_columns_kernel<<<grid_size(cols, kBlockThreads), kBlockThreads, 0, state.stream>>>(
          kind, (flags & GRAMIAN_SOFTMAX_SUBNORMALS) != 0, rows, cols, scale, static_cast<const T*>(x), ldx,
          static_cast<T*>(out), ldout);
      return launched("softmax_columns");
    });
  });
}

int exp_sums(gramian_context* context, int dtype, int64_t rows, int64_t cols, double scale, const void* x, int64_t ldx,
             double* sums) {
  return guarded(context, [&](State& state) {
    if (rows <= 0) return kOk;
    GRAMIAN_CUDA_TRY(reset_answer(state));
    GRAMIAN_CUDA_TRY(with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      exp_sums_kernel<<<grid_size(rows, 1), kRowThreads, 0, state.stream>>>(
          rows, cols, static_cast<T>(scale), static_cast<const T*>(x), ldx, sums, state.answer);
      return launched("exp_sums");
    }));
    int64_t first = -1;
    GRAMIAN_CUDA_TRY(read_first_bad(state, &first));
    return first < 0 ? kOk : static_cast<int>(first + 1);
  });
}

int exp_write(gramian_context* context, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
              const void* x, int64_t ldx, const double* sums, void* out, int64_t ldout) {
  return guarded(context, [&](State& state) {
    if (kind != GRAMIAN_SOFTMAX && kind != GRAMIAN_LOG_SOFTMAX) return invalid("exp_write: unknown kind");
    if (rows <= 0 || cols <= 0) return kOk;
    const Shape shape = matrix_shape(rows, cols);
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      exp_write_kernel<<<shape.grid, shape.block, 0, state.stream>>>(
          kind, (flags & GRAMIAN_SOFTMAX_SUBNORMALS) != 0, rows, cols, static_cast<T>(scale), static_cast<const T*>(x),
          ldx, sums, static_cast<T*>(out), ldout);
      return launched("exp_write");
    });
  });
}

}  // namespace gramian_cuda
