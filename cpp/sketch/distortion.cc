#include "sketch/distortion.h"

#include <cmath>

namespace gramian::sketching {

double distortion_of(std::int64_t m, std::int64_t d) {
  const double rows = std::sqrt(static_cast<double>(m) - 0.5), cols = std::sqrt(static_cast<double>(d) - 0.5);
  const double middle = (rows + cols) * (rows + cols), width = (rows + cols) * std::cbrt(1 / rows + 1 / cols);
  return (middle + 4.5 * width) / static_cast<double>(m) - 1;
}

}  // namespace gramian::sketching
