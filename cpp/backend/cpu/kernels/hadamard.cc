/* Fast Walsh-Hadamard transform of rows, natural order. The stages commute, so the widest go first: radix-8 passes
 * until a block fits the first-level cache, each block then to its end before the next is touched. */
#include "kernel_common.h"

namespace {

/* Elements of a block that stays in the first-level cache. */
template <class T>
constexpr int64_t kBlock = 16384 / static_cast<int64_t>(sizeof(T));

/* One pass of 2^kStages-point transforms of the elements `step` apart, x[0 .. 2^kStages step). step is a multiple of
 * the vector length. */
template <class T, int kStages>
inline void radix_pass(T* x, int64_t step) {
  constexpr int points = 1 << kStages;
  for (int64_t i = 0; i < step; i += kLanes<T>) {
    Vector<T> v[points];
#pragma GCC unroll 8
    for (int p = 0; p < points; ++p) v[p] = load<Vector<T>>(x + i + p * step);
#pragma GCC unroll 3
    for (int half = points / 2; half >= 1; half /= 2) {
#pragma GCC unroll 8
      for (int p = 0; p < points; ++p) {
        if (p & half) continue;
        const Vector<T> sum = v[p] + v[p + half];
        v[p + half] = v[p] - v[p + half];
        v[p] = sum;
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < points; ++p) store(x + i + p * step, v[p]);
  }
}

/* The stage of distance kDistance inside one vector: swapped neighbours plus or minus the value. */
template <class T, int kDistance>
inline Vector<T> lane_stage(Vector<T> v) {
  Integer<T> swap = {}, second = {};
  for (int lane = 0; lane < static_cast<int>(kLanes<T>); ++lane) {
    swap[lane] = lane ^ kDistance;
    second[lane] = lane & kDistance ? -1 : 0;
  }
#if defined(__clang__)
  Vector<T> swapped = v;
  for (int lane = 0; lane < static_cast<int>(kLanes<T>); ++lane) swapped[lane] = v[lane ^ kDistance];
#else
  const Vector<T> swapped = __builtin_shuffle(v, swap);
#endif
  return swapped + (second != 0 ? -v : v);
}

template <class T>
inline Vector<T> lane_stages(Vector<T> v) {
  if constexpr (kLanes < T >> 8) v = lane_stage<T, 8>(v);
  if constexpr (kLanes < T >> 4) v = lane_stage<T, 4>(v);
  if constexpr (kLanes < T >> 2) v = lane_stage<T, 2>(v);
  return lane_stage<T, 1>(v);
}

/* Runs all stages of distance below `size` on a block that fits the cache, and scales it. size >= kLanes<T>. */
template <class T>
void transform_block(T* x, int64_t size, T scale) {
  int64_t span = size;
  while (span >= 8 * kLanes<T>) {
    for (int64_t at = 0; at < size; at += span) radix_pass<T, 3>(x + at, span / 8);
    span /= 8;
  }
  if (span == 4 * kLanes<T>) {
    for (int64_t at = 0; at < size; at += span) radix_pass<T, 2>(x + at, span / 4);
  } else if (span == 2 * kLanes<T>) {
    for (int64_t at = 0; at < size; at += span) radix_pass<T, 1>(x + at, span / 2);
  }
  for (int64_t i = 0; i < size; i += kLanes<T>) store(x + i, lane_stages<T>(load<Vector<T>>(x + i)) * scale);
}

/* Depth first, so every level of cache sees a block once. At most 6 levels deep for n = 2^30. */
template <class T>
void transform(T* x, int64_t n, T scale) {
  if (n <= kBlock<T>) {
    transform_block(x, n, scale);
    return;
  }
  int64_t part = n / 8;
  if (n >= 8 * kBlock<T>) {
    radix_pass<T, 3>(x, part);
  } else if (n == 4 * kBlock<T>) {
    part = n / 4;
    radix_pass<T, 2>(x, part);
  } else {
    part = n / 2;
    radix_pass<T, 1>(x, part);
  }
  for (int64_t at = 0; at < n; at += part) transform(x + at, part, scale);
}

/* Rows shorter than a vector. */
template <class T>
void transform_short(T* x, int64_t n, T scale) {
  for (int64_t step = n / 2; step >= 1; step /= 2) {
    for (int64_t p = 0; p < n; ++p) {
      if (p & step) continue;
      const T sum = x[p] + x[p + step];
      x[p + step] = x[p] - x[p + step];
      x[p] = sum;
    }
  }
  for (int64_t p = 0; p < n; ++p) x[p] *= scale;
}

template <class T>
int fwht_type(int64_t rows, int64_t n, double scale, T* x, int64_t ldx) {
  if (n < 1 || (n & (n - 1)) != 0) return GRAMIAN_STATUS_INVALID;
  for (int64_t r = 0; r < rows; ++r, x += ldx) {
    if (n < kLanes<T>) {
      transform_short(x, n, static_cast<T>(scale));
    } else {
      transform(x, n, static_cast<T>(scale));
    }
  }
  return GRAMIAN_STATUS_OK;
}

int fwht(gramian_context*, int dtype, int64_t rows, int64_t n, double scale, void* x, int64_t ldx) {
  if (dtype == GRAMIAN_F32) return fwht_type(rows, n, scale, static_cast<float*>(x), ldx);
  if (dtype == GRAMIAN_F64) return fwht_type(rows, n, scale, static_cast<double*>(x), ldx);
  return GRAMIAN_STATUS_INVALID;
}

}  // namespace

GRAMIAN_FILL_FUNCTION(hadamard) {
  table->fwht = fwht;
}
