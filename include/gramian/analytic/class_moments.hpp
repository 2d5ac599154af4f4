// The sums of each class by itself, and ridge classifiers of rows that need not exist, made of such sums:
//   translate_past  the rows of present classes, and for each past class those of the present class most like it, moved
//                   to its centroid ("FeTrIL: Feature Translation for Exemplar-Free Class-Incremental Learning"),
//   align           infinitely many rows with the moments of each class, with class weights of choice ("SLCA: Slow
//                   Learner with Classifier Alignment for Continual Learning on a Pre-trained Model"),
//   top_up          the rows, and for each class smaller than the largest what Gaussian rows that fill it up add on
//                   average ("Online Analytic Exemplar-Free Continual Learning with Large Models for Imbalanced
//                   Autonomous Driving Task").
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gramian/analytic/classifier.hpp"
#include "gramian/core/export.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/gram/label_map.hpp"
#include "gramian/gram/low_rank_scatter.hpp"

namespace gramian {

// Memory: 4 d^2 bytes for each class that is present, 8 d for one that is past. With a rank >= 0 a class is a
// LowRankScatter of this rank instead: 8 d (rank + 2) bytes, and no rows can be taken out again. Where inputs are kept,
// the sums of the p inputs of the map stand beside those of its features, 4 p^2 bytes for each class more; the map must
// then be one that mapped_gaussian knows.
class GRAMIAN_EXPORT ClassMoments {
 public:
  ClassMoments(const Exec& exec, std::int64_t n_inputs, GramOptions options, FeatureMapPtr map = nullptr,
               std::int64_t rank = -1, bool keep_inputs = false);

  std::int64_t n_inputs() const { return n_inputs_; }
  std::int64_t n_features() const { return map_ ? map_->n_features() : n_inputs_; }
  const FeatureMapPtr& map() const { return map_; }
  const Exec& exec() const { return exec_; }
  const GramOptions& options() const { return options_; }
  const Labels& classes() const { return labels_.labels(); }
  std::vector<std::int64_t> class_counts() const;
  std::int64_t n_rows() const;
  std::size_t bytes() const;
  std::int64_t rank() const { return rank_; }
  // The sums of class k, or null where there are none: of a past class, or with a rank.
  const GramState* state(std::int64_t k) const;
  const LowRankScatter* scatter(std::int64_t k) const;  // the same with a rank
  bool keeps_inputs() const { return keep_inputs_; }
  const GramState* inputs(std::int64_t k) const;  // the sums of the inputs of the map, or null where none are kept
  bool past(std::int64_t k) const { return state(k) == nullptr && scatter(k) == nullptr; }
  std::vector<double> centroid(std::int64_t k) const;  // n_features
  double weight(std::int64_t k) const;

  // Adds rows of classes that are present or new; one of a past class is Error{invalid_argument}. On any error nothing
  // has changed: the sums of the classes concerned are held twice meanwhile. n d^2 flops and the map's.
  void partial_fit(const RowsView& x, const ClassTargets& y, const double* weight = nullptr);
  // Takes rows of present classes out again; a class whose last row goes leaves.
  void forget(const RowsView& x, const ClassTargets& y, const double* weight = nullptr);
  // The next rows begin a new phase: with them all classes there are now become past.
  void end_phase() { ended_ = true; }

  std::vector<std::uint8_t> save_bytes(const Json& extra = Json()) const;
  void save(const std::string& path, const Json& extra = Json()) const;
  static ClassMoments load(const Exec& exec, const ModelReader& reader);

 private:
  struct Entry {
    std::unique_ptr<GramState> state;  // one of the two; none for a past class
    std::unique_ptr<LowRankScatter> scatter;
    std::unique_ptr<GramState> inputs;  // beside the state, where inputs are kept
    std::vector<double> centroid;       // of a past class
    double weight = 0;
    std::int64_t count = 0;
  };
  // The present class `place`, or a new one (-1), with rows more.
  Entry with_more(std::int64_t place, const RowsView& x, const double* weight) const;
  ModelWriter writer(const Json& extra) const;

  Exec exec_;
  std::int64_t n_inputs_;
  GramOptions options_;
  FeatureMapPtr map_;
  std::int64_t rank_;
  bool keep_inputs_;
  LabelMap labels_;
  std::vector<Entry> entries_;
  bool ended_ = false;
};

// The present class whose centroid has the largest cosine with that of past class k; ties go to the first, and the
// cosine with a centroid of zero length is zero. Error{not_fitted} where no class is present.
GRAMIAN_EXPORT std::int64_t most_alike(const ClassMoments& moments, std::int64_t k);

// The classifier of present rows and moved ones. C d^2 flops for C classes; solving is that of the classifier.
GRAMIAN_EXPORT AnalyticClassifier translate_past(const ClassMoments& moments, const RidgeConfig& config);

// The classifier of weight[k] rows' worth of a distribution with the moments of class k; weight: one per class, above
// 0. From the covariance of each class (all must be present) or one for all. C d^2 flops, with a rank as many for each
// direction and the sums of one more class meanwhile.
GRAMIAN_EXPORT AnalyticClassifier align(const ClassMoments& moments, const std::vector<double>& weight,
                                        const RidgeConfig& config);
// How far, in the spectral norm, the G of align(moments, weight) may be from that of the full covariances: the sum of
// weight[k] / n_k times LowRankScatter::error_bound. 0 without a rank.
GRAMIAN_EXPORT double align_error(const ClassMoments& moments, const std::vector<double>& weight);
GRAMIAN_EXPORT AnalyticClassifier align(const AnalyticClassifier& model, const std::vector<double>& weight,
                                        const RidgeConfig& config);

// The classifier of the rows and, for each class whose weight is below the largest one by m, of m rows' worth of a
// Gaussian with its mean and its variances, uncorrelated: m (mean mean' + diag(variance)) more in G. All classes must
// be present. C d^2 flops, and the sums of one more class meanwhile. Where inputs are kept the Gaussians are those of
// the inputs, and what is added is what the map makes of them on average (mapped_gaussian, for each class that is
// filled).
GRAMIAN_EXPORT AnalyticClassifier top_up(const ClassMoments& moments, const RidgeConfig& config);

}  // namespace gramian
