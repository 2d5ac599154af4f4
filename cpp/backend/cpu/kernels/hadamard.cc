/* Fast Walsh-Hadamard transform of rows and of columns, natural order. The stages commute, so the widest go first, in
 * both directions: a column has the bits of a row. Rows, and columns of rows without gaps, which are one long row that
 * ends early: radix-8 passes until a block fits the first-level cache, each block then to its end before the next is
 * touched. Eight streams are what caches of eight ways hold at distances of a power of two, and run at the pace of a
 * copy. Columns of rows with gaps: ten stages per sweep over memory, see below. */
#include "gather.h"
#include "hadamard_tile.h"

namespace {

/* Elements of a block that stays in the first-level cache. */
template <class T>
constexpr int64_t kBlock = 16384 / static_cast<int64_t>(sizeof(T));
/* Bytes that no second-level cache can be counted on to hold: passes over more ask for their lines ahead, and as lines
 * that will be written. */
constexpr int64_t kBeyondCache = int64_t(1) << 17;
constexpr int64_t kLine = 64;
constexpr int64_t kStreamAhead = 4 * kLine;
template <class T>
inline int64_t ahead_of(int64_t elements) {
  constexpr auto size = static_cast<int64_t>(sizeof(T));
  return elements * size > kBeyondCache ? kStreamAhead / size : 0;
}

/* 16 bytes: what lies between memory as others align it and a whole vector. */
template <class T>
struct Short;
template <>
struct Short<float> {
  typedef float Vector __attribute__((vector_size(16)));
};
template <>
struct Short<double> {
  typedef double Vector __attribute__((vector_size(16)));
};

/* One transform of 2^kStages values of V (a vector or a number) that lie `step` apart: x = what `from` holds. */
template <int kStages, bool kScale, class V, class T>
inline void radix_at(const T* from, T* x, int64_t step, const V& one, T scale) {
  constexpr int points = 1 << kStages;
  V v[points];
#pragma GCC unroll 16
  for (int p = 0; p < points; ++p) v[p] = load<V>(from + p * step);
  butterflies<kStages>(v, one);
#pragma GCC unroll 16
  for (int p = 0; p < points; ++p) store<V>(x + p * step, kScale ? v[p] * scale : v[p]);
}

/* Elements before the first whole vector, where short vectors lead there at all points. */
template <class T>
inline int64_t head_of(const T* x, int64_t step, int64_t count) {
  const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(x) % GRAMIAN_VECTOR_BYTES);
  const bool leads = past % 16 == 0 && step % kLanes<T> == 0;
  const int64_t head = past == 0 || !leads ? 0 : (GRAMIAN_VECTOR_BYTES - past) / static_cast<int64_t>(sizeof(T));
  return head < count ? head : 0;
}

/* `count` transforms of 2^kStages points that lie `step` apart, side by side, times `scale` if kScale. With each line
 * of x the line `ahead` elements further is fetched, if that is not 0. A store of a vector that ends in the next line
 * costs two, so vectors are aligned where that is possible. `from` may be x. */
template <class T, int kStages, bool kScale>
void radix_pass(const T* from, T* x, int64_t step, int64_t count, int64_t ahead, T scale) {
  using Few = typename Short<T>::Vector;
  constexpr int64_t lanes = kLanes<T>, few = 16 / static_cast<int64_t>(sizeof(T));
  constexpr int64_t line = kLine / static_cast<int64_t>(sizeof(T));
  const Vector<T> one = hidden_one<Vector<T>>();
  const Few few_ones = Few{} + 1;
  int64_t i = 0;
  for (const int64_t head = head_of(x, step, count); i < head; i += few) {
    radix_at<kStages, kScale>(from + i, x + i, step, few_ones, scale);
  }
  if (ahead != 0) {
    for (; i + line <= count; i += line) {
#pragma GCC unroll 16
      for (int p = 0; p < 1 << kStages; ++p) __builtin_prefetch(x + i + p * step + ahead, 1);
      for (int64_t q = 0; q < line; q += lanes) radix_at<kStages, kScale>(from + i + q, x + i + q, step, one, scale);
    }
  }
  for (; i + lanes <= count; i += lanes) radix_at<kStages, kScale>(from + i, x + i, step, one, scale);
  for (; i + few <= count; i += few) radix_at<kStages, kScale>(from + i, x + i, step, few_ones, scale);
  for (; i < count; ++i) radix_at<kStages, kScale>(from + i, x + i, step, T(1), scale);
}

/* stages = 1 .. 4 */
template <class T, bool kScale>
void radix_pass(int stages, const T* from, T* x, int64_t step, int64_t count, int64_t ahead, T scale) {
  switch (stages) {
    case 1:
      return radix_pass<T, 1, kScale>(from, x, step, count, ahead, scale);
    case 2:
      return radix_pass<T, 2, kScale>(from, x, step, count, ahead, scale);
    case 3:
      return radix_pass<T, 3, kScale>(from, x, step, count, ahead, scale);
    default:
      return radix_pass<T, 4, kScale>(from, x, step, count, ahead, scale);
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

/* A row that comes later: where it will be written, and where it is read if that is another place. Null where there is
 * none. */
template <class T>
struct Later {
  const T* to;
  const T* from;
};

/* The last stages of all: 2^kStages neighbouring vectors, and what is inside them. Fetches the later row. */
template <class T, int kStages>
void last_pass(const T* from, T* x, int64_t size, const Later<T>& later, T scale) {
  constexpr int points = 1 << kStages;
  constexpr int64_t line = kLine / static_cast<int64_t>(sizeof(T));
  // The multiply-add units are busy with the stages inside vectors.
  const Vector<T> one = splat(T(1));
  for (int64_t i = 0; i < size; i += points * kLanes<T>) {
    for (int64_t k = 0; later.to != nullptr && k < points * kLanes<T>; k += line) {
      __builtin_prefetch(later.to + i + k, 1);
      if (later.from != nullptr) __builtin_prefetch(later.from + i + k);
    }
    Vector<T> v[points];
#pragma GCC unroll 8
    for (int p = 0; p < points; ++p) v[p] = load<Vector<T>>(from + i + p * kLanes<T>);
    butterflies<kStages>(v, one);
#pragma GCC unroll 8
    for (int p = 0; p < points; ++p) store(x + i + p * kLanes<T>, lane_stages<T>(v[p]) * scale);
  }
}

/* Runs all stages of distance below `size` on a block that fits the cache, and scales it: x = what `from` holds, which
 * may be x. size >= kLanes<T>. The last pass, which takes longest, fetches the later row. */
template <class T>
void transform_block(const T* from, T* x, int64_t size, const Later<T>& later, T scale) {
  int stages = 0;
  while (kLanes<T> << stages < size) ++stages;
  // Three for the last pass; the others by threes, with one pass of four where that saves one.
  for (int64_t span = size; stages > 3; from = x) {
    const int before = stages - 3, most = before % 3 == 1 ? 4 : 3, taken = before < most ? before : most;
    const int64_t part = span >> taken;
    for (int64_t at = 0; at < size; at += span) {
      radix_pass<T, false>(taken, from + at, x + at, part, part, int64_t{0}, T(1));
    }
    span = part;
    stages -= taken;
  }
  switch (stages) {
    case 3:
      return last_pass<T, 3>(from, x, size, later, scale);
    case 2:
      return last_pass<T, 2>(from, x, size, later, scale);
    case 1:
      return last_pass<T, 1>(from, x, size, later, scale);
    default:
      return last_pass<T, 0>(from, x, size, later, scale);
  }
}

/* Depth first, so every level of cache sees a block once. At most 6 levels deep for n = 2^30. */
template <class T>
void transform(const T* from, T* x, int64_t n, const Later<T>& later, T scale) {
  if (n <= kBlock<T>) return transform_block(from, x, n, later, scale);
  int stages = 1;
  while (stages < 3 && n >> stages > kBlock<T>) ++stages;
  const int64_t part = n >> stages;
  radix_pass<T, false>(stages, from, x, part, part, ahead_of<T>(n), T(1));
  for (int64_t at = 0; at < n; at += part) transform(x + at, x + at, part, Later<T>{}, scale);
}

/* Rows shorter than a vector. */
template <class T>
void transform_short(const T* from, T* x, int64_t n, T scale) {
  if (from != x) std::memcpy(x, from, static_cast<size_t>(n) * sizeof(T));
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
int fwht_type(int64_t rows, int64_t n, double scale, const T* from, int64_t ld_from, T* x, int64_t ldx) {
  if (n < 1 || (n & (n - 1)) != 0) return GRAMIAN_STATUS_INVALID;
  const bool in_place = from == x;
  for (int64_t r = 0; r < rows; ++r, from += ld_from, x += ldx) {
    if (n < kLanes<T>) {
      transform_short(from, x, n, static_cast<T>(scale));
      continue;
    }
    // The row after the next is fetched while this one is in work: hardware does not fetch past the end of a page.
    Later<T> later = {};
    if (r + 2 < rows) later = {x + 2 * ldx, in_place ? nullptr : from + 2 * ld_from};
    transform(from, x, n, later, static_cast<T>(scale));
  }
  return GRAMIAN_STATUS_OK;
}

int fwht(gramian_context*, int dtype, int64_t rows, int64_t n, double scale, const void* from, int64_t ld_from, void* x,
         int64_t ldx) {
  if (dtype == GRAMIAN_F32) {
    return fwht_type(rows, n, scale, static_cast<const float*>(from), ld_from, static_cast<float*>(x), ldx);
  }
  if (dtype == GRAMIAN_F64) {
    return fwht_type(rows, n, scale, static_cast<const double*>(from), ld_from, static_cast<double*>(x), ldx);
  }
  return GRAMIAN_STATUS_INVALID;
}

/* --- rows through signs, transforms and a choice --------------------------------------------------------------- */

/* Longer rows are transformed one by one: side by side they would not stay in the second-level cache. */
constexpr int64_t kTogetherBytes = GRAMIAN_HADAMARD_TOGETHER * int64_t(sizeof(float));

/* What transform_together does, step by step, with the same bits. work: rows x n elements. */
template <class T>
void transform_apart(const SignedRows<T>& s, int64_t rows, const T* x, int64_t ldx, bool times, T* work, T* out,
                     int64_t ld_out) {
  if (s.index != nullptr) {
    gather_type(rows, s.n, x, ldx, s.index, s.sign, 0, work, s.n);
  } else {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < s.n; ++k) work[r * s.n + k] = (k < s.cols ? x[r * ldx + k] : T(0)) * s.sign[k];
    }
  }
  for (int64_t round = 0; round < s.rounds; ++round) {
    for (int64_t r = 0; round > 0 && r < rows; ++r) {
      for (int64_t k = 0; k < s.n; ++k) work[r * s.n + k] *= s.further[(round - 1) * s.n + k];
    }
    fwht_type(rows, s.n, round + 1 < s.rounds ? 1.0 : static_cast<double>(s.factor), work, s.n, work, s.n);
  }
  if (s.choice != nullptr) {
    gather_type(rows, s.m, work, s.n, s.choice, s.scale, times ? 1 : 0, out, ld_out);
    return;
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t q = 0; q < s.m; ++q) {
      const T value = s.scale != nullptr ? s.scale[q] * work[r * s.n + q] : work[r * s.n + q];
      T& to = out[r * ld_out + q];
      to = times ? to * value : value;
    }
  }
}

template <class T>
int hadamard_rows_type(const SignedRows<T>& s, int64_t rows, const T* x, int64_t ldx, int times, T* work, T* out,
                       int64_t ld_out) {
  constexpr int64_t lanes = kLanes<T>, size = sizeof(T);
  if (s.n < 1 || (s.n & (s.n - 1)) != 0 || s.cols > s.n || s.rounds < 1) return GRAMIAN_STATUS_INVALID;
  int64_t r = 0;
  for (; s.n * size <= kTogetherBytes && r + lanes <= rows; r += lanes) {
    const int64_t left = rows - r - lanes, after = left < lanes ? left : lanes;
    NextRows next(x + (r + lanes) * ldx, after, s.cols * size, ldx * size);
    transform_together(s, x + r * ldx, ldx, next, times != 0, work, out + r * ld_out, ld_out);
  }
  if (r < rows) transform_apart(s, rows - r, x + r * ldx, ldx, times != 0, work, out + r * ld_out, ld_out);
  return GRAMIAN_STATUS_OK;
}

int hadamard_rows(gramian_context*, int dtype, int64_t rows, int64_t cols, int64_t n, int64_t m, const void* x,
                  int64_t ldx, const int64_t* index, const void* sign, int64_t rounds, const void* further,
                  double factor, const int64_t* choice, const void* scale, int times, void* work, void* out,
                  int64_t ld_out) {
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const SignedRows<T> s = {cols,
                             n,
                             m,
                             index,
                             static_cast<const T*>(sign),
                             rounds,
                             static_cast<const T*>(further),
                             static_cast<T>(factor),
                             choice,
                             static_cast<const T*>(scale)};
    return hadamard_rows_type(s, rows, static_cast<const T*>(x), ldx, times, static_cast<T*>(work),
                              static_cast<T*>(out), ld_out);
  };
  if (dtype == GRAMIAN_F32) return run(float());
  if (dtype == GRAMIAN_F64) return run(double());
  return GRAMIAN_STATUS_INVALID;
}

/* --- columns ------------------------------------------------------------------------------------------------- */

/* A sweep runs kTileStages stages at most on strips of kStrip bytes. The strip of all rows that meet in these stages
 * is a tile: the first pass reads the rows where they are and writes the tile, the last one writes them back. Rows that
 * are a power of two apart share a few sets of every cache and would push each other out between two uses; so no pass
 * over memory takes more than eight rows at a time, and takes whole lines of them, while the tile lies close. In the
 * tile the strip is cut into planes, one vector of each row. */
constexpr int kTileStages = 10;
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
  const Vector<T> one = hidden_one<Vector<T>>();
  for (int64_t i = 0; i < count; ++i) {
    const T* source = from.data + i * from.transform;
    T* target = to.data + i * to.transform;
    for (int64_t q = 0; q < planes; ++q, source += from.plane, target += to.plane) {
      Vector<T> v[points];
#pragma GCC unroll 16
      for (int p = 0; p < points; ++p) v[p] = load<Vector<T>>(source + p * from.point);
      butterflies<kStages>(v, one);
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

/* Six stages of rows that are wide, whole lines and far apart. Strips of kWideStrip bytes of all 64 rows go through a
 * tile in the second-level cache, eight rows at a time in and eight at a time out. */
constexpr int kWideStages = 6;
constexpr int64_t kWideStrip = 2048;
/* Rows of the tile have a line between them, to spread them over the sets. */
static_assert((int64_t(1) << kWideStages) * (kWideStrip + kLine) <= GRAMIAN_FWHT_SCRATCH, "the scratch holds one tile");

/* Three stages of rows `from_step` apart, `width` elements of each, whole lines, into rows `to_step` apart. With each
 * line the one `ahead` elements further is fetched, if that is not 0. */
template <class T, bool kScale>
void wide_pass(const T* from, int64_t from_step, T* to, int64_t to_step, int64_t width, int64_t ahead, T scale) {
  constexpr int points = 8;
  constexpr int64_t line = kLine / static_cast<int64_t>(sizeof(T));
  const Vector<T> one = hidden_one<Vector<T>>();
  for (int64_t c = 0; c < width; c += line) {
#pragma GCC unroll 8
    for (int p = 0; ahead != 0 && p < points; ++p) __builtin_prefetch(from + p * from_step + c + ahead, 0, 2);
    for (int64_t q = c; q < c + line; q += kLanes<T>) {
      Vector<T> v[points];
#pragma GCC unroll 8
      for (int p = 0; p < points; ++p) v[p] = load<Vector<T>>(from + p * from_step + q);
      butterflies<3>(v, one);
#pragma GCC unroll 8
      for (int p = 0; p < points; ++p) store(to + p * to_step + q, kScale ? v[p] * scale : v[p]);
    }
  }
}

/* 64 rows of `width` elements, whole lines. */
template <class T>
void transform_wide(int64_t width, T scale, T* x, int64_t ldx, T* tile) {
  constexpr int64_t strip = kWideStrip / static_cast<int64_t>(sizeof(T));
  constexpr int64_t pitch = strip + kLine / static_cast<int64_t>(sizeof(T));
  for (int64_t c = 0; c < width; c += strip, x += strip) {
    const int64_t taken = width - c < strip ? width - c : strip;
    for (int64_t i = 0; i < 8; ++i) {
      // The rows that are next: these eight in the next group, or the first ones in the next strip.
      const int64_t ahead = i < 7 ? ldx : strip - 7 * ldx;
      wide_pass<T, false>(x + i * ldx, 8 * ldx, tile + i * pitch, 8 * pitch, taken, ahead, T(1));
    }
    for (int64_t i = 0; i < 8; ++i) {
      wide_pass<T, true>(tile + 8 * i * pitch, pitch, x + 8 * i * ldx, ldx, taken, int64_t{0}, scale);
    }
  }
}

/* Wider rows meet too few at a time in the caches. */
constexpr int64_t kPackedColumns = 1024;

/* Rows without gaps between them: a transform of one long row that ends at the distance of a row. Depth first. */
template <class T>
void transform_packed(int stages, int64_t cols, T scale, T* x) {
  const int64_t ahead = ahead_of<T>(cols << stages);
  if (stages <= 3) return radix_pass<T, true>(stages, x, x, cols, cols, ahead, scale);
  const int taken = stages == 4 ? 2 : 3;
  const int64_t part = cols << (stages - taken);
  radix_pass<T, false>(taken, x, x, part, part, ahead, T(1));
  for (int p = 0; p < 1 << taken; ++p) transform_packed(stages - taken, cols, scale, x + p * part);
}

template <class T>
void transform_columns(int stages, int64_t cols, T scale, T* x, int64_t ldx, T* tile) {
  const int64_t n = int64_t(1) << stages;
  if (cols == 1 && ldx == 1) {
    return n < kLanes<T> ? transform_short(x, x, n, scale) : transform(x, x, n, Later<T>{}, scale);
  }
  if (stages > 0 && stages <= 3 && cols >= kLine / static_cast<int64_t>(sizeof(T))) {
    return radix_pass<T, true>(stages, x, x, ldx, cols, ahead_of<T>(cols << stages), scale);
  }
  if (stages > 0 && ldx == cols && cols >= kLine / static_cast<int64_t>(sizeof(T)) && cols <= kPackedColumns) {
    return transform_packed(stages, cols, scale, x);
  }
  constexpr auto size = static_cast<int64_t>(sizeof(T));
  constexpr int64_t line = kLine / size;
  const auto address = reinterpret_cast<uintptr_t>(x);
  if (stages == kWideStages && cols >= 4 * line && ldx % line == 0 && address % sizeof(T) == 0 &&
      ahead_of<T>(cols << stages) != 0) {
    const int64_t past = static_cast<int64_t>(address % kLine) / size, head = past == 0 ? 0 : line - past;
    const int64_t whole = (cols - head) / line * line, tail = cols - head - whole;
    if (head > 0) transform_ragged(stages, head, scale, x, ldx, tile);
    transform_wide(whole, scale, x + head, ldx, tile);
    if (tail > 0) transform_ragged(stages, tail, scale, x + head + whole, ldx, tile);
    return;
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
  constexpr int64_t strip = kStrip / size;
  // Strips are whole lines where all rows begin at the same place of a line and there are enough strips to pay for the
  // narrow ones at both ends.
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
  table->hadamard_rows = hadamard_rows;
}
