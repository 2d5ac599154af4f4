// Fixed maps from input rows to feature rows. A map is a plain description (kind, sizes, seed); what can be drawn
// again from the seed is never stored.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/io/json.hpp"
#include "gramian/io/model_file.hpp"
#include "gramian/linalg/elementwise.hpp"

namespace gramian {

class GRAMIAN_EXPORT FeatureMap {
 public:
  virtual ~FeatureMap() = default;
  virtual std::int64_t n_inputs() const = 0;
  virtual std::int64_t n_features() const = 0;
  // out (x.rows x n_features) = features of x (host rows of any storage); out is on the device of `exec`. Work space
  // grows with x.rows, so callers with many rows come block by block. Throws Error{shape_mismatch, non_finite}.
  virtual void transform(const Exec& exec, const RowsView& x, MatrixView<float> out) const;
  virtual void transform(const Exec& exec, const RowsView& x, MatrixView<double> out) const;
  // The same for rows that are on the device already (x is k x n_inputs, checked).
  virtual void apply(const Exec& exec, MatrixView<const float> x, MatrixView<float> out) const = 0;
  virtual void apply(const Exec& exec, MatrixView<const double> x, MatrixView<double> out) const = 0;
  // Flops of one row.
  virtual double flops_per_row() const = 0;
  // Description for a model file; tensors (centres) are added to `writer` under names that begin with `prefix`.
  virtual Json save(ModelWriter& writer, const std::string& prefix) const = 0;
  // Drops the transient copy of regenerated weights, if one is held. The next transform draws them again.
  virtual void release_workspace() const {}
  // Throws Error{shape_mismatch} unless an input and an output of these shapes fit this map.
  void check_shapes(std::int64_t rows, std::int64_t cols, std::int64_t out_rows, std::int64_t out_cols) const;
};

using FeatureMapPtr = std::shared_ptr<const FeatureMap>;

// Reads what save wrote. Throws Error{file_format}.
GRAMIAN_EXPORT FeatureMapPtr load_feature_map(const Json& description, const ModelReader& reader,
                                              const std::string& prefix);

enum class RandomKind { gaussian, rademacher, hadamard, orthogonal, sparse };

GRAMIAN_EXPORT Activation parse_activation(const std::string& name);
GRAMIAN_EXPORT RandomKind parse_random_kind(const std::string& name);
GRAMIAN_EXPORT const char* name_of(Activation activation);
GRAMIAN_EXPORT const char* name_of(RandomKind kind);

// z = f(scale * x B + b), B (n_inputs x n_features) drawn from the seed:
//   gaussian    B[j, i] = entry (i, j) of the standard normal stream (family gaussian, tag 0)
//   rademacher  the same with signs (family rademacher)
//   hadamard    blocks of P = 2^ceil(log2 n_inputs) features: sqrt(P) H D3 H D2 H D1 x with H the orthonormal
//               Walsh-Hadamard matrix and D sign diagonals (family features, tag 1, factor = stage, generation =
//               block); O(P log P) a block instead of O(n_inputs P), and no weights at all ("Orthogonal Random
//               Features", structured variant)
//   orthogonal  blocks of n_inputs features: the columns of a block of the matrix of kind gaussian, made orthonormal
//               one after the other (Gram-Schmidt, so Haar distributed), each times the length it had. The lengths are
//               independent of the directions and chi distributed ("Orthogonal Random Features"). The draws are the
//               same bits everywhere, what is made of them is equal up to rounding
//   sparse      n_nonzero weights a feature, one in each of n_nonzero runs of neighbouring inputs: weight t of feature
//               i is in run t = [t n_inputs / n_nonzero, (t + 1) n_inputs / n_nonzero) (rounded down) of w inputs, at
//               place floor(u w) with u uniform number i n_nonzero + t (family features, tag 10), and is the sign of
//               that index (tag 11) times sqrt(w). Every input has the same chance, so E (b'x)^2 = |x|^2 for every
//               feature, and |b|^2 = n_inputs exactly ("Very Sparse Random Projections"). 2 n_nonzero flops a feature
//               and row on the host
// b: for cos uniform phases in [0, 2 pi) (family features, tag 8) and the result times sqrt(2 / n_features) (random
// Fourier features, "Random Features for Large-Scale Kernel Machines"); else bias * standard normal (family features,
// tag 9), none for bias = 0.
// The first k features do not depend on n_features (but for the factor of cos).
// scale = 0 means 1 / sqrt(n_inputs).
struct RandomFeaturesConfig {
  std::int64_t n_inputs = 0;
  std::int64_t n_features = 0;
  RandomKind kind = RandomKind::gaussian;
  Activation activation = Activation::relu;
  double scale = 0;
  double bias = 0;
  std::uint64_t seed = 0;
  std::int64_t n_nonzero = 0;  // of sparse: weights a feature; 0 means sqrt(n_inputs), rounded
};
GRAMIAN_EXPORT FeatureMapPtr make_random_features(const RandomFeaturesConfig& config);

// z_j = exp(-gamma |x - centre_j|^2), centres (k x n_inputs, host, copied). Distances are taken around the mean of the
// centres, so a common offset costs no digits. 2 n k d flops.
GRAMIAN_EXPORT FeatureMapPtr make_rbf_features(MatrixView<const double> centers, double gamma);

// maps[0] first. Widths must fit: Error{shape_mismatch}.
GRAMIAN_EXPORT FeatureMapPtr make_composition(std::vector<FeatureMapPtr> maps);

// Blocks of neighbouring columns, each through a map of its own (null: none), put side by side or, with `mean`,
// averaged (equal widths then): several layers of a network as one input ("REAL: Representation Enhanced Analytic
// Learning for Exemplar-free Class-incremental Learning"). Error{shape_mismatch, invalid_argument}.
GRAMIAN_EXPORT FeatureMapPtr make_fusion(std::vector<std::int64_t> widths, std::vector<FeatureMapPtr> maps, bool mean);

}  // namespace gramian
