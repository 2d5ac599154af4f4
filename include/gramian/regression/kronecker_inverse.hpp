// Two inverse factors of a layer's curvature, L^-1 (rows) and R^-1 (columns), that follow one pair of vectors a step
// ("MKOR: Momentum-Enabled Kronecker-Factor-Based Optimizer Using Rank-1 Updates").
#pragma once

#include <cstdint>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/inverse_update.hpp"

namespace gramian {

struct KroneckerInverseOptions {
  // exact: the inverses of L <- decay L + (1 - decay) l l' and of R likewise, both starting at the identity.
  // paper: the rule of the published program, P <- decay P + (1 - decay) I, then the inverse of P^-1 + l l'. That is
  // the inverse of no average of l l': each step shrinks P by a direction and lifts it towards the identity, and the
  // weight of old vectors fades through the blend alone.
  enum class Mode { exact, paper } mode = Mode::exact;
  double decay = 0.95;
  double limit = 2.0;          // paper: an entry above it, of either factor, resets both at the next update
  double stabilisation = 0.1;  // paper: the share of the identity in a reset factor; 1 is the identity itself
  double max_trace = 1e8;      // exact: of an inverse, per row; above it the factor does not age (RunningInverse)
};

// All that a KroneckerInverse is beyond its options.
struct KroneckerInverseState {
  RunningInverseState left, right;
  std::int64_t resets = 0;
  bool reset_next = false;
};

class GRAMIAN_EXPORT KroneckerInverse {
 public:
  KroneckerInverse(const Exec& exec, std::int64_t n_out, std::int64_t n_in, KroneckerInverseOptions options);

  const RunningInverse& left() const { return left_; }
  const RunningInverse& right() const { return right_; }
  std::int64_t resets() const { return resets_; }

  // One pair: l (1 x n_out) and r (1 x n_in), device. 6 (n_out^2 + n_in^2) flops. On errors neither factor has changed.
  void update(MatrixView<const double> l, MatrixView<const double> r);
  // g (n_out x n_in, device) becomes L^-1 g R^-1. 2 n_out n_in (n_out + n_in) flops.
  void precondition(MatrixView<double> g) const;

  // The state, and the same bits again under the same sizes and options; see RunningInverse.
  KroneckerInverseState state() const { return {left_.state(), right_.state(), resets_, reset_next_}; }
  void restore(const KroneckerInverseState& state);

 private:
  Exec exec_;
  KroneckerInverseOptions options_;
  RunningInverse left_, right_;
  std::int64_t resets_ = 0;
  bool reset_next_ = false;
};

}  // namespace gramian
