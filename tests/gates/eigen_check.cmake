# Which versions of Eigen third_party/eigen.cmake takes: from a folder that is named, and as an installed package.
# SOURCE, WORK, GENERATOR, MAKE_PROGRAM
cmake_minimum_required(VERSION 3.24)
include(CMakePackageConfigHelpers)
unset(ENV{GRAMIAN_EIGEN_DIR})

file(REMOVE_RECURSE "${WORK}")
file(CONFIGURE OUTPUT "${WORK}/project/CMakeLists.txt" @ONLY CONTENT [[
cmake_minimum_required(VERSION 3.24)
project(probe LANGUAGES NONE)
include("@SOURCE@/third_party/eigen.cmake")
file(WRITE "@WORK@/answer" "${GRAMIAN_EIGEN_VERSION}")
]])

# A folder with the version where that version of Eigen has it, and its package, which takes the requests that Eigen's
# own takes: those for its own major version.
function(make_eigen version)
  string(REPLACE "." ";" parts "${version}")
  list(GET parts 0 first)
  list(GET parts 1 second)
  list(GET parts 2 third)
  set(headers "${WORK}/${version}/include/eigen3/Eigen")
  set(macros "${headers}/src/Core/util/Macros.h")
  if(first GREATER_EQUAL 5)
    file(WRITE "${macros}" "#include \"../../../Version\"\n")
    file(WRITE "${headers}/Version" "#define EIGEN_WORLD_VERSION 3\n#define EIGEN_MAJOR_VERSION ${first}\n"
      "#define EIGEN_MINOR_VERSION ${second}\n#define EIGEN_PATCH_VERSION ${third}\n")
  else()
    file(WRITE "${macros}" "#define EIGEN_WORLD_VERSION ${first}\n#define EIGEN_MAJOR_VERSION ${second}\n"
      "#define EIGEN_MINOR_VERSION ${third}\n")
  endif()
  set(package "${WORK}/${version}/share/eigen3/cmake")
  file(WRITE "${package}/Eigen3Config.cmake" "add_library(Eigen3::Eigen INTERFACE IMPORTED)\n"
    "set_target_properties(Eigen3::Eigen PROPERTIES INTERFACE_INCLUDE_DIRECTORIES \"${WORK}/${version}/include/eigen3\")\n")
  write_basic_package_version_file("${package}/Eigen3ConfigVersion.cmake" VERSION ${version}
    COMPATIBILITY SameMajorVersion ARCH_INDEPENDENT)
endfunction()

function(expect taken)
  file(REMOVE_RECURSE "${WORK}/build")
  file(REMOVE "${WORK}/answer")
  execute_process(COMMAND "${CMAKE_COMMAND}" -S "${WORK}/project" -B "${WORK}/build" -G "${GENERATOR}"
      "-DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}" ${ARGN}
    RESULT_VARIABLE code OUTPUT_VARIABLE said ERROR_VARIABLE said)
  set(answer "no answer")
  if(EXISTS "${WORK}/answer")
    file(READ "${WORK}/answer" answer)
  endif()
  if(NOT code EQUAL 0 OR NOT answer STREQUAL taken)
    message(FATAL_ERROR "${ARGN}: \"${taken}\" is wanted, found \"${answer}\":\n${said}")
  endif()
endfunction()

set(elsewhere -DCMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH=OFF -DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF
  -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF -DGRAMIAN_EIGEN_HEADERS=/nowhere)
foreach(version 3.4.0 3.4.90 5.0.1 5.1.0)
  make_eigen(${version})
  expect("${version}" "-DGRAMIAN_EIGEN_DIR=${WORK}/${version}/include/eigen3")
  expect("${version}" "-DGRAMIAN_EIGEN_DIR=${WORK}/${version}")
  expect("${version}" "-DCMAKE_PREFIX_PATH=${WORK}/${version}" ${elsewhere})
endforeach()
foreach(version 3.3.9 6.0.0)
  make_eigen(${version})
  expect("" "-DGRAMIAN_EIGEN_DIR=${WORK}/${version}/include/eigen3")
  expect("" "-DCMAKE_PREFIX_PATH=${WORK}/${version}" ${elsewhere})
endforeach()
# An old one in front hides no new one; of two that will do, Eigen 3 is taken.
expect("5.0.1" "-DCMAKE_PREFIX_PATH=${WORK}/3.3.9\;${WORK}/5.0.1" ${elsewhere})
expect("3.4.90" "-DCMAKE_PREFIX_PATH=${WORK}/5.0.1\;${WORK}/3.4.90" ${elsewhere})
file(REMOVE_RECURSE "${WORK}")
