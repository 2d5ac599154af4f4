// How the rows of hadamard_rows are cut into tasks.
#pragma once

#include <algorithm>

#include "linalg/call.h"

namespace gramian::linalg {

// Rows per task: their work space stays in the second-level cache where one row does, and rows that the table
// transforms together fill its vectors. All of them on a table of whole operations.
inline std::int64_t hadamard_rows_at_once(const Exec& exec, std::int64_t count, std::int64_t n) {
  constexpr std::int64_t kElements = std::int64_t{1} << 15, kMost = 64, kTogether = 16;
  if (exec.table().tile == 0) return std::max<std::int64_t>(1, count);
  return std::clamp(kElements / n, n <= GRAMIAN_HADAMARD_TOGETHER ? kTogether : std::int64_t{1}, kMost);
}

// Elements of the work space of so many rows.
inline std::int64_t hadamard_work(const Exec& exec, std::int64_t rows, std::int64_t n) {
  return exec.table().tile == 0 ? rows * n : GRAMIAN_HADAMARD_WORK(rows, n);
}

}  // namespace gramian::linalg
