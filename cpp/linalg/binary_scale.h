// Powers of two near the largest values of a matrix: dividing by one is exact and brings squares into range.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"

namespace gramian::linalg {

// The larger of two numbers; a NaN is larger than any.
inline double larger(double a, double b) {
  return b > a || b != b ? b : a;
}
// Of none: 0.
double largest_of(const std::vector<double>& values);

// e with |x| < 2^e, nearly; 0 for 0, infinity and NaN.
int exponent_of(double x);
std::vector<int> exponents_of(const std::vector<double>& values);

// Squares of columns that differ by more are not judged side by side: rounding of the largest hides the others.
inline constexpr double kUnlikeSquares = 1e6;

// largest[c] = the larger of itself and every |x(r, c)| of a matrix in host memory.
void raise_maxima(MatrixView<const double> x, std::vector<double>& largest);
// The largest |entry| of each column of a matrix in device memory.
std::vector<double> column_maxima(const Exec& exec, MatrixView<const double> x);
// The same of rows in host memory. Throws Error{non_finite} naming the row.
std::vector<double> column_maxima(const Exec& exec, const RowsView& a, const char* name);

// x[:, c] *= 2^(sign powers[c]): exact.
void shift_columns(const Exec& exec, const std::vector<int>& powers, int sign, MatrixView<double> x);

// A copy of A in double, column c times 2^powers[c]; CSR stays CSR.
class ShiftedRows {
 public:
  ShiftedRows(const Exec& exec, const RowsView& a, const std::vector<int>& powers, const char* name);
  ShiftedRows(ShiftedRows&&) = default;
  ShiftedRows& operator=(ShiftedRows&&) = default;
  const RowsView& view() const { return view_; }

 private:
  std::vector<double> values_;
  RowsView view_;
};

// Columns whose largest value is within 2^-150 .. 2^150 can be squared, multiplied and divided as they are.
bool is_safe(const std::vector<int>& exponents);

// Rows as they are where that is safe, else a copy with column c divided by 2^exponents[c].
class ScaledRows {
 public:
  explicit ScaledRows(const RowsView& rows) : view_(rows), exponents_(static_cast<std::size_t>(rows.cols), 0) {}
  ScaledRows(const Exec& exec, const RowsView& rows, std::vector<int> exponents, const char* name);

  const RowsView& view() const { return view_; }
  int exponent(std::int64_t c) const { return exponents_[static_cast<std::size_t>(c)]; }  // 0 where nothing was copied
  const std::vector<int>& exponents() const { return exponents_; }

 private:
  RowsView view_;
  std::vector<int> exponents_;
  std::optional<ShiftedRows> copy_;
};

}  // namespace gramian::linalg
