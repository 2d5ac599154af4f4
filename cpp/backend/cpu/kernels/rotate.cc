/* Givens rotations on many rows at once. Along one row each step needs the one before, so rows go side by side in the
 * lanes of vectors: squares of `lanes` rows and columns are turned over in registers, rotated and turned back. */
#include "kernel_common.h"

namespace {

using V = Vector<double>;
constexpr int64_t kWidth = kLanes<double>;
constexpr int64_t kSide = kWidth == 2 ? 4 : 2;  // vectors side by side: they hide the latency of the chain
constexpr int64_t kHeight = kSide * kWidth;     // rows of a block
constexpr int64_t kMostTogether = 8;            // rows of X that pass a square while it is in registers

using Lanes = Integer<double>;

/* What lies off the diagonal of each square of 2 * kStep rows and columns changes places; low and high are the lanes of
 * two rows, one after the other, that go into the upper and into the lower of them. */
template <int64_t kStep>
inline void exchange(V* v, const Lanes& low, const Lanes& high) {
#pragma GCC unroll 8
  for (int64_t i = 0; i < kWidth; ++i) {
    if ((i & kStep) != 0) continue;
    const V a = v[i], b = v[i + kStep];
    v[i] = __builtin_shuffle(a, b, low);
    v[i + kStep] = __builtin_shuffle(a, b, high);
  }
}

/* The transposed square. */
inline void transpose(V* v) {
#if GRAMIAN_VECTOR_BYTES == 64
  exchange<1>(v, Lanes{0, 8, 2, 10, 4, 12, 6, 14}, Lanes{1, 9, 3, 11, 5, 13, 7, 15});
  exchange<2>(v, Lanes{0, 1, 8, 9, 4, 5, 12, 13}, Lanes{2, 3, 10, 11, 6, 7, 14, 15});
  exchange<4>(v, Lanes{0, 1, 2, 3, 8, 9, 10, 11}, Lanes{4, 5, 6, 7, 12, 13, 14, 15});
#elif GRAMIAN_VECTOR_BYTES == 32
  exchange<1>(v, Lanes{0, 4, 2, 6}, Lanes{1, 5, 3, 7});
  exchange<2>(v, Lanes{0, 1, 4, 5}, Lanes{2, 3, 6, 7});
#else
  exchange<1>(v, Lanes{0, 2}, Lanes{1, 3});
#endif
}

/* One rotation of the columns l and x of a vector of rows. */
template <int kSign>
inline void rotate(const V& cosine, const V& sine, const V& inverse, V& l, V& x) {
  const V old = l, left = x;
  if (kSign > 0) {
    l = cosine * old + sine * left;
    x = cosine * left - sine * old;
  } else {
    l = (old - sine * left) * inverse;
    x = cosine * left - sine * l;
  }
}

/* The same of kSide vectors of rows. */
template <int kSign>
inline void rotate_sides(double c, double s, V* l, int64_t ldl, V* x) {
  const V cosine = splat(c), sine = splat(s);
  const V inverse = splat(kSign > 0 ? 0.0 : 1 / c);
#pragma GCC unroll 4
  for (int64_t side = 0; side < kSide; ++side) rotate<kSign>(cosine, sine, inverse, l[side * ldl], x[side]);
}

/* Columns [column, column + width) of `count` rows of L, together <= kMostTogether rows of X: x[p * kSide + side] is
 * what the rows have left of row p. What is not there of a square (rows behind `count`, columns behind `width`) stands
 * for zeros, which nobody sees. */
template <int kSign, bool kWhole>
inline void square(double* l, int64_t ldl, int64_t count, int64_t width, int64_t together, const double* cosine,
                   const double* sine, int64_t ld, V* x) {
  V v[kHeight];
#pragma GCC unroll 16
  for (int64_t r = 0; r < kHeight; ++r) {
    if (kWhole || (r < count && width == kWidth)) {
      v[r] = load<V>(l + r * ldl);
    } else {
      v[r] = V{};
      if (r < count) std::memcpy(&v[r], l + r * ldl, static_cast<size_t>(width) * sizeof(double));
    }
  }
#pragma GCC unroll 4
  for (int64_t side = 0; side < kSide; ++side) transpose(v + side * kWidth);
  for (int64_t p = 0; p < together; ++p) {
    const double *const c = cosine + p * ld, *const s = sine + p * ld;
    V left[kSide];
#pragma GCC unroll 4
    for (int64_t side = 0; side < kSide; ++side) left[side] = x[p * kSide + side];
    if (kWhole) {
#pragma GCC unroll 8
      for (int64_t j = 0; j < kWidth; ++j) rotate_sides<kSign>(c[j], s[j], v + j, kWidth, left);
    } else {
      for (int64_t j = 0; j < width; ++j) rotate_sides<kSign>(c[j], s[j], v + j, kWidth, left);
    }
#pragma GCC unroll 4
    for (int64_t side = 0; side < kSide; ++side) x[p * kSide + side] = left[side];
  }
#pragma GCC unroll 4
  for (int64_t side = 0; side < kSide; ++side) transpose(v + side * kWidth);
#pragma GCC unroll 16
  for (int64_t r = 0; r < kHeight; ++r) {
    if (kWhole || (r < count && width == kWidth)) {
      store(l + r * ldl, v[r]);
    } else if (r < count) {
      std::memcpy(l + r * ldl, &v[r], static_cast<size_t>(width) * sizeof(double));
    }
  }
}

/* The same of one row of X, for a whole square: one side after the other, so that coefficients and x fit the registers
 * beside it. */
template <int kSign>
inline void whole_square(double* l, int64_t ldl, const double* cosine, const double* sine, V* x) {
  V c[kWidth], s[kWidth], inverse[kWidth];
#pragma GCC unroll 8
  for (int64_t j = 0; j < kWidth; ++j) {
    c[j] = splat(cosine[j]);
    s[j] = splat(sine[j]);
    inverse[j] = splat(kSign > 0 ? 0.0 : 1 / cosine[j]);
  }
#pragma GCC unroll 4
  for (int64_t side = 0; side < kSide; ++side) {
    double* const rows = l + side * kWidth * ldl;
    V v[kWidth];
#pragma GCC unroll 8
    for (int64_t r = 0; r < kWidth; ++r) v[r] = load<V>(rows + r * ldl);
    transpose(v);
#pragma GCC unroll 8
    for (int64_t j = 0; j < kWidth; ++j) rotate<kSign>(c[j], s[j], inverse[j], v[j], x[side]);
    transpose(v);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kWidth; ++r) store(rows + r * ldl, v[r]);
  }
}

/* What rows are fetched ahead of the square in work: they lie too far apart for the processor to see. */
constexpr int64_t kAhead = 32;

/* One block of `count` <= kHeight rows, all columns. Columns of one row of X may be cut at multiples of kWidth into
 * several calls: the same bits. */
template <int kSign, bool kOne>
inline void rotate_block(int64_t count, int64_t cols, int64_t together, const double* cosine, const double* sine,
                         int64_t ld, double* l, int64_t ldl, V* x) {
  int64_t column = 0;
  if (count == kHeight) {
    for (; column + kWidth <= cols; column += kWidth) {
      if (column % 8 == 0 && column + kAhead < cols) {
#pragma GCC unroll 16
        for (int64_t r = 0; r < kHeight; ++r) __builtin_prefetch(l + r * ldl + column + kAhead, 1);
      }
      if (kOne) {
        whole_square<kSign>(l + column, ldl, cosine + column, sine + column, x);
      } else {
        square<kSign, true>(l + column, ldl, kHeight, kWidth, together, cosine + column, sine + column, ld, x);
      }
    }
  }
  for (; column < cols; column += kWidth) {
    const int64_t width = cols - column < kWidth ? cols - column : kWidth;
    square<kSign, false>(l + column, ldl, count, width, together, cosine + column, sine + column, ld, x);
  }
}

template <int kSign>
int rotate_all(int64_t rows, int64_t cols, int64_t b, const double* cosine, const double* sine, double* l, int64_t ldl,
               double* x, int64_t ldx) {
  for (int64_t begin = 0; begin < rows; begin += kHeight) {
    const int64_t count = rows - begin < kHeight ? rows - begin : kHeight;
    double* const own = x + begin * ldx;
    for (int64_t first = 0; first < b; first += kMostTogether) {
      const int64_t together = b - first < kMostTogether ? b - first : kMostTogether;
      double gathered[kMostTogether * kHeight] = {};
      for (int64_t r = 0; r < count; ++r)
        for (int64_t p = 0; p < together; ++p) gathered[p * kHeight + r] = own[r * ldx + first + p];
      V left[kMostTogether * kSide];
      for (int64_t k = 0; k < together * kSide; ++k) left[k] = load<V>(gathered + k * kWidth);
      const double *const c = cosine + first * cols, *const s = sine + first * cols;
      if (together == 1) {
        rotate_block<kSign, true>(count, cols, 1, c, s, cols, l + begin * ldl, ldl, left);
      } else {
        rotate_block<kSign, false>(count, cols, together, c, s, cols, l + begin * ldl, ldl, left);
      }
      for (int64_t k = 0; k < together * kSide; ++k) store(gathered + k * kWidth, left[k]);
      for (int64_t r = 0; r < count; ++r)
        for (int64_t p = 0; p < together; ++p) own[r * ldx + first + p] = gathered[p * kHeight + r];
    }
  }
  return GRAMIAN_STATUS_OK;
}

int rotate_rows(gramian_context*, int sign, int64_t rows, int64_t cols, int64_t b, const double* cosine,
                const double* sine, double* l, int64_t ldl, double* x, int64_t ldx) {
  if (sign > 0) return rotate_all<1>(rows, cols, b, cosine, sine, l, ldl, x, ldx);
  if (sign < 0) return rotate_all<-1>(rows, cols, b, cosine, sine, l, ldl, x, ldx);
  return GRAMIAN_STATUS_INVALID;
}

}  // namespace

GRAMIAN_FILL_FUNCTION(rotate) {
  table->rotate_rows = rotate_rows;
}
