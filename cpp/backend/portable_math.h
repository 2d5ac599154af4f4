/* The frozen bit law, version 1: random bits, signs, uniforms, Gaussians and permutations that are the same on every
 * instruction set, compiler and device.
 *
 * Everything here is integer arithmetic or IEEE + - * / sqrt in double, in a fixed order, so equal inputs give equal
 * bits wherever no operation is contracted into a fused multiply-add. Code that includes this file is therefore
 * compiled with -ffp-contract=off (nvcc: --fmad=false, and never --use_fast_math); on x86 the arithmetic is SSE2, never
 * x87. Every function is pure, needs no memory and costs O(1).
 *
 * Index convention: entry (i, j) of a random matrix S has output row i and column j; column j of S belongs to row j of
 * the data. No law depends on the shape of S or of the data.
 */
#ifndef GRAMIAN_BACKEND_PORTABLE_MATH_H
#define GRAMIAN_BACKEND_PORTABLE_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "op_table.h"

#ifdef __CUDACC__
#define GRAMIAN_PORTABLE __host__ __device__
#else
#define GRAMIAN_PORTABLE
#endif

/* Families of random operators; part of the key. */
enum gramian_family {
  GRAMIAN_FAMILY_GAUSSIAN = 1,
  GRAMIAN_FAMILY_RADEMACHER = 2,
  GRAMIAN_FAMILY_SRHT = 3,
  GRAMIAN_FAMILY_SPARSE_SIGN = 4, /* CountSketch too */
  GRAMIAN_FAMILY_LASO = 5,
  GRAMIAN_FAMILY_LEVERAGE = 6,
  GRAMIAN_FAMILY_TENSOR_SKETCH = 7,
  GRAMIAN_FAMILY_TENSOR_SRHT = 8,
  GRAMIAN_FAMILY_NOISE = 9,
  GRAMIAN_FAMILY_FEATURES = 10,
  GRAMIAN_FAMILY_DCT = 11
};

/* What a stream draws; part of the counter. */
enum gramian_tag {
  GRAMIAN_TAG_ENTRY = 0,
  GRAMIAN_TAG_SIGN = 1,
  GRAMIAN_TAG_SECOND_SIGN = 2,
  GRAMIAN_TAG_ROW_HASH = 3,
  GRAMIAN_TAG_PERMUTATION = 4,
  GRAMIAN_TAG_SAMPLE = 5, /* without replacement */
  GRAMIAN_TAG_SAMPLE_WITH_REPLACEMENT = 6,
  GRAMIAN_TAG_NOISE = 7
};

/* The SplitMix64 finaliser over z + its golden-ratio increment; also gives seed t of a run: mix(seed + t * that). */
GRAMIAN_PORTABLE static inline uint64_t gramian_mix64(uint64_t z) {
  z += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* Key of a stream: the seed mixed with the family and the version (1) of this law. */
GRAMIAN_PORTABLE static inline uint64_t gramian_stream_key(uint64_t seed, uint32_t family) {
  const uint64_t version = 1;
  return seed ^ gramian_mix64(UINT64_C(65536) * family + version);
}

/* Philox4x32-10: 128 bits of counter and 64 bits of key to 128 random bits. `out` may be `counter`. */
GRAMIAN_PORTABLE static inline void gramian_philox(const uint32_t counter[4], uint64_t key, uint32_t out[4]) {
  uint32_t x0 = counter[0], x1 = counter[1], x2 = counter[2], x3 = counter[3];
  uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = (uint64_t)0xd2511f53u * x0;
    const uint64_t p1 = (uint64_t)0xcd9e8d57u * x2;
    x0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
    x1 = (uint32_t)p1;
    x2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
    x3 = (uint32_t)p0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  out[0] = x0;
  out[1] = x1;
  out[2] = x2;
  out[3] = x3;
}

/* Third counter word of a stream. tag and factor are below 256, generation below 65536. */
GRAMIAN_PORTABLE static inline uint32_t gramian_stream_word(const gramian_stream* stream) {
  return stream->tag | stream->factor << 8 | stream->generation << 16;
}

/* The 128 bits of draw block `block` at index j. */
GRAMIAN_PORTABLE static inline void gramian_stream_block(const gramian_stream* stream, uint64_t j, uint32_t block,
                                                         uint32_t out[4]) {
  out[0] = (uint32_t)j;
  out[1] = (uint32_t)(j >> 32);
  out[2] = gramian_stream_word(stream);
  out[3] = block;
  gramian_philox(out, stream->key, out);
}

/* Word pair `which` (0 or 1) of a block as one 64-bit word. */
GRAMIAN_PORTABLE static inline uint64_t gramian_block_word(const uint32_t block[4], int which) {
  return (uint64_t)block[2 * which] | (uint64_t)block[2 * which + 1] << 32;
}

/* Bit t < 128 of a block as a sign: set means -1. */
GRAMIAN_PORTABLE static inline double gramian_block_sign(const uint32_t block[4], unsigned t) {
  return 1.0 - 2.0 * (double)(block[t / 32] >> (t % 32) & 1u);
}

/* (k + 1/2) 2^-52 with k = word >> 12: exact, strictly inside (0, 1), symmetric about 1/2. */
GRAMIAN_PORTABLE static inline double gramian_uniform52(uint64_t word) {
  return (double)(int64_t)((word >> 12) * 2 + 1) * 0x1p-53;
}

/* Natural logarithm of a positive, finite, normal p; about 1 ulp. */
GRAMIAN_PORTABLE static inline double gramian_portable_log(double p) {
  const uint64_t half_sqrt_bits = UINT64_C(0x3fe6a09e667f3bcd); /* 0x1.6a09e667f3bcdp-1 */
  uint64_t bits;
  memcpy(&bits, &p, sizeof bits);
  const int64_t e = (int64_t)(bits - half_sqrt_bits) >> 52;
  bits -= (uint64_t)e << 52;
  double m;
  memcpy(&m, &bits, sizeof m);
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double series = 1.0 / 21.0;
  series = series * z + 1.0 / 19.0;
  series = series * z + 1.0 / 17.0;
  series = series * z + 1.0 / 15.0;
  series = series * z + 1.0 / 13.0;
  series = series * z + 1.0 / 11.0;
  series = series * z + 1.0 / 9.0;
  series = series * z + 1.0 / 7.0;
  series = series * z + 1.0 / 5.0;
  series = series * z + 1.0 / 3.0;
  series = series * z + 1.0;
  const double exponent = (double)e;
  return exponent * 0x1.62e42fee00000p-1 + (exponent * 0x1.a39ef35793c76p-33 + (2.0 * s) * series);
}

/* Quantile of the standard normal (Wichura's AS 241, PPND16), central branch: |q| <= 0.425, q = u - 1/2. */
GRAMIAN_PORTABLE static inline double gramian_normal_quantile_centre(double q) {
  const double r = 0.180625 - q * q;
  double num = 2.5090809287301226727e+3;
  num = num * r + 3.3430575583588128105e+4;
  num = num * r + 6.7265770927008700853e+4;
  num = num * r + 4.5921953931549871457e+4;
  num = num * r + 1.3731693765509461125e+4;
  num = num * r + 1.9715909503065514427e+3;
  num = num * r + 1.3314166789178437745e+2;
  num = num * r + 3.3871328727963666080e+0;
  double den = 5.2264952788528545610e+3;
  den = den * r + 2.8729085735721942674e+4;
  den = den * r + 3.9307895800092710610e+4;
  den = den * r + 2.1213794301586595867e+4;
  den = den * r + 5.3941960214247511077e+3;
  den = den * r + 6.8718700749205790830e+2;
  den = den * r + 4.2313330701600911252e+1;
  den = den * r + 1.0;
  return (q * num) / den;
}

/* The same for |q| > 0.425. */
GRAMIAN_PORTABLE static inline double gramian_normal_quantile_tail(double u) {
  const double p = u < 0.5 ? u : 1.0 - u;
  const double t = sqrt(-gramian_portable_log(p));
  double num, den;
  if (t <= 5.0) {
    const double r = t - 1.6;
    num = 7.74545014278341407640e-4;
    num = num * r + 2.27238449892691845833e-2;
    num = num * r + 2.41780725177450611770e-1;
    num = num * r + 1.27045825245236838258e+0;
    num = num * r + 3.64784832476320460504e+0;
    num = num * r + 5.76949722146069140550e+0;
    num = num * r + 4.63033784615654529590e+0;
    num = num * r + 1.42343711074968357734e+0;
    den = 1.05075007164441684324e-9;
    den = den * r + 5.47593808499534494600e-4;
    den = den * r + 1.51986665636164571966e-2;
    den = den * r + 1.48103976427480074590e-1;
    den = den * r + 6.89767334985100004550e-1;
    den = den * r + 1.67638483018380384940e+0;
    den = den * r + 2.05319162663775882187e+0;
    den = den * r + 1.0;
  } else {
    const double r = t - 5.0;
    num = 2.01033439929228813265e-7;
    num = num * r + 2.71155556874348757815e-5;
    num = num * r + 1.24266094738807843860e-3;
    num = num * r + 2.65321895265761230930e-2;
    num = num * r + 2.96560571828504891230e-1;
    num = num * r + 1.78482653991729133580e+0;
    num = num * r + 5.46378491116411436990e+0;
    num = num * r + 6.65790464350110377720e+0;
    den = 2.04426310338993978564e-15;
    den = den * r + 1.42151175831644588870e-7;
    den = den * r + 1.84631831751005468180e-5;
    den = den * r + 7.86869131145613259100e-4;
    den = den * r + 1.48753612908506148525e-2;
    den = den * r + 1.36929880922735805310e-1;
    den = den * r + 5.99832206555887937690e-1;
    den = den * r + 1.0;
  }
  const double z = num / den;
  return u < 0.5 ? -z : z;
}

/* Quantile of the standard normal for 0 < u < 1; relative error about 1.1e-15, exactly odd about u = 1/2. */
GRAMIAN_PORTABLE static inline double gramian_normal_quantile(double u) {
  const double q = u - 0.5;
  return q <= 0.425 && q >= -0.425 ? gramian_normal_quantile_centre(q) : gramian_normal_quantile_tail(u);
}

/* Standard normal entry (i, j): block i / 2 at index j. Noise element i is entry (i, 0) of a stream with the noise tag.
 * i < 2^33. */
GRAMIAN_PORTABLE static inline double gramian_gaussian_at(const gramian_stream* stream, uint64_t i, uint64_t j) {
  uint32_t block[4];
  gramian_stream_block(stream, j, (uint32_t)(i / 2), block);
  return gramian_normal_quantile(gramian_uniform52(gramian_block_word(block, (int)(i % 2))));
}

/* Rademacher entry (i, j), +1 or -1: bit i mod 128 of block i / 128 at index j. i < 2^39. */
GRAMIAN_PORTABLE static inline double gramian_sign_at(const gramian_stream* stream, uint64_t i, uint64_t j) {
  uint32_t block[4];
  gramian_stream_block(stream, j, (uint32_t)(i / 128), block);
  return gramian_block_sign(block, (unsigned)(i % 128));
}

/* Sign of data row j, +1 or -1: bit j mod 128 of block 0 at index j / 128. */
GRAMIAN_PORTABLE static inline double gramian_row_sign(const gramian_stream* stream, uint64_t j) {
  uint32_t block[4];
  gramian_stream_block(stream, j / 128, 0, block);
  return gramian_block_sign(block, (unsigned)(j % 128));
}

/* Uniform number i in (0, 1): word pair i mod 2 of block 0 at index i / 2. */
GRAMIAN_PORTABLE static inline double gramian_uniform_at(const gramian_stream* stream, uint64_t i) {
  uint32_t block[4];
  gramian_stream_block(stream, i / 2, 0, block);
  return gramian_uniform52(gramian_block_word(block, (int)(i % 2)));
}

/* pi(q) for 0 <= q < n: the keyed permutation of [0, n) of this stream (tag GRAMIAN_TAG_PERMUTATION or
 * GRAMIAN_TAG_SAMPLE). The first m values are a sample of m without replacement. Eight Feistel rounds on
 * max(8, bits(n - 1)) bits, walked until the value falls below n: at most 2 walks on average once n > 128. */
GRAMIAN_PORTABLE static inline uint64_t gramian_permute(const gramian_stream* stream, uint64_t n, uint64_t q) {
  int bits = 8;
  while (bits < 64 && (n - 1) >> bits != 0) ++bits;
  const int left_bits = bits / 2, right_bits = bits - left_bits;
  const uint64_t left_mask = (UINT64_C(1) << left_bits) - 1, right_mask = (UINT64_C(1) << right_bits) - 1;
  uint64_t x = q;
  do {
    uint64_t left = x >> right_bits, right = x & right_mask;
    for (uint32_t round = 0; round < 8; ++round) {
      uint32_t block[4];
      gramian_stream_block(stream, round % 2 == 0 ? right : left, round, block);
      if (round % 2 == 0) {
        left ^= block[0] & left_mask;
      } else {
        right ^= block[0] & right_mask;
      }
    }
    x = left << right_bits | right;
  } while (x >= n);
  return x;
}

/* cos(2 pi a / (4 n)), 0 <= a < 4 n: by symmetry an angle of at most pi / 4, then the Taylor series. */
GRAMIAN_PORTABLE static inline double gramian_cosine_of_quarters(uint64_t a, uint64_t n) {
  if (a > 2 * n) a = 4 * n - a;
  const int negative = a > n;
  if (negative) a = 2 * n - a;
  const int by_sine = a > n - a;
  const double half_pi = 0x1.921fb54442d18p+0;
  const double t = half_pi * ((double)(int64_t)(by_sine ? n - a : a) / (double)(int64_t)n);
  const double z = t * t;
  double sum = 1.0;
  for (int k = by_sine ? 19 : 18; k >= 2; k -= 2) sum = 1.0 - z / (double)(k * (k - 1)) * sum;
  if (by_sine) sum = t * sum;
  return negative ? -sum : sum;
}

#endif
