// Softmax regression.
#include "array_in.hpp"
#include "array_out.hpp"
#include "gramian/core/array.hpp"
#include "gramian/linalg/inverse_update.hpp"
#include "gramian/regression/softmax_regression.hpp"

namespace gramian::python {
namespace {

class SoftmaxBox {
 public:
  SoftmaxBox(const py::object& a, const Values& b, double ridge, const std::string& device, int threads)
      : exec_(make_exec(device, threads)), a_(a, "A"), b_(vector_in(b, "b")), ridge_(ridge) {
    GRAMIAN_REQUIRE(static_cast<std::int64_t>(b_.size()) == a_.rows(), shape_mismatch,
                    "A has " + std::to_string(a_.rows()) + " rows, b has " + std::to_string(b_.size()) + " entries");
  }

  // loss, gradient, softmax(A x), and the Hessian and its Gauss-Newton part where asked for.
  py::tuple evaluate(const Values& x, bool curvature) const {
    const std::vector<double> point = vector_in(x, "x");
    std::vector<double> gradient, f;
    double loss = 0;
    const std::int64_t d = curvature ? a_.view().cols : 0;
    const MatrixOut<double> h(d, d), gn(d, d);
    without_gil([&] {
      SoftmaxObjective objective(exec_, a_.view(), b_.data(), ridge_);
      loss = objective.evaluate(point, gradient);
      f = objective.probabilities();
      if (!curvature) return;
      Array<double> square(exec_, d, d);
      symmetric_to_dense(exec_, objective.hessian(), square.view());
      copy_out<double>(exec_, square.view(), h.view());
      symmetric_to_dense(exec_, objective.gauss_newton(), square.view());
      copy_out<double>(exec_, square.view(), gn.view());
    });
    return py::make_tuple(loss, vector_out(gradient), vector_out(f), h.array(), gn.array());
  }

  py::tuple start() const {
    std::vector<double> x;
    std::int64_t left_out = 0;
    without_gil([&] { left_out = softmax_start(exec_, a_.view(), b_.data(), x); });
    return py::make_tuple(vector_out(x), left_out);
  }

  py::tuple fit(const Values& x0, std::int64_t max_iterations, double tol) const {
    SoftmaxFitOptions options;
    options.ridge = ridge_;
    options.max_iterations = max_iterations;
    options.tol = tol;
    const std::vector<double> start = vector_in(x0, "x0");
    SoftmaxFit found;
    without_gil([&] { found = fit_softmax(exec_, a_.view(), b_.data(), start, options); });
    py::dict report;
    report["loss"] = found.loss;
    report["start_loss"] = found.start_loss;
    report["gradient"] = found.gradient;
    report["iterations"] = found.iterations;
    report["gauss_newton_steps"] = found.gauss_newton_steps;
    report["converged"] = found.converged;
    return py::make_tuple(vector_out(found.x), report);
  }

 private:
  Exec exec_;
  RowsIn a_;
  std::vector<double> b_;
  double ridge_;
};

}  // namespace

void bind_softmax_regression(py::module_& module) {
  py::class_<SoftmaxBox>(module, "SoftmaxObjective")
      .def(py::init<const py::object&, const Values&, double, const std::string&, int>(), py::arg("A"), py::arg("b"),
           py::arg("ridge"), py::arg("device"), py::arg("threads"))
      .def("evaluate", &SoftmaxBox::evaluate, py::arg("x"), py::arg("curvature"))
      .def("start", &SoftmaxBox::start)
      .def("fit", &SoftmaxBox::fit, py::arg("x0"), py::arg("max_iterations"), py::arg("tol"));
}

}  // namespace gramian::python
