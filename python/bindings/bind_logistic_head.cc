// Logistic and softmax regression on fixed features.
#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "gramian/core/array.hpp"
#include "gramian/regression/logistic_head.hpp"

namespace gramian::python {
namespace {

// Keeps what the objective borrows.
class LogisticBox {
 public:
  LogisticBox(const py::object& x, const py::object& codes, const py::object& weight, std::int64_t n_classes,
              double ridge, bool intercept, const std::string& device, int threads)
      : exec_(make_exec(device, threads)),
        x_(x, "X"),
        codes_(codes, x_.rows(), "y"),
        weight_(weight, x_.rows(), "sample_weight"),
        objective_(LogisticObjective(exec_, x_.view(), codes_.data(), weight_.data(), n_classes, ridge, intercept)) {
    objective_.read([&](const LogisticObjective& objective) {
      rows_ = objective.rows();
      columns_ = objective.columns();
    });
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }

  py::tuple evaluate(const Values& w) {
    const MatrixView<const double> in = matrix_in(w, "weights");
    const MatrixOut<double> out(in.rows, in.cols);
    double loss = 0;
    objective_.write([&](LogisticObjective& objective) {
      Array<double> x(exec_, in.rows, in.cols), g(exec_, in.rows, in.cols);
      upload<double>(exec_, in, x.view());
      loss = objective.evaluate(x.view(), g.view());
      copy_out<double>(exec_, g.view(), out.view());
    });
    return py::make_tuple(loss, out.array());
  }
  py::object product(const Values& v) {
    const MatrixView<const double> in = matrix_in(v, "v");
    const MatrixOut<double> out(in.rows, in.cols);
    objective_.write([&](LogisticObjective& objective) {
      Array<double> x(exec_, in.rows, in.cols), g(exec_, in.rows, in.cols);
      upload<double>(exec_, in, x.view());
      objective.hessian_times(x.view(), g.view());
      copy_out<double>(exec_, g.view(), out.view());
    });
    return out.array();
  }

 private:
  Exec exec_;
  RowsIn x_;
  VectorIn<std::int64_t> codes_;
  VectorIn<double> weight_;
  Guarded<LogisticObjective> objective_;
  std::int64_t rows_ = 0, columns_ = 0;
};

py::tuple logistic_fit(const py::object& x, const py::object& codes, const py::object& weight, std::int64_t n_classes,
                       const std::string& solver, double ridge, bool intercept, std::int64_t max_iterations, double tol,
                       double rate, std::uint64_t seed, const std::string& device, int threads) {
  const RowsIn rows(x, "X");
  const VectorIn<std::int64_t> labels(codes, rows.rows(), "y");
  const VectorIn<double> weights(weight, rows.rows(), "sample_weight");
  LogisticOptions options;
  options.solver = solver == "newton"       ? LogisticSolver::newton
                   : solver == "adahessian" ? LogisticSolver::adahessian
                                            : LogisticSolver::sophia;
  options.ridge = ridge;
  options.intercept = intercept;
  options.max_iterations = max_iterations;
  options.tol = tol;
  options.rate = rate;
  options.seed = seed;
  LogisticFit fit;
  without_gil([&] {
    fit = fit_logistic(make_exec(device, threads), rows.view(), labels.data(), weights.data(), n_classes, options);
  });
  const std::int64_t columns = n_classes == 2 ? 1 : n_classes;
  const MatrixOut<double> out(static_cast<std::int64_t>(fit.weights.size()) / columns, columns);
  std::copy(fit.weights.begin(), fit.weights.end(), out.view().data);
  py::dict report;
  report["loss"] = fit.loss;
  report["gradient"] = fit.gradient;
  report["iterations"] = fit.iterations;
  report["evaluations"] = fit.evaluations;
  report["products"] = fit.products;
  report["converged"] = fit.converged;
  return py::make_tuple(out.array(), report);
}

py::object scores_of(const py::object& x, const Values& w, bool intercept, const std::string& device, int threads) {
  const RowsIn rows(x, "X");
  const MatrixView<const double> weights = matrix_in(w, "weights");
  const MatrixOut<double> out(rows.rows(), weights.cols);
  without_gil([&] { linear_scores(make_exec(device, threads), rows.view(), weights, intercept, out.view()); });
  return out.array();
}

}  // namespace

void bind_logistic_head(py::module_& module) {
  py::class_<LogisticBox>(module, "LogisticObjective")
      .def(py::init<const py::object&, const py::object&, const py::object&, std::int64_t, double, bool,
                    const std::string&, int>(),
           py::arg("X"), py::arg("codes"), py::arg("weight"), py::arg("n_classes"), py::arg("ridge"),
           py::arg("intercept"), py::arg("device"), py::arg("threads"))
      .def_property_readonly("rows", &LogisticBox::rows)
      .def_property_readonly("columns", &LogisticBox::columns)
      .def("evaluate", &LogisticBox::evaluate, py::arg("weights"))
      .def("product", &LogisticBox::product, py::arg("v"));
  module.def("fit_logistic", &logistic_fit, py::arg("X"), py::arg("codes"), py::arg("weight"), py::arg("n_classes"),
             py::arg("solver"), py::arg("ridge"), py::arg("intercept"), py::arg("max_iterations"), py::arg("tol"),
             py::arg("rate"), py::arg("seed"), py::arg("device"), py::arg("threads"));
  module.def("linear_scores", &scores_of, py::arg("X"), py::arg("weights"), py::arg("intercept"), py::arg("device"),
             py::arg("threads"));
}

}  // namespace gramian::python
