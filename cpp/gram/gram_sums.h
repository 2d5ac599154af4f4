// The inside of a GramState, shared by the files that add rows to it, move it and solve it.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

struct GramState::Sums {
  Sums(const Exec& exec_, std::int64_t features, std::int64_t outputs, GramOptions options_);

  Exec exec;
  std::int64_t d, c;
  GramOptions options;
  DType products_when_empty;  // options.products as it was asked for; a merge may lower it until the state is empty

  SymmetricMatrix<double> g;  // sum w (x - shift)(x - shift)'
  Array<double> q;            // c x d: sum w (y - target_shift)(x - shift)'
  // Vectors live on the host: they are small, and every decision about the state needs them there.
  std::vector<double> s, shift;                      // d: sum w (x - shift)
  std::vector<double> t, target_shift, energy;       // c: sum w (y - target_shift), and of its square
  std::vector<std::int64_t> counts;                  // c
  std::int64_t n_rows = 0;
  double weight_sum = 0;
  bool shift_known = false;
  enum class TargetKind { none, codes, values };
  TargetKind kind = TargetKind::none;  // a state is fed with class codes or with numbers, never with both

  // For the bound on what removals cost.
  double largest_trace = 0;
  std::int64_t longest_sum = 0;   // terms added up in one product, at most
  std::int64_t operations = 0;    // blocks, merges and moves of the shift
  bool removed = false;

  // Moves the shifts by the given differences without changing what the state says.
  void move_shift(const std::vector<double>& by, const std::vector<double>& targets_by);
  // this += sign * other, other's shifts moved to this state's.
  void combine(const Sums& other, double sign);
  // After any removal: drop what only removed rows could explain (see GramState::remove).
  void settle_after_removal();
  void note_trace();
  void reset();

  // Weighted energy of output k around its mean (around zero without intercept).
  double centred_energy(std::size_t k) const;
  // B = Q' - s t'/N on the host, d x c.
  std::vector<double> centred_cross() const;
  double rounding_unit() const;
};

// The device copy of a host vector.
inline Array<double> to_device(const Exec& exec, const std::vector<double>& host) {
  Array<double> device(exec, static_cast<std::int64_t>(host.size()));
  upload<double>(exec, {host.data(), 1, device.size()}, device.view());
  return device;
}

}  // namespace gramian
