// Rows of a fit as intervals need them. Never changes after it is made.
#include "gramian/gram/conformal.hpp"

#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bind_influence.hpp"
#include "gramian/analytic/classifier.hpp"
#include "gramian/analytic/regressor.hpp"
#include "gramian/core/error.hpp"

namespace gramian::python {
namespace {

template <class Model>
std::unique_ptr<ConformalRows> from_rows(const Guarded<Model>& model, const py::object& x, const py::object& y,
                                         const py::object& fold, std::int64_t n_folds) {
  const RowsIn rows(x, "X");
  const RowsIn targets(y, "y");
  const VectorIn<std::int64_t> folds(fold, rows.rows(), "fold");
  std::unique_ptr<GroupInfluence> influence = influence_of(model);
  std::unique_ptr<ConformalRows> out;
  without_gil([&] {
    out = std::make_unique<ConformalRows>(std::move(*influence), rows.view(), targets.view(), folds.data(), n_folds);
  });
  return out;
}

template <class Model>
std::unique_ptr<ConformalRows> from_parts(const Guarded<Model>& model, const Values& rows, const Values& residuals,
                                          const std::vector<std::int64_t>& order,
                                          const std::vector<std::int64_t>& offsets) {
  const MatrixView<const double> p = matrix_in(rows, "rows"), r = matrix_in(residuals, "residuals");
  std::unique_ptr<GroupInfluence> influence = influence_of(model);
  std::unique_ptr<ConformalRows> out;
  without_gil([&] { out = std::make_unique<ConformalRows>(std::move(*influence), p, r, order, offsets); });
  return out;
}

// (rows, residuals, order, offsets) for from_parts.
py::tuple parts(const ConformalRows& self) {
  const MatrixView<const double> p = self.rows();
  const MatrixOut<double> rows(p.rows, p.cols);
  const MatrixOut<double> residuals(p.rows, self.influence().n_outputs());
  without_gil([&] { copy_out<double>(self.influence().factor().exec(), p, rows.view()); });
  std::copy(self.residuals().begin(), self.residuals().end(), residuals.view().data);
  return py::make_tuple(rows.array(), residuals.array(), self.order(), self.offsets());
}

// In the order of the rows as they came.
py::array_t<double> held_out(const ConformalRows& self) {
  const std::int64_t c = self.influence().n_outputs();
  const MatrixOut<double> out(self.n_rows(), c);
  for (std::int64_t r = 0; r < self.n_rows(); ++r)
    std::copy_n(self.held_out().begin() + r * c, c, out.view().row(self.order()[static_cast<std::size_t>(r)]));
  return out.array();
}

py::tuple intervals(const ConformalRows& self, const py::object& x, std::int64_t lower_rank, std::int64_t upper_rank,
                    bool minmax) {
  const RowsIn rows(x, "X");
  const std::int64_t c = self.influence().n_outputs();
  const MatrixOut<double> lower(rows.rows(), c), upper(rows.rows(), c);
  without_gil([&] {
    self.intervals(rows.view(), lower_rank, upper_rank, minmax ? BandRule::minmax : BandRule::plus, lower.view(),
                   upper.view());
  });
  return py::make_tuple(lower.array(), upper.array());
}

py::tuple sets(const ConformalRows& self, const py::object& x, std::int64_t excluded, bool deleted) {
  const RowsIn rows(x, "X");
  IntervalSets found;
  without_gil([&] { found = self.sets(rows.view(), excluded, deleted); });
  return py::make_tuple(vector_out(found.offsets), vector_out(found.lower), vector_out(found.upper));
}

py::array_t<double> class_p_values(const ConformalRows& self, const py::object& x, const py::object& codes,
                                   bool by_class) {
  const RowsIn rows(x, "X");
  const VectorIn<std::int64_t> classes(codes, self.n_rows(), "codes");
  GRAMIAN_REQUIRE(classes.data() != nullptr, invalid_argument, "codes is missing");
  const MatrixOut<double> out(rows.rows(), self.influence().n_outputs());
  without_gil([&] { self.class_p_values(rows.view(), classes.data(), by_class, out.view()); });
  return out.array();
}

}  // namespace

void bind_conformal(py::module_& module) {
  py::class_<ConformalRows>(module, "ConformalRows")
      .def(py::init(&from_rows<AnalyticRegressor>), py::arg("model"), py::arg("X"), py::arg("y"), py::arg("fold"),
           py::arg("n_folds"))
      .def(py::init(&from_rows<AnalyticClassifier>), py::arg("model"), py::arg("X"), py::arg("y"), py::arg("fold"),
           py::arg("n_folds"))
      .def_static("from_parts", &from_parts<AnalyticRegressor>, py::arg("model"), py::arg("rows"), py::arg("residuals"),
                  py::arg("order"), py::arg("offsets"))
      .def_static("from_parts", &from_parts<AnalyticClassifier>, py::arg("model"), py::arg("rows"),
                  py::arg("residuals"), py::arg("order"), py::arg("offsets"))
      .def_property_readonly("n_rows", &ConformalRows::n_rows)
      .def("parts", &parts)
      .def("held_out", &held_out)
      .def("intervals", &intervals, py::arg("X"), py::arg("lower_rank"), py::arg("upper_rank"), py::arg("minmax"))
      .def("class_p_values", &class_p_values, py::arg("X"), py::arg("codes"), py::arg("by_class"))
      .def("sets", &sets, py::arg("X"), py::arg("excluded"), py::arg("deleted"));
}

}  // namespace gramian::python
