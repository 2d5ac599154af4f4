// What a few Gaussian vectors prove about a norm.
#pragma once

#include "gramian/core/export.hpp"

namespace gramian {

// Chance that a bound of this library which rests on probes is false.
inline constexpr double kProbeFailure = 1e-10;

// A bound of |E|_2 from log_largest = log max_i |F w_i|, F = E (E'E)^p of norm |E|^(2p+1), over r Gaussian vectors w_i
// independent of E: |F| <= a sqrt(2 / pi) max_i |F w_i| fails with probability a^-r at most ("Finding structure with
// randomness"). check = 0: the only check of a run, a^-r = kProbeFailure. check = 1, 2, ...: one of a series, whose
// chances add up to kProbeFailure.
GRAMIAN_EXPORT double bound_of_norm(double log_largest, int powers, int probes, int check);
// The same for F of norm |E|^exponent.
GRAMIAN_EXPORT double bound_of_norm_power(double log_largest, int exponent, int probes, int check);

}  // namespace gramian
