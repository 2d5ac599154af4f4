// Leaving rows out. The object never changes after it is made, so any number of threads may ask it.
#include "bind_influence.hpp"

#include <optional>

#include "array_in.hpp"
#include "array_out.hpp"
#include "gramian/analytic/classifier.hpp"
#include "gramian/analytic/regressor.hpp"
#include "gramian/core/error.hpp"

namespace gramian::python {
namespace {

// Rows in groups, alive while a call runs.
class Groups {
 public:
  Groups(const py::object& x, const py::object& y, const py::object& codes, const py::object& weight,
         const std::vector<std::int64_t>& offsets)
      : x_(x, "rows_X"), codes_(codes, x_.rows(), "rows_y"), weight_(weight, x_.rows(), "sample_weight") {
    if (!y.is_none()) y_.emplace(y, "rows_y");
    rows_.x = x_.view();
    rows_.weight = weight_.data();
    rows_.offsets = offsets;
    if (codes_.data() != nullptr) {
      rows_.y = Targets::of_codes(codes_.data());
    } else if (y_.has_value()) {
      rows_.y = Targets::of_values(y_->view());
    }
    GRAMIAN_REQUIRE(!offsets.empty(), invalid_argument, "offsets is empty");
  }
  Groups(const Groups&) = delete;
  Groups& operator=(const Groups&) = delete;
  const GroupedRows& rows() const { return rows_; }
  std::int64_t count() const { return static_cast<std::int64_t>(rows_.offsets.size()) - 1; }

 private:
  RowsIn x_;
  std::optional<RowsIn> y_;
  VectorIn<std::int64_t> codes_;
  VectorIn<double> weight_;
  GroupedRows rows_;
};

py::tuple leave_out(const GroupInfluence& self, const py::object& x, const py::object& y, const py::object& codes,
                    const py::object& weight, const std::vector<std::int64_t>& offsets) {
  const Groups groups(x, y, codes, weight, offsets);
  const MatrixOut<double> residuals(groups.rows().x.rows, self.n_outputs());
  std::vector<double> smallest;
  without_gil([&] { self.leave_out(groups.rows(), residuals.view(), smallest); });
  return py::make_tuple(residuals.array(), vector_out(smallest));
}

py::tuple effects(const GroupInfluence& self, const py::object& x, const py::object& y, const py::object& codes,
                  const py::object& weight, const std::vector<std::int64_t>& offsets, const py::object& queries) {
  const Groups groups(x, y, codes, weight, offsets);
  const RowsIn asked(queries, "X");
  const MatrixOut<double> out(groups.count() * asked.rows(), self.n_outputs());
  std::vector<double> smallest;
  without_gil([&] { self.effects(groups.rows(), asked.view(), out.view(), smallest); });
  return py::make_tuple(out.array(), vector_out(smallest));
}

py::tuple weight_changes(const GroupInfluence& self, const py::object& x, const py::object& y, const py::object& codes,
                         const py::object& weight, const std::vector<std::int64_t>& offsets) {
  const Groups groups(x, y, codes, weight, offsets);
  const MatrixOut<double> coef(groups.count() * self.n_outputs(), self.factor().n_features());
  const MatrixOut<double> intercept(groups.count(), self.n_outputs());
  std::vector<double> smallest;
  without_gil([&] { self.weight_changes(groups.rows(), coef.view(), intercept.view(), smallest); });
  return py::make_tuple(coef.array(), intercept.array(), vector_out(smallest));
}

py::object scores_without(const GroupInfluence& self, const py::object& x, const py::object& y, const py::object& codes,
                          const py::object& weight, const std::vector<std::int64_t>& offsets,
                          const py::object& queries) {
  const Groups rows(x, y, codes, weight, offsets);
  const RowsIn asked(queries, "X");
  const MatrixOut<double> out(asked.rows(), self.n_outputs());
  without_gil([&] { self.scores_without(rows.rows(), asked.view(), out.view()); });
  return out.array();
}

py::tuple harmful_rows(const GroupInfluence& self, const py::object& x, const py::object& y, const py::object& codes,
                       const py::object& weight, const py::object& queries, const py::object& query_targets,
                       std::int64_t count, bool greedy) {
  const Groups rows(x, y, codes, weight, {0});
  const RowsIn asked(queries, "X");
  const RowsIn wanted(query_targets, "y");
  GroupInfluence::Ranking found;
  without_gil([&] {
    found =
        self.harmful_rows(rows.rows().x, rows.rows().y, rows.rows().weight, asked.view(), wanted.view(), count, greedy);
  });
  return py::make_tuple(vector_out(found.rows), vector_out(found.loss), found.loss_before);
}

}  // namespace

void bind_influence(py::module_& module) {
  py::class_<GroupInfluence>(module, "Influence")
      .def(py::init(&influence_of<AnalyticClassifier>), py::arg("model"))
      .def(py::init(&influence_of<AnalyticRegressor>), py::arg("model"))
      .def_property_readonly("n_inputs", &GroupInfluence::n_inputs)
      .def_property_readonly("n_outputs", &GroupInfluence::n_outputs)
      .def("leave_out", &leave_out, py::arg("X"), py::arg("Y"), py::arg("codes"), py::arg("weight"), py::arg("offsets"))
      .def("effects", &effects, py::arg("X"), py::arg("Y"), py::arg("codes"), py::arg("weight"), py::arg("offsets"),
           py::arg("queries"))
      .def("weight_changes", &weight_changes, py::arg("X"), py::arg("Y"), py::arg("codes"), py::arg("weight"),
           py::arg("offsets"))
      .def("scores_without", &scores_without, py::arg("X"), py::arg("Y"), py::arg("codes"), py::arg("weight"),
           py::arg("offsets"), py::arg("queries"))
      .def("harmful_rows", &harmful_rows, py::arg("X"), py::arg("Y"), py::arg("codes"), py::arg("weight"),
           py::arg("queries"), py::arg("query_targets"), py::arg("count"), py::arg("greedy"));
}

}  // namespace gramian::python
