// Is a matrix that is known by its products positive semi-definite, as far as the products tell?
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/block_map.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian::linalg {

// The symmetric part of a k x k host matrix as one on the device.
SymmetricMatrix<double> symmetric_part(const Exec& exec, const std::vector<double>& a, std::int64_t k);

// Of A in the span of the rows of Z, from Z Z' and Z A Z' (k x k on the host): Ritz values in ascending order, and rows
// of weights with which rows of Z add up to Ritz vectors of length one. Directions below `cut` times the largest
// eigenvalue of Z Z' are left out: along them the rounding of products counts 1 / cut times.
struct Ritz {
  std::vector<double> values;
  Array<double> weights;  // values.size() x k, on the device
};
Ritz ritz_of(const Exec& exec, const std::vector<double>& gram, const std::vector<double>& products, std::int64_t k,
             double cut);

// Watches products v -> A v of an iteration for negative curvature: each vector by itself, and the lowest Ritz vectors
// of all of them, which close in on the lowest eigenvalue that a Krylov space has seen. 32 n values.
class CurvatureWatch {
 public:
  // top: about the largest eigenvalue; unit: relative rounding of the entries of A.
  CurvatureWatch(const Exec& exec, std::int64_t n, double top, double unit);

  // Rows x and A x. Throws Error{not_positive_definite} where x'A x is negative beyond rounding.
  void see(MatrixView<const double> x, MatrixView<const double> ax);
  // The lowest Ritz vector of all that was seen, by a product of its own where it looks negative. Throws as `see`;
  // returns the number of products.
  std::int64_t finish(const BlockMap& a);

 private:
  void compress();
  void judge(double curvature, double image);
  MatrixView<double> row(const Array<double>& x, std::int64_t r) const { return x.view().block(r, 0, 1, x.cols()); }

  const Exec& exec_;
  const double noise_;  // of curvatures, in units of |A|
  const double unit_;   // a power of two near 1 / |A|
  double largest_;      // |unit A v| / |v| so far
  double least_ = 0;    // Ritz value
  std::int64_t count_ = 0;
  Array<double> x_, ax_;  // of unit length, and their products times unit_
};

}  // namespace gramian::linalg
