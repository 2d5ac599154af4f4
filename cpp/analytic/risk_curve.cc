#include "gramian/analytic/risk_curve.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "analytic/golden_section.h"
#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// A pilot is believed up to this share of its rows learnt: at half, the sums behind A still average over half the rows.
constexpr double kTrusted = 0.5;
// Eigenvalues below this share of the largest are rounding.
constexpr double kRounding = 1e-13;
constexpr int kTable = 256;
// Ridges at which leave-one-out is compared with generalised cross-validation, up to this share of rows learnt.
constexpr int kCalibrations = 32;
constexpr double kCalibrated = 0.5;

// Least x in [low, high] with f(x) <= 0, f falling; `steps` halvings.
template <class F>
double falling_root(double low, double high, int steps, const F& f) {
  for (int step = 0; step < steps; ++step) {
    const double middle = 0.5 * (low + high);
    (f(middle) > 0 ? low : high) = middle;
  }
  return high;
}

// The minimum of f on [low, high]: the best of a grid, then golden sections around it. The grid finds the valley where
// f has a plateau, as a risk curve has at both ends.
template <class F>
double minimum_of(double low, double high, int grid, const F& f) {
  double best = low, least = kInfinity;
  const double width = (high - low) / grid;
  for (int i = 0; i <= grid; ++i) {
    const double x = low + width * i, value = f(x);
    if (value < least) {
      least = value;
      best = x;
    }
  }
  const double refined = golden_section(std::max(low, best - width), std::min(high, best + width), 1e-4, f);
  return f(refined) < least ? refined : best;
}

// Value and derivative of the cubic through (x0, f0, s0) and (x1, f1, s1).
std::pair<double, double> cubic(double x0, double f0, double s0, double x1, double f1, double s1, double x) {
  const double h = x1 - x0, t = (x - x0) / h, u = 1 - t;
  const double value = u * u * (1 + 2 * t) * f0 + t * t * (3 - 2 * t) * f1 + h * t * u * (u * s0 - t * s1);
  const double slope = 6 * t * u * (f1 - f0) / h + u * (1 - 3 * t) * s0 + t * (3 * t - 2) * s1;
  return {value, slope};
}

struct LineFit {
  double noise = 0, factor = 0, error = kInfinity;
};

// a ~ noise + factor b with both >= 0, least squares of relative errors.
LineFit fit_line(const std::vector<double>& b, const std::vector<double>& a, double noise) {
  double s11 = 0, s12 = 0, s22 = 0, r1 = 0, r2 = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double one = 1 / a[i], x = b[i] / a[i];
    s11 += one * one;
    s12 += one * x;
    s22 += x * x;
    r1 += one;
    r2 += x;
  }
  LineFit fit;
  const double determinant = s11 * s22 - s12 * s12;
  if (noise >= 0) {
    fit.noise = noise;
    fit.factor = std::max(0.0, (r2 - noise * s12) / s22);
  } else {
    fit.noise = determinant > 0 ? (s22 * r1 - s12 * r2) / determinant : 0.0;
    fit.factor = determinant > 0 ? (s11 * r2 - s12 * r1) / determinant : r2 / s22;
    if (fit.noise < 0) fit = {0.0, r2 / s22, 0.0};
    if (fit.factor < 0) fit = {r1 / s11, 0.0, 0.0};
  }
  fit.error = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double miss = (fit.noise + fit.factor * b[i]) / a[i] - 1;
    fit.error += miss * miss;
  }
  return fit;
}

// tr K (K + d)^-1.
double learnt_at(const std::vector<double>& values, double ridge) {
  double z = 0;
  for (const double value : values) z += value / (value + ridge);
  return z;
}

// log d at which so much is learnt; kRounding bounds it from below.
double log_ridge_of(const std::vector<double>& values, double top, double learnt) {
  return falling_root(std::log(kRounding * top), std::log(1e3 * top), 60,
                      [&](double log_ridge) { return learnt_at(values, std::exp(log_ridge)) - learnt; });
}

// Leave-one-out over generalised cross-validation at some ridges, for kernel ridge regression on the pilot itself.
// modes: targets in the eigenvectors. Two products of p^2 entries a ridge.
void calibrate_on(const Exec& exec, const std::vector<double>& values, const Array<double>& vectors,
                  MatrixView<const double> modes, double width, bool centred, PilotSpectrum& pilot) {
  const auto p = static_cast<std::int64_t>(values.size());
  const std::int64_t c = modes.cols;
  const double own = centred ? 1 / static_cast<double>(p) : 0.0, top = values.back();
  std::vector<double> squares(static_cast<std::size_t>(p * p)), host(static_cast<std::size_t>(p * c));
  download<double>(exec, vectors.view(), {squares.data(), p, p});
  exec.parallel_for(p, [&](std::int64_t r) {
    for (double* entry = squares.data() + r * p; entry != squares.data() + (r + 1) * p; ++entry) *entry *= *entry;
  });
  Array<double> squared(exec, p, p), scaled(exec, p, c), residual(exec, p, c);
  upload<double>(exec, {squares.data(), p, p}, squared.view());
  const double low = log_ridge_of(values, top, kCalibrated * static_cast<double>(p));
  const double high = log_ridge_of(values, top, 1.0);
  std::vector<double> log_g, ratios, filter(values.size()), kept(values.size());
  for (int i = 0; i < kCalibrations; ++i) {
    exec.poll();
    const double d = std::exp(low + (high - low) * i / (kCalibrations - 1));
    for (std::size_t j = 0; j < values.size(); ++j) {
      kept[j] = std::max(0.0, values[j]) / (std::max(0.0, values[j]) + d);
      filter[j] = 1 - kept[j];
    }
    const std::vector<double> leverage = column_sums<double>(exec, squared.view(), kept);
    axpby<double, double>(exec, 1.0, modes, 0.0, scaled.view());
    scale_rows<double>(exec, filter, scaled.view());
    gemm<double>(exec, Trans::yes, Trans::no, 1.0, vectors.view(), scaled.view(), 0.0, residual.view());
    download<double>(exec, residual.view(), {host.data(), p, c});
    double plain = 0, left_out = 0, freedom = 0;
    for (std::int64_t r = 0; r < p; ++r) {
      const double h = leverage[static_cast<std::size_t>(r)] + own;
      freedom += h;
      for (std::int64_t k = 0; k < c; ++k) {
        const double square = host[static_cast<std::size_t>(r * c + k)] * host[static_cast<std::size_t>(r * c + k)];
        plain += square;
        left_out += square / ((1 - h) * (1 - h));
      }
    }
    const double share = 1 - freedom / static_cast<double>(p), gcv = plain / (share * share);
    if (!(gcv > 0) || !std::isfinite(left_out)) continue;
    const double z = freedom - own * static_cast<double>(p), kappa = d / (static_cast<double>(p) - freedom);
    log_g.push_back(std::log(kappa / (1 - z / width)));
    ratios.push_back(left_out / gcv);
  }
  pilot.calibrate(std::move(log_g), std::move(ratios));
}

// Eigenvalues of a kernel matrix and mean squares of targets in its eigenvectors.
PilotSpectrum pilot_of(const Exec& exec, const SymmetricMatrix<double>& kernel, MatrixView<const double> y,
                       double width, bool centred, double noise) {
  const std::int64_t p = kernel.size(), c = y.cols;
  std::vector<double> values;
  Array<double> vectors, modes(exec, p, c);
  symmetric_eigen(exec, kernel, values, vectors);
  gemm<double>(exec, Trans::no, Trans::no, 1.0, vectors.view(), y, 0.0, modes.view());
  std::vector<double> energies = row_squares<double>(exec, modes.view());
  for (double& energy : energies) energy /= static_cast<double>(c);
  PilotSpectrum pilot(values, std::move(energies), width, centred, noise);
  calibrate_on(exec, values, vectors, modes.view(), width, centred, pilot);
  return pilot;
}

// Rows on the device, less their mean where asked.
Array<double> loaded(const Exec& exec, const RowsView& x, bool centred, const char* name) {
  Array<double> out(exec, x.rows, x.cols);
  load_rows<double>(exec, x, nullptr, nullptr, out.view(), name);
  if (!centred) return out;
  std::vector<double> mean = column_sums<double>(exec, out.view(), {});
  for (double& value : mean) value /= -static_cast<double>(x.rows);
  Array<double> shift(exec, x.cols);
  upload<double>(exec, {mean.data(), 1, x.cols}, shift.view());
  activate<double>(exec, Activation::identity, shift.data(), 1.0, out.view());
  return out;
}

void require_rows(const RowsView& x, const RowsView& y) {
  GRAMIAN_REQUIRE(x.rows >= 8, invalid_argument, "a pilot needs at least 8 rows, got " + std::to_string(x.rows));
  GRAMIAN_REQUIRE(x.rows == y.rows && y.cols >= 1, shape_mismatch,
                  "X has " + std::to_string(x.rows) + " rows, but y has " + std::to_string(y.rows));
}

}  // namespace

ModeSpectrum::ModeSpectrum(std::vector<double> eigenvalues, std::vector<double> energies, double noise)
    : eigenvalues_(std::move(eigenvalues)), energies_(std::move(energies)), noise_(noise) {
  GRAMIAN_REQUIRE(!eigenvalues_.empty(), invalid_argument, "eigenvalues is empty");
  GRAMIAN_REQUIRE(eigenvalues_.size() == energies_.size(), shape_mismatch,
                  "there are " + std::to_string(eigenvalues_.size()) + " eigenvalues, but " +
                      std::to_string(energies_.size()) + " coefficients");
  for (const double value : eigenvalues_)
    GRAMIAN_REQUIRE(std::isfinite(value) && value > 0, invalid_argument, "eigenvalues must be finite and above 0");
  for (const double value : energies_)
    GRAMIAN_REQUIRE(std::isfinite(value) && value >= 0, invalid_argument, "coefficients must be finite");
  GRAMIAN_REQUIRE(std::isfinite(noise_) && noise_ >= 0, invalid_argument, "noise must be finite and not negative");
}

SpectralValues ModeSpectrum::at(double g) const {
  SpectralValues out;
  out.a = noise_;
  for (std::size_t i = 0; i < eigenvalues_.size(); ++i) {
    const double l = eigenvalues_[i], learnt = l / (l + g), energy = energies_[i];
    out.z += learnt;
    out.z_slope -= learnt / (l + g);
    out.a += energy * (g / (l + g));
    out.a_slope += energy * learnt / (l + g);
  }
  return out;
}

double ModeSpectrum::scale() const {
  return *std::max_element(eigenvalues_.begin(), eigenvalues_.end());
}

double ModeSpectrum::energy() const {
  double total = noise_;
  for (const double value : energies_) total += value;
  return total;
}

PilotSpectrum::PilotSpectrum(std::vector<double> values, std::vector<double> energies, double width, bool centred,
                             double noise)
    : parts_{values, energies, width, centred, noise, {}, {}} {
  GRAMIAN_REQUIRE(values.size() == energies.size() && values.size() >= 8, invalid_argument,
                  "a pilot needs at least 8 eigenvalues and as many energies");
  GRAMIAN_REQUIRE(width > 0, invalid_argument, "a pilot needs at least one feature");
  const double top = *std::max_element(values.begin(), values.end());
  GRAMIAN_REQUIRE(std::isfinite(top) && top > 0, invalid_argument, "the pilot's features do not vary");
  for (double& value : values) value = std::max(0.0, value);
  const double rows = static_cast<double>(values.size()) - (centred ? 1 : 0);
  for (const double energy : energies) energy_ += energy / rows;
  GRAMIAN_REQUIRE(std::isfinite(energy_) && energy_ > 0, invalid_argument, "the pilot's targets do not vary");

  const double high = std::log(1e3 * top), low = log_ridge_of(values, top, kTrusted * std::min(rows, width));
  for (int i = 0; i < kTable; ++i) {
    const double d = std::exp(low + (high - low) * i / (kTable - 1));
    double z = 0, z_d = 0, rest = 0, rest_d = 0;  // _d: derivatives by the ridge
    for (std::size_t j = 0; j < values.size(); ++j) {
      const double inverse = 1 / (values[j] + d);
      z += values[j] * inverse;
      z_d -= values[j] * inverse * inverse;
      rest += energies[j] * inverse;
      rest_d -= energies[j] * inverse * inverse;
    }
    const double kappa = d / (rows - z), kappa_d = ((rows - z) + d * z_d) / ((rows - z) * (rows - z));
    const double share = 1 - z / width, g = kappa / share,
                 g_d = kappa_d / share + kappa * (z_d / width) / (share * share);
    const double a = kappa * rest, a_d = kappa_d * rest + kappa * rest_d;
    log_g_.push_back(std::log(g));
    log_z_.push_back(std::log(z));
    log_a_.push_back(std::log(a));
    z_rate_.push_back(z_d / g_d * g / z);
    a_rate_.push_back(a_d / g_d * g / a);
  }

  // Power laws next to the end of the table.
  tail_.g = std::exp(log_g_[0]);
  tail_.z = std::exp(log_z_[0]);
  tail_.a = std::exp(log_a_[0]);
  std::vector<double> ratios, near;
  double s1 = 0, sx = 0, sxx = 0, sy = 0, sxy = 0;
  for (std::size_t i = 0; i < log_g_.size() && log_z_[i] > log_z_[0] - std::log(3.0); ++i) {
    const double x = log_g_[i] - log_g_[0], y = log_z_[i];
    ratios.push_back(x);
    near.push_back(std::exp(log_a_[i]));
    s1 += 1;
    sx += x;
    sxx += x * x;
    sy += y;
    sxy += x * y;
  }
  tail_.decay = s1 > 1 ? std::max(0.0, -(s1 * sxy - sx * sy) / (s1 * sxx - sx * sx)) : 0.0;
  LineFit best;
  std::vector<double> powers(near.size());
  // A rises and is concave in g, so its rate lies in (0, 1].
  for (int step = 1; step <= 100; ++step) {
    const double rate = 0.01 * step;
    for (std::size_t i = 0; i < powers.size(); ++i) powers[i] = std::exp(rate * ratios[i]);
    const LineFit fit = fit_line(powers, near, std::min(noise, 0.999 * tail_.a));
    if (fit.error >= best.error) continue;
    best = fit;
    tail_.rate = rate;
  }
  tail_.noise = std::min(best.noise, tail_.a);
}

PilotSpectrum::PilotSpectrum(const PilotParts& parts)
    : PilotSpectrum(parts.values, parts.energies, parts.width, parts.centred, parts.noise) {
  calibrate(parts.log_g, parts.ratios);
}

void PilotSpectrum::calibrate(std::vector<double> log_g, std::vector<double> ratios) {
  GRAMIAN_REQUIRE(log_g.size() == ratios.size(), shape_mismatch, "as many ratios as values of g are needed");
  for (double& ratio : ratios) ratio = std::max(1.0, ratio);
  parts_.log_g = std::move(log_g);
  parts_.ratios = std::move(ratios);
}

double PilotSpectrum::correction(double g) const {
  const std::vector<double>&at = parts_.log_g, &ratios = parts_.ratios;
  if (ratios.empty()) return 1;
  const double x = std::log(g);
  const auto above = std::upper_bound(at.begin(), at.end(), x);
  if (above == at.begin()) return ratios.front();
  if (above == at.end()) return ratios.back();
  const auto i = static_cast<std::size_t>(above - at.begin());
  const double part = (x - at[i - 1]) / (at[i] - at[i - 1]);
  return ratios[i - 1] + part * (ratios[i] - ratios[i - 1]);
}

SpectralValues PilotSpectrum::at(double g) const {
  SpectralValues out;
  const double x = std::log(g);
  if (x <= log_g_.front()) {
    out.z = tail_.z * std::exp(-tail_.decay * (x - log_g_.front()));
    out.z_slope = -tail_.decay * out.z / g;
    const double part = (tail_.a - tail_.noise) * std::exp(tail_.rate * (x - log_g_.front()));
    out.a = tail_.noise + part;
    out.a_slope = tail_.rate * part / g;
    return out;
  }
  if (x >= log_g_.back()) {  // nothing is learnt any more: z falls like 1 / g
    out.z = std::exp(log_z_.back() - (x - log_g_.back()));
    out.z_slope = -out.z / g;
    out.a = std::exp(log_a_.back());
    return out;
  }
  const auto i = static_cast<std::size_t>(std::upper_bound(log_g_.begin(), log_g_.end(), x) - log_g_.begin()) - 1;
  const auto [log_z, z_rate] = cubic(log_g_[i], log_z_[i], z_rate_[i], log_g_[i + 1], log_z_[i + 1], z_rate_[i + 1], x);
  const auto [log_a, a_rate] = cubic(log_g_[i], log_a_[i], a_rate_[i], log_g_[i + 1], log_a_[i + 1], a_rate_[i + 1], x);
  out.z = std::exp(log_z);
  out.z_slope = z_rate * out.z / g;
  out.a = std::exp(log_a);
  out.a_slope = a_rate * out.a / g;
  return out;
}

double PilotSpectrum::scale() const {
  return std::exp(log_g_[log_g_.size() / 2]);
}

PilotSpectrum PilotSpectrum::of_features(const Exec& exec, const RowsView& features, const RowsView& y, double scale,
                                         bool centred, double noise) {
  require_rows(features, y);
  SymmetricMatrix<double> kernel(exec, features.rows);
  {
    const Array<double> x = loaded(exec, features, centred, "X");
    outer_gram_update(exec, scale, x.view(), kernel);
  }
  const Array<double> targets = loaded(exec, y, centred, "y");
  return pilot_of(exec, kernel, targets.view(), static_cast<double>(features.cols), centred, noise);
}

PilotSpectrum PilotSpectrum::of_kernel(const Exec& exec, const RowsView& kernel, const RowsView& y, bool centred,
                                       double noise) {
  require_rows(kernel, y);
  const std::int64_t p = kernel.rows;
  GRAMIAN_REQUIRE(kernel.cols == p, shape_mismatch,
                  "kernel must be square, got " + std::to_string(p) + " x " + std::to_string(kernel.cols));
  Array<double> square(exec, p, p);
  load_rows<double>(exec, kernel, nullptr, nullptr, square.view(), "kernel");
  std::vector<double> mean(static_cast<std::size_t>(p), 0.0);
  double grand = 0;
  if (centred) {
    mean = column_sums<double>(exec, square.view(), {});
    for (double& value : mean) {
      value /= static_cast<double>(p);
      grand += value / static_cast<double>(p);
    }
  }
  std::vector<double> host(static_cast<std::size_t>(p * p)), packed;
  download<double>(exec, square.view(), {host.data(), p, p});
  packed.reserve(static_cast<std::size_t>(p * (p + 1) / 2));
  for (std::int64_t r = 0; r < p; ++r)
    for (std::int64_t s = 0; s <= r; ++s)
      packed.push_back(host[static_cast<std::size_t>(r * p + s)] - mean[static_cast<std::size_t>(r)] -
                       mean[static_cast<std::size_t>(s)] + grand);
  SymmetricMatrix<double> matrix(exec, p);
  matrix.unpack(exec, packed.data());
  const Array<double> targets = loaded(exec, y, centred, "y");
  return pilot_of(exec, matrix, targets.view(), kInfinity, centred, noise);
}

RiskPoint predict_risk(const SpectralCurve& curve, double n_rows, double k, double delta) {
  const double n = n_rows - curve.centring();
  GRAMIAN_REQUIRE(std::isfinite(n) && n > 0, invalid_argument, "n must be finite and at least 2");
  GRAMIAN_REQUIRE(k > 0, invalid_argument, "k must be above 0");
  GRAMIAN_REQUIRE(std::isfinite(delta) && delta >= 0, invalid_argument, "ridge must be finite and not negative");
  // z + delta / kappa - n falls in g wherever kappa > 0; left of that everything is learnt.
  const double start = std::log(curve.scale());
  const double root = falling_root(start - 300, start + 300, 80, [&](double log_g) {
    const double g = std::exp(log_g), z = curve.at(g).z, kappa = g * (1 - z / k);
    return kappa > 0 ? z + delta / kappa - n : kInfinity;
  });
  RiskPoint out;
  out.ridge = delta;
  out.g = std::exp(root);
  const SpectralValues v = curve.at(out.g);
  out.z = v.z;
  out.kappa = std::max(0.0, out.g * (1 - v.z / k));
  const double q = v.z + out.g * v.z_slope;
  const bool kernel = std::isinf(k);
  const double features = kernel ? 1.0 : k / (k - q);
  const double excess = kernel ? q / n : (q * (k - 2 * v.z) + v.z * v.z) / (n * (k - q));
  const double left = v.a - features * out.kappa * v.a_slope;
  out.test = excess < 1 ? left / (1 - excess) : kInfinity;
  const double shrink = out.kappa > 0 && delta > 0 ? delta / (n * out.kappa) : std::max(0.0, 1 - v.z / n);
  out.train = std::isfinite(out.test) ? shrink * shrink * out.test : left;
  out.test *= curve.correction(out.g);
  // A mean of n rows, which takes one of them, stands in front of the rest.
  if (curve.centring() > 0) out.test *= 1 + 1 / n_rows;
  return out;
}

RiskPoint predict_best_risk(const SpectralCurve& curve, double n, double k) {
  const double middle = std::log(curve.scale()) + std::log(n);
  const double best = minimum_of(middle - 46, middle + 23, 69,
                                 [&](double log_delta) { return predict_risk(curve, n, k, std::exp(log_delta)).test; });
  return predict_risk(curve, n, k, std::exp(best));
}

}  // namespace gramian
