#include "gram/leverage_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gramian {
namespace {

constexpr int kPieces = 256;

// The error, as a function of s, is kappa prod_k (s - t_k) / prod_j (s + r_j): it is 1 at s = -r, which fixes kappa,
// and its residue at s = -r_j is -alpha_j (r - r_j). As many zeros t as nodes leave beta = 0, one more makes it -kappa.
LeverageMixture with_zeros(const std::vector<double>& nodes, const std::vector<double>& zeros, double ridge, double low,
                           double high) {
  LeverageMixture out;
  double kappa = 1;
  for (const double node : nodes) kappa *= node - ridge;
  for (const double zero : zeros) kappa /= -(ridge + zero);
  for (std::size_t j = 0; j < nodes.size(); ++j) {
    double alpha = -kappa;
    for (const double zero : zeros) alpha *= -(nodes[j] + zero);
    alpha /= ridge - nodes[j];
    for (std::size_t i = 0; i < nodes.size(); ++i)
      if (i != j) alpha /= nodes[i] - nodes[j];
    out.alpha.push_back(alpha);
  }
  out.beta = zeros.size() > nodes.size() ? -kappa : 0.0;

  // A bound over each piece of [low, high]: no factor is larger than at the end of the piece that is farther away.
  const double ratio = std::pow(high / low, 1.0 / kPieces);
  double begin = low, error = 0, amplification = 0;
  for (int piece = 0; piece < kPieces; ++piece) {
    const double end = piece + 1 == kPieces ? high : begin * ratio;
    double value = std::abs(kappa);
    for (const double zero : zeros) value *= std::max(std::abs(begin - zero), std::abs(end - zero));
    for (const double node : nodes) value /= begin + node;
    error = std::max(error, value);
    double mixed = std::abs(out.beta) * (end + ridge);
    for (std::size_t j = 0; j < nodes.size(); ++j) mixed += std::abs(out.alpha[j]) * (end + ridge) / (begin + nodes[j]);
    amplification = std::max(amplification, mixed);
    begin = end;
  }
  out.error = error;
  out.amplification = amplification;
  return out;
}

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

// Of what a node gives itself; nothing to mix.
bool is_node(const std::vector<double>& nodes, double ridge, LeverageMixture* out) {
  const auto node = std::find(nodes.begin(), nodes.end(), ridge);
  if (node == nodes.end()) return false;
  out->alpha.assign(nodes.size(), 0.0);
  out->alpha[static_cast<std::size_t>(node - nodes.begin())] = 1.0;
  return true;
}

// A mixture of large parts of both signs would trade the error for rounding.
void refuse_large_parts(LeverageMixture& mixture) {
  constexpr double kAmplification = 8;
  if (!(mixture.amplification <= kAmplification)) mixture.error = std::numeric_limits<double>::infinity();
}

}  // namespace

LeverageMixture mix_weights(const std::vector<double>& nodes, double ridge, double low, double high) {
  LeverageMixture out;
  if (is_node(nodes, ridge, &out)) return out;
  out = with_zeros(nodes, chebyshev(nodes.size(), low, high), ridge, low, high);
  refuse_large_parts(out);
  return out;
}

LeverageMixture mix_leverages(const std::vector<double>& nodes, double ridge, double low, double high) {
  LeverageMixture plain = mix_weights(nodes, ridge, low, high);
  if (plain.error == 0) return plain;
  LeverageMixture lifted = with_zeros(nodes, chebyshev(nodes.size() + 1, low, high), ridge, low, high);
  refuse_large_parts(lifted);
  return lifted.error < plain.error ? lifted : plain;
}

}  // namespace gramian
