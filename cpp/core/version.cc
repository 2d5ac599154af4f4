#include "gramian/version.hpp"

#include "backend/registry.h"
#include "gramian/core/exec.hpp"

namespace gramian {
namespace {

std::string compiler() {
#if defined(__clang__)
  return std::string("clang ") + __clang_version__;
#elif defined(__GNUC__)
  return std::string("gcc ") + __VERSION__;
#else
  return "unknown";
#endif
}

}  // namespace

BuildInfo build_info() {
  BuildInfo info;
  info.version = version();
  info.compiler = compiler();
  info.kernel_isa = backend::cpu_isa();
  info.compiled_isas = backend::compiled_isas();
  info.blas_provider = backend::blas_provider();
  info.blas_core = backend::blas_core();
  info.blas_version = backend::blas_version();
  info.cuda_module = backend::cuda_module_present();
  info.threads = default_threads();
  return info;
}

const char* version() {
  return GRAMIAN_VERSION;
}

}  // namespace gramian
