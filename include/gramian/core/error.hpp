// The one exception of the library: a code that a program can act on and a text that a person can.
#pragma once

#include <stdexcept>
#include <string>

#include "gramian/core/export.hpp"

namespace gramian {

// Each code maps to one Python exception and one C status (capi/gramian.h).
enum class ErrorCode {
  invalid_argument,       // ValueError
  shape_mismatch,         // ValueError
  non_finite,             // ValueError, names the first bad row
  wrong_dtype,            // TypeError
  not_fitted,             // sklearn NotFittedError
  not_positive_definite,  // numpy.linalg.LinAlgError
  no_convergence,         // numpy.linalg.LinAlgError
  out_of_memory,          // MemoryError
  unsupported,            // NotImplementedError
  backend,                // gramian.BackendError
  file_format,            // gramian.FormatError
  io,                     // OSError
  cancelled,              // KeyboardInterrupt
  internal                // AssertionError: a bug of this library
};

class GRAMIAN_EXPORT Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

// Throws Error{code, message} unless the condition holds. The message is built only on failure.
#define GRAMIAN_REQUIRE(condition, code, message)                                  \
  do {                                                                             \
    if (!(condition)) throw ::gramian::Error(::gramian::ErrorCode::code, message); \
  } while (false)

}  // namespace gramian
