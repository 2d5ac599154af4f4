#!/usr/bin/env bash
# Compiles and links the CUDA module where nvcc and the cuBLAS headers are there; one line says what came of it. What is
# missing or too old is no failure, what does not compile is one.
#
# usage: cuda_module.sh [BUILD]      from the root of the tree, with .venv ready; BUILD: build/cuda
set -euo pipefail
build="${1:-build/cuda}"

nvcc="$(command -v nvcc || true)"
if [[ -z "$nvcc" && -x /usr/local/cuda/bin/nvcc ]]; then
  nvcc=/usr/local/cuda/bin/nvcc
fi
if [[ -z "$nvcc" ]]; then
  echo "CUDA module: not compiled, nvcc is missing"
  exit 0
fi
too_old="$(.venv/bin/cmake -D NVCC="$nvcc" -P cpp/cmake/cuda_version.cmake)"
if [[ -n "$too_old" ]]; then
  echo "CUDA module: not compiled, $too_old"
  exit 0
fi
toolkit="$(dirname "$(dirname "$(readlink -f "$nvcc")")")"
if [[ -z "$(find -L "$toolkit" /usr/include -name cublas_v2.h -print -quit 2>/dev/null)" ]]; then
  echo "CUDA module: not compiled, the cuBLAS headers are missing"
  exit 0
fi

.venv/bin/cmake -S . -B "$build" -G Ninja -DCMAKE_MAKE_PROGRAM="$PWD/.venv/bin/ninja" \
  -DCMAKE_CUDA_COMPILER="$nvcc" -DGRAMIAN_EIGEN_DIR="$(.venv/bin/python third_party/eigen_wheel.py)" \
  -DGRAMIAN_BLAS=eigen -DGRAMIAN_CUDA=ON -DGRAMIAN_BUILD_TESTS=OFF
.venv/bin/cmake --build "$build" --target gramian_cuda
echo "CUDA module: compiled and linked"
