// Steps scaled by an estimate of the Hessian's diagonal, on plain host vectors: what a training loop of its own calls.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"

namespace gramian {

// out = H z, host vectors of length n.
using HessianProduct = std::function<void(const double* z, double* out)>;

struct DiagonalEstimate {
  std::vector<double> diagonal;  // mean of z * H z over vectors of random signs; unbiased
  std::vector<double> error;     // its standard error; zeros for one sample. Exactly zero where H is diagonal
};

// Hutchinson's estimate with `samples` vectors, the first of them number `first` of the seed's stream. One product
// each.
GRAMIAN_EXPORT DiagonalEstimate hutchinson_diagonal(const Exec& exec, const HessianProduct& product, std::int64_t n,
                                                    std::int64_t samples, std::uint64_t seed, std::int64_t first = 0);

// "ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning": Adam's rule with the squared diagonal in the
// place of the squared gradient. w -= rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t))^power + eps).
struct AdaHessianRule {
  double rate = 0.15, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, power = 1.0;
  std::int64_t average = 1;  // neighbours whose diagonal is averaged (the paper's spatial averaging); 1: none
};
// "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training": m an average of gradients, v
// of diagonals, w -= rate clip(m / max(scale v, eps), 1): no entry moves by more than the rate.
struct SophiaRule {
  double rate = 0.05, beta1 = 0.9, beta2 = 0.99, scale = 1.0, eps = 1e-12;
};

// Averages of one run; grows to the length of the first call.
struct StepState {
  std::vector<double> m, v;
  std::int64_t steps = 0;      // gradients seen
  std::int64_t diagonals = 0;  // diagonals seen
};

// w (n values) takes one step. diagonal may be null for Sophia, whose average then stays; not before the first.
// Returns the share of entries that were clipped (Sophia) or 0. Error{non_finite} for NaN and infinity that come in or
// would come out, before anything has changed.
GRAMIAN_EXPORT double adahessian_step(const AdaHessianRule& rule, std::int64_t n, const double* gradient,
                                      const double* diagonal, StepState& state, double* w);
GRAMIAN_EXPORT double sophia_step(const SophiaRule& rule, std::int64_t n, const double* gradient,
                                  const double* diagonal, StepState& state, double* w);

}  // namespace gramian
