// Logistic and softmax regression on fixed features: the convex heads that have no closed form, by second-order steps.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

// f(W) = sum_i w_i loss_i / sum w + ridge / (2 sum w) |W|^2 without the intercepts. W has a row per feature, then one
// of intercepts, and a column per class; of two classes one column, the scores of the second. One pass over the rows an
// evaluation: 4 n d c flops, and as many for a product with the Hessian at the same point.
class GRAMIAN_EXPORT LogisticObjective {
 public:
  // Borrows x, codes (in [0, n_classes)) and weight (or null) for its life.
  LogisticObjective(const Exec& exec, const RowsView& x, const std::int64_t* codes, const double* weight,
                    std::int64_t n_classes, double ridge, bool intercept);
  ~LogisticObjective();
  LogisticObjective(LogisticObjective&&) noexcept;

  std::int64_t rows() const;     // of W: features, and one with an intercept
  std::int64_t columns() const;  // of W
  std::int64_t evaluations() const;
  std::int64_t products() const;

  // f and its gradient at W (device). The point is remembered for products with the Hessian.
  double evaluate(MatrixView<const double> w, MatrixView<double> gradient);
  // out = H v at the last point, device. Error{invalid_argument} before the first.
  void hessian_times(MatrixView<const double> v, MatrixView<double> out);
  // Makes M = c sum_i w_i x_i x_i' / sum w + ridge / sum w, c = 1/4 (two classes) or 1/2: an upper bound of the Hessian
  // for any W, the same for all columns, and its factor M = L L'. rows()^2 n flops once.
  void make_bound();
  // v = L^-1 v (Trans::no) or L^-T v (Trans::yes), v as W.
  void solve_bound_half(Trans trans, MatrixView<double> v) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

enum class LogisticSolver { newton, adahessian, sophia };

struct LogisticOptions {
  LogisticSolver solver = LogisticSolver::newton;
  double ridge = 1.0;
  bool intercept = true;
  std::int64_t max_iterations = 100;
  double tol = 1e-8;       // largest entry of the gradient
  double rate = 0;         // of adahessian and sophia; 0: 1 and 0.3
  std::uint64_t seed = 0;  // of the diagonals
};

struct LogisticFit {
  std::vector<double> weights;    // as W, host
  double loss = 0, gradient = 0;  // f, and the largest entry of its gradient
  std::int64_t iterations = 0, evaluations = 0, products = 0;
  bool converged = false;
};

// newton: (H + sqrt(h |g|) M) s = -g with |g|^2 = g'M^-1 g, by conjugate gradients in coordinates in which the bound M
// is the identity, so that the scale of the features does not matter; h grows until the step descends and shrinks after
// ("Regularized Newton Method with Global O(1/k^2) Convergence"), so a problem without ridge is safe too.
// adahessian, sophia: the rules of diagonal_steps.hpp on all rows, with one random diagonal a step; the rate is halved
// after 100 steps without a lower loss.
GRAMIAN_EXPORT LogisticFit fit_logistic(const Exec& exec, const RowsView& x, const std::int64_t* codes,
                                        const double* weight, std::int64_t n_classes, const LogisticOptions& options);

// out (n x columns, host) = [x 1] W, W as above.
GRAMIAN_EXPORT void linear_scores(const Exec& exec, const RowsView& x, MatrixView<const double> w, bool intercept,
                                  MatrixView<double> out);

}  // namespace gramian
