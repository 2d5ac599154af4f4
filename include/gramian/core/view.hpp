// Borrowed matrices. A view never owns, never copies, and costs nothing to pass by value.
#pragma once

#include <cstdint>

namespace gramian {

// Row-major matrix: element (r, c) is data[r * stride + c], stride >= cols.
template <class T>
struct MatrixView {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;

  MatrixView() = default;
  MatrixView(T* data_, std::int64_t rows_, std::int64_t cols_) : MatrixView(data_, rows_, cols_, cols_) {}
  MatrixView(T* data_, std::int64_t rows_, std::int64_t cols_, std::int64_t stride_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_) {}
  // A mutable view reads as a constant one.
  operator MatrixView<const T>() const { return {data, rows, cols, stride}; }

  T* row(std::int64_t r) const { return data + r * stride; }
  T& operator()(std::int64_t r, std::int64_t c) const { return data[r * stride + c]; }
  // Rows [r, r + count) and columns [c, c + width).
  MatrixView block(std::int64_t r, std::int64_t c, std::int64_t count, std::int64_t width) const {
    return {data + r * stride + c, count, width, stride};
  }
  bool empty() const { return rows == 0 || cols == 0; }
};

}  // namespace gramian
