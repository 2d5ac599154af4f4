// What ridge regression on random features will cost in test error, before it is run.
//
// For a kernel with eigenvalues l_i, target coefficients v_i, noise s2, n rows, k features and a ridge delta on the
// mean kernel of the features, the eigenframework of "More is Better in Modern Machine Learning" needs two functions of
// one number g > 0:
//   z(g) = sum l_i / (l_i + g)              how many modes are learnt
//   A(g) = s2 + sum v_i^2 g / (l_i + g)     what is left of the target
// With kappa = g (1 - z / k), q = z + g z'(g) and g the root of z + delta / kappa = n:
//   test  = [A - (k / (k - q)) kappa A'(g)] / [1 - (q (k - 2 z) + z^2) / (n (k - q))]
//   train = (delta / (n kappa))^2 test
// A spectrum gives z and A as these sums. A pilot of p rows gives them too, without any l_i or v_i: the Gram matrix K
// of the pilot's features has, for every ridge d,
//   z = tr K (K + d)^-1,   kappa = d / (p - z),   g = kappa / (1 - z / k_pilot),   A = kappa y'(K + d)^-1 y,
// which covers all g above some g_0; below it, power laws fitted next to g_0 go on. The pilot also tells how far
// leave-one-out exceeds generalised cross-validation, by which predictions are corrected.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"

namespace gramian {

// z, A and their derivatives at one g.
struct SpectralValues {
  double z = 0, z_slope = 0, a = 0, a_slope = 0;
};

class GRAMIAN_EXPORT SpectralCurve {
 public:
  virtual ~SpectralCurve() = default;
  virtual SpectralValues at(double g) const = 0;
  // Some g of the size of the eigenvalues, to start a search from.
  virtual double scale() const = 0;
  // Mean square of the (centred) targets: the error of predicting nothing.
  virtual double energy() const = 0;
  // The least g that data stand behind; below it a law goes on.
  virtual double least_g() const { return 0; }
  // What the test error at this g is multiplied by.
  virtual double correction(double /*g*/) const { return 1; }
  // Rows that centring takes for itself, 0 or 1.
  virtual double centring() const { return 0; }
};

// A known spectrum. O(modes) per evaluation.
class GRAMIAN_EXPORT ModeSpectrum final : public SpectralCurve {
 public:
  // eigenvalues > 0; energies = squared coefficients of the target. Throws Error{invalid_argument, shape_mismatch}.
  ModeSpectrum(std::vector<double> eigenvalues, std::vector<double> energies, double noise);
  SpectralValues at(double g) const override;
  double scale() const override;
  double energy() const override;
  // What it was made of.
  const std::vector<double>& eigenvalues() const { return eigenvalues_; }
  const std::vector<double>& energies() const { return energies_; }
  double noise() const { return noise_; }

 private:
  std::vector<double> eigenvalues_, energies_;
  double noise_;
};

// The law that goes on where a pilot ends: z = z_0 (g / g_0)^-decay, A = noise + (A_0 - noise) (g / g_0)^rate.
struct SpectralTail {
  double g = 0, z = 0, a = 0;
  double decay = 0, noise = 0, rate = 0;
};

// All that a pilot is made of, so that an equal one can be made; the arguments of its constructor and of calibrate().
struct PilotParts {
  std::vector<double> values, energies;
  double width = 0;
  bool centred = false;
  double noise = 0;
  std::vector<double> log_g, ratios;
};

class GRAMIAN_EXPORT PilotSpectrum final : public SpectralCurve {
 public:
  // values: eigenvalues of the pilot's (centred) kernel matrix; energies: squares of the targets in its eigenvectors,
  // averaged over outputs; width: features behind the kernel, infinity for a kernel proper; noise: variance of the
  // targets' noise, negative to estimate it. Throws Error{invalid_argument}.
  PilotSpectrum(std::vector<double> values, std::vector<double> energies, double width, bool centred, double noise);
  // An equal one of other's parts(), to the bit. Throws as the constructor and calibrate() do.
  explicit PilotSpectrum(const PilotParts& parts);
  // From features (p x k, of any storage) or a kernel matrix (p x p) and targets (p x C). The kernel is
  // scale * features features'. p^2 k + 9 p^3 flops, 8 p (k + 2 p) bytes.
  static PilotSpectrum of_features(const Exec& exec, const RowsView& features, const RowsView& y, double scale,
                                   bool centred, double noise);
  static PilotSpectrum of_kernel(const Exec& exec, const RowsView& kernel, const RowsView& y, bool centred,
                                 double noise);
  // The theory takes all rows for equally hard, as generalised cross-validation does; real rows are not, and
  // leave-one-out knows. Sets the ratio of the two on the pilot at ascending log g; of_features and of_kernel do so.
  // Ratios below 1 count as 1: a search for the best ridge would find a dip and settle there.
  // Throws Error{shape_mismatch}.
  void calibrate(std::vector<double> log_g, std::vector<double> ratios);
  SpectralValues at(double g) const override;
  double correction(double g) const override;
  double scale() const override;
  double energy() const override { return energy_; }
  double least_g() const override { return tail_.g; }
  double centring() const override { return parts_.centred ? 1 : 0; }
  const SpectralTail& tail() const { return tail_; }
  // The table: ascending log g, and log z and log A there.
  const std::vector<double>& log_g() const { return log_g_; }
  const PilotParts& parts() const { return parts_; }

 private:
  std::vector<double> log_g_, log_z_, log_a_, z_rate_, a_rate_;  // rates: derivatives by log g
  SpectralTail tail_;
  double energy_ = 0;
  PilotParts parts_;
};

struct RiskPoint {
  double test = 0, train = 0;
  double ridge = 0;  // delta
  double g = 0, kappa = 0, z = 0;
};

// n rows, k features (infinity: kernel ridge regression), ridge delta >= 0. A search over log g of at most 200
// evaluations. Test error includes the noise. Throws Error{invalid_argument}.
GRAMIAN_EXPORT RiskPoint predict_risk(const SpectralCurve& curve, double n, double k, double delta);
// The same at the ridge of least test error.
GRAMIAN_EXPORT RiskPoint predict_best_risk(const SpectralCurve& curve, double n, double k);

}  // namespace gramian
