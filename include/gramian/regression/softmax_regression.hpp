// Softmax regression: min_x |softmax(A x) - b|^2 / 2 + ridge |x|^2 / 2, the softmax taken over the n rows of A.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

// The loss and its derivatives at a point. With f = softmax(A x), c = f - b:
//   gradient = A'(f.c - (f'c) f) + ridge x
//   Hessian  = A'diag(D) A - u p' - p u' + (f'f + 2 c'f) p p' + ridge I,
//              D = f.f + c.f - (c'f) f, p = A'f, u = A'(f.(f + c)): a weighted Gram matrix and rank two.
// The means of the columns of A do not enter them; all is computed from columns around their means, scaled by powers of
// two, so that no digits go to a large mean or to units.
// Two products with A an evaluation; n d^2 flops a Hessian.
class GRAMIAN_EXPORT SoftmaxObjective {
 public:
  // Borrows a (n x d) and b (n) for its life.
  SoftmaxObjective(const Exec& exec, const RowsView& a, const double* b, double ridge);
  ~SoftmaxObjective();

  std::int64_t rows() const;
  std::int64_t size() const;
  // x: d host values. The point is remembered.
  double evaluate(const std::vector<double>& x, std::vector<double>& gradient);
  // softmax(A x) of the last point.
  const std::vector<double>& probabilities() const;
  // At the last point. The Gauss-Newton part A'M^2 A + ridge I, M = diag(f) - f f', is never indefinite.
  SymmetricMatrix<double> hessian() const;
  SymmetricMatrix<double> gauss_newton() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The weights that solve softmax(A x) = b where it can be solved: A x = log b + mu 1 by least squares with weights b.
// Rows with b <= 0 take no part; their number is given back. Error{invalid_argument} where fewer than two are left.
GRAMIAN_EXPORT std::int64_t softmax_start(const Exec& exec, const RowsView& a, const double* b, std::vector<double>& x);

struct SoftmaxFitOptions {
  double ridge = 0;
  std::int64_t max_iterations = 100;
  double tol = 1e-10;  // |gradient| <= tol max_i |a_i|, columns around their means and scaled to a deviation of 1 to 2
};

struct SoftmaxFit {
  std::vector<double> x;
  double loss = 0, start_loss = 0, gradient = 0;  // gradient: its norm, for the columns that tol speaks of
  std::int64_t iterations = 0;
  std::int64_t gauss_newton_steps = 0;  // steps for which the Hessian was indefinite
  bool converged = false;
};

// Damped Newton steps (Levenberg-Marquardt on the full Hessian, on its Gauss-Newton part where it is indefinite) from
// x. The problem is not convex below some ridge: what is found is a point without slope.
GRAMIAN_EXPORT SoftmaxFit fit_softmax(const Exec& exec, const RowsView& a, const double* b, std::vector<double> x,
                                      const SoftmaxFitOptions& options);

}  // namespace gramian
