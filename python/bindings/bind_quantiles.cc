// Quantile predictions in NumPy arrays, which the caller has checked to be finite.
#include "gramian/gram/quantiles.hpp"

#include "array_in.hpp"
#include "array_out.hpp"
#include "bindings.hpp"

namespace gramian::python {
namespace {

py::array_t<double> repaired(const Values& q, bool isotonic, int threads) {
  const MatrixView<const double> in = matrix_in(q, "q");
  const MatrixOut<double> out(in.rows, in.cols);
  std::copy_n(in.data, in.rows * in.cols, out.view().data);
  without_gil([&] {
    repair_quantiles(make_exec("cpu", threads), isotonic ? QuantileRepair::isotonic : QuantileRepair::sort, out.view());
  });
  return out.array();
}

py::array_t<double> weights(const Values& errors, int threads) {
  const MatrixView<const double> in = matrix_in(errors, "errors");
  std::vector<double> out;
  without_gil([&] { out = stacking_weights(make_exec("cpu", threads), in); });
  return vector_out(out);
}

py::array_t<double> order_statistics(const Values& x, const std::vector<std::int64_t>& ranks, int threads) {
  const MatrixView<const double> in = matrix_in(x, "x");
  std::vector<double> out;
  without_gil([&] { out = column_order_statistics(make_exec("cpu", threads), in, ranks); });
  return vector_out(out);
}

}  // namespace

void bind_quantiles(py::module_& module) {
  module.def("repair_quantiles", &repaired, py::arg("q"), py::arg("isotonic"), py::arg("threads"));
  module.def("stacking_weights", &weights, py::arg("errors"), py::arg("threads"));
  module.def("column_order_statistics", &order_statistics, py::arg("x"), py::arg("ranks"), py::arg("threads"));
}

}  // namespace gramian::python
