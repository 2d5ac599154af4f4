// Compressed sparse rows read by columns.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"

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
  // |A|_F^2, entries that were stored twice added up first.
  double sum_of_squares() const;

 private:
  template <class Index>
  void fill(const RowsView& a);

  std::vector<std::int64_t> indptr_, indices_;
  std::vector<double> values_;
  RowsView view_;
};

}  // namespace gramian
