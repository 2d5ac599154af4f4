# Options that cannot be had, and things that are missing, stop the configuration with one line that says so, and with no
# call stack.
#
# SOURCE, WORK, COMPILER, EIGEN, GENERATOR, MAKE_PROGRAM; ISA: what GRAMIAN_ISA may list here; PYTHON: an interpreter with
# its headers' name known, or nothing.
cmake_minimum_required(VERSION 3.24)

# What is found must not depend on who runs this.
foreach(name GRAMIAN_EIGEN_DIR CUDACXX CUDA_PATH CUDAARCHS)
  unset(ENV{${name}})
endforeach()

# Sets `code`, `printed` and `said` (standard error).
macro(configure)
  file(REMOVE_RECURSE "${WORK}/build")
  execute_process(
    COMMAND "${CMAKE_COMMAND}" -S "${SOURCE}" -B "${WORK}/build" -G "${GENERATOR}"
      "-DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}" "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DGRAMIAN_EIGEN_DIR=${EIGEN}"
      -DGRAMIAN_BUILD_TESTS=OFF ${ARGN}
    RESULT_VARIABLE code OUTPUT_VARIABLE printed ERROR_VARIABLE said)
endmacro()

function(expect_error wanted)
  configure(${ARGN})
  if(code EQUAL 0)
    message(FATAL_ERROR "${ARGN}: no error")
  endif()
  # CMake's head line, the message, and nothing else.
  string(REPLACE ";" "," one_item_a_line "${said}")
  string(REGEX MATCHALL "[^\n]+" lines "${one_item_a_line}")
  list(FILTER lines EXCLUDE REGEX "^(-- Configuring incomplete|See also )")
  list(LENGTH lines count)
  string(FIND "${said}" "  ${wanted}\n" place)
  if(place EQUAL -1 OR NOT count EQUAL 2 OR said MATCHES "Call Stack")
    message(FATAL_ERROR "${ARGN}: \"${wanted}\" is wanted, CMake said:\n${said}")
  endif()
endfunction()

function(expect_status wanted)
  configure(${ARGN})
  string(FIND "${printed}" "-- ${wanted}\n" place)
  if(NOT code EQUAL 0 OR place EQUAL -1)
    message(FATAL_ERROR "${ARGN}: \"${wanted}\" is wanted, CMake said:\n${printed}${said}")
  endif()
endfunction()

# --- options --------------------------------------------------------------------------------------------------------
expect_error("GRAMIAN_BLAS is \"mkl\"; it may be auto, openblas or eigen" -DGRAMIAN_BLAS=mkl)
expect_error("GRAMIAN_CUDA is \"maybe\"; it may be AUTO, ON or OFF" -DGRAMIAN_CUDA=maybe)
expect_error("GRAMIAN_ISA has \"foo\"; on this processor it may list ${ISA}" -DGRAMIAN_ISA=foo)
expect_error("GRAMIAN_EIGEN_DIR=/nowhere holds no Eigen 3.4 or 5" -DGRAMIAN_EIGEN_DIR=/nowhere)

# --- what is missing ------------------------------------------------------------------------------------------------
# Nothing is found where it is usually looked for.
expect_error("gramian needs Eigen 3.4 or newer (Debian package: libeigen3-dev)"
  -DGRAMIAN_EIGEN_DIR= -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON -DGRAMIAN_EIGEN_HEADERS=/nowhere)
expect_error("gramian's C++ tests need GoogleTest (Debian package: libgtest-dev)"
  -DGRAMIAN_BUILD_TESTS=ON -DCMAKE_DISABLE_FIND_PACKAGE_GTest=ON -DGRAMIAN_BLAS=eigen -DGRAMIAN_CUDA=OFF)
expect_status("gramian: C++ unit tests skipped, GoogleTest is missing (Debian package: libgtest-dev)"
  -DGRAMIAN_BUILD_TESTS=ON -DCMAKE_DISABLE_FIND_PACKAGE_GTest=ON -DGRAMIAN_BLAS=eigen -DGRAMIAN_CUDA=OFF
  -DGRAMIAN_GTEST_OPTIONAL=ON)
# The check of what was found fails, as it does where nothing is found.
expect_error("no OpenBLAS (Debian package: libopenblas-dev; or -DGRAMIAN_BLAS=eigen)"
  -DGRAMIAN_BLAS=openblas -DGRAMIAN_SYSTEM_OPENBLAS_WORKS=OFF)
expect_error("gramian needs Python 3.10 or newer (Debian package: python3)"
  -DGRAMIAN_BUILD_PYTHON=ON -DCMAKE_DISABLE_FIND_PACKAGE_Python=ON)
if(PYTHON)
  expect_error("gramian needs Python.h (Debian package: python3-dev)"
    -DGRAMIAN_BUILD_PYTHON=ON "-DPython_EXECUTABLE=${PYTHON}" -DPython_INCLUDE_DIR=/nowhere)
endif()
# A compiler is looked for only where none is given.
set(ENV{CXX} /nowhere/c++)
expect_error("gramian needs a C++17 compiler (Debian package: g++)" -UCMAKE_CXX_COMPILER)
unset(ENV{CXX})

# --- CUDA -----------------------------------------------------------------------------------------------------------
# The CUDA module is asked for where there cannot be one.
expect_error("GRAMIAN_CUDA=ON, but not found: Linux" -DGRAMIAN_CUDA=ON -DGRAMIAN_BLAS=eigen -DCMAKE_SYSTEM_NAME=Generic)
if(CMAKE_HOST_SYSTEM_NAME STREQUAL "Linux")
  # An nvcc that can say its version and nothing else.
  foreach(version 11.8 12.0)
    file(CONFIGURE OUTPUT "${WORK}/nvcc-${version}" @ONLY
      CONTENT "#!/bin/sh\necho 'Cuda compilation tools, release @version@, V@version@.89'\n")
    file(CHMOD "${WORK}/nvcc-${version}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  endforeach()
  set(too_old "CUDA 12.0 or newer (found 11.8)")
  expect_error("GRAMIAN_CUDA=ON, but not found: ${too_old}" -DGRAMIAN_CUDA=ON "-DCMAKE_CUDA_COMPILER=${WORK}/nvcc-11.8")
  set(ENV{CUDACXX} "${WORK}/nvcc-11.8 -Wno-deprecated-gpu-targets")
  expect_error("GRAMIAN_CUDA=ON, but not found: ${too_old}" -DGRAMIAN_CUDA=ON)
  expect_status("gramian: CUDA module off, not found: ${too_old}" -DGRAMIAN_BLAS=eigen)
  # The control: a new one is not too old, but this one cannot compile.
  set(ENV{CUDACXX} "${WORK}/nvcc-12.0")
  expect_error("GRAMIAN_CUDA=ON, but not found: nvcc" -DGRAMIAN_CUDA=ON -DGRAMIAN_BLAS=eigen)
  unset(ENV{CUDACXX})
endif()
file(REMOVE_RECURSE "${WORK}")
