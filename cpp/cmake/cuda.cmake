# The CUDA table as a module of its own, opened at run time: target gramian_cuda -> libgramian_cuda.so.
#
# GRAMIAN_CUDA: AUTO builds it when nvcc, cuBLAS and cuSOLVER are found and new enough, ON insists, OFF leaves it out.
# Sets GRAMIAN_CUDA_FOUND for the including folder, and GRAMIAN_CUDA_MISSING for the one above it where ON asks for what
# is not there. The CUDA runtime is linked statically, cuBLAS and cuSOLVER
# dynamically; the driver library is not linked, so the module loads (and says why it cannot work) without a driver.

include(cuda_version)
set(GRAMIAN_CUDA_FOUND FALSE)
set(gramian_cuda_missing "")

# The nvcc that CMake is going to take.
unset(gramian_nvcc)
if(CMAKE_CUDA_COMPILER)
  set(gramian_nvcc "${CMAKE_CUDA_COMPILER}")
elseif(NOT "$ENV{CUDACXX}" STREQUAL "")
  separate_arguments(gramian_nvcc NATIVE_COMMAND "$ENV{CUDACXX}")
  list(GET gramian_nvcc 0 gramian_nvcc)
elseif(NOT CMAKE_CROSSCOMPILING)
  find_program(gramian_nvcc nvcc HINTS ENV CUDA_PATH PATH_SUFFIXES bin NO_CACHE)
endif()
gramian_nvcc_too_old("${gramian_nvcc}" gramian_cuda_too_old)

if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(gramian_cuda_missing "Linux")
elseif(CMAKE_CROSSCOMPILING AND NOT CMAKE_CUDA_COMPILER)
  # The nvcc in PATH makes code for this machine, not for the target.
  set(gramian_cuda_missing "CMAKE_CUDA_COMPILER of the target")
elseif(gramian_cuda_too_old)
  set(gramian_cuda_missing "CUDA ${GRAMIAN_CUDA_OLDEST} or newer (found ${gramian_cuda_too_old})")
elseif(NOT GRAMIAN_CUDA STREQUAL "OFF")
  # Before the language is enabled, which would fill in the compiler's own default.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
    set(CMAKE_CUDA_ARCHITECTURES "80-real;90")
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit QUIET)
  endif()
  if(NOT CMAKE_CUDA_COMPILER OR NOT CUDAToolkit_FOUND)
    set(gramian_cuda_missing "nvcc")
  else()
    # Beside what CMake says, the toolkit's own folders: what CMake calls them has changed between its versions.
    get_filename_component(gramian_cuda_root "${CMAKE_CUDA_COMPILER}" REALPATH)
    get_filename_component(gramian_cuda_root "${gramian_cuda_root}" DIRECTORY)
    get_filename_component(gramian_cuda_root "${gramian_cuda_root}" DIRECTORY)
    set(gramian_cuda_includes ${CUDAToolkit_INCLUDE_DIRS} "${gramian_cuda_root}/include"
      "${gramian_cuda_root}/targets/${CMAKE_SYSTEM_PROCESSOR}-linux/include")
    set(gramian_cuda_libraries ${CUDAToolkit_LIBRARY_DIR} "${gramian_cuda_root}/lib64"
      "${gramian_cuda_root}/targets/${CMAKE_SYSTEM_PROCESSOR}-linux/lib")
    find_path(GRAMIAN_CUBLAS_INCLUDE_DIR cublas_v2.h HINTS ${gramian_cuda_includes})
    find_path(GRAMIAN_CUSOLVER_INCLUDE_DIR cusolverDn.h HINTS ${gramian_cuda_includes})
    # The toolkit as Python packages carries no unversioned names.
    find_library(GRAMIAN_CUBLAS_LIBRARY NAMES cublas libcublas.so.13 libcublas.so.12 HINTS ${gramian_cuda_libraries})
    find_library(GRAMIAN_CUSOLVER_LIBRARY NAMES cusolver libcusolver.so.12 libcusolver.so.11 HINTS ${gramian_cuda_libraries})
    mark_as_advanced(GRAMIAN_CUBLAS_INCLUDE_DIR GRAMIAN_CUSOLVER_INCLUDE_DIR GRAMIAN_CUBLAS_LIBRARY
                     GRAMIAN_CUSOLVER_LIBRARY)
    if(CUDAToolkit_VERSION VERSION_LESS GRAMIAN_CUDA_OLDEST)  # of a compiler other than nvcc
      list(APPEND gramian_cuda_missing "CUDA ${GRAMIAN_CUDA_OLDEST} or newer (found ${CUDAToolkit_VERSION})")
    endif()
    if(NOT GRAMIAN_CUBLAS_INCLUDE_DIR OR NOT GRAMIAN_CUBLAS_LIBRARY)
      list(APPEND gramian_cuda_missing "cuBLAS")
    endif()
    if(NOT GRAMIAN_CUSOLVER_INCLUDE_DIR OR NOT GRAMIAN_CUSOLVER_LIBRARY)
      list(APPEND gramian_cuda_missing "cuSOLVER")
    endif()
    if(NOT TARGET CUDA::cudart_static)
      list(APPEND gramian_cuda_missing "the static CUDA runtime")
    endif()
  endif()
  if(NOT gramian_cuda_missing)
    set(GRAMIAN_CUDA_FOUND TRUE)
  endif()
endif()

list(JOIN gramian_cuda_missing ", " gramian_cuda_missing)
if(GRAMIAN_CUDA STREQUAL "OFF")
  message(STATUS "gramian: CUDA module off (GRAMIAN_CUDA=OFF)")
elseif(GRAMIAN_CUDA_FOUND)
  message(STATUS "gramian: CUDA module on, CUDA ${CUDAToolkit_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
elseif(GRAMIAN_CUDA STREQUAL "ON")
  set(GRAMIAN_CUDA_MISSING "GRAMIAN_CUDA=ON, but not found: ${gramian_cuda_missing}" PARENT_SCOPE)
else()
  message(STATUS "gramian: CUDA module off, not found: ${gramian_cuda_missing}")
endif()

if(GRAMIAN_CUDA_FOUND)
  set(gramian_cuda_dir "${CMAKE_CURRENT_LIST_DIR}/../backend/cuda")
  set(gramian_cuda_sources "")
  foreach(stem IN ITEMS module memory dense factor elementwise rows random hadamard softmax sparse sketch orthogonal sweep rotate)
    list(APPEND gramian_cuda_sources "${gramian_cuda_dir}/${stem}.cu")
  endforeach()
  # A contracted multiply-add would change the bits of the draws.
  set_source_files_properties("${gramian_cuda_dir}/random.cu" PROPERTIES COMPILE_OPTIONS "--fmad=false")

  add_library(gramian_cuda MODULE ${gramian_cuda_sources})
  get_filename_component(gramian_cuda_library_dir "${GRAMIAN_CUBLAS_LIBRARY}" DIRECTORY)
  # Where the Python packages of these libraries put them.
  if(CUDAToolkit_VERSION VERSION_LESS 13)
    set(gramian_cuda_rpath "$ORIGIN/../nvidia/cublas/lib" "$ORIGIN/../nvidia/cusolver/lib")
  else()
    set(gramian_cuda_rpath "$ORIGIN/../nvidia/cu13/lib")
  endif()
  set_target_properties(gramian_cuda PROPERTIES
    PREFIX "lib"
    OUTPUT_NAME "gramian_cuda"
    CUDA_STANDARD 17
    CUDA_STANDARD_REQUIRED ON
    CUDA_EXTENSIONS OFF
    CUDA_RUNTIME_LIBRARY Static
    CUDA_VISIBILITY_PRESET hidden
    POSITION_INDEPENDENT_CODE ON
    INTERPROCEDURAL_OPTIMIZATION OFF
    LINK_DEPENDS "${gramian_cuda_dir}/exports.map"
    BUILD_RPATH "${gramian_cuda_library_dir}"
    INSTALL_RPATH "${gramian_cuda_rpath}")
  target_compile_options(gramian_cuda PRIVATE "-Xcompiler=-Wall,-Wextra")
  target_include_directories(gramian_cuda SYSTEM PRIVATE ${GRAMIAN_CUBLAS_INCLUDE_DIR}
                             ${GRAMIAN_CUSOLVER_INCLUDE_DIR})
  target_link_libraries(gramian_cuda PRIVATE ${GRAMIAN_CUBLAS_LIBRARY} ${GRAMIAN_CUSOLVER_LIBRARY})
  # The version script keeps the static runtime's symbols inside.
  target_link_options(gramian_cuda PRIVATE "LINKER:--version-script=${gramian_cuda_dir}/exports.map"
                      "LINKER:--no-undefined" "LINKER:--enable-new-dtags")
endif()
