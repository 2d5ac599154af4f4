#include "gramian/gram/low_rank_scatter.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "core/row_count.h"
#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/symmetric.hpp"
#include "gramian/linalg/tall.hpp"

namespace gramian {

namespace {

// Rows that are taken together at least, so that a small rank does not mean many small decompositions.
constexpr std::int64_t kBlock = 64;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

// x[r, :] += by, in place.
void move_rows(const Exec& exec, const std::vector<double>& by, MatrixView<double> x) {
  Array<double> device(exec, x.cols);
  upload<double>(exec, {by.data(), 1, x.cols}, device.view());
  activate<double>(exec, Activation::identity, device.data(), 1.0, x);
}

// out = the features of rows, less `shift`.
void load_features(const Exec& exec, const RowsView& x, const FeatureMap* map, const std::vector<double>& shift,
                   MatrixView<double> out) {
  if (map == nullptr) {
    load_rows<double>(exec, x, shift.data(), nullptr, out, "X");
    return;
  }
  map->transform(exec, x, out);
  std::vector<double> negative(shift);
  for (double& value : negative) value = -value;
  move_rows(exec, negative, out);
}

}  // namespace

LowRankScatter::LowRankScatter(const Exec& exec, std::int64_t n_features, std::int64_t rank)
    : exec_(exec), rank_(rank), mean_(at(n_features), 0.0), diagonal_(at(n_features), 0.0) {
  GRAMIAN_REQUIRE(n_features >= 1 && rank >= 0, invalid_argument, "a scatter needs features, and a rank of 0 or more");
}

LowRankScatter LowRankScatter::clone() const {
  LowRankScatter out(exec_, n_features(), rank_);
  out.n_rows_ = n_rows_;
  out.weight_sum_ = weight_sum_;
  out.mean_ = mean_;
  out.diagonal_ = diagonal_;
  out.dropped_ = dropped_;
  if (rows_.rows() > 0) {
    out.rows_ = Array<double>(exec_, rows_.rows(), n_features());
    axpby<double, double>(exec_, 1.0, rows_.view(), 0.0, out.rows_.view());
  }
  return out;
}

double LowRankScatter::error_bound() const {
  return std::min(dropped_, std::accumulate(diagonal_.begin(), diagonal_.end(), 0.0));
}

std::size_t LowRankScatter::bytes() const {
  return (at(rows_.size()) + mean_.size() + diagonal_.size()) * sizeof(double);
}

void LowRankScatter::add(const RowsView& x, const double* weight, const FeatureMap* map) {
  const std::int64_t d = n_features(), width = map == nullptr ? x.cols : map->n_features();
  GRAMIAN_REQUIRE(width == d, shape_mismatch,
                  "rows of " + std::to_string(width) + " features for a scatter of " + std::to_string(d));
  require_countable(n_rows_, x.rows);
  for (std::int64_t r = 0; weight != nullptr && r < x.rows; ++r)
    GRAMIAN_REQUIRE(std::isfinite(weight[r]) && weight[r] > 0, invalid_argument,
                    "sample_weight must be finite and not negative; row " +
                        std::to_string(x.first_row + (x.row_index != nullptr ? x.row_index[r] : r)) + " has " +
                        std::to_string(weight[r]));
  const std::int64_t step = std::max(most(), kBlock);
  for (std::int64_t begin = 0; begin < x.rows; begin += step) {
    exec_.poll();
    const std::int64_t count = std::min(step, x.rows - begin);
    add_block(x.slice(begin, count), weight == nullptr ? nullptr : weight + begin, map);
  }
}

void LowRankScatter::add_block(const RowsView& x, const double* weight, const FeatureMap* map) {
  const std::int64_t d = n_features(), kept = rows_.rows(), m = x.rows;
  const bool first = n_rows_ == 0;
  std::vector<double> given;
  if (weight != nullptr) given.assign(weight, weight + m);
  const double added = weight == nullptr ? static_cast<double>(m) : std::accumulate(weight, weight + m, 0.0);

  Array<double> all(exec_, kept + m + (first ? 0 : 1), d);
  if (kept > 0) axpby<double, double>(exec_, 1.0, rows_.view(), 0.0, all.view().block(0, 0, kept, d));
  const MatrixView<double> fresh = all.view().block(kept, 0, m, d);
  std::vector<double> point = mean_;
  const auto offset = [&] {
    std::vector<double> sum = column_sums<double>(exec_, fresh, given);
    for (double& value : sum) value = std::isfinite(value) ? value / added : 0.0;
    return sum;
  };
  if (first) {
    load_features(exec_, x, map, point, fresh);
    point = offset();
  }
  load_features(exec_, x, map, point, fresh);
  std::vector<double> by = offset(), back(by);
  for (double& value : back) value = -value;
  move_rows(exec_, back, fresh);
  if (weight != nullptr) {
    std::vector<double> roots;
    for (const double w : given) roots.push_back(std::sqrt(w));
    scale_rows<double>(exec_, roots, fresh);
  }
  const double total = weight_sum_ + added;
  if (!first) {
    // The way between the mean of these rows and that of the others.
    std::vector<double> way(by);
    const double share = std::sqrt(weight_sum_ / total * added);
    for (double& value : way) value *= share;
    upload<double>(exec_, {way.data(), 1, d}, all.view().block(kept + m, 0, 1, d));
  }
  GRAMIAN_REQUIRE(sum_of_squares<double>(exec_, all.view()) < std::numeric_limits<double>::max(), non_finite,
                  "the squares of the features overflow float64, in row " +
                      std::to_string(x.first_row + (x.row_index != nullptr ? x.row_index[0] : 0)) + " or one of the " +
                      std::to_string(m - 1) + " behind it");
  keep_strongest(all);
  for (std::size_t j = 0; j < mean_.size(); ++j) mean_[j] = point[j] + by[j] * (first ? 1.0 : added / total);
  weight_sum_ = total;
  n_rows_ += m;
}

void LowRankScatter::keep_strongest(const Array<double>& rows) {
  const std::int64_t d = n_features(), m = rows.rows(), kept = std::min(most(), m), gone = m - kept;
  Array<double> strongest;
  if (kept > 0) strongest = Array<double>(exec_, kept, d);
  if (gone == 0) {
    axpby<double, double>(exec_, 1.0, rows.view(), 0.0, strongest.view());
    rows_ = std::move(strongest);
    return;
  }
  SymmetricMatrix<double> products(exec_, m);
  outer_gram_update(exec_, 1.0, rows.view(), products);
  std::vector<double> eigenvalues;  // ascending
  Array<double> directions;
  symmetric_eigen(exec_, products, eigenvalues, directions);
  Array<double> weak(exec_, gone, d);
  gemm<double>(exec_, Trans::no, Trans::no, 1.0, directions.view().block(0, 0, gone, m), rows.view(), 0.0, weak.view());
  if (kept > 0)
    gemm<double>(exec_, Trans::no, Trans::no, 1.0, directions.view().block(gone, 0, kept, m), rows.view(), 0.0,
                 strongest.view());
  const std::vector<double> squares = column_sumsq<double>(exec_, weak.view());
  for (std::size_t j = 0; j < diagonal_.size(); ++j) diagonal_[j] += squares[j];
  // Eigenvalues are known to about m eps of the largest.
  dropped_ += std::max(0.0, eigenvalues[at(gone - 1)]) +
              static_cast<double>(m) * std::numeric_limits<double>::epsilon() * std::max(0.0, eigenvalues.back());
  rows_ = std::move(strongest);
}

GramState LowRankScatter::moments(GramOptions options) const {
  options.intercept = true;  // the sums stand around the mean
  const std::int64_t d = n_features();
  SymmetricMatrix<double> g(exec_, d);
  if (rows_.rows() > 0) gram_update<double>(exec_, 1.0, rows_.view(), g);
  // Weight, rows, sums of features and the lower triangle, around the mean; there are no targets.
  std::vector<double> sums(at(2 + d + d * (d + 1) / 2), 0.0);
  sums[0] = weight_sum_;
  sums[1] = static_cast<double>(n_rows_);
  double* triangle = sums.data() + 2 + d;
  g.pack(exec_, triangle);
  for (std::int64_t j = 0; j < d; ++j) triangle[j * (j + 1) / 2 + j] += diagonal_[at(j)];
  return GramState::of_moments(exec_, d, 0, options, sums, mean_, {}, false);
}

Json LowRankScatter::save(ModelWriter& writer, const std::string& prefix) const {
  Json json = Json::object();
  json["rank"] = rank_;
  json["n_rows"] = n_rows_;
  json["weight_sum"] = weight_sum_;
  json["dropped"] = dropped_;
  writer.add(prefix + "mean", {n_features()}, mean_);
  writer.add(prefix + "diagonal", {n_features()}, diagonal_);
  json["kept"] = rows_.rows();
  if (rows_.rows() == 0) return json;
  std::vector<double> rows(at(rows_.size()));
  download<double>(exec_, rows_.view(), {rows.data(), rows_.rows(), n_features()});
  writer.add(prefix + "rows", {rows_.rows(), n_features()}, std::move(rows));
  return json;
}

LowRankScatter LowRankScatter::load(const Exec& exec, const Json& json, const ModelReader& reader,
                                    const std::string& prefix) {
  const TensorView mean = reader.tensor(prefix + "mean", TensorType::f64, {-1});
  const std::int64_t d = mean.size();
  const TensorView diagonal = reader.tensor(prefix + "diagonal", TensorType::f64, {d});
  const std::int64_t rank = json.at("rank").integer(), kept = json.at("kept").integer();
  GRAMIAN_REQUIRE(d >= 1 && rank >= 0 && kept >= 0 && kept <= rank, file_format,
                  "the scatter of a class has an impossible size");
  LowRankScatter out(exec, d, rank);
  out.n_rows_ = json.at("n_rows").integer();
  out.weight_sum_ = json.at("weight_sum").number();
  out.dropped_ = json.at("dropped").number();
  out.mean_.assign(mean.f64(), mean.f64() + d);
  out.diagonal_.assign(diagonal.f64(), diagonal.f64() + d);
  const auto finite = [](double value) { return std::isfinite(value); };
  GRAMIAN_REQUIRE(out.n_rows_ > 0 && out.n_rows_ <= kMostRows && std::isfinite(out.weight_sum_) &&
                      out.weight_sum_ > 0 && std::isfinite(out.dropped_) && out.dropped_ >= 0,
                  file_format, "the scatter of a class is impossible");
  GRAMIAN_REQUIRE(std::all_of(out.mean_.begin(), out.mean_.end(), finite) &&
                      std::all_of(out.diagonal_.begin(), out.diagonal_.end(),
                                  [](double value) { return std::isfinite(value) && value >= 0; }),
                  file_format, "the scatter of a class holds NaN, infinity or a negative variance");
  if (kept == 0) return out;
  const double* rows = reader.tensor(prefix + "rows", TensorType::f64, {kept, d}).f64();
  GRAMIAN_REQUIRE(std::all_of(rows, rows + kept * d, finite), file_format,
                  "the directions of a class hold NaN or infinity");
  out.rows_ = Array<double>(exec, kept, d);
  upload<double>(exec, {rows, kept, d}, out.rows_.view());
  return out;
}

}  // namespace gramian
