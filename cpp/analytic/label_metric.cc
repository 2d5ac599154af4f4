#include "gramian/analytic/label_metric.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <queue>
#include <string>
#include <utility>

#include "gramian/core/error.hpp"

namespace gramian {
namespace {

using Nodes = std::vector<std::int64_t>;

constexpr std::int64_t kRowsOfTask = 8;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

void check_tree(const Nodes& parents, const std::vector<double>& lengths) {
  const auto n = static_cast<std::int64_t>(parents.size());
  GRAMIAN_REQUIRE(n >= 1, invalid_argument, "a tree needs a node");
  GRAMIAN_REQUIRE(lengths.empty() || lengths.size() == parents.size(), shape_mismatch,
                  "lengths has " + std::to_string(lengths.size()) + " entries for " + std::to_string(n) + " nodes");
  std::int64_t roots = 0;
  for (std::int64_t v = 0; v < n; ++v) {
    const std::int64_t p = parents[at(v)];
    GRAMIAN_REQUIRE(p >= -1 && p < n, invalid_argument,
                    "parents has " + std::to_string(p) + " for node " + std::to_string(v));
    if (p < 0) ++roots;
    const double length = lengths.empty() ? 1.0 : lengths[at(v)];
    GRAMIAN_REQUIRE(p < 0 || (std::isfinite(length) && length >= 0), invalid_argument,
                    "lengths must be finite and not negative; that of node " + std::to_string(v) + " is not");
  }
  GRAMIAN_REQUIRE(roots == 1, invalid_argument, "parents must have one root (-1), it has " + std::to_string(roots));
}

// Nodes in preorder.
Nodes preorder_of(const Nodes& parents) {
  const auto n = static_cast<std::int64_t>(parents.size());
  Nodes first(at(n + 1), 0), children(at(n));
  std::int64_t root = 0;
  for (std::int64_t v = 0; v < n; ++v) {
    if (parents[at(v)] < 0)
      root = v;
    else
      ++first[at(parents[at(v)] + 1)];
  }
  for (std::int64_t v = 0; v < n; ++v) first[at(v + 1)] += first[at(v)];
  Nodes next(first.begin(), first.end() - 1);
  for (std::int64_t v = 0; v < n; ++v)
    if (parents[at(v)] >= 0) children[at(next[at(parents[at(v)])]++)] = v;
  Nodes order, open{root};
  order.reserve(at(n));
  while (!open.empty()) {
    const std::int64_t v = open.back();
    open.pop_back();
    order.push_back(v);
    for (std::int64_t k = first[at(v + 1)]; k > first[at(v)]; --k) open.push_back(children[at(k - 1)]);
  }
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(order.size()) == n, invalid_argument,
                  "parents has a circle: " + std::to_string(n - static_cast<std::int64_t>(order.size())) +
                      " nodes do not lead to the root");
  return order;
}

// Sums over a range of sorted observed nodes of p, p times depth, and p times squared depth.
struct Moments {
  double zero = 0, one = 0, two = 0;
  Moments operator-(const Moments& o) const { return {zero - o.zero, one - o.one, two - o.two}; }
  Moments operator+(const Moments& o) const { return {zero + o.zero, one + o.one, two + o.two}; }
  // The same of depths that are longer by this.
  Moments moved(double by) const { return {zero, one + by * zero, two + 2 * by * one + by * by * zero}; }
};

}  // namespace

TreeMetric::TreeMetric(const Nodes& parents, const std::vector<double>& lengths, const Nodes& observed) {
  check_tree(parents, lengths);
  const auto n = static_cast<std::int64_t>(parents.size());
  const auto k = static_cast<std::int64_t>(observed.size());
  GRAMIAN_REQUIRE(k >= 1, invalid_argument, "observed is empty");
  for (const std::int64_t v : observed)
    GRAMIAN_REQUIRE(v >= 0 && v < n, invalid_argument,
                    "observed has " + std::to_string(v) + ", but there are " + std::to_string(n) + " labels");
  const Nodes order = preorder_of(parents);
  Nodes place(at(n)), below(at(n), 0);  // in preorder; observed nodes in the subtree
  for (std::int64_t i = 0; i < n; ++i) place[at(order[at(i)])] = i;
  for (const std::int64_t v : observed) ++below[at(v)];
  for (std::int64_t i = n - 1; i > 0; --i) below[at(parents[at(order[at(i)])])] += below[at(order[at(i)])];

  sorted_.resize(at(k));
  for (std::int64_t i = 0; i < k; ++i) sorted_[at(i)] = i;
  std::stable_sort(sorted_.begin(), sorted_.end(), [&](std::int64_t a, std::int64_t b) {
    return place[at(observed[at(a)])] < place[at(observed[at(b)])];
  });

  depth_.assign(at(n), 0.0);
  top_depth_.assign(at(n), 0.0);
  set_.assign(at(n), 0);
  std::int64_t passed = 0;  // observed nodes before the present one in preorder
  for (const std::int64_t v : order) {
    const std::int64_t p = parents[at(v)];
    if (p >= 0) depth_[at(v)] = depth_[at(p)] + (lengths.empty() ? 1.0 : lengths[at(v)]);
    if (below[at(v)] == 0) {
      top_depth_[at(v)] = top_depth_[at(p)];
      set_[at(v)] = set_[at(p)];
    } else {
      top_depth_[at(v)] = depth_[at(v)];
      if (p >= 0 && below[at(p)] == below[at(v)]) {
        set_[at(v)] = set_[at(p)];
      } else {
        set_[at(v)] = static_cast<std::int64_t>(sets_.size());
        sets_.push_back({passed, passed + below[at(v)], p < 0 ? -1 : set_[at(p)], p < 0 ? 0.0 : depth_[at(p)]});
      }
    }
    while (passed < k && observed[at(sorted_[at(passed)])] == v) ++passed;
  }
  for (const std::int64_t i : sorted_) sorted_depth_.push_back(depth_[at(observed[at(i)])]);
  for (std::int64_t v = 0; v < n; ++v)
    if (depth_[at(v)] == top_depth_[at(v)]) candidates_.push_back(v);
}

void TreeMetric::distances(const Exec& exec, std::int64_t first, MatrixView<double> out) const {
  GRAMIAN_REQUIRE(first >= 0 && out.rows == n_observed() && out.cols <= size() - first, shape_mismatch,
                  "the distances have the wrong shape");
  constexpr std::int64_t kLabelsOfTask = 256;
  exec.on_host().parallel_for((out.cols + kLabelsOfTask - 1) / kLabelsOfTask, [&](std::int64_t task) {
    const std::int64_t end = std::min(out.cols, (task + 1) * kLabelsOfTask);
    for (std::int64_t c = task * kLabelsOfTask; c < end; ++c) {
      const auto y = at(first + c);
      // Outwards: the set below top(y), whose paths meet in top(y), then what each larger set adds.
      double meeting = top_depth_[y];
      std::int64_t begin = 0, stop = 0;
      for (std::int64_t s = set_[y]; s >= 0; s = sets_[at(s)].above) {
        const Set& set = sets_[at(s)];
        const auto fill = [&](std::int64_t from, std::int64_t to) {
          for (std::int64_t i = from; i < to; ++i)
            out(sorted_[at(i)], c) = sorted_depth_[at(i)] + depth_[y] - 2 * meeting;
        };
        if (begin == stop) {
          fill(set.begin, set.end);
        } else {
          fill(set.begin, begin);
          fill(stop, set.end);
        }
        begin = set.begin;
        stop = set.end;
        meeting = set.fork;
      }
    }
  });
}

void TreeMetric::predict(const Exec& exec, MatrixView<const double> p, std::int64_t* labels, double* costs) const {
  GRAMIAN_REQUIRE(
      p.cols == n_observed(), shape_mismatch,
      "P has " + std::to_string(p.cols) + " columns for " + std::to_string(n_observed()) + " observed labels");
  for (std::int64_t r = 0; r < p.rows; ++r) {
    double largest = 0;
    bool valid = true;
    for (std::int64_t k = 0; k < p.cols; ++k) {
      valid = valid && p(r, k) >= 0 && std::isfinite(p(r, k));
      largest = std::max(largest, p(r, k));
    }
    GRAMIAN_REQUIRE(valid && largest > 0, invalid_argument,
                    "P must hold weights that are finite, not negative and not all zero (as_probabilities makes some "
                    "of scores); row " +
                        std::to_string(r) + " does not");
  }
  exec.on_host().parallel_for((p.rows + kRowsOfTask - 1) / kRowsOfTask, [&](std::int64_t task) {
    std::vector<Moments> upto(sorted_.size() + 1), within(sets_.size()), outside(sets_.size());
    const std::int64_t end = std::min(p.rows, (task + 1) * kRowsOfTask);
    for (std::int64_t r = task * kRowsOfTask; r < end; ++r) {
      for (std::size_t i = 0; i < sorted_.size(); ++i) {
        const double weight = p(r, sorted_[i]), depth = sorted_depth_[i];
        upto[i + 1] = upto[i] + Moments{weight, weight * depth, weight * depth * depth};
      }
      for (std::size_t s = 0; s < sets_.size(); ++s) {
        const Set& set = sets_[s];
        within[s] = upto[at(set.end)] - upto[at(set.begin)];
        outside[s] = {};
        if (set.above < 0) continue;
        // What the larger set adds lies on its two sides; its paths turn at the fork.
        const Set& above = sets_[at(set.above)];
        const Moments sides = (upto[at(set.begin)] - upto[at(above.begin)]) + (upto[at(above.end)] - upto[at(set.end)]);
        outside[s] = outside[at(set.above)] + sides.moved(-2 * set.fork);
      }
      double lowest = HUGE_VAL;
      std::int64_t best = candidates_.front();
      for (const std::int64_t y : candidates_) {
        const auto s = at(set_[at(y)]);
        const double depth = depth_[at(y)];
        const double cost = within[s].moved(-depth).two + outside[s].moved(depth).two;
        if (cost < lowest) {
          lowest = cost;
          best = y;
        }
      }
      labels[r] = best;
      costs[r] = lowest;
    }
  });
}

namespace {

void breadth_first(const GraphView& graph, std::int64_t source, double* out, Nodes& queue) {
  std::fill(out, out + graph.nodes, HUGE_VAL);
  queue.clear();
  queue.push_back(source);
  out[source] = 0;
  for (std::size_t head = 0; head < queue.size(); ++head) {
    const std::int64_t v = queue[head];
    for (std::int64_t e = graph.indptr[v]; e < graph.indptr[v + 1]; ++e) {
      const std::int64_t w = graph.indices[e];
      if (out[w] != HUGE_VAL) continue;
      out[w] = out[v] + 1;
      queue.push_back(w);
    }
  }
}

void dijkstra(const GraphView& graph, std::int64_t source, double* out) {
  using Entry = std::pair<double, std::int64_t>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> open;
  std::fill(out, out + graph.nodes, HUGE_VAL);
  out[source] = 0;
  open.push({0.0, source});
  while (!open.empty()) {
    const auto [length, v] = open.top();
    open.pop();
    if (length > out[v]) continue;  // a shorter way was found since
    for (std::int64_t e = graph.indptr[v]; e < graph.indptr[v + 1]; ++e) {
      const double through = length + graph.lengths[e];
      if (through < out[graph.indices[e]]) {
        out[graph.indices[e]] = through;
        open.push({through, graph.indices[e]});
      }
    }
  }
}

}  // namespace

void graph_distances(const Exec& exec, const GraphView& graph, const Nodes& sources, MatrixView<double> out) {
  GRAMIAN_REQUIRE(out.rows == static_cast<std::int64_t>(sources.size()) && out.cols == graph.nodes, shape_mismatch,
                  "the distances have the wrong shape");
  std::int64_t last = 0;
  for (std::int64_t v = 0; v <= graph.nodes; ++v) {
    GRAMIAN_REQUIRE(graph.indptr[v] >= last && (v > 0 || graph.indptr[v] == 0), invalid_argument,
                    "the row pointers of the graph do not ascend from 0");
    last = graph.indptr[v];
  }
  for (std::int64_t e = 0; e < last; ++e) {
    GRAMIAN_REQUIRE(graph.indices[e] >= 0 && graph.indices[e] < graph.nodes, invalid_argument,
                    "an edge of the graph leads to node " + std::to_string(graph.indices[e]));
    GRAMIAN_REQUIRE(graph.lengths == nullptr || (std::isfinite(graph.lengths[e]) && graph.lengths[e] >= 0),
                    invalid_argument, "the lengths of edges must be finite and not negative");
  }
  for (const std::int64_t v : sources)
    GRAMIAN_REQUIRE(v >= 0 && v < graph.nodes, invalid_argument,
                    "observed has " + std::to_string(v) + ", but there are " + std::to_string(graph.nodes) + " labels");
  exec.on_host().parallel_for(out.rows, [&](std::int64_t k) {
    if (graph.lengths != nullptr) return dijkstra(graph, sources[at(k)], out.row(k));
    Nodes queue;
    queue.reserve(at(graph.nodes));
    breadth_first(graph, sources[at(k)], out.row(k), queue);
  });
}

}  // namespace gramian
