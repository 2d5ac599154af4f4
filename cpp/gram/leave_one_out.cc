#include "gramian/gram/leave_one_out.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "gram/centred_gram.h"
#include "gram/leverage_plan.h"
#include "gram/row_blocks.h"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Factors that share one sweep over the rows take no more than this beside the first.
constexpr std::size_t kFactorBytes = std::size_t{512} << 20;

// Runs body(begin, count, centred rows) over the rows, block by block.
template <class P, class Body>
void over_blocks(const RidgeFactor& factor, const RowsView& x, const FeatureMap* map, const Body& body) {
  const std::int64_t d = factor.n_features();
  const std::int64_t edge = std::min(second_pass_rows(d, sizeof(P)), std::max<std::int64_t>(1, x.rows));
  Array<P> block(factor.exec(), edge, d);
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    factor.exec().poll();
    const std::int64_t count = std::min(edge, x.rows - begin);
    const MatrixView<P> centred = block.view().block(0, 0, count, d);
    factor.centre(x.slice(begin, count), map, centred, "X");
    body(begin, count, centred);
  }
}

// out[r] = |row r|^2, host.
template <class P>
void squared_norms(const Exec& exec, MatrixView<const P> rows, Array<double>& device, double* out) {
  row_sumsq<P>(exec, rows, device.data());
  download<double>(exec, {device.data(), 1, rows.rows}, {out, 1, rows.rows});
}

std::int64_t checked_width(const RidgeFactor& factor, std::int64_t width) {
  GRAMIAN_REQUIRE(width >= 0 && width <= factor.n_features(), invalid_argument,
                  "width must lie in 1 .. " + std::to_string(factor.n_features()) + ", got " + std::to_string(width));
  return width == 0 ? factor.n_features() : width;
}

double weight_share(const RidgeFactor& factor) {
  return factor.intercept() ? 1.0 / factor.weight_sum() : 0.0;
}

template <class P>
void leverages_in(const RidgeFactor& factor, const RowsView& x, const double* weight, const FeatureMap* map,
                  double* out, std::int64_t width) {
  const double share = weight_share(factor);
  Array<double> squares(factor.exec(), second_pass_rows(factor.n_features(), sizeof(P)));
  over_blocks<P>(factor, x, map, [&](std::int64_t begin, std::int64_t count, MatrixView<P> centred) {
    factor.whiten_centred(centred);
    // The first values of v are those of the first features alone.
    squared_norms<P>(factor.exec(), centred.block(0, 0, count, width), squares, out + begin);
    for (std::int64_t r = begin; r < begin + count; ++r) out[r] = weight_of(weight, r) * (out[r] + share);
  });
}

template <class P>
void loo_errors_in(const RidgeFactor& factor, const LabelledRows& rows, MatrixView<double> out, std::int64_t width) {
  const Exec& exec = factor.exec();
  const std::int64_t d = factor.n_features(), c = factor.n_outputs();
  const double share = weight_share(factor);
  const DType products = dtype_of<P>::value;
  const std::int64_t edge = second_pass_rows(d, sizeof(P));
  Array<P> z(exec, d, c), fitted(exec, edge, c);
  Array<double> wide(exec, edge, c), squares(exec, edge);
  axpby<double, P>(exec, 1.0, factor.z(), 0.0, z.view());
  std::vector<double> norms(static_cast<std::size_t>(edge));
  over_blocks<P>(factor, rows.x, rows.map, [&](std::int64_t begin, std::int64_t count, MatrixView<P> centred) {
    factor.whiten_centred(centred);
    const MatrixView<P> v = centred.block(0, 0, count, width);
    squared_norms<P>(exec, v, squares, norms.data());
    const MatrixView<P> scores = fitted.view().block(0, 0, count, c);
    gemm<P>(exec, Trans::no, Trans::no, 1.0, v, z.view().block(0, 0, width, c), 0.0, scores);
    axpby<P, double>(exec, 1.0, scores, 0.0, wide.view().block(0, 0, count, c));
    download<double>(exec, wide.view().block(0, 0, count, c), out.block(begin, 0, count, c));
    const std::vector<double> targets = centred_targets(factor, rows, begin, count);
    for (std::int64_t r = 0; r < count; ++r) {
      const double rest = 1 - weight_of(rows.weight, begin + r) * (norms[static_cast<std::size_t>(r)] + share);
      GRAMIAN_REQUIRE(rest > least_rest(products), invalid_argument,
                      "row " + std::to_string(rows.x.first_row + begin + r) +
                          " has a leverage of 1: without it there is no model at ridge " +
                          std::to_string(factor.ridge()) + "; use a larger ridge");
      for (std::int64_t k = 0; k < c; ++k)
        out(begin + r, k) = (targets[static_cast<std::size_t>(r * c + k)] - out(begin + r, k)) / rest;
    }
  });
}

// ---- a grid of ridges --------------------------------------------------------------------------------------------

// The eigenvalues of the centred Gram matrix lie in [low, high]: proven, since Cholesky factors of G - low I and of
// high I - G exist. low = 0 where nothing better was found.
struct SpectralBounds {
  double low = 0, high = 0;
};

bool is_definite(const Exec& exec, const SymmetricMatrix<double>& g, double sign, double shift) {
  SymmetricMatrix<double> a(exec, g.size());
  a.axpby(exec, sign, g, 0.0);
  a.add_diagonal(exec, shift);
  return cholesky(exec, a) == 0;
}

// The size that a few steps of x <- f(x) / |f(x)| grow by, from a fixed vector of signs.
template <class Step>
double power_estimate(const Exec& exec, std::int64_t d, const Step& step) {
  const RngStream signs(0, RngFamily::rademacher);
  std::vector<double> host(static_cast<std::size_t>(d));
  for (std::size_t k = 0; k < host.size(); ++k) host[k] = signs.row_sign(static_cast<std::uint64_t>(k));
  double growth = 0;
  for (int sweep = 0; sweep < 30; ++sweep) {
    // Squares of values in the unit of the largest one stay in range.
    double largest = 0, size = 0;
    for (const double value : host) largest = std::max(largest, std::abs(value));
    if (!(largest > 0) || !std::isfinite(largest)) return 0;
    const int unit = std::ilogb(largest);
    for (const double value : host) size += std::ldexp(value, -unit) * std::ldexp(value, -unit);
    size = std::ldexp(std::sqrt(size), unit);
    if (!std::isfinite(size)) return 0;
    if (sweep > 0) growth = size;
    for (double& value : host) value /= size;
    Array<double> x(exec, d, 1);
    upload<double>(exec, {host.data(), d, 1}, x.view());
    step(x);
    download<double>(exec, x.view(), {host.data(), d, 1});
  }
  return growth;
}

SpectralBounds spectral_bounds(const GramState& state, const RidgeFactor& smallest, bool standardize) {
  const Exec& exec = state.exec();
  const std::int64_t d = state.n_features();
  const CentredGram centred(state.sums(), 0.0, standardize);
  SymmetricMatrix<double> g(exec, d);
  centred.build(exec, g);
  const double top = power_estimate(exec, d, [&](Array<double>& x) {
    Array<double> y(exec, d, 1);
    symmetric_multiply(exec, 1.0, g, x.view(), 0.0, y.view());
    x = std::move(y);
  });
  const double inverse = power_estimate(exec, d, [&](Array<double>& x) {
    cholesky_solve_half<double>(exec, Trans::no, smallest.factor(), x.view());
    cholesky_solve_half<double>(exec, Trans::yes, smallest.factor(), x.view());
  });
  SpectralBounds out;
  for (const double factor : {1.05, 1.2, 1.5, 2.5}) {
    out.high = factor * top;
    if (out.high > 0 && is_definite(exec, g, -1.0, out.high)) break;
    out.high = 0;
  }
  const double bottom = inverse > 0 ? 1 / inverse - smallest.ridge() : 0.0;
  for (const double factor : {0.95, 0.85, 0.7, 0.5, 0.2}) {
    out.low = std::max(0.0, factor * bottom);
    if (out.low == 0 || is_definite(exec, g, 1.0, -out.low)) break;
    out.low = 0;
  }
  // Factors in rounded arithmetic are those of a matrix that is off by this much.
  const double lost = 2 * static_cast<double>(d) * std::numeric_limits<double>::epsilon() * out.high;
  out.low = std::max(0.0, out.low - lost);
  out.high += lost;
  return out;
}

// Everything about one grid, over rows of products of type P.
template <class P>
class Grid {
 public:
  Grid(const GramState& state, const std::vector<double>& ridges, bool standardize, const LabelledRows& rows)
      : state_(state), exec_(state.exec()), ridges_(ridges), standardize_(standardize), rows_(rows) {
    share_ = state.options().intercept ? 1.0 / state.weight_sum() : 0.0;
    solve_all();
    GRAMIAN_REQUIRE(!usable_.empty(), invalid_argument,
                    "no ridge of the grid is large enough for these features: the systems are numerically singular");
    check_rows(*factor_at(ridges_[usable_[0]]), rows_);
    energies_.resize(ridges.size());
    energy_errors_.assign(ridges.size(), kInfinity);
  }

  LooCurve run() {
    std::vector<double> nodes;
    std::vector<std::size_t> solved;
    plan(&nodes, &solved);
    LooCurve curve;
    for (;;) {
      sweep(nodes, solved);
      curve = combine();
      // What the plan leaves open, the residuals and leverages themselves decide.
      solved = undecided(curve);
      if (solved.empty()) break;
      nodes.clear();
      for (const std::size_t k : solved)
        if (std::find(nodes.begin(), nodes.end(), ridges_[k]) == nodes.end() &&
            std::find(nodes_.begin(), nodes_.end(), ridges_[k]) == nodes_.end())
          nodes.push_back(ridges_[k]);
    }
    const auto finite = [](double score) { return std::isfinite(score); };
    GRAMIAN_REQUIRE(std::any_of(curve.scores.begin(), curve.scores.end(), finite), invalid_argument,
                    "no ridge of the grid leaves a model without each of the rows; use larger ridges");
    curve.at_edge = ridges_.size() > 1 && (curve.best == 0 || curve.best + 1 == ridges_.size());
    return curve;
  }

 private:
  // The weights of all ridges, and of the factors those that memory allows.
  void solve_all() {
    const std::int64_t d = state_.n_features(), c = state_.n_outputs();
    weights_.resize(ridges_.size());
    fitted_energy_.assign(ridges_.size(), 0.0);
    std::vector<double> z(static_cast<std::size_t>(d * c)), w(z.size());
    for (std::size_t k = 0; k < ridges_.size(); ++k) {
      exec_.poll();
      const RidgeFactor* factor = factor_at(ridges_[k]);
      if (factor == nullptr) continue;
      usable_.push_back(k);
      weights_[k] = Array<double>(exec_, d, c);
      axpby<double, double>(exec_, 1.0, factor->z(), 0.0, weights_[k].view());
      cholesky_solve_half<double>(exec_, Trans::yes, factor->factor(), weights_[k].view());
      // (G + r) W = B and |Z|^2 = B'W, so the energy of the predictions W'G W is |Z|^2 - r |W|^2.
      download<double>(exec_, factor->z(), {z.data(), d, c});
      download<double>(exec_, weights_[k].view(), {w.data(), d, c});
      for (std::size_t i = 0; i < z.size(); ++i) fitted_energy_[k] += z[i] * z[i] - ridges_[k] * w[i] * w[i];
      drop_factors(1);
    }
  }

  // The factor of a ridge, made where it is not kept; null where the system is singular.
  const RidgeFactor* factor_at(double ridge) {
    for (const auto& kept : factors_)
      if (kept->ridge() == ridge) return kept.get();
    try {
      factors_.push_back(std::make_unique<RidgeFactor>(state_, ridge, standardize_));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::not_positive_definite) throw;
      return nullptr;
    }
    return factors_.back().get();
  }

  // Leaves room for `more` factors.
  void drop_factors(std::size_t more) {
    while (!factors_.empty() && (factors_.size() + more) * factor_bytes() > kFactorBytes) factors_.pop_back();
  }

  std::size_t factor_bytes() const {
    const auto d = static_cast<std::size_t>(state_.n_features());
    return d * d / 2 * (sizeof(double) + (sizeof(P) == sizeof(float) ? sizeof(float) : 0)) + 1;
  }

  // How far a score may be from the formula's. In float a sum of d terms rounds by about sqrt(d) eps, and twice that
  // is allowed.
  double tolerance() const {
    if (sizeof(P) == sizeof(double)) return 1e-9;
    return 2 * std::sqrt(static_cast<double>(state_.n_features())) * 6e-8;
  }

  // The ridges at which leverages are computed first, and those whose predictions are.
  void plan(std::vector<double>* nodes, std::vector<std::size_t>* solved) {
    std::vector<std::size_t> all;
    for (const std::size_t k : usable_) {
      const auto same = [&](std::size_t other) { return ridges_[other] == ridges_[k]; };
      if (std::find_if(all.begin(), all.end(), same) == all.end()) all.push_back(k);
    }
    std::sort(all.begin(), all.end(), [&](std::size_t a, std::size_t b) { return ridges_[a] < ridges_[b]; });
    for (const std::size_t k : all) nodes->push_back(ridges_[k]);
    *solved = all;
    const auto n = static_cast<double>(rows_.x.rows), d = static_cast<double>(state_.n_features());
    // The proofs cost a few factors, so they must be small beside a pass over the rows; and they are about the rows of
    // the state.
    double weights = 0;
    for (std::int64_t r = 0; r < rows_.x.rows; ++r) weights += weight_of(rows_.weight, r);
    const bool same_rows = std::abs(weights - state_.weight_sum()) <= 1e-9 * weights;
    if (all.size() < 3 || n < 4 * d || !same_rows) return;
    bounds_ = spectral_bounds(state_, *factor_at(ridges_[all[0]]), standardize_);
    if (!(bounds_.low > 0) || !(bounds_.high >= bounds_.low)) {
      bounds_ = {};
      return;
    }
    // A relative error of leverages, d / n on average, moves a score by about 2 d / n of it, times how unequal the rows
    // are (see add_up), here guessed. Half the tolerance is for the residuals, which are off by twice what the
    // predictions are.
    constexpr double kInequality = 0.3;
    const double allowed = tolerance() / 2 * n / (2 * d) / kInequality;
    const double middle = 0.5 * (ridges_[all.front()] + ridges_[all.back()]);
    const LeveragePlan one({middle}, bounds_.low, bounds_.high);
    const auto good = [&](std::size_t k) { return one.leverages(ridges_[k]).error <= allowed; };
    *nodes = {middle};
    if (!std::all_of(all.begin(), all.end(), good))
      *nodes = ridges_of(
          choose(all, allowed, [&](const LeveragePlan& plan, std::size_t k) { return plan.leverages(ridges_[k]); }));
    *solved = choose(all, tolerance() / 8, [&](const LeveragePlan& plan, std::size_t k) {
      LeverageMixture out = plan.weights(ridges_[k]);
      if (std::isfinite(out.error)) out.error *= relative_energy(k);
      return out;
    });
  }

  // Of all ridges, in ascending order, so many that the error of each is allowed: always the worst one more. Of those
  // that large parts forbid it is the worst in exact arithmetic, for nodes side by side make the largest parts.
  template <class Mix>
  std::vector<std::size_t> choose(const std::vector<std::size_t>& all, double allowed, const Mix& mix) const {
    std::vector<std::size_t> chosen = {all.back()};
    while (chosen.size() < all.size()) {
      const LeveragePlan plan(ridges_of(chosen), bounds_.low, bounds_.high);
      std::size_t next = all[0];
      LeverageMixture worst = mix(plan, next);
      for (const std::size_t k : all)
        if (LeverageMixture other = mix(plan, k); worst < other) {
          next = k;
          worst = std::move(other);
        }
      if (worst.error <= allowed) break;
      chosen.push_back(next);
    }
    return chosen;
  }

  std::vector<double> ridges_of(const std::vector<std::size_t>& places) const {
    std::vector<double> out;
    for (const std::size_t k : places) out.push_back(ridges_[k]);
    return out;
  }

  // |predictions| / |residuals| of a ridge.
  double relative_energy(std::size_t k) const {
    double energy = 0;
    for (std::int64_t j = 0; j < state_.n_outputs(); ++j)
      energy += state_.sums().centred_energy(static_cast<std::size_t>(j));
    // The residual is at least the part of the targets that the penalised loss leaves, less the penalty: a rough
    // figure is enough here, the bound is found by the residuals themselves.
    const double residual = std::max(energy - fitted_energy_[k], 1e-6 * energy);
    return residual > 0 ? std::sqrt(std::max(0.0, fitted_energy_[k]) / residual) : 1.0;
  }

  // |v|^2 of all rows at the nodes, as many ridges a sweep as memory has factors; in the first sweep also the
  // residuals of what is solved for and of all that follows from it.
  void sweep(const std::vector<double>& nodes, const std::vector<std::size_t>& solved) {
    const std::size_t together = std::max<std::size_t>(1, kFactorBytes / factor_bytes());
    for (std::size_t begin = 0; begin == 0 || begin < nodes.size(); begin += together) {
      const std::size_t end = std::min(nodes.size(), begin + together);
      const std::vector<double> now(nodes.begin() + static_cast<std::ptrdiff_t>(begin),
                                    nodes.begin() + static_cast<std::ptrdiff_t>(end));
      drop_factors(now.size());
      one_sweep(now, begin == 0 ? solved : std::vector<std::size_t>());
    }
  }

  // Which predictions make those of ridge k.
  struct Mixed {
    std::size_t ridge;
    std::vector<double> alpha;
  };

  void one_sweep(const std::vector<double>& nodes, const std::vector<std::size_t>& solved) {
    const std::int64_t n = rows_.x.rows, d = state_.n_features(), c = state_.n_outputs();
    const std::int64_t edge = std::min(second_pass_rows(d, sizeof(P)), std::max<std::int64_t>(1, n));
    const std::int64_t columns = static_cast<std::int64_t>(solved.size()) * c;
    Array<P> v(exec_, nodes.size() > 1 ? edge : 1, d), fitted(exec_, edge, columns), weights(exec_, d, columns);
    Array<double> squares(exec_, edge);
    std::vector<P> host(static_cast<std::size_t>(edge * columns));
    std::vector<Mixed> mixed;
    for (std::size_t j = 0; j < solved.size(); ++j)
      axpby<double, P>(exec_, 1.0, weights_[solved[j]].view(), 0.0,
                       weights.view().block(0, static_cast<std::int64_t>(j) * c, d, c));
    const LeveragePlan plan(ridges_of(solved), bounds_.low, bounds_.high);
    for (const std::size_t k : usable_) {
      if (solved.empty() || energy_errors_[k] == 0) continue;
      LeverageMixture mixture = plan.weights(ridges_[k]);
      if (!(mixture.error < energy_errors_[k])) continue;
      energy_errors_[k] = mixture.error;
      energies_[k].resize(static_cast<std::size_t>(n));
      mixed.push_back({k, std::move(mixture.alpha)});
    }
    const bool with_norms = norms_.empty();
    norms_.resize(static_cast<std::size_t>(n));
    std::vector<const RidgeFactor*> factors;
    for (const double node : nodes) {
      const RidgeFactor* factor = factor_at(node);
      GRAMIAN_REQUIRE(factor != nullptr, internal, "a ridge between two good ones has no factor");
      factors.push_back(factor);
      nodes_.push_back(node);
      leverages_.emplace_back(static_cast<std::size_t>(n));
    }
    const std::size_t first = nodes_.size() - nodes.size();
    const RidgeFactor& any = nodes.empty() ? *factor_at(ridges_[usable_[0]]) : *factors[0];  // all centre alike
    over_blocks<P>(any, rows_.x, rows_.map, [&](std::int64_t begin, std::int64_t count, MatrixView<P> centred) {
      if (with_norms) squared_norms<P>(exec_, centred, squares, norms_.data() + begin);
      if (columns > 0) {
        const MatrixView<P> scores = fitted.view().block(0, 0, count, columns);
        gemm<P>(exec_, Trans::no, Trans::no, 1.0, centred, weights.view(), 0.0, scores);
        download<P>(exec_, scores, {host.data(), count, columns});
        add_energies(any, begin, {host.data(), count, columns}, mixed);
      }
      for (std::size_t k = 0; k < nodes.size(); ++k) {
        // The last may use up the block.
        MatrixView<P> rows = centred;
        if (k + 1 < nodes.size()) {
          rows = v.view().block(0, 0, count, d);
          axpby<P, P>(exec_, 1.0, centred, 0.0, rows);
        }
        factors[k]->whiten_centred(rows);
        squared_norms<P>(exec_, rows, squares, leverages_[first + k].data() + begin);
      }
    });
  }

  // Squared residuals of a block, over all outputs, for each ridge that follows from these predictions.
  void add_energies(const RidgeFactor& any, std::int64_t begin, MatrixView<const P> scores,
                    const std::vector<Mixed>& mixed) {
    const std::int64_t c = state_.n_outputs(), count = scores.rows;
    const std::vector<double> targets = centred_targets(any, rows_, begin, count);
    const Exec host(Device::cpu, exec_.threads());
    host.parallel_for((count + kTaskRows - 1) / kTaskRows, [&](std::int64_t task) {
      std::vector<double> error(static_cast<std::size_t>(c));
      const std::int64_t last = std::min(count, (task + 1) * kTaskRows);
      for (std::int64_t r = task * kTaskRows; r < last; ++r) {
        for (const Mixed& mixture : mixed) {
          std::copy_n(targets.data() + r * c, c, error.begin());
          for (std::size_t j = 0; j < mixture.alpha.size(); ++j)
            if (mixture.alpha[j] != 0)
              subtract(mixture.alpha[j], scores.row(r) + static_cast<std::int64_t>(j) * c, error);
          energies_[mixture.ridge][static_cast<std::size_t>(begin + r)] = energy(error);
        }
      }
    });
  }
  static void subtract(double alpha, const P* p, std::vector<double>& error) {
    for (std::size_t j = 0; j < error.size(); ++j) error[j] -= alpha * static_cast<double>(p[j]);
  }
  static double energy(const std::vector<double>& error) {
    // Four sums, so that additions need not wait for each other.
    double sums[4] = {0, 0, 0, 0};
    std::size_t j = 0;
    for (; j + 4 <= error.size(); j += 4)
      for (std::size_t lane = 0; lane < 4; ++lane) sums[lane] += error[j + lane] * error[j + lane];
    for (; j < error.size(); ++j) sums[0] += error[j] * error[j];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

  // Scores from what the sweeps have found, and how far off they can be.
  LooCurve combine() {
    LooCurve curve;
    traces_.resize(ridges_.size(), -1.0);
    const LeveragePlan plan(nodes_, bounds_.low, bounds_.high);
    for (const std::size_t k : usable_) {
      if (traces_[k] >= 0 || plan.leverages(ridges_[k]).error == 0) continue;
      const auto d = static_cast<double>(state_.n_features());
      drop_factors(1);
      traces_[k] = d - ridges_[k] * inverse_trace(exec_, factor_at(ridges_[k])->factor());
    }
    curve.ridges = ridges_;
    curve.passes = static_cast<std::int64_t>(nodes_.size());
    curve.scores.assign(ridges_.size(), kInfinity);
    curve.bounds.assign(ridges_.size(), 0.0);
    for (const std::size_t k : usable_) add_up(k, plan.leverages(ridges_[k]), &curve.scores[k], &curve.bounds[k]);
    curve.best =
        static_cast<std::size_t>(std::min_element(curve.scores.begin(), curve.scores.end()) - curve.scores.begin());
    return curve;
  }

  void add_up(std::size_t k, const LeverageMixture& mixed, double* score, double* bound) const {
    const double least = least_rest(sizeof(P) == sizeof(float) ? DType::f32 : DType::f64);
    const double slack = mixed.error / (1 - std::min(0.5, mixed.error));
    double total = 0, weights = 0, smallest = 1;
    double leverage = 0, pull = 0;  // sum_w v, and of it times the score's derivative
    const auto derivative = [](double energy, double rest) { return 2 * energy / (rest * rest * rest); };
    std::vector<double> parts(mixed.error > 0 ? energies_[k].size() : 0);
    for (std::int64_t r = 0; r < rows_.x.rows; ++r) {
      const auto at = static_cast<std::size_t>(r);
      const double w = weight_of(rows_.weight, r);
      if (w == 0) continue;
      double v = mixed.beta * norms_[at];
      for (std::size_t j = 0; j < nodes_.size(); ++j) v += mixed.alpha[j] * leverages_[j][at];
      const double rest = 1 - w * (v + share_), less = rest - w * v * slack;
      if (!(rest > least) || !(less > 0)) {
        // An exact leverage says that there is no model without this row; any other says nothing.
        *score = kInfinity;
        *bound = mixed.error > 0 ? kInfinity : 0.0;
        return;
      }
      const double energy = w * energies_[k][at];
      total += energy / (rest * rest);
      smallest = std::min(smallest, less);
      weights += w;
      if (parts.empty()) continue;
      parts[at] = v;
      leverage += w * v;
      pull += w * v * derivative(energy, rest);
    }
    if (!parts.empty() && total > 0 && leverage > 0) {
      // The sum of all leverages is known without error, so what is common to the derivatives of all rows can be put
      // right; the error of a row counts only by how much its derivative differs.
      const double common = pull / leverage;
      double off = 0;
      for (std::int64_t r = 0; r < rows_.x.rows; ++r) {
        const auto at = static_cast<std::size_t>(r);
        const double w = weight_of(rows_.weight, r), part = w * parts[at];
        if (w == 0) continue;
        const double rest = 1 - part - w * share_, energy = w * energies_[k][at], step = part * slack;
        const double remainder = 3 * energy * step * step / std::pow(rest - step, 4);
        off += std::abs(derivative(energy, rest) - common) * step + remainder;
      }
      *bound = off / total;
      total += common * (traces_[k] - leverage);
    }
    *score = weights > 0 ? total / weights : kInfinity;
    if (energy_errors_[k] > 0) {
      // Predictions that are off by D, |D| <= error |predictions| over all rows, move the root of the score's sum by
      // at most |D| / (1 - h).
      const double moved = energy_errors_[k] * std::sqrt(std::max(0.0, fitted_energy_[k])) / smallest;
      *bound += total > 0 ? 2 * moved / std::sqrt(total) + moved * moved / total : kInfinity;
    }
  }

  // Ridges whose scores are not known well enough.
  std::vector<std::size_t> undecided(const LooCurve& curve) const {
    std::vector<std::size_t> out;
    const double ceiling = curve.scores[curve.best] * (1 + curve.bounds[curve.best]);
    for (std::size_t k = 0; k < ridges_.size(); ++k) {
      if (curve.bounds[k] == 0) continue;
      const bool rival = k != curve.best && curve.scores[k] * (1 - curve.bounds[k]) <= ceiling;
      if (rival) out.push_back(k);
      if (rival && curve.bounds[curve.best] > 0) out.push_back(curve.best);
    }
    // One more node may be enough for all of the others.
    const auto largest = std::max_element(curve.bounds.begin(), curve.bounds.end());
    if (!(*largest <= tolerance())) out.push_back(static_cast<std::size_t>(largest - curve.bounds.begin()));
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
  }

  const GramState& state_;
  Exec exec_;
  const std::vector<double>& ridges_;
  bool standardize_;
  const LabelledRows& rows_;
  double share_ = 0;
  SpectralBounds bounds_;                              // low = 0: none
  std::vector<std::size_t> usable_;                    // ridges that have a factor
  std::vector<std::unique_ptr<RidgeFactor>> factors_;  // some of them
  std::vector<Array<double>> weights_;                 // per ridge: d x C, of centred and scaled rows
  std::vector<double> fitted_energy_;                  // per ridge: sum_w |prediction - mean|^2
  std::vector<std::vector<double>> energies_;          // per ridge and row: |e|^2
  std::vector<double> energy_errors_;                  // per ridge: relative, of the predictions behind them
  std::vector<double> traces_;                         // per ridge where needed: the sum of all leverages
  std::vector<double> nodes_;                          // ridges whose leverages are known
  std::vector<std::vector<double>> leverages_;         // per node and row: |v|^2
  std::vector<double> norms_;                          // per row: |x|^2
};

}  // namespace

void leverages(const RidgeFactor& factor, const RowsView& x, const double* weight, const FeatureMap* map,
               DType products, double* out, std::int64_t width) {
  check_rows(factor, x, weight, map);
  width = checked_width(factor, width);
  if (products == DType::f32) {
    leverages_in<float>(factor, x, weight, map, out, width);
  } else {
    leverages_in<double>(factor, x, weight, map, out, width);
  }
}

void loo_errors(const RidgeFactor& factor, const LabelledRows& rows, DType products, MatrixView<double> out,
                std::int64_t width) {
  check_rows(factor, rows);
  width = checked_width(factor, width);
  GRAMIAN_REQUIRE(out.rows == rows.x.rows && out.cols == factor.n_outputs(), shape_mismatch,
                  "the output has the wrong shape");
  if (products == DType::f32) {
    loo_errors_in<float>(factor, rows, out, width);
  } else {
    loo_errors_in<double>(factor, rows, out, width);
  }
}

LooCurve loo_curve(const GramState& state, const std::vector<double>& ridges, bool standardize,
                   const LabelledRows& rows) {
  GRAMIAN_REQUIRE(!ridges.empty(), invalid_argument, "ridges is empty");
  GRAMIAN_REQUIRE(state.n_rows() > 0, not_fitted, "the state has no rows to choose a ridge from");
  GRAMIAN_REQUIRE(rows.x.rows > 0, invalid_argument, "X has no rows");
  if (state.options().products == DType::f32) return Grid<float>(state, ridges, standardize, rows).run();
  return Grid<double>(state, ridges, standardize, rows).run();
}

}  // namespace gramian
