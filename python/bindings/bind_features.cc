#include "bind_features.hpp"

#include <algorithm>
#include <cmath>

#include "array_in.hpp"
#include "array_out.hpp"
#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "tensor_out.hpp"

namespace gramian::python {
namespace {

// Work space of a map grows with the rows it is given at once.
constexpr std::int64_t kBlockRows = 1024;

MapHandle random_features(std::int64_t n_inputs, std::int64_t n_features, const std::string& kind,
                          const std::string& activation, double scale, double bias, std::uint64_t seed,
                          std::int64_t n_nonzero) {
  RandomFeaturesConfig config;
  config.n_inputs = n_inputs;
  config.n_features = n_features;
  config.kind = parse_random_kind(kind);
  config.activation = parse_activation(activation);
  config.scale = scale;
  config.bias = bias;
  config.seed = seed;
  config.n_nonzero = n_nonzero;
  return {make_random_features(config)};
}

MapHandle rbf_features(const py::array_t<double, py::array::c_style>& centers, double gamma) {
  if (centers.ndim() != 2) throw Error(ErrorCode::shape_mismatch, "centers must have 2 dimensions");
  const MatrixView<const double> view(centers.data(), centers.shape(0), centers.shape(1));
  return {make_rbf_features(view, gamma)};
}

MapHandle composition(const std::vector<MapHandle*>& handles) {
  std::vector<FeatureMapPtr> maps;
  for (const MapHandle* handle : handles) maps.push_back(handle->map);
  return {make_composition(std::move(maps))};
}

MapHandle fusion(const std::vector<std::int64_t>& widths, const std::vector<py::object>& handles, bool mean) {
  std::vector<FeatureMapPtr> maps;
  for (const py::object& handle : handles) maps.push_back(map_in(handle));
  return {make_fusion(widths, std::move(maps), mean)};
}

// Rows of positive numbers that sum to 1, uniform on the simplex: exponential numbers over their sum.
py::object convex_weights(std::uint64_t seed, std::int64_t rows, std::int64_t cols) {
  const MatrixOut<double> out(rows, cols);
  const RngStream stream(seed, RngFamily::features, 17);
  for (std::int64_t r = 0; r < rows; ++r) {
    double total = 0;
    for (std::int64_t c = 0; c < cols; ++c) {
      out.view()(r, c) = -std::log(stream.uniform(static_cast<std::uint64_t>(r * cols + c)));
      total += out.view()(r, c);
    }
    for (std::int64_t c = 0; c < cols; ++c) out.view()(r, c) /= total;
  }
  return out.array();
}

template <class T>
void transform_blocks(const Exec& exec, const FeatureMap& map, const RowsView& x, MatrixView<T> out) {
  // On a device other than the host a block passes through its memory.
  const bool direct = exec.device() == Device::cpu;
  const std::int64_t block_rows = std::min(kBlockRows, x.rows);
  const Array<T> buffer = direct ? Array<T>() : Array<T>(exec, block_rows, out.cols);
  for (std::int64_t begin = 0; begin < x.rows; begin += kBlockRows) {
    exec.poll();
    const std::int64_t count = std::min(kBlockRows, x.rows - begin);
    const MatrixView<T> target = out.block(begin, 0, count, out.cols);
    const MatrixView<T> block = direct ? target : buffer.view().block(0, 0, count, out.cols);
    map.transform(exec, x.slice(begin, count), block);
    if (!direct) copy_out<T>(exec, block, target);
  }
}

template <class T>
py::object transform_as(const MapHandle& self, const RowsIn& x, const std::string& device, int threads) {
  const MatrixOut<T> out(x.rows(), self.map->n_features());
  without_gil([&] {
    const Exec exec = make_exec(device, threads);
    transform_blocks<T>(exec, *self.map, x.view(), out.view());
  });
  return out.array();
}

py::object transform(const MapHandle& self, const py::object& x, bool single, const std::string& device, int threads) {
  const RowsIn rows(x, "X");
  return single ? transform_as<float>(self, rows, device, threads) : transform_as<double>(self, rows, device, threads);
}

// The description a model file would hold: (JSON text, tensors by name).
py::tuple describe(const MapHandle& self) {
  ModelWriter writer("feature_map", Json::object());
  const std::string text = self.map->save(writer, "").dump();
  const std::vector<std::uint8_t> bytes = writer.bytes();
  const ModelReader reader = ModelReader::from_bytes(bytes.data(), bytes.size());
  py::dict tensors;
  for (const std::string& name : reader.names()) tensors[py::str(name)] = tensor_out(reader.tensor(name));
  return py::make_tuple(text, tensors);
}

}  // namespace

void bind_features(py::module_& module) {
  py::class_<MapHandle>(module, "FeatureMap")
      .def_property_readonly("n_inputs", [](const MapHandle& self) { return self.map->n_inputs(); })
      .def_property_readonly("n_features", [](const MapHandle& self) { return self.map->n_features(); })
      .def_property_readonly("flops_per_row", [](const MapHandle& self) { return self.map->flops_per_row(); })
      .def("transform", &transform, py::arg("X"), py::arg("single"), py::arg("device"), py::arg("threads"))
      .def("describe", &describe)
      .def("release_workspace", [](const MapHandle& self) { self.map->release_workspace(); });
  module.def("random_features", &random_features, py::arg("n_inputs"), py::arg("n_features"), py::arg("kind"),
             py::arg("activation"), py::arg("scale"), py::arg("bias"), py::arg("seed"), py::arg("n_nonzero"));
  module.def("rbf_features", &rbf_features, py::arg("centers"), py::arg("gamma"));
  module.def("composition", &composition, py::arg("maps"));
  module.def("fusion", &fusion, py::arg("widths"), py::arg("maps"), py::arg("mean"));
  module.def("convex_weights", &convex_weights, py::arg("seed"), py::arg("rows"), py::arg("cols"));
}

}  // namespace gramian::python
