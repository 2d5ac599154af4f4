// Leverages at many ridges from those at a few.
//
// With modes s and nonnegative parts a of a row, its leverage at ridge r is sum a / (s + r): a function of r that knows
// the row only through a. If
//   | 1 - (s + r) (sum_j alpha_j / (s + r_j) + beta) | <= error      for every s that can occur,
// then sum_j alpha_j h(r_j) + beta |x|^2 is h(r) with that relative error, whatever the row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gramian {

// How the leverages of one ridge follow from those at the nodes.
struct LeverageMixture {
  std::vector<double> alpha;  // one per node
  double beta = 0;            // of |x|^2
  double error = 0;           // relative, proven but for rounding; 0 at a node and nowhere else
  double exact_error = 0;     // in exact arithmetic: finite also where large parts of both signs forbid the mixture
};

// Less by the error, then by the exact one.
bool operator<(const LeverageMixture& a, const LeverageMixture& b);

// A product of many factors whose partial products may lie far outside the range of double, as those of a hundred
// ridges do: the exponent is kept apart.
class WideProduct {
 public:
  void times(double factor);
  void over(double divisor);
  void times(const WideProduct& other);
  double value() const;
  double log_size() const;

 private:
  void take_exponent();

  double mantissa_ = 1;
  std::int64_t exponent_ = 0;
};

// The best that is known of other ridges from those at the nodes, which are different, for modes in [low, high],
// 0 < low <= high. With low = 0 nothing is known of the modes, and a node tells of itself alone.
class LeveragePlan {
 public:
  LeveragePlan() = default;
  LeveragePlan(std::vector<double> nodes, double low, double high);

  LeverageMixture leverages(double ridge) const;
  // The same with beta = 0, for what falls off like 1 / (s + r) and has no simple limit: ridge weights.
  LeverageMixture weights(double ridge) const;

 private:
  // The parts of one choice of zeros that are the same for every ridge.
  struct Zeros {
    std::vector<double> at;
    std::vector<WideProduct> residues;  // per node
    WideProduct bound;                  // of |prod (s - t) / prod (s + r_j)|
  };

  Zeros with_zeros(std::size_t count, double low, double high) const;
  bool is_node(double ridge, LeverageMixture* out) const;
  LeverageMixture mix(const Zeros& zeros, double ridge) const;
  bool has_large_parts(const LeverageMixture& mixture, double ridge) const;

  std::vector<double> nodes_;
  std::vector<double> ends_;      // of the pieces of [low, high]; none with low = 0
  std::vector<double> inverses_;  // per piece and node: the largest 1 / (s + r_j)
  Zeros plain_, lifted_;          // as many zeros as nodes, and one more
};

}  // namespace gramian
