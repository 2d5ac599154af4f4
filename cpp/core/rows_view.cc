#include "gramian/core/rows_view.hpp"

#include <string>

#include "gramian/core/error.hpp"

namespace gramian {
namespace {

std::string entry(const char* array, std::int64_t index, std::int64_t value) {
  return std::string(array) + "[" + std::to_string(index) + "] = " + std::to_string(value);
}

std::string row_name(const RowsView& x, std::int64_t r) {
  return "row " + std::to_string(x.first_row + r);
}

template <class Index>
void check_indices(const RowsView& x, std::int64_t r, std::int64_t begin, std::int64_t end) {
  const Index* indices = static_cast<const Index*>(x.indices);
  for (std::int64_t t = begin; t < end; ++t) {
    const std::int64_t column = indices[t];
    GRAMIAN_REQUIRE(
        column >= 0 && column < x.cols, invalid_argument,
        entry("indices", t, column) + " is outside [0, " + std::to_string(x.cols) + ") (" + row_name(x, r) + ")");
  }
}

template <class Index>
void check_rows(const RowsView& x, std::int64_t stored) {
  const Index* indptr = static_cast<const Index*>(x.indptr);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const std::int64_t row = x.row_index != nullptr ? x.row_index[r] : r;
    GRAMIAN_REQUIRE(row >= 0, invalid_argument, entry("row_index", r, row) + " is negative");
    const std::int64_t begin = indptr[row], end = indptr[row + 1];
    GRAMIAN_REQUIRE(begin >= 0, invalid_argument,
                    entry("indptr", row, begin) + " is negative (" + row_name(x, r) + ")");
    GRAMIAN_REQUIRE(
        end >= begin, invalid_argument,
        entry("indptr", row + 1, end) + " is below " + entry("indptr", row, begin) + " (" + row_name(x, r) + ")");
    GRAMIAN_REQUIRE(end <= stored, invalid_argument,
                    entry("indptr", row + 1, end) + " lies beyond the " + std::to_string(stored) + " stored entries (" +
                        row_name(x, r) + ")");
    check_indices<Index>(x, r, begin, end);
  }
}

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

void check_csr(const RowsView& x, std::int64_t stored) {
  GRAMIAN_REQUIRE(x.sparse, invalid_argument, "not a CSR matrix");
  GRAMIAN_REQUIRE(x.rows >= 0 && x.cols >= 0 && stored >= 0, invalid_argument, "negative size of a CSR matrix");
  GRAMIAN_REQUIRE(x.rows == 0 || x.indptr != nullptr, invalid_argument, "indptr is missing");
  GRAMIAN_REQUIRE(stored == 0 || (x.indices != nullptr && x.values != nullptr), invalid_argument,
                  "indices or values are missing");
  if (x.index_dtype == DType::i32) {
    check_rows<std::int32_t>(x, stored);
  } else if (x.index_dtype == DType::i64) {
    check_rows<std::int64_t>(x, stored);
  } else {
    throw Error(ErrorCode::invalid_argument,
                std::string("the index arrays of a CSR matrix are int32 or int64, not ") + name_of(x.index_dtype));
  }
}

}  // namespace gramian
