/* Random fills with the bits of portable_math.h on every ISA. Philox runs one block per vector lane and the central
 * branch of the Gaussian quantile on whole vectors: the same operations in the same order as the scalar law, so the
 * bits cannot differ. This file must be compiled without contraction. */
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "../../portable_math.h"
#include "kernel_common.h"

namespace {

typedef uint64_t Word __attribute__((vector_size(GRAMIAN_VECTOR_BYTES)));
constexpr int64_t kWords = GRAMIAN_VECTOR_BYTES / 8;

/* Products of the low halves of each lane. Written out because no compiler finds the widening multiply from the
 * masked one. */
inline Word multiply_low(Word a, uint32_t factor) {
#if defined(__AVX512F__)
  const Word b = Word{} + uint64_t{factor};
  return reinterpret_cast<Word>(_mm512_mul_epu32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  const Word b = Word{} + uint64_t{factor};
  return reinterpret_cast<Word>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
  const Word b = Word{} + uint64_t{factor};
  return reinterpret_cast<Word>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#elif defined(__ARM_NEON)
  const uint32x2_t low = vmovn_u64(reinterpret_cast<uint64x2_t>(a));
  return reinterpret_cast<Word>(vmull_u32(low, vdup_n_u32(factor)));
#else
  return (a & 0xffffffffu) * uint64_t{factor};
#endif
}

/* Philox4x32-10 in the low halves of the lanes; `words` goes from the counters to W0 and W1. The high halves hold
 * rubbish between rounds, which multiply_low ignores. */
inline void philox_lanes(Word counter[4], uint64_t key, Word words[2]) {
  Word x0 = counter[0], x1 = counter[1], x2 = counter[2], x3 = counter[3];
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const Word p0 = multiply_low(x0, 0xd2511f53u);
    const Word p1 = multiply_low(x2, 0xcd9e8d57u);
    x0 = (p1 >> 32) ^ x1 ^ uint64_t { k0 };
    x1 = p1;
    x2 = (p0 >> 32) ^ x3 ^ uint64_t { k1 };
    x3 = p0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  const Word low = Word{} + uint64_t{0xffffffffu};
  words[0] = (x0 & low) | x1 << 32;
  words[1] = (x2 & low) | x3 << 32;
}

/* gramian_uniform52 on lanes: 1 + k 2^-52 by bits; the subtraction and the half step are exact. */
inline Vector<double> uniform_lanes(Word words) {
  const Word one_plus = words >> 12 | uint64_t{0x3ff0000000000000u};
  return (bit_copy<Vector<double>>(one_plus) - 1.0) + 0x1p-53;
}

inline Word lane_numbers() {
  Word numbers = {};
  for (int64_t lane = 0; lane < kWords; ++lane) numbers[lane] = static_cast<uint64_t>(lane);
  return numbers;
}

/* Values are made in strips of this many draw blocks, two values each. */
constexpr int64_t kStripBlocks = 64;
constexpr int64_t kStrip = 2 * kStripBlocks;

/* u of both word pairs of lanes' blocks, in index order, to out[0 .. 2 kWords). */
inline void store_uniforms(Word words[2], double* out) {
  const Vector<double> even = uniform_lanes(words[0]), odd = uniform_lanes(words[1]);
  for (int64_t lane = 0; lane < kWords; ++lane) {
    out[2 * lane] = even[lane];
    out[2 * lane + 1] = odd[lane];
  }
}

/* Uniforms of the draw blocks first_block .. at index j. */
void matrix_uniforms(const gramian_stream& stream, uint64_t j, uint64_t first_block, int64_t blocks, double* out) {
  const Word lanes = lane_numbers();
  for (int64_t b = 0; b < blocks; b += kWords) {
    Word counter[4] = {Word{} + (j & 0xffffffffu), Word{} + (j >> 32), Word{} + uint64_t{gramian_stream_word(&stream)},
                       lanes + (first_block + static_cast<uint64_t>(b))};
    Word words[2];
    philox_lanes(counter, stream.key, words);
    store_uniforms(words, out + 2 * b);
  }
}

/* Uniforms of block 0 of the indices first_index .. . */
void vector_uniforms(const gramian_stream& stream, uint64_t first_index, int64_t indices, double* out) {
  const Word lanes = lane_numbers();
  for (int64_t t = 0; t < indices; t += kWords) {
    const Word index = lanes + (first_index + static_cast<uint64_t>(t));
    Word counter[4] = {index, index >> 32, Word{} + uint64_t{gramian_stream_word(&stream)}, Word{}};
    Word words[2];
    philox_lanes(counter, stream.key, words);
    store_uniforms(words, out + 2 * t);
  }
}

/* gramian_normal_quantile_centre on lanes. */
inline Vector<double> quantile_centre(Vector<double> q) {
  const Vector<double> r = 0.180625 - q * q;
  Vector<double> num = splat(2.5090809287301226727e+3);
  num = num * r + 3.3430575583588128105e+4;
  num = num * r + 6.7265770927008700853e+4;
  num = num * r + 4.5921953931549871457e+4;
  num = num * r + 1.3731693765509461125e+4;
  num = num * r + 1.9715909503065514427e+3;
  num = num * r + 1.3314166789178437745e+2;
  num = num * r + 3.3871328727963666080e+0;
  Vector<double> den = splat(5.2264952788528545610e+3);
  den = den * r + 2.8729085735721942674e+4;
  den = den * r + 3.9307895800092710610e+4;
  den = den * r + 2.1213794301586595867e+4;
  den = den * r + 5.3941960214247511077e+3;
  den = den * r + 6.8718700749205790830e+2;
  den = den * r + 4.2313330701600911252e+1;
  den = den * r + 1.0;
  return (q * num) / den;
}

/* Gaussians over uniforms, in place: the centre for all lanes, then the 15 % in the tails one by one. */
void quantiles(double* u, int64_t count) {
  double tail[kStrip];
  int32_t where[kStrip];
  int64_t tails = 0;
  for (int64_t t = 0; t < count; ++t) {
    const double q = u[t] - 0.5;
    where[tails] = static_cast<int32_t>(t);
    tail[tails] = u[t];
    tails += !(q <= 0.425 && q >= -0.425);
  }
  for (int64_t t = 0; t < count; t += kWords) {
    store(u + t, quantile_centre(load<Vector<double>>(u + t) - 0.5));
  }
  for (int64_t k = 0; k < tails; ++k) u[where[k]] = gramian_normal_quantile_tail(tail[k]);
}

template <class T>
void fill_gaussian(const gramian_stream& stream, int64_t j0, int64_t rows, int64_t i0, int64_t cols, double scale,
                   T* out, int64_t ld_out) {
  double values[kStrip];
  for (int64_t r = 0; r < rows; ++r, out += ld_out) {
    for (int64_t i = i0; i < i0 + cols;) {
      const int64_t skip = i % 2;
      const int64_t left = i0 + cols - i;
      const int64_t count = left < kStrip - skip ? left : kStrip - skip;
      const int64_t blocks = (skip + count + 1) / 2;
      // Whole vectors: the strip has room for the lanes past the last block.
      matrix_uniforms(stream, static_cast<uint64_t>(j0 + r), static_cast<uint64_t>(i / 2), blocks, values);
      quantiles(values, 2 * ((blocks + kWords - 1) / kWords * kWords));
      for (int64_t t = 0; t < count; ++t) out[i - i0 + t] = static_cast<T>(scale * values[skip + t]);
      i += count;
    }
  }
}

/* The 128 signs of a block times `magnitude`. */
template <class T>
inline void expand_signs(const uint32_t block[4], T magnitude, T* out) {
  using Lanes = Integer<T>;
  using Scalar = decltype(Lanes{}[0] + 0);
  Lanes bit = {};
  for (int64_t lane = 0; lane < kLanes<T>; ++lane) bit[lane] = static_cast<Scalar>(Scalar{1} << lane);
  const Vector<T> plus = splat(magnitude), minus = -plus;
  for (int word = 0; word < 4; ++word) {
    for (int64_t t = 0; t < 32; t += kLanes<T>) {
      const Lanes bits = (Lanes{} + static_cast<Scalar>(block[word] >> t)) & bit;
      store(out + 32 * word + t, bits != 0 ? minus : plus);
    }
  }
}

/* Copies what [begin, begin + count) has in common with the 128 signs from index `first` on. */
template <class T>
inline void copy_signs(const T signs[128], int64_t first, int64_t begin, int64_t count, T* out) {
  const int64_t from = first > begin ? first : begin;
  const int64_t to = first + 128 < begin + count ? first + 128 : begin + count;
  std::memcpy(out + (from - begin), signs + (from - first), static_cast<size_t>(to - from) * sizeof(T));
}

template <class T>
void fill_rademacher(const gramian_stream& stream, int64_t j0, int64_t rows, int64_t i0, int64_t cols, double scale,
                     T* out, int64_t ld_out) {
  uint32_t block[4];
  T signs[128];
  for (int64_t r = 0; r < rows; ++r, out += ld_out) {
    for (int64_t first = i0 / 128 * 128; first < i0 + cols; first += 128) {
      gramian_stream_block(&stream, static_cast<uint64_t>(j0 + r), static_cast<uint32_t>(first / 128), block);
      expand_signs(block, static_cast<T>(scale), signs);
      copy_signs(signs, first, i0, cols, out);
    }
  }
}

template <class T>
int fill_random_type(int distribution, const gramian_stream& stream, int64_t j0, int64_t rows, int64_t i0, int64_t cols,
                     double scale, T* out, int64_t ld_out) {
  if (distribution == GRAMIAN_GAUSSIAN) {
    fill_gaussian(stream, j0, rows, i0, cols, scale, out, ld_out);
    return GRAMIAN_STATUS_OK;
  }
  if (distribution == GRAMIAN_RADEMACHER) {
    fill_rademacher(stream, j0, rows, i0, cols, scale, out, ld_out);
    return GRAMIAN_STATUS_OK;
  }
  return GRAMIAN_STATUS_INVALID;
}

int fill_random(gramian_context*, int dtype, int distribution, gramian_stream stream, int64_t j0, int64_t rows,
                int64_t i0, int64_t cols, double scale, void* out, int64_t ld_out) {
  if (dtype == GRAMIAN_F32) {
    return fill_random_type(distribution, stream, j0, rows, i0, cols, scale, static_cast<float*>(out), ld_out);
  }
  if (dtype == GRAMIAN_F64) {
    return fill_random_type(distribution, stream, j0, rows, i0, cols, scale, static_cast<double*>(out), ld_out);
  }
  return GRAMIAN_STATUS_INVALID;
}

template <class T>
int fill_signs_type(const gramian_stream& stream, int64_t j0, int64_t count, T* out) {
  uint32_t block[4];
  T signs[128];
  for (int64_t first = j0 / 128 * 128; first < j0 + count; first += 128) {
    gramian_stream_block(&stream, static_cast<uint64_t>(first / 128), 0, block);
    expand_signs(block, T(1), signs);
    copy_signs(signs, first, j0, count, out);
  }
  return GRAMIAN_STATUS_OK;
}

int fill_signs(gramian_context*, int dtype, gramian_stream stream, int64_t j0, int64_t count, void* out) {
  if (dtype == GRAMIAN_F32) return fill_signs_type(stream, j0, count, static_cast<float*>(out));
  if (dtype == GRAMIAN_F64) return fill_signs_type(stream, j0, count, static_cast<double*>(out));
  return GRAMIAN_STATUS_INVALID;
}

template <class T>
int fill_uniform_type(const gramian_stream& stream, int64_t i0, int64_t count, double low, double high, T* out) {
  double values[kStrip];
  const double width = high - low;
  for (int64_t i = i0; i < i0 + count;) {
    const int64_t skip = i % 2;
    const int64_t left = i0 + count - i;
    const int64_t strip = left < kStrip - skip ? left : kStrip - skip;
    vector_uniforms(stream, static_cast<uint64_t>(i / 2), (skip + strip + 1) / 2, values);
    for (int64_t t = 0; t < strip; ++t) out[i - i0 + t] = static_cast<T>(low + width * values[skip + t]);
    i += strip;
  }
  return GRAMIAN_STATUS_OK;
}

int fill_uniform(gramian_context*, int dtype, gramian_stream stream, int64_t i0, int64_t count, double low, double high,
                 void* out) {
  if (dtype == GRAMIAN_F32) return fill_uniform_type(stream, i0, count, low, high, static_cast<float*>(out));
  if (dtype == GRAMIAN_F64) return fill_uniform_type(stream, i0, count, low, high, static_cast<double*>(out));
  return GRAMIAN_STATUS_INVALID;
}

/* High 64 bits of w * factor, factor < 2^32. */
inline Word scaled_words(Word w, uint32_t factor) {
  return (multiply_low(w >> 32, factor) + (multiply_low(w, factor) >> 32)) >> 32;
}

/* The keys of the ten rounds in all lanes: made once, where a loop would make them for each block. */
struct RoundKeys {
  Word k0[10], k1[10];

  explicit RoundKeys(uint64_t key) {
    for (uint32_t round = 0; round < 10; ++round) {
      k0[round] = Word{} + uint64_t{static_cast<uint32_t>(key) + 0x9e3779b9u * round};
      k1[round] = Word{} + uint64_t{static_cast<uint32_t>(key >> 32) + 0xbb67ae85u * round};
    }
  }
};

/* Philox of kBlocks counters side by side: one block waits for itself in every round. */
template <int kBlocks>
inline void philox_blocks(Word (&counter)[kBlocks][4], const RoundKeys& keys, Word (&words)[kBlocks][2]) {
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
      Word* const x = counter[b];
      const Word p0 = multiply_low(x[0], 0xd2511f53u), p1 = multiply_low(x[2], 0xcd9e8d57u);
      x[0] = (p1 >> 32) ^ x[1] ^ keys.k0[round];
      x[1] = p1;
      x[2] = (p0 >> 32) ^ x[3] ^ keys.k1[round];
      x[3] = p0;
    }
  }
  const Word low = Word{} + uint64_t{0xffffffffu};
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
    words[b][0] = (counter[b][0] & low) | counter[b][1] << 32;
    words[b][1] = (counter[b][2] & low) | counter[b][3] << 32;
  }
}

/* The rows that a nonzero may have. */
struct HashRange {
  uint64_t begin;
  uint32_t count;
};

/* 2 row + sign bit of each lane, in its low half. */
inline Word codes_of(const Word& words, const HashRange& range) {
  return (scaled_words(words, range.count) + range.begin) << 1 | (words & uint64_t{1});
}

/* What all columns have in common; ranges[k] is of nonzero first + k. */
struct HashLaw {
  RoundKeys keys;
  Word stream_word;
  int64_t nnz, first, end;
  const HashRange* ranges;
};

/* The codes of blocks `block` .. block + kBlocks of kWords columns from `index` on, of which `count` are wanted. */
template <int kBlocks>
inline void hash_blocks(const HashLaw& law, const Word& index, int64_t block, int64_t count, int32_t* codes) {
  Word counter[kBlocks][4], words[kBlocks][2];
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
    counter[b][0] = index;
    counter[b][1] = index >> 32;
    counter[b][2] = law.stream_word;
    counter[b][3] = Word{} + static_cast<uint64_t>(block + b);
  }
  philox_blocks<kBlocks>(counter, law.keys, words);
  // Both codes of a block in one lane, so that they are written at once.
  uint64_t pairs[kBlocks][kWords];
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
    const HashRange* const range = law.ranges + (2 * (block + b) - law.first);
    store(pairs[b], codes_of(words[b][0], range[0]) | codes_of(words[b][1], range[1]) << 32);
  }
  codes += 2 * block;
  const int64_t left = law.end - 2 * block;
  for (int64_t lane = 0; lane < count; ++lane, codes += law.nnz) {
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
      const size_t bytes = left - 2 * b >= 2 ? sizeof(uint64_t) : sizeof(int32_t);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
      std::memcpy(codes + 2 * b, &pairs[b][lane], bytes);
#else
#error "the first of two codes is taken for the low half of a word"
#endif
    }
  }
}

/* Nonzeros that have their ranges at hand at a time. */
constexpr int64_t kHashed = 64;

void hash_columns(const gramian_stream& stream, int64_t j0, int64_t rows, int64_t first, int64_t nnz, int64_t m,
                  int32_t* codes) {
  HashRange ranges[kHashed + 1] = {};
  const int64_t end = first + kHashed < nnz ? first + kHashed : nnz;
  for (int64_t k = first; k < end; ++k) {
    const int64_t begin = k * m / nnz;
    ranges[k - first] = {static_cast<uint64_t>(begin), static_cast<uint32_t>((k + 1) * m / nnz - begin)};
  }
  const HashLaw law = {RoundKeys(stream.key), Word{} + uint64_t{gramian_stream_word(&stream)}, nnz, first, end, ranges};
  for (int64_t r = 0; r < rows; r += kWords, codes += kWords * nnz) {
    const int64_t count = rows - r < kWords ? rows - r : kWords;
    const Word index = lane_numbers() + static_cast<uint64_t>(j0 + r);
    int64_t block = first / 2;
    for (; 2 * block + 2 < end; block += 2) hash_blocks<2>(law, index, block, count, codes);
    if (2 * block < end) hash_blocks<1>(law, index, block, count, codes);
  }
}

int fill_row_hash(gramian_context*, gramian_stream stream, int64_t j0, int64_t rows, int64_t nnz, int64_t m,
                  int32_t* codes) {
  if (nnz < 1 || nnz > m || m >= int64_t{1} << 30) return GRAMIAN_STATUS_INVALID;
  for (int64_t k0 = 0; k0 < nnz; k0 += kHashed) hash_columns(stream, j0, rows, k0, nnz, m, codes);
  return GRAMIAN_STATUS_OK;
}

}  // namespace

GRAMIAN_FILL_FUNCTION(random) {
  table->fill_row_hash = fill_row_hash;
  table->fill_random = fill_random;
  table->fill_signs = fill_signs;
  table->fill_uniform = fill_uniform;
}
