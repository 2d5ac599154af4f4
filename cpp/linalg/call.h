// The only road from C++ to an op table: one call, its status turned into an Error.
#pragma once

#include <string>

#include "backend/op_table.h"
#include "gramian/core/dtype.hpp"
#include "gramian/core/error.hpp"
#include "gramian/core/exec.hpp"

namespace gramian::linalg {

template <class T>
constexpr int code_of() {
  return static_cast<int>(dtype_of<T>::value);
}

[[noreturn]] void throw_status(const Exec& exec, int status, const char* op);

// Runs table.op(context, arguments...); negative statuses throw, others are the operation's answer.
template <class Entry, class... Arguments>
int call(const Exec& exec, const char* name, Entry gramian_op_table::*op, Arguments... arguments) {
  const int status = (exec.table().*op)(exec.context(), arguments...);
  if (status < 0) throw_status(exec, status, name);
  return status;
}

#define GRAMIAN_CALL(exec, op, ...) ::gramian::linalg::call(exec, #op, &gramian_op_table::op, __VA_ARGS__)

inline constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// Part k of [0, n) cut into `parts` nearly equal pieces whose edges are multiples of `unit` (the last may be ragged).
struct Range {
  std::int64_t begin, end;
  std::int64_t size() const { return end - begin; }
};
inline Range part_of(std::int64_t n, std::int64_t edge, std::int64_t k) {
  const std::int64_t begin = k * edge;
  return {begin, begin + edge < n ? begin + edge : n};
}

}  // namespace gramian::linalg
