#include "gramian/linalg/probes.hpp"

#include <cmath>

namespace gramian {

double bound_of_norm_power(double log_largest, int exponent, int probes, int check) {
  constexpr double kPi = 3.14159265358979323846;
  // The series 6 / (pi k)^2 sums to 1.
  const double share = check == 0 ? 1.0 : 6 / (kPi * kPi * static_cast<double>(check) * static_cast<double>(check));
  const double log_a = -std::log(kProbeFailure * share) / static_cast<double>(probes);
  return std::exp((log_a + 0.5 * std::log(2 / kPi) + log_largest) / static_cast<double>(exponent));
}

double bound_of_norm(double log_largest, int powers, int probes, int check) {
  return bound_of_norm_power(log_largest, 2 * powers + 1, probes, check);
}

}  // namespace gramian
