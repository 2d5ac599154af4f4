// Rows that age, and weights that follow the rows.
#include "gram/ridge_head_impl.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <vector>

namespace gramian {

namespace {

constexpr double kLeastDecay = 1e-300;  // a ridge that has aged stays above 0
constexpr double kLeastInPlace = 1e-8;  // of what a batch leaves of the rows before it, to be added in place

}  // namespace

void RidgeHead::Impl::learn(const RowsView& x, const Targets& y, const double* weight, bool atomic, double sign) {
  const bool follows = solved && solved->live.live();
  const LiveWeights::Centre before = follows ? LiveWeights::centre_of(*state) : LiveWeights::Centre();
  const std::int64_t rows_before = state->n_rows();
  const Aged aged(sign > 0 ? config.forgetting : 1.0, x.rows, weight);
  try {
    if (aged.factor < 1) {
      add_aged(x, y, aged, atomic);
    } else if (sign > 0) {
      state->let_few_rows_wait(follows);
      state->add(x, y, weight, map.get(), atomic);
    } else {
      state->remove(x, y, weight, map.get(), atomic);
    }
  } catch (...) {
    // Without `atomic` some rows may be in.
    if (state->n_rows() != rows_before || !follows) solved.reset();
    throw;
  }
  decay = state->n_rows() == 0 ? 1.0 : std::max(decay * aged.factor, kLeastDecay);
  try {
    const double* weights = aged.factor < 1 ? aged.weight.data() : weight;
    const LiveWeights::Change change{x, y, weights, map.get(), sign, aged.factor};
    if (!follows || !solved->live.follow(*state, ridge(), change, before, solved->solution)) {
      solved.reset();
    } else {
      solved->noise_known = false;
    }
  } catch (const std::exception&) {
    solved.reset();  // out of memory: the sums are right, and the weights are made from them at the next read
  }
}

RidgeHead::Impl::Aged::Aged(double forgetting, std::int64_t rows, const double* given) {
  if (forgetting == 1) return;
  weight.resize(static_cast<std::size_t>(rows));
  for (std::int64_t r = rows - 1; r >= 0; --r) {
    const double w = given == nullptr ? 1.0 : given[r];
    // A row of weight 0 is as if it were not there, and a weight that is none must reach the state's own check.
    weight[static_cast<std::size_t>(r)] = w > 0 ? w * factor : w;
    if (w > 0) factor = std::max(factor * forgetting, kLeastDecay);
  }
}

// sums = factor * sums + the rows. The rows go first, because they may be refused and the factor may not: in place
// with weights that the factor then makes right, or through a second state where those would be huge.
void RidgeHead::Impl::add_aged(const RowsView& x, const Targets& y, const Aged& aged, bool atomic) {
  if (state->n_rows() > 0 && aged.factor < kLeastInPlace) {
    GramState batch(exec, width(), n_outputs, config.gram);
    batch.add(x, y, aged.weight.data(), map.get(), atomic);
    exec.poll_now();
    state->scale(aged.factor);
    state->merge(batch);
    return;
  }
  if (state->n_rows() == 0) {
    state->add(x, y, aged.weight.data(), map.get(), atomic);
    return;
  }
  std::vector<double> grown = aged.weight;
  for (double& w : grown) w /= aged.factor;
  state->add(x, y, grown.data(), map.get(), atomic);
  state->scale(aged.factor);
}

}  // namespace gramian
