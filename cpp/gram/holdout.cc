#include "gramian/gram/holdout.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "gram/centred_gram.h"
#include "gram/sums_rounding.h"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

namespace {

constexpr std::int64_t kMixedFrom = 2048;    // smaller systems factor in double faster than they refine
constexpr double kTrustedCorrection = 1e-3;  // relative size of the one sweep up to which a float factor is believed
constexpr double kFlat = 1e-6;               // relative rise that is rounding and no second valley
constexpr const char* kRules[] = {"none", "moments", "ranpac"};
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Weights of one ridge after the other from the training sums, judged by the validation sums.
class Judge {
 public:
  Judge(const GramState& train, const GramState& validation, bool standardize)
      : exec_(train.exec()),
        train_(train.sums()),
        held_(validation.sums()),
        standardize_(standardize),
        b_(CentredGram(train_, 0.0, standardize).right_hand_side()),
        w_(exec_, train_.d, train_.c),
        work_(exec_, train_.d, train_.c) {
    // Rows of the validation state are x - m with its shift m; the intercept moves along. See holdout.hpp.
    for (std::size_t j = 0; j < train_.s.size(); ++j)
      offset_.push_back(train_.options.intercept ? train_.shift[j] + train_.s[j] / train_.weight_sum - held_.shift[j]
                                                 : 0.0);
    for (std::size_t k = 0; k < train_.t.size(); ++k)
      target_offset_.push_back(train_.options.intercept
                                   ? train_.target_shift[k] + train_.t[k] / train_.weight_sum - held_.target_shift[k]
                                   : 0.0);
    cross_.resize(static_cast<std::size_t>(train_.c * train_.d));
    download<double>(exec_, held_.q.view(), {cross_.data(), train_.c, train_.d});
  }

  struct Score {
    double value;  // mean squared error of the held-out rows, infinity where the system is singular
    double noise;  // rounding of the sums behind it
  };
  Score score(double ridge) {
    exec_.poll();
    const CentredGram a(train_, ridge, standardize_);
    if (!(train_.d >= kMixedFrom && solve_float(a)) && !solve_double(a)) return {kInfinity, 0};
    scale_rows<double>(exec_, a.scale(), w_.view());
    Score out = squared_error();
    const double count = held_.weight_sum * static_cast<double>(std::max<std::int64_t>(1, train_.c));
    return {out.value / count, out.noise / count};
  }

 private:
  // The factor of the matrix scaled to unit diagonal, in float, and one sweep of refinement in double: the sweep
  // squares the relative error, and its size tells what that error was.
  bool solve_float(const CentredGram& a) {
    if (float_factor_.size() == 0) float_factor_ = SymmetricMatrix<float>(exec_, train_.d);
    a.build(exec_, float_factor_);
    std::vector<float> diagonal(static_cast<std::size_t>(train_.d));
    float_factor_.diagonal(exec_, diagonal.data());
    std::vector<double> inverse_root(diagonal.size());
    for (std::size_t j = 0; j < diagonal.size(); ++j) {
      if (!(diagonal[j] > 0) || !std::isfinite(diagonal[j])) return false;
      inverse_root[j] = 1.0 / std::sqrt(static_cast<double>(diagonal[j]));
    }
    float_factor_.scale(exec_, inverse_root);
    if (cholesky(exec_, float_factor_) != 0) return false;
    Array<float> z(exec_, train_.d, train_.c);
    const auto solve = [&](MatrixView<double> x) {
      scale_rows<double>(exec_, inverse_root, x);
      axpby<double, float>(exec_, 1.0, x, 0.0, z.view());
      cholesky_solve_half<float>(exec_, Trans::no, float_factor_, z.view());
      cholesky_solve_half<float>(exec_, Trans::yes, float_factor_, z.view());
      axpby<float, double>(exec_, 1.0, z.view(), 0.0, x);
      scale_rows<double>(exec_, inverse_root, x);
    };
    axpby<double, double>(exec_, 1.0, b_.view(), 0.0, w_.view());
    solve(w_.view());
    a.apply(exec_, w_.view(), work_.view());
    axpby<double, double>(exec_, 1.0, b_.view(), -1.0, work_.view());
    solve(work_.view());
    axpby<double, double>(exec_, 1.0, work_.view(), 1.0, w_.view());
    const double correction = std::sqrt(sum_of_squares<double>(exec_, work_.view()));
    return correction <= kTrustedCorrection * std::sqrt(sum_of_squares<double>(exec_, w_.view()));
  }

  bool solve_double(const CentredGram& a) {
    if (factor_.size() == 0) factor_ = SymmetricMatrix<double>(exec_, train_.d);
    a.build(exec_, factor_);
    if (cholesky(exec_, factor_) != 0) return false;
    axpby<double, double>(exec_, 1.0, b_.view(), 0.0, w_.view());
    cholesky_solve_half<double>(exec_, Trans::no, factor_, w_.view());
    cholesky_solve_half<double>(exec_, Trans::yes, factor_, w_.view());
    return true;
  }

  Score squared_error() {
    const std::int64_t d = train_.d, c = train_.c;
    symmetric_multiply(exec_, 1.0, held_.g(), w_.view(), 0.0, work_.view());
    std::vector<double> w(static_cast<std::size_t>(d * c)), gw(w.size());
    download<double>(exec_, w_.view(), {w.data(), d, c});
    download<double>(exec_, work_.view(), {gw.data(), d, c});
    // Row by row of W, so that memory is read in order.
    std::vector<double> quadratic(static_cast<std::size_t>(c), 0.0), sum(quadratic), fitted(quadratic),
        constant(target_offset_);
    for (std::int64_t j = 0; j < d; ++j) {
      const auto feature = static_cast<std::size_t>(j);
      for (std::int64_t k = 0; k < c; ++k) {
        const auto output = static_cast<std::size_t>(k), at = static_cast<std::size_t>(j * c + k);
        quadratic[output] += w[at] * (gw[at] - 2 * cross_[static_cast<std::size_t>(k * d + j)]);
        fitted[output] += w[at] * gw[at];
        sum[output] += w[at] * held_.s[feature];
        constant[output] -= w[at] * offset_[feature];
      }
    }
    double total = 0, size = 0;
    for (std::size_t k = 0; k < quadratic.size(); ++k) {
      const double b = constant[k];
      const double error = held_.energy[k] + quadratic[k] + 2 * b * (sum[k] - held_.t[k]) + held_.weight_sum * b * b;
      total += std::max(0.0, error);
      // What is subtracted, 2 w'Q and the like, is no larger than the sum of the squares of these.
      size += std::max({0.0, held_.energy[k], fitted[k], held_.weight_sum * b * b});
    }
    return {total, residual_noise(held_) * size};
  }

  const Exec exec_;
  const GramState::Sums& train_;
  const GramState::Sums& held_;
  bool standardize_;
  Array<double> b_, w_, work_;
  SymmetricMatrix<float> float_factor_;
  SymmetricMatrix<double> factor_;
  std::vector<double> offset_, target_offset_, cross_;
};

// Falls to its smallest value and rises from there, as far as it is known.
bool one_valley(const std::vector<double>& scores) {
  std::vector<double> known;
  for (const double score : scores)
    if (!std::isnan(score)) known.push_back(score);
  const auto lowest = std::min_element(known.begin(), known.end());
  const auto rises = [](double from, double to) { return to > from + kFlat * std::abs(from); };
  for (auto it = known.begin(); it + 1 < known.end(); ++it) {
    if (it < lowest ? rises(*it, *(it + 1)) : rises(*(it + 1), *it)) return false;
  }
  return true;
}

bool rising(const std::vector<double>& ridges) {
  return std::adjacent_find(ridges.begin(), ridges.end(), std::greater_equal<double>()) == ridges.end();
}

// Fibonacci search over places 1 .. size of the curve; places behind the last ridge count as higher than any before.
template <class Less>
void search_valley(std::int64_t size, const Less& better) {
  std::int64_t shorter = 1, longer = 2;
  while (longer < size + 1) {
    const std::int64_t sum = shorter + longer;
    shorter = longer;
    longer = sum;
  }
  std::int64_t low = 0, high = longer, right = shorter, left = low + high - right;
  while (high - low > 2) {
    if (right > size || better(left, right)) {
      high = right;
      right = left;
      left = low + high - right;
    } else {
      low = left;
      left = right;
      right = low + high - left;
    }
    if (left > right) std::swap(left, right);
  }
  if (low + 1 <= size) better(low + 1, low + 1);
}

}  // namespace

HoldoutRule parse_holdout_rule(const std::string& name) {
  for (int k = 0; k < 3; ++k)
    if (name == kRules[k]) return static_cast<HoldoutRule>(k);
  throw Error(ErrorCode::invalid_argument, "holdout_rule must be 'moments' or 'ranpac', got '" + name + "'");
}

const char* name_of(HoldoutRule rule) {
  return kRules[static_cast<int>(rule)];
}

HoldoutCurve holdout_curve(const GramState& train, const GramState& validation, const std::vector<double>& ridges,
                           bool standardize, RidgeSearch search) {
  GRAMIAN_REQUIRE(train.n_features() == validation.n_features() && train.n_outputs() == validation.n_outputs(),
                  shape_mismatch, "the states of training and held-out rows differ in size");
  GRAMIAN_REQUIRE(train.options().intercept == validation.options().intercept, invalid_argument,
                  "one state has an intercept and the other has none");
  GRAMIAN_REQUIRE(train.exec().device() == validation.exec().device(), invalid_argument,
                  "the states are on different devices");
  GRAMIAN_REQUIRE(train.n_rows() > 0 && validation.n_rows() > 0, not_fitted,
                  "there are no rows to fit, or none held out to choose a ridge by");
  GRAMIAN_REQUIRE(!ridges.empty(), invalid_argument, "ridges is empty");
  for (const double ridge : ridges)
    GRAMIAN_REQUIRE(std::isfinite(ridge) && ridge > 0, invalid_argument, "ridges must be finite and above 0");
  HoldoutCurve curve;
  curve.ridges = ridges;
  curve.scores.assign(ridges.size(), std::numeric_limits<double>::quiet_NaN());
  Judge judge(train, validation, standardize);
  std::vector<double> noise(ridges.size(), 0.0);
  const auto score = [&](std::int64_t place) {
    const auto at = static_cast<std::size_t>(place - 1);
    double& value = curve.scores[at];
    if (std::isnan(value)) {
      const Judge::Score now = judge.score(ridges[at]);
      value = now.value;
      noise[at] = now.noise;
      GRAMIAN_REQUIRE(!std::isnan(value), non_finite, "the sums of the state have overflowed");
      ++curve.evaluated;
    }
    return value;
  };
  // Equal scores lead to the larger ridge, but those that lie in the noise to the smaller one: see best_of.
  const auto better = [&](std::int64_t left, std::int64_t right) {
    const double one = score(left), other = score(right);
    const auto a = static_cast<std::size_t>(left - 1), b = static_cast<std::size_t>(right - 1);
    return one < other || (one <= noise[a] && other <= noise[b]);
  };
  const auto size = static_cast<std::int64_t>(ridges.size());
  if (search == RidgeSearch::coarse_to_fine && size > 3 && rising(ridges)) search_valley(size, better);
  if (curve.evaluated == 0 || !one_valley(curve.scores))
    for (std::int64_t place = 1; place <= size; ++place) score(place);
  curve.best = best_of(ridges, curve.scores, noise);
  GRAMIAN_REQUIRE(std::isfinite(curve.scores[curve.best]), not_positive_definite,
                  "the system is numerically singular at every ridge of the grid; use larger ones");
  curve.at_edge = size > 1 && (curve.best == 0 || curve.best + 1 == ridges.size());
  return curve;
}

std::vector<bool> held_out_rows(const Exec& exec, const RowsView& x, double fraction, std::uint64_t seed) {
  constexpr std::uint32_t kTag = 18;  // of family `features`
  constexpr std::int64_t kRows = 1024;
  const RngStream stream(seed, RngFamily::features, kTag);
  const Exec host(Device::cpu, exec.threads());
  std::vector<bool> out;
  out.reserve(static_cast<std::size_t>(x.rows));
  Array<double> block(host, std::min(kRows, x.rows), x.cols);
  for (std::int64_t begin = 0; begin < x.rows; begin += kRows) {
    exec.poll();
    const std::int64_t count = std::min(kRows, x.rows - begin);
    load_rows<double>(host, x.slice(begin, count), nullptr, nullptr, block.view().block(0, 0, count, x.cols), "X");
    for (std::int64_t r = 0; r < count; ++r) {
      // Four chains, so that one need not wait for the multiplication of the other; the stream mixes what comes out.
      std::uint64_t hash[4] = {1, 2, 3, 4};
      for (std::int64_t c = 0; c < x.cols; ++c) {
        const double value = block.view()(r, c) + 0.0;  // one zero, not two
        std::uint64_t bits = 0;
        std::memcpy(&bits, &value, sizeof bits);
        std::uint64_t& h = hash[c % 4];
        h = (h ^ bits) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
      }
      std::uint64_t all = 0;
      for (const std::uint64_t h : hash) all = (all ^ h) * 0xbf58476d1ce4e5b9ull + 1;
      out.push_back(stream.uniform(all) < fraction);
    }
  }
  return out;
}

}  // namespace gramian
