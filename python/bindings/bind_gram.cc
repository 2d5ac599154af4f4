#include "bind_gram.hpp"

#include <memory>
#include <optional>

#include "array_in.hpp"
#include "gramian/core/error.hpp"
#include "model_files.hpp"

namespace gramian::python {
namespace {

DType products_in(const std::string& name) {
  if (name == "float64") return DType::f64;
  if (name == "float32") return DType::f32;
  throw Error(ErrorCode::invalid_argument, "dtype must be 'float64' or 'float32', not '" + name + "'");
}

// Rows, targets and weights of one call, alive while it runs.
class Batch {
 public:
  Batch(const py::object& x, const py::object& y, const py::object& codes, const py::object& weight)
      : x_(x, "X"), codes_(codes, x_.rows(), "y"), weight_(weight, x_.rows(), "sample_weight") {
    if (!y.is_none()) y_.emplace(y, "Y");
  }
  const RowsView& x() const { return x_.view(); }
  const double* weight() const { return weight_.data(); }
  // A state without outputs takes rows without targets: a view of width 0.
  Targets targets() const {
    if (codes_.data() != nullptr) return Targets::of_codes(codes_.data());
    if (y_.has_value()) return Targets::of_values(y_->view());
    return Targets::of_values(none_);
  }
  // No more members are made after this; none_ must know the number of rows.
  void prepare() { none_.rows = x_.rows(); }

 private:
  RowsIn x_;
  std::optional<RowsIn> y_;
  VectorIn<std::int64_t> codes_;
  VectorIn<double> weight_;
  RowsView none_;
};

void add(GramBox& self, const py::object& x, const py::object& y, const py::object& codes, const py::object& weight,
         bool atomic) {
  Batch batch(x, y, codes, weight);
  batch.prepare();
  self.write([&](GramState& state) { state.add(batch.x(), batch.targets(), batch.weight(), nullptr, atomic); });
}

void remove(GramBox& self, const py::object& x, const py::object& y, const py::object& codes, const py::object& weight,
            bool atomic) {
  Batch batch(x, y, codes, weight);
  batch.prepare();
  self.write([&](GramState& state) { state.remove(batch.x(), batch.targets(), batch.weight(), nullptr, atomic); });
}

void rearrange(GramBox& self, const std::vector<std::int64_t>& source) {
  self.write([&](GramState& state) { state.rearrange_outputs(source); });
}

std::pair<std::int64_t, std::int64_t> sizes(const GramBox& self) {
  std::pair<std::int64_t, std::int64_t> out;
  self.read([&](const GramState& state) { out = {state.n_outputs(), state.n_features()}; });
  return out;
}

SolveOptions solve_options(double ridge, bool standardize) {
  SolveOptions options;
  options.ridge = ridge;
  options.standardize = standardize;
  return options;
}

py::tuple solve(const GramBox& self, double ridge, bool standardize) {
  const auto [n_outputs, n_features] = sizes(self);
  SolutionOut out(n_outputs, n_features);
  self.read([&](const GramState& state) { out.take(state.exec(), state.solve(solve_options(ridge, standardize))); });
  return out.tuple();
}

py::list path(const GramBox& self, const std::vector<double>& ridges, bool standardize) {
  const auto [n_outputs, n_features] = sizes(self);
  std::vector<SolutionOut> out;
  for (std::size_t i = 0; i < ridges.size(); ++i) out.emplace_back(n_outputs, n_features);
  self.read([&](const GramState& state) {
    const std::vector<Solution> solutions = state.path(ridges, solve_options(0, standardize));
    for (std::size_t i = 0; i < out.size(); ++i) out[i].take(state.exec(), solutions[i]);
  });
  py::list result;
  for (const SolutionOut& solution : out) result.append(solution.tuple());
  return result;
}

py::dict gcv(const GramBox& self, const std::vector<double>& ridges, bool standardize) {
  GcvCurve curve;
  self.read([&](const GramState& state) { curve = state.gcv(ridges, standardize); });
  py::dict out;
  out["ridges"] = vector_out(curve.ridges);
  out["scores"] = vector_out(curve.scores);
  out["degrees_of_freedom"] = vector_out(curve.degrees_of_freedom);
  out["best"] = curve.best;
  out["at_edge"] = curve.at_edge;
  out["method"] = curve.method;
  return out;
}

// The curve of `self` judged by the rows of `held`.
py::dict holdout(const GramBox& self, const GramBox& held, const std::vector<double>& ridges, bool standardize,
                 bool full) {
  HoldoutCurve curve;
  self.read_with(held, [&](const GramState& train, const GramState& validation) {
    curve =
        holdout_curve(train, validation, ridges, standardize, full ? RidgeSearch::full : RidgeSearch::coarse_to_fine);
  });
  return holdout_out(curve);
}

py::tuple raw_moments(const GramBox& self) {
  const auto [n_outputs, n_features] = sizes(self);
  const MatrixOut<double> gram(n_features, n_features);
  const MatrixOut<double> cross(n_outputs, n_features);
  self.read([&](const GramState& state) { state.raw_moments(gram.view(), cross.view()); });
  return py::make_tuple(gram.array(), cross.array());
}

py::object moments(const GramBox& self, const std::vector<double>& center, const std::vector<double>& target_center) {
  std::vector<double> out;
  self.read([&](const GramState& state) { out = state.moments(center, target_center); });
  return vector_out(out);
}

std::unique_ptr<GramBox> of_moments(std::int64_t n_features, std::int64_t n_outputs, const std::string& products,
                                    bool intercept, const std::vector<double>& values,
                                    const std::vector<double>& center, const std::vector<double>& target_center,
                                    bool codes, const std::string& device, int threads) {
  std::unique_ptr<GramBox> out;
  without_gil([&] {
    out = std::make_unique<GramBox>(GramState::of_moments(make_exec(device, threads), n_features, n_outputs,
                                                          gram_options(products, intercept), values, center,
                                                          target_center, codes));
  });
  return out;
}

py::tuple feature_moments(const GramBox& self) {
  std::vector<double> mean;
  std::vector<double> variance;
  self.read([&](const GramState& state) { state.feature_moments(mean, variance); });
  return py::make_tuple(vector_out(mean), vector_out(variance));
}

std::unique_ptr<GramBox> clone(const GramBox& self) {
  std::unique_ptr<GramBox> out;
  self.read([&](const GramState& state) { out = std::make_unique<GramBox>(state.clone()); });
  return out;
}

py::tuple ridge_solve_rows(const py::object& x, const py::object& y, double ridge, bool intercept,
                           const std::string& form, const py::object& weight, const std::string& device, int threads) {
  using Form = RidgeSolveOptions::Form;
  const RowsIn rows(x, "X");
  const RowsIn targets(y, "Y");
  const VectorIn<double> weights(weight, rows.rows(), "sample_weight");
  RidgeSolveOptions options;
  options.ridge = ridge;
  options.intercept = intercept;
  options.form = form == "primal" ? Form::primal : form == "dual" ? Form::dual : Form::automatic;
  SolutionOut out(targets.view().cols, rows.view().cols);
  without_gil([&] {
    const Exec exec = make_exec(device, threads);
    out.take(exec, ridge_solve(exec, rows.view(), targets.view(), options, weights.data()));
  });
  return out.tuple();
}

}  // namespace

GramOptions gram_options(const std::string& products, bool intercept) {
  GramOptions options;
  options.products = products_in(products);
  options.intercept = intercept;
  return options;
}

py::dict report_out(const SolveReport& report) {
  py::dict out;
  out["method"] = report.method;
  out["form"] = report.form;
  out["fallback"] = report.fallback;
  out["ridge"] = report.ridge;
  out["size"] = report.size;
  out["rank"] = report.rank;
  out["condition"] = report.condition;
  out["residual"] = report.residual;
  out["refinements"] = report.refinements;
  out["removal_bound"] = report.removal_bound;
  out["seconds"] = report.seconds;
  out["updates"] = report.updates;
  out["anchors"] = report.anchors;
  return out;
}

void warn_of_rank(const SolveReport& report) {
  if (report.method != "eigh" || report.rank >= report.size) return;
  py::list reports;
  reports.append(py::module_::import("gramian.gram").attr("report_of")(report_out(report)));
  py::module_::import("gramian.base").attr("warn_rank_deficient")(reports);
}

py::dict holdout_out(const HoldoutCurve& curve) {
  py::dict out;
  out["ridges"] = vector_out(curve.ridges);
  out["scores"] = vector_out(curve.scores);
  out["best"] = curve.best;
  out["at_edge"] = curve.at_edge;
  out["evaluated"] = curve.evaluated;
  return out;
}

void bind_gram(py::module_& module) {
  py::class_<GramBox> box(module, "GramState");
  box.def(py::init([](std::int64_t n_features, std::int64_t n_outputs, const std::string& products, bool intercept,
                      const std::string& device, int threads) {
            return std::make_unique<GramBox>(
                GramState(make_exec(device, threads), n_features, n_outputs, gram_options(products, intercept)));
          }),
          py::arg("n_features"), py::arg("n_outputs"), py::arg("products"), py::arg("intercept"), py::arg("device"),
          py::arg("threads"))
      .def_property_readonly("n_features", getter<GramState>([](const auto& s) { return s.n_features(); }))
      .def_property_readonly("n_outputs", getter<GramState>([](const auto& s) { return s.n_outputs(); }))
      .def_property_readonly("n_rows", getter<GramState>([](const auto& s) { return s.n_rows(); }))
      .def_property_readonly("weight_sum", getter<GramState>([](const auto& s) { return s.weight_sum(); }))
      .def_property_readonly("weighted_rows", getter<GramState>([](const auto& s) { return s.weighted_rows(); }))
      .def_property_readonly("counts",
                             [](const GramBox& self) {
                               return vector_out(getter<GramState>([](const auto& s) { return s.counts(); })(self));
                             })
      .def_property_readonly("nbytes", getter<GramState>([](const auto& s) { return s.bytes(); }))
      .def_property_readonly("largest_trace", getter<GramState>([](const auto& s) { return s.largest_trace(); }))
      .def_property_readonly("largest_energy", getter<GramState>([](const auto& s) { return s.largest_energy(); }))
      .def_property_readonly(
          "products", getter<GramState>([](const auto& s) { return std::string(name_of(s.options().products)); }))
      .def_property_readonly("intercept", getter<GramState>([](const auto& s) { return s.options().intercept; }))
      .def("add", &add, py::arg("X"), py::arg("Y"), py::arg("codes"), py::arg("weight"), py::arg("atomic"))
      .def("remove", &remove, py::arg("X"), py::arg("Y"), py::arg("codes"), py::arg("weight"), py::arg("atomic"))
      .def(
          "merge",
          [](GramBox& self, const GramBox& other) {
            self.write_with(other, [](GramState& mine, const GramState& theirs) { mine.merge(theirs); });
          },
          py::arg("other"))
      .def(
          "unmerge",
          [](GramBox& self, const GramBox& other) {
            self.write_with(other, [](GramState& mine, const GramState& theirs) { mine.unmerge(theirs); });
          },
          py::arg("other"))
      .def("rearrange_outputs", &rearrange, py::arg("source"))
      .def("clear", [](GramBox& self) { self.write([](GramState& state) { state.clear(); }); })
      .def("solve", &solve, py::arg("ridge"), py::arg("standardize"))
      .def("path", &path, py::arg("ridges"), py::arg("standardize"))
      .def("gcv", &gcv, py::arg("ridges"), py::arg("standardize"))
      .def("holdout", &holdout, py::arg("held"), py::arg("ridges"), py::arg("standardize"), py::arg("full"))
      .def("raw_moments", &raw_moments)
      .def("feature_moments", &feature_moments)
      .def("moments", &moments, py::arg("center"), py::arg("target_center"))
      .def("make_positive", [](GramBox& self) { self.write([](GramState& state) { state.make_positive(); }); })
      .def_static("of_moments", &of_moments, py::arg("n_features"), py::arg("n_outputs"), py::arg("products"),
                  py::arg("intercept"), py::arg("moments"), py::arg("center"), py::arg("target_center"),
                  py::arg("codes"), py::arg("device"), py::arg("threads"))
      .def("clone", &clone);
  def_state_files(box, "gram_state");
  module.def("ridge_solve", &ridge_solve_rows, py::arg("X"), py::arg("Y"), py::arg("ridge"), py::arg("intercept"),
             py::arg("form"), py::arg("weight"), py::arg("device"), py::arg("threads"));
}

}  // namespace gramian::python
