// The ridge by held-out rows of which nothing but sums is kept.
//
// For weights W and intercept b of any origin, the squared error on rows with sums (n, s, t, G, Q, sum y^2) is
//   sum y^2 - 2 tr(W'Q) + tr(W'G W) + 2 b'(W's - t) + n |b|^2,
// so a second GramState that is fed with the held-out rows judges a whole path of ridges, and rows of every batch ever
// seen may take part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "gramian/core/export.hpp"
#include "gramian/gram/gram_state.hpp"

namespace gramian {

enum class HoldoutRule {
  none,
  moments,  // a keyed fraction of all rows ever added; see held_out_rows
  ranpac    // the last rows of the last call alone judge weights of its other rows ("RanPAC: Random Projections and
            // Pre-trained Models for Continual Learning", as published)
};

GRAMIAN_EXPORT HoldoutRule parse_holdout_rule(const std::string& name);
GRAMIAN_EXPORT const char* name_of(HoldoutRule rule);

struct HoldoutCurve {
  std::vector<double> ridges;
  std::vector<double> scores;  // mean squared error of held-out rows; NaN: not needed, infinity: singular
  std::size_t best = 0;        // of the smallest score; of those that rounding hides, the smallest ridge
  bool at_edge = false;        // the best is the first or the last of the grid
  std::int64_t evaluated = 0;  // ridges that were solved
};

enum class RidgeSearch {
  full,
  // Fibonacci search: six of 17 ridges where the curve has one valley. Where the scores that were computed show more
  // than one, or the grid does not rise, all of them.
  coarse_to_fine
};

// One Cholesky factor a ridge (d^3 / 3 flops, in float with one sweep of refinement from 2048 features on where that
// holds its digits) and 4 d^2 C flops. The states must have equal sizes: Error{shape_mismatch, invalid_argument};
// Error{not_fitted} where one has no rows.
GRAMIAN_EXPORT HoldoutCurve holdout_curve(const GramState& train, const GramState& validation,
                                          const std::vector<double>& ridges, bool standardize, RidgeSearch search);

// Which rows are held out: those whose hash is among the lowest `fraction`. The hash is one of the numbers in the row
// and the seed, so that a row falls on the same side in any order, batch, copy, layout or type, equal rows never fall
// on both, and a row can be taken out again. Throws Error{non_finite}. A few operations a number.
GRAMIAN_EXPORT std::vector<bool> held_out_rows(const Exec& exec, const RowsView& x, double fraction,
                                               std::uint64_t seed);

}  // namespace gramian
