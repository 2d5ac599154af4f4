// The mergeable triangle of least squares.
#include <algorithm>
#include <memory>
#include <optional>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bindings.hpp"
#include "gramian/core/error.hpp"
#include "gramian/gram/r_factor.hpp"
#include "model_files.hpp"

namespace gramian::python {
namespace {

using Box = Guarded<RFactor>;

// target_dims: of y as the caller has it; once 2, always 2.
void add(Box& self, const py::object& x, const py::object& y, const py::object& weight, int target_dims) {
  const RowsIn rows(x, "X");
  std::optional<RowsIn> targets;
  if (!y.is_none()) targets.emplace(y, "Y");
  const VectorIn<double> weights(weight, rows.rows(), "sample_weight");
  RowsView none;
  none.rows = rows.rows();
  self.write([&](RFactor& r) {
    r.add(rows.view(), targets ? targets->view() : none, weights.data());
    r.set_target_dims(std::max(r.target_dims(), target_dims));
  });
}

py::array triangle(const Box& self) {
  std::vector<double> values;
  std::int64_t size = 0;
  self.read([&](const RFactor& r) {
    size = r.n_features() + r.n_outputs();
    values.resize(static_cast<std::size_t>(size * size));
    r.triangle({values.data(), size, size});
  });
  return vector_out(values).reshape({static_cast<py::ssize_t>(size), static_cast<py::ssize_t>(size)});
}

// (x, residual norms, rank, condition)
py::tuple solve(const Box& self, double rtol, double ridge) {
  TriangularSolution out;
  std::int64_t d = 0, k = 0;
  self.read([&](const RFactor& r) {
    d = r.n_features();
    k = r.n_outputs();
    out = r.solve(rtol, ridge);
  });
  return py::make_tuple(vector_out(out.x).reshape({static_cast<py::ssize_t>(d), static_cast<py::ssize_t>(k)}),
                        vector_out(out.residual_norms), out.rank, out.condition);
}

}  // namespace

void bind_r_factor(py::module_& module) {
  py::class_<Box> box(module, "RFactor");
  box.def(py::init([](std::int64_t n_features, std::int64_t n_outputs, const std::string& device, int threads) {
            return std::make_unique<Box>(RFactor(make_exec(device, threads), n_features, n_outputs));
          }),
          py::arg("n_features"), py::arg("n_outputs"), py::arg("device"), py::arg("threads"))
      .def_property_readonly("n_features", getter<RFactor>([](const auto& r) { return r.n_features(); }))
      .def_property_readonly("n_outputs", getter<RFactor>([](const auto& r) { return r.n_outputs(); }))
      .def_property_readonly("n_rows", getter<RFactor>([](const auto& r) { return r.n_rows(); }))
      .def_property_readonly("nbytes", getter<RFactor>([](const auto& r) { return r.bytes(); }))
      .def_property_readonly("target_dims", getter<RFactor>([](const auto& r) { return r.target_dims(); }))
      .def(
          "set_target_dims", [](Box& self, int dims) { self.write([&](RFactor& r) { r.set_target_dims(dims); }); },
          py::arg("dims"))
      .def("add", &add, py::arg("X"), py::arg("Y"), py::arg("weight"), py::arg("target_dims"))
      .def(
          "merge",
          [](Box& self, const Box& other) {
            self.write_with(other, [](RFactor& mine, const RFactor& theirs) { mine.merge(theirs); });
          },
          py::arg("other"))
      .def("triangle", &triangle)
      .def("solve", &solve, py::arg("rtol"), py::arg("ridge"));
  def_state_files(box, "r_factor");
}

}  // namespace gramian::python
