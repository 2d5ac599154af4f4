#include "gram/leverage_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace gramian {
namespace {

constexpr std::size_t kPieces = 256;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Zeros that keep prod (s - t) small over [low, high] on a logarithmic scale.
std::vector<double> chebyshev(std::size_t count, double low, double high) {
  const double middle = 0.5 * (std::log(low) + std::log(high)), half = 0.5 * (std::log(high) - std::log(low));
  std::vector<double> out;
  for (std::size_t k = 0; k < count; ++k) {
    const double angle = (2 * static_cast<double>(k) + 1) / (2 * static_cast<double>(count)) * std::acos(-1.0);
    out.push_back(std::exp(middle + half * std::cos(angle)));
  }
  return out;
}

}  // namespace

bool operator<(const LeverageMixture& a, const LeverageMixture& b) {
  return a.error < b.error || (a.error == b.error && a.exact_error < b.exact_error);
}

void WideProduct::times(double factor) {
  mantissa_ *= factor;
  take_exponent();
}

// The exponent of the divisor too: a mantissa over a tiny one may be too large for a double.
void WideProduct::over(double divisor) {
  int exponent = 0;
  mantissa_ /= std::frexp(divisor, &exponent);
  exponent_ -= exponent;
  take_exponent();
}

void WideProduct::times(const WideProduct& other) {
  mantissa_ *= other.mantissa_;
  exponent_ += other.exponent_;
  take_exponent();
}

double WideProduct::value() const {
  constexpr std::int64_t kBeyond = 4096;  // 0 or infinity either way
  return std::ldexp(mantissa_, static_cast<int>(std::clamp(exponent_, -kBeyond, kBeyond)));
}

double WideProduct::log_size() const {
  return std::log(std::abs(mantissa_)) + std::log(2.0) * static_cast<double>(exponent_);
}

void WideProduct::take_exponent() {
  if (!std::isfinite(mantissa_)) return;
  int exponent = 0;
  mantissa_ = std::frexp(mantissa_, &exponent);
  exponent_ += exponent;
}

LeveragePlan::LeveragePlan(std::vector<double> nodes, double low, double high) : nodes_(std::move(nodes)) {
  if (!(low > 0)) return;
  const double ratio = std::pow(high / low, 1.0 / static_cast<double>(kPieces));
  double begin = low;
  for (std::size_t piece = 0; piece < kPieces; ++piece) {
    for (const double node : nodes_) inverses_.push_back(1 / (begin + node));
    ends_.push_back(piece + 1 == kPieces ? high : begin * ratio);
    begin = ends_.back();
  }
  plain_ = with_zeros(nodes_.size(), low, high);
  lifted_ = with_zeros(nodes_.size() + 1, low, high);
}

// The error, as a function of s, is kappa prod_k (s - t_k) / prod_j (s + r_j): it is 1 at s = -r, which fixes kappa,
// and its residue at s = -r_j is -alpha_j (r - r_j). As many zeros t as nodes leave beta = 0, one more makes it -kappa.
LeveragePlan::Zeros LeveragePlan::with_zeros(std::size_t count, double low, double high) const {
  Zeros out;
  out.at = chebyshev(count, low, high);
  for (const double node : nodes_) {
    WideProduct residue;
    for (const double zero : out.at) residue.times(-(node + zero));
    for (const double other : nodes_)
      if (other != node) residue.over(other - node);
    out.residues.push_back(residue);
  }
  // A bound over each piece of [low, high]: no factor is larger than at the end of the piece that is farther away.
  double begin = low, largest = -kInfinity;
  for (const double end : ends_) {
    WideProduct bound;
    for (const double zero : out.at) bound.times(std::max(std::abs(begin - zero), std::abs(end - zero)));
    for (const double node : nodes_) bound.over(begin + node);
    const double size = bound.log_size();
    if (!(size <= largest)) {
      largest = size;
      out.bound = bound;
    }
    begin = end;
  }
  return out;
}

// Of what a node gives itself there is nothing to mix.
bool LeveragePlan::is_node(double ridge, LeverageMixture* out) const {
  out->alpha.assign(nodes_.size(), 0.0);
  const auto node = std::find(nodes_.begin(), nodes_.end(), ridge);
  if (node != nodes_.end()) out->alpha[static_cast<std::size_t>(node - nodes_.begin())] = 1.0;
  return node != nodes_.end();
}

LeverageMixture LeveragePlan::mix(const Zeros& zeros, double ridge) const {
  LeverageMixture out;
  WideProduct kappa;
  for (const double node : nodes_) kappa.times(node - ridge);
  for (const double zero : zeros.at) kappa.over(-(ridge + zero));
  for (std::size_t j = 0; j < nodes_.size(); ++j) {
    WideProduct alpha = kappa;
    alpha.times(zeros.residues[j]);
    alpha.over(nodes_[j] - ridge);
    out.alpha.push_back(alpha.value());
  }
  if (zeros.at.size() > nodes_.size()) out.beta = -kappa.value();
  kappa.times(zeros.bound);
  // Never 0: no mixture of other ridges is exact.
  out.exact_error = std::max(std::numeric_limits<double>::min(), std::abs(kappa.value()));
  // A mixture of large parts of both signs would trade the error for rounding.
  const bool usable = std::isfinite(kappa.value()) && !has_large_parts(out, ridge);
  out.error = usable ? out.exact_error : kInfinity;
  return out;
}

// Are relative rounding errors of what is mixed amplified by much, for some mode?
bool LeveragePlan::has_large_parts(const LeverageMixture& mixture, double ridge) const {
  constexpr double kAmplification = 8;
  const double* inverse = inverses_.data();
  for (const double end : ends_) {
    double mixed = std::abs(mixture.beta);
    for (const double alpha : mixture.alpha) mixed += std::abs(alpha) * *inverse++;
    // What is not a number counts as large.
    if (!(mixed * (end + ridge) <= kAmplification)) return true;
  }
  return false;
}

LeverageMixture LeveragePlan::weights(double ridge) const {
  LeverageMixture out;
  if (is_node(ridge, &out)) return out;
  if (!ends_.empty()) return mix(plain_, ridge);
  out.error = out.exact_error = kInfinity;
  return out;
}

LeverageMixture LeveragePlan::leverages(double ridge) const {
  LeverageMixture plain = weights(ridge);
  if (plain.error == 0 || ends_.empty()) return plain;
  LeverageMixture lifted = mix(lifted_, ridge);
  return lifted < plain ? lifted : plain;
}

}  // namespace gramian
