// Compressed sparse rows read by columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

// The transpose of a CSR matrix as a CSR matrix of its own: counting sort by column, rows in order, so entries that
// were stored twice lie side by side. 16 bytes an entry.
class GRAMIAN_EXPORT TransposedCsr {
 public:
  explicit TransposedCsr(const RowsView& a);
  TransposedCsr(const TransposedCsr&) = delete;
  TransposedCsr& operator=(const TransposedCsr&) = delete;

  const RowsView& view() const { return view_; }
  double stored() const { return static_cast<double>(values_.size()); }
  // |factor (A - 1 mean')|_F^2, entries that were stored twice added up first; mean (a value for each column of A) may
  // be empty, for zeros.
  double sum_of_squares(const std::vector<double>& mean = {}, double factor = 1) const;
  // The largest |entry|.
  double largest() const;

 private:
  std::vector<std::int64_t> indptr_, indices_;
  std::vector<double> values_;
  RowsView view_;
};

// body(r, column, t, value) for the stored entries t of rows r of a CSR view (host, float32 or float64), row by row.
template <class Body>
void each_entry(const RowsView& a, const Body& body) {
  const auto visit = [&](const auto* indptr, const auto* indices, const auto* values) {
    for (std::int64_t r = 0; r < a.rows; ++r) {
      const std::int64_t row = a.row_index != nullptr ? a.row_index[r] : r;
      for (std::int64_t t = indptr[row]; t < static_cast<std::int64_t>(indptr[row + 1]); ++t)
        body(r, static_cast<std::size_t>(indices[t]), t, static_cast<double>(values[t]));
    }
  };
  const auto of_index = [&](const auto* indptr, const auto* indices) {
    if (a.dtype == DType::f32) {
      visit(indptr, indices, static_cast<const float*>(a.values));
    } else {
      visit(indptr, indices, static_cast<const double*>(a.values));
    }
  };
  if (a.index_dtype == DType::i32) {
    of_index(static_cast<const std::int32_t*>(a.indptr), static_cast<const std::int32_t*>(a.indices));
  } else {
    of_index(static_cast<const std::int64_t*>(a.indptr), static_cast<const std::int64_t*>(a.indices));
  }
}

// Entries that the rows of a CSR view refer to.
GRAMIAN_EXPORT std::int64_t stored_entries(const RowsView& a);

// g (d x k) = A' r for CSR rows A (n x d, host, float32 or float64) from the rows as they are: no transpose is made.
// Sums in double over at most 64 parts of the rows, added in a fixed order: the same bits for any number of threads.
// 2 k flops an entry; memory for the sums of the parts, never more than the entries take.
GRAMIAN_EXPORT void sparse_multiply_transposed(const Exec& exec, const RowsView& a, MatrixView<const double> r,
                                               MatrixView<double> g);

}  // namespace gramian
