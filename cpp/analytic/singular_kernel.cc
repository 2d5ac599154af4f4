#include "gramian/analytic/singular_kernel.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <unordered_map>
#include <utility>

#include "analytic/pair_distances.h"
#include "gramian/core/error.hpp"

namespace gramian {

namespace {

// Squares of values below 2^-kPlain or above 2^kPlain are taken of scaled values.
constexpr int kPlain = 100;
// Squared distances below this have lost digits to underflow, or all of them.
constexpr double kTiny = 1e-280;

double largest_of(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

// A power of two by which values up to `largest` are multiplied, so that no square of them overflows.
double scale_for(double largest) {
  if (largest == 0) return 1;
  const int exponent = std::ilogb(largest);
  if (std::abs(exponent) <= kPlain) return 1;
  return std::ldexp(1.0, -std::clamp(exponent, -1000, 1000));
}

std::vector<double> scaled(std::vector<double> values, double scale) {
  if (scale != 1)
    for (double& value : values) value *= scale;
  return values;
}

// log |x - y|^2 of rows that are close together, however close; -infinity for equal ones.
double log_square(const double* x, const double* y, std::int64_t width) {
  double largest = 0;
  for (std::int64_t j = 0; j < width; ++j) largest = std::max(largest, std::abs(x[j] - y[j]));
  if (largest == 0) return -std::numeric_limits<double>::infinity();
  double sum = 0;
  for (std::int64_t j = 0; j < width; ++j) {
    const double share = (x[j] - y[j]) / largest;
    sum += share * share;
  }
  return 2 * std::log(largest) + std::log(sum);
}

// Of the values of a row, -0 counted as 0.
std::uint64_t hash_of(const double* row, std::int64_t width) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (std::int64_t j = 0; j < width; ++j) {
    const double value = row[j] + 0.0;
    std::uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    hash = (hash ^ bits) * 0x100000001b3u;
    hash ^= hash >> 29;
  }
  return hash;
}

}  // namespace

SingularKernel::SingularKernel(std::int64_t n_inputs, double alpha) : n_inputs_(n_inputs), alpha_(alpha) {
  GRAMIAN_REQUIRE(n_inputs >= 1, invalid_argument, "rows need at least one feature");
  GRAMIAN_REQUIRE(alpha >= 0, invalid_argument, "alpha must be a number >= 0, got " + std::to_string(alpha));
}

MatrixView<const double> SingularKernel::rows() const {
  return {rows_.data(), n_rows(), n_inputs_};
}

void SingularKernel::add(const Exec& exec, const RowsView& x, const std::int64_t* codes) {
  GRAMIAN_REQUIRE(x.cols == n_inputs_, shape_mismatch,
                  "X has " + std::to_string(x.cols) + " features, but " + std::to_string(n_inputs_) + " are expected");
  for (std::int64_t r = 0; r < x.rows; ++r)
    GRAMIAN_REQUIRE(codes[r] >= 0, invalid_argument, "class codes must not be negative");
  const std::vector<double> fresh = host_rows(exec, x, "X");
  // All memory first: after it nothing can fail.
  rows_.reserve(rows_.size() + fresh.size());
  codes_.reserve(codes_.size() + static_cast<std::size_t>(x.rows));
  rows_.insert(rows_.end(), fresh.begin(), fresh.end());
  codes_.insert(codes_.end(), codes, codes + x.rows);
}

void SingularKernel::remove(const Exec& exec, const RowsView& x, const std::int64_t* codes) {
  GRAMIAN_REQUIRE(x.cols == n_inputs_, shape_mismatch,
                  "X has " + std::to_string(x.cols) + " features, but " + std::to_string(n_inputs_) + " are expected");
  const std::vector<double> gone = host_rows(exec, x, "X");
  std::unordered_multimap<std::uint64_t, std::int64_t> wanted;  // hash -> row of x still to be found
  for (std::int64_t r = 0; r < x.rows; ++r) wanted.emplace(hash_of(gone.data() + r * n_inputs_, n_inputs_), r);
  std::vector<bool> drop(codes_.size(), false);
  // The youngest copies go first.
  for (std::int64_t i = n_rows(); i-- > 0 && !wanted.empty();) {
    const double* row = rows_.data() + i * n_inputs_;
    const auto range = wanted.equal_range(hash_of(row, n_inputs_));
    for (auto it = range.first; it != range.second; ++it) {
      const double* other = gone.data() + it->second * n_inputs_;
      if (codes_[static_cast<std::size_t>(i)] != codes[it->second] || !std::equal(row, row + n_inputs_, other))
        continue;
      drop[static_cast<std::size_t>(i)] = true;
      wanted.erase(it);
      break;
    }
  }
  std::int64_t missing = std::numeric_limits<std::int64_t>::max();
  for (const auto& entry : wanted) missing = std::min(missing, entry.second);
  GRAMIAN_REQUIRE(wanted.empty(), invalid_argument,
                  "row " + std::to_string(missing) + " of X is not in the model with that label");
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(drop.size()); ++i) {
    if (drop[static_cast<std::size_t>(i)]) continue;
    if (kept != i) std::copy_n(rows_.data() + i * n_inputs_, n_inputs_, rows_.data() + kept * n_inputs_);
    codes_[static_cast<std::size_t>(kept++)] = codes_[static_cast<std::size_t>(i)];
  }
  rows_.resize(static_cast<std::size_t>(kept * n_inputs_));
  codes_.resize(static_cast<std::size_t>(kept));
}

void SingularKernel::probabilities(const Exec& exec, const RowsView& x, std::int64_t n_classes,
                                   MatrixView<double> out) const {
  GRAMIAN_REQUIRE(n_rows() > 0, not_fitted, "the model has no rows");
  GRAMIAN_REQUIRE(x.cols == n_inputs_, shape_mismatch,
                  "X has " + std::to_string(x.cols) + " features, but " + std::to_string(n_inputs_) + " are expected");
  GRAMIAN_REQUIRE(
      out.rows == x.rows && out.cols == n_classes && *std::max_element(codes_.begin(), codes_.end()) < n_classes,
      shape_mismatch, "the output has another shape");
  const std::int64_t n = n_rows();
  const std::int64_t block = std::min(PairDistances::block_rows(n), std::max<std::int64_t>(x.rows, 1));
  double largest = largest_of(rows_);
  for (std::int64_t begin = 0; begin < x.rows; begin += block) {
    exec.poll();
    largest = std::max(largest, largest_of(host_rows(exec, x.slice(begin, std::min(block, x.rows - begin)), "X")));
  }
  // Ratios of distances do not change by it.
  const double scale = scale_for(largest);
  const std::vector<double> held = scale == 1 ? std::vector<double>() : scaled(rows_, scale);
  const MatrixView<const double> model_rows(held.empty() ? rows_.data() : held.data(), n, n_inputs_);
  const PairDistances distances(exec, model_rows);
  Array<double> pairs(Exec(Device::cpu, 1), block, n);
  for (std::int64_t begin = 0; begin < x.rows; begin += block) {
    exec.poll();
    const std::int64_t count = std::min(block, x.rows - begin);
    const std::vector<double> queries = host_rows(exec, x.slice(begin, count), "X");
    const std::vector<double> small = scaled(queries, scale);
    const MatrixView<double> part = pairs.view().block(0, 0, count, n);
    distances.block({small.data(), count, n_inputs_}, n, part);
    exec.parallel_for(count, [&](std::int64_t r) {
      double* squared = part.row(r);
      double* f = out.row(begin + r);
      std::fill(f, f + n_classes, 0.0);
      // Where squares underflow, all of this row become logarithms, the small ones anew from the differences.
      const bool logs = *std::min_element(squared, squared + n) < kTiny;
      for (std::int64_t i = 0; logs && i < n; ++i)
        squared[i] = squared[i] < kTiny
                         ? log_square(queries.data() + r * n_inputs_, rows_.data() + i * n_inputs_, n_inputs_)
                         : std::log(squared[i]) - 2 * std::log(scale);
      const double nearest = *std::min_element(squared, squared + n);
      const double log_nearest = logs ? nearest : std::log(nearest);
      double total = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        // (nearest / squared)^(alpha / 2): 1 for the nearest rows. A row at distance 0 outweighs all others, and at
        // alpha = infinity the nearest ones do; at alpha = 0 all rows are equal.
        double weight;
        if (alpha_ == 0 || squared[i] == nearest)
          weight = 1;
        else if (std::isinf(log_nearest) || std::isinf(alpha_))
          weight = 0;
        else
          weight = std::exp(0.5 * alpha_ * (log_nearest - (logs ? squared[i] : std::log(squared[i]))));
        f[codes_[static_cast<std::size_t>(i)]] += weight;
        total += weight;
      }
      for (std::int64_t c = 0; c < n_classes; ++c) f[c] /= total;
    });
  }
}

}  // namespace gramian
