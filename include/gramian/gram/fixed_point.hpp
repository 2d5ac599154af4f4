// Numbers as 128-bit integers whose sums are exact: the same bits for any order, grouping or mask.
//
// x is held as round(x 2^fraction_bits) modulo 2^128, two unsigned 64-bit words, low word first. Adding words modulo
// 2^128 loses nothing, so masks that cancel leave no trace, and decoding rounds once.
#pragma once

#include <cstdint>

#include "gramian/core/export.hpp"

namespace gramian {

// out (2 count words) = values. Each |x| must be below 2^(126 - fraction_bits) / terms, so that a sum of `terms`
// vectors fits; else Error{invalid_argument} naming the entry. NaN or infinity: Error{non_finite}. Round to nearest,
// ties to even.
GRAMIAN_EXPORT void encode_fixed(const double* values, std::int64_t count, int fraction_bits, std::int64_t terms,
                                 std::uint64_t* out);
// total += sign * words (sign: 1 or -1), modulo 2^128.
GRAMIAN_EXPORT void add_fixed(const std::uint64_t* words, std::int64_t count, int sign, std::uint64_t* total);
// values = the nearest doubles.
GRAMIAN_EXPORT void decode_fixed(const std::uint64_t* words, std::int64_t count, int fraction_bits, double* values);

}  // namespace gramian
