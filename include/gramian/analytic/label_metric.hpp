// Distances between labels: along a tree, and along the edges of a graph.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

// Distances from K observed nodes of a tree to all of its nodes, and the Frechet mean over them, without a table.
//
// For a node y let top(y) be its lowest ancestor (or itself) with an observed node below it or in it. Paths from
// observed nodes to y meet the way up from y in top(y) (those that start below top(y)) or above it, where the place
// depends on the set of observed nodes below top(y) alone. There are at most 2 K - 1 such sets, each a range of the
// observed nodes in preorder.
//
// So the expected squared distance to y is one quadratic in the depth of y per set, and where the weights are not
// negative it grows with the way from top(y) to y: only nodes with y = top(y) can win. Memory O(nodes + K).
class GRAMIAN_EXPORT TreeMetric {
 public:
  // parents: -1 for the one root. lengths: of the edge to the parent, >= 0; empty: ones. observed: nodes, repeats
  // allowed. Error{invalid_argument} names a node that is wrong. O(nodes + K log K).
  TreeMetric(const std::vector<std::int64_t>& parents, const std::vector<double>& lengths,
             const std::vector<std::int64_t>& observed);

  std::int64_t size() const { return static_cast<std::int64_t>(depth_.size()); }
  std::int64_t n_observed() const { return static_cast<std::int64_t>(sorted_.size()); }
  // Nodes that can win.
  std::int64_t n_candidates() const { return static_cast<std::int64_t>(candidates_.size()); }

  // out (K x count): from each observed node, in the order they were given, to nodes first, first + 1, ... O(K count).
  void distances(const Exec& exec, std::int64_t first, MatrixView<double> out) const;

  // For each row of p (n x K, >= 0, some entry positive): the node of the least sum_k p_k d(k, y)^2, the lowest of
  // equals, and that sum. O(K + candidates) a row. Rounding: a sum is off by a small multiple of
  // eps K (largest depth)^2; integers and dyadic weights are exact.
  void predict(const Exec& exec, MatrixView<const double> p, std::int64_t* labels, double* costs) const;

 private:
  struct Set {
    std::int64_t begin, end;  // places in sorted_
    std::int64_t above;       // the next larger set, or -1
    double fork;              // depth of the lowest node with that larger set below it
  };
  std::vector<double> depth_;         // of nodes
  std::vector<double> top_depth_;     // of top(y)
  std::vector<std::int64_t> set_;     // of top(y)
  std::vector<Set> sets_;             // larger ones first
  std::vector<std::int64_t> sorted_;  // places of observed nodes as given, in preorder
  std::vector<double> sorted_depth_;
  std::vector<std::int64_t> candidates_;  // ascending
};

// Edges of a graph in compressed form: those of node v are indices[indptr[v]] .. with lengths beside them.
struct GraphView {
  std::int64_t nodes = 0;
  const std::int64_t* indptr = nullptr;
  const std::int64_t* indices = nullptr;
  const double* lengths = nullptr;  // >= 0; null: all 1
};

// out (sources x nodes): lengths of the shortest paths from each source, infinite where there is none. Breadth first
// without lengths (O(nodes + edges) a source), else Dijkstra's method with a binary heap. Sources in parallel.
GRAMIAN_EXPORT void graph_distances(const Exec& exec, const GraphView& graph, const std::vector<std::int64_t>& sources,
                                    MatrixView<double> out);

}  // namespace gramian
