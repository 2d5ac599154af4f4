// Softmax, its logarithm and log sum exp of rows and of columns, split over the threads of an Exec.
//
// With z = scale * x: exp(z) / sum exp(z), z - log sum exp(z), or log sum exp(z), accurate to a few units in the last
// place at any length (sums end in double). -inf gives 0. A row with NaN, with +inf or with nothing but -inf is NaN in
// the first two; its log sum exp is NaN, +inf or -inf. Bits depend neither on the number of threads nor on which other
// rows are in the call.
//
// Two algorithms. Three passes (largest value, sum, results) up to the size of the last-level cache: rows of a few
// thousand entries are read from memory once and written once. Two passes beyond ("The Two-Pass Softmax Algorithm"):
// sums are pairs M 2^E, so memory is read for the sum and for the results and never for the largest value alone. Rows
// whose largest |z| is above 2^15 log 2 (float) or 2^20 log 2 (double) take three passes at any length.
#pragma once

#include <cstdint>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

enum class Softmax { probabilities = 0, logarithms = 1, log_sum = 2 };

struct SoftmaxOptions {
  double scale = 1;         // > 0; multiplies x first: the inverse of a temperature
  bool subnormals = false;  // keep results below the smallest normal number, else 0
  int passes = 0;           // 2 or 3 of rows; 0 chooses by their length
};

// Rows of x (n x k) into out (n x k; n x 1 for log_sum). out may be x but for log_sum.
template <class T>
GRAMIAN_EXPORT void softmax_rows(const Exec& exec, Softmax what, const SoftmaxOptions& options, MatrixView<const T> x,
                                 MatrixView<T> out);
// Columns of each run of n rows of x (m n x k) into out (m n x k; m x k for log_sum). Three passes always.
template <class T>
GRAMIAN_EXPORT void softmax_columns(const Exec& exec, Softmax what, const SoftmaxOptions& options, std::int64_t n,
                                    MatrixView<const T> x, MatrixView<T> out);

}  // namespace gramian
