// gramian::Error -> Python exceptions, one table.
#include "gramian/core/error.hpp"

#include <exception>

#include "bindings.hpp"

namespace gramian::python {
namespace {

PyObject* g_backend_error = nullptr;  // owned by the module for the life of the process
PyObject* g_format_error = nullptr;

// Imported late: numpy.linalg is always there, scikit-learn may not be and is slow to import.
py::object attribute_of(const char* module, const char* name) {
  return py::module_::import(module).attr(name);
}

py::object python_type(ErrorCode code) {
  const auto borrowed = [](PyObject* type) { return py::reinterpret_borrow<py::object>(type); };
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::shape_mismatch:
    case ErrorCode::non_finite:
      return borrowed(PyExc_ValueError);
    case ErrorCode::wrong_dtype:
      return borrowed(PyExc_TypeError);
    case ErrorCode::not_fitted:
      return attribute_of("gramian.base", "not_fitted_error")();
    case ErrorCode::not_positive_definite:
    case ErrorCode::no_convergence:
      return attribute_of("numpy.linalg", "LinAlgError");
    case ErrorCode::out_of_memory:
      return borrowed(PyExc_MemoryError);
    case ErrorCode::unsupported:
      return borrowed(PyExc_NotImplementedError);
    case ErrorCode::backend:
      return borrowed(g_backend_error);
    case ErrorCode::file_format:
      return borrowed(g_format_error);
    case ErrorCode::io:
      return borrowed(PyExc_OSError);
    case ErrorCode::cancelled:
      return borrowed(PyExc_KeyboardInterrupt);
    case ErrorCode::internal:
      break;
  }
  return borrowed(PyExc_AssertionError);
}

void translate(const Error& error) {
  // Set already: the cancel hook ran a signal handler that raised. That exception is the one to deliver.
  if (PyErr_Occurred() != nullptr) return;
  // A path in the text need not be UTF-8.
  const std::string text = error.what();
  PyObject* message = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "backslashreplace");
  if (message == nullptr) return;
  PyErr_SetObject(python_type(error.code()).ptr(), message);
  Py_DECREF(message);
}

PyObject* make_exception(py::module_& module, const char* name, const char* doc, PyObject* base) {
  const std::string full_name = std::string("gramian.") + name;
  PyObject* type = PyErr_NewExceptionWithDoc(full_name.c_str(), doc, base, nullptr);
  if (type == nullptr) throw py::error_already_set();
  module.attr(name) = py::reinterpret_borrow<py::object>(type);
  return type;
}

}  // namespace

void bind_errors(py::module_& module) {
  g_backend_error = make_exception(module, "BackendError", "A device or its driver failed; the text is the vendor's.",
                                   PyExc_RuntimeError);
  g_format_error = make_exception(module, "FormatError", "A model file is damaged, foreign or from a newer version.",
                                  PyExc_ValueError);
  py::register_exception_translator([](std::exception_ptr pointer) {
    if (!pointer) return;
    try {
      std::rethrow_exception(pointer);
    } catch (const Error& error) {
      translate(error);
    }
  });
}

}  // namespace gramian::python
