// M with A M nearly orthonormal columns, made of what the solvers have factored, and the backward error that follows
// from it: A'A is nearly (M M')^-1.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian::regression {

// M = diag(scale) L1^-T L2^-T ..., or basis L1^-T ... where the rank is below d.
class Preconditioner {
 public:
  // One factor L1 = R' for columns scaled by `scale` (d host values).
  Preconditioner(const Exec& exec, std::vector<double> scale, SymmetricMatrix<double> factor);
  // The columns of a basis (d x r) with A basis nearly orthonormal: V diag(1 / s).
  Preconditioner(const Exec& exec, Array<double> basis, std::vector<double> values);

  std::int64_t dimension() const { return d_; }  // d
  std::int64_t rank() const { return rank_; }    // columns of M
  bool has_basis() const { return has_basis_; }
  // Another factor: the Cholesky factor of (A M)'(A M) for the M so far.
  void refine(SymmetricMatrix<double> factor);
  const SymmetricMatrix<double>& last_factor() const { return factors_.back(); }

  // z (d x k) = M y.
  void apply(MatrixView<const double> y, MatrixView<double> z) const;
  // c (r x k) = M' g.
  void apply_transposed(MatrixView<const double> g, MatrixView<double> c) const;
  // Rows of w (m x d) times M: in `out` (m x r) where there is a basis, else in place. Returns the result.
  MatrixView<double> apply_to_rows(MatrixView<double> w, MatrixView<double> out) const;
  // R (d x d, upper where the rank is full) with R'R nearly A'A.
  Array<double> triangle() const;

 private:
  const Exec& exec_;
  std::int64_t d_, rank_;
  bool has_basis_ = false;  // an empty one has no memory to tell it by
  std::vector<double> scale_;
  Array<double> scale_device_;
  Array<double> basis_;
  std::vector<double> values_;  // of A along the basis
  std::vector<SymmetricMatrix<double>> factors_;
};

// Estimates of the smallest relative change of A that makes x exact, from the residual and its gradient at x: Karlson
// and Walden's |(A'A + mu I)^(-1/2) A'r| / |x|, mu = |r|^2 / |x|^2, over |A|_F ("Fast and stable randomized least
// squares" uses it with a sketch of A, as here).
class BackwardError {
 public:
  // triangle: R with R'R nearly A'A.
  BackwardError(const Exec& exec, Array<double> triangle);

  // One estimate for each column of g (d x k, device): |r|, |x| on the host.
  std::vector<double> operator()(MatrixView<const double> g, const std::vector<double>& residual_norms,
                                 const std::vector<double>& solution_norms);
  double norm() const { return norm_; }  // |R|_F, nearly |A|_F

 private:
  // |(R'R + mu I)^(-1/2) g| for one column.
  double damped_norm(MatrixView<const double> g, double mu);
  void decompose();

  const Exec& exec_;
  Array<double> r_;
  double norm_ = 0;
  double mu_ = -1;                  // that damped_ was made for
  SymmetricMatrix<double> damped_;  // L with L L' = R'R + mu I
  std::vector<double> values_;      // singular values and right vectors of R, for several columns
  Array<double> vt_;
};

// |x_j| for each column of a matrix in device memory.
std::vector<double> column_norms(const Exec& exec, MatrixView<const double> x);

// The condition of A with columns of equal length, from G = A'A, and with it the Cholesky factor.
struct ScaledFactor {
  double condition = 0;  // infinite where Cholesky breaks down
  std::vector<double> scale;
  SymmetricMatrix<double> factor;  // of diag(scale) G diag(scale)
};
// A bound for the condition of A itself, without the scaling of the columns.
double unscaled_bound(const ScaledFactor& scaled);
// g is destroyed.
ScaledFactor factor_scaled(const Exec& exec, SymmetricMatrix<double> g);
// The same for a triangle R (d x d, device) in place of G.
ScaledFactor factor_scaled_triangle(const Exec& exec, MatrixView<const double> r);

}  // namespace gramian::regression
