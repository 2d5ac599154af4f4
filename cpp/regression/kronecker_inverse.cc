#include "gramian/regression/kronecker_inverse.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {
namespace {

RunningInverseOptions cap(const KroneckerInverseOptions& options, std::int64_t d) {
  RunningInverseOptions out;
  if (options.mode == KroneckerInverseOptions::Mode::exact) out.max_trace = options.max_trace * static_cast<double>(d);
  // The blend lifts what a long vector pressed to nothing.
  out.refuse_loss = options.mode == KroneckerInverseOptions::Mode::exact;
  return out;
}

}  // namespace

KroneckerInverse::KroneckerInverse(const Exec& exec, std::int64_t n_out, std::int64_t n_in,
                                   KroneckerInverseOptions options)
    : exec_(exec),
      options_(options),
      left_(exec, n_out, 1.0, cap(options, n_out)),
      right_(exec, n_in, 1.0, cap(options, n_in)) {
  GRAMIAN_REQUIRE(n_out >= 1 && n_in >= 1, invalid_argument, "n_out and n_in must be at least 1");
  GRAMIAN_REQUIRE(options.decay > 0 && options.decay < 1, invalid_argument, "decay must lie strictly between 0 and 1");
  GRAMIAN_REQUIRE(options.limit > 0 && options.stabilisation > 0 && options.stabilisation <= 1, invalid_argument,
                  "limit must be above 0, stabilisation in (0, 1]");
}

void KroneckerInverse::update(MatrixView<const double> l, MatrixView<const double> r) {
  GRAMIAN_REQUIRE(
      l.rows == 1 && l.cols == left_.size() && r.rows == 1 && r.cols == right_.size(), shape_mismatch,
      "the vectors must have " + std::to_string(left_.size()) + " and " + std::to_string(right_.size()) + " entries");
  const double g = options_.decay;
  const bool paper = options_.mode == KroneckerInverseOptions::Mode::paper;
  if (paper && reset_next_) {
    // As published, the vectors of a step that resets are not used.
    const InverseBlend reset = {1 - options_.stabilisation, options_.stabilisation};
    left_.blend(reset);
    right_.blend(reset);
    resets_ += 1;
  } else {
    const double ageing = paper ? 1.0 : g, weight = paper ? 1.0 : 1 - g;
    const InverseBlend blend = paper ? InverseBlend{g, 1 - g} : InverseBlend{};
    // Both or neither.
    RunningInverse::Change of_left = left_.prepare(ageing, weight, l, blend);
    RunningInverse::Change of_right = right_.prepare(ageing, weight, r, blend);
    left_.commit(std::move(of_left));
    right_.commit(std::move(of_right));
  }
  if (!paper) return;
  reset_next_ = std::max(left_.largest_entry(), right_.largest_entry()) > options_.limit;
}

void KroneckerInverse::restore(const KroneckerInverseState& state) {
  GRAMIAN_REQUIRE(state.resets >= 0, invalid_argument, "the counts of a state must not be negative");
  const RunningInverseState before = left_.state();
  left_.restore(state.left);
  try {
    right_.restore(state.right);
  } catch (...) {
    left_.restore(before);
    throw;
  }
  resets_ = state.resets;
  reset_next_ = state.reset_next;
}

void KroneckerInverse::precondition(MatrixView<double> g) const {
  GRAMIAN_REQUIRE(
      g.rows == left_.size() && g.cols == right_.size(), shape_mismatch,
      "the gradient must have the shape (" + std::to_string(left_.size()) + ", " + std::to_string(right_.size()) + ")");
  Array<double> product(exec_, g.rows, g.cols), square(exec_, g.cols, g.cols);
  symmetric_multiply(exec_, 1.0, left_.inverse(), g, 0.0, product.view());
  symmetric_to_dense(exec_, right_.inverse(), square.view());
  gemm<double>(exec_, Trans::no, Trans::no, 1.0, product.view(), square.view(), 0.0, g);
}

}  // namespace gramian
