// Second-order engines: running inverses, Kronecker factors and inverse Fisher products.
#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "gramian/core/array.hpp"
#include "gramian/linalg/inverse_update.hpp"
#include "gramian/regression/kronecker_inverse.hpp"
#include "gramian/regression/mfac.hpp"

namespace gramian::python {
namespace {

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

void bind_inverses(py::module_& module) {
  const auto of_inverse = [](auto get) {
    return [get](const InverseBox& self) { return getter<RunningInverse>(get)(self.model); };
  };
  const auto of_factors = [](auto get) {
    return [get](const KroneckerBox& self) { return getter<KroneckerInverse>(get)(self.model); };
  };
  py::class_<InverseBox>(module, "RunningInverse")
      .def(py::init(&make_inverse), py::arg("d"), py::arg("diagonal"), py::arg("max_trace"), py::arg("keep_matrix"),
           py::arg("check_every"), py::arg("refresh_above"), py::arg("device"), py::arg("threads"))
      .def("update", &inverse_update, py::arg("X"), py::arg("forgetting"), py::arg("weight"), py::arg("one_by_one"))
      .def("multiply", &inverse_multiply, py::arg("X"))
      .def("matrix", &inverse_matrix)
      .def("residual", of_inverse([](const auto& model) { return model.residual(); }))
      .def("refine", [](InverseBox& self) { self.model.write([](RunningInverse& model) { model.refine(); }); })
      .def("state", &inverse_state)
      .def("restore", &inverse_restore, py::arg("state"))
      .def("rebuild", [](InverseBox& self) { self.model.write([](RunningInverse& model) { model.rebuild(); }); })
      .def_property_readonly("trace", of_inverse([](const auto& model) { return model.trace(); }))
      .def_property_readonly("updates", of_inverse([](const auto& model) { return model.updates(); }))
      .def_property_readonly("held_back", of_inverse([](const auto& model) { return model.held_back(); }))
      .def_property_readonly("refreshes", of_inverse([](const auto& model) { return model.refreshes(); }));

  py::class_<KroneckerBox>(module, "KroneckerInverse")
      .def(py::init(&make_kronecker), py::arg("n_out"), py::arg("n_in"), py::arg("paper"), py::arg("decay"),
           py::arg("limit"), py::arg("stabilisation"), py::arg("max_trace"), py::arg("device"), py::arg("threads"))
      .def("update", &kronecker_update, py::arg("l"), py::arg("r"))
      .def("precondition", &kronecker_precondition, py::arg("gradient"))
      .def("factor", &kronecker_factor, py::arg("left"))
      .def("state", &kronecker_state)
      .def("restore", &kronecker_restore, py::arg("state"))
      .def_property_readonly("resets", of_factors([](const auto& model) { return model.resets(); }))
      .def_property_readonly("held_back", of_factors([](const auto& model) {
                               return model.left().held_back() + model.right().held_back();
                             }));
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
      .def("effective_dimension", getter<Mfac>([](const auto& model) { return model.effective_dimension(); }))
      .def_property_readonly("size", getter<Mfac>([](const auto& model) { return model.size(); }))
      .def_property_readonly("refreshes", getter<Mfac>([](const auto& model) { return model.refreshes(); }));
}

}  // namespace

void bind_second_order(py::module_& module) {
  bind_inverses(module);
  bind_mfac(module);
}

}  // namespace gramian::python
