#include "regression/binary_scale.h"

#include <algorithm>
#include <cmath>

#include "gramian/core/array.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian::regression {

double largest_of(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) largest = larger(largest, value);
  return largest;
}

int exponent_of(double x) {
  int power = 0;
  std::frexp(x, &power);
  return x != 0 && std::isfinite(x) ? power : 0;
}

std::vector<int> exponents_of(const std::vector<double>& values) {
  std::vector<int> out;
  for (const double value : values) out.push_back(exponent_of(value));
  return out;
}

void raise_maxima(MatrixView<const double> x, std::vector<double>& largest) {
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t c = 0; c < x.cols; ++c) {
      double& of_column = largest[static_cast<std::size_t>(c)];
      of_column = larger(of_column, std::abs(x(r, c)));
    }
}

std::vector<double> column_maxima(const Exec& exec, MatrixView<const double> x) {
  std::vector<double> host, largest(static_cast<std::size_t>(x.cols), 0.0);
  if (exec.device() != Device::cpu) {
    host.resize(static_cast<std::size_t>(x.rows * x.cols));
    download<double>(exec, x, {host.data(), x.rows, x.cols});
    x = {host.data(), x.rows, x.cols};
  }
  raise_maxima(x, largest);
  return largest;
}

void shift_columns(const Exec& exec, const std::vector<int>& powers, int sign, MatrixView<double> x) {
  if (std::all_of(powers.begin(), powers.end(), [](int power) { return power == 0; })) return;
  Array<double> device(exec, x.cols);
  // In two steps, since the power itself may be no double.
  for (const bool first : {true, false}) {
    std::vector<double> factors;
    for (const int power : powers) factors.push_back(std::ldexp(1.0, sign * (first ? power / 2 : power - power / 2)));
    upload<double>(exec, {factors.data(), 1, x.cols}, device.view());
    scale_columns<double>(exec, device.data(), x);
  }
}

}  // namespace gramian::regression
