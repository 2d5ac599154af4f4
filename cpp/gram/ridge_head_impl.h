// The inside of a RidgeHead, shared by the files that change it, solve it and save it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "gram/live_weights.h"
#include "gramian/core/error.hpp"
#include "gramian/gram/ridge_head.hpp"

namespace gramian {

struct RidgeHead::Impl {
  // Checks the configuration. Without sums as yet, since a file may bring weights alone.
  Impl(std::int64_t inputs, std::int64_t outputs, RidgeConfig config_, FeatureMapPtr map_, const Exec& exec_);

  std::int64_t width() const { return map ? map->n_features() : n_inputs; }

  bool has_state() const { return state || balanced; }

  void require_state() const {
    GRAMIAN_REQUIRE(has_state(), unsupported,
                    "this model was loaded from a weights-only file: it predicts, but holds no sums to learn with");
  }

  GramState empty_state() const { return GramState(exec, width(), n_outputs, config.gram); }
  void make_empty_state();

  // What was derived from the sums.
  void forget_derived() {
    solved.reset();
    weighted.reset();
  }

  // --- the solve (ridge_head_solve.cc)

  std::vector<double> grid(const GramState& sums) const;

  // The weights of the present state and what is known with them.
  struct Solved {
    Solution solution;
    double noise_variance = 0;
    bool noise_known = false;
    bool at_edge = false;
    HoldoutCurve curve;  // without ridges unless held-out rows chose
    LiveWeights live;    // with low_latency: the factor behind the solution
  };
  std::unique_ptr<Solved> solve() const;
  double noise_of(const GramState& sums, const Solution& solution) const;
  bool chooses() const { return config.loo || config.loo_width || (config.low_latency && config.gcv); }
  // Of which the ridge does not change with the sums.
  bool ridge_is_kept() const { return choice != nullptr && (config.loo || config.low_latency); }
  double ridge() const { return (ridge_is_kept() ? choice->ridge : config.ridge) * decay; }
  const Solved& solved_now();
  const GramState& weighted_now();

  // Ridge and width by leave-one-out errors.
  std::int64_t width_used() const;
  // Zeros for the features behind.
  Solution padded(Solution narrow) const;
  RidgeChoice best_choice(const GramState& sums, const LabelledRows& rows) const;
  // Of balanced classes: what each row counts with.
  std::vector<double> balanced_weights(const RowsView& x, const Targets& y, const double* weight) const;

  // --- held-out rows (ridge_head_holdout.cc). `state` has all rows, `held` those held out; `fitted` those that the
  // rule ranpac fits to them.

  // The curve of the ridges, or none where one side has no rows.
  HoldoutCurve judge() const;

  // The rows of a call that are fitted and those that are held out.
  struct Sides {
    std::vector<std::int64_t> fitted, held;
  };
  Sides sides_of(const RowsView& x, const double* weight) const;
  void add_with_holdout(const RowsView& x, const Targets& y, const double* weight);
  void remove_with_holdout(const RowsView& x, const Targets& y, const double* weight);
  // After rows have gone: what is held out by the rule ranpac, or of no rows at all, goes too.
  void drop_stale_sides();
  // What another head holds out joins; with the rule ranpac a head that has seen rows keeps its own.
  void merge_holdout(const Impl& other, bool out);

  // --- weights that follow the rows, rows that age (ridge_head_live.cc)

  // Adds (sign > 0) or removes rows; the weights follow where they can.
  void learn(const RowsView& x, const Targets& y, const double* weight, bool atomic, double sign);

  // What a batch of rows does to those before it (factor) and, in order, to its own.
  struct Aged {
    Aged(double forgetting, std::int64_t rows, const double* given);
    std::vector<double> weight;
    double factor = 1;
  };
  void add_aged(const RowsView& x, const Targets& y, const Aged& aged, bool atomic);

  std::int64_t n_inputs, n_outputs;
  RidgeConfig config;
  FeatureMapPtr map;
  Exec exec;
  // One of the two, or none after loading weights.
  std::unique_ptr<GramState> state;
  std::unique_ptr<BalancedState> balanced;
  std::unique_ptr<GramState> held, fitted;  // beside `state`, where rows are held out
  std::unique_ptr<RidgeChoice> choice;
  std::int64_t loaded_width = 0;        // of weights that came from a file; 0: of all features, or not from a file
  mutable std::mutex mutex;             // guards the two below among readers; held for moments only
  std::unique_ptr<GramState> weighted;  // of balanced classes, where it was asked for
  std::unique_ptr<Solved> solved;
  double decay = 1;          // what forgetting has left of the ridge
  std::int64_t anchors = 0;  // factors made for weights that follow; under the mutex
};

}  // namespace gramian
