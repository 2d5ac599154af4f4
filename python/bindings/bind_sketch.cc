// Sketches: operators and the sums of streams.
#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "gramian/core/array.hpp"
#include "gramian/core/round_seed.hpp"
#include "gramian/sketch/gradient_sketch.hpp"
#include "gramian/sketch/operator.hpp"
#include "gramian/sketch/sum.hpp"
#include "model_files.hpp"

namespace gramian::python {
namespace {

SketchOp make_sketch(const std::string& kind, std::int64_t n_out, std::int64_t n_in, std::uint64_t seed,
                     std::int64_t nnz, bool permute, std::vector<std::int64_t> appended, std::vector<std::int64_t> dims,
                     std::vector<double> scores, std::vector<std::int64_t> columns) {
  SketchDist dist;
  dist.kind = parse_sketch_kind(kind);
  dist.n_out = n_out;
  dist.n_in = n_in;
  dist.seed = seed;
  dist.nnz = nnz;
  dist.permute = permute;
  dist.appended = std::move(appended);
  dist.dims = std::move(dims);
  dist.scores = std::move(scores);
  dist.columns = std::move(columns);
  return SketchOp(std::move(dist));
}

// Runs body(exec, out) with `out` in the memory of exec, and brings it to the host.
template <class T, class Body>
py::object computed(std::int64_t rows, std::int64_t cols, const std::string& device, int threads, const Body& body) {
  const MatrixOut<T> out(rows, cols);
  without_gil([&] {
    const Exec exec = make_exec(device, threads);
    if (exec.device() == Device::cpu) return body(exec, out.view());
    const Array<T> there(exec, rows, cols);
    body(exec, there.view());
    copy_out<T>(exec, there.view(), out.view());
  });
  return out.array();
}

template <class T>
py::object apply_as(const SketchOp& self, const RowsIn& a, const std::string& device, int threads) {
  return computed<T>(self.dist().n_out, a.view().cols, device, threads,
                     [&](const Exec& exec, MatrixView<T> out) { self.apply<T>(exec, a.view(), out); });
}

py::object apply(const SketchOp& self, const py::object& a, bool single, const std::string& device, int threads) {
  const RowsIn rows(a, "A");
  return single ? apply_as<float>(self, rows, device, threads) : apply_as<double>(self, rows, device, threads);
}

template <class T>
py::object project_as(const SketchOp& self, const RowsIn& a, const std::string& device, int threads) {
  return computed<T>(a.rows(), self.dist().n_out, device, threads,
                     [&](const Exec& exec, MatrixView<T> out) { self.project<T>(exec, a.view(), out); });
}

py::object project(const SketchOp& self, const py::object& a, bool single, const std::string& device, int threads) {
  const RowsIn rows(a, "A");
  return single ? project_as<float>(self, rows, device, threads) : project_as<double>(self, rows, device, threads);
}

template <class T>
py::object adjoint_as(const SketchOp& self, const py::object& y, std::int64_t start, std::int64_t count,
                      const std::string& device, int threads) {
  const auto array = y.cast<py::array_t<T, py::array::c_style | py::array::forcecast>>();
  GRAMIAN_REQUIRE(array.ndim() == 2, shape_mismatch, "Y must have 2 dimensions");
  const MatrixView<const T> host(array.data(), array.shape(0), array.shape(1));
  return computed<T>(count, host.cols, device, threads, [&](const Exec& exec, MatrixView<T> out) {
    if (exec.device() == Device::cpu) return self.apply_adjoint<T>(exec, host, start, out);
    const Array<T> there(exec, host.rows, host.cols);
    upload<T>(exec, host, there.view());
    self.apply_adjoint<T>(exec, there.view(), start, out);
  });
}

py::object apply_adjoint(const SketchOp& self, const py::object& y, std::int64_t start, std::int64_t count, bool single,
                         const std::string& device, int threads) {
  GRAMIAN_REQUIRE(count >= 0, invalid_argument, "the number of rows must not be negative");
  return single ? adjoint_as<float>(self, y, start, count, device, threads)
                : adjoint_as<double>(self, y, start, count, device, threads);
}

template <class T>
py::object factors_as(const SketchOp& self, const std::vector<std::unique_ptr<RowsIn>>& factors,
                      const std::string& device, int threads) {
  std::vector<RowsView> views;
  for (const auto& factor : factors) views.push_back(factor->view());
  const std::int64_t rows = views.empty() ? 0 : views.front().rows;
  return computed<T>(rows, self.dist().n_out, device, threads,
                     [&](const Exec& exec, MatrixView<T> out) { self.apply_factors<T>(exec, views, out); });
}

py::object apply_factors(const SketchOp& self, const std::vector<py::object>& factors, bool single,
                         const std::string& device, int threads) {
  std::vector<std::unique_ptr<RowsIn>> rows;
  for (const py::object& factor : factors) rows.push_back(std::make_unique<RowsIn>(factor, "factors"));
  return single ? factors_as<float>(self, rows, device, threads) : factors_as<double>(self, rows, device, threads);
}

template <class T>
py::object materialise_as(const SketchOp& self, std::int64_t i0, std::int64_t i1, std::int64_t j0, std::int64_t j1,
                          const std::string& device, int threads) {
  return computed<T>(i1 - i0, j1 - j0, device, threads,
                     [&](const Exec& exec, MatrixView<T> out) { self.materialise<T>(exec, i0, j0, out); });
}

py::object materialise(const SketchOp& self, std::int64_t i0, std::int64_t i1, std::int64_t j0, std::int64_t j1,
                       bool single, const std::string& device, int threads) {
  GRAMIAN_REQUIRE(0 <= i0 && i0 <= i1 && 0 <= j0 && j0 <= j1, invalid_argument,
                  "a block of S is [i0, i1) x [j0, j1) with 0 <= i0 <= i1 and 0 <= j0 <= j1");
  return single ? materialise_as<float>(self, i0, i1, j0, j1, device, threads)
                : materialise_as<double>(self, i0, i1, j0, j1, device, threads);
}

template <class T>
using Sum = Guarded<SketchSum<T>>;

template <class T>
void bind_sum(py::module_& module, const char* name) {
  py::class_<Sum<T>>(module, name)
      .def(py::init([](const SketchOp& op, std::int64_t cols, const std::string& device) {
             return std::make_unique<Sum<T>>(SketchSum<T>(make_exec(device, 0), op, cols));
           }),
           py::arg("sketch"), py::arg("cols"), py::arg("device"))
      .def(
          "update",
          [](Sum<T>& self, const py::object& a, std::int64_t start, double weight, const std::string& device,
             int threads) {
            const RowsIn rows(a, "A");
            self.write([&](SketchSum<T>& sum) { sum.update(make_exec(device, threads), rows.view(), start, weight); });
          },
          py::arg("A"), py::arg("start"), py::arg("weight"), py::arg("device"), py::arg("threads"))
      .def(
          "merge",
          [](Sum<T>& self, const Sum<T>& other, const std::string& device) {
            self.write_with(other, [&](SketchSum<T>& mine, const SketchSum<T>& theirs) {
              mine.merge(make_exec(device, 0), theirs);
            });
          },
          py::arg("other"), py::arg("device"))
      .def(
          "result",
          [](const Sum<T>& self, const std::string& device, int threads) {
            std::int64_t rows = 0, cols = 0;
            self.read([&](const SketchSum<T>& sum) {
              rows = sum.op().dist().n_out;
              cols = sum.cols();
            });
            const MatrixOut<T> out(rows, cols);
            self.read([&](const SketchSum<T>& sum) {
              const Exec exec = make_exec(device, threads);
              if (exec.device() == Device::cpu) return sum.result(exec, out.view());
              const Array<T> there(exec, rows, cols);
              sum.result(exec, there.view());
              copy_out<T>(exec, there.view(), out.view());
            });
            return out.array();
          },
          py::arg("device"), py::arg("threads"))
      .def_property_readonly("rows",
                             [](const Sum<T>& self) {
                               std::int64_t rows = 0;
                               self.read([&](const SketchSum<T>& sum) { rows = sum.rows(); });
                               return rows;
                             })
      .def_property_readonly("nbytes",
                             [](const Sum<T>& self) {
                               std::int64_t bytes = 0;
                               self.read([&](const SketchSum<T>& sum) { bytes = sum.bytes(); });
                               return bytes;
                             })
      .def(
          "save",
          [](const Sum<T>& self, const std::string& device) {
            std::vector<std::uint8_t> bytes;
            self.read([&](const SketchSum<T>& sum) { bytes = sum.save(make_exec(device, 0)); });
            return bytes_out(bytes);
          },
          py::arg("device"))
      .def_static(
          "load",
          [](const py::bytes& data, const std::string& device) {
            return read_bytes(data, [&](const ModelReader& reader) {
              return std::make_unique<Sum<T>>(SketchSum<T>::load(make_exec(device, 0), reader));
            });
          },
          py::arg("data"), py::arg("device"))
      .def_property_readonly("cols", [](const Sum<T>& self) {
        std::int64_t cols = 0;
        self.read([&](const SketchSum<T>& sum) { cols = sum.cols(); });
        return cols;
      });
}

// What a saved sum is of: (JSON of the distribution, columns, is it float32?).
py::tuple sketch_sum_header(const py::bytes& data) {
  bool single = false;
  std::int64_t cols = 0;
  const std::string dist = read_bytes(data, [&](const ModelReader& reader) {
    GRAMIAN_REQUIRE(reader.model() == "sketch_sum", file_format,
                    "the file holds a '" + reader.model() + "', not a sketch");
    single = reader.config().at("dtype").string() == "float32";
    cols = reader.config().at("cols").integer();
    return SketchDist::from_json(reader.config().at("sketch")).to_json().dump();
  });
  return py::make_tuple(dist, cols, single);
}

// --- gradients -----------------------------------------------------------------------------------------------------

template <class T>
py::object encode_as(const GradientSketch& self, const py::object& gradients, std::uint64_t round,
                     const GradientGuard& guard, const std::string& device, int threads) {
  const RowsIn rows(gradients, "gradients");
  return computed<T>(rows.rows(), self.n_sketch(), device, threads, [&](const Exec& exec, MatrixView<T> out) {
    self.encode<T>(exec, rows.view(), round, guard, out);
  });
}

py::object encode_gradients(const GradientSketch& self, const py::object& gradients, std::uint64_t round, double clip,
                            const std::string& noise, double deviation, std::uint64_t noise_seed, bool single,
                            const std::string& device, int threads) {
  GradientGuard guard;
  guard.clip = clip;
  guard.noise = noise == "gradient" ? GradientGuard::Noise::gradient
                : noise == "sketch" ? GradientGuard::Noise::sketch
                                    : GradientGuard::Noise::none;
  guard.deviation = deviation;
  guard.noise_seed = noise_seed;
  return single ? encode_as<float>(self, gradients, round, guard, device, threads)
                : encode_as<double>(self, gradients, round, guard, device, threads);
}

template <class T>
py::object decode_as(const GradientSketch& self, const py::object& y, std::uint64_t round, const std::string& device,
                     int threads) {
  const auto array = y.cast<py::array_t<T, py::array::c_style | py::array::forcecast>>();
  GRAMIAN_REQUIRE(array.ndim() == 2, shape_mismatch, "sketches must have 2 dimensions");
  const MatrixView<const T> host(array.data(), array.shape(0), array.shape(1));
  return computed<T>(host.rows, self.n_params(), device, threads, [&](const Exec& exec, MatrixView<T> out) {
    if (exec.device() == Device::cpu) return self.decode<T>(exec, host, round, out);
    const Array<T> there(exec, host.rows, host.cols);
    upload<T>(exec, host, there.view());
    self.decode<T>(exec, there.view(), round, out);
  });
}

py::object decode_gradients(const GradientSketch& self, const py::object& y, std::uint64_t round, bool single,
                            const std::string& device, int threads) {
  return single ? decode_as<float>(self, y, round, device, threads)
                : decode_as<double>(self, y, round, device, threads);
}

void bind_gradients(py::module_& module) {
  py::class_<GradientSketch>(module, "GradientSketch")
      .def(py::init(
               [](const std::string& kind, std::int64_t n_params, std::int64_t n_sketch, std::uint64_t seed,
                  std::int64_t nnz) { return GradientSketch(parse_sketch_kind(kind), n_params, n_sketch, seed, nnz); }),
           py::arg("kind"), py::arg("n_params"), py::arg("n_sketch"), py::arg("seed"), py::arg("nnz"))
      .def("encode", &encode_gradients, py::arg("gradients"), py::arg("round"), py::arg("clip"), py::arg("noise"),
           py::arg("deviation"), py::arg("noise_seed"), py::arg("single"), py::arg("device"), py::arg("threads"))
      .def("decode", &decode_gradients, py::arg("sketches"), py::arg("round"), py::arg("single"), py::arg("device"),
           py::arg("threads"))
      .def_property_readonly("second_moment", &GradientSketch::second_moment)
      .def_property_readonly("norm_bound", &GradientSketch::norm_bound);
  module.def("round_seed", &round_seed, py::arg("seed"), py::arg("round"));
}

}  // namespace

void bind_sketch(py::module_& module) {
  py::class_<SketchOp>(module, "Sketch")
      .def(py::init(&make_sketch), py::arg("kind"), py::arg("n_out"), py::arg("n_in"), py::arg("seed"), py::arg("nnz"),
           py::arg("permute"), py::arg("appended"), py::arg("dims"), py::arg("scores"), py::arg("columns"))
      .def("apply", &apply, py::arg("A"), py::arg("single"), py::arg("device"), py::arg("threads"))
      .def("project", &project, py::arg("A"), py::arg("single"), py::arg("device"), py::arg("threads"))
      .def("apply_adjoint", &apply_adjoint, py::arg("Y"), py::arg("start"), py::arg("count"), py::arg("single"),
           py::arg("device"), py::arg("threads"))
      .def("apply_factors", &apply_factors, py::arg("factors"), py::arg("single"), py::arg("device"),
           py::arg("threads"))
      .def("materialise", &materialise, py::arg("i0"), py::arg("i1"), py::arg("j0"), py::arg("j1"), py::arg("single"),
           py::arg("device"), py::arg("threads"))
      .def("describe", [](const SketchOp& self) { return self.dist().to_json().dump(); });
  bind_sum<float>(module, "SketchSum32");
  bind_sum<double>(module, "SketchSum64");
  module.def("sketch_sum_header", &sketch_sum_header, py::arg("data"));
  bind_gradients(module);
}

}  // namespace gramian::python
