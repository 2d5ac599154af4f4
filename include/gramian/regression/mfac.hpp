// Inverses of an empirical Fisher matrix from m gradients of d parameters, without a d x d matrix ("M-FAC: Efficient
// Matrix-Free Approximations of Second-Order Information"):
//   F = ridge I + G'G / m,   F^-1 v = (v - G'K^-1 G v) / ridge,   K = m ridge I + G G'  (m x m).
// What is held of K is its Cholesky factor, in the order of age. A gradient that leaves the window is the first row of
// it and one that comes is the last, so a replacement is an update by one row and a bordered row: O(d m + m^2), and
// orthogonal but for the last pivot, so nothing can break down. Errors leave the factor with the rows that made them.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/dtype.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

struct MfacOptions {
  double ridge = 1e-5;
  DType storage = DType::f64;  // of the gradients, f64 or f32; K and all sums are double in any case
  bool dynamic = true;         // a window that moves; else W = L^-1 G is held in place of G and an element costs O(m)
};

// All that a window is beyond its options.
struct MfacState {
  std::int64_t head = 0, size = 0;  // slot of the oldest gradient; gradients
  std::int64_t since_refresh = 0, refreshes = 0;
  std::vector<double> wide;      // the gradients by slot (static: L^-1 G), size x n_params, stored as f64 ...
  std::vector<float> narrow;     // ... or as f32; the other one is empty
  std::vector<double> products;  // G G' by slot, capacity x capacity
  std::vector<double> factor;    // of K by age, its lower triangle by rows
};

class GRAMIAN_EXPORT Mfac {
 public:
  // A window of at most `capacity` gradients. m is the capacity: gradients not there yet count as zeros.
  // Memory: capacity * n_params values, 12 capacity^2 bytes.
  Mfac(const Exec& exec, std::int64_t capacity, std::int64_t n_params, MfacOptions options);
  Mfac(Mfac&&) noexcept = default;

  std::int64_t capacity() const { return capacity_; }
  std::int64_t n_params() const { return n_params_; }
  std::int64_t size() const { return count_; }  // gradients in the window
  double ridge() const { return options_.ridge; }
  bool dynamic() const { return options_.dynamic; }
  std::int64_t refreshes() const { return refreshes_; }  // factors made from K anew
  // d_eff = trace K^-1 GG' of the window: how many of its gradients say something that the others do not.
  double effective_dimension() const;

  // Gradients, one a row; where the window is full each takes the place of the oldest. Of more than `capacity` rows the
  // last count. A static window takes rows once. 2 k d m + 8 k m^2 flops for k rows, k <= m / 8; K is factored anew for
  // more. On errors nothing has changed. Error{non_finite, not_positive_definite}.
  void push(const RowsView& gradients);
  // Puts a gradient in the place of the one of this age (0: the oldest), which it takes over. 2 d m + 8 m^2 flops.
  void replace(std::int64_t age, const RowsView& gradient);
  // The factor from K again: m^3 / 3 flops. Done by itself every `capacity` gradients.
  void refresh();

  // Rows of v (k x d, host) become F^-1 v. 4 k d m flops; reads the gradients twice.
  void solve(MatrixView<double> v) const;
  // diag F^-1, d host values, each at least 1 / F_ii (static: 1 / (ridge + |w_i|^2 trace K / m)) whatever the rounding.
  // 3 d m^2 flops (static: 2 d m).
  void diagonal(double* out) const;
  // F^-1 at these rows and columns, q x q host values. q m^2 + q^2 m flops (static: q^2 m).
  void block(const std::vector<std::int64_t>& indices, MatrixView<double> out) const;

  // The state, and the same bits again in a window of the same sizes and options. A state that fits no such window is
  // Error{invalid_argument} and changes nothing.
  MfacState state() const;
  void restore(const MfacState& state);

 private:
  MatrixView<const double> columns(std::int64_t begin, std::int64_t width, Array<double>& scratch) const;
  std::int64_t slot_of(std::int64_t age) const { return (head_ + age) % capacity_; }
  std::int64_t block_width() const;
  double& product(std::int64_t a, std::int64_t b) { return gram_[static_cast<std::size_t>(a * capacity_ + b)]; }
  SymmetricMatrix<double> factor_of(const std::vector<double>& gram, std::int64_t head, std::int64_t count) const;
  Array<double> load(const RowsView& rows) const;
  std::vector<double> products_with(const Array<double>& rows) const;
  void store(const Array<double>& rows, std::int64_t row, std::int64_t slot);
  void push_loaded(const Array<double>& rows);
  void make_static();
  Array<double> turned(MatrixView<const double> columns) const;
  Array<double> whitened(MatrixView<const double> columns) const;

  Exec exec_;
  MfacOptions options_;
  std::int64_t capacity_, n_params_, count_ = 0, head_ = 0, since_refresh_ = 0, refreshes_ = 0;
  Array<double> wide_;
  Array<float> narrow_;        // the gradients by slot, in one of the two
  std::vector<double> gram_;   // GG' by slot, host
  SymmetricMatrix<double> l_;  // of K, by age
};

}  // namespace gramian
