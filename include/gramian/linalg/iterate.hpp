// Conjugate directions for symmetric positive definite systems that accept any source of directions: a preconditioner
// that changes from step to step, a network, a callback that misbehaves.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/block_map.hpp"
#include "gramian/linalg/nystrom.hpp"

namespace gramian {

struct FlexibleCgOptions {
  std::int64_t directions = 2;      // earlier directions that a new one is made conjugate to; 0: all since the restart
  std::int64_t restart = 50;        // with directions = 0: how many are kept before all are dropped
  std::int64_t max_iterations = 0;  // 0: 10 n
  double rtol = 1e-8, atol = 0;     // stop at |r| <= max(rtol |b|, atol)
  double correction_rtol = 0;       // or at |p(r)| <= correction_rtol |x|, p the callback: where it is nearly the
                                    // inverse of A, p(r) is the error. Such a column is not looked at again
  std::int64_t stall_window = 20;   // steps after which the callback must have gained what gradient steps would; 0: off
  std::int64_t fallback_rank = -1;  // of the Nystrom preconditioner that follows a callback that did not; 0: residuals
                                    // alone, -1: min(n / 4, 50)
  std::uint64_t seed = 0;
};

struct FlexibleCgReport {
  std::int64_t iterations = 0, products = 0;  // products: vectors that A was applied to
  std::int64_t fallbacks = 0;                 // directions of the callback that could not be used
  std::int64_t restarts = 0;
  std::int64_t switched_at = -1;              // step from which the callback was not asked any more
  std::string then;                           // what took its place: "nystrom" or "residual"
  bool converged = false;                     // all columns, by either rule
  std::vector<double> residual;               // |b - A x|, one per right-hand side, computed at the end
  std::vector<std::vector<double>> decrease;  // per right-hand side and step: how far |x - x*|_A^2 fell
};

// Solves A x = b for k right-hand sides at once (k x n, device; x holds the start and becomes the answer).
//
// The callback receives residuals of unit length and returns any vector; its length does not matter. It is made
// conjugate to the directions before it and the exact minimum along it is taken, so |x - x*|_A never rises, whatever
// comes: the squared norm falls by (r'd)^2 / (d'A d) in each step. What cannot be used (zero, not finite, no curvature,
// inside the span of the last directions) is replaced by the residual. With the residual itself this is the method of
// conjugate gradients, with a fixed positive definite matrix its preconditioned form. Memory: 2 directions + 6 vectors.
// Right-hand sides, matrices and answers of the callback may be as large or small as doubles are.
// Error{not_positive_definite} where a direction d shows d'A d < -1e-4 |A| d'd, or a residual no positive curvature.
GRAMIAN_EXPORT FlexibleCgReport flexible_cg(const Exec& exec, const BlockMap& a, MatrixView<const double> b,
                                            MatrixView<double> x, const BlockMap& precondition,
                                            const FlexibleCgOptions& options);

// How a ridge system was solved.
struct NystromPcgReport {
  FlexibleCgReport cg;
  std::int64_t rank = 0;        // of the preconditioner; 0: none
  bool preconditioned = false;  // false: the spectrum is too flat for it, and residuals alone were used
  double smallest = 0;          // eigenvalue that the preconditioner reaches down to
  double condition = 0;         // of the preconditioned system is at most this, with probability 1 - kProbeFailure
  std::int64_t products = 0;    // vectors that A was applied to, those for the preconditioner counted
};

// (A + mu I) x = b for psd A and mu > 0, k right-hand sides as in flexible_cg, preconditioned by a Nystrom
// approximation ("Randomized Nystrom Preconditioning"). nystrom.rank = 0: doubled until the smallest eigenvalue is
// below 10 mu, or up to max_rank. Negative curvature of A beyond rounding, of a direction of the iteration or in their
// span, is Error{not_positive_definite} whether or not mu makes up for it: the preconditioner and the bound of the
// condition are for psd A.
GRAMIAN_EXPORT NystromPcgReport nystrom_pcg(const Exec& exec, const BlockMap& a, MatrixView<const double> b,
                                            MatrixView<double> x, double mu, const NystromOptions& nystrom,
                                            const FlexibleCgOptions& options);

}  // namespace gramian
