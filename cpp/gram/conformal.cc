#include "gramian/gram/conformal.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::size_t at(std::int64_t row, std::int64_t cols, std::int64_t col) {
  return static_cast<std::size_t>(row * cols + col);
}

// The rank-th smallest (from 1) of values, which are left in another order.
double order_statistic(std::vector<double>& values, std::int64_t rank) {
  if (rank < 1) return -kInfinity;
  if (rank > static_cast<std::int64_t>(values.size())) return kInfinity;
  std::nth_element(values.begin(), values.begin() + (rank - 1), values.end());
  return values[static_cast<std::size_t>(rank - 1)];
}

// A place on the line where the number of rows that conform changes: by `step` from this value on (opens) or behind it.
struct Event {
  double value;
  int step;  // +1: closed intervals begin here, -1: they end here
  bool operator<(const Event& other) const {
    // Intervals are closed, so at one value the beginnings count before the ends.
    return value < other.value || (value == other.value && step > other.step);
  }
};

// Adds what row i allows: { t : |alpha - beta t| >= gamma |t| }, gamma > 0. `always` counts the rows that hold at
// minus infinity.
void add_row(double alpha, double beta, double gamma, std::vector<Event>& events, std::int64_t& always) {
  const double slope = std::fabs(beta);
  if (alpha == 0) {
    if (slope >= gamma) {
      ++always;
    } else {
      events.push_back({0.0, +1});
      events.push_back({0.0, -1});
    }
    return;
  }
  // alpha - beta t meets -gamma t at `one` and +gamma t at `two`; a division by zero is a root at infinity.
  const double one = beta == gamma ? kInfinity : alpha / (beta - gamma);
  const double two = beta == -gamma ? kInfinity : alpha / (beta + gamma);
  if (slope < gamma) {
    events.push_back({std::min(one, two), +1});
    events.push_back({std::max(one, two), -1});
  } else if (slope > gamma) {
    ++always;
    events.push_back({std::min(one, two), -1});
    events.push_back({std::max(one, two), +1});
  } else {
    // A half line from its one finite end that holds 0.
    const double end = std::isinf(one) ? two : one;
    if (end > 0) {
      ++always;
      events.push_back({end, -1});
    } else {
      events.push_back({end, +1});
    }
  }
}

// The values where more than `excluded` rows hold, the added one counted; `centre` is added to them.
void sweep(std::vector<Event>& events, std::int64_t always, std::int64_t excluded, double centre, IntervalSets& out) {
  std::sort(events.begin(), events.end());
  std::int64_t count = always + 1;
  bool inside = count > excluded;
  if (inside) out.lower.push_back(-kInfinity);
  for (const Event& event : events) {
    count += event.step;
    const bool now = count > excluded;
    if (now == inside) continue;
    (now ? out.lower : out.upper).push_back(centre + event.value);
    inside = now;
  }
  if (inside) out.upper.push_back(kInfinity);
}

}  // namespace

ConformalRows::ConformalRows(GroupInfluence influence, const RowsView& x, const RowsView& y, const std::int64_t* fold,
                             std::int64_t n_folds)
    : influence_(std::move(influence)) {
  const std::int64_t n = x.rows, c = influence_.n_outputs(), m = influence_.width();
  const Exec& exec = influence_.factor().exec();
  GRAMIAN_REQUIRE(n >= 1 && y.rows == n && y.cols == c, shape_mismatch, "X and y do not fit the model");
  order_.resize(static_cast<std::size_t>(n));
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  if (fold != nullptr) {
    offsets_.assign(static_cast<std::size_t>(n_folds + 1), 0);
    for (std::int64_t r = 0; r < n; ++r) {
      GRAMIAN_REQUIRE(fold[r] >= 0 && fold[r] < n_folds, invalid_argument,
                      "fold " + std::to_string(fold[r]) + " of row " + std::to_string(r) + " is not in [0, " +
                          std::to_string(n_folds) + ")");
      ++offsets_[static_cast<std::size_t>(fold[r] + 1)];
    }
    std::partial_sum(offsets_.begin(), offsets_.end(), offsets_.begin());
    std::stable_sort(order_.begin(), order_.end(), [&](std::int64_t a, std::int64_t b) { return fold[a] < fold[b]; });
  }
  // Rows of a fold side by side.
  const auto picked = [&](const RowsView& rows, std::vector<std::int64_t>& index) {
    index = order_;
    if (rows.row_index != nullptr)
      for (std::int64_t& r : index) r = rows.row_index[r];
    RowsView out = rows;
    out.row_index = index.data();
    return out;
  };
  std::vector<std::int64_t> x_index, y_index;
  p_ = Array<double>(exec, n, m);
  influence_.whiten(picked(x, x_index), p_.view(), "X");
  Array<double> fitted(exec, n, c);
  influence_.scores(p_.view(), fitted.view());
  residuals_.resize(static_cast<std::size_t>(n * c));
  std::vector<double> scores(residuals_.size());
  load_rows<double>(Exec(Device::cpu, 1), picked(y, y_index), nullptr, nullptr, {residuals_.data(), n, c}, "y");
  download<double>(exec, fitted.view(), {scores.data(), n, c});
  for (std::size_t k = 0; k < scores.size(); ++k) residuals_[k] -= scores[k];
  prepare();
}

ConformalRows::ConformalRows(GroupInfluence influence, MatrixView<const double> p, MatrixView<const double> residuals,
                             std::vector<std::int64_t> order, std::vector<std::int64_t> offsets)
    : influence_(std::move(influence)), order_(std::move(order)), offsets_(std::move(offsets)) {
  const std::int64_t n = p.rows, c = influence_.n_outputs();
  const bool sorted = offsets_.empty() || (offsets_.front() == 0 && offsets_.back() == n &&
                                           std::is_sorted(offsets_.begin(), offsets_.end()));
  GRAMIAN_REQUIRE(n >= 1 && p.cols == influence_.width() && residuals.rows == n && residuals.cols == c &&
                      static_cast<std::int64_t>(order_.size()) == n && sorted,
                  shape_mismatch, "the rows do not fit the model");
  std::vector<bool> seen(static_cast<std::size_t>(n), false);
  for (const std::int64_t row : order_) {
    const bool fresh = row >= 0 && row < n && !seen[static_cast<std::size_t>(row)];
    GRAMIAN_REQUIRE(fresh, shape_mismatch, "the order of the rows is none");
    seen[static_cast<std::size_t>(row)] = true;
  }
  p_ = Array<double>(influence_.factor().exec(), n, p.cols);
  upload<double>(influence_.factor().exec(), p, p_.view());
  for (std::int64_t r = 0; r < n; ++r) residuals_.insert(residuals_.end(), residuals.row(r), residuals.row(r) + c);
  prepare();
}

// What both constructors end with: leverages, residuals held out, and the change that each fold makes.
void ConformalRows::prepare() {
  const Exec& exec = influence_.factor().exec();
  const std::int64_t n = p_.rows(), c = influence_.n_outputs(), m = p_.cols();
  leverage_ = row_squares<double>(exec, p_.view());
  held_out_ = residuals_;
  if (offsets_.empty()) {
    for (std::int64_t r = 0; r < n; ++r) {
      const double left = 1 - leverage_[static_cast<std::size_t>(r)];
      GRAMIAN_REQUIRE(left >= kSmallestLeftOver, not_positive_definite,
                      "row " + std::to_string(order_[static_cast<std::size_t>(r)]) +
                          " cannot be left out: its leverage is 1 to eight digits, so the other rows do not determine "
                          "the answer there; use a larger ridge");
      for (std::int64_t k = 0; k < c; ++k) held_out_[at(r, c, k)] /= left;
    }
    return;
  }
  const auto folds = static_cast<std::int64_t>(offsets_.size()) - 1;
  Array<double> e(exec, n, c);
  upload<double>(exec, {residuals_.data(), n, c}, e.view());
  try {
    leave_groups_out(exec, p_.view(), offsets_, e.view(), nullptr);
  } catch (const Error& error) {
    // The groups of the message are folds here, and nobody could forget one.
    GRAMIAN_REQUIRE(error.code() != ErrorCode::not_positive_definite, not_positive_definite,
                    "a fold cannot be left out: the other rows do not determine the answer there to working precision; "
                    "use a larger ridge or more folds");
    throw;
  }
  download<double>(exec, e.view(), {held_out_.data(), n, c});
  change_ = Array<double>(exec, folds * c, m);
  fold_of_.resize(static_cast<std::size_t>(n));
  for (std::int64_t g = 0; g < folds; ++g) {
    const std::int64_t begin = offsets_[static_cast<std::size_t>(g)], end = offsets_[static_cast<std::size_t>(g + 1)];
    std::fill(fold_of_.begin() + begin, fold_of_.begin() + end, g);
    const MatrixView<double> change = change_.view().block(g * c, 0, c, m);
    gemm<double>(exec, Trans::yes, Trans::no, 1.0, e.view().block(begin, 0, end - begin, c),
                 p_.view().block(begin, 0, end - begin, m), 0.0, change);
  }
}

// body(first query, queries, scores (queries x outputs), products with the directions (queries x directions), |u|^2),
// all on the host.
template <class Body>
void ConformalRows::each_query_block(const RowsView& x, MatrixView<const double> directions, const Body& body) const {
  const Exec& exec = influence_.factor().exec();
  const std::int64_t c = influence_.n_outputs(), m = influence_.width(), n = directions.rows;
  GRAMIAN_REQUIRE(
      x.cols == influence_.n_inputs(), shape_mismatch,
      "X has " + std::to_string(x.cols) + " features, but " + std::to_string(influence_.n_inputs()) + " are expected");
  const std::int64_t edge =
      std::min(std::max<std::int64_t>(1, x.rows),
               std::clamp<std::int64_t>((std::int64_t{1} << 22) / std::max<std::int64_t>(1, std::max(n, m)), 16, 1024));
  Array<double> u(exec, edge, m), scored(exec, edge, c), product(exec, edge, n), squares(exec, edge);
  std::vector<double> scores(static_cast<std::size_t>(edge * c)), products(static_cast<std::size_t>(edge * n));
  std::vector<double> sizes(static_cast<std::size_t>(edge));
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    exec.poll();
    const std::int64_t q = std::min(edge, x.rows - begin);
    const MatrixView<double> mine = u.view().block(0, 0, q, m);
    influence_.whiten(x.slice(begin, q), mine, "X");
    influence_.scores(mine, scored.view().block(0, 0, q, c));
    gemm<double>(exec, Trans::no, Trans::yes, 1.0, mine, directions, 0.0, product.view().block(0, 0, q, n));
    row_sumsq<double>(exec, mine, squares.data());
    download<double>(exec, scored.view().block(0, 0, q, c), {scores.data(), q, c});
    download<double>(exec, product.view().block(0, 0, q, n), {products.data(), q, n});
    download<double>(exec, {squares.data(), 1, q}, {sizes.data(), 1, q});
    body(begin, q, scores, products, sizes);
  }
}

void ConformalRows::intervals(const RowsView& x, std::int64_t lower_rank, std::int64_t upper_rank, BandRule rule,
                              MatrixView<double> lower, MatrixView<double> upper) const {
  const std::int64_t n = n_rows(), c = influence_.n_outputs();
  const bool folds = !offsets_.empty();
  GRAMIAN_REQUIRE(lower.rows == x.rows && lower.cols == c && upper.rows == x.rows && upper.cols == c, shape_mismatch,
                  "intervals: the outputs have other shapes");
  std::vector<double> margin(static_cast<std::size_t>(c));
  for (std::int64_t k = 0; rule == BandRule::minmax && k < c; ++k) {
    std::vector<double> sizes;
    for (std::int64_t i = 0; i < n; ++i) sizes.push_back(std::fabs(held_out_[at(i, c, k)]));
    margin[static_cast<std::size_t>(k)] = order_statistic(sizes, upper_rank);
  }
  const MatrixView<const double> directions = folds ? change_.view() : p_.view();
  const std::int64_t width = directions.rows;
  each_query_block(
      x, directions,
      [&](std::int64_t first, std::int64_t q, const std::vector<double>& scores, const std::vector<double>& products,
          const std::vector<double>&) {
        influence_.factor().exec().parallel_for(q, [&](std::int64_t j) {
          std::vector<double> low(static_cast<std::size_t>(n)), high(low.size());
          const double* product = products.data() + j * width;
          for (std::int64_t k = 0; k < c; ++k) {
            const double score = scores[at(j, c, k)];
            const bool plus = rule == BandRule::plus;
            for (std::int64_t i = 0; i < n; ++i) {
              const double e = held_out_[at(i, c, k)];
              const double without =
                  score - (folds ? product[fold_of_[static_cast<std::size_t>(i)] * c + k] : product[i] * e);
              const double reach = plus ? std::fabs(e) : 0.0;
              low[static_cast<std::size_t>(i)] = without - reach;
              high[static_cast<std::size_t>(i)] = without + reach;
            }
            if (plus) {
              lower(first + j, k) = order_statistic(low, lower_rank);
              upper(first + j, k) = order_statistic(high, upper_rank);
            } else {
              lower(first + j, k) = *std::min_element(low.begin(), low.end()) - margin[static_cast<std::size_t>(k)];
              upper(first + j, k) = *std::max_element(high.begin(), high.end()) + margin[static_cast<std::size_t>(k)];
            }
          }
        });
      });
}

IntervalSets ConformalRows::sets(const RowsView& x, std::int64_t excluded, bool deleted) const {
  const std::int64_t n = n_rows(), c = influence_.n_outputs();
  IntervalSets out;
  each_query_block(x, p_.view(),
                   [&](std::int64_t, std::int64_t q, const std::vector<double>& scores,
                       const std::vector<double>& products, const std::vector<double>& sizes) {
                     std::vector<IntervalSets> found(static_cast<std::size_t>(q * c));
                     influence_.factor().exec().parallel_for(q, [&](std::int64_t j) {
                       const double more = 1 + sizes[static_cast<std::size_t>(j)];
                       std::vector<Event> events;
                       for (std::int64_t k = 0; k < c; ++k) {
                         events.clear();
                         std::int64_t always = 0;
                         for (std::int64_t i = 0; i < n; ++i) {
                           const double cross = products[at(j, n, i)];
                           // With the row added 1 - h_i grows by c_i^2 / (1 + s); the added row has
                           // 1 - h = 1 / (1 + s).
                           const double scale =
                               deleted ? 1 / (1 - leverage_[static_cast<std::size_t>(i)] + cross * cross / more) : 1.0;
                           add_row(residuals_[at(i, c, k)] * scale, cross / more * scale, deleted ? 1.0 : 1 / more,
                                   events, always);
                         }
                         sweep(events, always, excluded, scores[at(j, c, k)], found[at(j, c, k)]);
                       }
                     });
                     for (const IntervalSets& one : found) {
                       out.lower.insert(out.lower.end(), one.lower.begin(), one.lower.end());
                       out.upper.insert(out.upper.end(), one.upper.begin(), one.upper.end());
                       out.offsets.push_back(static_cast<std::int64_t>(out.lower.size()));
                     }
                   });
  return out;
}

void ConformalRows::class_p_values(const RowsView& x, const std::int64_t* codes, bool by_class,
                                   MatrixView<double> out) const {
  const std::int64_t n = n_rows(), c = influence_.n_outputs();
  GRAMIAN_REQUIRE(out.rows == x.rows && out.cols == c, shape_mismatch, "class_p_values: the output has another shape");
  std::vector<std::int64_t> code, size(static_cast<std::size_t>(c), 0);
  for (const std::int64_t row : order_) {
    GRAMIAN_REQUIRE(codes[row] >= 0 && codes[row] < c, invalid_argument, "a class code lies outside of the outputs");
    code.push_back(codes[row]);
    ++size[static_cast<std::size_t>(codes[row])];
  }
  each_query_block(x, p_.view(),
                   [&](std::int64_t first, std::int64_t q, const std::vector<double>& scores,
                       const std::vector<double>& products, const std::vector<double>& sizes) {
                     influence_.factor().exec().parallel_for(q, [&](std::int64_t j) {
                       const double more = 1 + sizes[static_cast<std::size_t>(j)];
                       const double* f = scores.data() + j * c;
                       std::vector<std::int64_t> count(static_cast<std::size_t>(c), 1);
                       for (std::int64_t i = 0; i < n; ++i) {
                         const std::int64_t own = code[static_cast<std::size_t>(i)];
                         const double cross = products[at(j, n, i)];
                         const double left = 1 - leverage_[static_cast<std::size_t>(i)] + cross * cross / more;
                         // The query adds the residual 1 - f or -f in the output of this row's class.
                         const double without = residuals_[at(i, c, own)] + cross * f[own] / more;
                         const double same = (without - cross / more) / left;
                         if (by_class) {
                           count[static_cast<std::size_t>(own)] += same >= 1 - f[own];
                           continue;
                         }
                         for (std::int64_t k = 0; k < c; ++k)
                           count[static_cast<std::size_t>(k)] += (k == own ? same : without / left) >= 1 - f[k];
                       }
                       for (std::int64_t k = 0; k < c; ++k) {
                         const auto total = static_cast<double>((by_class ? size[static_cast<std::size_t>(k)] : n) + 1);
                         out(first + j, k) = static_cast<double>(count[static_cast<std::size_t>(k)]) / total;
                       }
                     });
                   });
}

}  // namespace gramian
