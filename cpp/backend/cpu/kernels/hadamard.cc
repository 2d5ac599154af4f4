/* Fast Walsh-Hadamard transform of rows and of columns, natural order. The stages commute, so the widest go first, in
 * both directions: a column has the bits of a row. Rows: radix-8 passes until a block fits the first-level cache, each
 * block then to its end before the next is touched. Columns: ten stages per sweep over memory, see below. */
#include "kernel_common.h"

namespace {

/* Elements of a block that stays in the first-level cache. */
template <class T>
constexpr int64_t kBlock = 16384 / static_cast<int64_t>(sizeof(T));

/* 2^kStages-point transform of vectors in registers, the widest distance first. */
template <class T, int kStages>
inline void butterflies(Vector<T>* v) {
  constexpr int points = 1 << kStages;
#pragma GCC unroll 4
  for (int half = points / 2; half >= 1; half /= 2) {
#pragma GCC unroll 16
    for (int p = 0; p < points; ++p) {
      if (p & half) continue;
      const Vector<T> sum = v[p] + v[p + half];
      v[p + half] = v[p] - v[p + half];
      v[p] = sum;
    }
  }
}

/* One pass of 2^kStages-point transforms of the elements `step` apart, x[0 .. 2^kStages step). step is a multiple of
 * the vector length. */
template <class T, int kStages>
inline void radix_pass(T* x, int64_t step) {
  constexpr int points = 1 << kStages;
  for (int64_t i = 0; i < step; i += kLanes<T>) {
    Vector<T> v[points];
#pragma GCC unroll 8
    for (int p = 0; p < points; ++p) v[p] = load<Vector<T>>(x + i + p * step);
    butterflies<T, kStages>(v);
#pragma GCC unroll 8
    for (int p = 0; p < points; ++p) store(x + i + p * step, v[p]);
  }
}

/* The stage of distance kDistance inside one vector: swapped neighbours plus or minus the value. The product with a
 * sign is exact and becomes one instruction with the sum. */
template <class T, int kDistance>
inline Vector<T> lane_stage(Vector<T> v) {
  Integer<T> swap = {};
  Vector<T> sign = {};
  for (int lane = 0; lane < static_cast<int>(kLanes<T>); ++lane) {
    swap[lane] = lane ^ kDistance;
    sign[lane] = lane & kDistance ? T(-1) : T(1);
  }
#if defined(__clang__)
  Vector<T> swapped = v;
  for (int lane = 0; lane < static_cast<int>(kLanes<T>); ++lane) swapped[lane] = v[lane ^ kDistance];
#else
  const Vector<T> swapped = __builtin_shuffle(v, swap);
#endif
  return swapped + v * sign;
}

template <class T>
inline Vector<T> lane_stages(Vector<T> v) {
  if constexpr (kLanes < T >> 8) v = lane_stage<T, 8>(v);
  if constexpr (kLanes < T >> 4) v = lane_stage<T, 4>(v);
  if constexpr (kLanes < T >> 2) v = lane_stage<T, 2>(v);
  return lane_stage<T, 1>(v);
}

/* The last stages of all: 2^kStages neighbouring vectors, and what is inside them. */
template <class T, int kStages>
inline void last_pass(T* x, int64_t size, T scale) {
  constexpr int points = 1 << kStages;
  for (int64_t i = 0; i < size; i += points * kLanes<T>) {
    Vector<T> v[points];
#pragma GCC unroll 8
    for (int p = 0; p < points; ++p) v[p] = load<Vector<T>>(x + i + p * kLanes<T>);
    butterflies<T, kStages>(v);
#pragma GCC unroll 8
    for (int p = 0; p < points; ++p) store(x + i + p * kLanes<T>, lane_stages<T>(v[p]) * scale);
  }
}

/* Runs all stages of distance below `size` on a block that fits the cache, and scales it. size >= kLanes<T>. */
template <class T>
void transform_block(T* x, int64_t size, T scale) {
  int64_t span = size;
  while (span > 8 * kLanes<T>) {
    for (int64_t at = 0; at < size; at += span) radix_pass<T, 3>(x + at, span / 8);
    span /= 8;
  }
  switch (span / kLanes<T>) {
    case 8:
      return last_pass<T, 3>(x, size, scale);
    case 4:
      return last_pass<T, 2>(x, size, scale);
    case 2:
      return last_pass<T, 1>(x, size, scale);
    default:
      return last_pass<T, 0>(x, size, scale);
  }
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

/* --- columns ------------------------------------------------------------------------------------------------- */

/* A sweep runs kTileStages stages at most on strips of kStrip bytes. The strip of all rows that meet in these stages
 * is a tile: the first pass reads the rows where they are and writes the tile, the last one writes them back. Rows that
 * are a power of two apart share a few sets of every cache and would push each other out between two uses; so no pass
 * over memory takes more than eight rows at a time, and takes whole lines of them, while the tile lies close. In the
 * tile the strip is cut into planes, one vector of each row. */
constexpr int kTileStages = 10;
constexpr int64_t kLine = 64;
constexpr int64_t kStrip = 2 * kLine;
constexpr int64_t kPlanes = kStrip / GRAMIAN_VECTOR_BYTES;
/* A plane has a line between its blocks, eight at most, again to spread them over the sets. A ragged strip has a packed
 * copy beside the tile, which is narrower then. */
static_assert((int64_t(1) << kTileStages) * kStrip + 8 * kPlanes * kLine <= GRAMIAN_FWHT_SCRATCH,
              "the scratch holds one tile");

/* Where a pass finds or puts its vectors: point p of transform i, in plane q. All distances in elements. */
template <class T>
struct Layout {
  T* data;
  int64_t point, transform, plane;
};

/* `count` transforms of 2^kStages points in each of `planes` planes. */
template <class T, int kStages, bool kScale>
inline void pass_of(const Layout<T>& from, const Layout<T>& to, int64_t count, int64_t planes, T scale) {
  constexpr int points = 1 << kStages;
  for (int64_t i = 0; i < count; ++i) {
    const T* source = from.data + i * from.transform;
    T* target = to.data + i * to.transform;
    for (int64_t q = 0; q < planes; ++q, source += from.plane, target += to.plane) {
      Vector<T> v[points];
#pragma GCC unroll 16
      for (int p = 0; p < points; ++p) v[p] = load<Vector<T>>(source + p * from.point);
      butterflies<T, kStages>(v);
#pragma GCC unroll 16
      for (int p = 0; p < points; ++p) store(target + p * to.point, kScale ? v[p] * scale : v[p]);
    }
  }
}

/* stages <= 4 */
template <class T, bool kScale>
void pass(int stages, const Layout<T>& from, const Layout<T>& to, int64_t count, int64_t planes, T scale) {
  switch (stages) {
    case 0:
      return pass_of<T, 0, kScale>(from, to, count, planes, scale);
    case 1:
      return pass_of<T, 1, kScale>(from, to, count, planes, scale);
    case 2:
      return pass_of<T, 2, kScale>(from, to, count, planes, scale);
    case 3:
      return pass_of<T, 3, kScale>(from, to, count, planes, scale);
    default:
      return pass_of<T, 4, kScale>(from, to, count, planes, scale);
  }
}

/* 2^stages rows of `planes` vectors, stages <= kTileStages. */
template <class T>
void transform_strip(int stages, int64_t planes, T scale, T* x, int64_t ldx, T* tile) {
  constexpr int64_t lanes = kLanes<T>;
  if (stages <= 3) {
    const Layout<T> rows = {x, ldx, 0, lanes};
    return pass<T, true>(stages, rows, rows, 1, planes, scale);
  }
  // At most 3 + 4 + 3: only the pass that stays in the tile takes sixteen rows at a time.
  const int last = stages <= 6 ? stages / 2 : stages / 3, first = stages <= 6 ? stages - last : (stages + 1) / 3;
  const int later = stages - first, middle = later - last;
  const int64_t block = (lanes << later) + kLine / static_cast<int64_t>(sizeof(T)), plane = block << first;
  pass<T, false>(first, {x, ldx << later, ldx, lanes}, {tile, block, lanes, plane}, int64_t(1) << later, planes, T(1));
  for (int64_t b = 0; b < int64_t(1) << first; ++b, tile += block, x += ldx << later) {
    for (int64_t q = 0; middle > 0 && q < planes; ++q) {
      const Layout<T> across = {tile + q * plane, lanes << last, lanes, 0};
      pass<T, false>(middle, across, across, int64_t(1) << last, 1, T(1));
    }
    pass<T, true>(last, {tile, lanes, lanes << last, plane}, {x, ldx, ldx << last, lanes}, int64_t(1) << middle, planes,
                  scale);
  }
}

/* `width` elements of each row, fewer than a strip, through a packed copy with zeros beside them. */
template <class T>
void transform_ragged(int stages, int64_t width, T scale, T* x, int64_t ldx, T* tile) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t rows = int64_t(1) << stages, whole = width / lanes * lanes;
  if (whole > 0) transform_strip(stages, whole / lanes, scale, x, ldx, tile);
  if (whole == width) return;
  const size_t bytes = static_cast<size_t>(width - whole) * sizeof(T);
  x += whole;
  T* packed = tile + (lanes << kTileStages) + 8 * kLine / static_cast<int64_t>(sizeof(T));
  for (int64_t r = 0; r < rows; ++r) {
    Vector<T> padded = {};
    std::memcpy(&padded, x + r * ldx, bytes);
    store(packed + r * lanes, padded);
  }
  transform_strip(stages, 1, scale, packed, lanes, tile);
  for (int64_t r = 0; r < rows; ++r) std::memcpy(x + r * ldx, packed + r * lanes, bytes);
}

template <class T>
void transform_columns(int stages, int64_t cols, T scale, T* x, int64_t ldx, T* tile) {
  const int64_t n = int64_t(1) << stages;
  if (cols == 1 && ldx == 1) {
    return n < kLanes<T> ? transform_short(x, n, scale) : transform(x, n, scale);
  }
  if (stages > kTileStages) {
    const int sweeps = (stages + kTileStages - 1) / kTileStages;
    const int outer = (stages + sweeps - 1) / sweeps, inner = stages - outer;
    const int64_t far = ldx << inner;
    if (ldx == cols) {
      // What lies between the rows that meet is more columns of the same transform.
      transform_columns(outer, cols << inner, T(1), x, far, tile);
    } else {
      for (int64_t r = 0; r < int64_t(1) << inner; ++r) transform_columns(outer, cols, T(1), x + r * ldx, far, tile);
    }
    for (int64_t block = 0; block < int64_t(1) << outer; ++block) {
      transform_columns(inner, cols, scale, x + block * far, ldx, tile);
    }
    return;
  }
  constexpr auto size = static_cast<int64_t>(sizeof(T));
  constexpr int64_t strip = kStrip / size;
  // Strips are whole lines where all rows begin at the same place of a line and there are enough strips to pay for the
  // narrow ones at both ends.
  const auto address = reinterpret_cast<uintptr_t>(x);
  const bool align = cols >= 16 * strip && address % sizeof(T) == 0 && ldx * size % kLine == 0;
  const int64_t past = align ? static_cast<int64_t>(address % kLine) / size : 0;
  int64_t c = past == 0 ? 0 : kLine / size - past;
  if (c > 0) transform_ragged(stages, c, scale, x, ldx, tile);
  for (; c + strip <= cols; c += strip) transform_strip(stages, kPlanes, scale, x + c, ldx, tile);
  if (c < cols) transform_ragged(stages, cols - c, scale, x + c, ldx, tile);
}

template <class T>
int fwht_columns_type(int64_t n, int64_t cols, double scale, void* x, int64_t ldx, void* scratch) {
  if (n < 1 || (n & (n - 1)) != 0) return GRAMIAN_STATUS_INVALID;
  int stages = 0;
  while (int64_t(1) << stages < n) ++stages;
  if (cols > 0) {
    transform_columns(stages, cols, static_cast<T>(scale), static_cast<T*>(x), ldx, static_cast<T*>(scratch));
  }
  return GRAMIAN_STATUS_OK;
}

int fwht_columns(gramian_context*, int dtype, int64_t n, int64_t cols, double scale, void* x, int64_t ldx,
                 void* scratch) {
  if (dtype == GRAMIAN_F32) return fwht_columns_type<float>(n, cols, scale, x, ldx, scratch);
  if (dtype == GRAMIAN_F64) return fwht_columns_type<double>(n, cols, scale, x, ldx, scratch);
  return GRAMIAN_STATUS_INVALID;
}

}  // namespace

GRAMIAN_FILL_FUNCTION(hadamard) {
  table->fwht = fwht;
  table->fwht_columns = fwht_columns;
}
