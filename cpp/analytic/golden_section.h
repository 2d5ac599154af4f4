// The least value of a function of one variable.
#pragma once

#include <cmath>

namespace gramian {

// Where f, which has one valley in [low, high], is least, to within `width`.
template <class F>
double golden_section(double low, double high, double width, const F& f) {
  const double ratio = (std::sqrt(5.0) - 1) / 2;
  double left = high - ratio * (high - low), right = low + ratio * (high - low);
  double f_left = f(left), f_right = f(right);
  while (high - low > width) {
    if (f_left <= f_right) {
      high = right;
      right = left;
      f_right = f_left;
      left = high - ratio * (high - low);
      f_left = f(left);
    } else {
      low = left;
      left = right;
      f_left = f_right;
      right = low + ratio * (high - low);
      f_right = f(right);
    }
  }
  return (low + high) / 2;
}

}  // namespace gramian
