// Numbers as exact 128-bit integers, for sums under masks.
#include <cstdint>

#include "array_out.hpp"
#include "bindings.hpp"
#include "gramian/core/error.hpp"
#include "gramian/gram/fixed_point.hpp"

namespace gramian::python {
namespace {

using Words = py::array_t<std::uint64_t, py::array::c_style>;

std::int64_t entries(const Words& words) {
  if (words.ndim() != 2 || words.shape(1) != 2) {
    throw Error(ErrorCode::shape_mismatch, "encoded sums must be an array of shape (n, 2)");
  }
  return words.shape(0);
}

py::object encode(const py::array_t<double, py::array::c_style>& values, int fraction_bits, std::int64_t terms) {
  const MatrixOut<std::uint64_t> out(values.size(), 2);
  without_gil([&] { encode_fixed(values.data(), values.size(), fraction_bits, terms, out.view().data); });
  return out.array();
}

// total += sign * words, in place.
void add(const Words& words, int sign, Words& total) {
  const std::int64_t count = entries(words);
  if (entries(total) != count) {
    throw Error(ErrorCode::shape_mismatch, "encoded sums of " + std::to_string(count) + " and " +
                                               std::to_string(entries(total)) + " entries do not add up");
  }
  std::uint64_t* out = total.mutable_data();
  without_gil([&] { add_fixed(words.data(), count, sign, out); });
}

py::object decode(const Words& words, int fraction_bits) {
  const std::int64_t count = entries(words);
  py::array_t<double> out(static_cast<py::ssize_t>(count));
  double* values = out.mutable_data();
  without_gil([&] { decode_fixed(words.data(), count, fraction_bits, values); });
  return out;
}

}  // namespace

void bind_fixed_point(py::module_& module) {
  module.def("encode_fixed", &encode, py::arg("values"), py::arg("fraction_bits"), py::arg("terms"));
  module.def("add_fixed", &add, py::arg("words"), py::arg("sign"), py::arg("total").noconvert());
  module.def("decode_fixed", &decode, py::arg("words"), py::arg("fraction_bits"));
}

}  // namespace gramian::python
