// The step that iterative least squares is made of: the residual and its gradient from one reading of the matrix.
#pragma once

#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

// r = b - A x (n x k) and g = A' r (d x k) for A n x d; everything but A is double, and so are all sums. b may be empty
// (zeros). Reads A once, in blocks whose sums are added in a fixed tree: the same bits for every thread count.
// 4 n d k flops, sizeof(T) n d bytes. With a weight for each row (host; empty: ones) r = diag(weight) (b - A x).
template <class T>
GRAMIAN_EXPORT void normal_sweep(const Exec& exec, MatrixView<const T> a, MatrixView<const double> x,
                                 MatrixView<const double> b, MatrixView<double> r, MatrixView<double> g,
                                 const std::vector<double>& weight = {});

}  // namespace gramian
