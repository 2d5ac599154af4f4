// How many rows a state may count: by numbers that files and doubles hold exactly.
#pragma once

#include <cstdint>
#include <string>

#include "gramian/core/error.hpp"

namespace gramian {

constexpr std::int64_t kMostRows = std::int64_t{1} << 53;

// Error{invalid_argument} where so many more cannot be counted; held <= kMostRows.
inline void require_countable(std::int64_t held, std::int64_t more) {
  GRAMIAN_REQUIRE(more <= kMostRows - held, invalid_argument,
                  "the state holds " + std::to_string(held) + " rows, and " + std::to_string(more) +
                      " more would be beyond the 2^53 that it counts");
}

}  // namespace gramian
