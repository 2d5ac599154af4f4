// Least squares from a sketch with a guarantee for every coordinate: with probability 1 - delta
//
//   |x' - x*|_inf <= eps / sqrt(d) |b - A x*| |A^+|
//
// (the paper "A Nearly-Optimal Bound for Fast Regression with l_infinity Guarantee"), and, after one more reading of A,
// a bound of the error that was actually made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/sketch/operator.hpp"

namespace gramian {

// How many rows the sketch has.
//   theorem     eps^-2 d ln^3(n / delta), the paper's count with its constant taken as 1: above n for most problems
//   calibrated  by the exact law of a Gaussian sketch, under which each error, divided by |r| sqrt((A'A)^-1_ii), times
//               sqrt(m - d + 1) is Student's t with m - d + 1 degrees of freedom for every A and b; a union bound over
//               the coordinates. Dense sketches follow the law or do better; sparse ones need not.
enum class LinfRows { calibrated, theorem };

GRAMIAN_EXPORT std::int64_t linf_rows(LinfRows rule, std::int64_t n, std::int64_t d, double eps, double delta);
// P(T > t) for Student's t with `freedom` > 0 degrees of freedom, t >= 0.
GRAMIAN_EXPORT double student_t_tail(double t, double freedom);

struct LinfOptions {
  double eps = 0.5;
  double delta = 0.05;
  LinfRows rule = LinfRows::calibrated;
  std::int64_t n_rows = 0;  // of the sketch; 0: by the rule
  SketchKind family = SketchKind::srht;
  bool permute = true;   // srht
  std::int64_t nnz = 8;  // sparse_sign
  std::uint64_t seed = 0;
  double rtol = 1e-12;  // a sketch whose columns (of equal length) are as dependent as this is rejected
  int redraws = 3;      // with twice the rows each time, before the problem is solved without a sketch
};

struct LinfResult {
  std::vector<double> x;  // d x k by rows
  // d x k: of |x' - x*|, coordinate by coordinate, rounding included, but for a chance of about 1e-3; infinite where an
  // exact solution is not determined to within rounding (the rank is below d, or nearly)
  std::vector<double> bounds;
  std::vector<double> targets;         // k: eps / sqrt(d) |r| |A^+|, with |r| and |A^+| as the sketch gives them
  std::vector<double> residual_norms;  // k: |b - A x'|
  std::int64_t n_rows = 0;             // of the sketch, 0 where A itself was solved
  bool exact = false;                  // solved without a sketch
  int redraws = 0;
  std::int64_t rank = 0;
  std::string why;  // of the number of rows, or of the exact solution
};

// A n x d with n >= d, b n x k (the guarantee then holds for all k columns together), both in host memory. Sketch,
// 2 m (d + k)^2 flops, one more reading of A. Throws Error{invalid_argument, shape_mismatch, non_finite}.
GRAMIAN_EXPORT LinfResult linf_lstsq(const Exec& exec, const RowsView& a, const RowsView& b,
                                     const LinfOptions& options);

}  // namespace gramian
