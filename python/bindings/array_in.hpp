// Python objects -> borrowed views and labels. Each holds the references that keep the memory alive, so it must be
// made and destroyed with the GIL held.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bindings.hpp"
#include "gramian/core/error.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/gram/label_map.hpp"

namespace gramian::python {

// A 2-D NumPy array of a readable dtype in any layout, or a CSR matrix (anything with data, indices, indptr, shape).
// `name` is the argument as the Python caller knows it.
class RowsIn {
 public:
  RowsIn(const py::object& rows, const char* name);
  const RowsView& view() const { return view_; }
  std::int64_t rows() const { return view_.rows; }

 private:
  void take_dense(const py::array& array, const char* name);
  void take_csr(const py::object& matrix, const char* name);
  std::vector<py::object> owners_;
  RowsView view_;
};

// A contiguous vector of one type and an expected length; None is allowed and has a null data().
template <class T>
class VectorIn {
 public:
  VectorIn(const py::object& values, std::int64_t length, const char* name) {
    if (values.is_none()) return;
    array_ = values.cast<py::array_t<T, py::array::c_style>>();
    if (array_.ndim() != 1 || array_.shape(0) != length) {
      throw Error(ErrorCode::shape_mismatch, std::string(name) + " must be one-dimensional with " +
                                                 std::to_string(length) + " entries, one per row of X");
    }
    data_ = array_.data();
  }
  const T* data() const { return data_; }

 private:
  py::array_t<T, py::array::c_style> array_;
  const T* data_ = nullptr;
};

// What the Python files made contiguous and float64, with 2 dimensions and with 1. The view borrows.
using Values = py::array_t<double, py::array::c_style>;
MatrixView<const double> matrix_in(const Values& values, const char* name);
std::vector<double> vector_in(const Values& values, const char* name);

// kind: "boolean", "integer", "real", "text" or "bytes"; values: a sequence of such.
Labels labels_in(const std::string& kind, const py::object& values);
// (kind, values) as labels_in takes them; kind is "none" for an empty set.
py::tuple labels_out(const Labels& labels);

}  // namespace gramian::python
