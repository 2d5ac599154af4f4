// Prediction intervals of ridge regression that hold for any distribution of exchangeable rows, in closed form: what n
// fits with one row (or one fold) left out, or with one row added, would say is read off one factor.
//
// With P = rows u(x_i) and u(x) as in influence.hpp, r the residuals, h_i = |p_i|^2 and e_i = r_i / (1 - h_i):
//   jackknife+      f_{-i}(x) = f(x) - (u(x)'p_i) e_i, one-sided order statistics of f_{-i}(x) -+ |e_i|
//                   ("Predictive inference with the jackknife+")
//   CV+             the same with f_{-S} of the fold S of row i, by (I - H_SS)^-1
//   full conformal  with the row (x, f(x) + t) added, every residual is linear in t: r_i - c_i t / (1 + s) with
//                   c_i = u(x)'p_i and s = |u(x)|^2, and t / (1 + s) for the added one; the values t that fit are found
//                   by sorting 2 n breakpoints ("Ridge Regression Confidence Machine")
// All rows have weight 1: the guarantees are about exchangeable rows.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/export.hpp"
#include "gramian/gram/influence.hpp"

namespace gramian {

enum class BandRule {
  plus,   // [lower_rank-th smallest f_{-i} - |e_i|, upper_rank-th smallest f_{-i} + |e_i|]
  minmax  // [min f_{-i} - e, max f_{-i} + e], e the upper_rank-th smallest |e_i|
};

// Finite unions of closed intervals, one for each query and output: item k has the intervals offsets[k] ..
// offsets[k + 1], in rising order, with infinite ends where they have none.
struct IntervalSets {
  std::vector<std::int64_t> offsets{0};
  std::vector<double> lower, upper;
};

class GRAMIAN_EXPORT ConformalRows {
 public:
  // x, y: exactly the rows of the state behind the factor, with weight 1. fold: one code in [0, n_folds) for each row,
  // or null, which leaves out one row at a time. n d^2 flops and, with folds, n^2 d / folds; n d doubles of memory.
  // Throws Error{not_positive_definite} where a row or fold cannot be left out (influence.hpp).
  ConformalRows(GroupInfluence influence, const RowsView& x, const RowsView& y, const std::int64_t* fold,
                std::int64_t n_folds);
  // From what rows() and the accessors below give: the same object again without the rows.
  ConformalRows(GroupInfluence influence, MatrixView<const double> p, MatrixView<const double> residuals,
                std::vector<std::int64_t> order, std::vector<std::int64_t> offsets);

  const GroupInfluence& influence() const { return influence_; }
  std::int64_t n_rows() const { return p_.rows(); }
  MatrixView<const double> rows() const { return p_.view(); }          // n x width, device
  const std::vector<double>& residuals() const { return residuals_; }  // n x outputs
  const std::vector<double>& held_out() const { return held_out_; }    // n x outputs
  // Row k of the three is row order()[k] of x; fold g is rows offsets()[g] .. offsets()[g + 1], empty without folds.
  const std::vector<std::int64_t>& order() const { return order_; }
  const std::vector<std::int64_t>& offsets() const { return offsets_; }

  // lower, upper: queries x outputs, host. Ranks count from 1; lower_rank 0 is -infinity and upper_rank > n +infinity.
  // 2 n d flops for each query (without folds) and O(n outputs).
  void intervals(const RowsView& x, std::int64_t lower_rank, std::int64_t upper_rank, BandRule rule,
                 MatrixView<double> lower, MatrixView<double> upper) const;
  // All targets that conform: those for which more than `excluded` of the n + 1 rows have a score at least as large as
  // the added one's. Scores: |residual|, or, if `deleted`, |residual| / (1 - leverage), both of the fit with the row
  // added. 2 n d + O(n log n outputs) flops for each query.
  IntervalSets sets(const RowsView& x, std::int64_t excluded, bool deleted) const;
  // For rows whose targets are one-hot: out (queries x outputs, host) receives the p-value of each class, the share of
  // rows (the added one counts) whose error on their own class, in the fit with the query added as a row of that class
  // and with themselves left out, is at least that of the query. codes: the class of each row of x. by_class: of the
  // rows of that class alone. 2 n d + O(n) flops for each query, O(n outputs) over all classes.
  void class_p_values(const RowsView& x, const std::int64_t* codes, bool by_class, MatrixView<double> out) const;

 private:
  void prepare();
  template <class Body>
  void each_query_block(const RowsView& x, MatrixView<const double> directions, const Body& body) const;

  GroupInfluence influence_;
  Array<double> p_;
  Array<double> change_;  // (folds * outputs) x width, device: e'P of each fold
  std::vector<double> residuals_, held_out_, leverage_;
  std::vector<std::int64_t> order_, offsets_, fold_of_;
};

}  // namespace gramian
