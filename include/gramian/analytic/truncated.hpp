// Ridge classification on a stream from the leading directions of the features alone: memory r d instead of d^2 / 2.
//
// In the manner of "LoRanPAC: Low-rank Random Features and Pre-trained Models for Bridging Theory and Practice in
// Continual Learning": the second moment of the features is kept as V' diag(energy) V with r orthonormal rows in V. A
// block of rows meets V and an orthonormal basis of what V does not span, and of the small eigenproblem in both the r
// largest energies are kept. The sums of the targets (d x C) are kept whole. The weights are those of the kept
// directions, minimum-norm where there is no ridge.
//
// What is dropped is positive semidefinite, so |G - V' diag(energy) V| is at most the sum of the dropped energies.
// While nothing is dropped the weights are those of one solve on all rows. Truncation depends on the order of the rows.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gramian/analytic/classifier.hpp"
#include "gramian/core/export.hpp"
#include "gramian/features/feature_map.hpp"
#include "gramian/gram/label_map.hpp"

namespace gramian {

struct TruncatedConfig {
  std::int64_t rank = 256;  // directions kept, at most
  double tau = 0;           // singular values up to it are dropped; 0: those that are rounding
  double ridge = 0;
  bool intercept = true;
};

class GRAMIAN_EXPORT TruncatedRidgeClassifier {
 public:
  TruncatedRidgeClassifier(const Exec& exec, std::int64_t n_inputs, TruncatedConfig config,
                           FeatureMapPtr map = nullptr);
  TruncatedRidgeClassifier(TruncatedRidgeClassifier&&) noexcept;
  TruncatedRidgeClassifier& operator=(TruncatedRidgeClassifier&&) noexcept;
  ~TruncatedRidgeClassifier();

  // Adds rows with labels; a label never seen becomes a class. On any error the model is as before.
  // About 8 r d + 40 r^2 flops a row, the map's aside. Throws Error{shape_mismatch, non_finite, cancelled}.
  void partial_fit(const RowsView& x, const ClassTargets& y);

  const Labels& classes() const;
  const std::vector<std::int64_t>& class_counts() const;
  std::int64_t n_rows() const;
  std::int64_t n_inputs() const;
  std::int64_t n_features() const;
  const TruncatedConfig& config() const;
  const FeatureMapPtr& map() const;
  const Exec& exec() const;
  std::size_t bytes() const;                    // of the state
  std::int64_t rank() const;                    // directions in use
  std::vector<double> singular_values() const;  // of the (centred) rows, falling
  void basis(MatrixView<double> out) const;     // rank x d, host: the directions, in the order of the singular values
  double dropped_energy() const;                // sum of the squared singular values dropped so far

  // Weights (C x d) and intercepts (C), host, solved once per change. Error{not_fitted} before the first row,
  // Error{not_positive_definite} where weights without a ridge overflow, since the features are too small.
  const std::vector<double>& coef() const;
  const std::vector<double>& intercept() const;
  // out: rows x classes, host.
  void decision_function(const RowsView& x, MatrixView<double> out) const;

  std::vector<std::uint8_t> save_bytes(const Json& extra = Json()) const;
  void save(const std::string& path, const Json& extra = Json()) const;
  static TruncatedRidgeClassifier load(const Exec& exec, const ModelReader& reader);

 private:
  struct Impl;
  explicit TruncatedRidgeClassifier(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gramian
