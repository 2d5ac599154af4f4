/* Stores that leave the caches alone, for outputs that no cache can hold. Included once per (source, ISA); everything
 * is in an anonymous namespace. */
#ifndef GRAMIAN_BACKEND_CPU_KERNELS_STREAM_H
#define GRAMIAN_BACKEND_CPU_KERNELS_STREAM_H

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "kernel_common.h"

namespace {

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

/* The first `count` values of a vector, past the caches number by number: a line that is written half in one way and
 * half in the other is read, and goes to memory twice. */
inline void store_past(float* out, int64_t count, const Vector<float>& value) {
#if defined(__SSE2__)
  const Integer<float> bits = bit_copy<Integer<float>>(value);
  for (int64_t k = 0; k < count; ++k) _mm_stream_si32(reinterpret_cast<int*>(out + k), bits[k]);
#else
  std::memcpy(out, &value, static_cast<size_t>(count) * sizeof(float));
#endif
}
inline void store_past(double* out, int64_t count, const Vector<double>& value) {
#if defined(__x86_64__)
  const Integer<double> bits = bit_copy<Integer<double>>(value);
  for (int64_t k = 0; k < count; ++k) _mm_stream_si64(reinterpret_cast<long long*>(out + k), bits[k]);
#else
  std::memcpy(out, &value, static_cast<size_t>(count) * sizeof(double));
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

}  // namespace

#endif
