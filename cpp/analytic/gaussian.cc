#include "gramian/analytic/gaussian.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "gramian/analytic/probabilities.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {
namespace {

// Of the mean variance, for a covariance without full rank.
constexpr double kSmallRidge = 1e-8;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// Is a pivot of L L' no more than what rounding leaves of a feature that the others determine? The unit of a feature
// does not matter: pivots are compared with the variance of their own feature.
bool is_singular(const RidgeFactor& factor, const GramState& rows, const GramState& pooled) {
  const bool single = rows.options().products == DType::f32;
  const double unit =
      single ? static_cast<double>(std::numeric_limits<float>::epsilon()) : std::numeric_limits<double>::epsilon();
  const auto d = static_cast<double>(factor.n_features());
  std::vector<double> pivots(factor.mean().size()), mean, variance, within_mean, within;
  factor.factor().diagonal(factor.exec(), pivots.data());
  rows.feature_moments(mean, variance);
  pooled.feature_moments(within_mean, within);
  for (std::size_t j = 0; j < pivots.size(); ++j) {
    const double digits = 4 * unit * mean[j];
    if (pivots[j] * pivots[j] <= 8 * d * unit * variance[j] + digits * digits) return true;
    if (within[j] <= digits * digits) return true;
  }
  return false;
}

struct Covariance {
  RidgeFactor factor;
  double shrinkage, ridge;
};

Covariance factor_of(const GramState& state, const GaussianConfig& config) {
  GramState pooled = state.pooled_covariance();
  std::vector<double> mean, variance;
  pooled.feature_moments(mean, variance);
  const double level = mean_of(variance);
  const double shrinkage = config.oracle ? oracle_shrinkage(pooled, state.weight_sum()) : config.shrinkage;
  if (shrinkage > 0) pooled = state.pooled_covariance(shrinkage);
  const double target = shrinkage * level;
  if (config.ridge >= 0) return {RidgeFactor(pooled, target + config.ridge), shrinkage, config.ridge};
  try {
    RidgeFactor factor(pooled, target);
    if (target > 0 || !is_singular(factor, state, pooled)) return {std::move(factor), shrinkage, 0.0};
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_positive_definite) throw;
  }
  const double ridge = level > 0 ? kSmallRidge * level : 1.0;
  return {RidgeFactor(pooled, target + ridge), shrinkage, ridge};
}

std::vector<double> priors_of(const GaussianConfig& config, const std::vector<double>& weight) {
  std::vector<double> priors = weight;
  if (config.priors == GaussianConfig::Priors::uniform) priors.assign(weight.size(), 1.0);
  if (config.priors == GaussianConfig::Priors::given) {
    GRAMIAN_REQUIRE(config.given.size() == weight.size(), invalid_argument,
                    "priors has " + std::to_string(config.given.size()) + " values for " +
                        std::to_string(weight.size()) + " classes");
    priors = config.given;
  }
  double sum = 0;
  for (const double prior : priors) {
    GRAMIAN_REQUIRE(std::isfinite(prior) && prior > 0, invalid_argument, "priors must be finite and above 0");
    sum += prior;
  }
  for (double& prior : priors) prior /= sum;
  return priors;
}

// Rows of one block: about 8 MiB of features.
std::int64_t rows_at_a_time(std::int64_t d) {
  return std::clamp<std::int64_t>((std::int64_t{1} << 20) / d, 64, 4096);
}

}  // namespace

GaussianHead::GaussianHead(const GramState& state, const GaussianConfig& config, FeatureMapPtr map)
    : factor_([&] {
        Covariance made = factor_of(state, config);
        shrinkage_ = made.shrinkage;
        ridge_ = made.ridge;
        return std::move(made.factor);
      }()),
      map_(std::move(map)) {
  const std::int64_t d = state.n_features(), c = state.n_outputs();
  GRAMIAN_REQUIRE(map_ == nullptr || map_->n_features() == d, shape_mismatch,
                  "the feature map is not the one of the state");
  z_host_.resize(at((c + 1) * d));
  const MatrixView<double> host(z_host_.data(), c + 1, d);
  std::vector<double> weight;
  state.class_moments(weight, host.block(0, 0, c, d));
  priors_ = priors_of(config, weight);
  offsets_.assign(z_host_.begin(), z_host_.end() - d);
  std::copy(mean().begin(), mean().end(), host.row(c));
  const Exec& exec = factor_.exec();
  z_ = Array<double>(exec, c + 1, d);
  upload<double>(exec, host, z_.view());
  cholesky_solve_rows<double>(exec, factor_.factor(), z_.view());
  download<double>(exec, z_.view(), host);
  for (std::int64_t k = 0; k <= c; ++k) {
    double sum = 0;
    for (std::int64_t j = 0; j < d; ++j) sum += host(k, j) * host(k, j);
    norms_.push_back(sum);
  }
}

std::int64_t GaussianHead::n_inputs() const {
  return map_ ? map_->n_inputs() : n_features();
}

void GaussianHead::class_means(MatrixView<double> out) const {
  GRAMIAN_REQUIRE(out.rows == n_classes() && out.cols == n_features(), shape_mismatch,
                  "the output has the wrong shape");
  for (std::int64_t k = 0; k < out.rows; ++k)
    for (std::int64_t j = 0; j < out.cols; ++j) out(k, j) = offsets_[at(k * out.cols + j)] + mean()[at(j)];
}

// body(begin, z on the device, products z z_c' of the block on the host with one column more for the mean)
template <class Body>
void GaussianHead::blocks(const RowsView& x, const Body& body) const {
  GRAMIAN_REQUIRE(x.cols == n_inputs(), shape_mismatch,
                  "X has " + std::to_string(x.cols) + " features, but " + std::to_string(n_inputs()) + " are expected");
  const Exec& exec = factor_.exec();
  const std::int64_t d = n_features(), columns = z_.rows();
  const std::int64_t edge = std::min(rows_at_a_time(d), x.rows);
  Array<double> z(exec, edge, d), products(exec, edge, columns);
  std::vector<double> host(at(edge * columns));
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    exec.poll();
    const std::int64_t count = std::min(edge, x.rows - begin);
    const MatrixView<double> rows = z.view().block(0, 0, count, d);
    factor_.whiten(x.slice(begin, count), map_.get(), rows);
    const MatrixView<double> block = products.view().block(0, 0, count, columns);
    gemm<double>(exec, Trans::no, Trans::yes, 1.0, rows, z_.view(), 0.0, block);
    const MatrixView<double> out(host.data(), count, columns);
    download<double>(exec, block, out);
    body(begin, rows, out);
  }
}

void GaussianHead::distances(const RowsView& x, MatrixView<double> out) const {
  GRAMIAN_REQUIRE(out.rows == x.rows && out.cols == n_classes(), shape_mismatch, "the output has the wrong shape");
  const Exec& exec = factor_.exec();
  const std::int64_t c = n_classes();
  blocks(x, [&](std::int64_t begin, MatrixView<double> z, MatrixView<double> products) {
    const std::vector<double> square = row_squares<double>(exec, z);
    for (std::int64_t r = 0; r < z.rows; ++r)
      for (std::int64_t k = 0; k < c; ++k)
        out(begin + r, k) = std::max(0.0, square[at(r)] + norms_[at(k)] - 2 * products(r, k));
  });
}

void GaussianHead::scores(const RowsView& x, MatrixView<double> out) const {
  GRAMIAN_REQUIRE(out.rows == x.rows && out.cols == n_classes(), shape_mismatch, "the output has the wrong shape");
  const std::int64_t c = n_classes();
  blocks(x, [&](std::int64_t begin, MatrixView<double> z, MatrixView<double> products) {
    for (std::int64_t r = 0; r < z.rows; ++r) {
      const double of_mean = products(r, c) + norms_[at(c)] / 2;
      for (std::int64_t k = 0; k < c; ++k)
        out(begin + r, k) = products(r, k) - norms_[at(k)] / 2 + std::log(priors_[at(k)]) + of_mean;
    }
  });
}

void GaussianHead::predict_proba(const RowsView& x, MatrixView<double> out) const {
  GRAMIAN_REQUIRE(out.rows == x.rows && out.cols == n_classes(), shape_mismatch, "the output has the wrong shape");
  blocks(x, [&](std::int64_t begin, MatrixView<double> z, MatrixView<double> products) {
    for (std::int64_t r = 0; r < z.rows; ++r) {
      double* row = out.row(begin + r);
      for (std::int64_t k = 0; k < n_classes(); ++k)
        row[k] = products(r, k) - norms_[at(k)] / 2 + std::log(priors_[at(k)]);
    }
  });
  softmax_rows(factor_.exec(), 1.0, out);
}

void GaussianHead::predict(const RowsView& x, std::int64_t* places) const {
  blocks(x, [&](std::int64_t begin, MatrixView<double> z, MatrixView<double> products) {
    for (std::int64_t r = 0; r < z.rows; ++r) {
      double* row = products.row(r);
      for (std::int64_t k = 0; k < n_classes(); ++k) row[k] += std::log(priors_[at(k)]) - norms_[at(k)] / 2;
      places[begin + r] = std::max_element(row, row + n_classes()) - row;
    }
  });
}

void GaussianHead::ood_score(const RowsView& x, double* out) const {
  const std::int64_t edge = std::min(rows_at_a_time(n_classes()), x.rows);
  std::vector<double> block(at(edge * n_classes()));
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    const std::int64_t count = std::min(edge, x.rows - begin);
    const MatrixView<double> all(block.data(), count, n_classes());
    distances(x.slice(begin, count), all);
    for (std::int64_t r = 0; r < count; ++r) out[begin + r] = -*std::min_element(all.row(r), all.row(r) + all.cols);
  }
}

void GaussianHead::ood_gradient(const RowsView& x, MatrixView<double> out) const {
  GRAMIAN_REQUIRE(out.rows == x.rows && out.cols == n_features(), shape_mismatch, "the output has the wrong shape");
  const std::int64_t d = n_features();
  blocks(x, [&](std::int64_t begin, MatrixView<double> z, MatrixView<double> products) {
    std::vector<double> rows(at(z.rows * d));
    const MatrixView<double> step(rows.data(), z.rows, d);
    download<double>(factor_.exec(), z, step);
    for (std::int64_t r = 0; r < z.rows; ++r) {
      std::int64_t nearest = 0;
      for (std::int64_t k = 1; k < n_classes(); ++k)
        if (norms_[at(k)] - 2 * products(r, k) < norms_[at(nearest)] - 2 * products(r, nearest)) nearest = k;
      for (std::int64_t j = 0; j < d; ++j) step(r, j) = -2 * (step(r, j) - z_host_[at(nearest * d + j)]);
    }
    factor_.weights_of(step, out.block(begin, 0, z.rows, d));
  });
}

void GaussianHead::weights(MatrixView<double> coef, std::vector<double>& intercept) const {
  const std::int64_t d = n_features(), c = n_classes();
  std::vector<double> rows(at(c * d));
  intercept.assign(at(c), 0.0);
  for (std::int64_t k = 0; k < c; ++k) {
    double square = 0;
    for (std::int64_t j = 0; j < d; ++j) {
      const double value = z_host_[at(k * d + j)] + z_host_[at(c * d + j)];
      rows[at(k * d + j)] = value;
      square += value * value;
    }
    intercept[at(k)] = std::log(priors_[at(k)]) - square / 2;
  }
  factor_.weights_of({rows.data(), c, d}, coef);
}

}  // namespace gramian
