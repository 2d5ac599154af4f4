// CSR rows as the kernels take them: without row_index, and in the memory of the device.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/rows_view.hpp"
#include "linalg/call.h"

namespace gramian::linalg {

inline std::int64_t index_at(const void* array, DType type, std::int64_t k) {
  return type == DType::i32 ? static_cast<const std::int32_t*>(array)[k] : static_cast<const std::int64_t*>(array)[k];
}

// The rows that row_index picks, as a CSR matrix of their own. The types stay: a kernel for another index type may
// round differently, and rows must give the same bits however they were picked.
struct PickedCsr {
  std::vector<std::int64_t> wide_indptr{0};
  std::vector<std::int32_t> narrow_indptr{0};
  std::vector<char> indices, values;
  RowsView view;

  explicit PickedCsr(const RowsView& x) : view(x) {
    if (x.row_index == nullptr) return;
    const bool narrow = x.index_dtype == DType::i32;
    const auto append = [](std::vector<char>& to, const void* from, DType type, std::int64_t begin, std::int64_t end) {
      const auto bytes = static_cast<std::int64_t>(size_of(type));
      const char* first = static_cast<const char*>(from);
      to.insert(to.end(), first + begin * bytes, first + end * bytes);
    };
    for (std::int64_t r = 0; r < x.rows; ++r) {
      const std::int64_t begin = index_at(x.indptr, x.index_dtype, x.row_index[r]);
      const std::int64_t end = index_at(x.indptr, x.index_dtype, x.row_index[r] + 1);
      append(indices, x.indices, x.index_dtype, begin, end);
      append(values, x.values, x.dtype, begin, end);
      wide_indptr.push_back(wide_indptr.back() + end - begin);
      if (narrow) narrow_indptr.push_back(static_cast<std::int32_t>(wide_indptr.back()));
    }
    view.row_index = nullptr;
    view.indptr = narrow ? static_cast<const void*>(narrow_indptr.data()) : wide_indptr.data();
    view.indices = indices.data();
    view.values = values.data();
  }
};

// A CSR block on the device: on the host the caller's own arrays, elsewhere copies of the rows in use.
struct DeviceCsr {
  Buffer indptr, indices, values;
  RowsView view;
};

inline DeviceCsr to_device(const Exec& exec, const RowsView& x) {
  DeviceCsr out;
  out.view = x;
  if (exec.table().memory == GRAMIAN_HOST_MEMORY) return out;
  const std::int64_t first = index_at(x.indptr, x.index_dtype, 0), last = index_at(x.indptr, x.index_dtype, x.rows);
  const auto copy = [&](Buffer& buffer, const void* from, std::size_t bytes) {
    buffer = Buffer(exec, bytes);
    GRAMIAN_CALL(exec, upload, std::int64_t{1}, bytes, from, std::int64_t{0}, buffer.data(), std::int64_t{0});
  };
  const auto advanced = [](const void* p, std::int64_t count, DType type) {
    return static_cast<const void*>(static_cast<const char*>(p) + count * static_cast<std::int64_t>(size_of(type)));
  };
  const auto entries = static_cast<std::size_t>(last - first);
  copy(out.indptr, x.indptr, static_cast<std::size_t>(x.rows + 1) * size_of(x.index_dtype));
  copy(out.indices, advanced(x.indices, first, x.index_dtype), entries * size_of(x.index_dtype));
  copy(out.values, advanced(x.values, first, x.dtype), entries * size_of(x.dtype));
  out.view.indptr = out.indptr.data();
  // indptr counts from the beginning of the whole arrays, of which only a piece was copied.
  out.view.indices = advanced(out.indices.data(), -first, x.index_dtype);
  out.view.values = advanced(out.values.data(), -first, x.dtype);
  return out;
}

}  // namespace gramian::linalg
