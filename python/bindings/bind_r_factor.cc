// The mergeable triangle of least squares.
#include <memory>
#include <optional>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bindings.hpp"
#include "gramian/core/error.hpp"
#include "gramian/gram/r_factor.hpp"

namespace gramian::python {
namespace {

using Box = Guarded<RFactor>;

constexpr const char* kModelName = "r_factor";

void add(Box& self, const py::object& x, const py::object& y, const py::object& weight) {
  const RowsIn rows(x, "X");
  std::optional<RowsIn> targets;
  if (!y.is_none()) targets.emplace(y, "Y");
  const VectorIn<double> weights(weight, rows.rows(), "sample_weight");
  RowsView none;
  none.rows = rows.rows();
  self.write([&](RFactor& r) { r.add(rows.view(), targets ? targets->view() : none, weights.data()); });
}

template <class T, class Get>
auto getter(Get get) {
  return [get](const Box& self) {
    T value{};
    self.read([&](const RFactor& r) { value = get(r); });
    return value;
  };
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

template <class Body>
void with_writer(const RFactor& r, const Body& body) {
  ModelWriter writer(kModelName, Json::object());
  Json config = Json::object();
  config["state"] = r.save(writer, "state.");
  writer.set_config(std::move(config));
  body(writer);
}

std::unique_ptr<Box> read(const ModelReader& reader, const std::string& device, int threads) {
  GRAMIAN_REQUIRE(reader.model() == kModelName, file_format,
                  "the file holds a model of kind '" + reader.model() + "', not '" + kModelName + "'");
  return std::make_unique<Box>(
      RFactor::load(make_exec(device, threads), reader.config().at("state"), reader, "state."));
}

}  // namespace

void bind_r_factor(py::module_& module) {
  py::class_<Box>(module, "RFactor")
      .def(py::init([](std::int64_t n_features, std::int64_t n_outputs, const std::string& device, int threads) {
             return std::make_unique<Box>(RFactor(make_exec(device, threads), n_features, n_outputs));
           }),
           py::arg("n_features"), py::arg("n_outputs"), py::arg("device"), py::arg("threads"))
      .def_property_readonly("n_features", getter<std::int64_t>([](const auto& r) { return r.n_features(); }))
      .def_property_readonly("n_outputs", getter<std::int64_t>([](const auto& r) { return r.n_outputs(); }))
      .def_property_readonly("n_rows", getter<std::int64_t>([](const auto& r) { return r.n_rows(); }))
      .def_property_readonly("nbytes", getter<std::size_t>([](const auto& r) { return r.bytes(); }))
      .def("add", &add, py::arg("X"), py::arg("Y"), py::arg("weight"))
      .def("merge",
           [](Box& self, const Box& other) {
             self.write_with(other, [](RFactor& mine, const RFactor& theirs) { mine.merge(theirs); });
           },
           py::arg("other"))
      .def("triangle", &triangle)
      .def("solve", &solve, py::arg("rtol"), py::arg("ridge"))
      .def("save",
           [](const Box& self, const std::string& path) {
             self.read([&](const RFactor& r) { with_writer(r, [&](const ModelWriter& w) { w.save(path); }); });
           },
           py::arg("path"))
      .def("save_bytes",
           [](const Box& self) {
             std::vector<std::uint8_t> bytes;
             self.read([&](const RFactor& r) { with_writer(r, [&](const ModelWriter& w) { bytes = w.bytes(); }); });
             return bytes_out(bytes);
           })
      .def_static(
          "load",
          [](const std::string& path, const std::string& device, int threads) {
            std::unique_ptr<Box> out;
            without_gil([&] { out = read(ModelReader::from_file(path), device, threads); });
            return out;
          },
          py::arg("path"), py::arg("device"), py::arg("threads"))
      .def_static(
          "load_bytes",
          [](const py::bytes& bytes, const std::string& device, int threads) {
            const std::string_view data = bytes;
            std::unique_ptr<Box> out;
            without_gil([&] { out = read(ModelReader::from_bytes(data.data(), data.size()), device, threads); });
            return out;
          },
          py::arg("data"), py::arg("device"), py::arg("threads"));
}

}  // namespace gramian::python
