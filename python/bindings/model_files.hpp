// Models to and from files and bytes, the same way for every class. Files are read and written without the GIL.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "array_out.hpp"
#include "bindings.hpp"
#include "gramian/core/error.hpp"
#include "gramian/io/json.hpp"
#include "gramian/io/model_file.hpp"

namespace gramian::python {

// read(reader) of a model file. What it returns may borrow from the file only if it keeps the reader.
template <class Read>
auto read_file(const std::string& path, const Read& read) {
  std::optional<std::invoke_result_t<Read, ModelReader>> out;
  without_gil([&] { out.emplace(read(ModelReader::from_file(path))); });
  return std::move(*out);
}

// The same for a file in memory.
template <class Read>
auto read_bytes(const py::bytes& bytes, const Read& read) {
  const std::string_view data = bytes;
  std::optional<std::invoke_result_t<Read, ModelReader>> out;
  without_gil([&] { out.emplace(read(ModelReader::from_bytes(data.data(), data.size()))); });
  return std::move(*out);
}

inline void require_kind(const ModelReader& reader, const std::string& kind) {
  GRAMIAN_REQUIRE(reader.model() == kind, file_format,
                  "the file holds a model of kind '" + reader.model() + "', not '" + kind + "'");
}

// --- states: a file of their own, which holds nothing else ----------------------------------------------------------

// body(writer) with the state in it.
template <class State, class Body>
void write_state(const Guarded<State>& self, const char* kind, const Body& body) {
  self.alone([&](const State& state) {
    ModelWriter writer(kind, Json::object());
    Json config = Json::object();
    config["state"] = state.save(writer, "state.");
    writer.set_config(std::move(config));
    body(writer);
  });
}

// save(path) and save_bytes(), and as static methods load(path, device, threads) and load_bytes(data, device, threads).
template <class State>
void def_state_files(py::class_<Guarded<State>>& box, const char* kind) {
  using Box = Guarded<State>;
  const auto reader_of = [kind](const std::string& device, int threads) {
    return [kind, &device, threads](const ModelReader& reader) {
      require_kind(reader, kind);
      return std::make_unique<Box>(
          State::load(make_exec(device, threads), reader.config().at("state"), reader, "state."));
    };
  };
  box.def(
         "save",
         [kind](const Box& self, const std::string& path) {
           write_state(self, kind, [&](const ModelWriter& writer) { writer.save(path); });
         },
         py::arg("path"))
      .def("save_bytes",
           [kind](const Box& self) {
             std::vector<std::uint8_t> bytes;
             write_state(self, kind, [&](const ModelWriter& writer) { bytes = writer.bytes(); });
             return bytes_out(bytes);
           })
      .def_static(
          "load",
          [reader_of](const std::string& path, const std::string& device, int threads) {
            return read_file(path, reader_of(device, threads));
          },
          py::arg("path"), py::arg("device"), py::arg("threads"))
      .def_static(
          "load_bytes",
          [reader_of](const py::bytes& data, const std::string& device, int threads) {
            return read_bytes(data, reader_of(device, threads));
          },
          py::arg("data"), py::arg("device"), py::arg("threads"));
}

// --- estimators: a file with the caller's own configuration beside the model's --------------------------------------

// That configuration as JSON text, empty for none.
inline Json extra_in(const std::string& text) {
  return text.empty() ? Json() : Json::parse(text);
}

// options: what the model's save and save_bytes take before the configuration.
template <class Model, class... Options>
void save_model(const Guarded<Model>& self, const std::string& path, const std::string& extra, Options... options) {
  const Json config = extra_in(extra);
  self.alone([&](const Model& model) { model.save(path, options..., config); });
}

template <class Model, class... Options>
py::bytes model_bytes(const Guarded<Model>& self, const std::string& extra, Options... options) {
  const Json config = extra_in(extra);
  std::vector<std::uint8_t> bytes;
  self.alone([&](const Model& model) { bytes = model.save_bytes(options..., config); });
  return bytes_out(bytes);
}

// save(path, weights_only, extra) and save_bytes(weights_only, extra). A full file holds sums only; a weights-only file
// needs the weights, which saving then solves.
template <class Model>
void def_saving_weights(py::class_<Guarded<Model>>& box) {
  using Box = Guarded<Model>;
  box.def(
         "save",
         [](const Box& self, const std::string& path, bool weights_only, const std::string& extra) {
           save_model(self, path, extra, weights_only);
         },
         py::arg("path"), py::arg("weights_only"), py::arg("extra"))
      .def(
          "save_bytes",
          [](const Box& self, bool weights_only, const std::string& extra) {
            return model_bytes(self, extra, weights_only);
          },
          py::arg("weights_only"), py::arg("extra"));
}

// A model read back, not yet in Python, and its whole configuration as JSON text.
template <class Model>
struct ReadModel {
  std::unique_ptr<Guarded<Model>> model;
  std::string config;

  py::tuple tuple() { return py::make_tuple(std::move(model), config); }
};

template <class Model>
auto model_reader(const std::string& device, int threads) {
  return [&device, threads](const ModelReader& reader) {
    return ReadModel<Model>{std::make_unique<Guarded<Model>>(Model::load(make_exec(device, threads), reader)),
                            reader.config().dump()};
  };
}

// load_<name>(path, device, threads) and load_<name>_bytes(data, device, threads): (model, configuration).
template <class Model>
void def_loading(py::module_& module, const std::string& name) {
  module.def(("load_" + name).c_str(),
             [](const std::string& path, const std::string& device, int threads) {
               return read_file(path, model_reader<Model>(device, threads)).tuple();
             },
             py::arg("path"), py::arg("device"), py::arg("threads"));
  module.def(("load_" + name + "_bytes").c_str(),
             [](const py::bytes& data, const std::string& device, int threads) {
               return read_bytes(data, model_reader<Model>(device, threads)).tuple();
             },
             py::arg("data"), py::arg("device"), py::arg("threads"));
}

}  // namespace gramian::python
