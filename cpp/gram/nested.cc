#include "gramian/gram/nested.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "gram/centred_gram.h"
#include "gram/row_blocks.h"
#include "gram/sums_rounding.h"
#include "gramian/linalg/elementwise.hpp"

namespace gramian {

namespace {

// Rows that walk through the widths side by side, so that compilers find vectors in the loops over them.
constexpr std::int64_t kLanes = 8;

// Adds the leave-one-out energies of some rows to sums[k], for each width k + 1. v: whitened rows; y: their centred
// targets; z: d x c. Returns nothing: a width at which a row cannot be left out gets infinity.
template <class P>
class LaneWalk {
 public:
  LaneWalk(MatrixView<const double> z, double share, double least)
      : z_(z), share_(share), least_(least), error_(static_cast<std::size_t>(z.cols * kLanes)) {}

  // Rows [begin, begin + count) of the block, count <= kLanes.
  void walk(MatrixView<const P> v, const double* y, const double* weight, std::int64_t begin, std::int64_t count,
            double* sums) {
    const std::int64_t c = z_.cols;
    double w[kLanes] = {}, rest[kLanes];
    const P* rows[kLanes];
    for (std::int64_t l = 0; l < kLanes; ++l) {
      // Lanes without a row repeat the last one, with weight 0.
      const std::int64_t r = begin + std::min(l, count - 1);
      rows[l] = v.row(r);
      w[l] = l < count ? weight_of(weight, r) : 0.0;
      rest[l] = 1 - w[l] * share_;
      for (std::int64_t k = 0; k < c; ++k) error_[static_cast<std::size_t>(k * kLanes + l)] = y[r * c + k];
    }
    for (std::int64_t j = 0; j < z_.rows; ++j) {
      double x[kLanes], energy[kLanes] = {};
      for (std::int64_t l = 0; l < kLanes; ++l) x[l] = static_cast<double>(rows[l][j]);
      for (std::int64_t l = 0; l < kLanes; ++l) rest[l] -= w[l] * x[l] * x[l];
      const double* z = z_.row(j);
      double* e = error_.data();
      for (std::int64_t k = 0; k < c; ++k, e += kLanes) {
        const double factor = z[k];
        for (std::int64_t l = 0; l < kLanes; ++l) {
          const double value = e[l] - x[l] * factor;
          e[l] = value;
          energy[l] += value * value;
        }
      }
      double total = 0;
      for (std::int64_t l = 0; l < kLanes; ++l)
        total += rest[l] > least_ || w[l] == 0 ? w[l] * energy[l] / (rest[l] * rest[l])
                                               : std::numeric_limits<double>::infinity();
      sums[j] += total;
    }
  }

 private:
  MatrixView<const double> z_;
  double share_, least_;
  std::vector<double> error_;  // c x lanes
};

template <class P>
std::vector<double> loo_sums(const RidgeFactor& factor, const LabelledRows& rows) {
  const Exec& exec = factor.exec();
  const std::int64_t n = rows.x.rows, d = factor.n_features(), c = factor.n_outputs();
  const double share = factor.intercept() ? 1.0 / factor.weight_sum() : 0.0;
  const double least = least_rest(dtype_of<P>::value);
  std::vector<double> z(static_cast<std::size_t>(d * c)), sums(static_cast<std::size_t>(d), 0.0);
  download<double>(exec, factor.z(), {z.data(), d, c});
  const std::int64_t edge = std::min(second_pass_rows(d, sizeof(P)), std::max<std::int64_t>(1, n));
  Array<P> block(exec, edge, d);
  std::vector<P> staged(exec.device() == Device::cpu ? 0 : static_cast<std::size_t>(edge * d));
  const Exec host(Device::cpu, exec.threads());
  // Each task has sums of its own, added in the order of the tasks.
  std::vector<double> partial(static_cast<std::size_t>((edge + kTaskRows - 1) / kTaskRows * d));
  for (std::int64_t begin = 0; begin < n; begin += edge) {
    exec.poll();
    const std::int64_t count = std::min(edge, n - begin);
    MatrixView<P> v = block.view().block(0, 0, count, d);
    factor.whiten(rows.x.slice(begin, count), rows.map, v, "X");
    if (!staged.empty()) {
      const MatrixView<P> copy(staged.data(), count, d);
      download<P>(exec, v, copy);
      v = copy;
    }
    const std::vector<double> targets = centred_targets(factor, rows, begin, count);
    const double* weight = rows.weight == nullptr ? nullptr : rows.weight + begin;
    const std::int64_t tasks = (count + kTaskRows - 1) / kTaskRows;
    host.parallel_for(tasks, [&](std::int64_t task) {
      double* own = partial.data() + task * d;
      std::fill(own, own + d, 0.0);
      LaneWalk<P> lanes({z.data(), d, c}, share, least);
      const std::int64_t last = std::min(count, (task + 1) * kTaskRows);
      for (std::int64_t r = task * kTaskRows; r < last; r += kLanes)
        lanes.walk(v, targets.data(), weight, r, std::min(kLanes, last - r), own);
    });
    for (std::int64_t task = 0; task < tasks; ++task)
      for (std::int64_t j = 0; j < d; ++j)
        sums[static_cast<std::size_t>(j)] += partial[static_cast<std::size_t>(task * d + j)];
  }
  return sums;
}

// Condition and smallest eigenvalue of the leading k x k block of A = L L', through the whole of both.
void estimate_leading(const Exec& exec, const CentredGram& a, const SymmetricMatrix<double>& l, std::int64_t k,
                      SolveReport& report) {
  const std::int64_t d = a.size();
  Array<double> x(exec, d, 1), y(exec, d, 1);
  const MatrixView<double> head = x.view().block(0, 0, k, 1), rest = x.view().block(k, 0, d - k, 1);
  const auto clear_rest = [&] {
    if (k < d) axpby<double, double>(exec, 0.0, {}, 0.0, rest);
  };
  const auto apply = [&](MatrixView<const double> in, MatrixView<double> out) {
    clear_rest();
    axpby<double, double>(exec, 1.0, in, 0.0, head);
    a.apply(exec, x.view(), y.view());
    axpby<double, double>(exec, 1.0, y.view().block(0, 0, k, 1), 0.0, out);
  };
  const auto solve = [&](MatrixView<double> v) {
    clear_rest();
    axpby<double, double>(exec, 1.0, v, 0.0, head);
    cholesky_solve_half<double>(exec, Trans::no, l, x.view());
    // L^-1 fills what lies behind, and L^-T of zeros there is the inverse of the leading block.
    clear_rest();
    cholesky_solve_half<double>(exec, Trans::yes, l, x.view());
    axpby<double, double>(exec, 1.0, head, 0.0, v);
  };
  estimate_condition(exec, k, apply, solve, report);
}

}  // namespace

std::vector<Solution> prefix_solutions(const GramState& state, const std::vector<std::int64_t>& widths, double ridge,
                                       bool standardize) {
  const std::int64_t d = state.n_features(), c = state.n_outputs();
  for (const std::int64_t k : widths)
    GRAMIAN_REQUIRE(k >= 1 && k <= d, invalid_argument,
                    "widths must lie in 1 .. " + std::to_string(d) + ", got " + std::to_string(k));
  const RidgeFactor factor(state, ridge, standardize);
  const Exec& exec = factor.exec();
  const CentredGram a(state.sums(), ridge, standardize);
  std::vector<double> z(static_cast<std::size_t>(d * c)), b(z.size()), image(z.size());
  download<double>(exec, factor.z(), {z.data(), d, c});
  const Array<double> right = a.right_hand_side();
  download<double>(exec, right.view(), {b.data(), d, c});
  std::vector<Solution> out;
  for (const std::int64_t k : widths) {
    exec.poll();
    const auto used = static_cast<std::size_t>(k * c);
    // L^-T of columns that end in zeros ends in zeros: the leading block is solved by the whole factor.
    std::vector<double> w(static_cast<std::size_t>(d * c), 0.0);
    std::copy_n(z.begin(), used, w.begin());
    Array<double> device(exec, d, c), product(exec, d, c);
    upload<double>(exec, {w.data(), d, c}, device.view());
    cholesky_solve_half<double>(exec, Trans::yes, factor.factor(), device.view());
    a.apply(exec, device.view(), product.view());
    download<double>(exec, device.view(), {w.data(), d, c});
    download<double>(exec, product.view(), {image.data(), d, c});
    Solution solution;
    double off = 0, size = 0, target = 0;
    for (std::size_t i = 0; i < used; ++i) {
      off += (b[i] - image[i]) * (b[i] - image[i]);
      size += image[i] * image[i];
      target += b[i] * b[i];
    }
    const double scale = std::sqrt(size) + std::sqrt(target);
    SolveReport& report = solution.report;
    estimate_leading(exec, a, factor.factor(), k, report);
    report.method = "cholesky";
    report.form = "primal";
    report.ridge = ridge;
    report.size = report.rank = k;
    report.residual = scale > 0 ? std::sqrt(off) / scale : 0.0;
    std::vector<double> coef(used);
    solution.intercept = factor.target_mean();
    for (std::int64_t j = 0; j < k; ++j)
      for (std::int64_t m = 0; m < c; ++m) {
        const double value = w[static_cast<std::size_t>(j * c + m)] * factor.scale()[static_cast<std::size_t>(j)];
        coef[static_cast<std::size_t>(m * k + j)] = value;
        solution.intercept[static_cast<std::size_t>(m)] -= value * factor.mean()[static_cast<std::size_t>(j)];
      }
    report.removal_bound = removal_bound(state.sums(), factor.scale(), k, ridge, report.smallest_eigenvalue, coef);
    solution.coef = Array<double>(exec, c, k);
    upload<double>(exec, {coef.data(), c, k}, solution.coef.view());
    out.push_back(std::move(solution));
  }
  return out;
}

std::vector<double> nested_losses(const GramState& state, const RidgeFactor& factor) {
  const std::int64_t d = factor.n_features(), c = factor.n_outputs();
  std::vector<double> z(static_cast<std::size_t>(d * c)), out;
  download<double>(factor.exec(), factor.z(), {z.data(), d, c});
  double left = 0;
  for (std::int64_t k = 0; k < c; ++k) left += state.sums().centred_energy(static_cast<std::size_t>(k));
  for (std::int64_t j = 0; j < d; ++j) {
    for (std::int64_t k = 0; k < c; ++k) {
      const double value = z[static_cast<std::size_t>(j * c + k)];
      left -= value * value;
    }
    out.push_back(std::max(0.0, left));
  }
  return out;
}

NestedCurve nested_curve(const GramState& state, const RidgeFactor& factor, const LabelledRows& rows) {
  check_rows(factor, rows);
  double weights = 0;
  for (std::int64_t r = 0; r < rows.x.rows; ++r) weights += weight_of(rows.weight, r);
  GRAMIAN_REQUIRE(weights > 0, invalid_argument, "X has no rows of positive weight");
  NestedCurve curve;
  const bool single = state.options().products == DType::f32;
  curve.scores = single ? loo_sums<float>(factor, rows) : loo_sums<double>(factor, rows);
  for (double& score : curve.scores) score /= weights;
  curve.losses = nested_losses(state, factor);
  const auto best = std::min_element(curve.scores.begin(), curve.scores.end());
  curve.best = best - curve.scores.begin() + 1;
  return curve;
}

}  // namespace gramian
