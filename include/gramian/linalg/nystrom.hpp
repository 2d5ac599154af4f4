// A positive semi-definite matrix from a few of its products, and the preconditioner that this makes.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/block_map.hpp"

namespace gramian {

struct NystromOptions {
  std::int64_t rank = 0;      // test vectors; 0: doubled until a condition below holds
  std::int64_t max_rank = 0;  // at most as many then; 0: n
  double tol = 0;             // |A - U L U'|_2 to be proven
  double rtol = 0;            // the same in units of the largest eigenvalue
  double least = 0;           // a smallest eigenvalue that is small enough
  bool certify = true;        // bound the error, and look for negative eigenvalues in what is left: 2 probes products
  int probes = 10;
  double unit = std::numeric_limits<double>::epsilon();  // relative rounding of the entries of A
  std::uint64_t seed = 0;
};

// A is about U diag(lambda) U', and never less: 0 <= U diag(lambda) U' <= A up to rounding.
struct NystromFactor {
  Array<double> u;                  // rank x n: eigenvectors as orthonormal rows, on the device
  std::vector<double> eigenvalues;  // rank, descending, above rounding
  std::int64_t rank() const { return static_cast<std::int64_t>(eigenvalues.size()); }
  bool exhausted = false;  // fewer eigenvalues than test vectors: A has no more of them
  double error = 0;        // |A - U L U'|_2 is at most this with probability 1 - kProbeFailure; infinite: not certified
  double rounding = 0;     // level below which nothing can be told
  std::int64_t products = 0;
  bool converged = true;  // was the tolerance reached?
  std::string why;        // "rank", "tolerance", "eigenvalue", "limit", "full"
};

// A Omega (A Omega + nu Omega)^-1 of orthonormal random vectors, in the shifted form that rounding cannot turn
// indefinite ("Fixed-rank approximation of a positive-semidefinite matrix from streaming data"). Takes as many products
// as there are test vectors and 6 n rank^2 flops. Where a direction of negative curvature shows up, in the random
// subspace or in what the approximation leaves, it is Error{not_positive_definite}.
GRAMIAN_EXPORT NystromFactor nystrom(const Exec& exec, const BlockMap& a, std::int64_t n,
                                     const NystromOptions& options);

// P^-1 = I + U' diag((lambda_l + mu) / (lambda + mu) - 1) U with the leading eigenpairs of a randomized Nystrom
// approximation of A: a preconditioner for A + mu I ("Randomized Nystrom Preconditioning"). Takes `rank` products with
// A and 4 n rank^2 flops; n rank values.
class GRAMIAN_EXPORT NystromPreconditioner {
 public:
  NystromPreconditioner(const Exec& exec, const BlockMap& a, std::int64_t n, std::int64_t rank, double mu,
                        std::uint64_t seed);
  // Of an approximation that is there already.
  NystromPreconditioner(const Exec& exec, NystromFactor factor, double mu);
  void apply(MatrixView<const double> in, MatrixView<double> out) const;
  const std::vector<double>& eigenvalues() const { return factor_.eigenvalues; }  // descending
  // Whether the approximation reaches down far enough to help: (lambda_l + mu) <= (lambda_1 + mu) / 10. Of a flat
  // spectrum it takes too few directions away.
  bool worthwhile() const;

 private:
  Exec exec_;
  double mu_;
  NystromFactor factor_;
  Array<double> gains_;  // rank
};

}  // namespace gramian
