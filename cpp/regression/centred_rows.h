// Rows as a weighted regression with an intercept sees them: diag(sqrt w) (A - 1 mean'), which is never formed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/sketch/operator.hpp"
#include "regression/tall_operand.h"

namespace gramian::regression {

class CentredRows {
 public:
  // Borrows rows and weights (one per row, or null). One reading of A with an intercept. name: of A, in errors.
  CentredRows(const Exec& exec, const RowsView& a, const double* weight, bool intercept, const char* name);

  std::int64_t rows() const { return a_.rows; }
  std::int64_t cols() const { return a_.cols; }
  bool intercept() const { return intercept_; }
  const std::vector<double>& weight() const { return weight_; }  // empty without
  double weight_sum() const { return weight_sum_; }
  const std::vector<double>& mean() const { return mean_; }  // zeros without an intercept

  // r = diag(w) (b - (A - 1 mean') x) and g = (A - 1 mean')' r; b may be empty. One reading of A.
  void sweep(MatrixView<const double> x, MatrixView<const double> b, MatrixView<double> r, MatrixView<double> g) const;
  // out = S diag(sqrt w) (A - 1 mean').
  void sketch(const SketchOp& op, MatrixView<double> out) const;
  // Rows [begin, begin + out.rows) of diag(sqrt w) (A - 1 mean').
  void load(std::int64_t begin, MatrixView<double> out) const;
  // Those with these numbers.
  void load(const std::vector<std::int64_t>& numbers, MatrixView<double> out) const;
  // |diag(sqrt w) (A - 1 mean')|_F^2.
  double energy() const;
  // Rows that are loaded at a time.
  std::int64_t block_rows() const;

 private:
  const double* shift() const { return intercept_ ? mean_.data() : nullptr; }
  void sketch_whole(const SketchOp& op, MatrixView<double> out) const;

  const Exec& exec_;
  const RowsView a_;
  const bool intercept_;
  const char* name_;
  std::unique_ptr<TallOperand> operand_;
  std::vector<double> weight_, root_, mean_;
  double weight_sum_ = 0;
  Array<double> ones_, mean_device_;  // n x 1, d x 1
};

}  // namespace gramian::regression
