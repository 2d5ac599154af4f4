#include "array_in.hpp"

#include "gramian/core/error.hpp"

namespace gramian::python {
namespace {

std::string quoted_dtype(const py::dtype& dtype) {
  return py::str(dtype).cast<std::string>();
}

DType dtype_in(const py::dtype& dtype, const char* name) {
  const auto bytes = dtype.itemsize();
  // '=' native, '|' does not apply (single bytes).
  if (dtype.byteorder() == '=' || dtype.byteorder() == '|') {
    switch (dtype.kind()) {
      case 'f':
        if (bytes == 2) return DType::f16;
        if (bytes == 4) return DType::f32;
        if (bytes == 8) return DType::f64;
        break;
      case 'b':
        return DType::boolean;
      case 'u':
        if (bytes == 1) return DType::u8;
        break;
      case 'i':
        if (bytes == 2) return DType::i16;
        if (bytes == 4) return DType::i32;
        if (bytes == 8) return DType::i64;
        break;
      default:
        break;
    }
  }
  throw Error(ErrorCode::wrong_dtype,
              std::string(name) + " has dtype " + quoted_dtype(dtype) + ", which is not read; convert it to float64");
}

// One of the three arrays of a CSR matrix.
py::array csr_part(const py::object& matrix, const char* part, const char* name) {
  const py::object value = matrix.attr(part);
  if (!py::isinstance<py::array>(value)) {
    throw Error(ErrorCode::wrong_dtype, std::string(name) + "." + part + " must be a NumPy array");
  }
  const auto array = py::reinterpret_borrow<py::array>(value);
  if (array.ndim() != 1 || (array.flags() & py::array::c_style) == 0) {
    throw Error(ErrorCode::invalid_argument, std::string(name) + "." + part + " must be one contiguous vector");
  }
  return array;
}

}  // namespace

RowsIn::RowsIn(const py::object& rows, const char* name) {
  if (py::isinstance<py::array>(rows)) {
    take_dense(py::reinterpret_borrow<py::array>(rows), name);
  } else if (py::hasattr(rows, "indptr")) {
    take_csr(rows, name);
  } else {
    throw Error(ErrorCode::wrong_dtype, std::string(name) + " must be a NumPy array or a CSR matrix");
  }
}

void RowsIn::take_dense(const py::array& array, const char* name) {
  if (array.ndim() != 2) {
    throw Error(ErrorCode::shape_mismatch,
                std::string(name) + " must have 2 dimensions, not " + std::to_string(array.ndim()));
  }
  view_.dtype = dtype_in(array.dtype(), name);
  view_.rows = array.shape(0);
  view_.cols = array.shape(1);
  view_.data = array.data();
  view_.row_stride = array.strides(0);
  view_.col_stride = array.strides(1);
  owners_.push_back(array);
}

void RowsIn::take_csr(const py::object& matrix, const char* name) {
  const auto shape = matrix.attr("shape").cast<std::pair<std::int64_t, std::int64_t>>();
  const py::array values = csr_part(matrix, "data", name);
  const py::array indices = csr_part(matrix, "indices", name);
  const py::array indptr = csr_part(matrix, "indptr", name);
  view_.sparse = true;
  view_.rows = shape.first;
  view_.cols = shape.second;
  view_.dtype = dtype_in(values.dtype(), name);
  view_.index_dtype = dtype_in(indices.dtype(), name);
  const bool index_type = view_.index_dtype == DType::i32 || view_.index_dtype == DType::i64;
  if (!index_type || dtype_in(indptr.dtype(), name) != view_.index_dtype) {
    throw Error(ErrorCode::wrong_dtype, std::string(name) + ".indices and .indptr must both be int32 or both be int64");
  }
  if (view_.rows < 0 || view_.cols < 0 || indptr.size() != view_.rows + 1) {
    throw Error(ErrorCode::invalid_argument, std::string(name) + ".indptr has " + std::to_string(indptr.size()) +
                                                 " entries for " + std::to_string(view_.rows) + " rows");
  }
  if (indices.size() != values.size()) {
    throw Error(ErrorCode::invalid_argument, std::string(name) + ".indices and .data differ in length");
  }
  view_.values = values.data();
  view_.indices = indices.data();
  view_.indptr = indptr.data();
  owners_.insert(owners_.end(), {values, indices, indptr});
  const auto stored = static_cast<std::int64_t>(indices.size());
  without_gil([&] { check_csr(view_, stored, name); });
}

MatrixView<const double> matrix_in(const Values& values, const char* name) {
  GRAMIAN_REQUIRE(values.ndim() == 2, shape_mismatch, std::string(name) + " must have 2 dimensions");
  return {values.data(), static_cast<std::int64_t>(values.shape(0)), static_cast<std::int64_t>(values.shape(1))};
}

std::vector<double> vector_in(const Values& values, const char* name) {
  GRAMIAN_REQUIRE(values.ndim() == 1, shape_mismatch, std::string(name) + " must have 1 dimension");
  return {values.data(), values.data() + values.size()};
}

Labels labels_in(const std::string& kind, const py::object& values) {
  Labels labels;
  if (kind == "boolean" || kind == "integer") {
    labels = Labels::integers(values.cast<std::vector<std::int64_t>>());
    if (kind == "boolean") labels.kind = Labels::Kind::boolean;
  } else if (kind == "real") {
    labels = Labels::reals(values.cast<std::vector<double>>());
  } else if (kind == "text" || kind == "bytes") {
    // std::string takes str as UTF-8 and bytes as they are.
    labels = Labels::texts(values.cast<std::vector<std::string>>());
    if (kind == "bytes") labels.kind = Labels::Kind::bytes;
  } else {
    throw Error(ErrorCode::invalid_argument, "unknown kind of labels: " + kind);
  }
  return labels;
}

py::tuple labels_out(const Labels& labels) {
  switch (labels.kind) {
    case Labels::Kind::boolean:
    case Labels::Kind::integer:
      return py::make_tuple(labels.kind == Labels::Kind::boolean ? "boolean" : "integer",
                            py::cast(std::get<std::vector<std::int64_t>>(labels.values)));
    case Labels::Kind::real:
      return py::make_tuple("real", py::cast(std::get<std::vector<double>>(labels.values)));
    case Labels::Kind::text:
      return py::make_tuple("text", py::cast(std::get<std::vector<std::string>>(labels.values)));
    case Labels::Kind::bytes: {
      py::list values;
      for (const std::string& value : std::get<std::vector<std::string>>(labels.values))
        values.append(py::bytes(value));
      return py::make_tuple("bytes", values);
    }
    case Labels::Kind::none:
      break;
  }
  return py::make_tuple("none", py::list());
}

}  // namespace gramian::python
