// The inside of a GramState, shared by the files that add rows to it, move it and solve it.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "core/row_count.h"
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

  // sum w (x - shift)(x - shift)', settled. The other one is for changes, which note_trace follows.
  const SymmetricMatrix<double>& g() const {
    settle();
    return g_;
  }
  SymmetricMatrix<double>& mutable_g() {
    settle();
    diagonal_known_ = false;
    return g_;
  }
  Array<double> q;  // c x d: sum w (y - target_shift)(x - shift)'
  // Vectors live on the host: they are small, and every decision about the state needs them there.
  std::vector<double> s, shift;                 // d: sum w (x - shift)
  std::vector<double> t, target_shift, energy;  // c: sum w (y - target_shift), and of its square
  std::vector<std::int64_t> counts;             // c
  std::int64_t n_rows = 0;
  double weight_sum = 0;
  std::int64_t weighted_rows = 0;  // of a weight that is not 1; below 0: not known until the state is empty again
  bool shift_known = false;
  enum class TargetKind { none, codes, values };
  TargetKind kind = TargetKind::none;  // a state is fed with class codes or with numbers, never with both

  // Features come from a map in float, so the shift must be a number of that type.
  bool float_shift = false;

  // For the bound on what removals cost, and to tell a constant feature from one that varies. Powers of two.
  double largest_trace() const {
    settle();
    return largest_trace_;
  }
  double& mutable_largest_trace() {
    settle();
    return largest_trace_;
  }
  const std::vector<double>& largest_diagonal() const {  // d: of G, ever held since the state was last empty
    settle();
    return largest_diagonal_;
  }
  std::vector<double>& mutable_largest_diagonal() {
    settle();
    return largest_diagonal_;
  }
  // The largest target_size() ever held since the state was last empty, a power of two likewise. Rows that wait have
  // theirs in it at once.
  double largest_energy = 0;
  std::int64_t longest_sum = 0;  // terms added up in one product, at most
  std::int64_t operations = 0;   // blocks, merges and moves of the shift
  bool removed = false;

  // Rows or weight that cannot be taken out of this state: Error{invalid_argument}. go: weight per output.
  void require_removable(std::int64_t rows, double weight, const std::vector<std::int64_t>& row_counts,
                         const std::vector<double>& go) const;
  // Moves the shifts by the given differences without changing what the state says.
  void move_shift(const std::vector<double>& by, const std::vector<double>& targets_by);
  // Moves the shift of the features, and of numeric targets where asked for, to the mean of the rows that are in.
  void move_to_mean(bool targets);
  // The same where the mean has come to lie far from the shift (kShiftShare), as it does when the first rows were
  // unlike the rest; else the shift stays where it is.
  // Cannot fail: without memory for it the shift stays where it is.
  void follow_mean();
  // this += sign * other, other's shifts moved to this state's.
  void combine(const Sums& other, double sign);
  // After any removal: drop what only removed rows could explain (see GramState::remove).
  void settle_after_removal();
  void note_trace();
  void note_energy();
  // sign > 0: so many rows of a weight that is not 1 came (below 0: nobody knows how many), else they went.
  void count_weighted(std::int64_t rows, double sign);
  void reset();

  // --- Where it is allowed (GramState::let_few_rows_wait), a few rows that come by themselves wait beside G, which is
  // then read and written once for kMostWaiting of them; all other sums have them at once. Nothing is left of them
  // afterwards. Each entry of G receives the products of its rows in their order, by the same
  // operations whether they come alone or together (op table: gram of few terms), and the largest diagonal and trace of
  // sums that only grow are the last ones: no bit says when the rows came in. Rows do not wait on a device, nor where
  // the diagonal of G is not at hand, which follow_mean needs.
  static constexpr std::int64_t kMostWaiting = 8;
  bool rows_wait = false;
  bool may_wait(std::int64_t rows) const;
  // Before let_wait, which cannot fail: memory, and room for so many.
  void make_room(std::int64_t rows);
  void let_wait(MatrixView<const double> rows);
  // Rows that wait go into G. Threads that read may come here together.
  void settle() const;
  // Terms behind one entry of G, for error bounds.
  double terms() const { return static_cast<double>(longest_sum + operations); }

  // What targets weigh in a bound of the rounding of Q: the sum of their squares. One-hot targets have that of their
  // rows, and so have rows without targets, which may yet be added up as those of a class.
  double target_size() const;
  // Weighted energy of output k around its mean (around zero without intercept).
  double centred_energy(std::size_t k) const;
  // B = Q' - s t'/N on the host, d x c.
  std::vector<double> centred_cross() const;
  double rounding_unit() const;

 private:
  void read_diagonal() const;
  void wipe_waiting() const;

  mutable SymmetricMatrix<double> g_;
  mutable std::vector<double> diagonal_;  // of G as read_diagonal saw it last; a member since that must not fail
  bool diagonal_known_ = false;           // it is that of G still
  mutable double largest_trace_ = 0;
  mutable std::vector<double> largest_diagonal_;
  Array<double> waiting_;  // in host memory
  mutable std::atomic<std::int64_t> waiting_rows_{0};
  mutable std::mutex settling_;
};

// The device copy of a host vector.
inline Array<double> to_device(const Exec& exec, const std::vector<double>& host) {
  Array<double> device(exec, static_cast<std::int64_t>(host.size()));
  upload<double>(exec, {host.data(), 1, device.size()}, device.view());
  return device;
}

}  // namespace gramian
