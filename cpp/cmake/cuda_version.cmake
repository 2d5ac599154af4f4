# Is the CUDA toolkit new enough? Decided from what nvcc says of itself, before CMake tries to compile with it: an old
# one fails there with many lines, because it does not know the architectures.
#
# gramian_nvcc_too_old(nvcc out): sets `out` to the version where it is older than GRAMIAN_CUDA_OLDEST, to nothing where
# it is new enough or nvcc does not say.
#
# As a script, cmake -D NVCC=... -P cuda_version.cmake says which one is too old for what, or nothing.

# The first one with the 64-bit integer interface of cuBLAS.
set(GRAMIAN_CUDA_OLDEST 12.0)

function(gramian_nvcc_too_old nvcc out)
  set(${out} "" PARENT_SCOPE)
  execute_process(COMMAND "${nvcc}" --version OUTPUT_VARIABLE said ERROR_QUIET RESULT_VARIABLE code)
  if(code EQUAL 0 AND said MATCHES "release ([0-9]+\\.[0-9]+)" AND CMAKE_MATCH_1 VERSION_LESS GRAMIAN_CUDA_OLDEST)
    set(${out} "${CMAKE_MATCH_1}" PARENT_SCOPE)
  endif()
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  gramian_nvcc_too_old("${NVCC}" version)
  if(version)
    execute_process(COMMAND "${CMAKE_COMMAND}" -E echo
      "the toolkit is older than ${GRAMIAN_CUDA_OLDEST} (it is ${version})")
  endif()
endif()
