// Symmetric positive definite systems by the ladder: Cholesky (in float with refinement in double where that pays),
// an eigen-decomposition where Cholesky cannot answer, and a report that hides nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

// How one solve went.
struct SolveReport {
  std::string method;     // "cholesky", "cholesky_mixed" (float factor, double refinement), "cholesky_updated" (the
                          // factor followed the rows), "eigh", "zero" (no rows), "loaded" (a file that does not say)
  std::string form;       // "primal" or "dual"
  std::string fallback;   // why the method is not the first choice, "" if it is
  double ridge = 0;       // the ridge used
  std::int64_t size = 0;  // order of the system solved
  std::int64_t rank = 0;  // numerical rank of the system; equals size unless method is "eigh"
  double condition = 0;  // 2-norm condition number, 0 where nobody knows; from a few power iterations (a low estimate),
                         // exact for "eigh", there of the matrix as it was scaled
  double smallest_eigenvalue = 0;  // of the system, estimated likewise (of the modes kept for "eigh", a lower bound)
  double residual = 0;             // scaled backward residual |B - A W| / (|A| |W| + |B|), Frobenius norms
  int refinements = 0;             // sweeps of iterative refinement
  std::int64_t updates = 0;        // rows that the factor has followed since it was last made from the sums
  std::int64_t anchors = 0;        // how often a factor that follows its rows was made from the sums
  double removal_bound = 0;        // bound of the relative weight error that removals caused; 0 if nothing was removed
  double seconds = 0;              // wall time of factor and solve
};

enum class Precision {
  automatic,  // mixed for systems of 2048 and more, else double
  full,       // factor in double
  mixed       // factor in float, refine in double, fall back to double when a sweep gains less than 10x
};

// The matrix of a system, which knows how to write itself down and how to act.
class GRAMIAN_EXPORT SpdOperator {
 public:
  virtual ~SpdOperator() = default;
  virtual std::int64_t size() const = 0;
  virtual void build(const Exec& exec, SymmetricMatrix<double>& a) const = 0;
  virtual void build(const Exec& exec, SymmetricMatrix<float>& a) const = 0;
  // out = A w, both size() x c.
  virtual void apply(const Exec& exec, MatrixView<const double> w, MatrixView<double> out) const = 0;
};

// K + ridge I for a symmetric K.
class GRAMIAN_EXPORT RidgedMatrix final : public SpdOperator {
 public:
  RidgedMatrix(SymmetricMatrix<double> k, double ridge);
  std::int64_t size() const override { return k_.size(); }
  void build(const Exec& exec, SymmetricMatrix<double>& a) const override;
  void build(const Exec& exec, SymmetricMatrix<float>& a) const override;
  void apply(const Exec& exec, MatrixView<const double> w, MatrixView<double> out) const override;

 private:
  SymmetricMatrix<double> k_;
  double ridge_;
};

// The norm of a symmetric operator, apply(x, y) being y = A x for d x 1 vectors in device memory, by steps of the power
// method from a fixed start: low, after four by less than a factor of two for most spectra. Infinite where it is no
// number.
GRAMIAN_EXPORT double power_norm(const Exec& exec, std::int64_t d, int steps,
                                 const std::function<void(MatrixView<const double>, MatrixView<double>)>& apply);
// |R^-1| for the factor L = R', in the same way; infinite where R is singular.
GRAMIAN_EXPORT double inverse_norm(const Exec& exec, const SymmetricMatrix<double>& l, int steps);

// Condition number and smallest eigenvalue of A (n x n) into the report, from three steps each of the power method on A
// and on its inverse, from a fixed start: low estimates. apply: y = A x; solve: b = A^-1 b in place.
GRAMIAN_EXPORT void estimate_condition(const Exec& exec, std::int64_t n,
                                       const std::function<void(MatrixView<const double>, MatrixView<double>)>& apply,
                                       const std::function<void(MatrixView<double>)>& solve, SolveReport& report);
GRAMIAN_EXPORT void estimate_condition(const Exec& exec, const SpdOperator& a,
                                       const std::function<void(MatrixView<double>)>& solve, SolveReport& report);

// What counts as full rank, where that is required. A matrix that was summed up is known to the rounding of its sums
// only, and an eigenvalue that is no more than that is no evidence of a rank.
struct RankRule {
  double unit = std::numeric_limits<double>::epsilon();  // of the products: no condition beyond 1e-2 / unit is believed
  double floor = 0;                                      // nor is a smallest eigenvalue that is no larger than this
  double noise = 0;  // eigenvalues up to here are not counted in the rank; of the scaled matrix, where there is `scale`
  // Where sizes of columns alone may take the condition beyond the limit: factors that bring all of them to one size,
  // for a second look with a floor of its own. Empty: the matrix is judged as it stands.
  std::vector<double> scale;
  double scaled_floor = 0;
};

// Solves A W = B (n x c, device memory; B is kept). ridge and form only label the report. Where A is numerically
// singular the answer is the minimum-norm one with the rank in the report; if `require_full_rank`, it is
// Error{not_positive_definite} with the rank by `rule` instead. Unless that is asked for, a diagonal whose entries
// differ by more than 1e6 is brought near 1 by powers of two before the rank is judged (the norm is then that of scaled
// weights).
GRAMIAN_EXPORT SolveReport solve_spd(const Exec& exec, const SpdOperator& a, MatrixView<const double> b,
                                     MatrixView<double> w, Precision precision, bool require_full_rank,
                                     const RankRule& rule = {});

}  // namespace gramian
