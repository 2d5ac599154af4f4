// Draws of the frozen bit law. Each entry is a pure function of its indices, so threads share nothing. This file is
// compiled with --fmad=false: a contracted multiply-add would change the bits.
#include "cuda_common.h"

#include "../portable_math.h"

namespace gramian_cuda {
namespace {

template <class T>
__global__ void fill_random_kernel(int distribution, gramian_stream stream, int64_t j0, int64_t rows, int64_t i0,
                                   int64_t cols, double scale, T* out, int64_t ld_out) {
  for (int64_t r = first_y(); r < rows; r += step_y()) {
    for (int64_t c = first_x(); c < cols; c += step_x()) {
      const uint64_t i = static_cast<uint64_t>(i0 + c), j = static_cast<uint64_t>(j0 + r);
      const double draw =
          distribution == GRAMIAN_GAUSSIAN ? gramian_gaussian_at(&stream, i, j) : gramian_sign_at(&stream, i, j);
      out[r * ld_out + c] = static_cast<T>(scale * draw);
    }
  }
}

template <class T>
__global__ void fill_signs_kernel(gramian_stream stream, int64_t j0, int64_t count, T* out) {
  for (int64_t t = first_x(); t < count; t += step_x()) {
    out[t] = static_cast<T>(gramian_row_sign(&stream, static_cast<uint64_t>(j0 + t)));
  }
}

template <class T>
__global__ void fill_uniform_kernel(gramian_stream stream, int64_t i0, int64_t count, double low, double high, T* out) {
  for (int64_t t = first_x(); t < count; t += step_x()) {
    const double u = gramian_uniform_at(&stream, static_cast<uint64_t>(i0 + t));
    out[t] = static_cast<T>(low + (high - low) * u);
  }
}

__global__ void fill_row_hash_kernel(gramian_stream stream, int64_t j0, int64_t rows, int64_t nnz, int64_t m,
                                     int32_t* codes) {
  for (int64_t t = first_x(); t < rows * nnz; t += step_x()) {
    const int64_t r = t / nnz, k = t % nnz;
    uint32_t block[4];
    gramian_stream_block(&stream, static_cast<uint64_t>(j0 + r), static_cast<uint32_t>(k / 2), block);
    const uint64_t word = gramian_block_word(block, static_cast<int>(k % 2));
    const int64_t begin = k * m / nnz, end = (k + 1) * m / nnz;
    const int64_t row = begin + static_cast<int64_t>(__umul64hi(word, static_cast<uint64_t>(end - begin)));
    codes[t] = static_cast<int32_t>(2 * row + static_cast<int64_t>(word & 1));
  }
}

}  // namespace

int fill_row_hash(gramian_context* context, gramian_stream stream, int64_t j0, int64_t rows, int64_t nnz, int64_t m,
                  int32_t* codes) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || j0 < 0 || nnz < 1 || nnz > m || m >= int64_t(1) << 30) {
      return invalid("fill_row_hash: a size out of range");
    }
    if (rows == 0) return kOk;
    fill_row_hash_kernel<<<grid_size(rows * nnz, kBlockThreads), kBlockThreads, 0, state.stream>>>(stream, j0, rows,
                                                                                                   nnz, m, codes);
    return launched("fill_row_hash");
  });
}

int fill_random(gramian_context* context, int dtype, int distribution, gramian_stream stream, int64_t j0, int64_t rows,
                int64_t i0, int64_t cols, double scale, void* out, int64_t ld_out) {
  return guarded(context, [&](State& state) {
    if (rows < 0 || cols < 0 || i0 < 0 || j0 < 0) return invalid("fill_random: a negative size or index");
    if (distribution != GRAMIAN_GAUSSIAN && distribution != GRAMIAN_RADEMACHER) {
      return invalid("fill_random: unknown distribution");
    }
    if (rows == 0 || cols == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      const Shape shape = matrix_shape(rows, cols);
      fill_random_kernel<<<shape.grid, shape.block, 0, state.stream>>>(distribution, stream, j0, rows, i0, cols, scale,
                                                                       static_cast<T*>(out), ld_out);
      return launched("fill_random");
    });
  });
}

int fill_signs(gramian_context* context, int dtype, gramian_stream stream, int64_t j0, int64_t count, void* out) {
  return guarded(context, [&](State& state) {
    if (count < 0 || j0 < 0) return invalid("fill_signs: a negative size or index");
    if (count == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      fill_signs_kernel<<<grid_size(count, kBlockThreads), kBlockThreads, 0, state.stream>>>(stream, j0, count,
                                                                                             static_cast<T*>(out));
      return launched("fill_signs");
    });
  });
}

int fill_uniform(gramian_context* context, int dtype, gramian_stream stream, int64_t i0, int64_t count, double low,
                 double high, void* out) {
  return guarded(context, [&](State& state) {
    if (count < 0 || i0 < 0) return invalid("fill_uniform: a negative size or index");
    if (count == 0) return kOk;
    return with_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      fill_uniform_kernel<<<grid_size(count, kBlockThreads), kBlockThreads, 0, state.stream>>>(
          stream, i0, count, low, high, static_cast<T*>(out));
      return launched("fill_uniform");
    });
  });
}

}  // namespace gramian_cuda
