#include "gramian/linalg/csr.hpp"

#include <cstddef>

#include "gramian/core/error.hpp"

namespace gramian {

TransposedCsr::TransposedCsr(const RowsView& a) : indptr_(static_cast<std::size_t>(a.cols) + 1, 0) {
  GRAMIAN_REQUIRE(a.sparse && (a.dtype == DType::f32 || a.dtype == DType::f64), internal,
                  "TransposedCsr wants CSR rows of float32 or float64");
  if (a.index_dtype == DType::i32) {
    fill<std::int32_t>(a);
  } else {
    fill<std::int64_t>(a);
  }
  view_.dtype = DType::f64;
  view_.rows = a.cols;
  view_.cols = a.rows;
  view_.sparse = true;
  view_.index_dtype = DType::i64;
  view_.indptr = indptr_.data();
  view_.indices = indices_.data();
  view_.values = values_.data();
}

template <class Index>
void TransposedCsr::fill(const RowsView& a) {
  const auto* indptr = static_cast<const Index*>(a.indptr);
  const auto* indices = static_cast<const Index*>(a.indices);
  const auto each = [&](const auto& body) {
    for (std::int64_t r = 0; r < a.rows; ++r) {
      const std::int64_t row = a.row_index != nullptr ? a.row_index[r] : r;
      for (std::int64_t t = indptr[row]; t < indptr[row + 1]; ++t) body(r, static_cast<std::size_t>(indices[t]), t);
    }
  };
  each([&](std::int64_t, std::size_t column, std::int64_t) { ++indptr_[column + 1]; });
  for (std::size_t c = 1; c < indptr_.size(); ++c) indptr_[c] += indptr_[c - 1];
  indices_.resize(static_cast<std::size_t>(indptr_.back()));
  values_.resize(indices_.size());
  std::vector<std::int64_t> next(indptr_.begin(), indptr_.end() - 1);
  each([&](std::int64_t r, std::size_t column, std::int64_t t) {
    const auto place = static_cast<std::size_t>(next[column]++);
    indices_[place] = r;
    values_[place] = a.dtype == DType::f32 ? static_cast<double>(static_cast<const float*>(a.values)[t])
                                           : static_cast<const double*>(a.values)[t];
  });
}

double TransposedCsr::sum_of_squares() const {
  double total = 0;
  for (std::size_t c = 0; c + 1 < indptr_.size(); ++c) {
    const auto end = static_cast<std::size_t>(indptr_[c + 1]);
    for (auto t = static_cast<std::size_t>(indptr_[c]); t < end;) {
      double value = values_[t];
      std::size_t next = t + 1;
      for (; next < end && indices_[next] == indices_[t]; ++next) value += values_[next];
      total += value * value;
      t = next;
    }
  }
  return total;
}

}  // namespace gramian
