// The fast Walsh-Hadamard transform of columns and of rows, split over the threads of an Exec.
//
// H is the matrix of +1 and -1 in natural (Sylvester's) order, H[i, j] = (-1)^popcount(i & j), so H H = n I. A
// transform takes n log2(n) additions. Stages go from the widest distance to the narrowest, so on the CPU a row and a
// column of the same values have the same bits, for any number of threads; integers stay exact while sums of magnitudes
// stay below 2^24 (float) or 2^53 (double).
//
// The sweeps over strips of rows with gaps are those of "FFTs in External or Hierarchical Memory".
#pragma once

#include <cstdint>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

// Columns of x (n x c, n a power of two) times scale * H, in place. Rows without gaps: memory is read and written once
// per six stages until what is left fits a part of the last cache (8 MiB), and once for all the rest: twice for
// 2^20 x 64 doubles. Rows with gaps: once per ten stages begun.
template <class T>
GRAMIAN_EXPORT void walsh_hadamard_columns(const Exec& exec, double scale, MatrixView<T> x);
// The same for each run of n rows of x (k n x c).
template <class T>
GRAMIAN_EXPORT void walsh_hadamard_columns(const Exec& exec, double scale, std::int64_t n, MatrixView<T> x);

// to = rows of `from` times scale * H. `to` may be `from`; other overlap is not allowed.
template <class T>
GRAMIAN_EXPORT void walsh_hadamard_rows(const Exec& exec, double scale, MatrixView<const T> from, MatrixView<T> to);

// out = the first out.cols values of scale * H D_k .. H D_1 z for each row of x, z being the row filled up with zeros
// to n = signs.cols values, a power of two. Row i of signs, without gaps between them, is the diagonal of +1 and -1 of
// D_(i + 1). Rows are read and written once, in work space that stays in cache.
template <class T>
GRAMIAN_EXPORT void signed_hadamard_rows(const Exec& exec, double scale, MatrixView<const T> signs,
                                         MatrixView<const T> x, MatrixView<T> out);

}  // namespace gramian
