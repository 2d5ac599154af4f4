// Kernels of infinitely wide fully connected networks of any depth, on rows of unit length.
//
// An activation f with E f(u)^2 = 1 (u standard normal) and Hermite coefficients a_k has the dual map
// c(xi) = sum a_k^2 xi^k: the inner product xi of two rows becomes c(xi) after a layer. With S_0 = K_0 = xi
//   S_{l+1} = c(S_l)                      the network at random weights (NNGP)
//   K_{l+1} = S_{l+1} + K_l c'(S_l)       the network in training (NTK)
// Everything is a function of the gap u = 1 - xi = |x - y|^2 / 2, which close rows know to full relative precision
// while xi does not; the recursion runs on the gap near 1 and on log S near 0, where S falls below the least double
// within a few layers. After "Wide and Deep Neural Networks Achieve Optimality for Classification".
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

// c(xi) of one layer. With a bias of variance b next to weights of variance 1, c becomes (c + b) / (1 + b).
class GRAMIAN_EXPORT DualMap {
 public:
  static DualMap relu(double bias = 0);
  static DualMap erf(double bias = 0);
  // Coefficients of f in the orthonormal Hermite polynomials; scaled so that c(1) = 1.
  // Throws Error{invalid_argument} where they are empty, not finite or all zero.
  static DualMap hermite(const std::vector<double>& coefficients, double bias = 0);

  double value(double s) const;  // c(s), -1 <= s <= 1
  double slope(double s) const;  // c'(s)
  // Both at s = 1 - u, 0 <= u <= 1, to the relative precision of u.
  double gap(double u) const;           // 1 - c(1 - u)
  double slope_at_gap(double u) const;  // c'(1 - u)
  double mean() const;                  // |E f|, the root of c(0)
  double first() const;                 // |E f'|, the root of c'(0)
  double expansion() const;             // B = E f'^2 = c'(1)
  // c(s) -> weight s^power for s -> 0; power 0 where c(0) > 0.
  int lowest_power() const { return power_; }
  double lowest_weight() const { return weight_; }

 private:
  enum class Kind { relu, erf, hermite };
  void finish(double bias);
  Kind kind_ = Kind::hermite;
  std::vector<double> squares_;  // hermite: a_k^2
  double bias_ = 0;
  int power_ = 0;
  double weight_ = 0;
};

// m e^exponent: numbers beyond the range of a double.
struct Scaled {
  double m = 0;
  double exponent = 0;
  double value() const;
  double log_abs() const;  // -infinity for 0
};

class GRAMIAN_EXPORT DeepKernel {
 public:
  enum class Kind { nngp, ntk };
  // depth >= 0 layers; 0 is the linear kernel. lift: a constant that is appended to every row before it is scaled to
  // unit length, so that rows of different length differ and rows of zeros have a direction; 0 for none. Throws
  // Error{invalid_argument}.
  DeepKernel(DualMap map, std::int64_t depth, Kind kind, double lift = 0);

  const DualMap& map() const { return map_; }
  std::int64_t depth() const { return depth_; }
  Kind kind() const { return kind_; }
  double lift() const { return lift_; }

  // The kernel of two unit rows with 1 - <x, y> = gap, 0 <= gap <= 2. O(depth * coefficients).
  Scaled at(double gap) const { return at(gap, kind_); }
  Scaled at(double gap, Kind kind) const;
  // Of a row with itself: 1 for nngp, 1 + B + ... + B^depth for ntk.
  Scaled diagonal(Kind kind) const { return at(0.0, kind); }

  // Unit rows (n x d, or d + 1 with a lift) in host memory. Throws Error{invalid_argument} naming a row of zeros.
  Array<double> unit_rows(const Exec& exec, const RowsView& x, const char* name) const;

  enum class Output { value, log_abs, sign };
  // out (x.rows x y.rows, host) = the kernel of all pairs; y null: of x with itself, symmetric to the last bit.
  // 2 n m d flops for the inner products and n m evaluations of `at`; blocks of 2^22 pairs.
  void matrix(const Exec& exec, const RowsView& x, const RowsView* y, Output output, MatrixView<double> out) const;

 private:
  DualMap map_;
  std::int64_t depth_;
  Kind kind_;
  double lift_;
};

}  // namespace gramian
