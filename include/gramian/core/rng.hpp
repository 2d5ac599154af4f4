// Randomness as a pure function of (seed, family, index). There is no state to advance, so nothing can be lost or
// drawn twice, and every device, instruction set and thread count sees the same bits ("Frozen bit law, version 1").
#pragma once

#include <array>
#include <cstdint>

#include "gramian/core/export.hpp"

namespace gramian {

// The counter-based generator itself: Philox4x32-10 of "Parallel random numbers: as easy as 1, 2, 3".
GRAMIAN_EXPORT std::array<std::uint32_t, 4> philox4x32(const std::array<std::uint32_t, 4>& counter, std::uint64_t key);

// Families keep the draws of different users of one seed apart. The numbers are part of the law.
enum class RngFamily : std::uint32_t {
  gaussian = 1,
  rademacher = 2,
  srht = 3,
  sparse_sign = 4,  // CountSketch too
  long_axis = 5,
  leverage = 6,
  tensor_sketch = 7,
  tensor_srht = 8,
  noise = 9,
  features = 10,
  dct = 11
};

// cos(2 pi a / (4 n)) in one fixed order of IEEE operations: the same bits everywhere, error about 1e-16. 0 <= a < 4 n.
GRAMIAN_EXPORT double cosine_of_quarters(std::uint64_t a, std::uint64_t n);

// One named stream of draws; a plain value.
class GRAMIAN_EXPORT RngStream {
 public:
  RngStream(std::uint64_t seed, RngFamily family, std::uint32_t tag = 0, std::uint32_t factor = 0,
            std::uint32_t generation = 0);

  std::uint64_t key() const { return key_; }
  std::uint32_t tag() const { return tag_; }
  std::uint32_t factor() const { return factor_; }
  std::uint32_t generation() const { return generation_; }

  // Word pair `which` (0 or 1) of draw block `block` at index j.
  std::uint64_t word(std::uint64_t j, std::uint32_t block, int which) const;
  // Entry (i, j) of the standard normal matrix of this stream.
  double gaussian(std::uint64_t i, std::uint64_t j) const;
  // Entry (i, j) of the +-1 matrix of this stream.
  double sign(std::uint64_t i, std::uint64_t j) const;
  // +-1 of index j, one generator call per 128 indices.
  double row_sign(std::uint64_t j) const;
  // Uniform in (0, 1) of index i.
  double uniform(std::uint64_t i) const;
  // Where q goes under the keyed permutation of [0, n); n >= 1, q < n.
  std::uint64_t permute(std::uint64_t n, std::uint64_t q) const;

 private:
  std::uint64_t key_;
  std::uint32_t tag_, factor_, generation_;
};

}  // namespace gramian
