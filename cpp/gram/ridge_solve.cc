// Ridge weights where the rows are at hand.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

namespace {

std::vector<double> weighted_mean(const Exec& exec, const RowsView& x, const std::vector<double>& weight,
                                  const char* name) {
  Array<double> rows(exec, x.rows, x.cols);
  load_rows<double>(exec, x, nullptr, nullptr, rows.view(), name);
  std::vector<double> mean = column_sums<double>(exec, rows.view(), weight);
  double total = 0;
  for (std::int64_t r = 0; r < x.rows; ++r) total += weight.empty() ? 1.0 : weight[static_cast<std::size_t>(r)];
  for (double& value : mean) value = total > 0 ? value / total : 0.0;
  return mean;
}

// Leaves the rows of x that `rows` lists; the list must live as long as the view.
void pick(RowsView& x, std::vector<std::int64_t>& rows) {
  for (std::int64_t& r : rows)
    if (x.row_index != nullptr) r = x.row_index[r];
  x.row_index = rows.data();
  x.rows = static_cast<std::int64_t>(rows.size());
}

// W = X'(X X' + ridge I)^-1 Y with rows centred and scaled by the roots of their weights. n^2 d + n^3 / 3 flops.
Solution solve_dual(const Exec& exec, const RowsView& x_all, const RowsView& y_all, const RidgeSolveOptions& options,
                    const double* weight) {
  // Rows of weight 0 are as if they were not there, here too.
  std::vector<double> weights, roots;
  std::vector<std::int64_t> counting;
  for (std::int64_t r = 0; weight != nullptr && r < x_all.rows; ++r) {
    GRAMIAN_REQUIRE(std::isfinite(weight[r]) && weight[r] >= 0, invalid_argument,
                    "sample_weight must be finite and not negative; row " + std::to_string(r) + " has " +
                        std::to_string(weight[r]));
    if (weight[r] == 0) continue;
    counting.push_back(r);
    weights.push_back(weight[r]);
    roots.push_back(std::sqrt(weight[r]));
  }
  RowsView x = x_all, y = y_all;
  std::vector<std::int64_t> x_rows = counting, y_rows = counting;
  if (weight != nullptr) {
    pick(x, x_rows);
    pick(y, y_rows);
  }
  const std::int64_t n = x.rows, d = x.cols, c = y.cols;
  std::vector<double> x_mean(static_cast<std::size_t>(d), 0.0), y_mean(static_cast<std::size_t>(c), 0.0);
  if (options.intercept) {
    x_mean = weighted_mean(exec, x, weights, "X");
    y_mean = weighted_mean(exec, y, weights, "Y");
  }
  const double* root = roots.empty() ? nullptr : roots.data();
  Array<double> xs(exec, n, d), ys(exec, n, c), alpha(exec, n, c);
  load_rows<double>(exec, x, x_mean.data(), root, xs.view(), "X");
  load_rows<double>(exec, y, y_mean.data(), root, ys.view(), "Y");
  Solution solution;
  if (n == 0) {
    solution.report.method = "zero";  // the sum over no rows below then gives weights of zero
  } else {
    SymmetricMatrix<double> products(exec, n);  // X X' of centred, weighted rows
    outer_gram_update(exec, 1.0, xs.view(), products);
    const RidgedMatrix k(std::move(products), options.ridge);
    solution.report = solve_spd(exec, k, ys.view(), alpha.view(), Precision::automatic, false);
  }
  solution.report.form = "dual";
  solution.report.ridge = options.ridge;
  solution.coef = Array<double>(exec, c, d);
  gemm<double>(exec, Trans::yes, Trans::no, 1.0, alpha.view(), xs.view(), 0.0, solution.coef.view());
  std::vector<double> coef(static_cast<std::size_t>(c * d));
  download<double>(exec, solution.coef.view(), {coef.data(), c, d});
  const auto finite = [](double value) { return std::isfinite(value); };
  GRAMIAN_REQUIRE(std::all_of(coef.begin(), coef.end(), finite), not_positive_definite,
                  "the weights overflow (rank " + std::to_string(solution.report.rank) + " of " + std::to_string(n) +
                      "): the squares of the features underflow, or the targets are huge; multiply X by a large "
                      "number, or use a larger ridge");
  for (std::int64_t k_out = 0; k_out < c; ++k_out) {
    double constant = y_mean[static_cast<std::size_t>(k_out)];
    for (std::int64_t j = 0; j < d; ++j)
      constant -= coef[static_cast<std::size_t>(k_out * d + j)] * x_mean[static_cast<std::size_t>(j)];
    solution.intercept.push_back(constant);
  }
  return solution;
}

}  // namespace

Solution ridge_solve(const Exec& exec, const RowsView& x, const RowsView& y, const RidgeSolveOptions& options,
                     const double* weight) {
  GRAMIAN_REQUIRE(std::isfinite(options.ridge) && options.ridge >= 0, invalid_argument,
                  "ridge must be finite and not negative, got " + std::to_string(options.ridge));
  GRAMIAN_REQUIRE(x.rows >= 1 && x.cols >= 1, invalid_argument, "X is empty");
  GRAMIAN_REQUIRE(x.rows == y.rows, shape_mismatch,
                  "X has " + std::to_string(x.rows) + " rows, but Y has " + std::to_string(y.rows));
  using Form = RidgeSolveOptions::Form;
  // Without a ridge the centred dual system is singular by construction, so the primal one answers.
  GRAMIAN_REQUIRE(options.form != Form::dual || options.ridge > 0, not_positive_definite,
                  "the dual form needs a ridge above 0: its system has one row for each row of X, and no full rank");
  const bool dual =
      options.form == Form::dual || (options.form == Form::automatic && x.rows < x.cols && options.ridge > 0);
  if (dual) return solve_dual(exec, x, y, options, weight);
  GramOptions gram;
  gram.intercept = options.intercept;
  GramState state(exec, x.cols, y.cols, gram);
  state.add(x, Targets::of_values(y), weight);
  SolveOptions solve;
  solve.ridge = options.ridge;
  return state.solve(solve);
}

}  // namespace gramian
