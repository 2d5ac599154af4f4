// The bits are those of backend/portable_math.h, which asks for compilation without contraction.
#include "gramian/core/rng.hpp"

#include <string>

#include "backend/portable_math.h"
#include "gramian/core/error.hpp"
#include "gramian/core/round_seed.hpp"

namespace gramian {
namespace {

gramian_stream plain(const RngStream& stream) {
  return {stream.key(), stream.tag(), stream.factor(), stream.generation()};
}

void check_index(std::uint64_t index, int bits) {
  GRAMIAN_REQUIRE(index >> bits == 0, invalid_argument,
                  "row " + std::to_string(index) + " of a random matrix: only 2^" + std::to_string(bits) + " exist");
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(const std::array<std::uint32_t, 4>& counter, std::uint64_t key) {
  std::array<std::uint32_t, 4> out;
  gramian_philox(counter.data(), key, out.data());
  return out;
}

std::uint64_t round_seed(std::uint64_t seed, std::uint64_t round) {
  return gramian_mix64(seed + round * UINT64_C(0x9e3779b97f4a7c15));
}

double cosine_of_quarters(std::uint64_t a, std::uint64_t n) {
  GRAMIAN_REQUIRE(n > 0 && a / 4 < n, invalid_argument, "cosine_of_quarters: the angle is not inside one turn");
  return gramian_cosine_of_quarters(a, n);
}

RngStream::RngStream(std::uint64_t seed, RngFamily family, std::uint32_t tag, std::uint32_t factor,
                     std::uint32_t generation)
    : key_(gramian_stream_key(seed, static_cast<std::uint32_t>(family))),
      tag_(tag),
      factor_(factor),
      generation_(generation) {
  // The three share one counter word: 8, 8 and 16 bits.
  GRAMIAN_REQUIRE(tag < 256 && factor < 256 && generation < 65536, invalid_argument,
                  "random stream: tag and factor are below 256, generation below 65536");
}

std::uint64_t RngStream::word(std::uint64_t j, std::uint32_t block, int which) const {
  const gramian_stream stream = plain(*this);
  uint32_t out[4];
  gramian_stream_block(&stream, j, block, out);
  return gramian_block_word(out, which);
}

double RngStream::gaussian(std::uint64_t i, std::uint64_t j) const {
  check_index(i, 33);
  const gramian_stream stream = plain(*this);
  return gramian_gaussian_at(&stream, i, j);
}

double RngStream::sign(std::uint64_t i, std::uint64_t j) const {
  check_index(i, 39);
  const gramian_stream stream = plain(*this);
  return gramian_sign_at(&stream, i, j);
}

double RngStream::row_sign(std::uint64_t j) const {
  const gramian_stream stream = plain(*this);
  return gramian_row_sign(&stream, j);
}

double RngStream::uniform(std::uint64_t i) const {
  const gramian_stream stream = plain(*this);
  return gramian_uniform_at(&stream, i);
}

std::uint64_t RngStream::permute(std::uint64_t n, std::uint64_t q) const {
  GRAMIAN_REQUIRE(q < n, invalid_argument,
                  "permutation of " + std::to_string(n) + " elements: no element " + std::to_string(q));
  const gramian_stream stream = plain(*this);
  return gramian_permute(&stream, n, q);
}

}  // namespace gramian
