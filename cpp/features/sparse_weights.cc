#include "features/sparse_weights.h"

#include <algorithm>
#include <cmath>

#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

namespace {

// Tags of the streams of family `features`; part of the law in feature_map.hpp.
constexpr std::uint32_t kPlaceTag = 10;
constexpr std::uint32_t kSignTag = 11;
// Rows at a time: their transpose stays in cache while every feature reads a few of its rows.
constexpr std::int64_t kRows = 256;

// dst = src', host memory, in squares that fit in the first cache.
template <class T>
void transpose(const Exec& exec, MatrixView<const T> src, MatrixView<T> dst) {
  constexpr std::int64_t kEdge = 32;
  exec.parallel_for((src.cols + kEdge - 1) / kEdge, [&](std::int64_t task) {
    const std::int64_t begin = task * kEdge, end = std::min(begin + kEdge, src.cols);
    for (std::int64_t top = 0; top < src.rows; top += kEdge)
      for (std::int64_t c = begin; c < end; ++c)
        for (std::int64_t r = top; r < std::min(top + kEdge, src.rows); ++r) dst(c, r) = src(r, c);
  });
}

}  // namespace

template <class T>
SparseWeights<T>::SparseWeights(std::uint64_t seed, std::int64_t n_inputs, std::int64_t n_features,
                                std::int64_t n_nonzero, double scale)
    : n_inputs_(n_inputs) {
  const RngStream places(seed, RngFamily::features, kPlaceTag), signs(seed, RngFamily::features, kSignTag);
  const auto entries = static_cast<std::size_t>(n_features * n_nonzero);
  indptr_.reserve(static_cast<std::size_t>(n_features) + 1);
  indices_.reserve(entries);
  values_.reserve(entries);
  for (std::int64_t i = 0; i <= n_features; ++i) indptr_.push_back(i * n_nonzero);
  for (std::int64_t i = 0; i < n_features; ++i) {
    for (std::int64_t t = 0; t < n_nonzero; ++t) {
      const auto entry = static_cast<std::uint64_t>(i * n_nonzero + t);
      const std::int64_t first = t * n_inputs / n_nonzero, last = (t + 1) * n_inputs / n_nonzero;
      const auto width = static_cast<double>(last - first);
      // The product may round up to the width itself.
      const auto inside = static_cast<std::int64_t>(places.uniform(entry) * width);
      indices_.push_back(std::min(first + inside, last - 1));
      values_.push_back(static_cast<T>(scale * std::sqrt(width) * signs.row_sign(entry)));
    }
  }
}

template <class T>
RowsView SparseWeights<T>::rows() const {
  const auto rows = static_cast<std::int64_t>(indptr_.size()) - 1;
  return RowsView::csr(rows, n_inputs_, indptr_.data(), indices_.data(), values_.data());
}

template <class T>
void SparseWeights<T>::multiply(const Exec& exec, MatrixView<const T> x, MatrixView<T> out) const {
  const RowsView weights = rows();
  if (exec.device() != Device::cpu) {
    Array<T> dense(exec, weights.rows, weights.cols);
    load_rows<T>(exec, weights, nullptr, nullptr, dense.view(), "weights");
    gemm<T>(exec, Trans::no, Trans::yes, 1.0, x, dense.view(), 0.0, out);
    return;
  }
  // The kernel for sparse times dense wants the sparse factor on the left: z' = B' x'.
  const std::int64_t edge = std::min(kRows, std::max<std::int64_t>(1, x.rows));
  const Array<T> inputs(exec, x.cols, edge), features(exec, out.cols, edge);
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    const std::int64_t count = std::min(edge, x.rows - begin);
    const MatrixView<T> xt = inputs.view().block(0, 0, x.cols, count);
    const MatrixView<T> zt = features.view().block(0, 0, out.cols, count);
    transpose<T>(exec, x.block(begin, 0, count, x.cols), xt);
    sparse_multiply<T>(exec, weights, xt, zt);
    transpose<T>(exec, zt, out.block(begin, 0, count, out.cols));
  }
}

template class SparseWeights<float>;
template class SparseWeights<double>;

}  // namespace gramian
