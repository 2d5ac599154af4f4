# The commands of this project, each one obvious. All but clean work from a fresh clone; the virtual environment .venv
# and the build folder build/ are made here and kept.
PYTHON ?= python3
CXX ?= g++
VENV := .venv
PY := $(VENV)/bin/python
CMAKE := $(VENV)/bin/cmake
DEV := build/dev
ARM := build/arm
AVX512 := build/avx512
GPU := build/gpu
JOBS := $(shell nproc 2>/dev/null || echo 2)
CMAKE_BUILD_PARALLEL_LEVEL ?= $(JOBS)
export CMAKE_BUILD_PARALLEL_LEVEL

.DEFAULT_GOAL := help
.PHONY: help demo test bench check-full test-arm test-avx512 test-gpu check-install lint format wheel clean dev
help:
	@echo "make demo           stream data through an exact incremental learner (FULL=1: the long run)"
	@echo "make test           build once, then all C++ and Python tests"
	@echo "make bench          measure operations and learners on this machine"
	@echo "make check-full     the long checks of accuracy, on real data where GRAMIAN_DATA names it"
	@echo "make test-arm       the conformance list on arm64 under qemu"
	@echo "make test-avx512    the conformance list on AVX-512 under Bochs"
	@echo "make test-gpu       the CUDA tests, with the tools of this machine only"
	@echo "make check-install  every way to install, from a copy of the sources (it builds three times: minutes)"
	@echo "make lint           formatting and static checks"
	@echo "make format         what make lint wants"
	@echo "make wheel          dist/*.whl, checked and installed into an empty environment"
	@echo "make clean          remove build/ and .venv/"

# --- the environment: one line for each thing that is missing -------------------------------------------------------
PYTHON_H := import os, sys, sysconfig; \
  sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))

$(VENV)/.ready: pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "gramian needs Python 3.10 or newer (Debian package: python3)"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "gramian needs Python 3.10 or newer; make PYTHON=python3.12 names another one"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "gramian needs Python's venv module (Debian package: python3-venv)"; exit 1; }
	@"$(PYTHON)" -c '$(PYTHON_H)' || \
	  { echo "gramian needs the Python headers, Python.h is missing (Debian package: python3-dev)"; exit 1; }
	@command -v $(firstword $(CXX)) >/dev/null || \
	  { echo "gramian needs a C++17 compiler (Debian package: g++)"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	sed -n '/^requires = \[/,/^\]/s/^ *"\(.*\)",*$$/\1/p' pyproject.toml > $(VENV)/build-requirements.txt
	$(PY) -m pip install --quiet 'cmake>=3.24' ninja -r $(VENV)/build-requirements.txt
	@touch $@

# --- the development build: an editable install whose kept build folder also holds the C++ tests --------------------
SOURCE_DIRS := cpp include python third_party tests/cpp tests/gates tests/bench
SOURCES := $(shell find $(SOURCE_DIRS) -type f ! -name '*.py' ! -name '*.pyc' ! -name '*.md' 2>/dev/null)
# The list of names changes when a file comes or goes, Python modules included; their content needs no rebuild.
$(shell mkdir -p build; find $(SOURCE_DIRS) -type f ! -name '*.pyc' | LC_ALL=C sort > build/sources.new; \
  cmp -s build/sources.new build/sources.list && rm build/sources.new || mv build/sources.new build/sources.list)

build/dev.stamp: $(VENV)/.ready build/sources.list CMakeLists.txt pyproject.toml tests/CMakeLists.txt $(SOURCES)
	$(PY) -m pip install --quiet --no-build-isolation --editable '.[test]' \
	  --config-settings=build-dir=$(DEV) \
	  --config-settings=cmake.define.GRAMIAN_BUILD_TESTS=ON \
	  --config-settings=cmake.define.GRAMIAN_GTEST_OPTIONAL=ON
	@touch $@

dev: build/dev.stamp

demo: build/dev.stamp
	$(VENV)/bin/gramian demo $(if $(FULL),--full)

# GTEST=required makes a missing GoogleTest a failure. The stamp goes, so that the next run looks for it again.
GTEST ?= optional
test: build/dev.stamp
	@$(VENV)/bin/ctest --test-dir $(DEV) --show-only -L unit | grep -q '^Total Tests: [1-9]' || \
	  { echo "no C++ unit tests: GoogleTest is missing (Debian package: libgtest-dev)"; \
	    rm -f build/dev.stamp; test "$(GTEST)" != required; }
	$(VENV)/bin/ctest --test-dir $(DEV) --output-on-failure --no-tests=error -j $(JOBS)
	$(PY) -m pytest

# A core type that is forced on OpenBLAS slows both sides of every comparison, the peers' more than ours.
CLEAN_BLAS := env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE
bench: build/dev.stamp
	$(CLEAN_BLAS) $(DEV)/tests/cpp/conformance/gramian_conformance bench
	$(CLEAN_BLAS) $(DEV)/tests/bench/gramian_bench_tiles
	@for script in tests/bench/bench_*.py; do echo "== $$script"; $(CLEAN_BLAS) $(PY) $$script || exit 1; done

# All of them run, whatever fails; 77 is what a check ends with that cannot run here, after it has said why.
CHECKS := $(wildcard tests/bench/check_*.py)
check-full: build/dev.stamp
	@failed=; skipped=; for script in $(CHECKS); do \
	  echo "== $$script"; code=0; $(CLEAN_BLAS) $(PY) $$script || code=$$?; \
	  case $$code in 0) ;; 77) skipped="$$skipped $$script" ;; *) failed="$$failed $$script" ;; esac; done; \
	  echo "skipped:$${skipped:- none}"; echo "failed:$${failed:- none}"; test -z "$$failed"

# --- arm64 ----------------------------------------------------------------------------------------------------------
ARM_ROOT ?= /usr/aarch64-linux-gnu
test-arm: $(VENV)/.ready
	@command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null || \
	  { echo "make test-arm needs a cross compiler and qemu (Debian packages: g++-aarch64-linux-gnu, qemu-user)"; exit 1; }
	$(CMAKE) -S . -B $(ARM) -G Ninja -DCMAKE_MAKE_PROGRAM="$(CURDIR)/$(VENV)/bin/ninja" \
	  -DCMAKE_TOOLCHAIN_FILE="$(CURDIR)/cpp/cmake/aarch64-linux-gnu.cmake" \
	  -DGRAMIAN_EIGEN_DIR="$$($(PY) third_party/eigen_wheel.py)" \
	  -DGRAMIAN_BLAS=eigen -DGRAMIAN_CUDA=OFF -DGRAMIAN_GTEST_OPTIONAL=ON
	$(CMAKE) --build $(ARM) --target gramian_conformance
	qemu-aarch64 -L "$(ARM_ROOT)" $(ARM)/tests/cpp/conformance/gramian_conformance check
	qemu-aarch64 -L "$(ARM_ROOT)" $(ARM)/tests/cpp/conformance/gramian_conformance faults
	qemu-aarch64 -L "$(ARM_ROOT)" $(ARM)/tests/cpp/conformance/gramian_conformance starve

# --- AVX-512: on any x86-64 processor, in an emulated computer that boots a small Linux -----------------------------
# What runs in the emulator, one quoted text a run.
AVX512_RUNS ?= "check --table avx512" "faults --table avx512"
# KERNEL=/boot/vmlinuz-... names another kernel; Debian's smallest is fetched and unpacked below build/ otherwise.
KERNEL ?=
DEBIAN_KERNEL := $(AVX512)/linux/vmlinuz
test-avx512: $(VENV)/.ready $(if $(KERNEL),$(KERNEL),$(DEBIAN_KERNEL))
	@command -v bochs >/dev/null && command -v xorriso >/dev/null && test -e /usr/lib/ISOLINUX/isolinux.bin && \
	  test -e /usr/share/bochs/BIOS-bochs-latest && test -e /usr/share/vgabios/vgabios.bin || \
	  { echo "make test-avx512 needs an emulator and what it boots" \
	    "(Debian packages: bochs, bochs-term, bochsbios, vgabios, isolinux, xorriso)"; exit 1; }
	$(CMAKE) -S . -B $(AVX512) -G Ninja -DCMAKE_MAKE_PROGRAM="$(CURDIR)/$(VENV)/bin/ninja" \
	  -DGRAMIAN_EIGEN_DIR="$$($(PY) third_party/eigen_wheel.py)" -DCMAKE_EXE_LINKER_FLAGS=-static \
	  -DGRAMIAN_ISA=avx512 -DGRAMIAN_BLAS=eigen -DGRAMIAN_CUDA=OFF -DGRAMIAN_GTEST_OPTIONAL=ON
	$(CMAKE) --build $(AVX512) --target gramian_conformance
	$(CXX) -std=c++17 -O2 -static tests/emulator/init.cc -o $(AVX512)/init
	$(PY) tests/emulator/run_in_bochs.py --kernel $(if $(KERNEL),"$(KERNEL)",$(DEBIAN_KERNEL)) --init $(AVX512)/init \
	  --work $(AVX512)/emulated $(AVX512)/tests/cpp/conformance/gramian_conformance $(AVX512_RUNS)

$(DEBIAN_KERNEL):
	@command -v apt-get >/dev/null || { echo "make test-avx512 needs a kernel to boot: KERNEL=/boot/vmlinuz-..."; exit 1; }
	rm -rf $(@D)
	mkdir -p $(@D)
	cd $(@D) && apt-get download -qq "$$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p')"
	cd $(@D) && dpkg-deb --extract *.deb . && mv boot/vmlinuz-* vmlinuz && rm -rf *.deb boot lib usr

# --- CUDA: nothing is installed; the machine's own nvcc, CMake, ninja, pybind11 and NumPy are used -------------------
DEVICE_COUNT := import ctypes, sys; cuda = ctypes.CDLL("libcuda.so.1"); n = ctypes.c_int(); \
  sys.exit(bool(cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(n)) or n.value == 0))
test-gpu: export GRAMIAN_CUDA_MODULE = $(CURDIR)/$(GPU)/cpp/libgramian_cuda.so
test-gpu:
	cmake -S . -B $(GPU) -G Ninja -DPython_EXECUTABLE="$$(command -v "$(PYTHON)")" -DGRAMIAN_BUILD_PYTHON=ON \
	  -DGRAMIAN_BUILD_TESTS=ON -DGRAMIAN_GTEST_OPTIONAL=ON -DGRAMIAN_CUDA=ON
	cmake --build $(GPU)
	cmake -E rm -rf $(GPU)/stage
	cmake -E copy_directory python/gramian $(GPU)/stage/gramian
	cmake --install $(GPU) --component python --prefix $(GPU)/stage
	@if "$(PYTHON)" -c '$(DEVICE_COUNT)' 2>/dev/null; then set -e; \
	  $(GPU)/tests/cpp/conformance/gramian_conformance check --table cuda; \
	  $(GPU)/tests/cpp/conformance/gramian_conformance faults --table cuda; \
	  $(GPU)/tests/cpp/conformance/gramian_conformance gaps --table cuda; \
	  $(GPU)/tests/cpp/conformance/gramian_device_proof; \
	else echo "conformance list: skipped: no device"; fi
	PYTHONPATH="$(CURDIR)/$(GPU)/stage" "$(PYTHON)" tests/python/device_checks.py

# --- the rest -------------------------------------------------------------------------------------------------------
FORMATTERS := 'clang-format>=14,<15' 'ruff>=0.6'
CXX_FILES = find cpp include python tests -name '*.cc' -o -name '*.hpp' -o -name '*.h' -o -name '*.cu'
lint: $(VENV)/.ready
	$(PY) -m pip install --quiet $(FORMATTERS)
	$(VENV)/bin/ruff check python tests
	$(VENV)/bin/ruff format --check python tests
	$(CXX_FILES) | xargs $(VENV)/bin/clang-format --dry-run --Werror
	$(PY) tests/gates/include_rule.py .

format: $(VENV)/.ready
	$(PY) -m pip install --quiet $(FORMATTERS)
	$(VENV)/bin/ruff format python tests
	$(CXX_FILES) | xargs $(VENV)/bin/clang-format -i

wheel: $(VENV)/.ready
	$(PY) -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .
	$(PY) tests/gates/wheel_gate.py dist/*.whl
	$(PY) tests/install/check_wheel.py dist/*.whl

# Each way to install that the README and docs/embedding.md name, from what a source distribution holds.
check-install: $(VENV)/.ready
	$(PY) tests/install/check_source.py
	$(PY) tests/install/check_cmake.py

clean:
	rm -rf build dist .venv
