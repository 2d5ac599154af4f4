// Powers of two near the largest values of a matrix: dividing by one is exact and brings squares into range.
#pragma once

#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/view.hpp"

namespace gramian::regression {

// The larger of two numbers; a NaN is larger than any.
inline double larger(double a, double b) {
  return b > a || b != b ? b : a;
}
// Of none: 0.
double largest_of(const std::vector<double>& values);

// e with |x| < 2^e, nearly; 0 for 0, infinity and NaN.
int exponent_of(double x);
std::vector<int> exponents_of(const std::vector<double>& values);

// largest[c] = the larger of itself and every |x(r, c)| of a matrix in host memory.
void raise_maxima(MatrixView<const double> x, std::vector<double>& largest);
// The largest |entry| of each column of a matrix in device memory.
std::vector<double> column_maxima(const Exec& exec, MatrixView<const double> x);

// x[:, c] *= 2^(sign powers[c]): exact.
void shift_columns(const Exec& exec, const std::vector<int>& powers, int sign, MatrixView<double> x);

}  // namespace gramian::regression
