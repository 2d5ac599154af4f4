// Known answers of the frozen bit law, version 1, and of the generator under it.
#include "gramian/core/rng.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "backend/portable_math.h"
#include "gramian/core/error.hpp"

namespace {

using gramian::RngFamily;
using gramian::RngStream;
using Words = std::array<std::uint32_t, 4>;

constexpr std::uint64_t kSeed = 12345;

// Vectors published with Random123.
TEST(Philox, Random123KnownAnswers) {
  EXPECT_EQ(gramian::philox4x32({0, 0, 0, 0}, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(gramian::philox4x32({ones, ones, ones, ones}, ~std::uint64_t{0}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // Key words a4093822, 299f31d0: the first is the low one.
  EXPECT_EQ(gramian::philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(BitLaw, MixAndKey) {
  EXPECT_EQ(gramian_mix64(0), 0xe220a8397b1dcdafu);
  EXPECT_EQ(RngStream(kSeed, RngFamily::gaussian).key(), 0x5f4c1dac282d5556u);
}

TEST(BitLaw, FirstBlock) {
  const RngStream stream(kSeed, RngFamily::gaussian);
  EXPECT_EQ(gramian::philox4x32({0, 0, 0, 0}, stream.key()), (Words{0x783afe64, 0x0b1b85a6, 0xfb9f983c, 0xde853724}));
}

TEST(BitLaw, GaussianKnownAnswers) {
  const RngStream stream(kSeed, RngFamily::gaussian);
  EXPECT_EQ(stream.gaussian(0, 0), -0x1.b670113a6c795p+0);
  EXPECT_EQ(stream.gaussian(1, 0), 0x1.1f6a1743dc6d8p+0);
  EXPECT_EQ(stream.gaussian(2, 0), 0x1.3e63585c39ce9p-1);
  EXPECT_EQ(stream.gaussian(3, 0), 0x1.261579963123cp+0);
  EXPECT_EQ(stream.gaussian(0, std::uint64_t{1} << 32), -0x1.71b8347f778b7p-2);
}

TEST(BitLaw, GaussianMoments) {
  const RngStream stream(7, RngFamily::gaussian);
  const int rows = 256, cols = 1024;
  const double count = double{rows} * cols;
  double sum = 0, squares = 0, fourths = 0;
  for (std::uint64_t i = 0; i < rows; ++i) {
    for (std::uint64_t j = 0; j < cols; ++j) {
      const double z = stream.gaussian(i, j);
      sum += z;
      squares += z * z;
      fourths += z * z * z * z;
    }
  }
  // Five standard deviations of each mean: Var z = 1, Var z^2 = 2, Var z^4 = 96.
  EXPECT_LT(std::abs(sum / count), 5 / std::sqrt(count));
  EXPECT_LT(std::abs(squares / count - 1), 5 * std::sqrt(2 / count));
  EXPECT_LT(std::abs(fourths / count - 3), 5 * std::sqrt(96 / count));
}

TEST(BitLaw, RademacherKnownAnswers) {
  const RngStream stream(kSeed, RngFamily::rademacher);
  std::string bits;
  for (std::uint64_t i = 0; i < 32; ++i) bits += stream.sign(i, 3) < 0 ? '1' : '0';
  EXPECT_EQ(bits, "10011010111101000111111111100010");
}

TEST(BitLaw, RowSignKnownAnswers) {
  const RngStream stream(kSeed, RngFamily::srht, GRAMIAN_TAG_SIGN);
  std::string bits;
  for (std::uint64_t j = 0; j < 32; ++j) bits += stream.row_sign(j) < 0 ? '1' : '0';
  EXPECT_EQ(bits, "01001001001010011001101101001110");
}

TEST(BitLaw, SignsAreOneAndBalanced) {
  const RngStream stream(1, RngFamily::rademacher);
  double sum = 0;
  for (std::uint64_t i = 0; i < 4096; ++i) {
    const double sign = stream.sign(i, 9);
    ASSERT_TRUE(sign == 1.0 || sign == -1.0);
    sum += sign;
  }
  EXPECT_LT(std::abs(sum), 5 * 64);
}

std::vector<std::uint64_t> permuted(const RngStream& stream, std::uint64_t n, std::uint64_t count) {
  std::vector<std::uint64_t> out;
  for (std::uint64_t q = 0; q < count; ++q) out.push_back(stream.permute(n, q));
  return out;
}

TEST(BitLaw, PermutationKnownAnswers) {
  using List = std::vector<std::uint64_t>;
  const RngStream rows(kSeed, RngFamily::srht, GRAMIAN_TAG_PERMUTATION);
  EXPECT_EQ(permuted(rows, 10, 10), (List{4, 2, 1, 6, 3, 8, 9, 7, 5, 0}));
  const RngStream sample(kSeed, RngFamily::srht, GRAMIAN_TAG_SAMPLE);
  EXPECT_EQ(permuted(sample, 1024, 8), (List{880, 148, 817, 980, 768, 192, 843, 976}));
  EXPECT_EQ(permuted(sample, 1000000, 4), (List{176929, 924209, 672198, 395814}));
}

TEST(BitLaw, PermutationIsOneToOne) {
  const RngStream stream(3, RngFamily::srht, GRAMIAN_TAG_PERMUTATION);
  for (const std::uint64_t n : {1, 2, 3, 7, 255, 256, 257, 1000, 4096}) {
    std::vector<bool> seen(n, false);
    for (const std::uint64_t q : permuted(stream, n, n)) {
      ASSERT_LT(q, n);
      ASSERT_FALSE(seen[q]) << n;
      seen[q] = true;
    }
  }
}

// Counts over the 120 orders of five elements: chi-square with 119 degrees of freedom.
TEST(BitLaw, PermutationOfFiveIsUniform) {
  const int draws = 6000;
  std::vector<int> counts(120, 0);
  for (std::uint32_t t = 0; t < draws; ++t) {
    const RngStream stream(t, RngFamily::srht, GRAMIAN_TAG_PERMUTATION);
    const std::vector<std::uint64_t> order = permuted(stream, 5, 5);
    std::size_t code = 0;
    for (std::size_t a = 0; a < 5; ++a) {
      std::size_t smaller = 0;
      for (std::size_t b = a + 1; b < 5; ++b) smaller += order[b] < order[a];
      code = code * (5 - a) + smaller;
    }
    ++counts[code];
  }
  double chi = 0;
  for (const int count : counts) chi += (count - draws / 120.0) * (count - draws / 120.0) / (draws / 120.0);
  EXPECT_LT(chi, 119 + 5 * std::sqrt(2.0 * 119));
}

TEST(BitLaw, UniformIsThePairOfItsBlock) {
  const RngStream stream(11, RngFamily::features, GRAMIAN_TAG_NOISE, 2, 3);
  for (const std::uint64_t i : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{(1ull << 33) + 5}}) {
    const std::uint64_t j = i / 2;
    const Words block = gramian::philox4x32(
        {static_cast<std::uint32_t>(j), static_cast<std::uint32_t>(j >> 32), 7u | 2u << 8 | 3u << 16, 0}, stream.key());
    const std::size_t pair = i % 2 * 2;
    const std::uint64_t word = block[pair] | std::uint64_t{block[pair + 1]} << 32;
    EXPECT_EQ(stream.uniform(i), (static_cast<double>(word >> 12) + 0.5) / 4503599627370496.0);
  }
}

TEST(BitLaw, StreamsDiffer) {
  const double reference = RngStream(1, RngFamily::gaussian).gaussian(0, 0);
  EXPECT_NE(reference, RngStream(2, RngFamily::gaussian).gaussian(0, 0));
  EXPECT_NE(reference, RngStream(1, RngFamily::features).gaussian(0, 0));
  EXPECT_NE(reference, RngStream(1, RngFamily::gaussian, 1).gaussian(0, 0));
  EXPECT_NE(reference, RngStream(1, RngFamily::gaussian, 0, 1).gaussian(0, 0));
  EXPECT_NE(reference, RngStream(1, RngFamily::gaussian, 0, 0, 1).gaussian(0, 0));
}

TEST(RngStream, RejectsWhatItsCounterCannotHold) {
  EXPECT_THROW(RngStream(0, RngFamily::srht, 256), gramian::Error);
  EXPECT_THROW(RngStream(0, RngFamily::srht, 0, 256), gramian::Error);
  EXPECT_THROW(RngStream(0, RngFamily::srht, 0, 0, 65536), gramian::Error);
  const RngStream stream(0, RngFamily::srht);
  EXPECT_THROW(stream.permute(0, 0), gramian::Error);
  EXPECT_THROW(stream.permute(5, 5), gramian::Error);
  EXPECT_THROW(stream.gaussian(std::uint64_t{1} << 33, 0), gramian::Error);
  EXPECT_THROW(stream.sign(std::uint64_t{1} << 39, 0), gramian::Error);
}

}  // namespace
