// The path of gradient descent on squared error, in closed form and from the sums of a state alone.
//
//   A = G - s s'/n = U diag(S) U',  T = U'(Q' - s t'/n),  w0 = U'W0,  l = ridge
//   d/dt W = -(A W - B + l W) / n   =>   U'W(t) = w0 + phi(S) (T - (S + l) w0),  phi(s) = (1 - e^(-t (s + l) / n)) / (s
//   + l) m steps of size eta             =>   the same with  phi(s) = (1 - (1 - eta (s + l) / n)^m) / (s + l) m steps
//   with momentum b         =>   the same with  phi(s) = (1 - p_m) / (s + l),  a = eta (s + l) / n,
//     heavy ball, w+ = w - eta grad(w) + b (w - w-):   p_k+1 = (1 + b - a) p_k - b p_k-1,              p_0 = p_-1 = 1
//     Nesterov, grad at w + b (w - w-) instead:        p_k+1 = (1 + b) (1 - a) p_k - b (1 - a) p_k-1
//
// The intercept is at its optimum all along (the flow runs on centred rows). A mode with s + l = 0 never moves: its
// coordinate is that of W0 to the last bit, and so is the weight of a feature that has no variance at all.
// After "High-dimensional dynamics of generalization error in neural networks".
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gramian/core/export.hpp"
#include "gramian/gram/gram_state.hpp"

namespace gramian {

// Where the path is left: after a time, or after a number of steps of one size.
struct FlowStop {
  double time = 0;
  double step = 0;         // 0: the continuous flow
  std::int64_t steps = 0;  // of size `step`
  static FlowStop at(double time) { return {time, 0, 0}; }
  static FlowStop after(std::int64_t steps, double step) { return {0, step, steps}; }
};

// What a step of gradient descent keeps of the one before it. The continuous flow has none.
struct Momentum {
  double share = 0;  // in [0, 1)
  bool nesterov = false;
};

struct FlowWeights {
  std::vector<double> coef;       // n_outputs x n_features
  std::vector<double> intercept;  // n_outputs
};

class GRAMIAN_EXPORT GradientFlow {
 public:
  // start: n_outputs x n_features values (host) or null for zeros. One eigen-decomposition: about 9 d^3 flops, 8 d^2
  // bytes. momentum: of every stop after a number of steps.
  // Throws Error{not_fitted} for a state without rows, Error{invalid_argument} for a bad ridge, start or momentum.
  GradientFlow(const GramState& state, double ridge, const double* start = nullptr, Momentum momentum = {});
  GradientFlow(GradientFlow&&) noexcept;
  GradientFlow& operator=(GradientFlow&&) noexcept;
  ~GradientFlow();

  std::int64_t n_features() const;
  std::int64_t n_outputs() const;
  double weight_sum() const;
  // Of the centred Gram matrix, ascending; what is rounding is exactly 0.
  const std::vector<double>& eigenvalues() const;
  // The largest step that does not diverge: 2 n / (largest eigenvalue + ridge), with momentum b times 1 + b for heavy
  // ball and (1 + b) / (1 + 2 b) for Nesterov.
  double largest_step() const;

  // 2 d^2 C flops. Throws Error{invalid_argument} for a stop that is negative, not a number, or of a step that
  // diverges.
  FlowWeights weights(const FlowStop& stop) const;
  // U'W, d x C by rows.
  std::vector<double> mode_weights(const FlowStop& stop) const;
  // sum_w |y - yhat|^2 over all outputs, from the sums. O(d C).
  double residual_sum(const FlowStop& stop) const;
  // Trace of the hat matrix of the path, the intercept counted. O(d).
  double degrees_of_freedom(const FlowStop& stop) const;
  // sum_w |y - yhat|^2 sum_w / (sum_w - trace)^2, infinite where the trace reaches sum_w.
  double gcv(const FlowStop& stop) const;
  // Expected squared error of each mode's weight, where the true weights have variance `signal` around the start
  // (around zero with a ridge) and the targets noise of variance `noise`: signal (1 - s phi)^2 + noise s phi^2.
  std::vector<double> mode_risk(const FlowStop& stop, double signal, double noise) const;
  // Mean over rows and outputs of (residual / (1 - leverage))^2 for each stop; x and y are the rows of the state, each
  // of weight 1. The quotient is the exact leave-one-out residual of a ridge regression, and of the path its usual
  // approximation. 2 n d^2 + n d (C + 2) flops a stop. Throws Error{shape_mismatch, non_finite, invalid_argument}.
  std::vector<double> loo(const RowsView& x, const RowsView& y, const std::vector<FlowStop>& stops) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gramian
