// The smoother f_c(x) = sum_i 1[y_i = c] |x - x_i|^-alpha, the limit of infinitely deep networks. It has no parameters
// to solve for: the rows are the model. alpha = 0 votes by class counts, alpha = infinity is the nearest neighbour, and
// a row of the model itself is always answered by its own label. Sums run over -alpha log |x - x_i| less its maximum,
// and values are scaled before they are squared, so nothing overflows and no distance is lost.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

class GRAMIAN_EXPORT SingularKernel {
 public:
  // alpha in [0, infinity]. Throws Error{invalid_argument}.
  SingularKernel(std::int64_t n_inputs, double alpha);

  std::int64_t n_inputs() const { return n_inputs_; }
  std::int64_t n_rows() const { return static_cast<std::int64_t>(codes_.size()); }
  double alpha() const { return alpha_; }
  MatrixView<const double> rows() const;
  const std::vector<std::int64_t>& codes() const { return codes_; }

  // Rows and their class codes >= 0, kept as doubles. Throws Error{shape_mismatch, non_finite}; the model is then
  // unchanged.
  void add(const Exec& exec, const RowsView& x, const std::int64_t* codes);
  // Takes out one row equal in all its bits and in its code for every row of x. A row that is not there is
  // Error{invalid_argument} naming it, and the model is unchanged. O((n + m) d).
  void remove(const Exec& exec, const RowsView& x, const std::int64_t* codes);

  // out (x.rows x n_classes, host): f_c / sum of f. 2 m n d flops, 2^22 distances in memory at a time.
  void probabilities(const Exec& exec, const RowsView& x, std::int64_t n_classes, MatrixView<double> out) const;

 private:
  std::int64_t n_inputs_;
  double alpha_;
  std::vector<double> rows_;
  std::vector<std::int64_t> codes_;
};

}  // namespace gramian
