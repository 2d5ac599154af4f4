// Models of all widths as rows of numbers, each of which needs only the rows before it.
//
// Row j holds L[j, 0 .. j], Z[j, 0 .. C - 1], the mean of feature j and its scale. The first k rows are all of the
// model on the first k features but the means of the targets.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/gram/ridge_factor.hpp"

namespace gramian {

// Numbers in the first `width` rows.
inline std::int64_t nested_rows_size(std::int64_t width, std::int64_t outputs) {
  return width * (width + 1) / 2 + width * (outputs + 2);
}

std::vector<double> pack_nested_rows(const RidgeFactor& factor);

struct NestedRows {
  const double* data;
  std::int64_t width, outputs;
};
struct NestedModel {
  Solution solution;                // coef: outputs x width
  double explained = 0;             // |Z|^2 of the rows read
  std::vector<double> scale, coef;  // by feature; the weights on the host
};
// width^2 C flops. Throws Error{file_format} for numbers that no model has.
NestedModel unpack_nested_rows(const Exec& exec, const NestedRows& rows, const std::vector<double>& target_mean);

}  // namespace gramian
