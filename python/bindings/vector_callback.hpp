// A Python function of vectors as compiled code calls it.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

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
    const Values answer = Values::ensure((*function_)(argument));
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

}  // namespace gramian::python
