// The state of record of every closed-form learner: sums over rows that can be added, removed, merged and saved.
//
// With weights w, features x and targets y, each less a recorded shift, the state holds
//   n, sum w, s = sum w x, t = sum w y, G = sum w x x', Q = sum w y x' (one row per output), sum w y^2, rows per class.
// It never holds rows, an inverse or a factor. Its size does not depend on the rows seen.
//
// The shift is one vector for all rows that are in, and is saved with the sums. Any vector would give the same answers
// but for rounding: sums around a point near the data lose no digits to a large mean. It begins as the mean of the
// first block of the first rows added, and stays fixed but for two cases, in which it moves to the mean of all rows
// that are in, and every sum with it. One: rows were added or merged, and for some feature or numeric target more than
// a quarter of the sum of squares is the distance to that mean, as after a first block unlike the rest; this happens
// at most about 3.5 log(n) times. Two: rows were removed, of which nothing then stays behind in it. merge and unmerge
// first move the sums of the other state to the shift of this one (an empty state takes the other's). A state without
// intercept has no shift.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/dtype.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/features/feature_map.hpp"
#include "gramian/io/model_file.hpp"
#include "gramian/linalg/solve.hpp"

namespace gramian {

// What the rows are labelled with: class codes (one-hot targets, never expanded) or numeric targets.
struct Targets {
  const std::int64_t* codes = nullptr;  // one per row, in [0, n_outputs)
  const RowsView* values = nullptr;     // rows x n_outputs
  static Targets of_codes(const std::int64_t* codes) { return {codes, nullptr}; }
  static Targets of_values(const RowsView& values) { return {nullptr, &values}; }
};

struct GramOptions {
  // Type of the products. Sums are always double. f32: products over at most 2048 rows in float, added to double sums;
  // twice as fast, and removal is exact only up to removal_bound of the report.
  DType products = DType::f64;
  bool intercept = true;
};

struct SolveOptions {
  double ridge = 1.0;        // minimise |Y - X W|^2 + ridge |W|^2, the intercept unpenalised
  bool standardize = false;  // penalise the weights of features scaled to unit variance; W is in the original units
  Precision precision = Precision::automatic;
};

struct Solution {
  Array<double> coef;             // n_outputs x n_features, on the device of the state
  std::vector<double> intercept;  // n_outputs, zeros without intercept
  SolveReport report;
};

struct GcvCurve {
  std::vector<double> ridges;
  std::vector<double> scores;              // sum_w |Y - Yhat|^2 sum_w / (sum_w - trace H)^2, summed over outputs
  std::vector<double> degrees_of_freedom;  // trace of the hat matrix, the intercept counted
  std::size_t best = 0;                    // of the smallest score; of those that rounding hides, the smallest ridge
  bool at_edge = false;                    // the best is the first or the last of the grid
  std::string method;                      // "eigh" or "cholesky"
};

class GRAMIAN_EXPORT GramState {
 public:
  // Empty state. Memory: 4 d^2 bytes and change for d features, 8 bytes per feature and output.
  GramState(const Exec& exec, std::int64_t n_features, std::int64_t n_outputs, GramOptions options = {});
  GramState(GramState&&) noexcept;
  GramState& operator=(GramState&&) noexcept;
  ~GramState();
  GramState clone() const;

  std::int64_t n_features() const;
  std::int64_t n_outputs() const;
  std::int64_t n_rows() const;  // rows of positive weight that the state is made of
  double weight_sum() const;
  // Rows among them whose weight is not 1, or -1 where that is not known: in sums from files of versions that did not
  // count them, from moments and from moved rows, and after weights went out that had not come in. Exact otherwise.
  std::int64_t weighted_rows() const;
  const std::vector<std::int64_t>& counts() const;  // rows per output where codes were used, else zeros
  const GramOptions& options() const;
  const Exec& exec() const;
  std::size_t bytes() const;     // of all sums
  double largest_trace() const;  // of all G held since the state was last empty, rounded up to a power of two
  // The same of sum w |y|^2 over all outputs, around the shift; of class codes, and without outputs, of sum w.
  double largest_energy() const;

  // Adds rows, mapped by `map` if given. weight: one double per row, >= 0, or null; rows of weight 0 are as if they
  // were not there. atomic: on any error or cancellation the state is unchanged (work of more than milliseconds is
  // staged in a second state); otherwise blocks are added in place and n_rows() says how many rows are in.
  // Throws Error{shape_mismatch, non_finite, invalid_argument, cancelled}.
  // Cost for n rows, d features, C outputs: n d^2 flops (+ n d for codes, 2 n d C for values) and the map's.
  void add(const RowsView& x, const Targets& y, const double* weight = nullptr, const FeatureMap* map = nullptr,
           bool atomic = true);
  // Takes rows out again. That they were added cannot be checked beyond the counts: fewer rows than asked for, in the
  // state or in a class, is Error{invalid_argument}. Removing the last row leaves exactly the empty state, removing
  // the last row of a class exact zeros in its column.
  void remove(const RowsView& x, const Targets& y, const double* weight = nullptr, const FeatureMap* map = nullptr,
              bool atomic = true);
  // The state of both data sets; `other` is moved to this state's shift. Same sizes and intercept, else
  // Error{shape_mismatch, invalid_argument}. If either has float products, so has the result.
  void merge(const GramState& other);
  // The opposite of merge.
  void unmerge(const GramState& other);

  // The rows of another state (its targets are not looked at) as if each of them, moved by `by` (n_features host values
  // or null) and with its weight times `factor` > 0, were added with class code `output`: sums of rows that need not
  // exist. d^2 flops. Error{shape_mismatch, invalid_argument}; a state of numeric targets refuses.
  void add_moved(const GramState& rows, std::int64_t output, double factor = 1.0, const double* by = nullptr);

  // Of a state of class codes: what a Gaussian of each class with one covariance for all is made of.
  // weight[c] and row c of offset (n_outputs x d, host): the weight of class c, its mean less the mean of all rows as
  // feature_moments gives it, so that a large mean which no double can hold costs the offsets nothing.
  void class_moments(std::vector<double>& weight, MatrixView<double> offset) const;
  // A state of weight 1, without outputs, with the mean of all rows and, around it, (1 - shrinkage) times the pooled
  // covariance sum_c sum_i w_i (x_i - mean_c)(x_i - mean_c)' / n. d^2 C flops.
  GramState pooled_covariance(double shrinkage = 0) const;

  // New outputs with zero columns: output k of the new state is old output source[k], or new where source[k] is -1.
  // Every old output must appear at most once; one that is left out is dropped.
  void rearrange_outputs(const std::vector<std::int64_t>& source);
  // Features that come behind the others, and features that go. x: all rows that the state is made of, in any order,
  // with their targets and weights, and with k more columns; that they are is checked by their number, their counts and
  // their sums (Error{invalid_argument}). On an error nothing has changed. 2 n k (d + k) flops.
  void append_features(const RowsView& x, const Targets& y, const double* weight = nullptr);
  // features: places, ascending, each once.
  void delete_features(const std::vector<std::int64_t>& features);
  // Multiplies all sums by factor > 0: rows that age. Rows and counts stay what they are. Cannot fail half way.
  void scale(double factor);
  // From now on up to 8 rows of float64 calls that add few may wait beside the Gram matrix, on a CPU, until anything
  // reads it; a new state keeps no row. No result changes by a bit, and nothing is left of a row that has joined.
  void let_few_rows_wait(bool may);
  // Back to the empty state with the same sizes.
  void clear();

  // Weights from the sums. ridge = 0 needs full rank: Error{not_positive_definite} with the rank otherwise.
  // d^3 / 3 + 2 d^2 C flops.
  Solution solve(const SolveOptions& options) const;
  std::vector<Solution> path(const std::vector<double>& ridges, const SolveOptions& options) const;
  // Generalised cross-validation from the sums alone.
  GcvCurve gcv(const std::vector<double>& ridges, bool standardize = false) const;
  // Per output, on the rows of the state, for weights of this state: sum_w (y - yhat)^2, and the same plus the penalty
  // (target energy - W'Q, both centred), which cannot fall to zero by fitting the noise.
  std::vector<double> residual_sums(const Solution& solution) const;
  std::vector<double> penalised_residual_sums(const Solution& solution) const;
  // Mean and variance (biased) of the features; host vectors.
  void feature_moments(std::vector<double>& mean, std::vector<double>& variance) const;
  // G and Q around the origin, as if no shift had been used: d x d (both triangles) and n_outputs x d host values.
  void raw_moments(MatrixView<double> gram, MatrixView<double> cross) const;

  // All sums as one host vector around agreed points (d features, C targets), so that vectors of different states add
  // up entry by entry: sum w, rows, s, t, target energies (C), rows per class (C), Q (C x d), the lower triangle of G
  // by rows. A state without intercept has no shift: its points must be zero (Error{invalid_argument}).
  std::vector<double> moments(const std::vector<double>& center, const std::vector<double>& target_center) const;
  // The state of such a vector (codes: its targets are one-hot). Counts are rounded. Throws Error{shape_mismatch,
  // non_finite, invalid_argument}.
  static GramState of_moments(const Exec& exec, std::int64_t n_features, std::int64_t n_outputs, GramOptions options,
                              const std::vector<double>& moments, const std::vector<double>& center,
                              const std::vector<double>& target_center, bool codes);
  // Replaces the centred Gram matrix by the nearest positive semidefinite one. Sums of rows have one already; sums that
  // noise was added to may not. 9 d^3 flops.
  void make_positive();
  // Q as it is kept, around the shifts (sums of w y x' in a state without intercept): n_outputs x n_features, device.
  MatrixView<const double> cross() const;

  // Tensors, copied into the writer, under names that begin with `prefix`.
  Json save(ModelWriter& writer, const std::string& prefix) const;
  static GramState load(const Exec& exec, const Json& description, const ModelReader& reader,
                        const std::string& prefix);

  struct Sums;  // the inside (cpp/gram/gram_sums.h), for the other files of that folder
  const Sums& sums() const;

 private:
  friend class BalancedState;  // adds weighted sums up
  std::unique_ptr<Sums> sums_;
};

// The shrinkage towards the mean variance that is best for n Gaussian rows with this covariance, a state made by
// pooled_covariance(0): "Shrinkage Algorithms for MMSE Covariance Estimation" (without its 2 / d), from tr S and tr S^2
// alone. d^2 flops.
GRAMIAN_EXPORT double oracle_shrinkage(const GramState& covariance, double n);

// Ridge weights where the rows are at hand: the primal system (d x d) or the dual one (n x n), whichever is smaller.
struct RidgeSolveOptions {
  double ridge = 1.0;
  bool intercept = true;
  enum class Form { automatic, primal, dual } form = Form::automatic;
};
GRAMIAN_EXPORT Solution ridge_solve(const Exec& exec, const RowsView& x, const RowsView& y,
                                    const RidgeSolveOptions& options, const double* weight = nullptr);

}  // namespace gramian
