// A symmetric matrix as compiled code multiplies with it: rows, or a Python function of vectors.
#pragma once

#include <memory>
#include <string>

#include "array_in.hpp"
#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/block_map.hpp"
#include "gramian/linalg/ops.hpp"
#include "vector_callback.hpp"

namespace gramian::python {

// A matrix (n x n rows, dense or CSR) or a function, as products with vectors. Made with the GIL.
class MapIn {
 public:
  MapIn(const Exec& exec, const py::object& value, bool flat, const char* name) : value_(value) {
    if (value_.is_none()) return;
    if (PyCallable_Check(value_.ptr()) != 0) {
      map_ = VectorCallback(exec, value_, flat, name);
      return;
    }
    rows_ = std::make_unique<RowsIn>(value_, name);
    const RowsView& view = rows_->view();
    GRAMIAN_REQUIRE(view.rows == view.cols, shape_mismatch,
                    std::string(name) + " must be square, got the shape (" + std::to_string(view.rows) + ", " +
                        std::to_string(view.cols) + ")");
    if (view.sparse) {
      map_ = sparse_map(exec, view);
      return;
    }
    dense_ = Array<double>(exec, view.rows, view.cols);
    load_rows<double>(exec, view, nullptr, nullptr, dense_.view(), name);
    map_ = dense_map(exec, dense_.view());
  }
  MapIn(const MapIn&) = delete;
  MapIn& operator=(const MapIn&) = delete;

  const BlockMap& map() const { return map_; }
  void require_size(std::int64_t n, const char* name) const {
    GRAMIAN_REQUIRE(rows_ == nullptr || rows_->rows() == n, shape_mismatch,
                    std::string(name) + " and b differ in length");
  }

 private:
  const py::object value_;
  std::unique_ptr<RowsIn> rows_;
  Array<double> dense_;
  BlockMap map_;
};

}  // namespace gramian::python
