# gramian_find_openblas() sets, or leaves empty,
#   GRAMIAN_OPENBLAS_LIBRARY  full path
#   GRAMIAN_OPENBLAS_KIND     scipy (the scipy-openblas32 wheel) or system
#   GRAMIAN_OPENBLAS_PREFIX   what stands before its symbols
# A Python module uses the wheel and nothing else: a system BLAS would have to travel inside our own wheel.
macro(_gramian_take_openblas library kind prefix)
  set(GRAMIAN_OPENBLAS_LIBRARY "${library}" PARENT_SCOPE)
  set(GRAMIAN_OPENBLAS_KIND "${kind}" PARENT_SCOPE)
  set(GRAMIAN_OPENBLAS_PREFIX "${prefix}" PARENT_SCOPE)
endmacro()

function(gramian_find_openblas)
  _gramian_take_openblas("" "" "")
  if(GRAMIAN_BUILD_PYTHON)
    execute_process(
      COMMAND "${Python_EXECUTABLE}" -c "import scipy_openblas32 as s; print(s.get_lib_dir())"
      OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(folder)
      find_library(GRAMIAN_SCIPY_OPENBLAS scipy_openblas PATHS "${folder}" NO_DEFAULT_PATH NO_CACHE)
    endif()
    if(GRAMIAN_SCIPY_OPENBLAS)
      _gramian_take_openblas("${GRAMIAN_SCIPY_OPENBLAS}" scipy scipy_)
    endif()
    return()
  endif()
  if(CMAKE_CROSSCOMPILING)
    find_library(GRAMIAN_SYSTEM_OPENBLAS openblas NO_CMAKE_SYSTEM_PATH NO_SYSTEM_ENVIRONMENT_PATH)
  else()
    find_library(GRAMIAN_SYSTEM_OPENBLAS openblas)
  endif()
  mark_as_advanced(GRAMIAN_SYSTEM_OPENBLAS)
  if(NOT GRAMIAN_SYSTEM_OPENBLAS)
    return()
  endif()
  # Some builds leave out the C interface or LAPACK; both are called.
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_LIBRARIES "${GRAMIAN_SYSTEM_OPENBLAS}")
  set(CMAKE_TRY_COMPILE_TARGET_TYPE EXECUTABLE)
  check_cxx_source_compiles("
    extern \"C\" void cblas_dgemm(); extern \"C\" void dpotrf_(); extern \"C\" void openblas_set_num_threads(int);
    int main() { cblas_dgemm(); dpotrf_(); openblas_set_num_threads(1); }" GRAMIAN_SYSTEM_OPENBLAS_WORKS)
  if(GRAMIAN_SYSTEM_OPENBLAS_WORKS)
    _gramian_take_openblas("${GRAMIAN_SYSTEM_OPENBLAS}" system "")
  endif()
endfunction()
