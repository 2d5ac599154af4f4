// Features that come and go in a state: the sums get a border or lose rows and columns.

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gram/gram_sums.h"
#include "gramian/gram/gram_state.hpp"
#include "gramian/linalg/elementwise.hpp"

namespace gramian {

namespace {

constexpr std::int64_t kBlockRows = 2048;
// Sums of the same rows agree far better, sums of others do not.
constexpr double kSameRows = 1e-6;

// The sums of all but the features, for a state of another width.
void copy_rest(const GramState::Sums& from, GramState::Sums& to) {
  to.t = from.t;
  to.target_shift = from.target_shift;
  to.energy = from.energy;
  to.counts = from.counts;
  to.n_rows = from.n_rows;
  to.weight_sum = from.weight_sum;
  to.weighted_rows = from.weighted_rows;
  to.products_when_empty = from.products_when_empty;
  to.shift_known = from.shift_known;
  to.kind = from.kind;
  to.float_shift = from.float_shift;
  to.mutable_largest_trace() = from.largest_trace();
  to.largest_energy = from.largest_energy;
  to.longest_sum = from.longest_sum;
  to.operations = from.operations;
  to.removed = from.removed;
}

// What the new features add, by blocks of rows.
struct Border {
  Border(const Exec& exec, std::int64_t d, std::int64_t k, std::int64_t c)
      : gram(exec, k, d + k), cross(exec, c, k), s(static_cast<std::size_t>(d + k), 0.0) {
    axpby<double, double>(exec, 0.0, {}, 0.0, gram.view());
    axpby<double, double>(exec, 0.0, {}, 0.0, cross.view());
  }
  Array<double> gram;     // k x (d + k)
  Array<double> cross;    // c x k
  std::vector<double> s;  // d + k; the first d for comparison
  std::vector<std::int64_t> counts;
  std::int64_t n_rows = 0;
};

}  // namespace

void GramState::append_features(const RowsView& x, const Targets& y, const double* weight) {
  const Sums& old = *sums_;
  const Exec& exec = old.exec;
  const std::int64_t d = old.d, k = x.cols - d, c = old.c, n = x.rows;
  GRAMIAN_REQUIRE(k >= 1, shape_mismatch,
                  "X has " + std::to_string(x.cols) + " features: more than the " + std::to_string(d) +
                      " of the state are expected");
  const bool codes = old.kind == Sums::TargetKind::codes;
  GRAMIAN_REQUIRE(c == 0 || (codes ? y.codes != nullptr : y.values != nullptr), invalid_argument,
                  codes ? "y must be class codes, as the state holds" : "y must be numbers, as the state holds");
  GRAMIAN_REQUIRE(c == 0 || codes || (y.values->rows == n && y.values->cols == c), shape_mismatch,
                  "y does not have the shape of the targets of the state");
  auto grown = std::make_unique<Sums>(exec, d + k, c, old.options);
  copy_rest(old, *grown);
  std::copy(old.shift.begin(), old.shift.end(), grown->shift.begin());

  Border border(exec, d, k, c);
  border.counts.assign(static_cast<std::size_t>(c), 0);
  for (std::int64_t begin = 0; begin < n; begin += kBlockRows) {
    exec.poll();
    const std::int64_t count = std::min(kBlockRows, n - begin);
    const RowsView part = x.slice(begin, count);
    std::vector<double> roots(static_cast<std::size_t>(count), 1.0);
    for (std::int64_t r = 0; r < count; ++r) {
      const double w = weight == nullptr ? 1.0 : weight[begin + r];
      GRAMIAN_REQUIRE(std::isfinite(w) && w >= 0, invalid_argument, "sample_weight must be finite and not negative");
      roots[static_cast<std::size_t>(r)] = std::sqrt(w);
      if (w == 0) continue;
      ++border.n_rows;
      if (c == 0 || !codes) continue;
      const std::int64_t code = y.codes[begin + r];
      GRAMIAN_REQUIRE(code >= 0 && code < c, invalid_argument, "class code " + std::to_string(code) + " is no output");
      ++border.counts[static_cast<std::size_t>(code)];
    }
    Array<double> z(exec, count, d + k);
    const MatrixView<double> fresh = z.view().block(0, d, count, k);
    if (begin == 0 && old.options.intercept) {
      // The shift of the new features: their mean in the first block, as that of the others once was.
      load_rows<double>(exec, part, nullptr, nullptr, z.view(), "X");
      const std::vector<double> sums = column_sums<double>(exec, fresh, {});
      for (std::int64_t j = 0; j < k; ++j)
        grown->shift[static_cast<std::size_t>(d + j)] = sums[static_cast<std::size_t>(j)] / static_cast<double>(count);
    }
    load_rows<double>(exec, part, grown->shift.data(), roots.data(), z.view(), "X");
    const std::vector<double> s = column_sums<double>(exec, z.view(), roots);
    for (std::size_t j = 0; j < s.size(); ++j) border.s[j] += s[j];
    gemm<double>(exec, Trans::yes, Trans::no, 1.0, fresh, z.view(), 1.0, border.gram.view());
    if (c == 0) continue;
    if (codes) {
      class_sums<double>(exec, fresh, y.codes + begin, roots, border.cross.view());
    } else {
      Array<double> targets(exec, count, c);
      load_rows<double>(exec, y.values->slice(begin, count), old.target_shift.data(), roots.data(), targets.view(),
                        "y");
      gemm<double>(exec, Trans::yes, Trans::no, 1.0, targets.view(), fresh, 1.0, border.cross.view());
    }
  }
  GRAMIAN_REQUIRE(border.n_rows == old.n_rows && (!codes || border.counts == old.counts), invalid_argument,
                  "new features need the rows that the state is made of: it holds " + std::to_string(old.n_rows) +
                      " rows, X has " + std::to_string(border.n_rows) + " (or other rows per class)");
  std::vector<double> diagonal(static_cast<std::size_t>(d));
  old.g().diagonal(exec, diagonal.data());
  for (std::size_t j = 0; j < diagonal.size(); ++j)
    GRAMIAN_REQUIRE(std::abs(border.s[j] - old.s[j]) <= kSameRows * std::sqrt(old.weight_sum * diagonal[j]),
                    invalid_argument,
                    "new features need the rows that the state is made of: feature " + std::to_string(j) +
                        " of these rows has another sum");

  std::vector<double> rows(static_cast<std::size_t>(k * (d + k)));
  download<double>(exec, border.gram.view(), {rows.data(), k, d + k});
  std::vector<double> packed(static_cast<std::size_t>((d + k) * (d + k + 1) / 2));
  old.g().pack(exec, packed.data());  // the old rows come first in the new triangle too
  for (std::int64_t i = 0; i < k; ++i)
    std::copy_n(rows.data() + i * (d + k), d + i + 1, packed.data() + (d + i) * (d + i + 1) / 2);
  grown->mutable_g().unpack(exec, packed.data());
  if (c > 0) {
    axpby<double, double>(exec, 1.0, old.q.view(), 0.0, grown->q.view().block(0, 0, c, d));
    axpby<double, double>(exec, 1.0, border.cross.view(), 0.0, grown->q.view().block(0, d, c, k));
  }
  std::copy(old.s.begin(), old.s.end(), grown->s.begin());
  std::copy(border.s.begin() + d, border.s.end(), grown->s.begin() + d);
  std::copy(old.largest_diagonal().begin(), old.largest_diagonal().end(), grown->mutable_largest_diagonal().begin());
  grown->longest_sum = std::max(grown->longest_sum, std::min(n, kBlockRows));
  grown->note_trace();
  sums_ = std::move(grown);
}

void GramState::delete_features(const std::vector<std::int64_t>& features) {
  const Sums& old = *sums_;
  const Exec& exec = old.exec;
  const std::int64_t d = old.d, c = old.c;
  std::vector<std::int64_t> kept;
  std::size_t next = 0;
  for (std::int64_t j = 0; j < d; ++j) {
    if (next < features.size() && features[next] == j) {
      ++next;
    } else {
      kept.push_back(j);
    }
  }
  GRAMIAN_REQUIRE(next == features.size(), invalid_argument,
                  "the features to delete must be places in the state, ascending, each once");
  GRAMIAN_REQUIRE(!kept.empty(), invalid_argument, "a state needs at least one feature");
  const auto left = static_cast<std::int64_t>(kept.size());
  auto smaller = std::make_unique<Sums>(exec, left, c, old.options);
  copy_rest(old, *smaller);
  std::vector<double> packed(static_cast<std::size_t>(d * (d + 1) / 2)), chosen;
  old.g().pack(exec, packed.data());
  chosen.reserve(static_cast<std::size_t>(left * (left + 1) / 2));
  for (std::size_t i = 0; i < kept.size(); ++i)
    for (std::size_t j = 0; j <= i; ++j)
      chosen.push_back(packed[static_cast<std::size_t>(kept[i] * (kept[i] + 1) / 2 + kept[j])]);
  smaller->mutable_g().unpack(exec, chosen.data());
  std::vector<double> cross(static_cast<std::size_t>(c * d)), cross_left(static_cast<std::size_t>(c * left));
  download<double>(exec, old.q.view(), {cross.data(), c, d});
  for (std::int64_t r = 0; r < c; ++r)
    for (std::int64_t j = 0; j < left; ++j)
      cross_left[static_cast<std::size_t>(r * left + j)] =
          cross[static_cast<std::size_t>(r * d + kept[static_cast<std::size_t>(j)])];
  upload<double>(exec, {cross_left.data(), c, left}, smaller->q.view());
  for (std::size_t j = 0; j < kept.size(); ++j) {
    const auto from = static_cast<std::size_t>(kept[j]);
    smaller->s[j] = old.s[from];
    smaller->shift[j] = old.shift[from];
    smaller->mutable_largest_diagonal()[j] = old.largest_diagonal()[from];
  }
  smaller->note_trace();
  sums_ = std::move(smaller);
}

}  // namespace gramian
