// Maps over the entries of a matrix. Threads walk rows and columns by grid strides; see matrix_shape.
#include "cuda_common.h"

namespace gramian_cuda {
namespace {

/* Scalars cross as double and are rounded once to the type the arithmetic is done in (Wide). */
template <class Src, class Dst, class Wide>
__global__ void axpby_kernel(int64_t rows, int64_t cols, Wide alpha, const Src* src, int64_t ld_src, Wide beta,
                             Dst* dst, int64_t ld_dst) {
  for (int64_t r = first_y(); r < rows; r += step_y()) {
    for (int64_t c = first_x(); c < cols; c += step_x()) {
      Wide value = src == nullptr ? Wide(0) : alpha * static_cast<Wide>(src[r * ld_src + c]);
      if (beta != Wide(0)) value += beta * static_cast<Wide>(dst[r * ld_dst + c]);
      dst[r * ld_dst + c] = static_cast<Dst>(value);
    }
  }
}

template <class T>
__global__ void add_diagonal_kernel(int64_t n, T value, T* a, int64_t lda) {
  for (int64_t i = first_x(); i < n; i += step_x()) a[i * lda + i] += value;
}

constexpr int kTile = 32;
constexpr int kTileRows = 8;

/* Blocks of 32 x 8 threads; a tile on or under the diagonal is read along its rows and written along the rows of its
 * mirror image. On the diagonal itself reads stay below and writes above it. */
template <class T>
__global__ void symmetrize_kernel(int64_t n, T* a, int64_t lda) {
  __shared__ T tile[kTile][kTile + 1];  // one column more keeps a column off a single bank
  for (int64_t r0 = static_cast<int64_t>(blockIdx.y) * kTile; r0 < n; r0 += static_cast<int64_t>(gridDim.y) * kTile) {
    for (int64_t c0 = static_cast<int64_t>(blockIdx.x) * kTile; c0 <= r0;
         c0 += static_cast<int64_t>(gridDim.x) * kTile) {
      for (int along = threadIdx.y; along < kTile; along += kTileRows) {
        const int64_t r = r0 + along, c = c0 + threadIdx.x;
        if (r < n && c < r) tile[along][threadIdx.x] = a[r * lda + c];
      }
      __syncthreads();
      for (int along = threadIdx.y; along < kTile; along += kTileRows) {
        const int64_t r = c0 + along, c = r0 + threadIdx.x;
        if (c < n && r < c) a[r * lda + c] = tile[threadIdx.x][along];
      }
      __syncthreads();
    }
  }
}

template <class T>
__global__ void scale_kernel(int64_t rows, int64_t cols, bool by_row, const T* v, T* x, int64_t ldx) {
  for (int64_t r = first_y(); r < rows; r += step_y()) {
    for (int64_t c = first_x(); c < cols; c += step_x()) x[r * ldx + c] *= v[by_row ? r : c];
  }
}

template <class T>
__device__ T activate(int activation, T x) {
  switch (activation) {
    case GRAMIAN_RELU:
      return x > T(0) || x != x ? x : T(0);
    case GRAMIAN_TANH:
      return tanh(x);
    case GRAMIAN_SIGMOID:
      return T(1) / (T(1) + exp(-x));
    case GRAMIAN_COS:
      return cos(x);
    case GRAMIAN_SIGN:
      return x > T(0) ? T(1) : x < T(0) ? T(-1) : x != x ? x : T(0);
    default:
      return x;
  }
}

template <class T>
__global__ void map_kernel(int activation, int64_t rows, int64_t cols, const T* shift, T scale, T* x, int64_t ldx) {
  for (int64_t r = first_y(); r < rows; r += step_y()) {
    for (int64_t c = first_x(); c < cols; c += step_x()) {
      T& entry = x[r * ldx + c];
      entry = scale * activate(activation, shift == nullptr ? entry : entry + shift[c]);
    }
  }
}

/* In double for both types: the squared distance is a difference of large numbers. */
template <class T>
__global__ void rbf_kernel(int64_t rows, int64_t cols, const double* row_sq, const double* col_sq, double gamma, T* x,
                           int64_t ldx) {
  for (int64_t r = first_y(); r < rows; r += step_y()) {
    for (int64_t c = first_x(); c < cols; c += step_x()) {
      T& entry = x[r * ldx + c];
      const double distance = row_sq[r] + col_sq[c] - 2.0 * static_cast<double>(entry);
      entry = static_cast<T>(exp(-gamma * (distance < 0.0 ? 0.0 : distance)));  // a NaN stays one
    }
  }
}

template <class Src, class Dst, class Wide>
int launch_axpby(State& state, int64_t rows, int64_t cols, double alpha, const void* src, int64_t ld_src, double beta,
                 void* dst, int64_t ld_dst) {
  const Shape shape = matrix_shape(rows, cols);
  axpby_kernel<Src, Dst, Wide>
      <<<shape.grid, shape.block, 0, state.stream>>>(rows, cols, static_cast<Wide>(alpha), static_cast<const Src*>(src),
                                                     ld_src, static_cast<Wide>(beta), static_cast<Dst*>(dst), ld_dst);
  return launched("axpby");
}

int scale(gramian_context* context, int dtype, bool by_row, int64_t rows, int64_t cols, const void* v, void* x,
          int64_t ldx) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0) return invalid("scale: a negative size");
    if (rows == 0 || cols == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      const Shape shape = matrix_shape(rows, cols);
      scale_kernel<<<shape.grid, shape.block, 0, state.stream>>>(rows, cols, by_row, static_cast<const T*>(v),
                                                                 static_cast<T*>(x), ldx);
      return launched("scale");
    });
  });
}

}  // namespace

int axpby(gramian_context* context, int src_dtype, int64_t rows, int64_t cols, double alpha, const void* src,
          int64_t ld_src, double beta, int dst_dtype, void* dst, int64_t ld_dst) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0) return invalid("axpby: a negative size");
    if (src == nullptr && alpha != 0) return invalid("axpby: alpha without a source");
    if (rows == 0 || cols == 0) return kOk;
    return with_type(dst_dtype, [&](auto dst_zero) {
      return with_type(src_dtype, [&](auto src_zero) {
        using Src = decltype(src_zero);
        using Dst = decltype(dst_zero);
        using Wide = decltype(src_zero + dst_zero);
        return launch_axpby<Src, Dst, Wide>(state, rows, cols, alpha, src, ld_src, beta, dst, ld_dst);
      });
    });
  });
}

int add_diagonal(gramian_context* context, int dtype, int64_t n, double value, void* a, int64_t lda) {
  return guarded(context, [&](State& state) {
    if (n < 0) return invalid("add_diagonal: a negative size");
    if (n == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      add_diagonal_kernel<<<grid_size(n, kBlockThreads), kBlockThreads, 0, state.stream>>>(n, static_cast<T>(value),
                                                                                           static_cast<T*>(a), lda);
      return launched("add_diagonal");
    });
  });
}

int symmetrize(gramian_context* context, int dtype, int64_t n, void* a, int64_t lda) {
  return guarded(context, [&](State& state) {
    if (n < 0) return invalid("symmetrize: a negative size");
    if (n == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      const unsigned tiles = grid_size(n, kTile);
      symmetrize_kernel<<<dim3(tiles, tiles), dim3(kTile, kTileRows), 0, state.stream>>>(
          n, static_cast<decltype(zero)*>(a), lda);
      return launched("symmetrize");
    });
  });
}

int scale_columns(gramian_context* context, int dtype, int64_t rows, int64_t cols, const void* v, void* x,
                  int64_t ldx) {
  return scale(context, dtype, false, rows, cols, v, x, ldx);
}

int scale_rows(gramian_context* context, int dtype, int64_t rows, int64_t cols, const void* v, void* x, int64_t ldx) {
  return scale(context, dtype, true, rows, cols, v, x, ldx);
}

int map(gramian_context* context, int dtype, int activation, int64_t rows, int64_t cols, const void* shift,
        double scale, void* x, int64_t ldx) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0) return invalid("map: a negative size");
    if (activation < GRAMIAN_IDENTITY || activation > GRAMIAN_SIGN) return invalid("map: unknown activation");
    if (rows == 0 || cols == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      const Shape shape = matrix_shape(rows, cols);
      map_kernel<<<shape.grid, shape.block, 0, state.stream>>>(activation, rows, cols, static_cast<const T*>(shift),
                                                               static_cast<T>(scale), static_cast<T*>(x), ldx);
      return launched("map");
    });
  });
}

int rbf(gramian_context* context, int dtype, int64_t rows, int64_t cols, const double* row_sq, const double* col_sq,
        double gamma, void* x, int64_t ldx) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0) return invalid("rbf: a negative size");
    if (rows == 0 || cols == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      const Shape shape = matrix_shape(rows, cols);
      rbf_kernel<<<shape.grid, shape.block, 0, state.stream>>>(rows, cols, row_sq, col_sq, gamma, static_cast<T*>(x),
                                                               ldx);
      return launched("rbf");
    });
  });
}

}  // namespace gramian_cuda
