/* The exponential on native vectors, for the files that need it. Included once per (source, ISA); everything is in an
 * anonymous namespace. */
#ifndef GRAMIAN_BACKEND_CPU_KERNELS_EXPONENTIAL_H
#define GRAMIAN_BACKEND_CPU_KERNELS_EXPONENTIAL_H

#include "kernel_common.h"

namespace {

/* Constants of the exponential: 1.5 * 2^mantissa rounds to an integer held in the low bits; log 2 in two parts, the
 * first with so few bits that its multiples are exact. */
template <class T>
struct Exponential;

template <>
struct Exponential<double> {
  static constexpr double kRound = 0x1.8p52, kLog2High = 0x1.62e42fee00000p-1, kLog2Low = 0x1.a39ef35793c76p-33;
  static constexpr double kLowest = -746, kHighest = 710, kTanhOne = 22;
  static constexpr int kMantissaBits = 52, kBias = 1023, kDegree = 13;
};

template <>
struct Exponential<float> {
  static constexpr float kRound = 0x1.8p23f, kLog2High = 0x1.63p-1f, kLog2Low = -0x1.bd0106p-13f;
  static constexpr float kLowest = -104, kHighest = 89, kTanhOne = 10;
  static constexpr int kMantissaBits = 23, kBias = 127, kDegree = 7;
};

/* 1 / k! */
template <class T>
constexpr T inverse_factorial(int k) {
  double product = 1;
  for (int i = 2; i <= k; ++i) product *= i;
  return static_cast<T>(1 / product);
}

/* The bits below T's leading one hold the integer that kRound made; 2^integer for |integer| below the bias. */
template <class T>
inline Vector<T> power_of_two(Integer<T> exponent) {
  return bit_copy<Vector<T>>((exponent + Exponential<T>::kBias) << Exponential<T>::kMantissaBits);
}

/* x = integer * log 2 + rest, |rest| <= log(2) / 2; `minus_one` is exp(rest) - 1. */
template <class T>
struct Reduced {
  Integer<T> integer;
  Vector<T> minus_one;
};

template <class T, int kDegree = Exponential<T>::kDegree>
inline Reduced<T> reduce_exponential(Vector<T> x) {
  using E = Exponential<T>;
  const Vector<T> shifted = x * T(1.44269504088896340736) + E::kRound;
  const Integer<T> integer = bit_copy<Integer<T>>(shifted) - bit_copy<Integer<T>>(splat<T>(E::kRound));
  const Vector<T> multiple = shifted - E::kRound;
  const Vector<T> rest = (x - multiple * E::kLog2High) - multiple * E::kLog2Low;
  Vector<T> sum = splat<T>(inverse_factorial<T>(kDegree));
#pragma GCC unroll 16
  for (int k = kDegree - 1; k >= 2; --k) sum = sum * rest + inverse_factorial<T>(k);
  return {integer, rest + (rest * rest) * sum};
}

/* exp(x); overflows to infinity, runs through the subnormals to 0, keeps NaN. */
template <class T, int kDegree = Exponential<T>::kDegree>
inline Vector<T> exponential(Vector<T> x) {
  using E = Exponential<T>;
  x = x < E::kLowest ? splat<T>(E::kLowest) : x;
  x = x > E::kHighest ? splat<T>(E::kHighest) : x;
  const Reduced<T> reduced = reduce_exponential<T, kDegree>(x);
  // Two factors, because 2^integer itself may lie outside the normal range.
  const Integer<T> half = reduced.integer >> 1;
  return (reduced.minus_one + T(1)) * power_of_two<T>(half) * power_of_two<T>(reduced.integer - half);
}

}  // namespace

#endif
