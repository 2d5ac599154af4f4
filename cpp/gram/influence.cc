#include "gramian/gram/influence.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

namespace {

constexpr int kMostIterations = 40;
constexpr double kEigenvalueDigits = 1e-3;

// Smallest eigenvalue of L L' by inverse iteration: from above, to about kEigenvalueDigits.
double smallest_eigenvalue(const Exec& exec, const SymmetricMatrix<double>& l) {
  const std::int64_t n = l.size();
  // A start that no eigenvector of a structured matrix is orthogonal to.
  std::vector<double> x(static_cast<std::size_t>(n));
  double size = 0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    const double turn = 0.6180339887498949 * static_cast<double>(k + 1);
    x[k] = 0.25 + turn - std::floor(turn);
    size += x[k] * x[k];
  }
  Array<double> y(exec, n, 1);
  double previous = std::numeric_limits<double>::infinity();
  for (int step = 0; step < kMostIterations; ++step) {
    for (double& value : x) value /= std::sqrt(size);
    upload<double>(exec, {x.data(), n, 1}, y.view());
    cholesky_solve_half<double>(exec, Trans::no, l, y.view());
    cholesky_solve_half<double>(exec, Trans::yes, l, y.view());
    download<double>(exec, y.view(), {x.data(), n, 1});
    size = 0;
    for (const double value : x) size += value * value;
    const double found = 1.0 / std::sqrt(size);  // |A^-1 x| <= 1 / smallest
    if (!(found > 0) || previous - found < kEigenvalueDigits * found) return found;
    previous = found;
  }
  return previous;
}

std::string name_of_group(std::int64_t group, std::int64_t begin, std::int64_t end) {
  return "group " + std::to_string(group) + " (rows " + std::to_string(begin) + " to " + std::to_string(end - 1) + ")";
}

[[noreturn]] void refuse(const std::string& group, double smallest) {
  throw Error(ErrorCode::not_positive_definite,
              group + " cannot be left out of the fit by its factor: the smallest eigenvalue of I - H_SS is " +
                  (smallest > 0 ? std::to_string(smallest / kSmallestLeftOver) + "e-8" : std::string("not positive")) +
                  ", below 1e-8, so the remaining rows do not determine the answer to working precision; remove the "
                  "rows from the sums (forget) and solve again, or use a larger ridge");
}

// Targets of rows [begin, begin + count) as doubles, count x outputs.
std::vector<double> host_targets(const Targets& y, std::int64_t begin, std::int64_t count, std::int64_t outputs) {
  std::vector<double> out(static_cast<std::size_t>(count * outputs), 0.0);
  if (y.codes != nullptr) {
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t code = y.codes[begin + r];
      // A class that the fit does not know has no output: its rows count as rows of none of the others.
      if (code >= 0 && code < outputs) out[static_cast<std::size_t>(r * outputs + code)] = 1;
    }
    return out;
  }
  load_rows<double>(Exec(Device::cpu, 1), y.values->slice(begin, count), nullptr, nullptr, {out.data(), count, outputs},
                    "y");
  return out;
}

void check_targets(const RowsView& x, const Targets& y, std::int64_t outputs) {
  GRAMIAN_REQUIRE((y.codes != nullptr) != (y.values != nullptr), invalid_argument, "y is missing");
  if (y.values == nullptr) return;
  GRAMIAN_REQUIRE(y.values->rows == x.rows && y.values->cols == outputs, shape_mismatch,
                  "y has shape (" + std::to_string(y.values->rows) + ", " + std::to_string(y.values->cols) +
                      "), but (" + std::to_string(x.rows) + ", " + std::to_string(outputs) + ") is expected");
}

// Square roots of weights; empty for ones.
std::vector<double> roots_of(const double* weight, std::int64_t begin, std::int64_t count) {
  std::vector<double> out;
  for (std::int64_t r = begin; weight != nullptr && r < begin + count; ++r) {
    GRAMIAN_REQUIRE(std::isfinite(weight[r]) && weight[r] >= 0, invalid_argument,
                    "sample_weight must be finite and not negative; row " + std::to_string(r) + " has " +
                        std::to_string(weight[r]));
    out.push_back(std::sqrt(weight[r]));
  }
  return out;
}

void scale_host_rows(const std::vector<double>& by, MatrixView<double> x) {
  if (by.empty()) return;
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t k = 0; k < x.cols; ++k) x(r, k) *= by[static_cast<std::size_t>(r)];
}

}  // namespace

void leave_groups_out(const Exec& exec, MatrixView<const double> p, const std::vector<std::int64_t>& offsets,
                      MatrixView<double> r, double* smallest, std::int64_t first_group) {
  GRAMIAN_REQUIRE(!offsets.empty() && offsets.front() == 0 && offsets.back() == p.rows && r.rows == p.rows,
                  shape_mismatch, "leave_groups_out: offsets, rows and residuals do not fit");
  const auto groups = static_cast<std::int64_t>(offsets.size()) - 1;
  exec.parallel_for(groups, [&](std::int64_t g) {
    const std::int64_t begin = offsets[static_cast<std::size_t>(g)], end = offsets[static_cast<std::size_t>(g + 1)];
    if (smallest != nullptr) smallest[g] = 1;
    if (begin == end) return;
    SymmetricMatrix<double> m(exec, end - begin);
    m.add_diagonal(exec, 1.0);
    outer_gram_update(exec, -1.0, p.block(begin, 0, end - begin, p.cols), m);
    const std::int64_t pivot = cholesky(exec, m);
    const double least = pivot == 0 ? smallest_eigenvalue(exec, m) : 0.0;
    if (!(least >= kSmallestLeftOver)) refuse(name_of_group(first_group + g, begin, end), least);
    if (smallest != nullptr) smallest[g] = least;
    const MatrixView<double> mine = r.block(begin, 0, end - begin, r.cols);
    cholesky_solve_half<double>(exec, Trans::no, m, mine);
    cholesky_solve_half<double>(exec, Trans::yes, m, mine);
  });
}

GroupInfluence::GroupInfluence(RidgeFactor factor, FeatureMapPtr map)
    : factor_(std::move(factor)), map_(std::move(map)) {
  const std::int64_t d = factor_.n_features(), c = factor_.n_outputs();
  GRAMIAN_REQUIRE(map_ == nullptr || map_->n_features() == d, shape_mismatch,
                  "the feature map makes another number of features than the factor has");
  const Exec& exec = factor_.exec();
  z_ = Array<double>(exec, width(), c);
  axpby<double, double>(exec, 1.0, factor_.z(), 0.0, z_.view().block(0, 0, d, c));
  if (!factor_.intercept()) return;
  // The mean target as one more weight: f(x) = v'Z + mean = u' (Z, sqrt(sum w) mean).
  std::vector<double> last = factor_.target_mean();
  for (double& value : last) value *= std::sqrt(factor_.weight_sum());
  upload<double>(exec, {last.data(), 1, c}, z_.view().block(d, 0, 1, c));
}

std::int64_t GroupInfluence::n_inputs() const {
  return map_ ? map_->n_inputs() : factor_.n_features();
}

std::int64_t GroupInfluence::width() const {
  return factor_.n_features() + (factor_.intercept() ? 1 : 0);
}

void GroupInfluence::whiten(const RowsView& x, MatrixView<double> out, const char* name) const {
  const std::int64_t d = factor_.n_features();
  GRAMIAN_REQUIRE(out.rows == x.rows && out.cols == width(), shape_mismatch, "whiten: the output has another shape");
  factor_.whiten(x, map_.get(), out.block(0, 0, x.rows, d), name);
  if (!factor_.intercept()) return;
  const std::vector<double> one(static_cast<std::size_t>(x.rows), 1.0 / std::sqrt(factor_.weight_sum()));
  upload<double>(factor_.exec(), {one.data(), x.rows, 1}, out.block(0, d, x.rows, 1));
}

void GroupInfluence::scores(MatrixView<const double> u, MatrixView<double> out) const {
  gemm<double>(factor_.exec(), Trans::no, Trans::no, 1.0, u, z_.view(), 0.0, out);
}

// Groups that are worked on together.
struct GroupInfluence::Block {
  std::int64_t first_group, groups, first_row, rows;
  MatrixView<double> u;           // rows x width, device, not weighted
  MatrixView<double> change;      // (groups * outputs) x width, device: e'P, so that f_{-S}(x) = f(x) - change u(x)
  std::vector<double> roots;      // of the weights; empty: ones
  std::vector<double> left;       // rows x outputs, host: e, weighted
  std::vector<double> residuals;  // rows x outputs, host: y - f(x), not weighted
};

template <class Body>
void GroupInfluence::each_block(const GroupedRows& in, std::vector<double>& smallest, const Body& body) const {
  const Exec& exec = factor_.exec();
  const std::int64_t c = n_outputs(), m = width();
  const auto groups = static_cast<std::int64_t>(in.offsets.size()) - 1;
  GRAMIAN_REQUIRE(groups >= 0 && in.offsets.front() == 0 && in.offsets.back() == in.x.rows &&
                      std::is_sorted(in.offsets.begin(), in.offsets.end()),
                  invalid_argument, "the offsets of the groups must rise from 0 to the number of rows");
  GRAMIAN_REQUIRE(
      in.x.cols == n_inputs(), shape_mismatch,
      "rows_X has " + std::to_string(in.x.cols) + " features, but " + std::to_string(n_inputs()) + " are expected");
  check_targets(in.x, in.y, c);
  smallest.assign(static_cast<std::size_t>(groups), 1.0);
  // About 32 MiB of rows and of changes at a time; one group is never cut.
  const std::int64_t most = std::max<std::int64_t>(1, (std::int64_t{1} << 22) / m);
  for (std::int64_t first = 0; first < groups;) {
    exec.poll();
    const std::int64_t begin = in.offsets[static_cast<std::size_t>(first)];
    std::int64_t last = first + 1;
    while (last < groups && in.offsets[static_cast<std::size_t>(last + 1)] - begin <= most &&
           (last + 1 - first) * c <= most)
      ++last;
    Block block{};
    block.first_group = first;
    block.groups = last - first;
    block.first_row = begin;
    block.rows = in.offsets[static_cast<std::size_t>(last)] - begin;
    const std::int64_t n = block.rows;
    Array<double> u(exec, n, m), weighted, r(exec, n, c), change(exec, block.groups * c, m);
    block.u = u.view();
    block.roots = roots_of(in.weight, begin, n);
    whiten(in.x.slice(begin, n), u.view(), "rows_X");
    scores(u.view(), r.view());
    block.residuals = host_targets(in.y, begin, n, c);
    block.left.resize(block.residuals.size());
    download<double>(exec, r.view(), {block.left.data(), n, c});
    for (std::size_t k = 0; k < block.left.size(); ++k) block.residuals[k] -= block.left[k];
    block.left = block.residuals;
    MatrixView<double> p = u.view();
    if (!block.roots.empty()) {
      scale_host_rows(block.roots, {block.left.data(), n, c});
      weighted = Array<double>(exec, n, m);
      p = weighted.view();
      axpby<double, double>(exec, 1.0, u.view(), 0.0, p);
      scale_rows<double>(exec, block.roots, p);
    }
    upload<double>(exec, {block.left.data(), n, c}, r.view());
    std::vector<std::int64_t> offsets;
    for (std::int64_t g = first; g <= last; ++g) offsets.push_back(in.offsets[static_cast<std::size_t>(g)] - begin);
    leave_groups_out(exec, p, offsets, r.view(), smallest.data() + first, first);
    download<double>(exec, r.view(), {block.left.data(), n, c});
    exec.parallel_for(block.groups, [&](std::int64_t g) {
      const std::int64_t from = offsets[static_cast<std::size_t>(g)];
      const std::int64_t count = offsets[static_cast<std::size_t>(g + 1)] - from;
      gemm<double>(exec, Trans::yes, Trans::no, 1.0, r.view().block(from, 0, count, c), p.block(from, 0, count, m), 0.0,
                   change.view().block(g * c, 0, c, m));
    });
    block.change = change.view();
    body(block);
    first = last;
  }
}

void GroupInfluence::leave_out(const GroupedRows& rows, MatrixView<double> residuals,
                               std::vector<double>& smallest) const {
  const std::int64_t c = n_outputs();
  GRAMIAN_REQUIRE(residuals.rows == rows.x.rows && residuals.cols == c, shape_mismatch,
                  "leave_out: the output has another shape");
  const Exec& exec = factor_.exec();
  each_block(rows, smallest, [&](const Block& block) {
    // Rows of weight 0 are not in the fit, but the rest of their group is: y - f_{-S}(x) from the change of f.
    const bool absent = std::any_of(block.roots.begin(), block.roots.end(), [](double root) { return root == 0; });
    std::vector<double> by(absent ? static_cast<std::size_t>(block.rows * block.groups * c) : 0);
    if (absent) {
      Array<double> product(exec, block.rows, block.groups * c);
      gemm<double>(exec, Trans::no, Trans::yes, 1.0, block.u, block.change, 0.0, product.view());
      download<double>(exec, product.view(), {by.data(), block.rows, block.groups * c});
    }
    for (std::int64_t g = 0; g < block.groups; ++g) {
      const auto at = static_cast<std::size_t>(block.first_group + g);
      for (std::int64_t i = rows.offsets[at]; i < rows.offsets[at + 1]; ++i) {
        const std::int64_t r = i - block.first_row;
        const double root = block.roots.empty() ? 1.0 : block.roots[static_cast<std::size_t>(r)];
        for (std::int64_t k = 0; k < c; ++k) {
          const auto cell = static_cast<std::size_t>(r * c + k);
          residuals(i, k) =
              root > 0 ? block.left[cell] / root
                       : block.residuals[cell] + by[static_cast<std::size_t>(r * block.groups * c + g * c + k)];
        }
      }
    }
  });
}

void GroupInfluence::effects(const GroupedRows& rows, const RowsView& queries, MatrixView<double> out,
                             std::vector<double>& smallest) const {
  const Exec& exec = factor_.exec();
  const std::int64_t c = n_outputs(), q = queries.rows;
  const auto groups = static_cast<std::int64_t>(rows.offsets.size()) - 1;
  GRAMIAN_REQUIRE(out.rows == groups * q && out.cols == c, shape_mismatch, "effects: the output has another shape");
  Array<double> u(exec, q, width());
  whiten(queries, u.view(), "X");
  each_block(rows, smallest, [&](const Block& block) {
    const std::int64_t n = block.groups * c;
    Array<double> product(exec, n, q);
    gemm<double>(exec, Trans::no, Trans::yes, -1.0, block.change, u.view(), 0.0, product.view());
    std::vector<double> host(static_cast<std::size_t>(n * q));
    download<double>(exec, product.view(), {host.data(), n, q});
    for (std::int64_t g = 0; g < block.groups; ++g)
      for (std::int64_t j = 0; j < q; ++j)
        for (std::int64_t k = 0; k < c; ++k)
          out((block.first_group + g) * q + j, k) = host[static_cast<std::size_t>((g * c + k) * q + j)];
  });
}

void GroupInfluence::weight_changes(const GroupedRows& rows, MatrixView<double> coef, MatrixView<double> intercept,
                                    std::vector<double>& smallest) const {
  const std::int64_t d = factor_.n_features(), c = n_outputs(), m = width();
  const auto groups = static_cast<std::int64_t>(rows.offsets.size()) - 1;
  GRAMIAN_REQUIRE(coef.rows == groups * c && coef.cols == d && intercept.rows == groups && intercept.cols == c,
                  shape_mismatch, "weight_changes: the outputs have other shapes");
  each_block(rows, smallest, [&](const Block& block) {
    const std::int64_t n = block.groups * c;
    std::vector<double> host(static_cast<std::size_t>(n * m));
    download<double>(factor_.exec(), block.change, {host.data(), n, m});
    for (double& value : host) value = -value;
    const MatrixView<double> mine = coef.block(block.first_group * c, 0, n, d);
    factor_.weights_of(MatrixView<const double>(host.data(), n, d, m), mine);
    for (std::int64_t r = 0; r < n; ++r) {
      double constant = m > d ? host[static_cast<std::size_t>(r * m + d)] / std::sqrt(factor_.weight_sum()) : 0.0;
      for (std::int64_t j = 0; j < d; ++j) constant -= mine(r, j) * factor_.mean()[static_cast<std::size_t>(j)];
      intercept(block.first_group + r / c, r % c) = constant;
    }
  });
}

void GroupInfluence::scores_without(const GroupedRows& rows, const RowsView& queries, MatrixView<double> out) const {
  const Exec& exec = factor_.exec();
  const std::int64_t d = factor_.n_features(), c = n_outputs(), m = width(), n = queries.rows;
  GRAMIAN_REQUIRE(rows.offsets.size() == 2, invalid_argument, "one group is needed");
  GRAMIAN_REQUIRE(out.rows == n && out.cols == c, shape_mismatch, "scores_without: the output has another shape");
  GRAMIAN_REQUIRE(
      queries.cols == n_inputs(), shape_mismatch,
      "X has " + std::to_string(queries.cols) + " features, but " + std::to_string(n_inputs()) + " are expected");
  // f_{-S}(x) = u(x)'(z - P_S'e): the weights behind that, in the units of the features around their mean.
  std::vector<double> z(static_cast<std::size_t>(m * c)), change(z.size()), smallest;
  download<double>(exec, z_.view(), {z.data(), m, c});
  each_block(rows, smallest, [&](const Block& block) { download<double>(exec, block.change, {change.data(), c, m}); });
  for (std::int64_t k = 0; k < c; ++k)
    for (std::int64_t j = 0; j < m; ++j) {
      double& value = change[static_cast<std::size_t>(k * m + j)];
      value = z[static_cast<std::size_t>(j * c + k)] - value;
    }
  std::vector<double> host(static_cast<std::size_t>(c * d)), constant(static_cast<std::size_t>(c), 0.0);
  factor_.weights_of(MatrixView<const double>(change.data(), c, d, m), {host.data(), c, d});
  for (std::int64_t k = 0; m > d && k < c; ++k)
    constant[static_cast<std::size_t>(k)] =
        change[static_cast<std::size_t>(k * m + d)] / std::sqrt(factor_.weight_sum());
  Array<double> coef(exec, c, d), negative_mean;
  upload<double>(exec, {host.data(), c, d}, coef.view());
  std::vector<double> minus = factor_.mean();
  for (double& value : minus) value = -value;
  negative_mean = Array<double>(exec, d);
  upload<double>(exec, {minus.data(), 1, d}, negative_mean.view());
  const std::int64_t edge =
      std::min(std::max<std::int64_t>(1, n), std::clamp<std::int64_t>((std::int64_t{1} << 20) / d, 64, 4096));
  Array<double> features(exec, edge, d), scored(exec, edge, c);
  for (std::int64_t begin = 0; begin < n; begin += edge) {
    exec.poll();
    const std::int64_t q = std::min(edge, n - begin);
    const MatrixView<double> block = features.view().block(0, 0, q, d);
    if (map_ == nullptr) {
      load_rows<double>(exec, queries.slice(begin, q), factor_.mean().data(), nullptr, block, "X");
    } else {
      map_->transform(exec, queries.slice(begin, q), block);
      activate<double>(exec, Activation::identity, negative_mean.data(), 1.0, block);
    }
    const MatrixView<double> mine = scored.view().block(0, 0, q, c);
    gemm<double>(exec, Trans::no, Trans::yes, 1.0, block, coef.view(), 0.0, mine);
    download<double>(exec, mine, out.block(begin, 0, q, c));
  }
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t k = 0; k < c; ++k) out(r, k) += constant[static_cast<std::size_t>(k)];
}

GroupInfluence::Ranking GroupInfluence::harmful_rows(const RowsView& x, const Targets& y, const double* weight,
                                                     const RowsView& queries, const RowsView& query_targets,
                                                     std::int64_t count, bool greedy) const {
  const Exec& exec = factor_.exec();
  const std::int64_t n = x.rows, m = width(), c = n_outputs(), q = queries.rows;
  check_targets(x, y, c);
  check_targets(queries, Targets::of_values(query_targets), c);
  const auto size = [](std::int64_t a, std::int64_t b) { return static_cast<std::size_t>(a * b); };

  // Errors of the queries, g = y - f(x), and their whitened rows.
  Array<double> uq(exec, q, m), scored(exec, q, c);
  whiten(queries, uq.view(), "X");
  scores(uq.view(), scored.view());
  std::vector<double> g = host_targets(Targets::of_values(query_targets), 0, q, c), fitted(size(q, c));
  download<double>(exec, scored.view(), {fitted.data(), q, c});
  for (std::size_t k = 0; k < g.size(); ++k) g[k] -= fitted[k];

  // Of the candidates: P, weighted residuals r, leverages h, and P u(x) of the queries.
  const std::vector<double> roots = roots_of(weight, 0, n);
  Array<double> p(exec, n, m), of_rows(exec, n, c), cross(exec, n, q), leverage(exec, n);
  whiten(x, p.view(), "rows_X");
  scores(p.view(), of_rows.view());
  if (!roots.empty()) scale_rows<double>(exec, roots, p.view());
  gemm<double>(exec, Trans::no, Trans::yes, 1.0, p.view(), uq.view(), 0.0, cross.view());
  row_sumsq<double>(exec, p.view(), leverage.data());
  std::vector<double> r = host_targets(y, 0, n, c), h(size(n, 1)), a(size(n, q)), f(size(n, c));
  download<double>(exec, of_rows.view(), {f.data(), n, c});
  download<double>(exec, cross.view(), {a.data(), n, q});
  download<double>(exec, leverage.view(), {h.data(), 1, n});
  for (std::size_t k = 0; k < r.size(); ++k) r[k] -= f[k];
  scale_host_rows(roots, {r.data(), n, c});

  // Sum over queries and outputs of (g + a_i e_i)^2 with e_i = r_i / (1 - h_i).
  std::vector<bool> taken(static_cast<std::size_t>(n), false);
  const auto loss_of = [&](std::int64_t i) {
    const auto row = static_cast<std::size_t>(i);
    const double left = 1 - h[row];
    if (taken[row] || left < kSmallestLeftOver || (!roots.empty() && roots[row] == 0))
      return std::numeric_limits<double>::infinity();
    double total = 0;
    for (std::int64_t j = 0; j < q; ++j)
      for (std::int64_t k = 0; k < c; ++k) {
        const double error =
            g[size(j, c) + static_cast<std::size_t>(k)] +
            a[size(i, q) + static_cast<std::size_t>(j)] * r[size(i, c) + static_cast<std::size_t>(k)] / left;
        total += error * error;
      }
    return total;
  };
  constexpr std::int64_t kRows = 1024;
  std::vector<double> losses(static_cast<std::size_t>(n));
  const auto all_losses = [&] {
    exec.parallel_for((n + kRows - 1) / kRows, [&](std::int64_t task) {
      for (std::int64_t i = task * kRows; i < std::min(n, (task + 1) * kRows); ++i)
        losses[static_cast<std::size_t>(i)] = loss_of(i);
    });
  };

  Ranking out;
  for (const double error : g) out.loss_before += error * error;
  if (!greedy) {
    all_losses();
    std::vector<std::int64_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t one, std::int64_t two) {
      return losses[static_cast<std::size_t>(one)] < losses[static_cast<std::size_t>(two)];
    });
    for (const std::int64_t i : order) {
      if (static_cast<std::int64_t>(out.rows.size()) == count || !std::isfinite(losses[static_cast<std::size_t>(i)]))
        break;
      out.rows.push_back(i);
      out.loss.push_back(losses[static_cast<std::size_t>(i)]);
    }
    return out;
  }

  // Row j gone, H becomes H + k k' / (1 - h_j) with k = H[:, j], and r and P u(x) follow: a Cholesky factor of I - H
  // that grows by the column of the chosen row.
  std::vector<std::vector<double>> columns;  // k / sqrt(1 - h_j) of the rows gone
  Array<double> product(exec, n, 1);
  double loss = out.loss_before;
  while (static_cast<std::int64_t>(out.rows.size()) < count) {
    exec.poll();
    all_losses();
    const auto best = std::min_element(losses.begin(), losses.end());
    if (best == losses.end() || !(*best < loss)) break;
    const std::int64_t j = best - losses.begin();
    const auto at = static_cast<std::size_t>(j);
    loss = *best;
    out.rows.push_back(j);
    out.loss.push_back(loss);
    taken[at] = true;
    std::vector<double> column(static_cast<std::size_t>(n));
    gemm<double>(exec, Trans::no, Trans::yes, 1.0, p.view(), p.view().block(j, 0, 1, m), 0.0, product.view());
    download<double>(exec, product.view(), {column.data(), n, 1});
    for (const std::vector<double>& before : columns) {
      const double factor = before[at];
      for (std::size_t i = 0; i < column.size(); ++i) column[i] += before[i] * factor;
    }
    const double left = 1 - h[at];
    const std::vector<double> of_row(r.begin() + j * c, r.begin() + (j + 1) * c);
    const std::vector<double> of_queries(a.begin() + j * q, a.begin() + (j + 1) * q);
    for (std::int64_t k = 0; k < q; ++k)
      for (std::int64_t o = 0; o < c; ++o)
        g[size(k, c) + static_cast<std::size_t>(o)] +=
            of_queries[static_cast<std::size_t>(k)] * of_row[static_cast<std::size_t>(o)] / left;
    exec.parallel_for((n + kRows - 1) / kRows, [&](std::int64_t task) {
      for (std::int64_t i = task * kRows; i < std::min(n, (task + 1) * kRows); ++i) {
        const auto row = static_cast<std::size_t>(i);
        const double factor = column[row] / left;
        for (std::size_t o = 0; o < of_row.size(); ++o) r[size(i, c) + o] += factor * of_row[o];
        for (std::size_t k = 0; k < of_queries.size(); ++k) a[size(i, q) + k] += factor * of_queries[k];
        h[row] += factor * column[row];
        column[row] /= std::sqrt(left);
      }
    });
    columns.push_back(std::move(column));
  }
  return out;
}

}  // namespace gramian
