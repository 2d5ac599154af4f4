/* Softmax, its logarithm and log sum exp, of rows and of columns.
 *
 * Three passes: the largest value, the sum of exponentials of differences from it, the results. Two passes ("The
 * Two-Pass Softmax Algorithm"): exp(z) = p 2^k with p in [1 / sqrt 2, sqrt 2], so a sum is a pair (M, E) that cannot
 * overflow, and memory is read once before the results are written. Here E rises once a block, whose largest value is
 * found while the block is in the first-level cache, and not with every element: within a block all terms are scaled by
 * the same power of two.
 *
 * Sums leave the storage type after 64 vectors at most, and blocks are added in double. Vectors are aligned with
 * the row, never with memory, so no result depends on where a row lies. */
#include <cmath>
#include <type_traits>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "exponential.h"

namespace {

/* Elements that stay in the first-level cache between two uses. */
template <class T>
constexpr int64_t kBlock = 16384 / static_cast<int64_t>(sizeof(T));

/* Below kFlushed exp(z) is less than the smallest normal number, and the rounded exponent there makes 2^k exactly 0.
 * kReach bounds |k| where the reduction z - k log 2 is exact in its first part; the rest is room for a block's smaller
 * values down to where they vanish. */
template <class T>
struct Limits;

template <>
struct Limits<float> {
  static constexpr float kFlushed = -88, kVanished = -112, kSmallest = 0x1p-126f;
  static constexpr float kReach = 32768 - 256;
};

template <>
struct Limits<double> {
  static constexpr double kFlushed = -709, kVanished = -768, kSmallest = 0x1p-1022;
  static constexpr double kReach = 1048576 - 2048;
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

/* Past the caches: the line is not read first. `out` is aligned to a vector. */
inline void store_past(float* out, const Vector<float>& value) {
#if defined(__AVX512F__)
  _mm512_stream_ps(out, value);
#elif defined(__AVX2__)
  _mm256_stream_ps(out, value);
#elif defined(__SSE2__)
  _mm_stream_ps(out, value);
#else
  store(out, value);
#endif
}
inline void store_past(double* out, const Vector<double>& value) {
#if defined(__AVX512F__)
  _mm512_stream_pd(out, value);
#elif defined(__AVX2__)
  _mm256_stream_pd(out, value);
#elif defined(__SSE2__)
  _mm_stream_pd(out, value);
#else
  store(out, value);
#endif
}

/* Such stores are seen by others in no order until this. */
inline void finish_stores(bool stream) {
#if defined(__SSE2__)
  if (stream) _mm_sfence();
#else
  (void)stream;
#endif
}

/* out[i ..] = value(i, left), left = kLanes<T> but at the ends. */
template <class T, class Value>
inline void write_row(int64_t count, T* out, bool stream, const Value& value) {
  constexpr int64_t lanes = kLanes<T>;
  int64_t i = 0;
  const auto address = reinterpret_cast<uintptr_t>(out);
  if (stream && address % sizeof(T) == 0) {
    const auto past = static_cast<int64_t>(address % GRAMIAN_VECTOR_BYTES / sizeof(T));
    const int64_t head = past == 0 ? 0 : lanes - past;
    if (head > 0 && head < count) {
      store_some(out, head, value(0, head));
      i = head;
    }
    if (i == head) {
      for (; i + lanes <= count; i += lanes) store_past(out + i, value(i, lanes));
    }
  }
  for (; i + lanes <= count; i += lanes) store(out + i, value(i, lanes));
  if (i < count) store_some(out + i, count - i, value(i, count - i));
}

/* --- largest values and sums --------------------------------------------------------------------------------- */

/* NaN is not larger than anything. */
template <class T>
inline Vector<T> larger(const Vector<T>& a, const Vector<T>& b) {
  return a > b ? a : b;
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

/* exp(z) for z <= 0; 0 where it is below the smallest normal number, or gradually. NaN stays. */
template <class T, bool kSubnormals>
inline Vector<T> decay(Vector<T> z) {
  if constexpr (kSubnormals) return exponential<T>(z);
  z = z < Limits<T>::kFlushed ? splat<T>(Limits<T>::kFlushed) : z;
  const Reduced<T> reduced = reduce_exponential<T>(z);
  return (reduced.minus_one + T(1)) * power_of_two<T>(reduced.integer);
}

template <class T, bool kSubnormals>
inline Vector<T> flushed(Vector<T> y) {
  if constexpr (kSubnormals) return y;
  return y < Limits<T>::kSmallest ? splat<T>(T(0)) : y;
}

/* log sum exp from the largest x and the sum of exp(scale (x - largest)), which is NaN where the largest is infinite. */
template <class T>
inline T log_of_sum(T largest, double scale, double sum, const T* x, int64_t count, int64_t step) {
  if (largest - largest == 0) return static_cast<T>(static_cast<double>(largest) * scale + std::log(sum));
  return has_nan(x, count, step) ? static_cast<T>(NAN) : largest;
}

template <class T, bool kSubnormals>
void softmax_row(int kind, bool stream, int64_t cols, double factor, const T* x, T* out) {
  constexpr T lowest = -kInfinity<T>;
  const T scale = static_cast<T>(factor);
  const T largest = largest_of(x, cols);
  const auto difference = [=](int64_t i, int64_t left) { return (load_or(x + i, left, lowest) - largest) * scale; };
  if (kind == GRAMIAN_SOFTMAX && cols <= kBlock<T>) {
    // The exponentials are kept: in the row of the output, or beside it where that is written past the caches.
    T aside[kBlock<T>];
    T* kept = stream ? aside : out;
    const double sum = sum_of<T>(cols, [&](int64_t i, int64_t left) {
      const Vector<T> value = decay<T, kSubnormals>(difference(i, left));
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
        sum_of<T>(count, [&](int64_t i, int64_t left) { return decay<T, false>(difference(c + i, left)); });
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
    write_row(cols, out, stream, [&](int64_t i, int64_t left) { return difference(i, left) - log_sum; });
  } else {
    const T inverse = static_cast<T>(1 / sum);
    write_row(cols, out, stream, [&](int64_t i, int64_t left) {
      return flushed<T, kSubnormals>(decay<T, kSubnormals>(difference(i, left)) * inverse);
    });
  }
}

/* kVectors vectors of columns; of a single one the first `columns`. */
template <class T, bool kSubnormals, int kVectors>
void softmax_strip(int kind, int64_t rows, int64_t columns, double factor, const T* x, int64_t ldx, T* out,
                   int64_t ldout) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t left = kVectors > 1 ? lanes : columns;
  const T scale = static_cast<T>(factor);
  Vector<T> largest[kVectors];
  for (Vector<T>& m : largest) m = splat<T>(-kInfinity<T>);
  for (int64_t r = 0; r < rows; ++r) {
    for (int q = 0; q < kVectors; ++q) largest[q] = larger<T>(load_or(x + r * ldx + q * lanes, left, T(0)), largest[q]);
  }
  const auto difference = [&](int64_t r, int q) {
    return (load_or(x + r * ldx + q * lanes, left, T(0)) - largest[q]) * scale;
  };
  Vector<double> sums[kVectors][2] = {};
  for (int64_t r = 0; r < rows;) {
    Vector<T> part[kVectors] = {};
    for (const int64_t end = r + 16 < rows ? r + 16 : rows; r < end; ++r) {
      for (int q = 0; q < kVectors; ++q) part[q] += decay<T, kSubnormals>(difference(r, q));
    }
    for (int q = 0; q < kVectors; ++q) add_lanes(sums[q], part[q]);
  }
  // What makes results of the exponentials: the inverse of the sum, or its logarithm.
  Vector<T> change[kVectors] = {};
  for (int q = 0; q < kVectors; ++q) {
    double sum[lanes];
    std::memcpy(sum, sums[q], sizeof sum);
    for (int64_t lane = 0; lane < lanes && lane < left; ++lane) {
      if (kind == GRAMIAN_LOGSUMEXP) {
        const int64_t c = q * lanes + lane;
        out[c] = log_of_sum<T>(largest[q][lane], factor, sum[lane], x + c, rows, ldx);
      } else {
        change[q][lane] = static_cast<T>(kind == GRAMIAN_SOFTMAX ? 1 / sum[lane] : std::log(sum[lane]));
      }
    }
  }
  if (kind == GRAMIAN_LOGSUMEXP) return;
  for (int64_t r = 0; r < rows; ++r) {
    for (int q = 0; q < kVectors; ++q) {
      const Vector<T> z = difference(r, q);
      const Vector<T> value = kind == GRAMIAN_LOG_SOFTMAX
                                  ? z - change[q]
                                  : flushed<T, kSubnormals>(decay<T, kSubnormals>(z) * change[q]);
      store_some(out + r * ldout + q * lanes, left, value);
    }
  }
}

template <class T, bool kSubnormals>
int softmax_type(int kind, int flags, int64_t rows, int64_t cols, double scale, const T* x, int64_t ldx, T* out,
                 int64_t ldout) {
  const bool stream = (flags & GRAMIAN_SOFTMAX_STREAM) != 0 && kind != GRAMIAN_LOGSUMEXP && x != out;
  for (int64_t r = 0; r < rows; ++r) {
    softmax_row<T, kSubnormals>(kind, stream, cols, scale, x + r * ldx, out + r * ldout);
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

/* exp(z) = p 2^k; z not below `floor`, far under the largest. p (a number near 1) and k. */
template <class T>
struct Split {
  Vector<T> p;
  Integer<T> k;
};

template <class T>
inline Split<T> split(Vector<T> z, T floor) {
  z = z < floor ? splat<T>(floor) : z;
  const Reduced<T> reduced = reduce_exponential<T>(z);
  return {reduced.minus_one + T(1), reduced.integer};
}

/* 2^k, 0 below the normal numbers. k <= 0. */
template <class T>
inline Vector<T> small_power(Integer<T> k) {
  return power_of_two<T>(k < -Exponential<T>::kBias ? Integer<T>{} - Exponential<T>::kBias : k);
}

/* 0, or 1 where the largest value is out of reach. */
template <class T>
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
    const T floor = top + Limits<T>::kVanished;
    const Integer<T> k = split<T>(splat<T>(top), floor).k;
    const double part = sum_of<T>(count, [&](int64_t i, int64_t left) {
      const Split<T> e = split<T>(load_or(x + c + i, left, -kInfinity<T>) * scale, floor);
      return e.p * small_power<T>(e.k - k);
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
    if (exp_sum_row(cols, static_cast<T>(scale), x + r * ldx, sums + 2 * r) != 0) return static_cast<int>(r + 1);
  }
  return GRAMIAN_STATUS_OK;
}

template <class T, bool kSubnormals>
int exp_write_type(int kind, int flags, int64_t rows, int64_t cols, double factor, const T* x, int64_t ldx,
                   const double* sums, T* out, int64_t ldout) {
  const bool stream = (flags & GRAMIAN_SOFTMAX_STREAM) != 0 && x != out;
  const T scale = static_cast<T>(factor);
  // Nothing but -inf, or NaN: every result is NaN.
  const double sum = sums[0] > 0 ? sums[0] : NAN, exponent = sums[0] > 0 ? sums[1] : 0;
  const T inverse = static_cast<T>(1 / sum), floor = static_cast<T>(exponent * kLog2) + Limits<T>::kVanished;
  const Integer<T> top = Integer<T>{} + static_cast<decltype(Integer<T>{}[0] + 0)>(exponent);
  const T multiple = static_cast<T>(exponent), log_sum = static_cast<T>(std::log(sum));
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = x + r * ldx;
    write_row(cols, out + r * ldout, stream, [&](int64_t i, int64_t left) {
      const Vector<T> z = load_or(row + i, left, T(0)) * scale;
      if (kind == GRAMIAN_LOG_SOFTMAX) {
        // One number for the logarithm of the sum would lose the digits of small differences.
        return ((z - multiple * Exponential<T>::kLog2High) - multiple * Exponential<T>::kLog2Low) - log_sum;
      }
      const Split<T> e = split<T>(z, floor);
      const Integer<T> k = e.k - top;
      if constexpr (!kSubnormals) return flushed<T, false>((e.p * inverse) * small_power<T>(k));
      const Integer<T> half = k >> 1;
      return (e.p * inverse) * small_power<T>(half) * small_power<T>(k - half);
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

int exp_write(gramian_context*, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
              const void* x, int64_t ldx, const double* sums, void* out, int64_t ldout) {
  if (kind != GRAMIAN_SOFTMAX && kind != GRAMIAN_LOG_SOFTMAX) return GRAMIAN_STATUS_INVALID;
  return with_choices(dtype, flags, [&](auto zero, auto subnormals) {
    using T = decltype(zero);
    return exp_write_type<T, decltype(subnormals)::value>(kind, flags, rows, cols, scale, static_cast<const T*>(x),
                                                          ldx, sums, static_cast<T*>(out), ldout);
  });
}

}  // namespace

GRAMIAN_FILL_FUNCTION(softmax) {
  table->softmax = softmax;
  table->softmax_columns = softmax_columns;
  table->exp_sums = exp_sums;
  table->exp_write = exp_write;
}
