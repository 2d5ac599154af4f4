// Second-order engines: running inverses, inverse Fisher products, diagonal steps and the heads that use them.
#include <memory>
#include <utility>

#include "array_in.hpp"
#include "array_out.hpp"
#include "gramian/linalg/inverse_update.hpp"
#include "gramian/regression/diagonal_steps.hpp"
#include "gramian/regression/kronecker_inverse.hpp"
#include "gramian/regression/logistic_head.hpp"
#include "gramian/regression/mfac.hpp"
#include "gramian/regression/softmax_regression.hpp"
#include "vector_callback.hpp"

namespace gramian::python {
namespace {

using Values = py::array_t<double, py::array::c_style>;

MatrixView<const double> matrix_in(const Values& values, const char* name) {
  GRAMIAN_REQUIRE(values.ndim() == 2, shape_mismatch, std::string(name) + " must have 2 dimensions");
  return {values.data(), static_cast<std::int64_t>(values.shape(0)), static_cast<std::int64_t>(values.shape(1))};
}

std::vector<double> vector_in(const Values& values, const char* name) {
  GRAMIAN_REQUIRE(values.ndim() == 1, shape_mismatch, std::string(name) + " must have 1 dimension");
  return {values.data(), values.data() + values.size()};
}

Array<double> on_device(const Exec& exec, const RowsIn& rows, const char* name) {
  Array<double> out(exec, rows.rows(), rows.view().cols);
  load_rows<double>(exec, rows.view(), nullptr, nullptr, out.view(), name);
  return out;
}

// --- running inverses ----------------------------------------------------------------------------------------------

struct InverseBox {
  Exec exec;
  Guarded<RunningInverse> model;
};

std::unique_ptr<InverseBox> make_inverse(std::int64_t d, double diagonal, double max_trace, bool keep_matrix,
                                         std::int64_t check_every, double refresh_above, const std::string& device,
                                         int threads) {
  const Exec exec = make_exec(device, threads);
  RunningInverseOptions options;
  options.max_trace = max_trace;
  options.keep_matrix = keep_matrix;
  options.check_every = check_every;
  options.refresh_above = refresh_above;
  return std::unique_ptr<InverseBox>(
      new InverseBox{exec, Guarded<RunningInverse>(RunningInverse(exec, d, diagonal, options))});
}

void inverse_update(InverseBox& self, const py::object& x, double forgetting, double weight, bool one_by_one) {
  const RowsIn rows(x, "X");
  self.model.write([&](RunningInverse& model) {
    const Array<double> values = on_device(self.exec, rows, "X");
    if (!one_by_one) return model.update(forgetting, weight, values.view());
    GRAMIAN_REQUIRE(values.cols() == model.size(), shape_mismatch,
                    "X has " + std::to_string(values.cols()) + " features, expected " + std::to_string(model.size()));
    for (std::int64_t r = 0; r < values.rows(); ++r) {
      self.exec.poll();
      model.update(forgetting, weight, values.view().block(r, 0, 1, values.cols()));
    }
  });
}

py::object inverse_multiply(const InverseBox& self, const py::object& x) {
  const RowsIn rows(x, "X");
  const MatrixOut<double> out(rows.rows(), rows.view().cols);
  self.model.read([&](const RunningInverse& model) {
    const Array<double> values = on_device(self.exec, rows, "X");
    Array<double> product(self.exec, values.rows(), values.cols());
    model.multiply(values.view(), product.view());
    copy_out<double>(self.exec, product.view(), out.view());
  });
  return out.array();
}

py::object inverse_matrix(const InverseBox& self) {
  std::int64_t d = 0;
  self.model.read([&](const RunningInverse& model) { d = model.size(); });
  const MatrixOut<double> out(d, d);
  self.model.read([&](const RunningInverse& model) {
    Array<double> square(self.exec, d, d);
    symmetric_to_dense(self.exec, model.inverse(), square.view());
    copy_out<double>(self.exec, square.view(), out.view());
  });
  return out.array();
}

// States are dicts: numbers, and arrays of the caller's.
std::vector<double> array_at(const py::dict& state, const char* name) {
  return vector_in(state[name].cast<Values>(), name);
}

py::dict dict_of(const RunningInverseState& state) {
  py::dict out;
  out["inverse"] = vector_out(state.inverse);
  out["matrix"] = vector_out(state.matrix);
  out["updates"] = state.updates;
  out["held_back"] = state.held_back;
  out["refreshes"] = state.refreshes;
  return out;
}

RunningInverseState inverse_state_of(const py::dict& state) {
  return {array_at(state, "inverse"), array_at(state, "matrix"), state["updates"].cast<std::int64_t>(),
          state["held_back"].cast<std::int64_t>(), state["refreshes"].cast<std::int64_t>()};
}

py::dict inverse_state(const InverseBox& self) {
  RunningInverseState state;
  self.model.read([&](const RunningInverse& model) { state = model.state(); });
  return dict_of(state);
}

void inverse_restore(InverseBox& self, const py::dict& given) {
  const RunningInverseState state = inverse_state_of(given);
  self.model.write([&](RunningInverse& model) { model.restore(state); });
}

// --- Kronecker factors ---------------------------------------------------------------------------------------------

struct KroneckerBox {
  Exec exec;
  Guarded<KroneckerInverse> model;
};

std::unique_ptr<KroneckerBox> make_kronecker(std::int64_t n_out, std::int64_t n_in, bool paper, double decay,
                                             double limit, double stabilisation, double max_trace,
                                             const std::string& device, int threads) {
  const Exec exec = make_exec(device, threads);
  KroneckerInverseOptions options;
  options.mode = paper ? KroneckerInverseOptions::Mode::paper : KroneckerInverseOptions::Mode::exact;
  options.decay = decay;
  options.limit = limit;
  options.stabilisation = stabilisation;
  options.max_trace = max_trace;
  return std::unique_ptr<KroneckerBox>(
      new KroneckerBox{exec, Guarded<KroneckerInverse>(KroneckerInverse(exec, n_out, n_in, options))});
}

void kronecker_update(KroneckerBox& self, const py::object& l, const py::object& r) {
  const RowsIn left(l, "output_gradient"), right(r, "activation");
  self.model.write([&](KroneckerInverse& model) {
    const Array<double> a = on_device(self.exec, left, "output_gradient"),
                        b = on_device(self.exec, right, "activation");
    model.update(a.view(), b.view());
  });
}

py::object kronecker_precondition(const KroneckerBox& self, const py::object& gradient) {
  const RowsIn rows(gradient, "gradient");
  const MatrixOut<double> out(rows.rows(), rows.view().cols);
  self.model.read([&](const KroneckerInverse& model) {
    const Array<double> g = on_device(self.exec, rows, "gradient");
    model.precondition(g.view());
    copy_out<double>(self.exec, g.view(), out.view());
  });
  return out.array();
}

py::object kronecker_factor(const KroneckerBox& self, bool left) {
  std::int64_t d = 0;
  const auto factor = [&](const KroneckerInverse& model) -> const RunningInverse& {
    return left ? model.left() : model.right();
  };
  self.model.read([&](const KroneckerInverse& model) { d = factor(model).size(); });
  const MatrixOut<double> out(d, d);
  self.model.read([&](const KroneckerInverse& model) {
    Array<double> square(self.exec, d, d);
    symmetric_to_dense(self.exec, factor(model).inverse(), square.view());
    copy_out<double>(self.exec, square.view(), out.view());
  });
  return out.array();
}

py::dict kronecker_state(const KroneckerBox& self) {
  KroneckerInverseState state;
  self.model.read([&](const KroneckerInverse& model) { state = model.state(); });
  py::dict out;
  out["left"] = dict_of(state.left);
  out["right"] = dict_of(state.right);
  out["resets"] = state.resets;
  out["reset_next"] = state.reset_next;
  return out;
}

void kronecker_restore(KroneckerBox& self, const py::dict& given) {
  const KroneckerInverseState state{inverse_state_of(given["left"].cast<py::dict>()),
                                    inverse_state_of(given["right"].cast<py::dict>()),
                                    given["resets"].cast<std::int64_t>(), given["reset_next"].cast<bool>()};
  self.model.write([&](KroneckerInverse& model) { model.restore(state); });
}

// --- M-FAC ---------------------------------------------------------------------------------------------------------

using MfacBox = Guarded<Mfac>;

std::unique_ptr<MfacBox> make_mfac(std::int64_t capacity, std::int64_t n_params, double ridge, bool narrow,
                                   bool dynamic, const std::string& device, int threads) {
  MfacOptions options;
  options.ridge = ridge;
  options.storage = narrow ? DType::f32 : DType::f64;
  options.dynamic = dynamic;
  return std::make_unique<MfacBox>(Mfac(make_exec(device, threads), capacity, n_params, options));
}

void mfac_push(MfacBox& self, const py::object& gradients) {
  const RowsIn rows(gradients, "gradients");
  self.write([&](Mfac& model) { model.push(rows.view()); });
}

void mfac_replace(MfacBox& self, std::int64_t age, const py::object& gradient) {
  const RowsIn rows(gradient, "gradients");
  self.write([&](Mfac& model) { model.replace(age, rows.view()); });
}

py::object mfac_solve(const MfacBox& self, const Values& v) {
  const MatrixView<const double> in = matrix_in(v, "v");
  const MatrixOut<double> out(in.rows, in.cols);
  std::copy_n(in.data, in.rows * in.cols, out.view().data);
  self.read([&](const Mfac& model) { model.solve(out.view()); });
  return out.array();
}

py::object mfac_diagonal(const MfacBox& self) {
  std::vector<double> out;
  self.read([&](const Mfac& model) {
    out.resize(static_cast<std::size_t>(model.n_params()));
    model.diagonal(out.data());
  });
  return vector_out(out);
}

py::object mfac_block(const MfacBox& self, const std::vector<std::int64_t>& indices) {
  const auto q = static_cast<std::int64_t>(indices.size());
  const MatrixOut<double> out(q, q);
  self.read([&](const Mfac& model) { model.block(indices, out.view()); });
  return out.array();
}

py::dict mfac_state(const MfacBox& self) {
  MfacState state;
  self.read([&](const Mfac& model) { state = model.state(); });
  py::dict out;
  out["head"] = state.head;
  out["size"] = state.size;
  out["since_refresh"] = state.since_refresh;
  out["refreshes"] = state.refreshes;
  out["wide"] = vector_out(state.wide);
  out["narrow"] = vector_out(state.narrow);
  out["products"] = vector_out(state.products);
  out["factor"] = vector_out(state.factor);
  return out;
}

void mfac_restore(MfacBox& self, const py::dict& given) {
  const auto narrow = given["narrow"].cast<py::array_t<float, py::array::c_style>>();
  MfacState state;
  state.head = given["head"].cast<std::int64_t>();
  state.size = given["size"].cast<std::int64_t>();
  state.since_refresh = given["since_refresh"].cast<std::int64_t>();
  state.refreshes = given["refreshes"].cast<std::int64_t>();
  state.wide = array_at(given, "wide");
  state.narrow.assign(narrow.data(), narrow.data() + narrow.size());
  state.products = array_at(given, "products");
  state.factor = array_at(given, "factor");
  self.write([&](Mfac& model) { model.restore(state); });
}

// --- diagonal steps ------------------------------------------------------------------------------------------------

py::tuple hutchinson(const py::object& product, std::int64_t n, std::int64_t samples, std::uint64_t seed) {
  const Exec exec = make_exec("cpu", 1);
  const VectorCallback ask(exec, product, true, "hessian_product");
  DiagonalEstimate out;
  without_gil([&] {
    out = hutchinson_diagonal(
        exec, [&](const double* z, double* hz) { ask.on_host(z, n, hz); }, n, samples, seed);
  });
  return py::make_tuple(vector_out(out.diagonal), vector_out(out.error));
}

const double* diagonal_in(const py::object& diagonal, std::size_t n, Values& kept) {
  if (diagonal.is_none()) return nullptr;
  kept = diagonal.cast<Values>();
  GRAMIAN_REQUIRE(kept.ndim() == 1 && static_cast<std::size_t>(kept.size()) == n, shape_mismatch,
                  "diagonal and params differ in length");
  return kept.data();
}

// (the next parameters, the share that was clipped, the next state).
template <class Step>
py::tuple stepped(const StepState& state, const Values& w, const Values& gradient, const py::object& diagonal,
                  const Step& step) {
  std::vector<double> next = vector_in(w, "params"), g = vector_in(gradient, "gradient");
  GRAMIAN_REQUIRE(g.size() == next.size(), shape_mismatch, "gradient and params differ in length");
  Values kept;
  const double* d = diagonal_in(diagonal, next.size(), kept);
  StepState after = state;
  const double clipped = step(static_cast<std::int64_t>(next.size()), g.data(), d, after, next.data());
  return py::make_tuple(vector_out(next), clipped, std::move(after));
}

py::tuple adahessian(const StepState& state, const Values& w, const Values& gradient, const py::object& diagonal,
                     double rate, double beta1, double beta2, double eps, double power, std::int64_t average) {
  const AdaHessianRule rule{rate, beta1, beta2, eps, power, average};
  return stepped(state, w, gradient, diagonal,
                 [&](std::int64_t n, const double* g, const double* d, StepState& kept, double* to) {
                   return adahessian_step(rule, n, g, d, kept, to);
                 });
}

py::tuple sophia(const StepState& state, const Values& w, const Values& gradient, const py::object& diagonal,
                 double rate, double beta1, double beta2, double scale, double eps) {
  const SophiaRule rule{rate, beta1, beta2, scale, eps};
  return stepped(state, w, gradient, diagonal,
                 [&](std::int64_t n, const double* g, const double* d, StepState& kept, double* to) {
                   return sophia_step(rule, n, g, d, kept, to);
                 });
}

// --- heads ---------------------------------------------------------------------------------------------------------

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

py::object scores(const py::object& x, const Values& w, bool intercept, const std::string& device, int threads) {
  const RowsIn rows(x, "X");
  const MatrixView<const double> weights = matrix_in(w, "weights");
  const MatrixOut<double> out(rows.rows(), weights.cols);
  without_gil([&] { linear_scores(make_exec(device, threads), rows.view(), weights, intercept, out.view()); });
  return out.array();
}

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

// A property that reads one value of the model in a box.
template <class Result, class Model, class Read>
Result value_of(const Guarded<Model>& box, const Read& read) {
  Result out{};
  box.read([&](const Model& model) { out = read(model); });
  return out;
}

void bind_inverses(py::module_& module) {
  const auto count = [](auto member) {
    return [member](const InverseBox& self) {
      return value_of<std::int64_t>(self.model, [&](const RunningInverse& model) { return (model.*member)(); });
    };
  };
  py::class_<InverseBox>(module, "RunningInverse")
      .def(py::init(&make_inverse), py::arg("d"), py::arg("diagonal"), py::arg("max_trace"), py::arg("keep_matrix"),
           py::arg("check_every"), py::arg("refresh_above"), py::arg("device"), py::arg("threads"))
      .def("update", &inverse_update, py::arg("X"), py::arg("forgetting"), py::arg("weight"), py::arg("one_by_one"))
      .def("multiply", &inverse_multiply, py::arg("X"))
      .def("matrix", &inverse_matrix)
      .def("residual",
           [](const InverseBox& self) {
             return value_of<double>(self.model, [](const RunningInverse& model) { return model.residual(); });
           })
      .def("refine", [](InverseBox& self) { self.model.write([](RunningInverse& model) { model.refine(); }); })
      .def("state", &inverse_state)
      .def("restore", &inverse_restore, py::arg("state"))
      .def("rebuild", [](InverseBox& self) { self.model.write([](RunningInverse& model) { model.rebuild(); }); })
      .def_property_readonly("trace",
                             [](const InverseBox& self) {
                               return value_of<double>(self.model,
                                                       [](const RunningInverse& model) { return model.trace(); });
                             })
      .def_property_readonly("updates", count(&RunningInverse::updates))
      .def_property_readonly("held_back", count(&RunningInverse::held_back))
      .def_property_readonly("refreshes", count(&RunningInverse::refreshes));

  py::class_<KroneckerBox>(module, "KroneckerInverse")
      .def(py::init(&make_kronecker), py::arg("n_out"), py::arg("n_in"), py::arg("paper"), py::arg("decay"),
           py::arg("limit"), py::arg("stabilisation"), py::arg("max_trace"), py::arg("device"), py::arg("threads"))
      .def("update", &kronecker_update, py::arg("l"), py::arg("r"))
      .def("precondition", &kronecker_precondition, py::arg("gradient"))
      .def("factor", &kronecker_factor, py::arg("left"))
      .def("state", &kronecker_state)
      .def("restore", &kronecker_restore, py::arg("state"))
      .def_property_readonly("resets",
                             [](const KroneckerBox& self) {
                               return value_of<std::int64_t>(
                                   self.model, [](const KroneckerInverse& model) { return model.resets(); });
                             })
      .def_property_readonly("held_back", [](const KroneckerBox& self) {
        return value_of<std::int64_t>(self.model, [](const KroneckerInverse& model) {
          return model.left().held_back() + model.right().held_back();
        });
      });
}

void bind_mfac(py::module_& module) {
  py::class_<MfacBox>(module, "Mfac")
      .def(py::init(&make_mfac), py::arg("capacity"), py::arg("n_params"), py::arg("ridge"), py::arg("narrow"),
           py::arg("dynamic"), py::arg("device"), py::arg("threads"))
      .def("push", &mfac_push, py::arg("gradients"))
      .def("replace", &mfac_replace, py::arg("age"), py::arg("gradient"))
      .def("refresh", [](MfacBox& self) { self.write([](Mfac& model) { model.refresh(); }); })
      .def("solve", &mfac_solve, py::arg("v"))
      .def("diagonal", &mfac_diagonal)
      .def("block", &mfac_block, py::arg("indices"))
      .def("state", &mfac_state)
      .def("restore", &mfac_restore, py::arg("state"))
      .def("effective_dimension",
           [](const MfacBox& self) {
             return value_of<double>(self, [](const Mfac& model) { return model.effective_dimension(); });
           })
      .def_property_readonly("size",
                             [](const MfacBox& self) {
                               return value_of<std::int64_t>(self, [](const Mfac& model) { return model.size(); });
                             })
      .def_property_readonly("refreshes", [](const MfacBox& self) {
        return value_of<std::int64_t>(self, [](const Mfac& model) { return model.refreshes(); });
      });
}

}  // namespace

void bind_second_order(py::module_& module) {
  bind_inverses(module);
  bind_mfac(module);
  module.def("hutchinson_diagonal", &hutchinson, py::arg("product"), py::arg("n"), py::arg("samples"), py::arg("seed"));
  py::class_<StepState>(module, "StepState")
      .def(py::init<>())
      .def_property_readonly("steps", [](const StepState& self) { return self.steps; })
      .def("adahessian", &adahessian, py::arg("params"), py::arg("gradient"), py::arg("diagonal"), py::arg("rate"),
           py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("power"), py::arg("average"))
      .def("sophia", &sophia, py::arg("params"), py::arg("gradient"), py::arg("diagonal"), py::arg("rate"),
           py::arg("beta1"), py::arg("beta2"), py::arg("scale"), py::arg("eps"))
      .def(py::pickle([](const StepState& self) { return py::make_tuple(self.m, self.v, self.steps, self.diagonals); },
                      [](const py::tuple& parts) {
                        return StepState{parts[0].cast<std::vector<double>>(), parts[1].cast<std::vector<double>>(),
                                         parts[2].cast<std::int64_t>(), parts[3].cast<std::int64_t>()};
                      }));
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
  module.def("linear_scores", &scores, py::arg("X"), py::arg("weights"), py::arg("intercept"), py::arg("device"),
             py::arg("threads"));
  py::class_<SoftmaxBox>(module, "SoftmaxObjective")
      .def(py::init<const py::object&, const Values&, double, const std::string&, int>(), py::arg("A"), py::arg("b"),
           py::arg("ridge"), py::arg("device"), py::arg("threads"))
      .def("evaluate", &SoftmaxBox::evaluate, py::arg("x"), py::arg("curvature"))
      .def("start", &SoftmaxBox::start)
      .def("fit", &SoftmaxBox::fit, py::arg("x0"), py::arg("max_iterations"), py::arg("tol"));
}

}  // namespace gramian::python
