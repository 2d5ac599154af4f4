#include "gramian/analytic/kernel_machine.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "analytic/pair_distances.h"
#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

namespace {

// Draws of members have a tag of their own; a stream tells 2^16 generations of 2^8 factors apart.
constexpr std::uint32_t kDrawTag = 30;
constexpr std::uint32_t kGenerations = 65536;

// kernel: n x n on the host, its lower triangle.
SymmetricMatrix<double> lower_triangle(const Exec& exec, MatrixView<const double> kernel) {
  std::vector<double> packed;
  packed.reserve(static_cast<std::size_t>(kernel.rows * (kernel.rows + 1) / 2));
  for (std::int64_t r = 0; r < kernel.rows; ++r) packed.insert(packed.end(), kernel.row(r), kernel.row(r) + r + 1);
  SymmetricMatrix<double> out(exec, kernel.rows);
  out.unpack(exec, packed.data());
  return out;
}

// Kernel values of unit rows, scaled to 1 on the diagonal.
class UnitKernel {
 public:
  UnitKernel(const DeepKernel& kernel, DeepKernel::Kind kind)
      : kernel_(kernel), kind_(kind), diagonal_(kernel.diagonal(kind)) {}

  double operator()(double squared_distance) const { return relative_to(diagonal_, at(squared_distance)); }
  // In place: squared distances -> kernel values, relative to the largest of the row where asked.
  void row(double* values, std::int64_t count, bool relative, std::vector<Scaled>& work) const {
    if (!relative) {
      for (std::int64_t c = 0; c < count; ++c) values[c] = (*this)(values[c]);
      return;
    }
    work.resize(static_cast<std::size_t>(count));
    double top = -std::numeric_limits<double>::infinity();
    for (std::int64_t c = 0; c < count; ++c) {
      work[static_cast<std::size_t>(c)] = at(values[c]);
      top = std::max(top, work[static_cast<std::size_t>(c)].log_abs());
    }
    const Scaled unit{1.0, std::isfinite(top) ? top : 0.0};
    for (std::int64_t c = 0; c < count; ++c) values[c] = relative_to(unit, work[static_cast<std::size_t>(c)]);
  }
  // All pairs of x and rows (unit rows on the host) into out.
  void matrix(const Exec& exec, MatrixView<const double> x, MatrixView<const double> rows,
              MatrixView<double> out) const {
    const PairDistances distances(exec, rows);
    const std::int64_t block = distances.block_rows();
    for (std::int64_t begin = 0; begin < x.rows; begin += block) {
      exec.poll();
      const std::int64_t count = std::min(block, x.rows - begin);
      const MatrixView<double> part = out.block(begin, 0, count, rows.rows);
      distances.block(x.block(begin, 0, count, x.cols), rows.rows, part);
      exec.parallel_for(count, [&](std::int64_t r) {
        for (std::int64_t c = 0; c < part.cols; ++c) part(r, c) = (*this)(part(r, c));
      });
    }
  }

 private:
  Scaled at(double squared_distance) const { return kernel_.at(std::min(2.0, 0.5 * squared_distance), kind_); }
  static double relative_to(const Scaled& unit, const Scaled& k) {
    return k.m == 0 ? 0.0 : k.m / unit.m * std::exp(k.exponent - unit.exponent);
  }
  const DeepKernel& kernel_;
  DeepKernel::Kind kind_;
  Scaled diagonal_;
};

Array<double> host_matrix(std::int64_t rows, std::int64_t cols) {
  return Array<double>(Exec(Device::cpu, 1), rows, cols);
}

Array<double> on_device(const Exec& exec, MatrixView<const double> host) {
  Array<double> device(exec, host.rows, host.cols);
  upload<double>(exec, host, device.view());
  return device;
}

}  // namespace

KernelMachine::KernelMachine(const Exec& exec, DeepKernel kernel, const RowsView& x, const RowsView& y, double ridge,
                             bool centre)
    : kernel_(std::move(kernel)), n_inputs_(x.cols), ridge_(ridge) {
  GRAMIAN_REQUIRE(std::isfinite(ridge) && ridge >= 0, invalid_argument,
                  "ridge must be finite and not negative, got " + std::to_string(ridge));
  GRAMIAN_REQUIRE(x.rows >= 1 && x.rows == y.rows, shape_mismatch,
                  "X has " + std::to_string(x.rows) + " rows, but y has " + std::to_string(y.rows));
  const std::int64_t n = x.rows, c = y.cols;
  rows_ = kernel_.unit_rows(exec, x, "X");
  Array<double> k = host_matrix(n, n);
  UnitKernel(kernel_, kernel_.kind()).matrix(exec, rows_.view(), rows_.view(), k.view());
  Array<double> targets(exec, n, c);
  load_rows<double>(exec, y, nullptr, nullptr, targets.view(), "y");
  target_mean_.assign(static_cast<std::size_t>(c), 0.0);
  if (centre) {
    target_mean_ = column_sums<double>(exec, targets.view(), {});
    for (double& value : target_mean_) value /= static_cast<double>(n);
    load_rows<double>(exec, y, target_mean_.data(), nullptr, targets.view(), "y");
  }
  const RidgedMatrix gram(lower_triangle(exec, k.view()), ridge);
  k = Array<double>();
  alpha_ = Array<double>(exec, n, c);
  report_ = solve_spd(exec, gram, targets.view(), alpha_.view(), Precision::automatic, false);
  report_.form = "dual";
  report_.ridge = ridge;
}

KernelMachine::KernelMachine(const Exec& exec, DeepKernel kernel, std::int64_t n_inputs,
                             MatrixView<const double> unit_rows, MatrixView<const double> dual_coef,
                             std::vector<double> target_mean, double ridge)
    : kernel_(std::move(kernel)), n_inputs_(n_inputs), ridge_(ridge), target_mean_(std::move(target_mean)) {
  const std::int64_t width = n_inputs + (kernel_.lift() > 0 ? 1 : 0);
  GRAMIAN_REQUIRE(unit_rows.rows >= 1 && unit_rows.cols == width && dual_coef.rows == unit_rows.rows &&
                      dual_coef.cols == static_cast<std::int64_t>(target_mean_.size()),
                  shape_mismatch, "the parts of the kernel machine do not fit together");
  const Exec host(Device::cpu, 1);
  rows_ = host_matrix(unit_rows.rows, width);
  axpby<double, double>(host, 1.0, unit_rows, 0.0, rows_.view());
  alpha_ = on_device(exec, dual_coef);
  report_.method = "restored";
  report_.form = "dual";
  report_.ridge = ridge;
  report_.size = unit_rows.rows;
}

void KernelMachine::predict(const Exec& exec, const RowsView& x, bool relative, MatrixView<double> out) const {
  GRAMIAN_REQUIRE(x.cols == n_inputs_, shape_mismatch,
                  "X has " + std::to_string(x.cols) + " features, but " + std::to_string(n_inputs_) + " are expected");
  GRAMIAN_REQUIRE(out.rows == x.rows && out.cols == n_outputs(), shape_mismatch, "the output has another shape");
  const std::int64_t n = n_rows();
  const Array<double> unit = kernel_.unit_rows(exec, x, "X");
  const UnitKernel kernel(kernel_, kernel_.kind());
  const PairDistances distances(exec, rows_.view());
  const std::int64_t block = std::min(distances.block_rows(), std::max<std::int64_t>(x.rows, 1));
  Array<double> pairs = host_matrix(block, n);
  for (std::int64_t begin = 0; begin < x.rows; begin += block) {
    exec.poll();
    const std::int64_t count = std::min(block, x.rows - begin);
    const MatrixView<double> part = pairs.view().block(0, 0, count, n);
    distances.block(unit.view().block(begin, 0, count, unit.cols()), n, part);
    exec.parallel_for(count, [&](std::int64_t r) {
      std::vector<Scaled> work;
      kernel.row(part.row(r), n, relative, work);
    });
    const Array<double> k = on_device(exec, part);
    Array<double> found(exec, count, n_outputs());
    gemm<double>(exec, Trans::no, Trans::no, 1.0, k.view(), alpha_.view(), 0.0, found.view());
    download<double>(exec, found.view(), out.block(begin, 0, count, out.cols));
  }
  for (std::int64_t r = 0; r < out.rows; ++r)
    for (std::int64_t c = 0; c < out.cols; ++c) out(r, c) += target_mean_[static_cast<std::size_t>(c)];
}

void KernelMachine::distribution(const Exec& exec, const RowsView& x, MatrixView<double> mean,
                                 MatrixView<double> covariance) const {
  predict(exec, x, false, mean);
  const std::int64_t n = n_rows(), m = x.rows;
  GRAMIAN_REQUIRE(covariance.rows == m && covariance.cols == m, shape_mismatch, "the covariance has another shape");
  const Array<double> unit = kernel_.unit_rows(exec, x, "X");
  const UnitKernel prior(kernel_, DeepKernel::Kind::nngp), trained(kernel_, kernel_.kind());

  Array<double> host = host_matrix(n, n), cross = host_matrix(n, m);
  trained.matrix(exec, rows_.view(), rows_.view(), host.view());
  const RidgedMatrix gram(lower_triangle(exec, host.view()), ridge_);
  trained.matrix(exec, rows_.view(), unit.view(), cross.view());
  Array<double> v(exec, n, m);
  solve_spd(exec, gram, on_device(exec, cross.view()).view(), v.view(), Precision::full, false);

  // K(x, x) + V' (K(X, X) V - K(X, x)) - K(x, X) V.
  prior.matrix(exec, rows_.view(), rows_.view(), host.view());
  prior.matrix(exec, rows_.view(), unit.view(), cross.view());
  prior.matrix(exec, unit.view(), unit.view(), covariance);
  const Array<double> k = on_device(exec, host.view()), kx = on_device(exec, cross.view());
  Array<double> inner(exec, n, m), total = on_device(exec, covariance);
  axpby<double, double>(exec, 1.0, kx.view(), 0.0, inner.view());
  gemm<double>(exec, Trans::no, Trans::no, 1.0, k.view(), v.view(), -1.0, inner.view());
  gemm<double>(exec, Trans::yes, Trans::no, 1.0, v.view(), inner.view(), 1.0, total.view());
  gemm<double>(exec, Trans::yes, Trans::no, -1.0, kx.view(), v.view(), 1.0, total.view());
  download<double>(exec, total.view(), covariance);
  for (std::int64_t r = 0; r < m; ++r)
    for (std::int64_t c = 0; c < r; ++c)
      covariance(r, c) = covariance(c, r) = 0.5 * (covariance(r, c) + covariance(c, r));
}

void draw_gaussians(const Exec& exec, MatrixView<const double> mean, MatrixView<const double> covariance,
                    std::uint64_t seed, std::int64_t first, MatrixView<double> out) {
  const std::int64_t m = mean.rows, c = mean.cols;
  GRAMIAN_REQUIRE(covariance.rows == m && covariance.cols == m && out.cols == m * c, shape_mismatch,
                  "draw_gaussians: the shapes do not fit");
  GRAMIAN_REQUIRE(first >= 0 && first + out.rows <= kGenerations * 256, invalid_argument,
                  "at most 2^24 members can be drawn");
  std::vector<double> packed, values;
  for (std::int64_t r = 0; r < m; ++r) packed.insert(packed.end(), covariance.row(r), covariance.row(r) + r + 1);
  SymmetricMatrix<double> matrix(exec, m);
  matrix.unpack(exec, packed.data());
  Array<double> vectors;
  symmetric_eigen(exec, matrix, values, vectors);
  // The symmetric root: that of the eigenvectors alone turns with the signs that LAPACK happens to give them, and so
  // would the draws. Rounding leaves small negative eigenvalues where a row is known exactly.
  for (double& value : values) value = std::sqrt(std::sqrt(std::max(0.0, value)));
  scale_rows<double>(exec, values, vectors.view());
  Array<double> root(exec, m, m), noise(exec, m, c), draw(exec, m, c);
  gemm<double>(exec, Trans::yes, Trans::no, 1.0, vectors.view(), vectors.view(), 0.0, root.view());
  const Array<double> centre = on_device(exec, mean);
  for (std::int64_t r = 0; r < out.rows; ++r) {
    exec.poll();
    const auto number = static_cast<std::uint32_t>(first + r);
    fill_random<double>(exec, Distribution::gaussian,
                        RngStream(seed, RngFamily::gaussian, kDrawTag, number / kGenerations, number % kGenerations),
                        1.0, noise.view());
    axpby<double, double>(exec, 1.0, centre.view(), 0.0, draw.view());
    gemm<double>(exec, Trans::no, Trans::no, 1.0, root.view(), noise.view(), 1.0, draw.view());
    download<double>(exec, draw.view(), MatrixView<double>(out.row(r), m, c));
  }
}

}  // namespace gramian
