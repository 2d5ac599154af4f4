// What the rounding of sums, and of sums that were once larger, costs weights and ranks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gram/centred_gram.h"
#include "gram/gram_sums.h"
#include "gramian/linalg/solve.hpp"

namespace gramian {

// What sums remember of the largest they ever were, as far as removals need it.
struct LargestHeld {
  double unit = 0;              // relative rounding of a sum: k eps, see below
  double trace = 0;             // T
  double energy = 0;            // E
  double weight = 0;            // n
  std::vector<double> squares;  // by feature: the largest sum of its squares

  LargestHeld() = default;
  explicit LargestHeld(const GramState::Sums& sums);
};

// Bound of the relative error that removals caused in weights of the first `width` features.
//
// With k terms behind an entry, T and E the largest trace and target energy ever held and eps that of the products,
// |dG| <= k eps T and |dQ| <= k eps sqrt(T E). To first order A dW = dB - dA W, so
//   |dW| / |W| <= 4 k eps (T + sqrt(T E) / |W|) / (smallest eigenvalue of A);
// 4 is for the sums s and t, which centre G and Q. Of features scaled by S = diag(scale), T is that of the scaled ones.
// S itself is made of the sums: A = S (G + ridge S^-2) S, where dS^-2 <= k eps T / n.
// smallest: of the eigenvalues of A, ridge included. coef: n_outputs x width, on the host, of features as they came.
// Infinite for weights of zero from targets that were not.
double removal_bound(const LargestHeld& held, const std::vector<double>& scale, std::int64_t width, double ridge,
                     double smallest, const std::vector<double>& coef);
// The same for these sums; 0 where nothing was removed.
double removal_bound(const GramState::Sums& sums, const std::vector<double>& scale, std::int64_t width, double ridge,
                     double smallest, const std::vector<double>& coef);

// What full rank means for A without a ridge; a: with the same scaling. any_sizes: features of very different sizes are
// no lack of rank, whatever the products.
RankRule rank_rule(const GramState::Sums& sums, const CentredGram& a, bool any_sizes = false);

// Error{not_positive_definite} with the rank unless A, without a ridge, has full rank; for uses of its factor, which
// does not mind the sizes of features. d^3 / 3 flops.
void require_full_rank(const GramState::Sums& sums, const CentredGram& a);

// A bound, in practice, of the rounding of (target energy) - W'B for centred sums, over that energy.
double residual_noise(const GramState::Sums& sums);

// The place of the lowest score, where scores are known up to `noise` only. One that is no more than its noise says
// nothing beyond that, so no score counts for less; and of the scores that lie in the noise beside a best one that does
// too, the smallest ridge has the best, for what noise hides is the error of the fit. Those of which so little is known
// that they might be four times as large are left out. NaN: not computed.
std::size_t best_of(const std::vector<double>& ridges, const std::vector<double>& scores,
                    const std::vector<double>& noise);

}  // namespace gramian
