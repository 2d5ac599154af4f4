// What was built and what it runs on.
#pragma once

#include <string>

#include "gramian/core/export.hpp"

namespace gramian {

struct BuildInfo {
  std::string version;  // of the library
  std::string compiler;
  std::string kernel_isa;     // instruction set of our kernels in use: "base", "avx2", "avx512", "neon"
  std::string compiled_isas;  // all levels in the library, comma-separated
  std::string blas_provider;  // "openblas" or "eigen"
  std::string blas_core;      // the core name OpenBLAS chose for itself, "" with Eigen
  std::string blas_version;
  bool cuda_module = false;  // a CUDA module was found next to the library
  int threads = 0;           // default_threads()
};

GRAMIAN_EXPORT BuildInfo build_info();
GRAMIAN_EXPORT const char* version();

}  // namespace gramian
