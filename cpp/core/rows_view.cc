#include "gramian/core/rows_view.hpp"

#include <string>

#include "gramian/core/error.hpp"

namespace gramian {
namespace {

// One check of one matrix, which errors call by the caller's name for it.
class CsrCheck {
 public:
  CsrCheck(const RowsView& x, std::int64_t stored, const char* name) : x_(x), stored_(stored), name_(name) {}

  template <class Index>
  void rows() const {
    const Index* indptr = static_cast<const Index*>(x_.indptr);
    for (std::int64_t r = 0; r < x_.rows; ++r) {
      const std::int64_t row = x_.row_index != nullptr ? x_.row_index[r] : r;
      GRAMIAN_REQUIRE(row >= 0, invalid_argument, entry("row_index", r, row) + " is negative");
      const std::int64_t begin = indptr[row], end = indptr[row + 1];
      GRAMIAN_REQUIRE(begin >= 0, invalid_argument, entry("indptr", row, begin) + " is negative" + in_row(r));
      GRAMIAN_REQUIRE(end >= begin, invalid_argument,
                      entry("indptr", row + 1, end) + " is below " + entry("indptr", row, begin) + in_row(r));
      GRAMIAN_REQUIRE(end <= stored_, invalid_argument,
                      entry("indptr", row + 1, end) + " lies beyond the " + std::to_string(stored_) +
                          " stored entries" + in_row(r));
      indices<Index>(r, begin, end);
    }
  }

 private:
  template <class Index>
  void indices(std::int64_t r, std::int64_t begin, std::int64_t end) const {
    const Index* indices = static_cast<const Index*>(x_.indices);
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t column = indices[t];
      GRAMIAN_REQUIRE(column >= 0 && column < x_.cols, invalid_argument,
                      entry("indices", t, column) + " is outside [0, " + std::to_string(x_.cols) + ")" + in_row(r));
    }
  }

  std::string entry(const char* array, std::int64_t index, std::int64_t value) const {
    return std::string(name_) + "." + array + "[" + std::to_string(index) + "] = " + std::to_string(value);
  }
  std::string in_row(std::int64_t r) const { return " (row " + std::to_string(x_.first_row + r) + ")"; }

  const RowsView& x_;
  std::int64_t stored_;
  const char* name_;
};

}  // namespace

RowsView RowsView::slice(std::int64_t begin, std::int64_t count) const {
  GRAMIAN_REQUIRE(begin >= 0 && count >= 0 && begin <= rows && count <= rows - begin, invalid_argument,
                  "rows [" + std::to_string(begin) + ", " + std::to_string(begin) + " + " + std::to_string(count) +
                      ") are not inside a view of " + std::to_string(rows) + " rows");
  RowsView part = *this;
  part.rows = count;
  if (row_index != nullptr) {
    part.row_index = row_index + begin;  // which counts from first_row already
    return part;
  }
  part.first_row += begin;
  if (begin == 0) return part;
  if (sparse) {
    part.indptr = static_cast<const char*>(indptr) + begin * static_cast<std::int64_t>(size_of(index_dtype));
  } else {
    part.data = static_cast<const char*>(data) + begin * row_stride;
  }
  return part;
}

void check_csr(const RowsView& x, std::int64_t stored, const char* name) {
  const std::string matrix(name);
  GRAMIAN_REQUIRE(x.sparse, invalid_argument, matrix + " is not a CSR matrix");
  GRAMIAN_REQUIRE(x.rows >= 0 && x.cols >= 0 && stored >= 0, invalid_argument, matrix + " has a negative size");
  GRAMIAN_REQUIRE(x.rows == 0 || x.indptr != nullptr, invalid_argument, matrix + ".indptr is missing");
  GRAMIAN_REQUIRE(stored == 0 || (x.indices != nullptr && x.values != nullptr), invalid_argument,
                  matrix + ".indices or its values are missing");
  const CsrCheck check(x, stored, name);
  if (x.index_dtype == DType::i32) {
    check.rows<std::int32_t>();
  } else if (x.index_dtype == DType::i64) {
    check.rows<std::int64_t>();
  } else {
    throw Error(ErrorCode::invalid_argument,
                matrix + ": the index arrays of a CSR matrix are int32 or int64, not " + name_of(x.index_dtype));
  }
}

}  // namespace gramian
