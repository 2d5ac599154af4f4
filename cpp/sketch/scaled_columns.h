// Columns brought near 1 by powers of two, for what squares or divides them, and how far a sketch is from an isometry.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"

namespace gramian::sketching {

// Columns whose largest value is within 2^-150 .. 2^150 can be squared, multiplied and divided as they are.
bool is_safe(const std::vector<int>& exponents);
// e with |peak| < 2^e, 0 for 0.
std::vector<int> exponents_of(const std::vector<double>& peaks);
// Of the largest value of each column. Throws Error{non_finite}. One reading of x.
std::vector<int> peak_exponents(const Exec& exec, const RowsView& x, const char* name);

// Rows as they are, or a copy in double with each column divided by a power of two.
class ScaledRows {
 public:
  explicit ScaledRows(const RowsView& rows) : view_(rows), exponents_(static_cast<std::size_t>(rows.cols), 0) {}
  ScaledRows(const Exec& exec, const RowsView& rows, std::vector<int> exponents, const char* name);

  const RowsView& view() const { return view_; }
  int exponent(std::int64_t j) const { return exponents_[static_cast<std::size_t>(j)]; }
  const std::vector<int>& exponents() const { return exponents_; }

 private:
  RowsView view_;
  std::vector<int> exponents_;
  Array<double> copy_;
};

ScaledRows scaled_if_needed(const Exec& exec, const RowsView& rows, std::vector<int> exponents, const char* name);

// How far the squares of the singular values of a dense m x d sketch of an orthonormal basis lie from 1, but for a
// chance of less than 1e-3: those of a Gaussian one follow, at their upper end, the law of Tracy and Widom about this
// middle with this width (the form of "Accuracy of the Tracy-Widom limits for the extreme eigenvalues in white Wishart
// matrices", which serves for all m and d); 4.5 widths are enough for the heavier tail of a single column as well. The
// lower end is nearer to 1.
double distortion_of(std::int64_t m, std::int64_t d);

}  // namespace gramian::sketching
