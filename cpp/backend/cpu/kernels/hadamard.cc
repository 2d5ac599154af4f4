/* Fast Walsh-Hadamard transform of rows and of columns, natural order. The stages commute, so the widest go first, in
 * both directions: a column has the bits of a row. Rows: radix-8 passes until a block fits the first-level cache, each
 * block then to its end before the next is touched. Columns: ten stages per sweep over memory, see below. */
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

/* --- columns ------------------------------------------------------------------------------------------------- */

/* A sweep runs kTileStages stages at most on strips of kStrip bytes. The strip of all rows that meet in these stages is
 * a tile: its first pass reads the rows where they are and writes the tile, its last one writes them back, and what lies
 * between stays in cache. Rows that are a power of two apart share a few sets of every cache; the tile has no gaps and
 * so no such trouble, and each line of memory is moved once each way. */
constexpr int kTileStages = 10;
constexpr int64_t kStrip = 128;
constexpr int kPassStages = 4; /* of one pass through the registers */
static_assert((int64_t(1) << kTileStages) * kStrip == GRAMIAN_FWHT_SCRATCH, "the scratch holds one tile");
static_assert(2 * GRAMIAN_VECTOR_BYTES <= kStrip, "a ragged strip needs the tile and as much again");

/* Where a pass finds or puts its vectors: point p of transform i, vector q. All distances in elements. */
template <class T>
struct Layout {
  T* data;
  int64_t point, transform, vector;
  T* at(int64_t p, int64_t i, int64_t q) const { return data + p * point + i * transform + q * vector; }
};

/* `count` transforms of 2^kStages points, each of `vectors` vectors. */
template <class T, int kStages, bool kScale>
inline void transform_points(const Layout<T>& from, const Layout<T>& to, int64_t count, int64_t vectors, T scale) {
  constexpr int points = 1 << kStages;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t q = 0; q < vectors; ++q) {
      Vector<T> v[points];
#pragma GCC unroll 16
      for (int p = 0; p < points; ++p) v[p] = load<Vector<T>>(from.at(p, i, q));
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
#pragma GCC unroll 16
      for (int p = 0; p < points; ++p) store(to.at(p, i, q), kScale ? v[p] * scale : v[p]);
    }
  }
}

template <class T, int kStages>
void pass_of(const Layout<T>& from, const Layout<T>& to, int64_t count, int64_t vectors, T scale) {
  if (scale == T(1)) {
    transform_points<T, kStages, false>(from, to, count, vectors, scale);
  } else {
    transform_points<T, kStages, true>(from, to, count, vectors, scale);
  }
}

/* stages <= kPassStages; scale 1 where a later pass scales. */
template <class T>
void pass(int stages, const Layout<T>& from, const Layout<T>& to, int64_t count, int64_t vectors, T scale) {
  switch (stages) {
    case 0:
      return pass_of<T, 0>(from, to, count, vectors, scale);
    case 1:
      return pass_of<T, 1>(from, to, count, vectors, scale);
    case 2:
      return pass_of<T, 2>(from, to, count, vectors, scale);
    case 3:
      return pass_of<T, 3>(from, to, count, vectors, scale);
    default:
      return pass_of<T, 4>(from, to, count, vectors, scale);
  }
}

/* 2^stages rows of `vectors` vectors, stages <= kTileStages. */
template <class T>
void transform_strip(int stages, int64_t vectors, T scale, T* x, int64_t ldx, T* tile) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t plane = lanes << stages; /* of one vector of each row in the tile */
  if (stages <= kPassStages) {
    const Layout<T> rows = {x, ldx, 0, lanes};
    return pass(stages, rows, rows, 1, vectors, scale);
  }
  if (stages <= 2 * kPassStages) {
    const int second = stages / 2, first = stages - second;
    pass(first, {x, ldx << second, ldx, lanes}, {tile, lanes << second, lanes, plane}, int64_t(1) << second, vectors,
         T(1));
    return pass(second, {tile, lanes, lanes << second, plane}, {x, ldx, ldx << second, lanes}, int64_t(1) << first,
                vectors, scale);
  }
  const int third = stages / 3, second = (stages - third) / 2, first = stages - second - third, later = second + third;
  pass(first, {x, ldx << later, ldx, lanes}, {tile, lanes << later, lanes, plane}, int64_t(1) << later, vectors, T(1));
  for (int64_t block = 0; block < int64_t(1) << first; ++block) {
    T* part = tile + block * (lanes << later);
    const Layout<T> across = {part, lanes << third, lanes, plane};
    pass(second, across, across, int64_t(1) << third, vectors, T(1));
    pass(third, {part, lanes, lanes << third, plane}, {x + block * (ldx << later), ldx, ldx << third, lanes},
         int64_t(1) << second, vectors, scale);
  }
}

/* Columns fewer than a vector, through a packed copy with zeros beside them. */
template <class T>
void transform_ragged(int stages, int64_t cols, T scale, T* x, int64_t ldx, T* tile) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t rows = int64_t(1) << stages;
  const size_t bytes = static_cast<size_t>(cols) * sizeof(T);
  T* packed = tile + (lanes << kTileStages);
  std::memset(packed, 0, static_cast<size_t>(rows * lanes) * sizeof(T));
  for (int64_t r = 0; r < rows; ++r) std::memcpy(packed + r * lanes, x + r * ldx, bytes);
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
  constexpr int64_t lanes = kLanes<T>;
  const int64_t vectors = stages <= kPassStages ? cols / lanes : kStrip / GRAMIAN_VECTOR_BYTES;
  int64_t c = 0;
  for (; vectors > 0 && c + vectors * lanes <= cols; c += vectors * lanes) {
    transform_strip(stages, vectors, scale, x + c, ldx, tile);
  }
  if (cols - c >= lanes) {
    transform_strip(stages, (cols - c) / lanes, scale, x + c, ldx, tile);
    c = cols / lanes * lanes;
  }
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
