// Sketches of values near the end of the range: sums that overflow on the way to a result that does not.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/sketching.hpp"
#include "linalg/binary_scale.h"

namespace gramian::sketch {

// Values below 2^kReach may be summed without their scale: two rounds of a transform of N = 2^60 rows grow them by no
// more than 2^120.
constexpr int kReach = 1024 - 128;

// By how many powers of two values with this largest one must be smaller.
inline int excess_of(double largest) {
  return std::max(0, linalg::exponent_of(largest) - kReach);
}

// body(rows, out) once more on x divided by a power of two, where that is of use; out in the units of x. Returns
// whether out is finite.
template <class Body>
bool shifted(const Exec& exec, const RowsView& x, MatrixView<double> out, const Body& body) {
  const int power = excess_of(linalg::largest_of(linalg::column_maxima(exec, x, "A")));
  if (power == 0) return false;
  const auto count = static_cast<std::size_t>(x.cols);
  const linalg::ShiftedRows near(exec, x, std::vector<int>(count, -power), "A");
  body(near.view(), out);
  linalg::shift_columns(exec, std::vector<int>(static_cast<std::size_t>(out.cols), power), 1, out);
  return is_finite<double>(exec, out);
}

// The same for the result of body in T, which was not finite: in double, and divided by a power of two if need be.
template <class T, class Body>
bool recomputed(const Exec& exec, const RowsView& x, MatrixView<T> out, const Body& body) {
  if constexpr (sizeof(T) == sizeof(double)) {
    return shifted(exec, x, out, body);
  } else {
    const Array<double> wide(exec, out.rows, out.cols);
    body(x, wide.view());
    if (!is_finite<double>(exec, wide.view()) && !shifted(exec, x, wide.view(), body)) return false;
    axpby<double, T>(exec, 1.0, wide.view(), 0.0, out);
    return is_finite<T>(exec, out);
  }
}

// what: the product that has left the range, of finite values.
template <class T>
void require_in_range(bool holds, const char* what) {
  GRAMIAN_REQUIRE(holds, non_finite,
                  std::string(what) + " overflows: values lie outside the range of " + name_of(dtype_of<T>::value) +
                      ", though all that went in are finite; divide them by a power of two" +
                      (sizeof(T) == sizeof(float) ? ", or ask for float64" : ""));
}

}  // namespace gramian::sketch
