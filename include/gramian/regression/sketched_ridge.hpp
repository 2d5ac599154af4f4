// Ridge regression by a sketch that is as large as the effective dimension asks for, and no larger:
//
//   min over x, c of sum_i w_i |b_i - c - a_i x|^2 + ridge |x|^2
//
// for one ridge or a path of them. Rows of a sketch S A are appended until their number m is about 8 D + 24, with
// D = tr A'A (A'A + ridge)^-1 as the sketch itself has it, which is below that of A in expectation; then
// (A'S'S A + ridge)^-1 preconditions conjugate gradients on A, which need some 20 readings of A whatever the condition
// is, to the solution of the unsketched problem. Where the iteration gains less than a factor of two in a step the
// sketch was too small after all and is doubled.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/sketch/operator.hpp"

namespace gramian {

struct SketchedRidgeOptions {
  // Above 0, in any order; a single one may be 0, and is then solved by lstsq. None: 50 from 1e-7 to 100 times the mean
  // square of a centred column.
  std::vector<double> ridges;
  bool intercept = true;         // not penalised; A is centred without being copied
  double rtol = 1e-10;           // of the solutions: |x - x*| <= rtol |x*| by the preconditioner's estimate
  bool refine = true;            // false: (A'S'S A + ridge)^-1 A'b, a digit or two, and no iteration
  bool loo = false;              // leave-one-out errors and leverages
  double loo_rtol = 0.01;        // of each of them; where the sketch cannot promise it, they are made from A'A
  std::int64_t sketch_rows = 0;  // 0: as many as the effective dimension asks for
  std::int64_t max_iterations = 1000;
  SketchDist sketch;       // kind, seed, nnz and permute
  const char* name = "A";  // of the rows, in errors
};

struct SketchedRidgePoint {
  double ridge = 0;
  double effective_dimension = 0;  // tr A'A (A'A + ridge)^-1, the sketch's without its bias; an intercept not counted
  std::int64_t iterations = 0;
  double error = 0;           // estimate of |x - x*| / |x*|, the largest over the outputs
  double backward_error = 0;  // bound of |dA|_F / |A|_F for the smallest dA with which x is exact, A with its
                              // sqrt(ridge) I below; the largest over the outputs
  double gcv = 0;             // sum of squares times n / (n - D)^2, n the sum of weights; over all outputs.
                              // Infinite where D >= n, or squares of b overflow
  double loo = 0;             // mean squared leave-one-out error, summed over outputs; NaN where not asked for
  bool converged = false;     // error <= 4 rtol, or rounding of A'A: eps |A|_F^2 / ridge, at most 1e-6
};

struct SketchedRidgeResult {
  std::vector<SketchedRidgePoint> points;  // in the order of the ridges
  // The points of the lowest gcv and loo, found also where all scores overflow or vanish in double; -1: no ridge has
  // one.
  std::int64_t best_gcv = -1, best_loo = -1;
  std::vector<double> coef;            // ridges x k x d
  std::vector<double> intercept;       // ridges x k
  std::vector<double> residual_norms;  // ridges x k, weighted
  std::vector<double> leverages;       // ridges x n with loo, an intercept's share in them
  std::int64_t sketch_rows = 0;        // 0 where A itself was taken
  bool exact = false;                  // a sketch would have been as large as A, or leverages needed all of it
  std::int64_t refined_rows = 0;       // whose leverages were made from A'A
  std::int64_t readings = 0;           // of A
  std::string why;                     // of the number of rows
};

// A n x d (dense or CSR, float or double; any n and d), b n x k, weight one per row or null; all in host memory. One
// sketch serves all ridges; neighbours on the path start from each other. 4 n d k flops an iteration and ridge, the
// readings of A shared by some ridges at a time; 9 p^3 flops on one thread for a path, p = min(m, d). Where |A|^2, the
// weights or a ridge are beyond 1e+-60, A is copied in double and all are divided by powers of two. Throws
// Error{invalid_argument, shape_mismatch, non_finite}.
GRAMIAN_EXPORT SketchedRidgeResult sketched_ridge(const Exec& exec, const RowsView& a, const RowsView& b,
                                                  const double* weight, const SketchedRidgeOptions& options);

}  // namespace gramian
