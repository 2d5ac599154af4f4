// Products with a symmetric matrix as iterative methods ask for them.
#pragma once

#include <functional>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

// out = f(in) for k vectors of length n, one a row, in the memory of the device; out is not read.
using BlockMap = std::function<void(MatrixView<const double> in, MatrixView<double> out)>;

// Products with a symmetric matrix: dense (n x n, device) or CSR (host). The matrix must outlive the map.
GRAMIAN_EXPORT BlockMap dense_map(const Exec& exec, MatrixView<const double> a);
GRAMIAN_EXPORT BlockMap sparse_map(const Exec& exec, const RowsView& a);

}  // namespace gramian
