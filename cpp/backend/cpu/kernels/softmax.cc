/* Softmax, its logarithm and log sum exp, of rows and of columns.
 *
 * Three passes: the largest value, the sum of exponentials of differences from it, the results. Two passes ("The
 * Two-Pass Softmax Algorithm"): exp(z) = p 2^k with p in [1 / sqrt 2, sqrt 2], so a sum is a pair (M, E) that cannot
 * overflow, and memory is read once before the results are written. Here E rises once a block, whose largest value is
 * found while the block is in the first-level cache, and not with every element: within a block all terms are scaled by
 * the same power of two.
 *
 * Sums leave the storage type after 16 terms of a lane, and blocks are added in double. Vectors are aligned with
 * the row, never with memory, so no result depends on where a row lies. */
#include <cmath>
#include <type_traits>

#include "exponential.h"
#include "stream.h"

namespace {

/* Elements that stay in the first-level cache between two uses. */
template <class T>
constexpr int64_t kBlock = 16384 / static_cast<int64_t>(sizeof(T));

/* exp(rest) = 1 + rest + c[0] rest^2 + ... for |rest| <= log(2) / 2: for float the polynomial of least relative error,
 * 5e-9 with coefficients rounded; for double the Taylor series. */
template <class T>
struct Limits;

/* Below kFlushed exp(z) is less than the smallest normal number, and the rounded exponent there makes 2^k exactly 0;
 * below kVanished no subnormal number is left. kReach bounds |k| where z - k log 2 is exact in its first part; the rest
 * is room for a block's smaller values down to where they vanish. Beyond kExact all values that matter are within a
 * factor of two of the largest, so their differences from it have no rounding error. */
template <>
struct Limits<float> {
  static constexpr float kFlushed = -88, kVanished = -112, kSmallest = 0x1p-126f, kExact = 1024;
  static constexpr float kReach = 32768 - 256;
  static constexpr float kCoefficients[] = {0x1.fffffcp-2f, 0x1.55549p-3f, 0x1.5558f4p-5f, 0x1.123a22p-7f,
                                            0x1.6a23bap-10f};
};

template <>
struct Limits<double> {
  static constexpr double kFlushed = -709, kVanished = -768, kSmallest = 0x1p-1022, kExact = 8192;
  static constexpr double kReach = 1048576 - 2048;
  static constexpr double kCoefficients[] = {
      inverse_factorial<double>(2),  inverse_factorial<double>(3),  inverse_factorial<double>(4),
      inverse_factorial<double>(5),  inverse_factorial<double>(6),  inverse_factorial<double>(7),
      inverse_factorial<double>(8),  inverse_factorial<double>(9),  inverse_factorial<double>(10),
      inverse_factorial<double>(11), inverse_factorial<double>(12), inverse_factorial<double>(13)};
};

constexpr double kLog2 = 0.693147180559945309417;

template <class T>
constexpr T kInfinity = static_cast<T>(HUGE_VAL);

/* --- reading and writing a row ------------------------------------------------------------------------------- */

/* The values from x on; lanes beyond `left` hold `fill`. Whole vectors where left is the constant kLanes. */
template <class T>
inline Vector<T> load_or(const T* x, int64_t left, T fill) {
  if (left >= kLanes<T>) return load<Vector<T>>(x);
  Vector<T> padded = splat<T>(fill);
  std::memcpy(&padded, x, static_cast<size_t>(left) * sizeof(T));
  return padded;
}

template <class T>
inline void store_some(T* out, int64_t left, const Vector<T>& value) {
  std::memcpy(out, &value, static_cast<size_t>(left < kLanes<T> ? left : kLanes<T>) * sizeof(T));
}

/* out[i ..] = value(i, left), left = kLanes<T> but at the ends. */
template <class T, class Value>
inline void write_row(int64_t count, T* out, bool stream, const Value& value) {
  constexpr int64_t lanes = kLanes<T>;
  const auto address = reinterpret_cast<uintptr_t>(out);
  stream = stream && address % sizeof(T) == 0;
  const auto past = stream ? static_cast<int64_t>(address % GRAMIAN_VECTOR_BYTES / sizeof(T)) : 0;
  const int64_t ahead = past == 0 ? 0 : lanes - past, head = ahead < count ? ahead : count;
  const int64_t end = head + (count - head) / lanes * lanes;
  if (stream) {
    for (int64_t i = head; i < end; i += lanes) store_past(out + i, value(i, lanes));
  } else {
    for (int64_t i = 0; i < end; i += lanes) store(out + i, value(i, lanes));
  }
  // Both ends in one place, so that the compiler finds few enough copies of `value` to put them all in line.
  for (int64_t i = 0; i < count; i += i < end ? end - i : count - i) {
    const int64_t left = i < end ? head : count - end;
    if (left == 0) continue;
    const Vector<T> some = value(i, left);
    if (stream) {
      store_past(out + i, left, some);
    } else {
      store_some(out + i, left, some);
    }
  }
}

/* --- largest values and sums --------------------------------------------------------------------------------- */

/* a > b ? a : b, so b where one is NaN. */
template <class T>
inline Vector<T> larger(const Vector<T>& a, const Vector<T>& b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == sizeof(float))
    return _mm512_max_ps(a, b);
  else
    return _mm512_max_pd(a, b);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == sizeof(float))
    return _mm256_max_ps(a, b);
  else
    return _mm256_max_pd(a, b);
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == sizeof(float))
    return _mm_max_ps(a, b);
  else
    return _mm_max_pd(a, b);
#else
  return a > b ? a : b;
#endif
}

template <class T>
T largest_of(const T* x, int64_t count) {
  constexpr int64_t lanes = kLanes<T>;
  Vector<T> most[4];
  for (Vector<T>& m : most) m = splat<T>(-kInfinity<T>);
  int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
#pragma GCC unroll 4
    for (int64_t a = 0; a < 4; ++a) most[a] = larger<T>(load<Vector<T>>(x + i + a * lanes), most[a]);
  }
  for (; i < count; i += lanes) most[0] = larger<T>(load_or<T>(x + i, count - i, -kInfinity<T>), most[0]);
  const Vector<T> all = larger<T>(larger<T>(most[0], most[1]), larger<T>(most[2], most[3]));
  T largest = -kInfinity<T>;
  for (int64_t lane = 0; lane < lanes; ++lane) largest = all[lane] > largest ? all[lane] : largest;
  return largest;
}

template <class T>
bool has_nan(const T* x, int64_t count, int64_t step) {
  bool found = false;
  for (int64_t i = 0; i < count; ++i) found |= x[i * step] != x[i * step];
  return found;
}

/* Lanes of T as lanes of double, added to one or two vectors. */
inline void add_lanes(Vector<double>* sums, const Vector<float>& terms) {
  Pack<float>::Narrow half[2];
  std::memcpy(half, &terms, sizeof half);
  sums[0] += __builtin_convertvector(half[0], Vector<double>);
  sums[1] += __builtin_convertvector(half[1], Vector<double>);
}
inline void add_lanes(Vector<double>* sums, const Vector<double>& terms) {
  sums[0] += terms;
}

/* The same, with the rounding error of each addition in `lost`: then the number of terms does not matter. */
template <class T>
inline void add_lanes_keeping(Vector<double>* sums, Vector<double>* lost, const Vector<T>& terms) {
  Vector<double> wide[2] = {};
  add_lanes(wide, terms);
  for (int half = 0; half < 2; ++half) {
    const Vector<double> next = sums[half] + wide[half], added = next - sums[half];
    lost[half] += (sums[half] - (next - added)) + (wide[half] - added);
    sums[half] = next;
  }
}

/* Sum of term(i, left) over 0 <= i < count: four sums at a time, sixteen terms each before they leave T. */
template <class T, class Term>
inline double sum_of(int64_t count, const Term& term) {
  constexpr int64_t lanes = kLanes<T>, step = 4 * lanes;
  Vector<double> sums[2] = {};
  int64_t i = 0;
  while (i + step <= count) {
    const int64_t whole = (count - i) / step, end = i + step * (whole < 16 ? whole : 16);
    Vector<T> part[4] = {};
    for (; i < end; i += step) {
#pragma GCC unroll 4
      for (int64_t a = 0; a < 4; ++a) part[a] += term(i + a * lanes, lanes);
    }
    add_lanes(sums, (part[0] + part[1]) + (part[2] + part[3]));
  }
  for (; i + lanes <= count; i += lanes) add_lanes(sums, term(i, lanes));
  if (i < count) add_lanes(sums, term(i, count - i));
  double sum = 0;
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) sum += sums[0][lane];
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) sum += sums[1][lane];
  return sum;
}

/* --- three passes -------------------------------------------------------------------------------------------- */

/* exp(z) = p 2^k for z that is not far below -1000 or so: p near 1, and the bits that hold k. */
template <class T>
struct Split {
  Vector<T> p;
  Integer<T> bits; /* k + kBias and higher bits that a shift drops */
};

template <class T, bool kError = false>
inline Split<T> split(const Vector<T>& z, const Vector<T>& error = Vector<T>{}) {
  using E = Exponential<T>;
  constexpr T round = E::kRound + E::kBias;
  const Vector<T> shifted = z * T(1.44269504088896340736) + round;
  const Vector<T> multiple = shifted - round;
  Vector<T> rest = (z - multiple * E::kLog2High) - multiple * E::kLog2Low;
  if constexpr (kError) rest += error;  // an addition of nothing would be kept for the sign of zero
  constexpr int terms = sizeof Limits<T>::kCoefficients / sizeof(T);
  Vector<T> sum = splat<T>(Limits<T>::kCoefficients[terms - 1]);
#pragma GCC unroll 16
  for (int c = terms - 2; c >= 0; --c) sum = sum * rest + Limits<T>::kCoefficients[c];
  sum = sum * rest + T(1);
  return {sum * rest + T(1), bit_copy<Integer<T>>(shifted)};
}

/* k + kBias of `round` itself, where k = 0. */
template <class T>
inline Integer<T> bits_of_one() {
  return bit_copy<Integer<T>>(splat<T>(Exponential<T>::kRound));
}

/* 2^k with k + kBias in `exponent`. */
template <class T>
inline Vector<T> power(const Integer<T>& exponent) {
  return bit_copy<Vector<T>>(exponent << Exponential<T>::kMantissaBits);
}

/* p 2^k, k = exponent - kBias <= 0, gradually down to 0. */
template <class T>
inline Vector<T> scaled_down(const Vector<T>& p, const Integer<T>& exponent) {
  const Integer<T> k = exponent - Exponential<T>::kBias, half = k >> 1;
  return p * power_of_two<T>(half) * power_of_two<T>(k - half);
}

/* How values become exponentials relative to the largest. The difference from the largest is rounded, and exp would
 * make |x - largest| units in the last place of that; kExactly computes the rounding error and makes it good. It is for
 * a scale of 1 and a largest value that is finite and not beyond kExact. */
template <class T, bool kSubnormals, bool kExactly>
struct Decay {
  Vector<T> largest, lowest;
  T scale;

  Decay(const Vector<T>& top, T factor) : largest(top), lowest(), scale(factor) {
    constexpr T vanished = kSubnormals ? Limits<T>::kVanished : Limits<T>::kFlushed;
    lowest = kExactly ? largest + vanished : splat<T>(vanished);
  }

  Vector<T> difference(const Vector<T>& x) const {
    if constexpr (kExactly) return x - largest;
    return (x - largest) * scale;
  }

  /* exp(scale (x - largest)); without kSubnormals 0 where it is below the smallest normal number. NaN stays. */
  Vector<T> operator()(Vector<T> x) const {
    Vector<T> z, error = {};
    if constexpr (kExactly) {
      x = larger<T>(lowest, x);
      z = x - largest;
      const Vector<T> back = z - x;
      error = (x - (z - back)) - (largest + back);
    } else {
      z = larger<T>(lowest, difference(x));
    }
    const Split<T> e = split<T, kExactly>(z, error);
    if constexpr (!kSubnormals) return e.p * power<T>(e.bits);
    return scaled_down<T>(e.p, e.bits - bits_of_one<T>());
  }
};

/* May differences from this value have rounding errors that matter? */
template <class T>
inline bool needs_exactness(T largest, T scale) {
  return scale == 1 && std::fabs(largest) <= Limits<T>::kExact;
}

template <class T, bool kSubnormals>
inline Vector<T> flushed(Vector<T> y) {
  if constexpr (kSubnormals) return y;
  return y < Limits<T>::kSmallest ? splat<T>(T(0)) : y;
}

/* log sum exp from the largest x and the sum of exp(scale (x - largest)), NaN where the largest is infinite. */
template <class T>
inline T log_of_sum(T largest, double scale, double sum, const T* x, int64_t count, int64_t step) {
  if (largest - largest == 0) return static_cast<T>(static_cast<double>(largest) * scale + std::log(sum));
  return has_nan(x, count, step) ? static_cast<T>(NAN) : largest;
}

/* Of a row that fits the cache the values `ahead` elements further are fetched while this one is in work: hardware does
 * not fetch past the end of a page. */
template <class T, bool kSubnormals, bool kExactly>
void finish_row(int kind, bool stream, int64_t cols, double factor, T largest, const T* x, int64_t ahead, T* out) {
  constexpr T lowest = -kInfinity<T>;
  const Decay<T, kSubnormals, kExactly> decay(splat<T>(largest), static_cast<T>(factor));
  if (kind == GRAMIAN_SOFTMAX && cols <= kBlock<T>) {
    // The exponentials are kept: in the row of the output, or beside it where that is written past the caches.
    T aside[kBlock<T>];
    T* kept = stream ? aside : out;
    const double sum = sum_of<T>(cols, [&](int64_t i, int64_t left) {
      __builtin_prefetch(x + i + ahead);
      const Vector<T> value = decay(load_or(x + i, left, lowest));
      store_some(kept + i, left, value);
      return value;
    });
    const T inverse = static_cast<T>(1 / sum);
    write_row(cols, out, stream, [&](int64_t i, int64_t left) {
      return flushed<T, kSubnormals>(load_or(kept + i, left, T(0)) * inverse);
    });
    return;
  }
  double sum = 0, lost = 0;
  for (int64_t c = 0; c < cols; c += kBlock<T>) {
    const int64_t count = cols - c < kBlock<T> ? cols - c : kBlock<T>;
    const double part =
        sum_of<T>(count, [&](int64_t i, int64_t left) { return decay(load_or(x + c + i, left, lowest)); });
    // The rounding error of each addition is kept, so the number of blocks does not matter.
    const double next = sum + part, added = next - sum;
    lost += (sum - (next - added)) + (part - added);
    sum = next;
  }
  sum += lost;
  if (kind == GRAMIAN_LOGSUMEXP) {
    out[0] = log_of_sum(largest, factor, sum, x, cols, 1);
  } else if (kind == GRAMIAN_LOG_SOFTMAX) {
    const T log_sum = static_cast<T>(std::log(sum));
    write_row(cols, out, stream,
              [&](int64_t i, int64_t left) { return decay.difference(load_or(x + i, left, lowest)) - log_sum; });
  } else {
    const T inverse = static_cast<T>(1 / sum);
    write_row(cols, out, stream, [&](int64_t i, int64_t left) {
      return flushed<T, kSubnormals>(decay(load_or(x + i, left, lowest)) * inverse);
    });
  }
}

template <class T, bool kSubnormals>
void softmax_row(int kind, bool stream, int64_t cols, double factor, const T* x, int64_t ahead, T* out) {
  const T largest = largest_of(x, cols);
  if (needs_exactness(largest, static_cast<T>(factor))) {
    finish_row<T, kSubnormals, true>(kind, stream, cols, factor, largest, x, ahead, out);
  } else {
    finish_row<T, kSubnormals, false>(kind, stream, cols, factor, largest, x, ahead, out);
  }
}

/* kVectors vectors of columns; of a single one the first `columns`. Their largest values are known. */
template <class T, bool kSubnormals, bool kExactly, int kVectors>
void finish_strip(int kind, int64_t rows, int64_t columns, double factor, const Vector<T>* largest, const T* x,
                  int64_t ldx, T* out, int64_t ldout) {
  using Terms = Decay<T, kSubnormals, kExactly>;
  constexpr int64_t lanes = kLanes<T>;
  const int64_t left = kVectors > 1 ? lanes : columns;
  const auto values = [=](int64_t r, int q) { return load_or(x + r * ldx + q * lanes, left, T(0)); };
  double sums[kVectors][kLanes<T>];
  for (int q = 0; q < kVectors; ++q) {
    const Terms decay(largest[q], static_cast<T>(factor));
    Vector<double> wide[2] = {}, lost[2] = {};
    for (int64_t r = 0; r < rows;) {
      Vector<T> part[2] = {};
      const int64_t end = r + 32 < rows ? r + 32 : rows;
      for (; r + 2 <= end; r += 2) {
        part[0] += decay(values(r, q));
        part[1] += decay(values(r + 1, q));
      }
      if (r < end) part[0] += decay(values(r++, q));
      add_lanes_keeping<T>(wide, lost, part[0] + part[1]);
    }
    for (int half = 0; half < 2; ++half) wide[half] += lost[half];
    std::memcpy(sums[q], wide, sizeof sums[q]);
  }
  for (int q = 0; q < kVectors; ++q) {
    const Terms decay(largest[q], static_cast<T>(factor));
    // What makes results of the exponentials: the inverse of the sum, or its logarithm.
    Vector<T> change = {};
    for (int64_t lane = 0; lane < lanes && lane < left; ++lane) {
      const int64_t c = q * lanes + lane;
      const double sum = sums[q][lane];
      if (kind == GRAMIAN_LOGSUMEXP) {
        out[c] = log_of_sum<T>(largest[q][lane], factor, sum, x + c, rows, ldx);
      } else {
        change[lane] = static_cast<T>(kind == GRAMIAN_SOFTMAX ? 1 / sum : std::log(sum));
      }
    }
    if (kind == GRAMIAN_LOGSUMEXP) continue;
    for (int64_t r = 0; r < rows; ++r) {
      const Vector<T> value = kind == GRAMIAN_LOG_SOFTMAX ? decay.difference(values(r, q)) - change
                                                          : flushed<T, kSubnormals>(decay(values(r, q)) * change);
      store_some(out + r * ldout + q * lanes, left, value);
    }
  }
}

template <class T, bool kSubnormals, int kVectors>
void softmax_strip(int kind, int64_t rows, int64_t columns, double factor, const T* x, int64_t ldx, T* out,
                   int64_t ldout) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t left = kVectors > 1 ? lanes : columns;
  Vector<T> largest[kVectors];
  for (Vector<T>& m : largest) m = splat<T>(-kInfinity<T>);
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < kVectors; ++q) largest[q] = larger<T>(load_or(x + r * ldx + q * lanes, left, T(0)), largest[q]);
  }
  bool exactly = true;
  for (const Vector<T>& m : largest) {
    for (int64_t lane = 0; lane < lanes && lane < left; ++lane)
      exactly &= needs_exactness(m[lane], static_cast<T>(factor));
  }
  if (exactly) {
    finish_strip<T, kSubnormals, true, kVectors>(kind, rows, columns, factor, largest, x, ldx, out, ldout);
  } else {
    finish_strip<T, kSubnormals, false, kVectors>(kind, rows, columns, factor, largest, x, ldx, out, ldout);
  }
}

template <class T, bool kSubnormals>
int softmax_type(int kind, int flags, int64_t rows, int64_t cols, double scale, const T* x, int64_t ldx, T* out,
                 int64_t ldout) {
  const bool stream = (flags & GRAMIAN_SOFTMAX_STREAM) != 0 && kind != GRAMIAN_LOGSUMEXP && x != out;
  for (int64_t r = 0; r < rows; ++r) {
    softmax_row<T, kSubnormals>(kind, stream, cols, scale, x + r * ldx, r + 1 < rows ? ldx : 0, out + r * ldout);
  }
  finish_stores(stream);
  return GRAMIAN_STATUS_OK;
}

template <class T, bool kSubnormals>
int softmax_columns_type(int kind, int64_t rows, int64_t cols, double scale, const T* x, int64_t ldx, T* out,
                         int64_t ldout) {
  constexpr int64_t lanes = kLanes<T>;
  constexpr int vectors = 4;
  int64_t c = 0;
  for (; c + vectors * lanes <= cols; c += vectors * lanes) {
    softmax_strip<T, kSubnormals, vectors>(kind, rows, lanes, scale, x + c, ldx, out + c, ldout);
  }
  for (; c < cols; c += lanes) {
    softmax_strip<T, kSubnormals, 1>(kind, rows, cols - c, scale, x + c, ldx, out + c, ldout);
  }
  return GRAMIAN_STATUS_OK;
}

/* --- two passes ---------------------------------------------------------------------------------------------- */

/* scale * x; kUnit says that scale is 1. */
template <bool kUnit, class T>
inline Vector<T> scaled(const Vector<T>& x, T scale) {
  if constexpr (kUnit) return x;
  return x * scale;
}

/* 0, or 1 where the largest value is out of reach. */
template <class T, bool kUnit>
int exp_sum_row(int64_t cols, T scale, const T* x, double* sums) {
  double sum = 0, exponent = -HUGE_VAL;
  for (int64_t c = 0; c < cols; c += kBlock<T>) {
    const int64_t count = cols - c < kBlock<T> ? cols - c : kBlock<T>;
    const T largest = largest_of(x + c, count);
    if (largest == -kInfinity<T>) {
      if (has_nan(x + c, count, 1)) sum = NAN;
      continue;
    }
    const T top = largest * scale;
    if (!(std::fabs(top * T(1.44269504088896340736)) <= Limits<T>::kReach)) return 1;
    const Vector<T> floor = splat<T>(top + Limits<T>::kVanished);
    const Integer<T> k = split<T>(splat<T>(top)).bits - bits_of_one<T>() - Exponential<T>::kBias;
    const Integer<T> base = bits_of_one<T>() + k;
    const double part = sum_of<T>(count, [&](int64_t i, int64_t left) {
      __builtin_prefetch(x + c + i + kBlock<T>, 0, 2);
      const Vector<T> z = scaled<kUnit>(load_or(x + c + i, left, -kInfinity<T>), scale);
      const Split<T> e = split<T>(larger<T>(floor, z));
      const Integer<T> exponent = e.bits - base;
      return e.p * power<T>(exponent > 0 ? exponent : Integer<T>{});
    });
    const auto raised = static_cast<double>(k[0]);
    if (raised > exponent) {
      sum = std::ldexp(sum, static_cast<int>(exponent - raised < -4096 ? -4096 : exponent - raised)) + part;
      exponent = raised;
    } else {
      sum += std::ldexp(part, static_cast<int>(raised - exponent < -4096 ? -4096 : raised - exponent));
    }
  }
  sums[0] = sum;
  sums[1] = exponent;
  return 0;
}

template <class T>
int exp_sums_type(int64_t rows, int64_t cols, double scale, const T* x, int64_t ldx, double* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    const int far = scale == 1 ? exp_sum_row<T, true>(cols, T(1), x + r * ldx, sums + 2 * r)
                               : exp_sum_row<T, false>(cols, static_cast<T>(scale), x + r * ldx, sums + 2 * r);
    if (far != 0) return static_cast<int>(r + 1);
  }
  return GRAMIAN_STATUS_OK;
}

template <class T, bool kSubnormals, bool kUnit>
int exp_write_type(int kind, int flags, int64_t rows, int64_t cols, double factor, const T* x, int64_t ldx,
                   const double* sums, T* out, int64_t ldout) {
  const bool stream = (flags & GRAMIAN_SOFTMAX_STREAM) != 0 && x != out;
  const T scale = static_cast<T>(factor);
  // Nothing but -inf, or NaN: every result is NaN.
  const double sum = sums[0] > 0 ? sums[0] : NAN, exponent = sums[0] > 0 ? sums[1] : 0;
  const T inverse = static_cast<T>(1 / sum);
  const Vector<T> floor = splat<T>(static_cast<T>(exponent * kLog2) + Limits<T>::kVanished);
  const Integer<T> base = bits_of_one<T>() + static_cast<decltype(Integer<T>{}[0] + 0)>(exponent);
  const T multiple = static_cast<T>(exponent), log_sum = static_cast<T>(std::log(sum));
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = x + r * ldx;
    write_row(cols, out + r * ldout, stream, [&](int64_t i, int64_t left) {
      const Vector<T> z = scaled<kUnit>(load_or(row + i, left, T(0)), scale);
      if (kind == GRAMIAN_LOG_SOFTMAX) {
        // One number for the logarithm of the sum would lose the digits of small differences.
        return ((z - multiple * Exponential<T>::kLog2High) - multiple * Exponential<T>::kLog2Low) - log_sum;
      }
      const Split<T> e = split<T>(larger<T>(floor, z));
      const Integer<T> above = e.bits - base;
      if constexpr (kSubnormals) return scaled_down<T>(e.p * inverse, above);
      return flushed<T, false>((e.p * inverse) * power<T>(above > 0 ? above : Integer<T>{}));
    });
  }
  finish_stores(stream);
  return GRAMIAN_STATUS_OK;
}

/* --- the entries --------------------------------------------------------------------------------------------- */

bool is_kind(int kind) {
  return kind == GRAMIAN_SOFTMAX || kind == GRAMIAN_LOG_SOFTMAX || kind == GRAMIAN_LOGSUMEXP;
}

/* body(zero, subnormals): the type as a value, the choice as a constant. */
template <class Body>
inline int with_choices(int dtype, int flags, const Body& body) {
  const bool subnormals = (flags & GRAMIAN_SOFTMAX_SUBNORMALS) != 0;
  if (dtype == GRAMIAN_F32) return subnormals ? body(float(), std::true_type()) : body(float(), std::false_type());
  if (dtype == GRAMIAN_F64) return subnormals ? body(double(), std::true_type()) : body(double(), std::false_type());
  return GRAMIAN_STATUS_INVALID;
}

int softmax(gramian_context*, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale, const void* x,
            int64_t ldx, void* out, int64_t ldout) {
  if (!is_kind(kind)) return GRAMIAN_STATUS_INVALID;
  return with_choices(dtype, flags, [&](auto zero, auto subnormals) {
    using T = decltype(zero);
    return softmax_type<T, decltype(subnormals)::value>(kind, flags, rows, cols, scale, static_cast<const T*>(x), ldx,
                                                        static_cast<T*>(out), ldout);
  });
}

int softmax_columns(gramian_context*, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
                    const void* x, int64_t ldx, void* out, int64_t ldout) {
  if (!is_kind(kind)) return GRAMIAN_STATUS_INVALID;
  return with_choices(dtype, flags, [&](auto zero, auto subnormals) {
    using T = decltype(zero);
    return softmax_columns_type<T, decltype(subnormals)::value>(kind, rows, cols, scale, static_cast<const T*>(x), ldx,
                                                                static_cast<T*>(out), ldout);
  });
}

int exp_sums(gramian_context*, int dtype, int64_t rows, int64_t cols, double scale, const void* x, int64_t ldx,
             double* sums) {
  if (dtype == GRAMIAN_F32) return exp_sums_type(rows, cols, scale, static_cast<const float*>(x), ldx, sums);
  if (dtype == GRAMIAN_F64) return exp_sums_type(rows, cols, scale, static_cast<const double*>(x), ldx, sums);
  return GRAMIAN_STATUS_INVALID;
}

int exp_write(gramian_context*, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale, const void* x,
              int64_t ldx, const double* sums, void* out, int64_t ldout) {
  if (kind != GRAMIAN_SOFTMAX && kind != GRAMIAN_LOG_SOFTMAX) return GRAMIAN_STATUS_INVALID;
  return with_choices(dtype, flags, [&](auto zero, auto subnormals) {
    using T = decltype(zero);
    constexpr bool kept = decltype(subnormals)::value;
    const auto write = scale == 1 ? exp_write_type<T, kept, true> : exp_write_type<T, kept, false>;
    return write(kind, flags, rows, cols, scale, static_cast<const T*>(x), ldx, sums, static_cast<T*>(out), ldout);
  });
}

}  // namespace

GRAMIAN_FILL_FUNCTION(softmax) {
  table->softmax = softmax;
  table->softmax_columns = softmax_columns;
  table->exp_sums = exp_sums;
  table->exp_write = exp_write;
}
