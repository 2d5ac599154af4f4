// Weights, paths and model choice from the sums alone.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gram/centred_gram.h"
#include "gram/gram_sums.h"
#include "gram/sums_rounding.h"
#include "gramian/gram/gram_state.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "linalg/binary_scale.h"

namespace gramian {

namespace {

// Where a spectrum pays: one eigen-decomposition costs as much as dozens of Cholesky factors, and serves all ridges.
constexpr std::int64_t kSmallSystem = 256;
constexpr std::size_t kManyRidges = 50;

void require_ridge(double ridge) {
  GRAMIAN_REQUIRE(std::isfinite(ridge) && ridge >= 0, invalid_argument,
                  "ridge must be finite and not negative, got " + std::to_string(ridge));
}

// Coefficients (c x d) and intercept from W (d x c, device, in scaled units).
Solution finish(const GramState::Sums& sums, const std::vector<double>& scale, MatrixView<const double> w,
                SolveReport report) {
  const std::int64_t d = sums.d, c = sums.c;
  std::vector<double> host(static_cast<std::size_t>(d * c)), coef(host.size());
  download<double>(sums.exec, w, {host.data(), d, c});
  Solution solution;
  solution.intercept.assign(static_cast<std::size_t>(c), 0.0);
  const bool centred = sums.options.intercept && sums.weight_sum > 0;
  for (std::int64_t k = 0; k < c; ++k) {
    const auto at = static_cast<std::size_t>(k);
    double constant = centred ? sums.target_shift[at] + sums.t[at] / sums.weight_sum : 0.0;
    for (std::int64_t j = 0; j < d; ++j) {
      const auto feature = static_cast<std::size_t>(j);
      const double value = host[static_cast<std::size_t>(j * c + k)] * scale[feature];
      coef[static_cast<std::size_t>(k * d + j)] = value;
      if (centred) constant -= value * (sums.shift[feature] + sums.s[feature] / sums.weight_sum);
    }
    solution.intercept[at] = constant;
  }
  const auto finite = [](double value) { return std::isfinite(value); };
  GRAMIAN_REQUIRE(std::all_of(coef.begin(), coef.end(), finite), not_positive_definite,
                  "the weights overflow (rank " + std::to_string(report.rank) + " of " + std::to_string(d) +
                      "): the squares of the features underflow, or the targets are huge; multiply X by a large "
                      "number, or use a larger ridge");
  solution.coef = Array<double>(sums.exec, c, d);
  upload<double>(sums.exec, {coef.data(), c, d}, solution.coef.view());
  // Where modes were dropped the eigenvalues of those that are left bound nothing; none lies below the ridge.
  const double smallest = report.rank < report.size ? 0.0 : report.smallest_eigenvalue;
  report.removal_bound = removal_bound(sums, scale, d, report.ridge, smallest, coef);
  solution.report = std::move(report);
  return solution;
}

// Eigenvectors and eigenvalues of the centred Gram, and the right-hand side in their coordinates.
struct Spectrum {
  std::vector<double> values;  // clipped at 0, ascending
  Array<double> vectors;       // one a row
  Array<double> coordinates;   // V B, d x c
  std::vector<double> host;    // the same on the host
};

Spectrum spectrum_of(const GramState::Sums& sums, const CentredGram& centred) {
  Spectrum out;
  {
    SymmetricMatrix<double> a(sums.exec, sums.d);
    centred.build(sums.exec, a);
    symmetric_eigen(sums.exec, a, out.values, out.vectors);
  }
  for (double& value : out.values) value = std::max(0.0, value);
  const Array<double> b = centred.right_hand_side();
  out.coordinates = Array<double>(sums.exec, sums.d, sums.c);
  gemm<double>(sums.exec, Trans::no, Trans::no, 1.0, out.vectors.view(), b.view(), 0.0, out.coordinates.view());
  out.host.resize(static_cast<std::size_t>(sums.d * sums.c));
  download<double>(sums.exec, out.coordinates.view(), {out.host.data(), sums.d, sums.c});
  return out;
}

bool use_spectrum(const GramState::Sums& sums, const CentredGram& centred, std::size_t n_ridges) {
  // Eigenvalues are exact to rounding of the largest one: small features would be lost beside large ones. Cholesky
  // factors do not mind, and serve each ridge.
  if (centred.diagonal_spread() > linalg::kUnlikeSquares) return false;
  return n_ridges >= kManyRidges || (sums.d <= kSmallSystem && n_ridges > 1);
}

// The eigenvalue, ridge included, below which a mode is rounding; the rule of solve_spd.
double threshold_of(const Spectrum& spectrum, double ridge) {
  return static_cast<double>(spectrum.values.size()) * std::numeric_limits<double>::epsilon() *
         (spectrum.values.back() + ridge);
}

}  // namespace

Solution GramState::solve(const SolveOptions& options) const {
  require_ridge(options.ridge);
  const Sums& sums = *sums_;
  SolveReport report;
  Array<double> w(sums.exec, sums.d, sums.c);
  const CentredGram a(sums, options.ridge, options.standardize);
  if (sums.n_rows == 0) {
    GRAMIAN_REQUIRE(options.ridge > 0, not_positive_definite,
                    "ridge = 0 needs features of full rank: the rank is 0 of " + std::to_string(sums.d));
    axpby<double, double>(sums.exec, 0.0, {}, 0.0, w.view());
    report.method = "zero";
    report.size = sums.d;
  } else {
    const Array<double> b = a.right_hand_side();
    const bool full_rank = options.ridge == 0;
    const RankRule rule = full_rank ? rank_rule(sums, a) : RankRule();
    report = solve_spd(sums.exec, a, b.view(), w.view(), options.precision, full_rank, rule);
  }
  report.form = "primal";
  report.ridge = options.ridge;
  return finish(sums, a.scale(), w.view(), std::move(report));
}

std::vector<Solution> GramState::path(const std::vector<double>& ridges, const SolveOptions& options) const {
  for (const double ridge : ridges) require_ridge(ridge);
  std::vector<Solution> out;
  if (sums_->n_rows == 0 || !use_spectrum(*sums_, CentredGram(*sums_, 0.0, options.standardize), ridges.size())) {
    for (const double ridge : ridges) {
      SolveOptions one = options;
      one.ridge = ridge;
      out.push_back(solve(one));
    }
    return out;
  }
  const Sums& sums = *sums_;
  const CentredGram centred(sums, 0.0, options.standardize);
  const Spectrum spectrum = spectrum_of(sums, centred);
  for (const double ridge : ridges) {
    if (ridge == 0) {  // full rank is judged in one place
      SolveOptions one = options;
      one.ridge = ridge;
      out.push_back(solve(one));
      continue;
    }
    const double threshold = threshold_of(spectrum, ridge);
    SolveReport report;
    report.method = "eigh";
    report.form = "primal";
    report.ridge = ridge;
    report.size = sums.d;
    std::vector<double> scaled(spectrum.host);
    double smallest = std::numeric_limits<double>::infinity();
    for (std::int64_t j = 0; j < sums.d; ++j) {
      const double value = spectrum.values[static_cast<std::size_t>(j)];
      const bool kept = value + ridge > threshold;
      if (kept) smallest = std::min(smallest, value + ridge);
      report.rank += kept ? 1 : 0;
      for (std::int64_t k = 0; k < sums.c; ++k) {
        double& entry = scaled[static_cast<std::size_t>(j * sums.c + k)];
        entry = kept ? entry / (value + ridge) : 0.0;
      }
    }
    report.smallest_eigenvalue = smallest;
    report.condition = (spectrum.values.back() + ridge) / smallest;
    Array<double> coordinates(sums.exec, sums.d, sums.c), w(sums.exec, sums.d, sums.c);
    upload<double>(sums.exec, {scaled.data(), sums.d, sums.c}, coordinates.view());
    gemm<double>(sums.exec, Trans::yes, Trans::no, 1.0, spectrum.vectors.view(), coordinates.view(), 0.0, w.view());
    out.push_back(finish(sums, centred.scale(), w.view(), std::move(report)));
  }
  return out;
}

GcvCurve GramState::gcv(const std::vector<double>& ridges, bool standardize) const {
  const Sums& sums = *sums_;
  GRAMIAN_REQUIRE(!ridges.empty(), invalid_argument, "ridges is empty");
  GRAMIAN_REQUIRE(sums.n_rows > 0, not_fitted, "the state has no rows to choose a ridge from");
  for (const double ridge : ridges) {
    require_ridge(ridge);
    GRAMIAN_REQUIRE(ridge > 0, invalid_argument, "gcv needs ridges above 0");
  }
  GcvCurve curve;
  curve.ridges = ridges;
  const double n = sums.weight_sum;
  double energy = 0;
  for (std::size_t k = 0; k < sums.energy.size(); ++k) energy += sums.centred_energy(k);

  double residual_error = residual_noise(sums) * energy;
  // What rounding may make of a score, and the score if it took the most of n - trace H; the choice goes by these.
  std::vector<double> noise, cautious;
  const auto score_of = [n](double residual, double left) {
    return left > 0 ? std::max(0.0, residual) * n / (left * left) : std::numeric_limits<double>::infinity();
  };
  const auto add = [&](double residual, double freedom, double freedom_error) {
    curve.degrees_of_freedom.push_back(freedom);
    curve.scores.push_back(score_of(residual, n - freedom));
    cautious.push_back(score_of(residual, n - freedom - freedom_error));
    noise.push_back(std::isfinite(cautious.back()) ? score_of(residual_error, n - freedom - freedom_error) : 0.0);
  };
  const double intercept = sums.options.intercept ? 1.0 : 0.0;
  const CentredGram centred(sums, 0.0, standardize);
  if (use_spectrum(sums, centred, ridges.size())) {
    curve.method = "eigh";
    const Spectrum spectrum = spectrum_of(sums, centred);
    const double threshold = threshold_of(spectrum, 0.0);
    // Energy per mode; what no mode explains is left at any ridge. Summing modes loses no digits where the residual is
    // a small part of the energy.
    std::vector<double> mode(spectrum.values.size(), 0.0);
    double unexplained = energy;
    std::int64_t modes = 0;
    for (std::size_t j = 0; j < mode.size(); ++j) {
      for (std::int64_t k = 0; k < sums.c; ++k) {
        const double entry = spectrum.host[j * static_cast<std::size_t>(sums.c) + static_cast<std::size_t>(k)];
        mode[j] += entry * entry;
      }
      if (spectrum.values[j] > threshold) unexplained -= mode[j] / spectrum.values[j];
      modes += spectrum.values[j] > threshold ? 1 : 0;
    }
    unexplained = std::max(0.0, unexplained);
    // As many modes as rows explain all there is, and the sum over them knows every residual to its last digits.
    if (modes + (sums.options.intercept ? 1 : 0) >= sums.n_rows) unexplained = residual_error = 0;
    for (const double ridge : ridges) {
      double residual = unexplained, freedom = intercept;
      for (std::size_t j = 0; j < mode.size(); ++j) {
        const double value = spectrum.values[j], shrink = ridge / (value + ridge);
        if (value > threshold) residual += mode[j] / value * shrink * shrink;
        freedom += value / (value + ridge);
      }
      add(residual, freedom, 0.0);
    }
  } else {
    curve.method = "cholesky";
    for (const double ridge : ridges) {
      const CentredGram a(sums, ridge, standardize);
      const Array<double> b = a.right_hand_side();
      SymmetricMatrix<double> l(sums.exec, sums.d);
      a.build(sums.exec, l);
      std::vector<double> diagonal(static_cast<std::size_t>(sums.d));
      l.diagonal(sums.exec, diagonal.data());
      if (cholesky(sums.exec, l) != 0) {
        // Too small a ridge for these features: numerically singular, and no candidate.
        curve.degrees_of_freedom.push_back(std::numeric_limits<double>::quiet_NaN());
        curve.scores.push_back(std::numeric_limits<double>::infinity());
        cautious.push_back(std::numeric_limits<double>::infinity());
        noise.push_back(0.0);
        continue;
      }
      Array<double> w(sums.exec, sums.d, sums.c);
      axpby<double, double>(sums.exec, 1.0, b.view(), 0.0, w.view());
      cholesky_solve_half<double>(sums.exec, Trans::no, l, w.view());
      // |L^-1 B|^2 = B'A^-1 B; with W = A^-1 B the residual is energy - B'W - ridge |W|^2.
      std::vector<double> host(static_cast<std::size_t>(w.size()));
      const auto sum_of_squares = [&] {
        download<double>(sums.exec, w.view(), {host.data(), sums.d, sums.c});
        double total = 0;
        for (const double value : host) total += value * value;
        return total;
      };
      const double explained = sum_of_squares();
      cholesky_solve_half<double>(sums.exec, Trans::yes, l, w.view());
      const double size = sum_of_squares();
      const double trace = static_cast<double>(sums.d) - ridge * inverse_trace(sums.exec, l);
      // Modes without rows have the ridge for an eigenvalue, give or take the rounding of G, and d - trace H counts
      // them with that error: at ridges near it, nothing is known of n - trace H where rows are few.
      double total = 0;
      for (const double value : diagonal) total += value - ridge;
      const double rounding = sums.rounding_unit() * total / std::sqrt(static_cast<double>(sums.d));
      const double freedom_error = (static_cast<double>(sums.d) - trace) * rounding / ridge;
      add(energy - explained - ridge * size, intercept + trace, freedom_error);
    }
  }
  const auto finite = [](double score) { return std::isfinite(score); };
  GRAMIAN_REQUIRE(
      std::any_of(curve.scores.begin(), curve.scores.end(), finite), invalid_argument,
      "no ridge of the grid leaves degrees of freedom to judge it by: n_samples = " + std::to_string(sums.n_rows) +
          ", with weights, which count as repeated rows, of " + std::to_string(n));
  curve.best = best_of(curve.ridges, cautious, noise);
  if (!std::isfinite(cautious[curve.best])) curve.best = best_of(curve.ridges, curve.scores, noise);
  curve.at_edge = ridges.size() > 1 && (curve.best == 0 || curve.best + 1 == ridges.size());
  return curve;
}

std::vector<double> GramState::penalised_residual_sums(const Solution& solution) const {
  const Sums& sums = *sums_;
  const std::vector<double> b = sums.centred_cross();
  std::vector<double> coef(static_cast<std::size_t>(sums.c * sums.d)), out(static_cast<std::size_t>(sums.c));
  download<double>(sums.exec, solution.coef.view(), {coef.data(), sums.c, sums.d});
  for (std::int64_t k = 0; k < sums.c; ++k) {
    double explained = 0;
    for (std::int64_t j = 0; j < sums.d; ++j)
      explained += coef[static_cast<std::size_t>(k * sums.d + j)] * b[static_cast<std::size_t>(j * sums.c + k)];
    out[static_cast<std::size_t>(k)] = std::max(0.0, sums.centred_energy(static_cast<std::size_t>(k)) - explained);
  }
  return out;
}

std::vector<double> GramState::residual_sums(const Solution& solution) const {
  // |y - X w|^2 = energy - 2 w'b + w'A w, A without the ridge.
  const Sums& sums = *sums_;
  const std::int64_t d = sums.d, c = sums.c;
  std::vector<double> coef(static_cast<std::size_t>(c * d)), transposed(coef.size()), image(coef.size());
  download<double>(sums.exec, solution.coef.view(), {coef.data(), c, d});
  for (std::int64_t k = 0; k < c; ++k)
    for (std::int64_t j = 0; j < d; ++j)
      transposed[static_cast<std::size_t>(j * c + k)] = coef[static_cast<std::size_t>(k * d + j)];
  Array<double> w(sums.exec, d, c), aw(sums.exec, d, c);
  upload<double>(sums.exec, {transposed.data(), d, c}, w.view());
  CentredGram(sums, 0.0, false).apply(sums.exec, w.view(), aw.view());
  download<double>(sums.exec, aw.view(), {image.data(), d, c});
  const std::vector<double> b = sums.centred_cross();
  std::vector<double> out(static_cast<std::size_t>(c));
  for (std::int64_t k = 0; k < c; ++k) {
    double total = sums.centred_energy(static_cast<std::size_t>(k));
    for (std::int64_t j = 0; j < d; ++j) {
      const auto at = static_cast<std::size_t>(j * c + k);
      total += transposed[at] * (image[at] - 2 * b[at]);
    }
    out[static_cast<std::size_t>(k)] = std::max(0.0, total);
  }
  return out;
}

}  // namespace gramian
