/* Multiply-adds in registers at the width of this processor: what nothing but the processor can slow down. Files that
 * include this are compiled with contraction, for the loops are written as multiply and add. */
#pragma once

#include <chrono>
#include <cstdint>

namespace peak {

/* Ten independent accumulators: no fewer than latency times issue width of current cores, and room in 16 registers. */
constexpr int kChains = 10;
constexpr std::int64_t kPeakSteps = 2000000;

/* Multiply-add on registers only. The barrier tells the compiler that each accumulator is used in every step, so the
 * loop cannot be folded. Named variables, because an array would live in memory. One body per vector width: a
 * function's target cannot be a template parameter. */
#define GRAMIAN_PEAK_STEP(sum) \
  sum = sum * factor + term;   \
  GRAMIAN_KEEP(sum)
#define GRAMIAN_PEAK_LOOP(name, target, scalar, bytes)                                                                 \
  target inline double name() {                                                                                        \
    typedef scalar Wide __attribute__((vector_size(bytes)));                                                           \
    const Wide factor = Wide{} + scalar(0.999), term = Wide{} + scalar(1e-3);                                          \
    Wide s0 = term, s1 = term, s2 = term, s3 = term, s4 = term, s5 = term, s6 = term, s7 = term, s8 = term, s9 = term; \
    const auto start = std::chrono::steady_clock::now();                                                               \
    for (std::int64_t step = 0; step < kPeakSteps; ++step) {                                                           \
      GRAMIAN_PEAK_STEP(s0);                                                                                           \
      GRAMIAN_PEAK_STEP(s1);                                                                                           \
      GRAMIAN_PEAK_STEP(s2);                                                                                           \
      GRAMIAN_PEAK_STEP(s3);                                                                                           \
      GRAMIAN_PEAK_STEP(s4);                                                                                           \
      GRAMIAN_PEAK_STEP(s5);                                                                                           \
      GRAMIAN_PEAK_STEP(s6);                                                                                           \
      GRAMIAN_PEAK_STEP(s7);                                                                                           \
      GRAMIAN_PEAK_STEP(s8);                                                                                           \
      GRAMIAN_PEAK_STEP(s9);                                                                                           \
    }                                                                                                                  \
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();            \
    const double lanes = static_cast<double>((bytes) / sizeof(scalar));                                                \
    return 2.0 * lanes * kChains * static_cast<double>(kPeakSteps) / seconds / 1e9;                                    \
  }

#if defined(__x86_64__)
#define GRAMIAN_KEEP(value) __asm__ volatile("" : "+x"(value))
#define GRAMIAN_AVX2 __attribute__((target("avx2,fma")))
#define GRAMIAN_AVX512 __attribute__((target("avx512f")))
GRAMIAN_PEAK_LOOP(peak_avx2_f32, GRAMIAN_AVX2, float, 32)
GRAMIAN_PEAK_LOOP(peak_avx2_f64, GRAMIAN_AVX2, double, 32)
#undef GRAMIAN_KEEP
#define GRAMIAN_KEEP(value) __asm__ volatile("" : "+v"(value))
GRAMIAN_PEAK_LOOP(peak_avx512_f32, GRAMIAN_AVX512, float, 64)
GRAMIAN_PEAK_LOOP(peak_avx512_f64, GRAMIAN_AVX512, double, 64)
#undef GRAMIAN_KEEP
#define GRAMIAN_KEEP(value) __asm__ volatile("" : "+x"(value))
#elif defined(__aarch64__)
#define GRAMIAN_KEEP(value) __asm__ volatile("" : "+w"(value))
#else
#define GRAMIAN_KEEP(value) __asm__ volatile("" : "+m"(value))
#endif
#define GRAMIAN_BASELINE
GRAMIAN_PEAK_LOOP(peak_base_f32, GRAMIAN_BASELINE, float, 16)
GRAMIAN_PEAK_LOOP(peak_base_f64, GRAMIAN_BASELINE, double, 16)

enum Level { kBase, kAvx2, kAvx512 };

inline Level best_level() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return kAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2;
#endif
  return kBase;
}

/* GFLOP/s of one turn, some milliseconds, on this thread. */
inline double peak_once(Level level, bool f32) {
#if defined(__x86_64__)
  if (level == kAvx512) return f32 ? peak_avx512_f32() : peak_avx512_f64();
  if (level == kAvx2) return f32 ? peak_avx2_f32() : peak_avx2_f64();
#endif
  (void)level;
  return f32 ? peak_base_f32() : peak_base_f64();
}

#undef GRAMIAN_PEAK_LOOP
#undef GRAMIAN_PEAK_STEP
#undef GRAMIAN_KEEP

}  // namespace peak
