// What a model file says wrong is the file's fault: complaints about arguments become complaints about the file.
#pragma once

#include <string>

#include "gramian/core/error.hpp"

namespace gramian::io {

// Runs read() and turns any refusal of a value it found in a file into Error{file_format}.
template <class Read>
auto reading(Read&& read) {
  try {
    return read();
  } catch (const Error& error) {
    switch (error.code()) {
      case ErrorCode::invalid_argument:
      case ErrorCode::shape_mismatch:
      case ErrorCode::non_finite:
      case ErrorCode::wrong_dtype:
        throw Error(ErrorCode::file_format, std::string("the model file is inconsistent: ") + error.what());
      default:
        throw;
    }
  }
}

}  // namespace gramian::io
