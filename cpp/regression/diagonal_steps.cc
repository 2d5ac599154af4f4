#include "gramian/regression/diagonal_steps.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"

namespace gramian {
namespace {

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

void check(std::int64_t n, const double* gradient, const double* diagonal, const StepState& state) {
  GRAMIAN_REQUIRE(state.m.empty() || static_cast<std::int64_t>(state.m.size()) == n, shape_mismatch,
                  "the state belongs to " + std::to_string(state.m.size()) + " parameters, got " + std::to_string(n));
  for (std::int64_t k = 0; k < n; ++k) {
    GRAMIAN_REQUIRE(std::isfinite(gradient[k]), non_finite,
                    "gradient contains NaN or infinity, first at " + std::to_string(k));
    GRAMIAN_REQUIRE(diagonal == nullptr || std::isfinite(diagonal[k]), non_finite,
                    "diagonal contains NaN or infinity, first at " + std::to_string(k));
  }
}

// A step in the making: nothing of the caller's changes before all of it is known to be finite.
struct Step {
  Step(std::int64_t n, const StepState& state, const double* w) : next(state), moved(w, w + n) {
    next.m.resize(at(n), 0.0);
    next.v.resize(at(n), 0.0);
  }
  void commit(StepState& state, double* w) {
    for (std::size_t k = 0; k < moved.size(); ++k)
      GRAMIAN_REQUIRE(std::isfinite(moved[k]) && std::isfinite(next.m[k]) && std::isfinite(next.v[k]), non_finite,
                      "the step is not finite, first at " + std::to_string(k));
    std::copy(moved.begin(), moved.end(), w);
    state = std::move(next);
  }
  StepState next;
  std::vector<double> moved;
};

}  // namespace

DiagonalEstimate hutchinson_diagonal(const Exec& exec, const HessianProduct& product, std::int64_t n,
                                     std::int64_t samples, std::uint64_t seed, std::int64_t first) {
  GRAMIAN_REQUIRE(n >= 1 && samples >= 1, invalid_argument, "n and n_samples must be at least 1");
  const Exec host = exec.on_host();
  DiagonalEstimate out;
  out.diagonal.assign(at(n), 0.0);
  std::vector<double> z(at(n)), hz(at(n)), squares(at(n), 0.0);
  const RngStream stream(seed, RngFamily::rademacher, 2);
  for (std::int64_t s = 0; s < samples; ++s) {
    exec.poll();
    fill_random<double>(host, Distribution::rademacher, stream, 1.0, {z.data(), n, 1}, first + s);
    product(z.data(), hz.data());
    for (std::int64_t k = 0; k < n; ++k) {
      // Welford's running mean and sum of squares.
      const double value = z[at(k)] * hz[at(k)], delta = value - out.diagonal[at(k)];
      GRAMIAN_REQUIRE(std::isfinite(value), non_finite,
                      "the product with the Hessian contains NaN or infinity, first at " + std::to_string(k));
      out.diagonal[at(k)] += delta / static_cast<double>(s + 1);
      squares[at(k)] += delta * (value - out.diagonal[at(k)]);
    }
  }
  out.error.assign(at(n), 0.0);
  const double count = static_cast<double>(samples);
  for (std::int64_t k = 0; k < n; ++k) {
    if (samples > 1) out.error[at(k)] = std::sqrt(squares[at(k)] / (count * (count - 1)));
    GRAMIAN_REQUIRE(std::isfinite(out.diagonal[at(k)]) && std::isfinite(out.error[at(k)]), non_finite,
                    "the differences between products with the Hessian overflow, first at " + std::to_string(k));
  }
  return out;
}

double adahessian_step(const AdaHessianRule& rule, std::int64_t n, const double* gradient, const double* diagonal,
                       StepState& state, double* w) {
  GRAMIAN_REQUIRE(diagonal != nullptr, invalid_argument, "this rule needs a diagonal in every step");
  GRAMIAN_REQUIRE(rule.average >= 1, invalid_argument, "average must be at least 1");
  check(n, gradient, diagonal, state);
  Step step(n, state, w);
  StepState& next = step.next;
  next.steps += 1;
  next.diagonals += 1;
  const double t = static_cast<double>(next.steps);
  const double scale_m = 1 / (1 - std::pow(rule.beta1, t)), scale_v = 1 / (1 - std::pow(rule.beta2, t));
  for (std::int64_t first = 0; first < n; first += rule.average) {
    const std::int64_t last = std::min(n, first + rule.average);
    double mean = 0;
    for (std::int64_t k = first; k < last; ++k) mean += std::fabs(diagonal[k]);
    mean /= static_cast<double>(last - first);
    for (std::int64_t k = first; k < last; ++k) {
      const double size = rule.average == 1 ? diagonal[k] : mean;
      next.m[at(k)] = rule.beta1 * next.m[at(k)] + (1 - rule.beta1) * gradient[k];
      next.v[at(k)] = rule.beta2 * next.v[at(k)] + (1 - rule.beta2) * size * size;
      const double root = std::pow(std::sqrt(scale_v * next.v[at(k)]), rule.power);
      step.moved[at(k)] -= rule.rate * scale_m * next.m[at(k)] / (root + rule.eps);
    }
  }
  step.commit(state, w);
  return 0;
}

double sophia_step(const SophiaRule& rule, std::int64_t n, const double* gradient, const double* diagonal,
                   StepState& state, double* w) {
  GRAMIAN_REQUIRE(diagonal != nullptr || state.diagonals > 0, invalid_argument, "the first step needs a diagonal");
  check(n, gradient, diagonal, state);
  Step step(n, state, w);
  StepState& next = step.next;
  next.steps += 1;
  // The first diagonal is the average so far: without it the first steps would divide by a small part of one.
  const double keep = next.diagonals == 0 ? 0.0 : rule.beta2;
  next.diagonals += diagonal != nullptr ? 1 : 0;
  std::int64_t clipped = 0;
  for (std::int64_t k = 0; k < n; ++k) {
    next.m[at(k)] = rule.beta1 * next.m[at(k)] + (1 - rule.beta1) * gradient[k];
    if (diagonal != nullptr) next.v[at(k)] = keep * next.v[at(k)] + (1 - keep) * diagonal[k];
    const double ratio = next.m[at(k)] / std::max(rule.scale * next.v[at(k)], rule.eps);
    clipped += std::fabs(ratio) > 1 ? 1 : 0;
    step.moved[at(k)] -= rule.rate * std::clamp(ratio, -1.0, 1.0);
  }
  step.commit(state, w);
  return n == 0 ? 0 : static_cast<double>(clipped) / static_cast<double>(n);
}

}  // namespace gramian
