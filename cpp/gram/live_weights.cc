#include "gram/live_weights.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include "gram/centred_gram.h"
#include "gram/gram_sums.h"
#include "gram/sums_rounding.h"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/update.hpp"

namespace gramian {

namespace {

// A batch of more than d / kBatchShare rows costs as much as a new factor.
constexpr std::int64_t kBatchShare = 8;
constexpr std::int64_t kSmallBatch = 8;
// Rows after which the factor is made anew in any case; with d or more its cost stays below that of the updates.
constexpr std::int64_t kMostUpdates = 1024;
// Rows between two looks at the residual, each a product with the Gram matrix.
constexpr std::int64_t kProbeEvery = 32;
// Scaled residual beyond which the factor is made anew; far above what the updates leave in ordinary work.
constexpr double kResidualLimit = 1e-11;
constexpr double kRoundingsLimit = 64;
// Beyond it a Cholesky factor is not trusted; the rule of solve_spd.
constexpr double kConditionLimit = 1e-2 / std::numeric_limits<double>::epsilon();

double norm_of(const Exec& exec, MatrixView<const double> x) {
  if (x.empty()) return 0;
  std::vector<double> host(static_cast<std::size_t>(x.rows * x.cols));
  download<double>(exec, x, {host.data(), x.rows, x.cols});
  double total = 0;
  for (const double value : host) total += value * value;
  return std::sqrt(total);
}

// intercept = target mean - coef (shift + offset).
std::vector<double> intercept_of(const GramState& state, MatrixView<const double> coef) {
  const GramState::Sums& sums = state.sums();
  std::vector<double> out(static_cast<std::size_t>(sums.c), 0.0);
  if (!sums.options.intercept || sums.c == 0) return out;
  std::vector<double> mean(sums.s.size());
  for (std::size_t j = 0; j < mean.size(); ++j) mean[j] = sums.shift[j] + sums.s[j] / sums.weight_sum;
  const Array<double> device = to_device(sums.exec, mean);
  Array<double> product(sums.exec, sums.c, 1);
  gemm<double>(sums.exec, Trans::no, Trans::no, 1.0, coef, {device.data(), sums.d, 1}, 0.0, product.view());
  download<double>(sums.exec, product.view(), {out.data(), sums.c, 1});
  for (std::size_t k = 0; k < out.size(); ++k) out[k] = sums.target_shift[k] + sums.t[k] / sums.weight_sum - out[k];
  return out;
}

// The rows of one change that count: those of positive weight.
struct Counted {
  explicit Counted(const LiveWeights::Change& change) : x(change.x) {
    if (change.y.values != nullptr) values = *change.y.values;
    for (std::int64_t r = 0; r < change.x.rows; ++r) {
      const double w = change.weight == nullptr ? 1.0 : change.weight[r];
      if (w <= 0) continue;
      index_.push_back(r);
      weight.push_back(w);
      if (change.y.codes != nullptr) codes.push_back(change.y.codes[r]);
    }
    if (static_cast<std::int64_t>(index_.size()) == change.x.rows) return;
    pick(x, x_index_);
    if (change.y.values != nullptr) pick(values, values_index_);
  }
  std::int64_t size() const { return static_cast<std::int64_t>(weight.size()); }

  RowsView x, values;
  std::vector<double> weight;
  std::vector<std::int64_t> codes;

 private:
  void pick(RowsView& rows, std::vector<std::int64_t>& storage) {
    storage = index_;
    if (rows.row_index != nullptr)
      for (std::int64_t& r : storage) r = rows.row_index[r];
    rows.row_index = storage.data();
    rows.rows = static_cast<std::int64_t>(storage.size());
  }
  std::vector<std::int64_t> index_, x_index_, values_index_;
};

// M with z = M (x - mean before the first row), b x b lower triangular; empty where the weight runs out.
std::vector<double> mixing(const Counted& rows, double sign, double weight_sum, bool intercept) {
  const auto b = static_cast<std::size_t>(rows.size());
  std::vector<double> out(b * b, 0.0);
  double before = weight_sum;
  for (std::size_t i = 0; i < b; ++i) {
    const double w = rows.weight[i], after = before + sign * w;
    if (!intercept) {
      out[i * b + i] = std::sqrt(w);
      continue;
    }
    if (!(after > 0) || !(before > 0)) return {};
    const double a = std::sqrt(w) * std::sqrt(before / after);
    for (std::size_t k = 0; k < i; ++k) out[i * b + k] = -a * sign * rows.weight[k] / before;
    out[i * b + i] = a;
    before = after;
  }
  return out;
}

// x - shift, then - offset, in double; through the map in the type that the sums are made of.
template <class P>
Array<double> centred_rows(const Exec& exec, const RowsView& x, const FeatureMap* map,
                           const LiveWeights::Centre& centre) {
  const auto d = static_cast<std::int64_t>(centre.shift.size());
  Array<double> out(exec, x.rows, d);
  const auto subtract = [&](std::vector<double> from) {
    for (double& value : from) value = -value;
    const Array<double> device = to_device(exec, from);
    activate<double>(exec, Activation::identity, device.data(), 1.0, out.view());
  };
  if (map == nullptr) {
    load_rows<double>(exec, x, centre.shift.data(), nullptr, out.view(), "X");
  } else if constexpr (sizeof(P) == sizeof(double)) {
    map->transform(exec, x, out.view());
    subtract(centre.shift);
  } else {
    Array<P> mapped(exec, x.rows, d);
    map->transform(exec, x, mapped.view());
    axpby<P, double>(exec, 1.0, mapped.view(), 0.0, out.view());
    subtract(centre.shift);
  }
  subtract(centre.offset);
  return out;
}

Array<double> centred_targets(const Exec& exec, const Counted& rows, const std::vector<double>& mean) {
  const auto c = static_cast<std::int64_t>(mean.size());
  Array<double> out(exec, rows.size(), c);
  if (c == 0) return out;
  if (rows.codes.empty()) {
    load_rows<double>(exec, rows.values, mean.data(), nullptr, out.view(), "y");
    return out;
  }
  std::vector<double> host(static_cast<std::size_t>(out.size()));
  for (std::int64_t r = 0; r < rows.size(); ++r) {
    double* row = host.data() + r * c;
    for (std::int64_t k = 0; k < c; ++k) row[k] = -mean[static_cast<std::size_t>(k)];
    row[rows.codes[static_cast<std::size_t>(r)]] += 1;
  }
  upload<double>(exec, {host.data(), rows.size(), c}, out.view());
  return out;
}

}  // namespace

LiveWeights::Centre LiveWeights::centre_of(const GramState& state) {
  const GramState::Sums& sums = state.sums();
  Centre out;
  out.shift = sums.shift;
  out.offset.assign(sums.s.size(), 0.0);
  out.target_mean.assign(sums.t.size(), 0.0);
  out.weight_sum = sums.weight_sum;
  if (!sums.options.intercept) return out;
  for (std::size_t j = 0; j < out.offset.size(); ++j) out.offset[j] = sums.s[j] / sums.weight_sum;
  for (std::size_t k = 0; k < out.target_mean.size(); ++k)
    out.target_mean[k] = sums.target_shift[k] + sums.t[k] / sums.weight_sum;
  return out;
}

bool LiveWeights::anchor(const GramState& state, double ridge, Solution& solution) {
  const auto start = std::chrono::steady_clock::now();
  const GramState::Sums& sums = state.sums();
  const Exec& exec = sums.exec;
  live_ = false;
  solution = Solution();
  const CentredGram a(sums, ridge, false);
  if (ridge == 0) require_full_rank(sums, a);
  SymmetricMatrix<double> l(exec, sums.d);
  a.build(exec, l);
  if (cholesky(exec, l) != 0) return false;
  const auto solve = [&](MatrixView<double> x) {
    cholesky_solve_half<double>(exec, Trans::no, l, x);
    cholesky_solve_half<double>(exec, Trans::yes, l, x);
  };
  SolveReport& report_now = solution.report;
  estimate_condition(exec, a, solve, report_now);
  if (!(report_now.condition <= kConditionLimit)) return false;
  Array<double> w = a.right_hand_side();
  solve(w.view());
  solution.coef = Array<double>(exec, sums.c, sums.d);
  std::vector<double> host(static_cast<std::size_t>(w.size())), transposed(host.size());
  download<double>(exec, w.view(), {host.data(), sums.d, sums.c});
  for (std::int64_t j = 0; j < sums.d; ++j)
    for (std::int64_t k = 0; k < sums.c; ++k)
      transposed[static_cast<std::size_t>(k * sums.d + j)] = host[static_cast<std::size_t>(j * sums.c + k)];
  upload<double>(exec, {transposed.data(), sums.c, sums.d}, solution.coef.view());
  l_ = std::move(l);
  live_ = true;
  updates_ = unprobed_ = 0;
  report_now.form = "primal";
  report_now.size = report_now.rank = sums.d;
  report_now.residual = probe(state, ridge, solution);
  report(state, ridge, true, solution);
  report_now.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return true;
}

void LiveWeights::report(const GramState& state, double ridge, bool looked, Solution& solution) const {
  const GramState::Sums& sums = state.sums();
  SolveReport& out = solution.report;
  out.method = updates_ == 0 ? "cholesky" : "cholesky_updated";
  out.ridge = ridge;
  out.updates = updates_;
  solution.intercept = intercept_of(state, solution.coef.view());
  // The eigenvalues of the factor of the day are not known, but none lies below the ridge.
  if (!sums.removed || !looked) return;
  std::vector<double> coef(static_cast<std::size_t>(sums.c * sums.d));
  download<double>(sums.exec, solution.coef.view(), {coef.data(), sums.c, sums.d});
  out.removal_bound = removal_bound(sums, std::vector<double>(sums.s.size(), 1.0), sums.d, ridge, 0.0, coef);
}

// |B r - A W r| / (|A| |W r| + |X| |Y|) for one fixed combination r of the outputs: a product with A, whatever their
// number. |A|_F is taken from below by trace / sqrt(d); X and Y are the centred rows and targets, since where they have
// little to do with each other, B is small beside the rounding of its own sum. The outputs weigh differently in r, for
// those of a classifier add up to nothing.
double LiveWeights::probe(const GramState& state, double ridge, const Solution& solution) const {
  const GramState::Sums& sums = state.sums();
  if (sums.c == 0) return 0;
  const Exec exec = sums.exec.uninterrupted();
  const RngStream signs(0, RngFamily::rademacher);
  std::vector<double> r(static_cast<std::size_t>(sums.c)), along(sums.s.size());
  double energy = 0;
  for (std::size_t k = 0; k < r.size(); ++k) {
    const double weight = 1 + static_cast<double>(k % 7) / 7;
    r[k] = signs.row_sign(static_cast<std::uint64_t>(k)) * weight;
    energy += weight * weight * sums.centred_energy(k);
  }
  const Array<double> sign = to_device(exec, r);
  Array<double> wr(exec, sums.d, 1), awr(exec, sums.d, 1), br(exec, sums.d, 1);
  const MatrixView<const double> column(sign.data(), sums.c, 1);
  gemm<double>(exec, Trans::yes, Trans::no, 1.0, solution.coef.view(), column, 0.0, wr.view());
  gemm<double>(exec, Trans::yes, Trans::no, 1.0, sums.q.view(), column, 0.0, br.view());
  const CentredGram a(sums, ridge, false);
  if (sums.options.intercept) {
    double total = 0;
    for (std::size_t k = 0; k < r.size(); ++k) total += r[k] * sums.t[k];
    for (std::size_t j = 0; j < along.size(); ++j) along[j] = -total / sums.weight_sum * sums.s[j];
    const Array<double> device = to_device(exec, along);
    axpby<double, double>(exec, 1.0, {device.data(), sums.d, 1}, 1.0, br.view());
  }
  a.apply(exec, wr.view(), awr.view());
  const double size_w = norm_of(exec, wr.view());
  axpby<double, double>(exec, -1.0, awr.view(), 1.0, br.view());
  std::vector<double> diagonal(sums.s.size());
  sums.g().diagonal(exec, diagonal.data());
  double trace = 0;
  for (std::size_t j = 0; j < diagonal.size(); ++j)
    trace += diagonal[j] - (sums.options.intercept ? sums.s[j] * sums.s[j] / sums.weight_sum : 0.0);
  trace = std::max(0.0, trace);
  const double root = std::sqrt(static_cast<double>(sums.d));
  const double scale = (trace / root + ridge * root) * size_w + std::sqrt(trace * energy);
  return scale > 0 ? norm_of(exec, br.view()) / scale : 0.0;
}

// coef += sign u' (A^-1 z')', where solved = (L^-1 z')'.
void LiveWeights::add_gain(const Exec& exec, double sign, MatrixView<const double> u, Array<double> solved,
                           MatrixView<double> coef) const {
  const std::int64_t b = solved.rows(), d = solved.cols();
  if (b == 1) {  // a row is a column
    cholesky_solve_half<double>(exec, Trans::yes, l_, {solved.data(), d, 1});
    gemm<double>(exec, Trans::yes, Trans::no, sign, u, solved.view(), 1.0, coef);
    return;
  }
  // Turned over by a product with the identity.
  std::vector<double> identity(static_cast<std::size_t>(b * b), 0.0);
  for (std::int64_t i = 0; i < b; ++i) identity[static_cast<std::size_t>(i * b + i)] = 1;
  const Array<double> one = to_device(exec, identity);
  Array<double> gain(exec, d, b);
  gemm<double>(exec, Trans::yes, Trans::no, 1.0, solved.view(), {one.data(), b, b}, 0.0, gain.view());
  cholesky_solve_half<double>(exec, Trans::yes, l_, gain.view());
  gemm<double>(exec, Trans::yes, Trans::yes, sign, u, gain.view(), 1.0, coef);
}

bool LiveWeights::follow(const GramState& state, double ridge, const Change& change, const Centre& before,
                         Solution& solution) {
  const GramState::Sums& sums = state.sums();
  const Counted rows(change);
  const std::int64_t b = rows.size(), d = sums.d, c = sums.c;
  if (b == 0) return true;
  const auto start = std::chrono::steady_clock::now();
  const bool worth_it = b <= std::max(kSmallBatch, d / kBatchShare) && updates_ + b <= std::max(kMostUpdates, d);
  // Without a ridge the rows that stay need full rank, which a new factor has to show.
  if (ridge == 0 && change.sign < 0) return live_ = false;
  const std::vector<double> mix = mixing(rows, change.sign, change.age * before.weight_sum, sums.options.intercept);
  if (sums.n_rows == 0 || !worth_it || mix.empty()) return live_ = false;
  const Exec exec = sums.exec.uninterrupted();
  const bool single = sums.options.products == DType::f32;
  const Array<double> x = single ? centred_rows<float>(exec, rows.x, change.map, before)
                                 : centred_rows<double>(exec, rows.x, change.map, before);
  const Array<double> y = centred_targets(exec, rows, before.target_mean);
  Array<double> mixer(exec, b, b), z(exec, b, d), u(exec, b, c), solved(exec, b, d);
  upload<double>(exec, {mix.data(), b, b}, mixer.view());
  gemm<double>(exec, Trans::no, Trans::no, 1.0, mixer.view(), x.view(), 0.0, z.view());
  if (c > 0) gemm<double>(exec, Trans::no, Trans::no, 1.0, mixer.view(), y.view(), 0.0, u.view());

  if (change.age != 1) cholesky_scale(exec, l_, change.age);
  if (change.sign > 0) {
    cholesky_update(exec, l_, z.view(), solved.view());
  } else if (cholesky_downdate(exec, l_, z.view(), solved.view()) != 0) {
    return live_ = false;
  }
  if (c > 0) {
    if (b == 1) {  // rows are columns: a product with one column reads the weights along themselves
      gemm<double>(exec, Trans::no, Trans::no, -1.0, solution.coef.view(), {z.data(), d, 1}, 1.0, {u.data(), c, 1});
    } else {
      gemm<double>(exec, Trans::no, Trans::yes, -1.0, z.view(), solution.coef.view(), 1.0, u.view());
    }
    add_gain(exec, change.sign, u.view(), std::move(solved), solution.coef.view());
  }
  updates_ += b;
  unprobed_ += b;
  const bool looks = change.sign < 0 || unprobed_ >= kProbeEvery;
  if (looks) {
    unprobed_ = 0;
    solution.report.residual = probe(state, ridge, solution);
    const double limit = std::max(kResidualLimit, kRoundingsLimit * sums.rounding_unit());
    if (!(solution.report.residual <= limit)) return live_ = false;
  }
  report(state, ridge, looks || change.age != 1, solution);
  solution.report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return true;
}

void LiveWeights::rearrange(const Exec& exec, const std::vector<std::int64_t>& source, Solution& solution) const {
  const auto c = static_cast<std::int64_t>(source.size()), d = solution.coef.cols();
  Array<double> coef(exec, c, d);
  std::vector<double> intercept(source.size(), 0.0);
  for (std::int64_t k = 0; k < c; ++k) {
    // A new output has met only zeros: so are its weights.
    const std::int64_t from = source[static_cast<std::size_t>(k)];
    const MatrixView<double> row = coef.view().block(k, 0, 1, d);
    if (from < 0) {
      axpby<double, double>(exec, 0.0, {}, 0.0, row);
      continue;
    }
    axpby<double, double>(exec, 1.0, solution.coef.view().block(from, 0, 1, d), 0.0, row);
    intercept[static_cast<std::size_t>(k)] = solution.intercept[static_cast<std::size_t>(from)];
  }
  solution.coef = std::move(coef);
  solution.intercept = std::move(intercept);
}

}  // namespace gramian
