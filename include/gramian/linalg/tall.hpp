// Products and orthonormal bases of tall matrices with few columns: the inner dimension is the long one.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

// out (p x q) = op(A) Y for Y n x q with n large, op(A) p x n (Trans::yes: A is n x p). The n products of an entry are
// summed in pieces that the shape alone decides, and the pieces pairwise: all threads have work where p and q are
// small, the bits do not depend on their number, and single precision loses less. 2 n p q flops; at most 64 MB of T
// beside.
template <class T>
GRAMIAN_EXPORT void long_gemm(const Exec& exec, Trans trans_a, MatrixView<const T> a, MatrixView<const T> y,
                              MatrixView<T> out);

// Squares of the lengths of the columns of y, in the order of long_gemm.
template <class T>
GRAMIAN_EXPORT std::vector<double> column_sumsq(const Exec& exec, MatrixView<const T> y);

// An orthonormal set of columns of one length that grows by blocks and never becomes rank-deficient: where a block
// brings fewer new directions than columns, random ones take the places.
template <class T>
class GRAMIAN_EXPORT OrthonormalColumns {
 public:
  // fresh: where random directions come from; the k-th time from generation k.
  OrthonormalColumns(const Exec& exec, std::int64_t length, std::uint64_t seed, std::uint32_t tag);

  std::int64_t length() const { return length_; }
  std::int64_t size() const { return size_; }
  std::int64_t blocks() const { return static_cast<std::int64_t>(blocks_.size()); }
  MatrixView<T> block(std::int64_t k) const { return blocks_[static_cast<std::size_t>(k)].view(); }
  // Drops all columns.
  void clear();

  // Adds as many columns as y (length x b, destroyed) has; size() + b <= length. Returns C ((size() after) x b by rows)
  // with y = all columns times C, up to rounding and directions of y that are shorter than `floor`.
  //
  // Twice: the old columns are projected out, then R'R = Y'Y is factored and Y R^-1 formed, which runs at the speed of
  // products. Where the condition of Y forbids it, the same with a shift on the diagonal, and where that does not help
  // either, Householder's QR. 4 b (2 m + b) flops for each element of a column, m columns being there.
  std::vector<double> extend(Array<T> y, double floor);

  // y (length x k) -= its part in the span, twice.
  void project_out(MatrixView<T> y) const;
  // out (length x k) = all columns times c (size() x k by rows, host).
  void combine(const std::vector<double>& c, std::int64_t k, MatrixView<T> out) const;
  // out (k x length) = the transpose of that.
  void combine_transposed(const std::vector<double>& c, std::int64_t k, MatrixView<T> out) const;

 private:
  void project(MatrixView<T> y, std::vector<double>& coefficients) const;
  void refill(Array<T>& y, std::int64_t live);

  Exec exec_;
  std::int64_t length_;
  std::uint64_t seed_;
  std::uint32_t tag_;
  std::uint32_t refills_ = 0;
  std::int64_t size_ = 0;
  std::vector<Array<T>> blocks_;
};

}  // namespace gramian
