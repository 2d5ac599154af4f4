// Compressed sparse rows read by columns.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

// The transpose of a CSR matrix as a CSR matrix of its own: counting sort by column, rows in order, so entries that were
// stored twice lie side by side. 16 bytes an entry.
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
  template <class Index>
  void fill(const RowsView& a);

  std::vector<std::int64_t> indptr_, indices_;
  std::vector<double> values_;
  RowsView view_;
};

// Entries that the rows of a CSR view refer to.
GRAMIAN_EXPORT std::int64_t stored_entries(const RowsView& a);

// g (d x k) = A' r for CSR rows A (n x d, host, float32 or float64) from the rows as they are: no transpose is made.
// Sums in double over at most 64 parts of the rows, added in a fixed order: the same bits for any number of threads.
// 2 k flops an entry; memory for the sums of the parts, never more than the entries take.
GRAMIAN_EXPORT void sparse_multiply_transposed(const Exec& exec, const RowsView& a, MatrixView<const double> r,
                                               MatrixView<double> g);

}  // namespace gramian
