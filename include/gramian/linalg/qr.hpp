// Orthogonal factorisations of tall matrices: the triangular factor alone, which rows can be streamed and merged into,
// the thin Q, and the singular value decomposition of what is left.
//
// Rows are cut into blocks that the shape alone decides, the blocks' factors are merged in a fixed tree (after
// "Communication-optimal Parallel and Sequential QR and LU Factorizations"), and the diagonal of R is made
// non-negative: the bits do not depend on the number of threads, and for full rank R is unique.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

// r (d x d, upper, diagonal >= 0) = the R of the QR factorisation of x (n x d, kept), any n; where n < d the last rows
// are zero. 2 n d^2 flops and an eighth more for the merging; reads x once. Memory: some 16 MB a thread and 16 d^2.
template <class T>
GRAMIAN_EXPORT void qr_factor_r(const Exec& exec, MatrixView<const T> x, MatrixView<T> r);

// Writes rows [begin, begin + out.rows) into device memory. Called by several threads at once, each row exactly once.
template <class T>
using RowLoader = std::function<void(std::int64_t begin, MatrixView<T> out)>;

// The same for n rows that exist only when they are asked for.
template <class T>
GRAMIAN_EXPORT void qr_factor_r(const Exec& exec, std::int64_t n, const RowLoader<T>& load, MatrixView<T> r);

// r = the R of [r; other], both d x d upper triangles. 10/3 d^3 flops.
template <class T>
GRAMIAN_EXPORT void qr_merge_r(const Exec& exec, MatrixView<const T> other, MatrixView<T> r);

// The thin factorisation: the first min(n, d) columns of x become Q, r (min(n, d) x d) becomes R with a diagonal >= 0.
// Columns of x behind those of Q are garbage. 6 n d^2 flops, n d memory.
template <class T>
GRAMIAN_EXPORT void qr_thin(const Exec& exec, MatrixView<T> x, MatrixView<T> r);

// a (m x d) = U diag(s) V', k = min(m, d): u m x k, s descending (k host values), vt k x d. One thread, about 20 d^3
// flops for a square. Throws Error{no_convergence}, also for NaN and infinity.
template <class T>
GRAMIAN_EXPORT void small_svd(const Exec& exec, MatrixView<const T> a, MatrixView<T> u, std::vector<T>& s,
                              MatrixView<T> vt);

// The relative size below which a singular value of d columns is rounding: 8 eps, 32 from 26 columns on. A column that
// depends on others leaves one of up to 6 and up to 23 in the triangle of up to 128 columns. A condition of 1e14, which
// is 45 eps, is never cut.
GRAMIAN_EXPORT double default_rtol(std::int64_t d);

// out (d x n) = x' for x n x d.
template <class T>
GRAMIAN_EXPORT void transpose(const Exec& exec, MatrixView<const T> x, MatrixView<T> out);

// L = r' as a factor that cholesky_solve_half and cholesky_solve_rows take: with Trans::no they apply R^-T, with
// Trans::yes R^-1, and to rows R^-1 from the right. Also between precisions.
template <class S, class T>
GRAMIAN_EXPORT SymmetricMatrix<T> lower_factor(const Exec& exec, MatrixView<const S> r);

}  // namespace gramian
