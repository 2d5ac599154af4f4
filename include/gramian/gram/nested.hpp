// All models on the first k features, k = 1 .. d, from one factor.
//
// The leading k x k block of the Cholesky factor L of a ridge system is the factor of the system of the first k
// features, and the first k rows of Z = L^-1 B are its right-hand side. So the weights of every prefix are one
// back-substitution away, its penalised loss is |Y|^2 - |Z[:k]|^2, and with V = L^-1 X' the errors and leverages behind
// its exact leave-one-out error are running sums over V and V Z. (The leading block of an inverse has no such meaning.)
// All prefixes share one ridge; features count in the order they have.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/export.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/gram/leave_one_out.hpp"
#include "gramian/gram/ridge_factor.hpp"

namespace gramian {

// Ridge weights of the first k features for each width k, 1 <= k <= d: coef is n_outputs x k. One factor, then
// 4 d^2 C + 18 d^2 flops a width (but for 2 d^2 C of them for the residual and the condition in the report). Throws as
// RidgeFactor does.
GRAMIAN_EXPORT std::vector<Solution> prefix_solutions(const GramState& state, const std::vector<std::int64_t>& widths,
                                                      double ridge, bool standardize = false);

// |Y|^2 - |Z[:k]|^2 for k = 1 .. d: the smallest value of sum_w |y - x W|^2 + ridge |W|^2 over weights of the first k
// features, summed over outputs. It never rises. `factor` is one of this state.
GRAMIAN_EXPORT std::vector<double> nested_losses(const GramState& state, const RidgeFactor& factor);

struct NestedCurve {
  std::vector<double> scores;  // place k - 1: sum_w |leave-one-out error|^2 / sum_w of width k, summed over outputs
  std::vector<double> losses;  // nested_losses
  std::int64_t best = 0;       // the width of the smallest score
};

// Exact leave-one-out errors of all widths. n d^2 + 4 n d C flops and n d divisions; memory of a block of rows. A
// width that leaves a row without which there is no model scores infinity.
GRAMIAN_EXPORT NestedCurve nested_curve(const GramState& state, const RidgeFactor& factor, const LabelledRows& rows);

}  // namespace gramian
