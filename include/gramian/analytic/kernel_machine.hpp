// Ridge regression with a deep kernel: the mean of infinitely wide networks, and draws of such networks.
//
//   mean(x) = k(x, X) (K + ridge I)^-1 Y, the kernel scaled to 1 on the diagonal
// The machine keeps the rows it was fitted on: O(n d) memory, O(n^2) while it is fitted.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/analytic/deep_kernel.hpp"
#include "gramian/core/array.hpp"
#include "gramian/core/export.hpp"
#include "gramian/linalg/solve.hpp"

namespace gramian {

class GRAMIAN_EXPORT KernelMachine {
 public:
  // y: n x C, less its column means first where `centre` says so. n^2 d + n^3 / 3 flops, 12 n^2 bytes on the way.
  // Throws Error{shape_mismatch, non_finite, invalid_argument}.
  KernelMachine(const Exec& exec, DeepKernel kernel, const RowsView& x, const RowsView& y, double ridge, bool centre);

  // A machine as it was: unit_rows() and dual coefficients (host, n x C) and target means of one that was fitted.
  KernelMachine(const Exec& exec, DeepKernel kernel, std::int64_t n_inputs, MatrixView<const double> unit_rows,
                MatrixView<const double> dual_coef, std::vector<double> target_mean, double ridge);

  std::int64_t n_inputs() const { return n_inputs_; }
  std::int64_t n_outputs() const { return alpha_.cols(); }
  double ridge() const { return ridge_; }
  MatrixView<const double> unit_rows() const { return rows_.view(); }  // host
  const std::vector<double>& target_mean() const { return target_mean_; }
  std::int64_t n_rows() const { return rows_.rows(); }
  const SolveReport& report() const { return report_; }
  const DeepKernel& kernel() const { return kernel_; }
  MatrixView<const double> dual_coef() const { return alpha_.view(); }  // n x C, device

  // out (x.rows x C, host). relative: every row of kernel values divided by its largest, which keeps the order and the
  // signs of the outputs where the values themselves are below the least double. 2 m n (d + C) flops.
  void predict(const Exec& exec, const RowsView& x, bool relative, MatrixView<double> out) const;

  // Networks trained from random weights to the minimum of the ridge problem are Gaussian over the weights they began
  // with: f = f_0 + V'(Y - f_0(X)), V = (K + ridge I)^-1 k(X, x), f_0 a draw of the NNGP. mean: m x C; covariance: m x
  // m, one for all outputs (host). With the NNGP kernel and no ridge that is the posterior of the Gaussian process. n^3
  // / 3 + 2 n^2 m + 4 n m^2 flops.
  void distribution(const Exec& exec, const RowsView& x, MatrixView<double> mean, MatrixView<double> covariance) const;

 private:
  DeepKernel kernel_;
  std::int64_t n_inputs_;
  double ridge_;
  Array<double> rows_;   // unit rows, host
  Array<double> alpha_;  // n x C, device
  std::vector<double> target_mean_;
  SolveReport report_;
};

// out (host, draws x (m * C)): row r holds an m x C draw of independent columns with the given means and the
// covariance: mean + covariance^(1/2) z, the symmetric root, of standard Gaussians z that are a pure function of
// (seed, first + r) and the shape. 11 m^3 + 2 m^2 C draws flops.
GRAMIAN_EXPORT void draw_gaussians(const Exec& exec, MatrixView<const double> mean, MatrixView<const double> covariance,
                                   std::uint64_t seed, std::int64_t first, MatrixView<double> out);

}  // namespace gramian
