# Registers tests/cpp/symbol_gate.py.
#
# gramian_add_symbol_gate([LIBRARY])
#   symbol_gate: the kernel objects of the instruction sets share no weak symbol and have no static initialiser; with
#   LIBRARY (a target, not stripped) also: wide registers only in functions of the kernel objects.
#   symbol_gate_control: the gate still fails where it must. Call after gramian_add_kernels.

function(gramian_add_symbol_gate)
  find_package(Python3 3.8 QUIET COMPONENTS Interpreter)
  if(NOT Python3_Interpreter_FOUND)
    message(STATUS "symbol_gate is left out: no Python 3 interpreter")
    return()
  endif()
  set(gate "${PROJECT_SOURCE_DIR}/tests/cpp/symbol_gate.py")
  set(tools --nm "${CMAKE_NM}" --objdump "${CMAKE_OBJDUMP}")

  # The objects of one set go in as one argument, because a generator list cannot carry a name for each.
  get_property(compiled GLOBAL PROPERTY GRAMIAN_COMPILED_ISA)
  set(arguments)
  foreach(isa IN LISTS compiled)
    list(APPEND arguments --isa "${isa}=$<JOIN:$<TARGET_OBJECTS:gramian_kernels_${isa}>,|>")
  endforeach()
  if(ARGC GREATER 0)
    list(APPEND arguments --library "$<TARGET_FILE:${ARGV0}>")
  endif()
  add_test(NAME symbol_gate COMMAND "${Python3_EXECUTABLE}" "${gate}" ${tools} ${arguments})
  set_tests_properties(symbol_gate PROPERTIES LABELS gate)

  # The control compiles small programs with wide registers of x86-64.
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    add_test(NAME symbol_gate_control
      COMMAND "${Python3_EXECUTABLE}" "${gate}" ${tools} --self-test "${CMAKE_CXX_COMPILER}")
    set_tests_properties(symbol_gate_control PROPERTIES LABELS gate)
  endif()
endfunction()
