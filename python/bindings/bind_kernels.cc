#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bind_gram.hpp"
#include "gramian/analytic/deep_kernel.hpp"
#include "gramian/analytic/kernel_machine.hpp"
#include "gramian/analytic/singular_kernel.hpp"

namespace gramian::python {
namespace {

DualMap map_in(const std::string& activation, const std::vector<double>& hermite, double bias) {
  if (activation == "relu") return DualMap::relu(bias);
  if (activation == "erf") return DualMap::erf(bias);
  return DualMap::hermite(hermite, bias);
}

std::unique_ptr<DeepKernel> make_kernel(const std::string& activation, const std::vector<double>& hermite, double bias,
                                        std::int64_t depth, bool tangent, double lift) {
  return std::make_unique<DeepKernel>(map_in(activation, hermite, bias), depth,
                                      tangent ? DeepKernel::Kind::ntk : DeepKernel::Kind::nngp, lift);
}

py::object matrix(const DeepKernel& self, const py::object& x, const py::object& y, const std::string& output,
                  const std::string& device, int threads) {
  using Output = DeepKernel::Output;
  const RowsIn rows(x, "X");
  std::unique_ptr<RowsIn> columns;
  if (!y.is_none()) columns = std::make_unique<RowsIn>(y, "Y");
  const MatrixOut<double> out(rows.rows(), columns ? columns->rows() : rows.rows());
  const Output kind = output == "value" ? Output::value : output == "log_abs" ? Output::log_abs : Output::sign;
  without_gil([&] {
    self.matrix(make_exec(device, threads), rows.view(), columns ? &columns->view() : nullptr, kind, out.view());
  });
  return out.array();
}

// A fitted machine and where it computes. It never changes, so readers need no lock.
struct Machine {
  std::string device;
  int threads;
  KernelMachine machine;
};

std::unique_ptr<Machine> fit(const DeepKernel& kernel, const py::object& x, const py::object& y, double ridge,
                             bool centre, const std::string& device, int threads) {
  const RowsIn rows(x, "X");
  const RowsIn targets(y, "y");
  std::unique_ptr<Machine> out;
  without_gil([&] {
    KernelMachine machine(make_exec(device, threads), kernel, rows.view(), targets.view(), ridge, centre);
    out.reset(new Machine{device, threads, std::move(machine)});
  });
  return out;
}

// (n_inputs, unit rows, dual coefficients, target means, ridge), as `restored` takes them.
py::tuple parts(const Machine& self) {
  const KernelMachine& machine = self.machine;
  const MatrixView<const double> rows = machine.unit_rows();
  const MatrixOut<double> rows_out(rows.rows, rows.cols), coef(machine.n_rows(), machine.n_outputs());
  without_gil([&] {
    copy_out<double>(Exec(Device::cpu, 1), rows, rows_out.view());
    copy_out<double>(make_exec(self.device, self.threads), machine.dual_coef(), coef.view());
  });
  return py::make_tuple(machine.n_inputs(), rows_out.array(), coef.array(), vector_out(machine.target_mean()),
                        machine.ridge());
}

std::unique_ptr<Machine> restored(const DeepKernel& kernel, std::int64_t n_inputs,
                                  const py::array_t<double, py::array::c_style>& rows,
                                  const py::array_t<double, py::array::c_style>& coef,
                                  const std::vector<double>& target_mean, double ridge, const std::string& device,
                                  int threads) {
  if (rows.ndim() != 2 || coef.ndim() != 2) throw Error(ErrorCode::shape_mismatch, "rows and coef have 2 dimensions");
  const MatrixView<const double> rows_view(rows.data(), rows.shape(0), rows.shape(1)),
      coef_view(coef.data(), coef.shape(0), coef.shape(1));
  std::unique_ptr<Machine> out;
  without_gil([&] {
    KernelMachine machine(make_exec(device, threads), kernel, n_inputs, rows_view, coef_view, target_mean, ridge);
    out.reset(new Machine{device, threads, std::move(machine)});
  });
  return out;
}

py::object predict(const Machine& self, const py::object& x, bool relative) {
  const RowsIn rows(x, "X");
  const MatrixOut<double> out(rows.rows(), self.machine.n_outputs());
  without_gil([&] { self.machine.predict(make_exec(self.device, self.threads), rows.view(), relative, out.view()); });
  return out.array();
}

py::tuple distribution(const Machine& self, const py::object& x) {
  const RowsIn rows(x, "X");
  const MatrixOut<double> mean(rows.rows(), self.machine.n_outputs()), covariance(rows.rows(), rows.rows());
  without_gil([&] {
    self.machine.distribution(make_exec(self.device, self.threads), rows.view(), mean.view(), covariance.view());
  });
  return py::make_tuple(mean.array(), covariance.array());
}

py::object draw(const py::array_t<double, py::array::c_style>& mean,
                const py::array_t<double, py::array::c_style>& covariance, std::uint64_t seed, std::int64_t first,
                std::int64_t draws, const std::string& device, int threads) {
  if (mean.ndim() != 2 || covariance.ndim() != 2)
    throw Error(ErrorCode::shape_mismatch, "mean and covariance must have 2 dimensions");
  const std::int64_t m = mean.shape(0), c = mean.shape(1);
  const MatrixView<const double> mean_view(mean.data(), m, c),
      covariance_view(covariance.data(), covariance.shape(0), covariance.shape(1));
  const MatrixOut<double> out(draws, m * c);
  without_gil([&] { draw_gaussians(make_exec(device, threads), mean_view, covariance_view, seed, first, out.view()); });
  return out.array();
}

using SingularBox = Guarded<SingularKernel>;

void add(SingularBox& self, const py::object& x, const py::object& codes, const std::string& device, int threads) {
  const RowsIn rows(x, "X");
  const VectorIn<std::int64_t> labels(codes, rows.rows(), "y");
  self.write([&](SingularKernel& model) { model.add(make_exec(device, threads), rows.view(), labels.data()); });
}

void remove(SingularBox& self, const py::object& x, const py::object& codes, const std::string& device, int threads) {
  const RowsIn rows(x, "X");
  const VectorIn<std::int64_t> labels(codes, rows.rows(), "y");
  self.write([&](SingularKernel& model) { model.remove(make_exec(device, threads), rows.view(), labels.data()); });
}

py::object probabilities(const SingularBox& self, const py::object& x, std::int64_t n_classes,
                         const std::string& device, int threads) {
  const RowsIn rows(x, "X");
  const MatrixOut<double> out(rows.rows(), n_classes);
  self.read([&](const SingularKernel& model) {
    model.probabilities(make_exec(device, threads), rows.view(), n_classes, out.view());
  });
  return out.array();
}

// (rows, codes): copies.
py::tuple stored(const SingularBox& self) {
  std::vector<double> rows;
  std::vector<std::int64_t> codes;
  std::int64_t width = 0;
  self.read([&](const SingularKernel& model) {
    rows.assign(model.rows().data, model.rows().data + model.n_rows() * model.n_inputs());
    codes = model.codes();
    width = model.n_inputs();
  });
  const auto n = static_cast<py::ssize_t>(codes.size());
  return py::make_tuple(py::array_t<double>({n, static_cast<py::ssize_t>(width)}, rows.data()), vector_out(codes));
}

// Whether each of the codes 0 .. count - 1 has a row.
std::vector<bool> present(const SingularBox& self, std::int64_t count) {
  std::vector<bool> out(static_cast<std::size_t>(count), false);
  self.read([&](const SingularKernel& model) {
    for (const std::int64_t code : model.codes())
      if (code < count) out[static_cast<std::size_t>(code)] = true;
  });
  return out;
}

std::int64_t n_rows(const SingularBox& self) {
  std::int64_t n = 0;
  self.read([&](const SingularKernel& model) { n = model.n_rows(); });
  return n;
}

}  // namespace

void bind_kernels(py::module_& module) {
  py::class_<DeepKernel>(module, "DeepKernel")
      .def(py::init(&make_kernel), py::arg("activation"), py::arg("hermite"), py::arg("bias"), py::arg("depth"),
           py::arg("tangent"), py::arg("lift"))
      .def_property_readonly("mean", [](const DeepKernel& self) { return self.map().mean(); })
      .def_property_readonly("first", [](const DeepKernel& self) { return self.map().first(); })
      .def_property_readonly("expansion", [](const DeepKernel& self) { return self.map().expansion(); })
      .def(
          "dual", [](const DeepKernel& self, double s) { return self.map().value(s); }, py::arg("xi"))
      .def("matrix", &matrix, py::arg("X"), py::arg("Y"), py::arg("output"), py::arg("device"), py::arg("threads"));
  py::class_<Machine>(module, "KernelMachine")
      .def_static("fit", &fit, py::arg("kernel"), py::arg("X"), py::arg("y"), py::arg("ridge"), py::arg("centre"),
                  py::arg("device"), py::arg("threads"))
      .def_static("restored", &restored, py::arg("kernel"), py::arg("n_inputs"), py::arg("rows"), py::arg("coef"),
                  py::arg("target_mean"), py::arg("ridge"), py::arg("device"), py::arg("threads"))
      .def("parts", &parts)
      .def_property_readonly("n_rows", [](const Machine& self) { return self.machine.n_rows(); })
      .def_property_readonly("report", [](const Machine& self) { return report_out(self.machine.report()); })
      .def("predict", &predict, py::arg("X"), py::arg("relative"))
      .def("distribution", &distribution, py::arg("X"));
  module.def("draw_gaussians", &draw, py::arg("mean"), py::arg("covariance"), py::arg("seed"), py::arg("first"),
             py::arg("draws"), py::arg("device"), py::arg("threads"));
  py::class_<SingularBox>(module, "SingularKernel")
      .def(py::init([](std::int64_t n_inputs, double alpha) {
             return std::make_unique<SingularBox>(SingularKernel(n_inputs, alpha));
           }),
           py::arg("n_inputs"), py::arg("alpha"))
      .def_property_readonly("n_rows", &n_rows)
      .def("add", &add, py::arg("X"), py::arg("codes"), py::arg("device"), py::arg("threads"))
      .def("remove", &remove, py::arg("X"), py::arg("codes"), py::arg("device"), py::arg("threads"))
      .def("probabilities", &probabilities, py::arg("X"), py::arg("n_classes"), py::arg("device"), py::arg("threads"))
      .def("present", &present, py::arg("count"))
      .def("stored", &stored);
}

}  // namespace gramian::python
