// Ridge weights on features that come and go: a Gram state and the Cholesky factor behind its weights, grown by
// bordered Cholesky ("Broad Learning System: An Effective and Efficient Incremental Learning System Without the Need
// for Deep Architecture").
//
// Rows are cheap to add to the sums and cost a new factor (d^3 / 3) at the next read; k features cost k d^2 on top of
// their products with the others, which need the rows.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "gramian/core/export.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/gram/ridge_factor.hpp"

namespace gramian {

class GRAMIAN_EXPORT GrowingRidge {
 public:
  // ridge > 0, so that no copy of a feature makes the system singular.
  GrowingRidge(GramState state, double ridge);

  const GramState& state() const { return state_; }
  double ridge() const { return ridge_; }

  void add(const RowsView& x, const Targets& y, const double* weight = nullptr);
  void rearrange_outputs(const std::vector<std::int64_t>& source);
  // x: the rows of the state, all of them and with the weights they were added with, now with k more columns behind the
  // others. Throws Error{invalid_argument} where counts or sums say that they are not; nothing has changed then.
  void append_features(const RowsView& x, const Targets& y, const double* weight = nullptr);
  void delete_features(const std::vector<std::int64_t>& features);

  // The factor of the day, made when it is first needed; not by two threads at once.
  const RidgeFactor& factor() const;
  // coef: n_outputs x n_features, host.
  void weights(MatrixView<double> coef, std::vector<double>& intercept) const;

 private:
  GramState state_;
  double ridge_;
  mutable std::optional<RidgeFactor> factor_;
};

}  // namespace gramian
