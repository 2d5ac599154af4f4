// Class-conditional Gaussians with one covariance for all classes, read off the sums of a stream: linear discriminant
// analysis, Mahalanobis distances and the out-of-distribution score made of them ("A Simple Unified Framework for
// Detecting Out-of-Distribution Samples and Adversarial Attacks").
//
//   S = (1 - a) S_pooled + (a mean variance + ridge) I = L L',    z(x) = L^-1 (x - mean),    z_c = z(mean_c)
//   distance_c(x) = |z(x) - z_c|^2,    score_c(x) = x'S^-1 mean_c - mean_c'S^-1 mean_c / 2 + log prior_c
//
// With the counts of the classes in S_pooled the answers of a stream are those of all its rows at once, in any order.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/export.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/gram/ridge_factor.hpp"

namespace gramian {

struct GaussianConfig {
  enum class Priors { empirical, uniform, given };
  Priors priors = Priors::empirical;
  std::vector<double> given;  // one per class, above 0; divided by their sum
  double shrinkage = 0;       // in [0, 1]
  bool oracle = false;        // shrinkage from the sums, see oracle_shrinkage
  // On the diagonal of S. Below 0: nothing where S has full rank; else 1e-8 times the mean variance, or 1 where no
  // class varies at all. ridge_used() tells.
  double ridge = -1;
};

class GRAMIAN_EXPORT GaussianHead {
 public:
  // From a state of class codes, each class with rows; `map` is the one its rows came through. d^3 / 3 + d^2 C flops
  // and 4 d^2 bytes; the state is not kept. Throws Error{not_fitted, invalid_argument, not_positive_definite}.
  explicit GaussianHead(const GramState& state, const GaussianConfig& config = {}, FeatureMapPtr map = nullptr);

  std::int64_t n_inputs() const;
  std::int64_t n_features() const { return factor_.n_features(); }
  std::int64_t n_classes() const { return z_.rows() - 1; }
  double shrinkage() const { return shrinkage_; }
  double ridge_used() const { return ridge_; }
  const std::vector<double>& priors() const { return priors_; }
  const std::vector<double>& mean() const { return factor_.mean(); }  // of all rows
  void class_means(MatrixView<double> out) const;                     // classes x features, host

  // Each: n (d^2 + 2 d C) flops and the map's, by blocks; outputs on the host.
  // out (rows x classes) = squared Mahalanobis distances, |z|^2 + |z_c|^2 - 2 z'z_c: they lose the digits by which the
  // variance of the class means exceeds that within classes, as many as S has lost already.
  void distances(const RowsView& x, MatrixView<double> out) const;
  // out (rows x classes) = scores; their softmax is the posterior.
  void scores(const RowsView& x, MatrixView<double> out) const;
  void predict_proba(const RowsView& x, MatrixView<double> out) const;
  // Places of the largest score, ties to the first.
  void predict(const RowsView& x, std::int64_t* places) const;
  // out[r] = -(smallest distance): the higher, the more like the rows seen.
  void ood_score(const RowsView& x, double* out) const;
  // out (rows x features) = the gradient of ood_score by the features, -2 S^-1 (x - mean_c) of the nearest class.
  // d^2 flops more a row.
  void ood_gradient(const RowsView& x, MatrixView<double> out) const;
  // coef (classes x features) and intercept of the scores, as functions of the features.
  void weights(MatrixView<double> coef, std::vector<double>& intercept) const;

 private:
  template <class Body>
  void blocks(const RowsView& x, const Body& body) const;

  double shrinkage_ = 0, ridge_ = 0;
  std::vector<double> priors_, offsets_;  // classes x features: class means less the mean of all rows
  RidgeFactor factor_;
  FeatureMapPtr map_;
  // Rows L^-1 (mean_c - mean); the last one is L^-1 mean, which turns scores around the mean into scores around zero.
  Array<double> z_;
  std::vector<double> z_host_, norms_;  // the same, and its squared row norms
};

}  // namespace gramian
