// A matrix known by its products.
#pragma once

#include <cstdint>
#include <functional>

#include "gramian/core/view.hpp"

namespace gramian {

// Both functions are called on the calling thread and fill `out`.
struct LinearMap {
  std::int64_t n = 0, d = 0;
  std::function<void(MatrixView<const double> x, MatrixView<double> out)> apply;    // out (n x k) = A x
  std::function<void(MatrixView<const double> y, MatrixView<double> out)> adjoint;  // out (d x k) = A' y
};

}  // namespace gramian
