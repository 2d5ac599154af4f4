// Devices, threads, build information.
#include <atomic>

#include "array_in.hpp"
#include "bindings.hpp"
#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/core/processors.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/version.hpp"

namespace gramian::python {
namespace {

// Between pieces of work that wait for the GIL, which another thread may hold for some milliseconds.
constexpr double kSecondsBetweenSignals = 0.1;

bool signal_raised() {
  py::gil_scoped_acquire gil;
  // The exception stays set in this thread; the error translator finds it there.
  return PyErr_Occurred() != nullptr || PyErr_CheckSignals() != 0;
}

py::dict build_info_dict() {
  const BuildInfo info = build_info();
  py::dict out;
  out["version"] = info.version;
  out["compiler"] = info.compiler;
  out["kernel_isa"] = info.kernel_isa;
  out["compiled_isas"] = info.compiled_isas;
  out["blas_provider"] = info.blas_provider;
  out["blas_core"] = info.blas_core;
  out["blas_version"] = info.blas_version;
  out["cuda_module"] = info.cuda_module;
  out["threads"] = info.threads;
  return out;
}

py::tuple device_state(const std::string& device) {
  std::string reason;
  bool available = false;
  const DeviceName name = parse_device(device);
  without_gil([&] { available = device_available(name.device, &reason); });
  return py::make_tuple(available, reason);
}

py::dict memory_dict() {
  const MemoryStats stats = memory_stats();
  py::dict out;
  out["live"] = stats.live;
  out["peak"] = stats.peak;
  out["largest"] = stats.largest;
  out["count"] = stats.count;
  return out;
}

std::vector<std::uint64_t> permutation_head(std::uint64_t seed, std::uint64_t n, std::uint64_t count) {
  const RngStream stream(seed, RngFamily::features, 16);
  std::vector<std::uint64_t> out;
  out.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) out.push_back(stream.permute(n, i));
  return out;
}

}  // namespace

Exec make_exec(const std::string& device, int threads) {
  const DeviceName name = parse_device(device);
  Exec exec(name.device, threads, name.index);
  exec.set_cancel_hook(signal_raised, kSecondsBetweenSignals);
  return exec;
}

void bind_core(py::module_& module) {
  module.attr("__version__") = version();
  module.def("build_info", &build_info_dict);
  module.def("default_threads", &default_threads);
  module.def("set_default_threads", &set_default_threads, py::arg("threads"));
  module.def("available_processors", &available_processors);
  module.def("device_available", &device_state, py::arg("device"));
  module.def("memory_stats", &memory_dict);
  module.def("reset_memory_stats", &reset_memory_stats);
  module.def(
      "check_csr", [](const py::object& rows, const char* name) { RowsIn(rows, name); }, py::arg("rows"),
      py::arg("name"));
  module.def("permutation_head", &permutation_head, py::arg("seed"), py::arg("n"), py::arg("count"));
}

}  // namespace gramian::python
