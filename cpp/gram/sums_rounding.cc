#include "gram/sums_rounding.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gramian {

namespace {

// Errors of sums add up like a random walk; the factor is that of the scaling of features.
constexpr double kWalk = 10;

// |x|, also where the squares leave the range of double.
class Norm {
 public:
  explicit Norm(double largest) : largest_(largest) {}
  void add(double x) {
    if (largest_ > 0) sum_ += (x / largest_) * (x / largest_);
  }
  double value() const { return largest_ * std::sqrt(sum_); }

 private:
  double largest_, sum_ = 0;
};

}  // namespace

LargestHeld::LargestHeld(const GramState::Sums& sums)
    : unit(sums.terms() * sums.rounding_unit()),
      trace(sums.largest_trace()),
      energy(sums.largest_energy),
      weight(sums.weight_sum),
      squares(sums.largest_diagonal()) {}

double removal_bound(const GramState::Sums& sums, const std::vector<double>& scale, std::int64_t width, double ridge,
                     double smallest, const std::vector<double>& coef) {
  return sums.removed ? removal_bound(LargestHeld(sums), scale, width, ridge, smallest, coef) : 0.0;
}

double removal_bound(const LargestHeld& held, const std::vector<double>& scale, std::int64_t width, double ridge,
                     double smallest, const std::vector<double>& coef) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double lambda = std::max(ridge, smallest);
  if (!(lambda > 0)) return kInfinity;
  const auto k = static_cast<std::size_t>(width);
  double trace = 0, factor = 0;
  bool scaled = false;
  for (std::size_t j = 0; j < k; ++j) {
    trace += scale[j] * scale[j] * held.squares[j];
    factor = std::max(factor, scale[j]);
    scaled = scaled || scale[j] != 1;
  }
  if (!scaled) trace = std::min(trace, held.trace);
  double largest = 0, largest_scaled = 0;
  for (std::size_t i = 0; i < coef.size(); ++i) {
    largest = std::max(largest, std::abs(coef[i]));
    largest_scaled = std::max(largest_scaled, std::abs(coef[i]) / scale[i % k]);
  }
  Norm size(largest), size_scaled(largest_scaled);
  for (std::size_t i = 0; i < coef.size(); ++i) {
    size.add(coef[i]);
    size_scaled.add(coef[i] / scale[i % k]);
  }
  const double unit = 4 * held.unit / lambda;
  const double of_gram = trace * (scaled ? 1 + ridge / held.weight : 1.0);
  if (coef.empty()) return unit * of_gram;  // no weights; what they would lose to G
  const double of_targets = std::sqrt(trace) * std::sqrt(held.energy);
  if (!(largest > 0)) return of_targets > 0 ? kInfinity : 0.0;
  return unit * factor * (of_gram * (size_scaled.value() / size.value()) + of_targets / size.value());
}

RankRule rank_rule(const GramState::Sums& sums, const CentredGram& a, bool any_sizes) {
  RankRule rule;
  rule.unit = sums.rounding_unit();
  std::vector<double> diagonal(sums.s.size());
  sums.g().diagonal(sums.exec, diagonal.data());
  double trace = 0, largest = 0;
  bool scaled = false;
  for (std::size_t j = 0; j < diagonal.size(); ++j) {
    const double square = a.scale()[j] * a.scale()[j];
    trace += square * diagonal[j];
    largest += square * sums.largest_diagonal()[j];
    scaled = scaled || square != 1;
  }
  if (!scaled) largest = std::min(largest, sums.largest_trace());
  rule.noise = rule.unit * sums.terms() * largest;
  // Sums that were once larger left their rounding behind, which no condition of what remains tells of. (The largest
  // ones are rounded up to powers of two.) Those that only grew lose little but what many additions cost.
  const bool were_larger = sums.removed || largest > 2 * trace;
  const double share = were_larger ? kWalk * rule.unit * std::sqrt(sums.terms())
                                   : 2 * rule.unit * std::sqrt(static_cast<double>(sums.operations));
  rule.floor = share * largest;
  // The limit of float products is so low that features of unlike sizes alone would meet it. Where every feature varies
  // by more than rounding, the matrix of features of unit variance has the same rank.
  const bool low_limit = sums.options.products == DType::f32 && !were_larger;
  if ((any_sizes || low_limit) && !scaled) {
    const CentredGram alike(sums, 0.0, true);
    if (!alike.all_vary()) return rule;
    rule.scale = alike.scale();
    double squares = 0;
    for (std::size_t j = 0; j < rule.scale.size(); ++j)
      squares += rule.scale[j] * rule.scale[j] * sums.largest_diagonal()[j];
    rule.scaled_floor = share * squares;
    rule.noise = rule.unit * sums.terms() * squares;
  }
  return rule;
}

void require_full_rank(const GramState::Sums& sums, const CentredGram& a) {
  const Array<double> b = a.right_hand_side();
  Array<double> w(sums.exec, sums.d, sums.c);
  solve_spd(sums.exec, a, b.view(), w.view(), Precision::automatic, true, rank_rule(sums, a, true));
}

double residual_noise(const GramState::Sums& sums) {
  return 2 * sums.rounding_unit() * std::sqrt(sums.terms());
}

std::size_t best_of(const std::vector<double>& ridges, const std::vector<double>& scores,
                    const std::vector<double>& noise) {
  constexpr double kUnknown = 4;
  std::size_t best = scores.size();
  const auto floored = [&](std::size_t k) { return std::max(scores[k], noise[k]); };
  for (std::size_t k = 0; k < scores.size(); ++k)
    if (!std::isnan(scores[k]) && (best == scores.size() || floored(k) < floored(best))) best = k;
  if (best == scores.size() || scores[best] > noise[best]) return best == scores.size() ? 0 : best;
  const double limit = kUnknown * noise[best];
  for (std::size_t k = 0; k < scores.size(); ++k)
    if (scores[k] <= noise[k] && noise[k] <= limit && ridges[k] < ridges[best]) best = k;
  return best;
}

}  // namespace gramian
