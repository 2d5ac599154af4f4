# Finds the headers of Eigen 3.4 (or newer 3, or 5): sets GRAMIAN_EIGEN_INCLUDE_DIR, or GRAMIAN_EIGEN_MISSING to a line that says what to
# do. Headers only, so a folder is all that is needed.
# Order: GRAMIAN_EIGEN_DIR (variable or environment), the cmeel-eigen wheel of a pip build, an installed Eigen,
# a download where GRAMIAN_FETCH_DEPS=ON.
set(GRAMIAN_EIGEN_DIR "" CACHE PATH "Folder that holds Eigen/Core")
if(NOT GRAMIAN_EIGEN_DIR)
  set(GRAMIAN_EIGEN_DIR "$ENV{GRAMIAN_EIGEN_DIR}")
endif()

# Eigen 3 is world.major.minor, 3.4.0; from 5.0 on the world stays 3 and is no part of the version: major.minor.patch.
# Newer versions keep these numbers in a file of their own.
function(_gramian_try_eigen folder)
  if(GRAMIAN_EIGEN_INCLUDE_DIR OR NOT EXISTS "${folder}/Eigen/src/Core/util/Macros.h")
    return()
  endif()
  set(numbers "${folder}/Eigen/src/Core/util/Macros.h")
  if(EXISTS "${folder}/Eigen/Version")
    set(numbers "${folder}/Eigen/Version")
  endif()
  file(STRINGS "${numbers}" lines REGEX "#define EIGEN_(WORLD|MAJOR|MINOR|PATCH)_VERSION +[0-9]+")
  set(PATCH 0)
  foreach(part WORLD MAJOR MINOR PATCH)
    if(lines MATCHES "EIGEN_${part}_VERSION +([0-9]+)")
      set(${part} "${CMAKE_MATCH_1}")
    endif()
  endforeach()
  if(MAJOR GREATER_EQUAL 5)
    set(version "${MAJOR}.${MINOR}.${PATCH}")
  else()
    set(version "${WORLD}.${MAJOR}.${MINOR}")
  endif()
  if(version VERSION_GREATER_EQUAL 3.4 AND version VERSION_LESS 6)
    set(GRAMIAN_EIGEN_INCLUDE_DIR "${folder}" PARENT_SCOPE)
    set(GRAMIAN_EIGEN_VERSION "${version}" PARENT_SCOPE)
  endif()
endfunction()

unset(GRAMIAN_EIGEN_INCLUDE_DIR)
if(GRAMIAN_EIGEN_DIR)
  _gramian_try_eigen("${GRAMIAN_EIGEN_DIR}")
  _gramian_try_eigen("${GRAMIAN_EIGEN_DIR}/eigen3")
  _gramian_try_eigen("${GRAMIAN_EIGEN_DIR}/include/eigen3")
  if(NOT GRAMIAN_EIGEN_INCLUDE_DIR)
    set(GRAMIAN_EIGEN_MISSING "GRAMIAN_EIGEN_DIR=${GRAMIAN_EIGEN_DIR} holds no Eigen 3.4 or 5")
    return()
  endif()
endif()
if(NOT GRAMIAN_EIGEN_INCLUDE_DIR AND GRAMIAN_BUILD_PYTHON)
  # Build isolation moves the wheel; only this Python knows where it is.
  execute_process(
    COMMAND "${Python_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/eigen_wheel.py"
    OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  _gramian_try_eigen("${folder}")
endif()
# Each major version refuses requests for the other, and the version files of Eigen 3 refuse a range that holds both.
foreach(version 3.4 5)
  if(NOT GRAMIAN_EIGEN_INCLUDE_DIR AND NOT TARGET Eigen3::Eigen)
    find_package(Eigen3 ${version} QUIET NO_MODULE)
  endif()
  if(NOT GRAMIAN_EIGEN_INCLUDE_DIR AND TARGET Eigen3::Eigen)
    get_target_property(folder Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
    _gramian_try_eigen("${folder}")
  endif()
endforeach()
if(NOT GRAMIAN_EIGEN_INCLUDE_DIR)
  find_path(GRAMIAN_EIGEN_HEADERS Eigen/Core PATH_SUFFIXES eigen3)
  mark_as_advanced(GRAMIAN_EIGEN_HEADERS)
  _gramian_try_eigen("${GRAMIAN_EIGEN_HEADERS}")
endif()
if(NOT GRAMIAN_EIGEN_INCLUDE_DIR AND GRAMIAN_FETCH_DEPS)
  include(FetchContent)
  # SOURCE_SUBDIR names no folder: the headers are wanted, not Eigen's own build.
  FetchContent_Declare(gramian_eigen
    URL https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz
    URL_HASH SHA256=8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72
    DOWNLOAD_EXTRACT_TIMESTAMP OFF
    SOURCE_SUBDIR headers_only)
  FetchContent_MakeAvailable(gramian_eigen)
  _gramian_try_eigen("${gramian_eigen_SOURCE_DIR}")
endif()
if(NOT GRAMIAN_EIGEN_INCLUDE_DIR)
  set(GRAMIAN_EIGEN_MISSING "gramian needs Eigen 3.4 or newer (Debian package: libeigen3-dev)")
  return()
endif()
message(STATUS "gramian: Eigen ${GRAMIAN_EIGEN_VERSION} in ${GRAMIAN_EIGEN_INCLUDE_DIR}")
