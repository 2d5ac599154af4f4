// The mean and the scatter of rows in few numbers, where d x d of them are too many:
//
//   S = sum w (x - mean)(x - mean)'  is kept as  B'B + D,  B of at most `rank` rows, D diagonal.
//
// Rows come in blocks. Those of a block, around their mean, the way between the means and B are one set of rows whose
// products are the new S; its `rank` strongest directions become B, and of the others the squares of each feature go
// into D. With E the sum of what was dropped, which is positive semidefinite, S = B'B + E and D = diag(E): trace and
// diagonal of S are exact, and so is the mean. What is wrong is E - diag(E), whose eigenvalues lie between -max D and
// |E|_2. Each block adds its largest dropped eigenvalue to a bound of |E|_2, and the trace of D is another one.
//
// Rank 0 keeps the variances alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/features/feature_map.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/io/model_file.hpp"

namespace gramian {

class GRAMIAN_EXPORT LowRankScatter {
 public:
  LowRankScatter(const Exec& exec, std::int64_t n_features, std::int64_t rank);
  LowRankScatter clone() const;

  std::int64_t n_features() const { return static_cast<std::int64_t>(mean_.size()); }
  std::int64_t rank() const { return rank_; }
  std::int64_t n_rows() const { return n_rows_; }
  double weight_sum() const { return weight_sum_; }
  const std::vector<double>& mean() const { return mean_; }
  // Of |S - (B'B + D)|_2.
  double error_bound() const;
  std::size_t bytes() const;

  // Adds rows, mapped by `map` if given; weight: one per row, > 0, or null. Blocks of max(rank, 64) rows b cost
  // 3 (rank + b)^2 d + 9 (rank + b)^3 flops. An error leaves the blocks before it in.
  // Throws Error{shape_mismatch, non_finite, invalid_argument, cancelled}.
  void add(const RowsView& x, const double* weight, const FeatureMap* map);

  // A state without outputs with these moments, as if rows had given them: 4 d^2 bytes, and 8 d^2 more on the way.
  GramState moments(GramOptions options) const;

  Json save(ModelWriter& writer, const std::string& prefix) const;
  static LowRankScatter load(const Exec& exec, const Json& description, const ModelReader& reader,
                             const std::string& prefix);

 private:
  std::int64_t most() const { return std::min(rank_, n_features()); }  // rows of B
  void add_block(const RowsView& x, const double* weight, const FeatureMap* map);
  // Drops all but the strongest directions of these rows.
  void keep_strongest(const Array<double>& rows);

  Exec exec_;
  std::int64_t rank_;
  std::int64_t n_rows_ = 0;
  double weight_sum_ = 0;
  std::vector<double> mean_, diagonal_;  // d
  Array<double> rows_;                   // B
  double dropped_ = 0;                   // of the largest eigenvalues dropped, the sum
};

}  // namespace gramian
