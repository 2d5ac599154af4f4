// States that are made of the moments of other states instead of rows.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "gram/gram_sums.h"
#include "gramian/gram/gram_state.hpp"
#include "gramian/linalg/elementwise.hpp"

namespace gramian {

namespace {

// What the mean of feature j, shift + s / n, loses by being one double: the error of that sum, exactly.
double lost_by_mean(const GramState::Sums& sums, std::size_t j) {
  const double a = sums.shift[j], b = sums.s[j] / sums.weight_sum, sum = a + b, of_b = sum - a;
  return (a - (sum - of_b)) + (b - of_b);
}

}  // namespace

void GramState::add_moved(const GramState& rows, std::int64_t output, double factor, const double* by) {
  Sums& mine = *sums_;
  const Sums& theirs = *rows.sums_;
  GRAMIAN_REQUIRE(theirs.d == mine.d, shape_mismatch,
                  "the states have " + std::to_string(theirs.d) + " and " + std::to_string(mine.d) + " features");
  GRAMIAN_REQUIRE(output >= 0 && output < mine.c, invalid_argument,
                  "there is no output " + std::to_string(output) + " of " + std::to_string(mine.c));
  GRAMIAN_REQUIRE(std::isfinite(factor) && factor > 0, invalid_argument,
                  "the factor of the weights must be above 0, got " + std::to_string(factor));
  GRAMIAN_REQUIRE(mine.kind != Sums::TargetKind::values, invalid_argument,
                  "rows with class codes do not go into a state of numeric targets");
  GRAMIAN_REQUIRE(&rows != this, invalid_argument, "a state cannot be added to itself with a class code");
  if (theirs.n_rows == 0) return;

  // What needs memory comes first: once the sums begin to change, nothing may fail. The first rows bring their shift.
  const Exec steady = mine.exec.uninterrupted();
  const bool adopt = !mine.shift_known && mine.options.intercept;
  const double n = theirs.weight_sum;
  std::vector<double> from(theirs.shift), offset(theirs.s.size(), 0.0), moved = theirs.s;
  if (by != nullptr)
    for (std::size_t k = 0; k < from.size(); ++k) from[k] += by[k];
  for (std::size_t k = 0; k < from.size(); ++k) {
    if (!adopt) offset[k] = from[k] - mine.shift[k];
    moved[k] += n * offset[k];
  }
  const Array<double> s_device = to_device(steady, theirs.s), offset_device = to_device(steady, offset);
  const Array<double> moved_device = to_device(steady, moved);

  if (adopt) mine.shift.swap(from);
  mine.shift_known = true;
  mine.kind = Sums::TargetKind::codes;
  mine.mutable_g().axpby(steady, factor, theirs.g(), 1.0);
  if (!adopt) {
    mine.mutable_g().add_outer(steady, factor, s_device.data(), offset_device.data());
    mine.mutable_g().add_outer(steady, factor * n, offset_device.data(), offset_device.data());
  }
  axpby<double, double>(steady, factor, moved_device.view(), 1.0, mine.q.view().block(output, 0, 1, mine.d));
  for (std::size_t k = 0; k < moved.size(); ++k) mine.s[k] += factor * moved[k];
  const auto at = static_cast<std::size_t>(output);
  mine.t[at] += factor * n;
  mine.energy[at] += factor * n;
  mine.counts[at] += theirs.n_rows;
  mine.n_rows += theirs.n_rows;
  mine.weight_sum += factor * n;
  mine.count_weighted(factor == 1 && by == nullptr ? theirs.weighted_rows : -1, 1.0);
  if (theirs.options.products == DType::f32) mine.options.products = DType::f32;
  mine.longest_sum = std::max(mine.longest_sum, theirs.longest_sum);
  mine.operations += theirs.operations;
  mine.removed = mine.removed || theirs.removed;
  mine.mutable_largest_trace() = std::max(mine.largest_trace(), factor * theirs.largest_trace());
  mine.largest_energy = std::max(mine.largest_energy, factor * theirs.largest_energy);
  mine.note_trace();
  mine.follow_mean();
  if (!theirs.float_shift && !mine.float_shift) return;
  mine.float_shift = true;
  std::vector<double>& rounding = offset;
  for (std::size_t k = 0; k < rounding.size(); ++k)
    rounding[k] = static_cast<double>(static_cast<float>(mine.shift[k])) - mine.shift[k];
  mine.move_shift(rounding, std::vector<double>(mine.t.size(), 0.0));
}

void GramState::class_moments(std::vector<double>& weight, MatrixView<double> offset) const {
  const Sums& sums = *sums_;
  GRAMIAN_REQUIRE(sums.n_rows > 0, not_fitted, "the state has no rows yet");
  GRAMIAN_REQUIRE(sums.kind == Sums::TargetKind::codes, invalid_argument,
                  "only a state of class codes has moments of classes");
  GRAMIAN_REQUIRE(offset.rows == sums.c && offset.cols == sums.d, shape_mismatch, "class_moments: the output is wrong");
  weight = sums.t;
  download<double>(sums.exec, sums.q.view(), offset);
  for (std::int64_t k = 0; k < sums.c; ++k) {
    const double n = weight[static_cast<std::size_t>(k)];
    GRAMIAN_REQUIRE(n > 0, invalid_argument, "class " + std::to_string(k) + " has no rows, and so no mean");
    for (std::int64_t j = 0; j < sums.d; ++j) {
      const auto at = static_cast<std::size_t>(j);
      offset(k, j) = (offset(k, j) / n - sums.s[at] / sums.weight_sum) + lost_by_mean(sums, at);
    }
  }
}

GramState GramState::pooled_covariance(double shrinkage) const {
  const Sums& sums = *sums_;
  GRAMIAN_REQUIRE(shrinkage >= 0 && shrinkage <= 1, invalid_argument,
                  "shrinkage must lie between 0 and 1, got " + std::to_string(shrinkage));
  std::vector<double> weight(static_cast<std::size_t>(sums.c)), means(static_cast<std::size_t>(sums.c * sums.d));
  const MatrixView<double> offset(means.data(), sums.c, sums.d);
  class_moments(weight, offset);
  for (std::int64_t k = 0; k < sums.c; ++k)
    for (std::int64_t j = 0; j < sums.d; ++j) offset(k, j) -= lost_by_mean(sums, static_cast<std::size_t>(j));

  GramOptions options = sums.options;
  options.intercept = true;
  GramState out(sums.exec, sums.d, 0, options);
  Sums& pooled = *out.sums_;
  const double unit = (1 - shrinkage) / sums.weight_sum;
  // Around the mean of all rows: G - s s'/n - sum_c n_c offset_c offset_c'. Both parts that are taken off are sums of
  // squares of what the shift leaves of the means, which is small. What is squared is for weights of about 1, as the
  // squares of small weights leave the range of double; a power of four changes no digit, of square roots neither.
  const int fours = -2 * (std::ilogb(sums.weight_sum) / 2);
  const double weights = std::ldexp(sums.weight_sum, fours), share = (1 - shrinkage) / weights;
  pooled.mutable_g().axpby(sums.exec, unit, sums.g(), 0.0);
  std::vector<double> sum(sums.s);
  for (double& value : sum) value = std::ldexp(value, fours);
  const Array<double> s = to_device(sums.exec, sum);
  pooled.mutable_g().add_outer(sums.exec, -share / weights, s.data(), s.data());
  for (double& n : weight) n = std::sqrt(std::ldexp(n, fours));
  Array<double> rows(sums.exec, sums.c, sums.d);
  upload<double>(sums.exec, offset, rows.view());
  scale_rows<double>(sums.exec, weight, rows.view());
  gram_update<double>(sums.exec, -share, rows.view(), pooled.mutable_g());
  for (std::size_t j = 0; j < pooled.shift.size(); ++j) {
    pooled.shift[j] = sums.shift[j] + sums.s[j] / sums.weight_sum;
    pooled.mutable_largest_diagonal()[j] = sums.largest_diagonal()[j] / sums.weight_sum;
  }
  pooled.mutable_largest_trace() = sums.largest_trace() / sums.weight_sum;
  pooled.largest_energy = sums.largest_energy / sums.weight_sum;
  pooled.shift_known = true;
  pooled.n_rows = sums.n_rows;
  pooled.weight_sum = 1;
  pooled.weighted_rows = -1;
  pooled.longest_sum = sums.longest_sum;
  pooled.operations = sums.operations;
  pooled.removed = sums.removed;
  return out;
}

double oracle_shrinkage(const GramState& covariance, double n) {
  const GramState::Sums& sums = covariance.sums();
  GRAMIAN_REQUIRE(n > 0 && sums.weight_sum > 0, invalid_argument, "oracle_shrinkage needs rows");
  const auto d = static_cast<double>(sums.d);
  std::vector<double> packed(static_cast<std::size_t>(sums.d * (sums.d + 1) / 2));
  sums.g().pack(sums.exec, packed.data());
  // The result is the same in every unit: squares of entries near 1 stay in range.
  double largest = 0;
  for (const double value : packed) largest = std::max(largest, std::abs(value));
  const int unit = largest > 0 ? std::ilogb(largest) : 0;
  for (double& value : packed) value = std::ldexp(value, -unit);
  double trace = 0, squares = 0;
  std::size_t k = 0;
  for (std::int64_t i = 0; i < sums.d; ++i) {
    for (std::int64_t j = 0; j < i; ++j, ++k) squares += 2 * packed[k] * packed[k];
    trace += packed[k];
    squares += packed[k] * packed[k];
    ++k;
  }
  if (sums.d == 1) return 0;
  const double numerator = squares + trace * trace;
  const double denominator = (n + 1) * (squares - trace * trace / d);
  // All variances equal and no correlation: the target itself, so any shrinkage is right.
  return denominator <= 0 ? 1.0 : std::min(1.0, numerator / denominator);
}

}  // namespace gramian
