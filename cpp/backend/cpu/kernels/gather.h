/* Rows whose columns change places: out[r, c] = scale[c] * x[r, index[c]]. Included once per (source, ISA); everything
 * is in an anonymous namespace. */
#ifndef GRAMIAN_BACKEND_CPU_KERNELS_GATHER_H
#define GRAMIAN_BACKEND_CPU_KERNELS_GATHER_H

#include "kernel_common.h"

namespace {

/* kRows rows at a time, so that an index and its scale are read once for all of them. An index below 0 reads a zero. */
template <class T, bool kTimes, bool kScaled, int kRows>
void gather_some(int64_t cols, const T* __restrict x, int64_t ldx, const int64_t* __restrict index,
                 const T* __restrict scale, T* __restrict out, int64_t ld_out) {
  const T zero = 0;
  for (int64_t c = 0; c < cols; ++c) {
    int64_t i = index[c];
    // Hides i from the vectoriser, whose gathers are slower than loads of single values.
    __asm__("" : "+r"(i));
    const T* const from = i < 0 ? &zero : x + i;
    const int64_t step = i < 0 ? 0 : ldx;
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const T scaled = kScaled ? scale[c] * from[r * step] : from[r * step];
      T& to = out[c + r * ld_out];
      to = kTimes ? to * scaled : scaled;
    }
  }
}

template <class T, bool kTimes, bool kScaled>
int gather_all(int64_t rows, int64_t cols, const T* x, int64_t ldx, const int64_t* index, const T* scale, T* out,
               int64_t ld_out) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    gather_some<T, kTimes, kScaled, 4>(cols, x + r * ldx, ldx, index, scale, out + r * ld_out, ld_out);
  }
  for (; r < rows; ++r) {
    gather_some<T, kTimes, kScaled, 1>(cols, x + r * ldx, ldx, index, scale, out + r * ld_out, ld_out);
  }
  return GRAMIAN_STATUS_OK;
}

template <class T>
int gather_type(int64_t rows, int64_t cols, const T* x, int64_t ldx, const int64_t* index, const T* scale, int times,
                T* out, int64_t ld_out) {
  if (times != 0 && scale != nullptr) return gather_all<T, true, true>(rows, cols, x, ldx, index, scale, out, ld_out);
  if (times != 0) return gather_all<T, true, false>(rows, cols, x, ldx, index, scale, out, ld_out);
  if (scale != nullptr) return gather_all<T, false, true>(rows, cols, x, ldx, index, scale, out, ld_out);
  return gather_all<T, false, false>(rows, cols, x, ldx, index, scale, out, ld_out);
}

}  // namespace

#endif
