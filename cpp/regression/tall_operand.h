// A tall matrix as the solvers of this folder see it: sketched, swept, or loaded block by block.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/regression/lstsq.hpp"
#include "gramian/sketch/operator.hpp"

namespace gramian::regression {

class TallOperand {
 public:
  virtual ~TallOperand() = default;
  virtual std::int64_t rows() const = 0;
  virtual std::int64_t cols() const = 0;
  // out (op.n_out x d) = S A. Throws Error{non_finite} naming the row of A.
  virtual void sketch(const SketchOp& op, MatrixView<double> out) const = 0;
  // r = diag(weight) (b - A x), g = A' r; b may be empty, and so may weight (host), which then stands for ones.
  virtual void sweep(MatrixView<const double> x, MatrixView<const double> b, MatrixView<double> r, MatrixView<double> g,
                     const std::vector<double>& weight) const = 0;
  void sweep(MatrixView<const double> x, MatrixView<const double> b, MatrixView<double> r, MatrixView<double> g) const {
    sweep(x, b, r, g, {});
  }
  // Can rows be loaded? If not, `load` is an internal error.
  virtual bool has_rows() const { return true; }
  virtual void load(std::int64_t begin, MatrixView<double> out) const = 0;
  virtual void load(std::int64_t begin, MatrixView<float> out) const = 0;
  virtual void describe(LstsqShape& shape) const = 0;
};

// Borrows the rows for its lifetime. Rows that stand in the device's memory as they are needed (float or double, row by
// row) are used there; others are copied, in their own precision.
std::unique_ptr<TallOperand> rows_operand(const Exec& exec, const RowsView& a, const char* name);
std::unique_ptr<TallOperand> map_operand(const Exec& exec, const LinearMap& map);

// Throws the Error{non_finite} of the first bad row, if there is one.
void require_finite(const Exec& exec, const RowsView& a, const char* name);
// The largest |entry| of a linear operator.
double largest_entry(const Exec& exec, const LinearMap& map);

// A linear operator, which it borrows, times 2^power.
LinearMap shifted(const LinearMap& map, int power);

// Throws Error{invalid_argument} unless y'(A x) = (A'y)'x for some x and y, to single precision. One product each.
void require_adjoint(const Exec& exec, const LinearMap& map);
// out (n x d) = the matrix of a linear operator: its products with the unit vectors.
void materialise(const Exec& exec, const LinearMap& map, MatrixView<double> out);

}  // namespace gramian::regression
