// Results -> NumPy arrays.
#pragma once

#include <cstdint>
#include <vector>

#include "bindings.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian::python {

// An uninitialised rows x cols array that NumPy owns; view() is for C++ to fill. Made and destroyed with the GIL.
template <class T>
class MatrixOut {
 public:
  MatrixOut(std::int64_t rows, std::int64_t cols)
      : array_({static_cast<py::ssize_t>(rows), static_cast<py::ssize_t>(cols)}),
        view_(array_.mutable_data(), rows, cols) {}
  MatrixView<T> view() const { return view_; }
  py::array_t<T> array() const { return array_; }

 private:
  py::array_t<T> array_;
  MatrixView<T> view_;
};

template <class T>
py::array_t<T> vector_out(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

inline py::bytes bytes_out(const std::vector<std::uint8_t>& bytes) {
  return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// Rows of a matrix in the memory of `exec` into host memory. Call without the GIL.
template <class T>
void copy_out(const Exec& exec, MatrixView<const T> device, MatrixView<T> host) {
  if (!device.empty()) download<T>(exec, device, host);
}

}  // namespace gramian::python
