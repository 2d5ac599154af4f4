// A Python function of vectors as compiled code calls it.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "array_out.hpp"
#include "bindings.hpp"
#include "gramian/core/error.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian::python {

// Copies of it are free and need no GIL: the function belongs to the binding's frame, which outlives them.
class VectorCallback {
 public:
  // flat: one vector of shape (n,) a call; else all of a call at once, shape (n, k).
  VectorCallback(const Exec& exec, const py::object& function, bool flat, const char* name)
      : exec_(&exec), function_(&function), flat_(flat), name_(name) {}

  // in, out: k x n on the device. Call without the GIL.
  void operator()(MatrixView<const double> in, MatrixView<double> out) const {
    std::vector<double> host(static_cast<std::size_t>(in.rows * in.cols));
    const MatrixView<double> rows(host.data(), in.rows, in.cols);
    download<double>(*exec_, in, rows);
    {
      py::gil_scoped_acquire gil;
      if (flat_) {
        for (std::int64_t r = 0; r < in.rows; ++r) ask(rows.block(r, 0, 1, in.cols));
      } else {
        ask(rows);
      }
    }
    upload<double>(*exec_, rows, out);
  }

  // The same for one host vector.
  void on_host(const double* in, std::int64_t n, double* out) const {
    py::gil_scoped_acquire gil;
    std::copy_n(in, n, out);
    ask({out, 1, n});
  }

 private:
  using Values = py::array_t<double, py::array::c_style | py::array::forcecast>;

  void ask(MatrixView<double> rows) const {
    const auto k = static_cast<py::ssize_t>(rows.rows), n = static_cast<py::ssize_t>(rows.cols);
    py::array_t<double> sent({k, n});
    std::copy_n(rows.data, rows.rows * rows.cols, sent.mutable_data());
    const py::object argument = flat_ ? py::object(sent.reshape({n})) : py::object(sent.attr("T"));
    const py::object given = (*function_)(argument);
    const py::array any = py::array::ensure(given);
    if (any && any.dtype().kind() == 'c') {
      throw Error(ErrorCode::wrong_dtype, std::string(name_) + " must return real numbers, not complex ones");
    }
    const Values answer = Values::ensure(given);
    if (!answer) throw Error(ErrorCode::wrong_dtype, std::string(name_) + " must return an array of numbers");
    const bool fits = flat_ ? answer.ndim() == 1 && answer.shape(0) == n
                            : answer.ndim() == 2 && answer.shape(0) == n && answer.shape(1) == k;
    if (!fits) {
      throw Error(ErrorCode::shape_mismatch, std::string(name_) + " must return an array of the shape it receives, (" +
                                                 std::to_string(n) + (flat_ ? ",)" : ", " + std::to_string(k) + ")"));
    }
    for (std::int64_t r = 0; r < rows.rows; ++r)
      for (std::int64_t c = 0; c < rows.cols; ++c) rows(r, c) = answer.data()[flat_ ? c : c * rows.rows + r];
  }

  const Exec* exec_;
  const py::object* function_;
  bool flat_;
  const char* name_;
};

// A Python function of a float64 matrix as one half of a linear map.
inline std::function<void(MatrixView<const double>, MatrixView<double>)> products_of(const py::function& function,
                                                                                     const char* name) {
  return [&function, name](MatrixView<const double> x, MatrixView<double> out) {
    const py::gil_scoped_acquire hold;
    // A copy: the function may keep what it is given.
    const MatrixOut<double> argument(x.rows, x.cols);
    for (std::int64_t r = 0; r < x.rows; ++r) std::copy_n(x.row(r), x.cols, argument.view().row(r));
    const py::array_t<double, py::array::c_style | py::array::forcecast> values(function(argument.array()));
    GRAMIAN_REQUIRE(values.ndim() == 2 && values.shape(0) == out.rows && values.shape(1) == out.cols, shape_mismatch,
                    std::string(name) + " must give an array of shape (" + std::to_string(out.rows) + ", " +
                        std::to_string(out.cols) + ")");
    for (std::int64_t r = 0; r < out.rows; ++r) std::copy_n(values.data(r, 0), out.cols, out.row(r));
  };
}

}  // namespace gramian::python
