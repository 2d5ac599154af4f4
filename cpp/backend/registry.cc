#include "backend/registry.h"

#include <cstdlib>
#include <fstream>

#include "backend/cpu/blas.h"
#include "backend/cpu/detect.h"
#include "backend/cpu/kernels/kernels.h"
#include "gramian/core/error.hpp"

#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace gramian::backend {
namespace {

// --- the CPU ---------------------------------------------------------------------------------------------------------

struct Level {
  Isa isa;
  void (*fill)(gramian_op_table*);
};

// The levels in this library, worst first.
const Level kLevels[] = {
#if defined(GRAMIAN_HAVE_ISA_NEON)
    {Isa::neon, gramian_fill_kernels_neon},
#else
    {Isa::base, gramian_fill_kernels_base},
#endif
#if defined(GRAMIAN_HAVE_ISA_AVX2)
    {Isa::avx2, gramian_fill_kernels_avx2},
#endif
#if defined(GRAMIAN_HAVE_ISA_AVX512)
    {Isa::avx512, gramian_fill_kernels_avx512},
#endif
};

// Edges of square tiles: OpenBLAS wants long sides to make up for its packing, Eigen's blocks are smaller. Both leave a
// few dozen tiles to share out at the sizes where threads pay.
constexpr int kOpenblasTile = 512;
constexpr int kEigenTile = 256;

gramian_op_table level_table(const Level& level) {
  gramian_op_table table = {};
  table.api_version = GRAMIAN_OP_API_VERSION;
  table.struct_size = sizeof table;
  table.name = isa_name(level.isa);
  table.memory = GRAMIAN_HOST_MEMORY;
  table.tile = kEigenTile;
  gramian_fill_memory_cpu(&table);
  level.fill(&table);
  return table;
}

const char* variable(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? text : nullptr;
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// The tables that run on this machine and the choice among them.
struct CpuTables {
  struct Entry {
    Isa isa;
    gramian_op_table table;
  };
  std::vector<Entry> levels;  // not changed once made: others keep addresses
  gramian_op_table openblas;
  const Entry* isa = nullptr;               // chosen
  const gramian_op_table* table = nullptr;  // chosen

  CpuTables() {
    levels.reserve(sizeof kLevels / sizeof *kLevels);
    for (const Level& level : kLevels) {
      if (isa_obstacle(level.isa).empty()) levels.push_back({level.isa, level_table(level)});
    }
    isa = choose_isa();
    const bool eigen = choose_eigen();
    if (has_openblas()) {
      openblas = openblas_table(isa->table);
      openblas.tile = kOpenblasTile;
    }
    table = eigen ? &isa->table : &openblas;
  }
  CpuTables(const CpuTables&) = delete;
  CpuTables& operator=(const CpuTables&) = delete;

 private:
  const Entry* choose_isa() const {
    GRAMIAN_REQUIRE(!levels.empty(), unsupported, "no instruction set of this build runs on this machine");
    const char* forced = variable("GRAMIAN_FORCE_ISA");
    if (forced == nullptr) return &levels.back();
    std::vector<std::string> possible;
    for (const Entry& entry : levels) {
      if (std::string(forced) == entry.table.name) return &entry;
      possible.push_back(entry.table.name);
    }
    std::string why = "unknown";
    for (const Isa isa : {Isa::base, Isa::avx2, Isa::avx512, Isa::neon}) {
      if (std::string(forced) != isa_name(isa)) continue;
      why = isa_obstacle(isa);
      if (why.empty()) why = "not compiled into this library";
    }
    throw Error(ErrorCode::unsupported,
                "GRAMIAN_FORCE_ISA=" + std::string(forced) + ": " + why + "; possible here: " + join(possible));
  }

  static bool choose_eigen() {
    const char* forced = variable("GRAMIAN_BLAS_PROVIDER");
    if (forced == nullptr) return !has_openblas();
    const std::string name = forced;
    if (name == "eigen") return true;
    if (name == "openblas" && has_openblas()) return false;
    throw Error(ErrorCode::unsupported, "GRAMIAN_BLAS_PROVIDER=" + name + ": " +
                                            (name == "openblas" ? "this library was built without it" : "unknown") +
                                            "; possible here: " + (has_openblas() ? "openblas, eigen" : "eigen"));
  }
};

const CpuTables& cpu_tables() {
  static const CpuTables tables;
  return tables;
}

// --- the CUDA module -------------------------------------------------------------------------------------------------

bool is_file(const std::string& path) {
  return std::ifstream(path).good();
}

#if defined(__linux__)
constexpr const char* kModuleFile = "libgramian_cuda.so";

// The folder of the library or module that holds this code, with a slash at its end; "" if it is not known.
std::string own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return "";
  const std::string path = info.dli_fname;
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

// Where the module is looked for. A path that the user names is the only one: another module must not take its place.
std::vector<std::string> module_paths() {
  if (const char* named = variable("GRAMIAN_CUDA_MODULE")) return {named};
  const std::string folder = own_folder();
  return {folder + kModuleFile, folder + "gramian_cuda/" + kModuleFile};
}

std::string module_path() {
  for (const std::string& path : module_paths()) {
    if (is_file(path)) return path;
  }
  return "";
}

// An absolute or relative path, never a bare name: dlopen would search other folders for that.
void* open_library(const std::string& path) {
  const std::string file = path.find('/') == std::string::npos ? "./" + path : path;
  return dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
}

std::string loader_text() {
  const char* text = dlerror();
  return text != nullptr ? text : "no reason given";
}

// Opened libraries are never closed: the driver and its threads do not survive that.
const gramian_op_table* load_cuda_table() {
  GRAMIAN_REQUIRE(dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) != nullptr, backend,
                  "no NVIDIA driver (libcuda.so.1) on this machine");
  const std::string path = module_path();
  GRAMIAN_REQUIRE(!path.empty(), unsupported, "no CUDA module: looked for " + join(module_paths()));
  void* const module = open_library(path);
  GRAMIAN_REQUIRE(module != nullptr, backend, "the CUDA module cannot be opened: " + loader_text());
  using Entry = const gramian_op_table* (*)();
  const Entry entry = reinterpret_cast<Entry>(dlsym(module, "gramian_backend_v1"));
  GRAMIAN_REQUIRE(entry != nullptr, backend, path + " is no CUDA module of gramian: " + loader_text());
  const gramian_op_table* const table = entry();
  GRAMIAN_REQUIRE(table != nullptr, backend, path + " gives no table of operations");
  // Nothing behind these two fields has a meaning before they are right.
  GRAMIAN_REQUIRE(table->api_version == GRAMIAN_OP_API_VERSION && table->struct_size == sizeof(gramian_op_table),
                  backend,
                  path + " belongs to another version of gramian: its table of operations is version " +
                      std::to_string(table->api_version) + " with " + std::to_string(table->struct_size) +
                      " bytes, this library needs version " + std::to_string(GRAMIAN_OP_API_VERSION) + " with " +
                      std::to_string(sizeof(gramian_op_table)));
  void* device_state = nullptr;
  GRAMIAN_REQUIRE(table->open(0, &device_state) == 0, backend, table->error_text());
  table->close(device_state);
  return table;
}
#else
std::string module_path() {
  return "";
}

const gramian_op_table* load_cuda_table() {
  throw Error(ErrorCode::unsupported, "device \"cuda\" exists on Linux only");
}
#endif

// The answer of the first request, good or bad, is kept: a device does not come and go.
struct CudaTable {
  const gramian_op_table* table = nullptr;
  ErrorCode code = ErrorCode::backend;
  std::string reason;

  CudaTable() {
    try {
      table = load_cuda_table();
    } catch (const Error& error) {
      code = error.code();
      reason = error.what();
    }
  }
};

const CudaTable& cuda() {
  static const CudaTable answer;
  return answer;
}

}  // namespace

const gramian_op_table& cpu_table() {
  return *cpu_tables().table;
}

const gramian_op_table& cuda_table() {
  const CudaTable& answer = cuda();
  if (answer.table == nullptr) throw Error(answer.code, answer.reason);
  return *answer.table;
}

std::string cpu_isa() {
  return cpu_tables().isa->table.name;
}

std::string compiled_isas() {
  std::vector<std::string> names;
  for (const Level& level : kLevels) names.push_back(isa_name(level.isa));
  return join(names);
}

std::string blas_provider() {
  return cpu_tables().table == &cpu_tables().openblas ? "openblas" : "eigen";
}
std::string blas_core() {
  return blas_provider() == "openblas" ? openblas_core() : "";
}
std::string blas_version() {
  return blas_provider() == "openblas" ? openblas_version() : "";
}

bool cuda_module_present() {
  return !module_path().empty();
}

std::vector<const gramian_op_table*> all_tables() {
  std::vector<const gramian_op_table*> tables;
  for (const CpuTables::Entry& entry : cpu_tables().levels) tables.push_back(&entry.table);
  if (has_openblas()) tables.push_back(&cpu_tables().openblas);
  if (cuda().table != nullptr) tables.push_back(cuda().table);
  return tables;
}

std::vector<std::pair<std::string, std::string>> unavailable_tables() {
  std::vector<std::pair<std::string, std::string>> reasons;
  for (const Isa isa : {Isa::base, Isa::avx2, Isa::avx512, Isa::neon}) {
    bool compiled = false;
    for (const Level& level : kLevels) compiled = compiled || level.isa == isa;
    const std::string obstacle = isa_obstacle(isa);
    if (!obstacle.empty()) {
      reasons.emplace_back(isa_name(isa), obstacle);
    } else if (!compiled) {
      reasons.emplace_back(isa_name(isa), "not compiled into this library");
    }
  }
  if (!has_openblas()) reasons.emplace_back("openblas", "this library was built without it");
  if (cuda().table == nullptr) reasons.emplace_back("cuda", cuda().reason);
  return reasons;
}

}  // namespace gramian::backend
