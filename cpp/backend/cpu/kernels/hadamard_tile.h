/* Rows through signs, transforms and a choice, as many of them at a time as a vector has lanes. They are turned over,
 * so that a vector holds one column of all of them: then a column goes anywhere for the price of a load, all stages of
 * the transform are between vectors, and what is chosen is turned back. Included once per (source, ISA); everything is
 * in an anonymous namespace. */
#ifndef GRAMIAN_BACKEND_CPU_KERNELS_HADAMARD_TILE_H
#define GRAMIAN_BACKEND_CPU_KERNELS_HADAMARD_TILE_H

#include "butterfly.h"

namespace {

/* z[k] = sign[k] x[index[k]], 0 where index[k] < 0; z = H z, and for each further round z = H (further[k] z[k]); then
 * factor z[choice[q]], times scale[q] if there are scales. No index: k itself, and 0 from cols on; no choice: q. */
template <class T>
struct SignedRows {
  int64_t cols, n, m;
  const int64_t* index;
  const T* sign;
  int64_t rounds;
  const T* further;
  T factor;
  const int64_t* choice;
  const T* scale;
};

/* What lies off the diagonal of each square of 2 * kStep rows and columns changes places. */
template <class T, int kStep>
inline void exchange(Vector<T>* v) {
  constexpr int lanes = static_cast<int>(kLanes<T>);
  Integer<T> low = {}, high = {};
  for (int lane = 0; lane < lanes; ++lane) {
    low[lane] = (lane & kStep) != 0 ? lanes + lane - kStep : lane;
    high[lane] = (lane & kStep) != 0 ? lanes + lane : lane + kStep;
  }
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) {
    if ((i & kStep) != 0) continue;
    const Vector<T> a = v[i], b = v[i + kStep];
#if defined(__clang__)
    for (int lane = 0; lane < lanes; ++lane) {
      v[i][lane] = low[lane] < lanes ? a[low[lane]] : b[low[lane] - lanes];
      v[i + kStep][lane] = high[lane] < lanes ? a[high[lane]] : b[high[lane] - lanes];
    }
#else
    v[i] = __builtin_shuffle(a, b, low);
    v[i + kStep] = __builtin_shuffle(a, b, high);
#endif
  }
}

/* The transposed square of kLanes<T> vectors. */
template <class T>
inline void turn_over(Vector<T>* v) {
  if constexpr (kLanes < T >> 8) exchange<T, 8>(v);
  if constexpr (kLanes < T >> 4) exchange<T, 4>(v);
  if constexpr (kLanes < T >> 2) exchange<T, 2>(v);
  exchange<T, 1>(v);
}

/* The rows that come next, asked for line by line while these are in work: hardware does not fetch past the end of a
 * page, and all of them at once would keep the loads of these waiting. */
class NextRows {
 public:
  NextRows(const void* rows, int64_t count, int64_t row_bytes, int64_t step_bytes)
      : at_(static_cast<const char*>(rows)), end_(at_ + row_bytes), left_(count), row_(row_bytes), step_(step_bytes) {}

  /* The next `lines` of them. */
  void fetch(int lines) {
    for (int k = 0; k < lines && left_ > 0; ++k) {
      __builtin_prefetch(at_, 0, 2);
      at_ += 64;
      if (at_ < end_) continue;
      end_ += step_;
      at_ = end_ - row_;
      --left_;
    }
  }

 private:
  const char *at_, *end_;
  int64_t left_, row_, step_;
};

/* turned[c ..] = columns c .. of kLanes<T> rows of x; of the last one only the first `left` columns are there. */
template <class T>
inline void turn_in(int64_t c, int64_t left, const T* x, int64_t ldx, T* turned) {
  constexpr int64_t lanes = kLanes<T>;
  Vector<T> v[lanes];
#pragma GCC unroll 16
  for (int64_t r = 0; r < lanes; ++r) {
    v[r] = Vector<T>{};
    std::memcpy(&v[r], x + r * ldx + c, static_cast<size_t>(left) * sizeof(T));
  }
  turn_over<T>(v);
#pragma GCC unroll 16
  for (int64_t i = 0; i < lanes; ++i) store(turned + (c + i) * lanes, v[i]);
}

/* All columns, and zeros in the place after them. */
template <class T>
void turn_in(int64_t cols, const T* x, int64_t ldx, T* turned) {
  constexpr int64_t lanes = kLanes<T>;
  int64_t c = 0;
  for (; c + lanes <= cols; c += lanes) turn_in(c, lanes, x, ldx, turned);
  if (c < cols) turn_in(c, cols - c, x, ldx, turned);
  store(turned + cols * lanes, Vector<T>{});
}

/* The widest stages of one round: point k of the input is source(k). */
template <class T, int kStages, class Source>
inline void first_pass(int64_t n, const Source& source, NextRows& next, T* tile) {
  constexpr int points = 1 << kStages;
  const Vector<T> one = hidden_one<Vector<T>>();
  const int64_t part = n >> kStages;
  for (int64_t i = 0; i < part; ++i) {
    next.fetch(points * GRAMIAN_VECTOR_BYTES / 128);
    Vector<T> v[points];
#pragma GCC unroll 16
    for (int p = 0; p < points; ++p) v[p] = source(i + p * part);
    butterflies<kStages>(v, one);
#pragma GCC unroll 16
    for (int p = 0; p < points; ++p) store(tile + (i + p * part) * kLanes<T>, v[p]);
  }
}

template <class T, class Source>
void first_pass(int stages, int64_t n, const Source& source, NextRows& next, T* tile) {
  switch (stages) {
    case 0:
      return first_pass<T, 0>(n, source, next, tile);
    case 1:
      return first_pass<T, 1>(n, source, next, tile);
    case 2:
      return first_pass<T, 2>(n, source, next, tile);
    case 3:
      return first_pass<T, 3>(n, source, next, tile);
    default:
      return first_pass<T, 4>(n, source, next, tile);
  }
}

/* kStages stages of each run of `span` columns, the widest distance span / 2. */
template <class T, int kStages>
void tile_pass(int64_t size, int64_t span, NextRows& next, T* tile) {
  const Vector<T> one = hidden_one<Vector<T>>();
  const int64_t part = span >> kStages;
  for (int64_t at = 0; at < size; at += span) {
    for (int64_t i = at; i < at + part; ++i) {
      next.fetch((1 << kStages) * GRAMIAN_VECTOR_BYTES / 256);
      Vector<T> v[1 << kStages];
      T* const x = tile + i * kLanes<T>;
#pragma GCC unroll 16
      for (int p = 0; p < 1 << kStages; ++p) v[p] = load<Vector<T>>(x + p * part * kLanes<T>);
      butterflies<kStages>(v, one);
#pragma GCC unroll 16
      for (int p = 0; p < 1 << kStages; ++p) store(x + p * part * kLanes<T>, v[p]);
    }
  }
}

/* All stages of distance below `size` = 2^stages columns. */
template <class T>
void later_passes(int stages, NextRows& next, T* tile) {
  const int64_t size = int64_t(1) << stages;
  // By threes, with passes of four where that saves one.
  for (int64_t span = size; stages > 0;) {
    const int most = stages % 3 == 1 && stages > 3 ? 4 : 3, taken = stages < most ? stages : most;
    switch (taken) {
      case 1:
        tile_pass<T, 1>(size, span, next, tile);
        break;
      case 2:
        tile_pass<T, 2>(size, span, next, tile);
        break;
      case 3:
        tile_pass<T, 3>(size, span, next, tile);
        break;
      default:
        tile_pass<T, 4>(size, span, next, tile);
    }
    span >>= taken;
    stages -= taken;
  }
}

/* One round. What the first pass leaves is finished run by run, so that a run stays in the first-level cache. */
template <class T, class Source>
void transform_tile(int64_t n, const Source& source, NextRows& next, T* tile) {
  int stages = 0;
  while (int64_t(1) << stages < n) ++stages;
  const int first = stages <= 4 ? stages : 3, later = stages - first;
  first_pass<T>(first, n, source, next, tile);
  for (int64_t at = 0; later > 0 && at < n; at += int64_t(1) << later) {
    later_passes<T>(later, next, tile + at * kLanes<T>);
  }
}

/* out[r, q ..] for kLanes<T> rows, from the chosen columns of the tile; `left` of them, kLanes<T> but at the end. */
template <class T, bool kTimes>
inline void turn_out(const SignedRows<T>& s, const T* tile, int64_t q, int64_t left, T* out, int64_t ld_out) {
  constexpr int64_t lanes = kLanes<T>;
  const size_t bytes = static_cast<size_t>(left) * sizeof(T);
  Vector<T> v[lanes], scale = splat(T(1));
#pragma GCC unroll 16
  for (int64_t i = 0; i < lanes; ++i) {
    const int64_t at = i < left ? q + i : q;
    v[i] = load<Vector<T>>(tile + (s.choice != nullptr ? s.choice[at] : at) * lanes) * s.factor;
  }
  turn_over<T>(v);
  if (s.scale != nullptr) std::memcpy(&scale, s.scale + q, bytes);
#pragma GCC unroll 16
  for (int64_t r = 0; r < lanes; ++r) {
    T* const to = out + r * ld_out + q;
    Vector<T> value = v[r] * scale;
    if constexpr (kTimes) {
      Vector<T> before = {};
      std::memcpy(&before, to, bytes);
      value = before * value;
    }
    std::memcpy(to, &value, bytes);
  }
}

template <class T, bool kTimes>
void turn_out(const SignedRows<T>& s, const T* tile, T* out, int64_t ld_out) {
  constexpr int64_t lanes = kLanes<T>;
  int64_t q = 0;
  for (; q + lanes <= s.m; q += lanes) turn_out<T, kTimes>(s, tile, q, lanes, out, ld_out);
  if (q < s.m) turn_out<T, kTimes>(s, tile, q, s.m - q, out, ld_out);
}

/* kLanes<T> rows. work: kLanes<T> (2 n + kLanes<T>) elements, two tiles and what a ragged end writes past the second
 * one. */
template <class T>
void transform_together(const SignedRows<T>& s, const T* x, int64_t ldx, NextRows& next, bool times, T* work, T* out,
                        int64_t ld_out) {
  constexpr int64_t lanes = kLanes<T>;
  T *const tile = work, *const turned = work + s.n * lanes;
  turn_in(s.cols, x, ldx, turned);
  const auto column = [&](int64_t k, int64_t from) { return load<Vector<T>>(turned + from * lanes) * s.sign[k]; };
  if (s.index != nullptr) {
    const auto placed = [&](int64_t k) { return column(k, s.index[k] < 0 ? s.cols : s.index[k]); };
    transform_tile<T>(s.n, placed, next, tile);
  } else {
    const auto in_order = [&](int64_t k) { return column(k, k < s.cols ? k : s.cols); };
    transform_tile<T>(s.n, in_order, next, tile);
  }
  for (int64_t round = 1; round < s.rounds; ++round) {
    const T* const sign = s.further + (round - 1) * s.n;
    const auto again = [&](int64_t k) { return load<Vector<T>>(tile + k * lanes) * sign[k]; };
    transform_tile<T>(s.n, again, next, tile);
  }
  if (times) return turn_out<T, true>(s, tile, out, ld_out);
  turn_out<T, false>(s, tile, out, ld_out);
}

}  // namespace

#endif
