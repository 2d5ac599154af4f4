// A Gram state, the feature map in front of it and the weights behind it, solved when they are first needed.
// The one trainable part that all closed-form learners share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gramian/core/export.hpp"
#include "gramian/gram/balanced_state.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/gram/holdout.hpp"
#include "gramian/gram/leave_one_out.hpp"

namespace gramian {

struct RidgeConfig {
  double ridge = 1.0;
  // Choose the ridge from `ridges` by generalised cross-validation at each solve; with low_latency once, in
  // RidgeHead::choose.
  bool gcv = false;
  std::vector<double> ridges;  // the grid of gcv; empty means 10^-10 .. 10^2 times the mean diagonal of the centred G
  // Choose it by held-out rows instead, from the same grid (10^-8 .. 10^8 for the rule ranpac). Weights are then solved
  // with all rows. Until there are rows on both sides, gcv chooses; the rule ranpac begins anew once rows were removed,
  // since what it held out may have been among them. Every change is atomic, and takes the memory of
  // three states for as long as it lasts; in between it is two, with the rule ranpac three.
  HoldoutRule holdout = HoldoutRule::none;
  double holdout_fraction = 0.2;
  std::uint64_t holdout_seed = 0;
  bool loo = false;        // choose it by the leave-one-out error of the rows given to RidgeHead::choose
  std::int64_t width = 0;  // weights of the first features only; 0: of all
  bool loo_width = false;  // choose the width by leave-one-out error, likewise
  bool standardize = false;
  // Keep the Cholesky factor and let it follow the rows: a batch of b rows leaves current weights for O(b d^2 + b d C)
  // instead of d^3 / 3 at the next read. The ridge is fixed, or chosen once by RidgeHead::choose (gcv, loo); no
  // standardize. 4 d^2 bytes more.
  bool low_latency = false;
  // Weight that old rows keep with each new one, in (0, 1]: rows and ridge age together, so that after n rows the
  // weights minimise sum_i f^(n - i) w_i |y_i - x_i W|^2 + f^n ridge |W|^2, as recursive least squares has it.
  double forgetting = 1.0;
  GramOptions gram;
  Balance balance = Balance::none;  // other than none: class codes only, kept as a BalancedState
};

// What RidgeHead::choose found.
struct RidgeChoice {
  double ridge = 0;
  std::int64_t width = 0;
  bool at_edge = false;              // the ridge is the first or the last of the grid
  std::vector<double> ridges;        // the grid, one ridge where the ridge was not to be chosen
  std::vector<double> ridge_scores;  // of each ridge at the width used, or at its best width where that is chosen
  std::vector<double> width_scores;  // of each width at the ridge chosen; empty where the model has all features
};

class GRAMIAN_EXPORT RidgeHead {
 public:
  // n_inputs: width of the rows; map may be null.
  RidgeHead(const Exec& exec, std::int64_t n_inputs, std::int64_t n_outputs, RidgeConfig config, FeatureMapPtr map);
  RidgeHead(RidgeHead&&) noexcept;
  RidgeHead& operator=(RidgeHead&&) noexcept;
  ~RidgeHead();

  std::int64_t n_inputs() const;
  std::int64_t n_features() const;
  std::int64_t n_outputs() const;
  const RidgeConfig& config() const;
  const FeatureMapPtr& map() const;
  const Exec& exec() const;
  bool has_state() const;  // false after loading a weights-only file
  // The sums that the weights come from; Error{unsupported} without them. Of balanced classes these are made when they
  // are asked for (BalancedState::weighted) and kept until the next change, so what only counts asks the next four.
  const GramState& state() const;
  std::int64_t n_rows() const;
  double weight_sum() const;
  std::vector<std::int64_t> counts() const;  // rows per output, where codes were used
  std::size_t bytes() const;                 // of all sums that are kept

  // Forward to the state; the weights are forgotten, or follow with low_latency. On an error nothing has changed.
  // Rows that age are removed with the weight they have by then.
  // totals: as BalancedState::add has them; null without balance.
  void add(const RowsView& x, const Targets& y, const double* weight, bool atomic, const double* totals = nullptr);
  void remove(const RowsView& x, const Targets& y, const double* weight, bool atomic);
  void add_moved(const GramState& rows, std::int64_t output, double factor, const double* by);
  void merge(const RidgeHead& other);
  void unmerge(const RidgeHead& other);
  void merge(const GramState& other);
  void rearrange_outputs(const std::vector<std::int64_t>& source);
  // BalancedState::close; Error{invalid_argument} without balance.
  void close(const std::vector<std::int64_t>& places);
  // BalancedState::room; infinite without balance.
  double room(std::int64_t place) const;

  // Chooses what the configuration leaves to leave-one-out errors, and the ridge that low_latency with gcv keeps. The
  // rows are those of the state, as they were added (of balanced classes: with the weights that they came with; a row
  // is then left out with the weight that its class gives it now); the map is the head's own. The choice holds until
  // the next call, also when rows go or other states are merged.
  // Costs of loo_curve, or of nested_curve for each ridge where a width is set or chosen. On an error nothing changes.
  void choose(const RowsView& x, const Targets& y, const double* weight);
  const RidgeChoice* choice() const;  // null before

  // The weights of the present state, solved once per change. Not fitted: Error{not_fitted}. Readers never wait for
  // one another's solves; those that come at once before there are weights each do the work, so solve before sharing.
  const Solution& solution() const;
  double ridge_used() const;
  std::int64_t width_used() const;  // features with weights; those behind have zeros
  bool gcv_at_edge() const;
  // The curve behind a ridge chosen by held-out rows; without ridges where it was not.
  const HoldoutCurve& holdout() const;
  // Mean over outputs of the penalised residual variance, (sum w y^2 - tr W'Q) / sum w, both centred: what the state
  // alone says about the noise of a score. Positive.
  double noise_variance() const;
  // out (rows x n_outputs, host) = scores. 2 n d C flops and the map's, by blocks.
  void scores(const RowsView& x, MatrixView<double> out) const;

  // what: "full" (the sums; training can go on) or "weights" (predicts only).
  Json save(ModelWriter& writer, const std::string& prefix, bool weights_only) const;
  // All widths at once, to predict with: row j of the last tensor holds what the first j + 1 features add to a model of
  // the first j, so a reader of width k reads the first k rows and nothing behind them. 4 d^2 bytes.
  Json save_nested(ModelWriter& writer, const std::string& prefix) const;
  // width: of a file of save_nested, 0 for the width that the model used; Error{invalid_argument} for other files.
  static RidgeHead load(const Exec& exec, const Json& description, const ModelReader& reader, const std::string& prefix,
                        std::int64_t width = 0);

 private:
  struct Impl;
  explicit RidgeHead(std::unique_ptr<Impl> impl);
  static RidgeHead read(const Exec& exec, const Json& description, const ModelReader& reader, const std::string& prefix,
                        std::int64_t width);
  Json describe(ModelWriter& writer, const std::string& prefix) const;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gramian
