// Ridge weights that follow their sums: recursive least squares with a Cholesky factor in the place of the inverse.
//
// A = G - s s'/n + ridge I and B = Q' - s t'/n change by b rows as
//   A += sum_i z_i z_i',  B += sum_i z_i u_i',  z_i = a_i (x_i - mean before row i),  u_i likewise of the targets,
// with a_i^2 = w_i n_before / n_after (Welford's recurrence, read as rank-one changes; a_i^2 = w_i and no mean without
// intercept; rows that leave run through the same formulas with -w_i and are taken away). So an intercept costs no row
// more, and nothing is ever subtracted from a sum. The factor follows by linalg/update, the weights by
//   W += A^-1 z (u - W'z)'      with the new A,
// which needs one triangular solve with b columns beside the update: 5 b d^2 + 4 b d C flops or fewer.
// Errors of W shrink with the error of old data (each step multiplies them by A_new^-1 A_old), so they do not pile up.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/features/feature_map.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

class LiveWeights {
 public:
  // What rows are measured from: the means before they come or go.
  struct Centre {
    std::vector<double> shift, offset;  // mean = shift + offset; kept apart, since x - shift is exact
    std::vector<double> target_mean;
    double weight_sum = 0;
  };
  static Centre centre_of(const GramState& state);

  bool live() const { return live_; }
  // The factor and the weights anew from the sums: d^3 / 3 flops. False, with the reason in solution.report.fallback,
  // where a Cholesky factor cannot be trusted.
  bool anchor(const GramState& state, double ridge, Solution& solution);

  // One change of the sums that is done already: they were multiplied by `age`, then the rows x with `weight` (none:
  // ones) were added or (sign < 0) removed. before: centre_of the state before. False: the weights could not follow and
  // are not to be used any more.
  struct Change {
    RowsView x;
    Targets y;
    const double* weight;
    const FeatureMap* map;
    double sign;
    double age;
  };
  bool follow(const GramState& state, double ridge, const Change& change, const Centre& before, Solution& solution);
  // The columns of the weights rearranged as the outputs of the state were.
  void rearrange(const Exec& exec, const std::vector<std::int64_t>& source, Solution& solution) const;

 private:
  // looked: the state has just been read as a whole, so what needs that costs nothing more.
  void report(const GramState& state, double ridge, bool looked, Solution& solution) const;
  void add_gain(const Exec& exec, double sign, MatrixView<const double> u, Array<double> solved,
                MatrixView<double> coef) const;
  double probe(const GramState& state, double ridge, const Solution& solution) const;

  bool live_ = false;
  SymmetricMatrix<double> l_;
  std::int64_t updates_ = 0;   // rows since the anchor
  std::int64_t unprobed_ = 0;  // rows since the last look at the residual
};

}  // namespace gramian
