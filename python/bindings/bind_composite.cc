// Model files made of named arrays and of whole models, for estimators that are more than one compiled model. A tensor
// of the model "m" stands in the file as "m/tensor", its kind and configuration under "models" in the configuration.
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "array_out.hpp"
#include "bindings.hpp"
#include "gramian/core/error.hpp"
#include "gramian/io/json.hpp"
#include "gramian/io/model_file.hpp"
#include "model_files.hpp"
#include "tensor_out.hpp"

namespace gramian::python {
namespace {

constexpr const char* kModel = "composite";
constexpr char kOf = '/';

struct Named {
  std::string name;
  TensorView view;
};

TensorType type_of(const py::array& array, const std::string& name) {
  if (py::isinstance<py::array_t<double>>(array)) return TensorType::f64;
  if (py::isinstance<py::array_t<float>>(array)) return TensorType::f32;
  if (py::isinstance<py::array_t<std::int64_t>>(array)) return TensorType::i64;
  if (py::isinstance<py::array_t<std::uint8_t>>(array)) return TensorType::u8;
  throw Error(ErrorCode::invalid_argument, "array '" + name + "' has a dtype that no model file holds");
}

// Views of arrays that `arrays` keeps alive.
std::vector<Named> views_of(const std::map<std::string, py::array>& arrays) {
  std::vector<Named> out;
  for (const auto& [name, array] : arrays) {
    GRAMIAN_REQUIRE(name.find(kOf) == std::string::npos, invalid_argument, "'" + name + "' is no name of an array");
    GRAMIAN_REQUIRE((array.flags() & py::array::c_style) != 0, invalid_argument, "array '" + name + "' has gaps");
    TensorView view;
    view.type = type_of(array, name);
    view.shape.assign(array.shape(), array.shape() + array.ndim());
    view.data = array.data();
    out.push_back({name, std::move(view)});
  }
  return out;
}

// body(writer) with the whole model in it.
template <class Body>
void with_writer(const std::string& config, const std::map<std::string, py::array>& arrays,
                 const std::map<std::string, py::bytes>& models, const Body& body) {
  const std::vector<Named> views = views_of(arrays);
  std::vector<std::pair<std::string, std::string_view>> files;
  for (const auto& [name, bytes] : models) files.emplace_back(name, static_cast<std::string_view>(bytes));
  without_gil([&] {
    Json json = Json::parse(config);
    json["models"] = Json::object();
    ModelWriter writer(kModel, Json::object());
    for (const Named& named : views) writer.add(named.name, named.view.type, named.view.shape, named.view.data);
    std::deque<ModelReader> readers;  // whose tensors the writer borrows
    for (const auto& [name, bytes] : files) {
      const ModelReader& reader = readers.emplace_back(ModelReader::from_bytes(bytes.data(), bytes.size()));
      Json& about = json["models"][name];
      about["model"] = reader.model();
      about["config"] = reader.config().dump();
      for (const std::string& tensor : reader.names()) {
        const TensorView view = reader.tensor(tensor);
        writer.add(name + kOf + tensor, view.type, view.shape, view.data);
      }
    }
    writer.set_config(std::move(json));
    body(writer);
  });
}

py::bytes composite_bytes(const std::string& config, const std::map<std::string, py::array>& arrays,
                          const std::map<std::string, py::bytes>& models) {
  std::vector<std::uint8_t> bytes;
  with_writer(config, arrays, models, [&](const ModelWriter& writer) { bytes = writer.bytes(); });
  return bytes_out(bytes);
}

void save_composite(const std::string& path, const std::string& config, const std::map<std::string, py::array>& arrays,
                    const std::map<std::string, py::bytes>& models) {
  with_writer(config, arrays, models, [&](const ModelWriter& writer) { writer.save(path); });
}

// The files that the models of a composite would be by themselves.
std::map<std::string, std::vector<std::uint8_t>> models_of(const ModelReader& reader) {
  std::map<std::string, std::vector<std::uint8_t>> out;
  for (const auto& [name, about] : reader.config().at("models").members()) {
    GRAMIAN_REQUIRE(name.find(kOf) == std::string::npos, file_format, "a model of the file has a '/' in its name");
    ModelWriter part(about.at("model").string(), Json::parse(about.at("config").string()));
    const std::string prefix = name + kOf;
    for (const std::string& tensor : reader.names()) {
      if (tensor.compare(0, prefix.size(), prefix) != 0) continue;
      const TensorView view = reader.tensor(tensor);
      part.add(tensor.substr(prefix.size()), view.type, view.shape, view.data);
    }
    out[name] = part.bytes();
  }
  return out;
}

// The reader stays, for the arrays are read into NumPy with the GIL.
struct Parts {
  explicit Parts(ModelReader from) : reader(std::move(from)) {
    require_kind(reader, kModel);
    files = models_of(reader);
    config = reader.config().dump();
  }
  ModelReader reader;
  std::map<std::string, std::vector<std::uint8_t>> files;
  std::string config;
};

Parts parts_of(ModelReader reader) {
  return Parts(std::move(reader));
}

// (JSON text of the configuration, version of the writer, arrays, models as files)
py::tuple parts_out(const Parts& parts) {
  py::dict arrays, models;
  for (const auto& [name, bytes] : parts.files) models[py::str(name)] = bytes_out(bytes);
  for (const std::string& name : parts.reader.names()) {
    const std::size_t slash = name.find(kOf);
    if (slash == std::string::npos) {
      arrays[py::str(name)] = tensor_out(parts.reader.tensor(name));
    } else {
      GRAMIAN_REQUIRE(parts.files.count(name.substr(0, slash)) == 1, file_format,
                      "a tensor of a model that is not there");
    }
  }
  return py::make_tuple(parts.config, parts.reader.library_version(), arrays, models);
}

py::tuple load_composite(const std::string& path) {
  return parts_out(read_file(path, parts_of));
}

py::tuple load_composite_bytes(const py::bytes& bytes) {
  return parts_out(read_bytes(bytes, parts_of));
}

bool is_composite(const std::string& path) {
  return read_file(path, [](const ModelReader& reader) { return reader.model() == kModel; });
}

}  // namespace

void bind_composite(py::module_& module) {
  module.def("composite_bytes", &composite_bytes, py::arg("config"), py::arg("arrays"), py::arg("models"));
  module.def("save_composite", &save_composite, py::arg("path"), py::arg("config"), py::arg("arrays"),
             py::arg("models"));
  module.def("load_composite", &load_composite, py::arg("path"));
  module.def("load_composite_bytes", &load_composite_bytes, py::arg("data"));
  module.def("is_composite", &is_composite, py::arg("path"));
}

}  // namespace gramian::python
