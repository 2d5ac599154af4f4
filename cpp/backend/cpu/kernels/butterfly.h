/* Butterflies of the Walsh-Hadamard transform on values in registers. Included once per (source, ISA); everything is in
 * an anonymous namespace. */
#ifndef GRAMIAN_BACKEND_CPU_KERNELS_BUTTERFLY_H
#define GRAMIAN_BACKEND_CPU_KERNELS_BUTTERFLY_H

#include "kernel_common.h"

namespace {

/* 1 as a number that the compiler does not know: a - b * one has the bits of a - b, but where there is a fused
 * multiply-add it runs on the units that additions leave idle, and a butterfly takes half the time. */
template <class V>
inline V hidden_one() {
  V one = V{} + 1;
#if defined(__FMA__)
  __asm__("" : "+x"(one));
#endif
  return one;
}
template <class V>
inline V difference(const V& a, const V& b, const V& one) {
#if defined(__FMA__)
  return a - b * one;
#else
  (void)one;
  return a - b;
#endif
}

/* 2^kStages-point transform of values in registers, the widest distance first. A call would put them into memory. */
template <int kStages, class V>
[[gnu::always_inline]] inline void butterflies(V* v, const V& one) {
  constexpr int points = 1 << kStages;
#pragma GCC unroll 4
  for (int half = points / 2; half >= 1; half /= 2) {
#pragma GCC unroll 16
    for (int p = 0; p < points; ++p) {
      if (p & half) continue;
      const V sum = v[p] + v[p + half];
      v[p + half] = difference(v[p], v[p + half], one);
      v[p] = sum;
    }
  }
}

}  // namespace

#endif
