// What a learner is fed: rows of any storage type and any layout in host memory, dense or CSR, borrowed.
#pragma once

#include <cstdint>
#include <type_traits>

#include "gramian/core/dtype.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

// Dense: element (r, c) lies at data + r * row_stride + c * col_stride (bytes; zero and negative strides are fine).
// CSR: row r has the entries indptr[r] .. indptr[r + 1] of `indices` and `values`; duplicates add up; the order inside
// a row is free. `row_index`, where set, picks rows: row r of the view is row row_index[r] of the storage.
struct GRAMIAN_EXPORT RowsView {
  DType dtype = DType::f64;
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  const void* data = nullptr;  // dense
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 0;

  bool sparse = false;  // CSR
  DType index_dtype = DType::i32;
  const void* indptr = nullptr;
  const void* indices = nullptr;
  const void* values = nullptr;

  const std::int64_t* row_index = nullptr;
  // Errors name row r of the view as first_row + (row_index ? row_index[r] : r).
  std::int64_t first_row = 0;

  template <class T>
  static RowsView dense(MatrixView<const T> x) {
    RowsView view;
    view.dtype = dtype_of<T>::value;
    view.rows = x.rows;
    view.cols = x.cols;
    view.data = x.data;
    view.row_stride = x.stride * static_cast<std::int64_t>(sizeof(T));
    view.col_stride = static_cast<std::int64_t>(sizeof(T));
    return view;
  }
  // indptr: rows + 1 entries of Index, std::int32_t or std::int64_t, as indices are.
  template <class T, class Index>
  static RowsView csr(std::int64_t rows, std::int64_t cols, const Index* indptr, const Index* indices,
                      const T* values) {
    static_assert(std::is_same_v<Index, std::int32_t> || std::is_same_v<Index, std::int64_t>);
    RowsView view;
    view.dtype = dtype_of<T>::value;
    view.rows = rows;
    view.cols = cols;
    view.sparse = true;
    view.index_dtype = std::is_same_v<Index, std::int32_t> ? DType::i32 : DType::i64;
    view.indptr = indptr;
    view.indices = indices;
    view.values = values;
    return view;
  }
  // Rows [begin, begin + count) of this view.
  RowsView slice(std::int64_t begin, std::int64_t count) const;
};

// Checks a CSR structure once, before any row is used: indptr starts at >= 0, never falls and stays below `stored`
// (the length of indices and values); every index of a used row lies in [0, cols). Throws Error{invalid_argument},
// which calls the matrix `name` ("X.indices[3] = -1 is ...").
GRAMIAN_EXPORT void check_csr(const RowsView& x, std::int64_t stored, const char* name = "X");

}  // namespace gramian
