// Leverages at many ridges from those at a few.
//
// With modes s and nonnegative parts a of a row, its leverage at ridge r is sum a / (s + r): a function of r that knows
// the row only through a. If
//   | 1 - (s + r) (sum_j alpha_j / (s + r_j) + beta) | <= error      for every s that can occur,
// then sum_j alpha_j h(r_j) + beta |x|^2 is h(r) with that relative error, whatever the row.
#pragma once

#include <cstddef>
#include <vector>

namespace gramian {

// How the leverages of one ridge follow from those at the nodes.
struct LeverageMixture {
  std::vector<double> alpha;  // one per node
  double beta = 0;            // of |x|^2
  double error = 0;           // relative, proven but for rounding
  double amplification = 1;   // of the relative rounding errors of what is mixed
};

// The best that is known of one ridge for modes in [low, high], 0 < low <= high; nodes are different ridges.
LeverageMixture mix_leverages(const std::vector<double>& nodes, double ridge, double low, double high);
// The same with beta = 0, for what falls off like 1 / (s + r) and has no simple limit: ridge weights.
LeverageMixture mix_weights(const std::vector<double>& nodes, double ridge, double low, double high);

}  // namespace gramian
