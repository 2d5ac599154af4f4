// Dense products and factorisations on views, split into tiles over the threads of an Exec.
//
// Tiles are fixed by the shape alone and sums run in a fixed order, so results are the same bits for every thread
// count. Pointers are in the memory of the Exec's device.
#pragma once

#include <cstdint>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/elementwise.hpp"

namespace gramian {

enum class Trans { no = 0, yes = 1 };

// C = alpha op(A) op(B) + beta C; op(A) is m x k, op(B) k x n. 2 m n k flops.
template <class T>
GRAMIAN_EXPORT void gemm(const Exec& exec, Trans trans_a, Trans trans_b, double alpha, MatrixView<const T> a,
                         MatrixView<const T> b, double beta, MatrixView<T> c);

// C = scale f(A B + shift), the map applied to each tile of the product while it is in cache. shift: one value per
// column of C, or null. 2 m n k flops and one pass over C.
template <class T>
GRAMIAN_EXPORT void gemm_activate(const Exec& exec, MatrixView<const T> a, MatrixView<const T> b, Activation f,
                                  const T* shift, double scale, MatrixView<T> c);

// dst = alpha src + beta dst, also between precisions; src may be empty when alpha is 0.
template <class S, class D>
GRAMIAN_EXPORT void axpby(const Exec& exec, double alpha, MatrixView<const S> src, double beta, MatrixView<D> dst);

// Between host memory and the device of `exec`.
template <class T>
GRAMIAN_EXPORT void upload(const Exec& exec, MatrixView<const T> host, MatrixView<T> device);
template <class T>
GRAMIAN_EXPORT void download(const Exec& exec, MatrixView<const T> device, MatrixView<T> host);

// dst[r, :] = (widened x[r, :] - shift) * row_scale[r], rows split over the threads. shift (x.cols) and row_scale
// (x.rows) are host doubles and may be null. NaN or infinity in a row throws Error{non_finite} naming
// its number (rows_view.hpp) and `name` (the argument as the caller knows it).
template <class T>
GRAMIAN_EXPORT void load_rows(const Exec& exec, const RowsView& x, const double* shift, const double* row_scale,
                              MatrixView<T> dst, const char* name);

}  // namespace gramian
