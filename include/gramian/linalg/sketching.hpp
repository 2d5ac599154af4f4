// The sums that sketches are made of, over the fixed tree: blocks of kSketchBlock rows counted from row 0, inside a
// block in index order, then pairwise over blocks. Results are the same bits for every thread count.
//
// "A node" is an aligned power-of-two number of whole blocks. Matrices but RowsView are in the memory of the Exec's
// device. Rows that are read where they lie are not looked at for NaN and infinity: they come out in the result, and
// check_finite then names the row.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/elementwise.hpp"

namespace gramian {

inline constexpr std::int64_t kSketchBlock = 4096;
// Rows that one product of a dense sketch takes at a time.
inline constexpr std::int64_t kSketchPanel = 256;

// codes[r * nnz + k] = 2 row + sign bit of nonzero k of column start + r, for `rows` columns, into the memory of exec.
using RowCodes = std::function<void(const Exec& exec, std::int64_t start, std::int64_t rows, std::int32_t* codes)>;
// out[j, i] = S(first + i, start + j), into the memory of exec.
template <class T>
using SketchTile = std::function<void(const Exec& exec, std::int64_t first, std::int64_t start, MatrixView<T> out)>;

// out[j, i] = scale S(first + i, start + j), S the random matrix of the stream.
template <class T>
GRAMIAN_EXPORT void fill_random_tile(const Exec& exec, Distribution distribution, const RngStream& stream, double scale,
                                     std::int64_t first, std::int64_t start, MatrixView<T> out);
// The codes of a sparse sign matrix with m rows; m < 2^30.
GRAMIAN_EXPORT void fill_row_hash(const Exec& exec, const RngStream& stream, std::int64_t start, std::int64_t rows,
                                  std::int64_t nnz, std::int64_t m, std::int32_t* codes);

// out += S[:, start .. start + x.rows) x for a sparse S; the rows lie in one block. out has no gaps between rows.
template <class T>
GRAMIAN_EXPORT void sparse_sketch_add(const Exec& exec, const RowsView& x, std::int64_t start, std::int64_t nnz,
                                      const RowCodes& codes, MatrixView<T> out);
// out = S[:, start .. start + x.rows) x, the rows being a node. Reads x once; 2 nnz x.rows x.cols flops.
template <class T>
GRAMIAN_EXPORT void sparse_sketch_node(const Exec& exec, const RowsView& x, std::int64_t start, std::int64_t nnz,
                                       const RowCodes& codes, MatrixView<T> out);
// The same two for a dense S that is made tile by tile and never whole. 2 out.rows x.rows x.cols flops.
template <class T>
GRAMIAN_EXPORT void dense_sketch_add(const Exec& exec, const RowsView& x, std::int64_t start, const SketchTile<T>& tile,
                                     MatrixView<T> out);
template <class T>
GRAMIAN_EXPORT void dense_sketch_node(const Exec& exec, const RowsView& x, std::int64_t start,
                                      const SketchTile<T>& tile, MatrixView<T> out);
// out = scale S[:, start .. start + out.rows)' y.
template <class T>
GRAMIAN_EXPORT void dense_sketch_adjoint(const Exec& exec, MatrixView<const T> y, std::int64_t start, double scale,
                                         const SketchTile<T>& tile, MatrixView<T> out);
// out = scale x S'.
template <class T>
GRAMIAN_EXPORT void dense_sketch_project(const Exec& exec, const RowsView& x, double scale, const SketchTile<T>& tile,
                                         MatrixView<T> out);
// out = scale x S' for a sparse S with x.cols columns.
template <class T>
GRAMIAN_EXPORT void sparse_sketch_project(const Exec& exec, const RowsView& x, double scale, std::int64_t nnz,
                                          const RowCodes& codes, MatrixView<T> out);

// Signed permutation, transform(s), choice: row r of out = scale * [H D2] H (x[r, index] * sign), taken at `choice`.
// All vectors on the host; index and sign have N (a power of two) entries, index -1 stands for a zero; D2 (N signs) may
// be empty, and then there is one transform only.
struct HadamardPlan {
  std::vector<std::int64_t> index;
  std::vector<double> sign;
  std::vector<double> second_sign;
  std::vector<std::int64_t> choice;
  std::vector<double> choice_scale;  // one factor per chosen place
};
// Rows of x through the plan; each is read and written once, in work space that stays in cache. x.cols <= N. times: out
// *= instead. Returns whether the first column of out is finite: what is not finite in a row of x, at a place that
// `index` names, comes out in all of them.
template <class T>
GRAMIAN_EXPORT bool hadamard_rows(const Exec& exec, const RowsView& x, const HadamardPlan& plan, MatrixView<T> out,
                                  bool times = false);
template <class T>
GRAMIAN_EXPORT bool hadamard_rows(const Exec& exec, MatrixView<const T> x, const HadamardPlan& plan, MatrixView<T> out,
                                  bool times = false);
// Columns of x through the plan: out (choice x x.cols). x.rows must exceed every index. On the host the columns are
// transformed where they lie (walsh_hadamard_columns), in a work space of N x x.cols values, 512 MiB of doubles at most
// unless 64 columns are more.
template <class T>
GRAMIAN_EXPORT void hadamard_columns(const Exec& exec, const RowsView& x, const HadamardPlan& plan, MatrixView<T> out);

// dst = src'.
template <class T>
GRAMIAN_EXPORT void copy_transposed(const Exec& exec, MatrixView<const T> src, MatrixView<T> dst);
// out[r, :] = a[r, :] circularly convolved with b[r, :]; in double, by transforms.
template <class T>
GRAMIAN_EXPORT void circular_convolve(const Exec& exec, MatrixView<const T> a, MatrixView<const T> b,
                                      MatrixView<T> out);
// out (rows.size() x x.cols) = the rows of x that are named.
template <class T>
GRAMIAN_EXPORT void gather_rows(const Exec& exec, const RowsView& x, const std::vector<std::int64_t>& rows,
                                MatrixView<T> out);
// Error{non_finite} naming the first bad row of x, if there is one.
GRAMIAN_EXPORT void check_finite(const Exec& exec, const RowsView& x);
// Waits until the device has done what exec asked of it: before another Exec reads the memory.
GRAMIAN_EXPORT void finish(const Exec& exec);
// Is every element finite? (Overflow of the squares counts as not.)
template <class T>
GRAMIAN_EXPORT bool is_finite(const Exec& exec, MatrixView<const T> x);

}  // namespace gramian
