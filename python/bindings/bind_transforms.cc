#include "bindings.hpp"
#include "gramian/core/error.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/softmax.hpp"
#include "gramian/linalg/transforms.hpp"

namespace gramian::python {
namespace {

// Arrays of three dimensions, (outer, length, inner), without gaps: an array of any dimensions seen from one axis.
struct Shape3 {
  std::int64_t outer, length, inner;
  explicit Shape3(const py::array& array, const char* name) {
    GRAMIAN_REQUIRE(array.ndim() == 3 && (array.flags() & py::array::c_style) != 0, shape_mismatch,
                    std::string(name) + " must have three dimensions and no gaps");
    outer = static_cast<std::int64_t>(array.shape(0));
    length = static_cast<std::int64_t>(array.shape(1));
    inner = static_cast<std::int64_t>(array.shape(2));
  }
};

// body(zero) with zero of the arrays' type, float or double; both must have it.
template <class Body>
void with_type(const py::array& x, const py::array& out, const Body& body) {
  if (py::isinstance<py::array_t<float>>(x) && py::isinstance<py::array_t<float>>(out)) {
    body(float());
  } else if (py::isinstance<py::array_t<double>>(x) && py::isinstance<py::array_t<double>>(out)) {
    body(double());
  } else {
    throw Error(ErrorCode::wrong_dtype, "x and out must both be float32 or both be float64");
  }
}

void fwht(const py::array& x, py::array& out, double scale, int threads) {
  const Shape3 from(x, "x"), to(out, "out");
  GRAMIAN_REQUIRE(from.outer == to.outer && from.length == to.length && from.inner == to.inner, shape_mismatch,
                  "x and out differ in shape");
  const Exec exec = make_exec("cpu", threads);
  with_type(x, out, [&](auto zero) {
    using T = decltype(zero);
    const auto* source = static_cast<const T*>(x.data());
    auto* target = static_cast<T*>(out.mutable_data());
    without_gil([&] {
      if (from.inner == 1) {
        walsh_hadamard_rows<T>(exec, scale, {source, from.outer, from.length}, {target, to.outer, to.length});
        return;
      }
      GRAMIAN_REQUIRE(source == target, internal, "columns are transformed in place");
      walsh_hadamard_columns<T>(exec, scale, to.length, {target, to.outer * to.length, to.inner});
    });
  });
}

// out has length 1 for the logarithm of the sum.
void softmax(const py::array& x, py::array& out, const std::string& what, bool subnormals, int passes, int threads) {
  const Shape3 from(x, "x"), to(out, "out");
  const Softmax kind = what == "softmax"       ? Softmax::probabilities
                       : what == "log_softmax" ? Softmax::logarithms
                                               : Softmax::log_sum;
  const std::int64_t length = kind == Softmax::log_sum ? 1 : from.length;
  GRAMIAN_REQUIRE(from.outer == to.outer && length == to.length && from.inner == to.inner, shape_mismatch,
                  "the shape of out does not fit x");
  SoftmaxOptions options;
  options.subnormals = subnormals;
  options.passes = passes;
  const Exec exec = make_exec("cpu", threads);
  with_type(x, out, [&](auto zero) {
    using T = decltype(zero);
    const auto* source = static_cast<const T*>(x.data());
    auto* target = static_cast<T*>(out.mutable_data());
    without_gil([&] {
      if (from.inner == 1) {
        softmax_rows<T>(exec, kind, options, {source, from.outer, from.length}, {target, to.outer, to.length});
      } else {
        softmax_columns<T>(exec, kind, options, from.length, {source, from.outer * from.length, from.inner},
                           {target, to.outer * to.length, to.inner});
      }
    });
  });
}

}  // namespace

void bind_transforms(py::module_& module) {
  module.def("fwht", &fwht, py::arg("x"), py::arg("out"), py::arg("scale"), py::arg("threads"));
  module.def("softmax", &softmax, py::arg("x"), py::arg("out"), py::arg("what"), py::arg("subnormals"),
             py::arg("passes"), py::arg("threads"));
}

}  // namespace gramian::python
