// Leverage scores of the rows of a matrix: the squared lengths of the rows of an orthonormal basis of its columns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"

namespace gramian {

enum class LeverageMethod { automatic, exact, sketched };

struct LeverageOptions {
  LeverageMethod method = LeverageMethod::exact;
  double eps = 0.5;     // sketched: every score within this relative error
  double delta = 0.01;  // with this chance of failure of the projection, and one of less than 1e-3 of the sketch
  std::int64_t projection = 0;  // columns of the projection; 0: by eps and delta, or none where that is no less work
  double rtol = -1;             // singular values up to rtol times the largest are zero; < 0: default_rtol(d)
  std::uint64_t seed = 0;
};

struct LeverageScores {
  std::vector<double> scores;  // n, in [0, 1] where exact; their sum is the rank
  LeverageMethod method = LeverageMethod::exact;
  std::int64_t rank = 0;
  std::int64_t sketch_rows = 0;  // 0: exact
  std::int64_t projection = 0;   // columns that the rows were projected to; 0: none
};

// exact: Householder's thin QR of A and the singular values of R, 6 n d^2 flops, 8 n d bytes of copy; accurate to
// rounding for any condition. sketched: R of a sparse-sign sketch of A, then |a_i R^-1 G|^2 with a Gaussian G of
// O(log n / eps^2) columns where that is fewer than d ("Fast approximation of matrix coherence and statistical
// leverage"): two readings of A, 2 n d min(d, columns) flops; A is never copied. Where the sketch would not be smaller
// than A, exact. A zero row has the score 0. Throws Error{non_finite} naming the row.
GRAMIAN_EXPORT LeverageScores leverage_scores(const Exec& exec, const RowsView& a, const LeverageOptions& options);

}  // namespace gramian
