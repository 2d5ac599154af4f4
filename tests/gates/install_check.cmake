# Installs the build into a fresh prefix, then configures, builds and tests the project CONSUMER against it. Where PYTHON
# is given, the installed Python package must reach the same model as the C++ program did.
# CMAKE_COMMAND's own ctest is used, so no other tool need be on the path.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "failed: ${ARGN}")
  endif()
endfunction()

if(NOT CONFIG)
  set(CONFIG Release)
endif()
cmake_path(GET CMAKE_COMMAND PARENT_PATH bin)
file(REMOVE_RECURSE "${WORK}")
run("${CMAKE_COMMAND}" --install "${BUILD}" --config "${CONFIG}" --component development --prefix "${WORK}/prefix")
# The prefix is moved before use: nothing in it may name the place it was installed to.
file(RENAME "${WORK}/prefix" "${WORK}/moved")
run("${CMAKE_COMMAND}" -S "${CONSUMER}" -B "${WORK}/build" -G "${GENERATOR}" "-DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}"
  "-DCMAKE_BUILD_TYPE=${CONFIG}" "-DCMAKE_PREFIX_PATH=${WORK}/moved" "-DGRAMIAN_OPENBLAS_LIBRARY=${OPENBLAS}")
run("${CMAKE_COMMAND}" --build "${WORK}/build" --config "${CONFIG}")
run("${bin}/ctest" --test-dir "${WORK}/build" -C "${CONFIG}" --output-on-failure)
if(PYTHON)
  run("${PYTHON}" "${CONSUMER}/stream.py" "${WORK}/build/model.safetensors" "${WORK}/build/predictions.bin")
endif()
