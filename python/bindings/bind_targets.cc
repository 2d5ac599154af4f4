// Target codes, soft targets and prediction rules over many labels.
#include <memory>
#include <utility>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bind_gram.hpp"
#include "bindings.hpp"
#include "gramian/analytic/label_metric.hpp"
#include "gramian/analytic/label_scan.hpp"
#include "gramian/analytic/probabilities.hpp"
#include "gramian/analytic/regressor.hpp"
#include "gramian/analytic/soft_targets.hpp"
#include "gramian/analytic/target_codes.hpp"
#include "gramian/core/error.hpp"

namespace gramian::python {
namespace {

using RegressorBox = Guarded<AnalyticRegressor>;
template <class T>
using DenseIn = py::array_t<T, py::array::c_style>;

template <class T>
MatrixView<const T> view_of(const DenseIn<T>& array, const char* name) {
  if (array.ndim() != 2) throw Error(ErrorCode::shape_mismatch, std::string(name) + " must have two dimensions");
  return {array.data(), static_cast<std::int64_t>(array.shape(0)), static_cast<std::int64_t>(array.shape(1))};
}

double coherence(const DenseIn<double>& codes, int threads) {
  const MatrixView<const double> view = view_of(codes, "codes");
  const Exec exec = make_exec("cpu", threads);
  double value = 0;
  without_gil([&] { value = code_coherence(exec, view); });
  return value;
}

py::object simplex(std::int64_t n) {
  GRAMIAN_REQUIRE(n >= 2, invalid_argument, "a simplex needs two corners or more");
  const MatrixOut<double> out(n, n - 1);
  without_gil([&] { simplex_code(out.view()); });
  return out.array();
}

py::object random_rows(std::uint64_t seed, std::int64_t first, std::int64_t count, std::int64_t dim) {
  const MatrixOut<double> out(count, dim);
  without_gil([&] { random_code(seed, first, out.view()); });
  return out.array();
}

// (codes, coherence): `fixed` rows first, then new ones up to n.
py::tuple equiangular(std::uint64_t seed, int sweeps, const DenseIn<double>& fixed, std::int64_t n, int threads) {
  const MatrixView<const double> given = view_of(fixed, "codes");
  GRAMIAN_REQUIRE(n >= given.rows, invalid_argument, "a code cannot become shorter");
  const MatrixOut<double> out(n, given.cols);
  std::copy(given.data, given.data + given.rows * given.cols, out.view().data);
  const Exec exec = make_exec("cpu", threads);
  double value = 0;
  without_gil([&] { value = equiangular_code(exec, seed, sweeps, given.rows, out.view()); });
  return py::make_tuple(out.array(), value);
}

// Rows with the rows of a table as targets: row r of X has row codes[r] of it. The table is read in place.
template <class Change>
void with_table(RegressorBox& self, const py::object& x, const py::object& table, const py::object& codes,
                const py::object& weight, const Change& change) {
  const RowsIn rows(x, "X");
  const RowsIn targets(table, "codes");
  const VectorIn<std::int64_t> places(codes, rows.rows(), "y");
  const VectorIn<double> weights(weight, rows.rows(), "sample_weight");
  for (std::int64_t r = 0; r < rows.rows(); ++r)
    GRAMIAN_REQUIRE(places.data() != nullptr && places.data()[r] >= 0 && places.data()[r] < targets.rows(),
                    invalid_argument, "the codes of rows must be places in the table");
  RowsView picked = targets.view();
  picked.row_index = places.data();
  picked.rows = rows.rows();
  self.write([&](AnalyticRegressor& model) { change(model, rows.view(), picked, weights.data()); });
}

void add_coded(RegressorBox& self, const py::object& x, const py::object& table, const py::object& codes,
               const py::object& weight, bool atomic) {
  with_table(self, x, table, codes, weight,
             [&](AnalyticRegressor& model, const RowsView& rows, const RowsView& targets, const double* w) {
               model.partial_fit(rows, targets, w, atomic);
             });
}

void remove_coded(RegressorBox& self, const py::object& x, const py::object& table, const py::object& codes,
                  const py::object& weight, bool atomic) {
  with_table(self, x, table, codes, weight,
             [&](AnalyticRegressor& model, const RowsView& rows, const RowsView& targets, const double* w) {
               model.forget(rows, targets, w, atomic);
             });
}

py::object soft_bins_out(const DenseIn<double>& y, const std::vector<double>& centres, double width, int threads) {
  const MatrixOut<double> out(static_cast<std::int64_t>(y.size()), static_cast<std::int64_t>(centres.size()));
  const Exec exec = make_exec("cpu", threads);
  without_gil([&] { soft_bins(exec, centres, width, y.data(), out.view()); });
  return out.array();
}

py::object shares(const DenseIn<std::int64_t>& votes, const std::vector<double>& weight, bool hard,
                  std::int64_t classes, int threads) {
  const MatrixView<const std::int64_t> view = view_of(votes, "votes");
  const MatrixOut<double> out(view.rows, classes);
  const Exec exec = make_exec("cpu", threads);
  without_gil([&] { vote_shares(exec, view, weight, hard, out.view()); });
  return out.array();
}

// (posteriors, accuracies)
py::tuple posteriors(const DenseIn<std::int64_t>& votes, std::int64_t classes, int threads) {
  const MatrixView<const std::int64_t> view = view_of(votes, "votes");
  const MatrixOut<double> out(view.rows, classes);
  const Exec exec = make_exec("cpu", threads);
  std::vector<double> accuracy;
  without_gil([&] {
    accuracy = annotator_accuracies(exec, view, classes);
    vote_posteriors(exec, view, accuracy, out.view());
  });
  return py::make_tuple(out.array(), vector_out(accuracy));
}

// scores times the transpose of codes: one column per code.
py::object code_scores(const DenseIn<double>& scores, const DenseIn<double>& codes, int threads) {
  const MatrixView<const double> rows = view_of(scores, "scores"), table = view_of(codes, "codes");
  GRAMIAN_REQUIRE(rows.cols == table.cols, shape_mismatch, "scores and codes differ in their columns");
  const MatrixOut<double> out(rows.rows, table.rows);
  const Exec exec = make_exec("cpu", threads);
  without_gil([&] {
    if (!out.view().empty()) gemm<double>(exec, Trans::no, Trans::yes, 1.0, rows, table, 0.0, out.view());
  });
  return out.array();
}

// Changes the array it is given, which the caller has just made.
void probabilities(py::array_t<double, py::array::c_style>& scores, const std::string& method, double temperature,
                   int threads) {
  GRAMIAN_REQUIRE(scores.ndim() == 2, shape_mismatch, "scores must have two dimensions");
  const MatrixView<double> view(scores.mutable_data(), static_cast<std::int64_t>(scores.shape(0)),
                                static_cast<std::int64_t>(scores.shape(1)));
  const Exec exec = make_exec("cpu", threads);
  without_gil([&] {
    if (method == "softmax") {
      softmax_rows(exec, temperature, view);
    } else if (method == "simplex_projection") {
      project_rows_to_simplex(exec, view);
    } else {
      clip_rows(exec, view);
    }
  });
}

// A LabelScan and the rows it borrows. One thread at a time: it belongs to one call of a Python function.
struct ScanBox {
  ScanBox(const py::object& x, const std::string& products, const std::string& device, int threads)
      : rows(x, "P"), scan(make_exec(device, threads), rows.view(), gram_options(products, false).products, "P") {}

  void take(std::int64_t first, const py::object& tile, bool labels_in_rows, double scale, const py::object& offset) {
    const RowsIn labels(tile, "metric");
    const std::int64_t count = labels_in_rows ? labels.view().rows : labels.view().cols;
    const VectorIn<double> offsets(offset, count, "offset");
    without_gil([&] { scan.take(first, labels.view(), labels_in_rows, scale, offsets.data()); });
  }

  RowsIn rows;
  LabelScan scan;
};

template <class T>
std::vector<T> copied(const DenseIn<T>& array) {
  return std::vector<T>(array.data(), array.data() + array.size());
}

// lengths: empty for ones.
std::unique_ptr<TreeMetric> tree(const DenseIn<std::int64_t>& parents, const DenseIn<double>& lengths,
                                 const DenseIn<std::int64_t>& observed) {
  std::unique_ptr<TreeMetric> out;
  const auto nodes = copied(parents), seen = copied(observed);
  const auto edges = copied(lengths);
  without_gil([&] { out = std::make_unique<TreeMetric>(nodes, edges, seen); });
  return out;
}

py::object tree_distances(const TreeMetric& self, std::int64_t begin, std::int64_t end, int threads) {
  GRAMIAN_REQUIRE(begin >= 0 && begin <= end && end <= self.size(), invalid_argument, "begin and end must be labels");
  const MatrixOut<double> out(self.n_observed(), end - begin);
  const Exec exec = make_exec("cpu", threads);
  without_gil([&] { self.distances(exec, begin, out.view()); });
  return out.array();
}

// (labels, costs)
py::tuple tree_predict(const TreeMetric& self, const DenseIn<double>& p, int threads) {
  const MatrixView<const double> rows = view_of(p, "P");
  const MatrixOut<std::int64_t> labels(1, rows.rows);
  const MatrixOut<double> costs(1, rows.rows);
  const Exec exec = make_exec("cpu", threads);
  without_gil([&] { self.predict(exec, rows, labels.view().data, costs.view().data); });
  const auto flat = static_cast<py::ssize_t>(rows.rows);
  return py::make_tuple(labels.array().reshape({flat}), costs.array().reshape({flat}));
}

py::object graph_table(const DenseIn<std::int64_t>& indptr, const DenseIn<std::int64_t>& indices,
                       const py::object& lengths, const std::vector<std::int64_t>& sources, int threads) {
  GRAMIAN_REQUIRE(indptr.ndim() == 1 && indptr.size() >= 2 && indices.ndim() == 1 &&
                      indptr.data()[indptr.size() - 1] == indices.size(),
                  invalid_argument, "the row pointers of the graph do not end at its edges");
  const VectorIn<double> edges(lengths, static_cast<std::int64_t>(indices.size()), "lengths");
  const GraphView graph{static_cast<std::int64_t>(indptr.size()) - 1, indptr.data(), indices.data(), edges.data()};
  const MatrixOut<double> out(static_cast<std::int64_t>(sources.size()), graph.nodes);
  const Exec exec = make_exec("cpu", threads);
  without_gil([&] { graph_distances(exec, graph, sources, out.view()); });
  return out.array();
}

}  // namespace

void bind_targets(py::module_& module) {
  module.def("code_coherence", &coherence, py::arg("codes"), py::arg("threads"));
  module.def("welch_bound", &welch_bound, py::arg("n"), py::arg("dim"));
  module.def("simplex_code", &simplex, py::arg("n"));
  module.def("random_code", &random_rows, py::arg("seed"), py::arg("first"), py::arg("count"), py::arg("dim"));
  module.def("equiangular_code", &equiangular, py::arg("seed"), py::arg("sweeps"), py::arg("fixed"), py::arg("n"),
             py::arg("threads"));
  module.def("add_coded", &add_coded, py::arg("model"), py::arg("X"), py::arg("table"), py::arg("codes"),
             py::arg("weight"), py::arg("atomic"));
  module.def("remove_coded", &remove_coded, py::arg("model"), py::arg("X"), py::arg("table"), py::arg("codes"),
             py::arg("weight"), py::arg("atomic"));
  module.def("code_scores", &code_scores, py::arg("scores"), py::arg("codes"), py::arg("threads"));
  module.def("soft_bins", &soft_bins_out, py::arg("y"), py::arg("centres"), py::arg("width"), py::arg("threads"));
  module.def("vote_shares", &shares, py::arg("votes"), py::arg("weight"), py::arg("hard"), py::arg("classes"),
             py::arg("threads"));
  module.def("vote_posteriors", &posteriors, py::arg("votes"), py::arg("classes"), py::arg("threads"));
  module.def("probabilities", &probabilities, py::arg("scores").noconvert(), py::arg("method"), py::arg("temperature"),
             py::arg("threads"));
  module.def("graph_distances", &graph_table, py::arg("indptr"), py::arg("indices"), py::arg("lengths"),
             py::arg("sources"), py::arg("threads"));
  py::class_<TreeMetric>(module, "TreeMetric")
      .def(py::init(&tree), py::arg("parents"), py::arg("lengths"), py::arg("observed"))
      .def_property_readonly("n_candidates", &TreeMetric::n_candidates)
      .def("distances", &tree_distances, py::arg("begin"), py::arg("end"), py::arg("threads"))
      .def("predict", &tree_predict, py::arg("P"), py::arg("threads"));
  py::class_<ScanBox>(module, "LabelScan")
      .def(py::init<const py::object&, const std::string&, const std::string&, int>(), py::arg("rows"),
           py::arg("products"), py::arg("device"), py::arg("threads"))
      .def("take", &ScanBox::take, py::arg("first"), py::arg("tile"), py::arg("labels_in_rows"), py::arg("scale"),
           py::arg("offset"))
      .def_property_readonly("labels", [](const ScanBox& self) { return vector_out(self.scan.labels()); })
      .def_property_readonly("costs", [](const ScanBox& self) { return vector_out(self.scan.costs()); });
}

}  // namespace gramian::python
