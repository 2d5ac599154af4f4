// A tensor of a model file -> a NumPy array with a copy of it.
#pragma once

#include "bindings.hpp"
#include "gramian/io/model_file.hpp"

namespace gramian::python {

inline py::array tensor_out(const TensorView& tensor) {
  const std::vector<py::ssize_t> shape(tensor.shape.begin(), tensor.shape.end());
  switch (tensor.type) {
    case TensorType::f64:
      return py::array_t<double>(shape, tensor.f64());
    case TensorType::f32:
      return py::array_t<float>(shape, tensor.f32());
    case TensorType::i64:
      return py::array_t<std::int64_t>(shape, tensor.i64());
    case TensorType::u8:
      break;
  }
  return py::array_t<std::uint8_t>(shape, tensor.u8());
}

}  // namespace gramian::python
