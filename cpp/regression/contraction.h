// How fast the corrections of a least-squares solution converge: what the plan counts on and the solvers do.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace gramian::regression {

// Rows of the sketch over d: what conjugate gradients want, and what a Gram matrix on top of it needs.
constexpr double kIterativeRows = 12;
constexpr double kDirectRows = 4;

// A correction must gain a digit, or another method is better.
constexpr double kUsefulContraction = 0.1;
// One correction when the Gram matrix of nearly orthonormal columns was made in float.
constexpr double kSketchedContraction = 1e-5;

// The factor that one correction takes off the error when the preconditioner is the Cholesky factor of A'A made in
// float (products over blocks of 2048 rows) or double, for columns of equal length and this condition: rounding of A'A
// times the square of the condition.
inline double single_contraction(double condition) {
  return 1e-6 * condition * condition;
}
inline double double_contraction(double condition) {
  return 1e-15 * condition * condition;
}

// Readings of A until the correction falls below the rounding of the solution, the last to see that it has; the start
// has one contraction behind it.
inline double corrections(double contraction) {
  constexpr double digits = 16.5;
  return std::max(2.0, std::ceil(digits / -std::log10(std::max(contraction, 1e-16))));
}

// Steps of conjugate gradients or momentum in each of two rounds for m / d = ratio: (d / m)^(steps / 2) = 2e-10.
inline double inner_steps(double ratio) {
  return std::ceil(44.7 / std::log(ratio));
}

// Is a linear operator so short that no sketch pays, and its matrix is formed?
inline bool is_formed(std::int64_t n, std::int64_t d) {
  return static_cast<double>(n) <= 2 * kIterativeRows * static_cast<double>(d);
}

}  // namespace gramian::regression
