// Random linear maps that make many rows few: a distribution (plain data) and the operator it names.
//
// S is n_out x n_in with E[S'S] = I (but for chosen DCT columns, where SS' = I). Every entry is a pure function of the
// distribution and of its own place ("Frozen bit law, version 1", docs/guarantees.md): S is never stored, and is the
// same bits for every thread count, instruction set and device.
//
// Sums run over a fixed tree: the rows of S x in blocks of 4096 (counted from row 0 of S's columns), inside a block in
// index order, then pairwise over the blocks, and the common factor of S is multiplied in at the end. So the result
// does not depend on the thread count, and whole numbers give the same bits on every table.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/io/json.hpp"

namespace gramian {

enum class SketchKind {
  gaussian,       // N(0, 1 / n_out)
  rademacher,     // +-1 / sqrt(n_out)
  srht,           // sqrt(N / n_out) P H pi D: N the power of two at or above n_in, rows chosen without replacement
  hdhd,           // the same with two rounds of signs and transform in place of the permutation
  count_sketch,   // one +-1 in each column
  sparse_sign,    // nnz of +-1 / sqrt(nnz) in each column, one in each of nnz blocks of rows
  long_axis,      // nnz of +-sqrt(n_in / (nnz n_out)) in each row, one in each of nnz blocks of columns
  row_sampling,   // row i with probability p_i = scores_i / sum, times 1 / sqrt(n_out p_i); with replacement
  tensor_sketch,  // CountSketch of the Kronecker product of vectors, hashed by the sum of the factors' hashes
  tensor_srht,    // rows of the Kronecker product of signed Hadamard matrices, drawn with replacement; a tree of pairs
  dct             // rows of the orthonormal DCT-II: drawn, after signs, without replacement; or the chosen ones
};

GRAMIAN_EXPORT const char* name_of(SketchKind kind);
// "gaussian", "count_sketch", ...; throws invalid_argument for anything else.
GRAMIAN_EXPORT SketchKind parse_sketch_kind(const std::string& name);

// What a sketch is. Plain data; 64 bytes on the wire (but for scores and columns).
struct SketchDist {
  SketchKind kind = SketchKind::sparse_sign;
  std::int64_t n_out = 0;  // rows of S, those of `appended` included
  // Columns of S. 0: not known (gaussian, rademacher, count_sketch, sparse_sign). tensor kinds: the product of dims.
  std::int64_t n_in = 0;
  std::uint64_t seed = 0;
  std::int64_t nnz = 8;                // sparse_sign: per column; long_axis: per row
  bool permute = true;                 // srht: a random order of the rows before the transform
  std::uint32_t generation = 0;        // of the first rows; each batch of `appended` counts one up
  std::vector<std::int64_t> appended;  // numbers of rows that came later: S is a stack of independent sketches
  std::vector<std::int64_t> dims;      // tensor kinds: lengths of the factors, at least two
  std::vector<double> scores;          // row_sampling: n_in of them, not negative, with a positive sum
  std::vector<std::int64_t> columns;   // dct: the n_out frequencies to keep; empty: drawn

  GRAMIAN_EXPORT Json to_json() const;
  // Throws Error{file_format} for what is no distribution.
  GRAMIAN_EXPORT static SketchDist from_json(const Json& json);
  // The same sketch with `more` rows appended: the old ones keep their draws and are scaled by
  // sqrt(n_out / (n_out + more)).
  GRAMIAN_EXPORT SketchDist with_rows(std::int64_t more) const;
};

// A sample of a distribution: cheap to make and to copy, constant, safe to share between threads. All matrices but
// RowsView are in the memory of the Exec's device; T is float or double. NaN or infinity in x is Error{non_finite}
// naming the row, and so is a result with values beyond the range of T; where only sums on the way leave it, they are
// made again in double, of x divided by a power of two. Cost of S x, x being n x d: gaussian, rademacher, dct 2 n_out n
// d flops; srht, hdhd n d log2 n; count_sketch, sparse_sign 2 nnz n d (CSR: 2 nnz stored entries); long_axis,
// row_sampling touch the drawn rows only.
class GRAMIAN_EXPORT SketchOp {
 public:
  explicit SketchOp(SketchDist dist);
  const SketchDist& dist() const;

  // out (n_out x x.cols) = S x, x being n_in rows (any number where n_in is 0).
  template <class T>
  void apply(const Exec& exec, const RowsView& x, MatrixView<T> out) const;
  // The same, but for a result beyond the range of T it returns false: out then is not finite.
  template <class T>
  bool try_apply(const Exec& exec, const RowsView& x, MatrixView<T> out) const;
  // out += S[:, start .. start + x.rows) x, which may overflow: a sum of many calls is looked at when it is complete.
  // srht, hdhd and tensor_srht cost 2 n_out d flops for each row here.
  template <class T>
  void update(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const;
  // out = S[:, start .. start + out.rows)' y, y being n_out x out.cols.
  template <class T>
  void apply_adjoint(const Exec& exec, MatrixView<const T> y, std::int64_t start, MatrixView<T> out) const;
  // out (x.rows x n_out) = x S', the rows of x being vectors of length n_in: a random projection of features.
  template <class T>
  void project(const Exec& exec, const RowsView& x, MatrixView<T> out) const;
  // Tensor kinds: row r of out (rows x n_out) = S (factors[0][r, :] (x) factors[1][r, :] (x) ...), the product never
  // formed. tensor_sketch costs q FFTs of n_out, tensor_srht q transforms of its factors.
  template <class T>
  void apply_factors(const Exec& exec, const std::vector<RowsView>& factors, MatrixView<T> out) const;
  // out = S[i0 .. i0 + out.rows, j0 .. j0 + out.cols).
  template <class T>
  void materialise(const Exec& exec, std::int64_t i0, std::int64_t j0, MatrixView<T> out) const;

 private:
  struct Plan;
  template <class T>
  void sum_up(const Exec& exec, const RowsView& x, MatrixView<T> out) const;
  template <class T>
  void spread(const Exec& exec, MatrixView<const T> y, std::int64_t start, MatrixView<T> out) const;
  template <class T>
  bool project_parts(const Exec& exec, const RowsView& x, MatrixView<T> out) const;
  template <class T>
  void multiply(const Exec& exec, const std::vector<RowsView>& factors, MatrixView<T> out) const;
  std::shared_ptr<const Plan> plan_;
  template <class T>
  friend class SketchSum;
};

}  // namespace gramian
