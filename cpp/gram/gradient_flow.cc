#include "gramian/gram/gradient_flow.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "gram/centred_gram.h"
#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

namespace {

// Rows of `loo` that are in memory at once.
constexpr std::int64_t kBlockRows = 1024;

// 1 - p_m for m steps with momentum on a mode that one plain step takes `a` of the way: how far it has gone.
//
// With v_k = p_k-1 - p_k, both rules are (p, v) -> M (p, v), M = [1 - a, -D; a, D], D = b or b (1 - a), and p_m is the
// first entry of M^m. Powers are kept as N = I - M^k, and the one of j + k steps is N_j + N_k - N_j N_k: a slow mode,
// whose N is small, keeps its digits through any number of doublings, which it would not as 1 - p_m.
double momentum_share(double a, std::int64_t steps, const Momentum& momentum) {
  struct Square {
    double a, b, c, d;
  };
  const auto joined = [](const Square& x, const Square& y) {
    return Square{x.a + y.a - (x.a * y.a + x.b * y.c), x.b + y.b - (x.a * y.b + x.b * y.d),
                  x.c + y.c - (x.c * y.a + x.d * y.c), x.d + y.d - (x.c * y.b + x.d * y.d)};
  };
  const double kept = momentum.nesterov ? momentum.share * (1 - a) : momentum.share;
  Square doubled{a, kept, -a, 1 - kept}, total{0, 0, 0, 0};
  for (auto left = static_cast<std::uint64_t>(steps); left > 0; left /= 2) {
    if (left % 2 == 1) total = joined(total, doubled);
    if (left > 1) doubled = joined(doubled, doubled);
  }
  return total.a;
}

// (1 - decay) / rate for one mode, rate = s + ridge > 0: how far it has gone.
double gain(const FlowStop& stop, double rate, double n, const Momentum& momentum) {
  if (stop.step == 0) return -std::expm1(-stop.time * rate / n) / rate;
  const double left = 1 - stop.step * rate / n;
  const auto steps = static_cast<double>(stop.steps);
  if (stop.steps == 0) return 0;
  if (momentum.share > 0) return momentum_share(stop.step * rate / n, stop.steps, momentum) / rate;
  // Near 1 the power is taken through logarithms, so that a slow mode keeps its digits.
  if (left > 0) return -std::expm1(steps * std::log1p(-stop.step * rate / n)) / rate;
  return (1 - std::pow(left, steps)) / rate;
}

}  // namespace

struct GradientFlow::Impl {
  Impl(const GramState& state, double ridge_, const double* start_, Momentum momentum_)
      : exec(state.exec()),
        d(state.n_features()),
        c(state.n_outputs()),
        ridge(ridge_),
        momentum(momentum_),
        n(state.weight_sum()),
        rows(state.n_rows()),
        intercept(state.options().intercept) {
    GRAMIAN_REQUIRE(std::isfinite(ridge) && ridge >= 0, invalid_argument,
                    "ridge must be finite and not negative, got " + std::to_string(ridge));
    GRAMIAN_REQUIRE(momentum.share >= 0 && momentum.share < 1, invalid_argument,
                    "momentum must be in [0, 1), got " + std::to_string(momentum.share));
    GRAMIAN_REQUIRE(rows > 0, not_fitted, "the state has no rows yet");
    const auto size = static_cast<std::size_t>(d * c);
    start.assign(size, 0.0);
    if (start_ != nullptr) start.assign(start_, start_ + size);
    for (const double value : start)
      GRAMIAN_REQUIRE(std::isfinite(value), invalid_argument, "start contains NaN or infinity");
    const GramState::Sums& sums = state.sums();
    const CentredGram centred(sums, 0.0, false);
    SymmetricMatrix<double> a(exec, d);
    centred.build(exec, a);
    std::vector<double> diagonal(static_cast<std::size_t>(d));
    a.diagonal(exec, diagonal.data());
    for (const double value : diagonal) constant.push_back(value == 0);
    symmetric_eigen(exec, a, values, vectors);
    const double threshold =
        static_cast<double>(d) * std::numeric_limits<double>::epsilon() * std::max(0.0, values.back());
    for (double& value : values) value = value > threshold ? value : 0.0;

    target = in_modes(centred.right_hand_side().view());
    std::vector<double> columns(size);
    for (std::int64_t k = 0; k < c; ++k)
      for (std::int64_t j = 0; j < d; ++j)
        columns[static_cast<std::size_t>(j * c + k)] = start[static_cast<std::size_t>(k * d + j)];
    Array<double> device(exec, d, c);
    upload<double>(exec, {columns.data(), d, c}, device.view());
    start_modes = in_modes(device.view());
    unexplained = 0;
    for (std::size_t k = 0; k < static_cast<std::size_t>(c); ++k) unexplained += sums.centred_energy(k);
    for (std::int64_t j = 0; j < d; ++j) {
      const double value = values[static_cast<std::size_t>(j)];
      for (std::int64_t k = 0; k < c; ++k) {
        double& entry = target[static_cast<std::size_t>(j * c + k)];
        // B lies in the range of A, so what a mode without variance shows of it is rounding.
        if (value == 0) entry = 0;
        if (value > 0) unexplained -= entry * entry / value;
      }
    }
    unexplained = std::max(0.0, unexplained);
    mean.assign(static_cast<std::size_t>(d), 0.0);
    target_mean.assign(static_cast<std::size_t>(c), 0.0);
    if (!intercept) return;
    for (std::size_t j = 0; j < mean.size(); ++j) mean[j] = sums.shift[j] + sums.s[j] / n;
    for (std::size_t k = 0; k < target_mean.size(); ++k) target_mean[k] = sums.target_shift[k] + sums.t[k] / n;
  }

  // V b for b d x C on the device, V with eigenvectors in its rows.
  std::vector<double> in_modes(MatrixView<const double> b) const {
    Array<double> out(exec, d, c);
    gemm<double>(exec, Trans::no, Trans::no, 1.0, vectors.view(), b, 0.0, out.view());
    std::vector<double> host(static_cast<std::size_t>(d * c));
    download<double>(exec, out.view(), {host.data(), d, c});
    return host;
  }

  void check(const FlowStop& stop) const {
    GRAMIAN_REQUIRE(stop.time >= 0, invalid_argument, "t must be a number >= 0, got " + std::to_string(stop.time));
    GRAMIAN_REQUIRE(stop.steps >= 0, invalid_argument, "steps must not be negative");
    GRAMIAN_REQUIRE(stop.step >= 0 && stop.step * (values.back() + ridge) < 2 * room() * n, invalid_argument,
                    "a step of " + std::to_string(stop.step) + " diverges: it must be below " +
                        std::to_string(2 * room() * n / (values.back() + ridge)));
  }

  // How much longer than without momentum a step may be.
  double room() const {
    const double b = momentum.share;
    return momentum.nesterov ? (1 + b) / (1 + 2 * b) : 1 + b;
  }

  double gain_of(const FlowStop& stop, std::size_t j) const {
    const double rate = values[j] + ridge;
    return rate > 0 ? gain(stop, rate, n, momentum) : 0.0;
  }

  // phi (T - (S + l) w0), d x C: exact zeros where nothing moves.
  std::vector<double> change(const FlowStop& stop) const {
    check(stop);
    std::vector<double> out(target.size());
    for (std::int64_t j = 0; j < d; ++j) {
      const auto mode = static_cast<std::size_t>(j);
      const double phi = gain_of(stop, mode), rate = values[mode] + ridge;
      for (std::int64_t k = 0; k < c; ++k) {
        const auto at = static_cast<std::size_t>(j * c + k);
        out[at] = phi == 0 ? 0.0 : phi * (target[at] - rate * start_modes[at]);
      }
    }
    return out;
  }

  Exec exec;
  std::int64_t d, c;
  double ridge;
  Momentum momentum;
  double n;
  std::int64_t rows;
  bool intercept;
  std::vector<double> values;               // ascending
  Array<double> vectors;                    // one a row
  std::vector<double> start;                // C x d
  std::vector<double> target, start_modes;  // d x C
  std::vector<bool> constant;               // features without any variance
  std::vector<double> mean, target_mean;
  double unexplained = 0;  // energy of the targets that no weights explain
};

GradientFlow::GradientFlow(const GramState& state, double ridge, const double* start, Momentum momentum)
    : impl_(std::make_unique<Impl>(state, ridge, start, momentum)) {}
GradientFlow::GradientFlow(GradientFlow&&) noexcept = default;
GradientFlow& GradientFlow::operator=(GradientFlow&&) noexcept = default;
GradientFlow::~GradientFlow() = default;

std::int64_t GradientFlow::n_features() const {
  return impl_->d;
}
std::int64_t GradientFlow::n_outputs() const {
  return impl_->c;
}
double GradientFlow::weight_sum() const {
  return impl_->n;
}
const std::vector<double>& GradientFlow::eigenvalues() const {
  return impl_->values;
}
double GradientFlow::largest_step() const {
  return 2 * impl_->room() * impl_->n / (impl_->values.back() + impl_->ridge);
}

FlowWeights GradientFlow::weights(const FlowStop& stop) const {
  const Impl& me = *impl_;
  const std::vector<double> change = me.change(stop);
  Array<double> modes(me.exec, me.d, me.c), moved(me.exec, me.d, me.c);
  upload<double>(me.exec, {change.data(), me.d, me.c}, modes.view());
  gemm<double>(me.exec, Trans::yes, Trans::no, 1.0, me.vectors.view(), modes.view(), 0.0, moved.view());
  std::vector<double> host(change.size());
  download<double>(me.exec, moved.view(), {host.data(), me.d, me.c});
  FlowWeights out{me.start, me.target_mean};
  for (std::int64_t k = 0; k < me.c; ++k)
    for (std::int64_t j = 0; j < me.d; ++j) {
      const auto feature = static_cast<std::size_t>(j);
      double& weight = out.coef[static_cast<std::size_t>(k * me.d + j)];
      // Without a ridge a constant feature has no part in any mode that moves; the eigenvectors know it up to rounding.
      if (me.ridge > 0 || !me.constant[feature]) weight += host[static_cast<std::size_t>(j * me.c + k)];
      out.intercept[static_cast<std::size_t>(k)] -= weight * me.mean[feature];
    }
  if (!me.intercept) out.intercept.assign(out.intercept.size(), 0.0);
  return out;
}

std::vector<double> GradientFlow::mode_weights(const FlowStop& stop) const {
  std::vector<double> out = impl_->change(stop);
  for (std::size_t at = 0; at < out.size(); ++at) out[at] += impl_->start_modes[at];
  return out;
}

double GradientFlow::residual_sum(const FlowStop& stop) const {
  const std::vector<double> w = mode_weights(stop);
  double total = impl_->unexplained;
  for (std::int64_t j = 0; j < impl_->d; ++j) {
    const double s = impl_->values[static_cast<std::size_t>(j)];
    if (s == 0) continue;
    for (std::int64_t k = 0; k < impl_->c; ++k) {
      const auto at = static_cast<std::size_t>(j * impl_->c + k);
      const double left = impl_->target[at] - s * w[at];
      total += left * left / s;
    }
  }
  return total;
}

double GradientFlow::degrees_of_freedom(const FlowStop& stop) const {
  impl_->check(stop);
  double total = impl_->intercept ? 1.0 : 0.0;
  for (std::size_t j = 0; j < impl_->values.size(); ++j) total += impl_->values[j] * impl_->gain_of(stop, j);
  return total;
}

double GradientFlow::gcv(const FlowStop& stop) const {
  const double left = impl_->n - degrees_of_freedom(stop);
  return left > 0 ? residual_sum(stop) * impl_->n / (left * left) : std::numeric_limits<double>::infinity();
}

std::vector<double> GradientFlow::mode_risk(const FlowStop& stop, double signal, double noise) const {
  impl_->check(stop);
  GRAMIAN_REQUIRE(signal >= 0 && noise >= 0, invalid_argument, "signal and noise must not be negative");
  std::vector<double> out;
  for (std::size_t j = 0; j < impl_->values.size(); ++j) {
    const double s = impl_->values[j], phi = impl_->gain_of(stop, j), missing = 1 - s * phi;
    out.push_back(signal * missing * missing + noise * s * phi * phi);
  }
  return out;
}

std::vector<double> GradientFlow::loo(const RowsView& x, const RowsView& y, const std::vector<FlowStop>& stops) const {
  const Impl& me = *impl_;
  const auto n_stops = static_cast<std::int64_t>(stops.size());
  GRAMIAN_REQUIRE(x.cols == me.d && y.cols == me.c, shape_mismatch,
                  "X has " + std::to_string(x.cols) + " features and y " + std::to_string(y.cols) + " outputs, but " +
                      std::to_string(me.d) + " and " + std::to_string(me.c) + " are expected");
  GRAMIAN_REQUIRE(x.rows == me.rows && y.rows == me.rows && me.n == static_cast<double>(me.rows), shape_mismatch,
                  "leave-one-out needs all " + std::to_string(me.rows) + " rows of the state, each of weight 1");
  // Mode weights of all stops side by side (d x stops C), and the roots of phi, a row per stop.
  std::vector<double> all(static_cast<std::size_t>(me.d * n_stops * me.c));
  std::vector<double> roots(static_cast<std::size_t>(n_stops * me.d));
  for (std::int64_t t = 0; t < n_stops; ++t) {
    const FlowStop& stop = stops[static_cast<std::size_t>(t)];
    const std::vector<double> w = mode_weights(stop);
    for (std::int64_t j = 0; j < me.d; ++j) {
      roots[static_cast<std::size_t>(t * me.d + j)] = std::sqrt(me.gain_of(stop, static_cast<std::size_t>(j)));
      for (std::int64_t k = 0; k < me.c; ++k)
        all[static_cast<std::size_t>((j * n_stops + t) * me.c + k)] = w[static_cast<std::size_t>(j * me.c + k)];
    }
  }
  Array<double> weights(me.exec, me.d, n_stops * me.c), scale(me.exec, n_stops, me.d);
  upload<double>(me.exec, {all.data(), me.d, n_stops * me.c}, weights.view());
  upload<double>(me.exec, {roots.data(), n_stops, me.d}, scale.view());

  const std::int64_t block = std::min(kBlockRows, x.rows);
  Array<double> centred(me.exec, block, me.d), modes(me.exec, block, me.d), targets(me.exec, block, me.c),
      found(me.exec, block, n_stops * me.c), squares(me.exec, block);
  std::vector<double> predicted(static_cast<std::size_t>(block * n_stops * me.c)),
      wanted(static_cast<std::size_t>(block * me.c)), leverage(static_cast<std::size_t>(block));
  std::vector<double> out(stops.size(), 0.0);
  const double own = me.intercept ? 1 / me.n : 0.0;
  for (std::int64_t begin = 0; begin < x.rows; begin += block) {
    me.exec.poll();
    const std::int64_t count = std::min(block, x.rows - begin);
    const auto part = [count](const Array<double>& a) { return a.view().block(0, 0, count, a.cols()); };
    load_rows<double>(me.exec, x.slice(begin, count), me.mean.data(), nullptr, part(centred), "X");
    load_rows<double>(me.exec, y.slice(begin, count), me.target_mean.data(), nullptr, part(targets), "y");
    gemm<double>(me.exec, Trans::no, Trans::yes, 1.0, part(centred), me.vectors.view(), 0.0, part(modes));
    gemm<double>(me.exec, Trans::no, Trans::no, 1.0, part(modes), weights.view(), 0.0, part(found));
    download<double>(me.exec, part(found), {predicted.data(), count, n_stops * me.c});
    download<double>(me.exec, part(targets), {wanted.data(), count, me.c});
    for (std::int64_t t = 0; t < n_stops; ++t) {
      axpby<double, double>(me.exec, 1.0, part(modes), 0.0, part(centred));
      scale_columns<double>(me.exec, scale.view().row(t), part(centred));
      row_sumsq<double>(me.exec, part(centred), squares.data());
      download<double>(me.exec, {squares.data(), 1, count}, {leverage.data(), 1, count});
      double sum = 0;
      for (std::int64_t r = 0; r < count; ++r)
        for (std::int64_t k = 0; k < me.c; ++k) {
          const double residual = wanted[static_cast<std::size_t>(r * me.c + k)] -
                                  predicted[static_cast<std::size_t>((r * n_stops + t) * me.c + k)];
          const double left = residual / (1 - own - leverage[static_cast<std::size_t>(r)]);
          sum += left * left;
        }
      out[static_cast<std::size_t>(t)] += sum / static_cast<double>(x.rows * me.c);
    }
  }
  return out;
}

}  // namespace gramian
