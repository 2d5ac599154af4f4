// Owned memory of one device. Moves, never copies by itself, and is counted: tests prove what was never allocated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

// 64-byte aligned, uninitialised memory on the device of `exec`, kept alive together with the device's state.
class GRAMIAN_EXPORT Buffer {
 public:
  Buffer() = default;
  Buffer(const Exec& exec, std::size_t bytes);  // throws Error{out_of_memory} naming the size
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void release() noexcept;
  Exec exec_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// A row-major matrix (or a vector: one row) with no gap between rows.
template <class T>
class Array {
 public:
  Array() = default;
  Array(const Exec& exec, std::int64_t rows, std::int64_t cols)
      : buffer_(exec, bytes_of(rows, cols)), rows_(rows), cols_(cols) {}
  Array(const Exec& exec, std::int64_t size) : Array(exec, 1, size) {}

  T* data() const { return static_cast<T*>(buffer_.data()); }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  std::int64_t size() const { return rows_ * cols_; }
  MatrixView<T> view() const { return {data(), rows_, cols_}; }

 private:
  // A product that does not fit becomes a size that no allocator grants, and so an Error{out_of_memory}.
  static std::size_t bytes_of(std::int64_t rows, std::int64_t cols) {
    const auto limit = static_cast<std::int64_t>(PTRDIFF_MAX / sizeof(T));
    return cols > 0 && rows > limit / cols ? SIZE_MAX : static_cast<std::size_t>(rows * cols) * sizeof(T);
  }
  Buffer buffer_;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
};

// What all Buffers of the process hold and held, in bytes, since the last reset.
struct MemoryStats {
  std::size_t live = 0;
  std::size_t peak = 0;
  std::size_t largest = 0;  // the largest single allocation
  std::size_t count = 0;    // allocations
};
GRAMIAN_EXPORT MemoryStats memory_stats();
// Sets peak to live, largest and count to 0.
GRAMIAN_EXPORT void reset_memory_stats();

}  // namespace gramian
