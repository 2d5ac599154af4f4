# CPU kernels, once per instruction set.
#
# gramian_add_kernels(target)
#   Compiles cpp/backend/cpu/kernels into one object library per instruction set, gramian_kernels_<isa>, and the host
#   memory entries into gramian_kernels_memory; adds all objects to `target` and tells its sources which levels exist
#   (GRAMIAN_HAVE_ISA_<ISA>). Reads GRAMIAN_ISA_LEVELS and GRAMIAN_EIGEN_INCLUDE_DIR. Sets GRAMIAN_COMPILED_ISA as a
#   global property for the symbol gate.
#
# Reads GRAMIAN_ISA (all, or a list; the floor is always compiled). Sets GRAMIAN_ISA_LEVELS to the instruction sets to
# compile, the floor first, or GRAMIAN_ISA_WRONG to a line that says what the list may hold.

set(GRAMIAN_ISA_FLAGS_base "")
set(GRAMIAN_ISA_FLAGS_neon "")
set(GRAMIAN_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(GRAMIAN_ISA_FLAGS_avx512
  ${GRAMIAN_ISA_FLAGS_avx2} -mavx512f -mavx512dq -mavx512bw -mavx512vl -mprefer-vector-width=512)

function(gramian_choose_isa)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
    set(known neon)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(known base avx2 avx512)
  else()
    set(known base)
  endif()
  set(chosen "${GRAMIAN_ISA}")
  if(chosen STREQUAL "all")
    set(chosen "${known}")
  endif()
  list(GET known 0 floor)
  list(PREPEND chosen "${floor}")
  list(REMOVE_DUPLICATES chosen)
  foreach(isa IN LISTS chosen)
    if(NOT isa IN_LIST known)
      list(JOIN known ", " known)
      set(GRAMIAN_ISA_WRONG "GRAMIAN_ISA has \"${isa}\"; on this processor it may list ${known}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(GRAMIAN_ISA_LEVELS "${chosen}" PARENT_SCOPE)
endfunction()
gramian_choose_isa()

# Position independent, hidden, optimised in every build type and never link-time optimised: see the five laws in
# cpp/backend/cpu/kernels/README.md.
function(gramian_kernel_settings library)
  set_target_properties(${library} PROPERTIES
    CXX_STANDARD 17
    CXX_STANDARD_REQUIRED ON
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON
    INTERPROCEDURAL_OPTIMIZATION OFF)
  # Options of a target follow those of the build type, so the last -O wins. Coverage and sanitizers are left out on
  # purpose: their runtime symbols are shared by nature.
  target_compile_options(${library} PRIVATE
    -Wall -Wextra -Wconversion -O2 -fno-lto -fno-fast-math -fno-math-errno)
endfunction()

function(gramian_add_kernels target)
  set(folder "${PROJECT_SOURCE_DIR}/cpp/backend/cpu/kernels")
  set(sources)
  foreach(stem dense factor elementwise rows random hadamard softmax sparse sketch orthogonal sweep rotate)
    list(APPEND sources "${folder}/${stem}.cc")
  endforeach()
  # What stands on Eigen is compiled in one piece: its products take most of the time, and all three need them.
  foreach(stem dense factor orthogonal)
    set_source_files_properties("${folder}/${stem}.cc" PROPERTIES UNITY_GROUP eigen)
  endforeach()

  foreach(isa IN LISTS GRAMIAN_ISA_LEVELS)
    set(library gramian_kernels_${isa})
    add_library(${library} OBJECT ${sources})
    gramian_kernel_settings(${library})
    target_compile_definitions(${library} PRIVATE Eigen=Eigen_${isa} GRAMIAN_ISA=${isa})
    target_include_directories(${library} SYSTEM PRIVATE "${GRAMIAN_EIGEN_INCLUDE_DIR}")
    target_compile_options(${library} PRIVATE -ffp-contract=fast ${GRAMIAN_ISA_FLAGS_${isa}})
    set_target_properties(${library} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
    if(isa STREQUAL "avx512" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # GCC's own AVX-512 headers start from an undefined register and warn about it.
      target_compile_options(${library} PRIVATE -Wno-uninitialized -Wno-maybe-uninitialized)
    endif()
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${library}>)
    string(TOUPPER "${isa}" name)
    target_compile_definitions(${target} PUBLIC GRAMIAN_HAVE_ISA_${name})
  endforeach()

  # Hand-written loops want the vectoriser of -O3; Eigen's kernels only grow with it. The random fills follow the frozen
  # bit law, which contraction would break.
  foreach(stem elementwise rows hadamard softmax sparse sketch sweep rotate)
    set_source_files_properties("${folder}/${stem}.cc" PROPERTIES COMPILE_OPTIONS "-O3")
  endforeach()
  set_source_files_properties("${folder}/random.cc" PROPERTIES COMPILE_OPTIONS "-O3;-ffp-contract=off")

  add_library(gramian_kernels_memory OBJECT "${folder}/memory.cc")
  gramian_kernel_settings(gramian_kernels_memory)
  list(GET GRAMIAN_ISA_LEVELS 0 floor)
  string(TOUPPER "${floor}" name)
  target_compile_definitions(gramian_kernels_memory PRIVATE GRAMIAN_HAVE_ISA_${name})
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:gramian_kernels_memory>)

  set_property(GLOBAL PROPERTY GRAMIAN_COMPILED_ISA "${GRAMIAN_ISA_LEVELS}")
endfunction()
