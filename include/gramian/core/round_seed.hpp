// Seeds of the rounds of a run, so that one shared seed names a fresh draw for every round.
#pragma once

#include <cstdint>

#include "gramian/core/export.hpp"

namespace gramian {

// mix(seed + round * golden ratio) of the frozen bit law: part of the law, and a bijection in `round` for any seed.
GRAMIAN_EXPORT std::uint64_t round_seed(std::uint64_t seed, std::uint64_t round);

}  // namespace gramian
