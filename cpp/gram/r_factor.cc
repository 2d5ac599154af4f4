#include "gramian/gram/r_factor.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/row_count.h"
#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/linalg/solve.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

namespace {

// No product of two numbers below it overflows.
constexpr std::int64_t kMostColumns = std::int64_t{1} << 30;
// Of the largest entry of a triangle, and of its part of X: where sums of squares neither overflow nor lose what is eps
// times the largest. Some tables scale columns before they square them, but not all do.
constexpr double kLargest = 1e150, kSmallest = 1e-140;
constexpr double kSmallTarget = 1e-100;

// Of the power method on (R'R)^-1: after three, the estimate is low by more than a factor d^(1/12) only for starts that
// no fixed vector has by accident.
constexpr int kPowerSteps = 3;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

std::vector<double> on_host(const Exec& exec, MatrixView<const double> x) {
  std::vector<double> host(at(x.rows * x.cols));
  download<double>(exec, x, {host.data(), x.rows, x.cols});
  return host;
}

// The powers of two of columns with these largest values, where one is small enough to vanish when it is squared.
std::vector<int> powers_of(const std::vector<double>& largest) {
  std::vector<int> out(largest.size(), 0);
  bool any = false;
  for (std::size_t j = 0; j < largest.size(); ++j) {
    if (largest[j] == 0 || largest[j] >= kSmallTarget) continue;
    std::frexp(largest[j], &out[j]);
    any = true;
  }
  return any ? out : std::vector<int>();
}

double frobenius(const std::vector<double>& values) {
  double largest = 0, total = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  if (!(largest > 0) || !std::isfinite(largest)) return largest;
  for (const double value : values) total += value / largest * (value / largest);
  return largest * std::sqrt(total);
}

// x = V S^+ U' b over the singular values above rtol times the largest.
void solve_by_values(const Exec& exec, MatrixView<const double> r, MatrixView<const double> b, double rtol,
                     MatrixView<double> x, TriangularSolution& out) {
  const std::int64_t d = r.rows;
  Array<double> u(exec, d, d), vt(exec, d, d), inside(exec, d, b.cols);
  std::vector<double> s;
  small_svd<double>(exec, r, u.view(), s, vt.view());
  out.rank = 0;
  while (out.rank < d && s[at(out.rank)] > rtol * s[0]) ++out.rank;
  out.estimated = false;
  out.condition = out.rank > 0 ? s[0] / s[at(out.rank - 1)] : 1.0;
  std::vector<double> inverse(at(d), 0.0);
  for (std::int64_t i = 0; i < out.rank; ++i) inverse[at(i)] = 1.0 / s[at(i)];
  if (b.cols == 0) return;
  gemm<double>(exec, Trans::yes, Trans::no, 1.0, u.view(), b, 0.0, inside.view());
  scale_rows<double>(exec, inverse, inside.view());
  gemm<double>(exec, Trans::yes, Trans::no, 1.0, vt.view(), inside.view(), 0.0, x);
}

// x = (R'R + ridge)^-1 R'b for a ridge of |R|_F^2 or more, all divided by it: I + R'R / ridge has a condition below 2,
// and x all its digits, where R of [R; sqrt(ridge) I] loses what is small against the ridge.
void solve_by_ridge(const Exec& exec, MatrixView<const double> r, MatrixView<const double> b, double ridge,
                    MatrixView<double> x, TriangularSolution& out) {
  const std::int64_t d = r.rows;
  const double root = std::sqrt(ridge);
  Array<double> scaled(exec, d, d);
  axpby<double, double>(exec, 1 / root, r, 0.0, scaled.view());
  SymmetricMatrix<double> l(exec, d);
  gram_update<double>(exec, 1.0, scaled.view(), l);
  l.add_diagonal(exec, 1.0);
  GRAMIAN_REQUIRE(cholesky(exec, l) == 0, internal, "a matrix near I is not positive definite");
  const double size = frobenius(on_host(exec, scaled.view()));
  out.condition = std::sqrt(1 + size * size);
  out.rank = d;
  if (b.cols == 0) return;
  gemm<double>(exec, Trans::yes, Trans::no, 1.0, scaled.view(), b, 0.0, x);
  cholesky_solve_half<double>(exec, Trans::no, l, x);
  cholesky_solve_half<double>(exec, Trans::yes, l, x);
  axpby<double, double>(exec, 0.0, {}, 1 / root, x);
}

// The R of [r; sqrt(ridge) I 0].
Array<double> with_ridge(const Exec& exec, MatrixView<const double> r, std::int64_t d, double ridge) {
  Array<double> merged(exec, r.rows, r.cols), penalty(exec, r.rows, r.cols);
  axpby<double, double>(exec, 1.0, r, 0.0, merged.view());
  std::vector<double> diagonal(at(r.rows * r.cols), 0.0);
  for (std::int64_t j = 0; j < d; ++j) diagonal[at(j * r.cols + j)] = std::sqrt(ridge);
  upload<double>(exec, {diagonal.data(), r.rows, r.cols}, penalty.view());
  qr_merge_r<double>(exec, penalty.view(), merged.view());
  return merged;
}

// Without a ridge, or with its rows in the triangle.
void solve_plain(const Exec& exec, MatrixView<const double> triangle, std::int64_t d, double rtol, MatrixView<double> x,
                 TriangularSolution& out) {
  const std::int64_t k = triangle.cols - d;
  const MatrixView<const double> r11 = triangle.block(0, 0, d, d), r12 = triangle.block(0, d, d, k);
  const SymmetricMatrix<double> l = lower_factor<double, double>(exec, r11);
  const double estimate = frobenius(on_host(exec, r11)) * inverse_norm(exec, l, kPowerSteps);
  out.condition = std::max(1.0, estimate);
  out.rank = d;
  // The estimate is high by up to the root of d in one factor and low in the other: ten covers both, and what is in
  // doubt is decided by the singular values themselves.
  if (!(10 * estimate * rtol < 1)) solve_by_values(exec, r11, r12, rtol, x, out);
  if (out.rank < d || k == 0) return;
  axpby<double, double>(exec, 1.0, r12, 0.0, x);
  cholesky_solve_half<double>(exec, Trans::yes, l, x);
}

}  // namespace

TriangularSolution solve_triangle(const Exec& exec, MatrixView<const double> r, std::int64_t d, double rtol,
                                  double ridge) {
  const std::int64_t k = r.cols - d;
  GRAMIAN_REQUIRE(r.rows == r.cols && k >= 0, shape_mismatch, "solve_triangle: R has another shape");
  GRAMIAN_REQUIRE(std::isfinite(ridge) && ridge >= 0, invalid_argument,
                  "ridge must be finite and not negative, got " + std::to_string(ridge));
  GRAMIAN_REQUIRE(!(rtol >= 1), invalid_argument, "rtol must be below 1, got " + std::to_string(rtol));
  if (!(rtol >= 0)) rtol = default_rtol(d);
  TriangularSolution out;
  Array<double> merged, x(exec, d, k);
  MatrixView<const double> triangle = r;
  const double size = frobenius(on_host(exec, r.block(0, 0, d, d)));
  const bool large = ridge > 0 && std::sqrt(ridge) >= size;
  if (large) {
    solve_by_ridge(exec, r.block(0, 0, d, d), r.block(0, d, d, k), ridge, x.view(), out);
  } else if (ridge > 0) {
    merged = with_ridge(exec, r, d, ridge);
    triangle = merged.view();
  }
  if (!large) solve_plain(exec, triangle, d, rtol, x.view(), out);
  out.x = on_host(exec, x.view());
  if (k == 0) return out;
  // y - X x has the coordinates R12 - R11 x inside the columns of X and R22 outside.
  Array<double> inside(exec, d, k);
  axpby<double, double>(exec, 1.0, r.block(0, d, d, k), 0.0, inside.view());
  gemm<double>(exec, Trans::no, Trans::no, -1.0, r.block(0, 0, d, d), x.view(), 1.0, inside.view());
  const std::vector<double> within = on_host(exec, inside.view()), outside = on_host(exec, r.block(d, d, k, k));
  for (std::int64_t j = 0; j < k; ++j) {
    std::vector<double> column;
    for (std::int64_t i = 0; i < d; ++i) column.push_back(within[at(i * k + j)]);
    for (std::int64_t i = 0; i < k; ++i) column.push_back(outside[at(i * k + j)]);
    out.residual_norms.push_back(frobenius(column));
  }
  return out;
}

struct RFactor::Impl {
  Impl(const Exec& exec_, std::int64_t d_, std::int64_t k_) : exec(exec_), d(d_), k(k_) {
    GRAMIAN_REQUIRE(d >= 1 && k >= 0, invalid_argument, "an R factor needs at least one feature");
    GRAMIAN_REQUIRE(
        d < kMostColumns && k < kMostColumns, invalid_argument,
        "an R factor has fewer than 2^30 features and outputs, not " + std::to_string(d) + " and " + std::to_string(k));
    r = Array<double>(exec, d + k, d + k);
    axpby<double, double>(exec, 0.0, {}, 0.0, r.view());
  }

  // r becomes the R of [r; other].
  void absorb(MatrixView<const double> other, std::int64_t rows) {
    require_countable(n_rows, rows);
    Array<double> next(exec, d + k, d + k);
    axpby<double, double>(exec, 1.0, r.view(), 0.0, next.view());
    if (n_rows > 0) {
      const std::vector<int> powers = powers_of_targets(next.view(), other);
      if (powers.empty()) {
        qr_merge_r<double>(exec, other, next.view());
      } else {
        Array<double> scaled(exec, d + k, d + k);
        axpby<double, double>(exec, 1.0, other, 0.0, scaled.view());
        scale_targets(powers, -1, scaled.view());
        scale_targets(powers, -1, next.view());
        qr_merge_r<double>(exec, scaled.view(), next.view());
        scale_targets(powers, 1, next.view());
      }
    } else {
      axpby<double, double>(exec, 1.0, other, 0.0, next.view());
    }
    check_range(next.view());
    r = std::move(next);
    n_rows += rows;
  }

  // What to divide columns of targets by so that their residuals, which are squared, do not vanish; empty where none is
  // that small.
  std::vector<int> powers_of_targets(MatrixView<const double> one, MatrixView<const double> two) const {
    std::vector<double> largest = largest_targets(one);
    const std::vector<double> other = largest_targets(two);
    for (std::size_t j = 0; j < largest.size(); ++j) largest[j] = std::max(largest[j], other[j]);
    return powers_of(largest);
  }
  std::vector<double> largest_targets(MatrixView<const double> triangle) const {
    std::vector<double> largest(at(k), 0.0);
    if (k == 0) return largest;
    const std::vector<double> host = on_host(exec, triangle);
    for (std::int64_t i = 0; i < d + k; ++i) {
      for (std::int64_t j = 0; j < k; ++j)
        largest[at(j)] = std::max(largest[at(j)], std::abs(host[at(i * (d + k) + d + j)]));
    }
    return largest;
  }

  // x (rows x (d + k), or k columns of targets alone) with target j times 2^(sign powers[j]). In two steps, since the
  // power itself may be no double.
  void scale_targets(const std::vector<int>& powers, int sign, MatrixView<double> x) const {
    const MatrixView<double> targets = x.block(0, x.cols - k, x.rows, k);
    Array<double> device(exec, k);
    for (const bool first : {true, false}) {
      std::vector<double> factors;
      for (const int power : powers) factors.push_back(std::ldexp(1.0, sign * (first ? power / 2 : power - power / 2)));
      upload<double>(exec, {factors.data(), 1, k}, device.view());
      scale_columns<double>(exec, device.data(), targets);
    }
  }

  // A triangle is made of squares: values beyond their range, on either side, leave one of other rows.
  void check_range(MatrixView<const double> triangle) const {
    const std::vector<double> host = on_host(exec, triangle);
    double largest = 0;
    for (std::int64_t i = 0; i < d + k; ++i) {
      for (std::int64_t j = i; j < d + k; ++j) {
        const double value = std::abs(host[at(i * (d + k) + j)]);
        GRAMIAN_REQUIRE(value <= kLargest, invalid_argument,
                        "the rows are too large: their squares overflow; divide them by a power of two");
        if (j < d) largest = std::max(largest, value);
      }
    }
    GRAMIAN_REQUIRE(largest == 0 || largest >= kSmallest, invalid_argument,
                    "the rows are too small: their squares underflow; multiply them by a power of two");
  }

  Exec exec;
  std::int64_t d, k;
  std::int64_t n_rows = 0;
  int target_dims = 1;
  Array<double> r;
};

RFactor::RFactor(const Exec& exec, std::int64_t n_features, std::int64_t n_outputs)
    : impl_(std::make_unique<Impl>(exec, n_features, n_outputs)) {}
RFactor::RFactor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RFactor::RFactor(RFactor&&) noexcept = default;
RFactor& RFactor::operator=(RFactor&&) noexcept = default;
RFactor::~RFactor() = default;

std::int64_t RFactor::n_features() const {
  return impl_->d;
}
std::int64_t RFactor::n_outputs() const {
  return impl_->k;
}
std::int64_t RFactor::n_rows() const {
  return impl_->n_rows;
}
int RFactor::target_dims() const {
  return impl_->target_dims;
}
void RFactor::set_target_dims(int dims) {
  GRAMIAN_REQUIRE(dims == 1 || dims == 2, invalid_argument, "targets have one dimension or two");
  impl_->target_dims = dims;
}
std::size_t RFactor::bytes() const {
  return at(impl_->r.size()) * sizeof(double);
}
const Exec& RFactor::exec() const {
  return impl_->exec;
}

void RFactor::add(const RowsView& x, const RowsView& y, const double* weight, const char* x_name, const char* y_name) {
  Impl& self = *impl_;
  GRAMIAN_REQUIRE(x.cols == self.d, shape_mismatch,
                  std::string(x_name) + " has " + std::to_string(x.cols) + " features, but " + std::to_string(self.d) +
                      " are expected");
  GRAMIAN_REQUIRE(self.k == 0 || (y.rows == x.rows && y.cols == self.k), shape_mismatch,
                  std::string(y_name) + " must have " + std::to_string(x.rows) + " rows and " + std::to_string(self.k) +
                      " columns");
  if (x.rows == 0) return;
  std::vector<double> roots;
  std::int64_t counted = x.rows;
  if (weight != nullptr) {
    counted = 0;
    for (std::int64_t r = 0; r < x.rows; ++r) {
      GRAMIAN_REQUIRE(std::isfinite(weight[r]) && weight[r] >= 0, invalid_argument,
                      "the weight of row " + std::to_string(r) + " is negative or not finite");
      roots.push_back(std::sqrt(weight[r]));
      counted += weight[r] > 0 ? 1 : 0;
    }
  }
  std::vector<int> powers;
  const auto load_targets = [&](std::int64_t begin, MatrixView<double> out) {
    load_rows<double>(self.exec, y.slice(begin, out.rows), nullptr, roots.empty() ? nullptr : roots.data() + begin, out,
                      y_name);
    if (!powers.empty()) self.scale_targets(powers, -1, out);
  };
  const RowLoader<double> load = [&](std::int64_t begin, MatrixView<double> out) {
    load_rows<double>(self.exec, x.slice(begin, out.rows), nullptr, roots.empty() ? nullptr : roots.data() + begin,
                      out.block(0, 0, out.rows, self.d), x_name);
    if (self.k > 0) load_targets(begin, out.block(0, self.d, out.rows, self.k));
  };
  Array<double> fresh(self.exec, self.d + self.k, self.d + self.k);
  try {
    qr_factor_r<double>(self.exec, x.rows, load, fresh.view());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::non_finite) throw;
    // Threads may have met a later bad row first: the one that is named is the first.
    const std::int64_t edge = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / (self.d + self.k));
    Array<double> block(self.exec, std::min(edge, x.rows), self.d + self.k);
    for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
      load(begin, block.view().block(0, 0, std::min(edge, x.rows - begin), self.d + self.k));
    }
    throw;
  }
  // Columns of targets that look small, or like zeros: residuals may have vanished.
  std::vector<double> largest = self.largest_targets(fresh.view());
  const bool small = std::any_of(largest.begin(), largest.end(), [](double value) { return value < kSmallTarget; });
  if (small) {
    std::fill(largest.begin(), largest.end(), 0.0);
    const std::int64_t edge = std::min(x.rows, std::max<std::int64_t>(1, (std::int64_t{1} << 20) / self.k));
    Array<double> block(self.exec, edge, self.k);
    for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
      const MatrixView<double> part = block.view().block(0, 0, std::min(edge, x.rows - begin), self.k);
      load_targets(begin, part);
      const std::vector<double> host = on_host(self.exec, part);
      for (std::size_t t = 0; t < host.size(); ++t) {
        double& own = largest[t % largest.size()];
        own = std::max(own, std::abs(host[t]));
      }
    }
    powers = powers_of(largest);
    if (!powers.empty()) {
      qr_factor_r<double>(self.exec, x.rows, load, fresh.view());
      self.scale_targets(powers, 1, fresh.view());
    }
  }
  self.absorb(fresh.view(), counted);
}

void RFactor::merge(const RFactor& other) {
  Impl& self = *impl_;
  const Impl& theirs = *other.impl_;
  GRAMIAN_REQUIRE(theirs.d == self.d && theirs.k == self.k, shape_mismatch,
                  "an R factor of " + std::to_string(theirs.d) + " features and " + std::to_string(theirs.k) +
                      " outputs cannot be merged into one of " + std::to_string(self.d) + " and " +
                      std::to_string(self.k));
  const int dims = std::max(self.target_dims, theirs.target_dims);
  if (theirs.n_rows == 0) {
    self.target_dims = dims;
    return;
  }
  // By way of the host: the two may live on different devices.
  const std::int64_t size = self.d + self.k;
  const std::vector<double> host = on_host(theirs.exec, theirs.r.view());
  Array<double> copy(self.exec, size, size);
  upload<double>(self.exec, {host.data(), size, size}, copy.view());
  self.absorb(copy.view(), theirs.n_rows);
  self.target_dims = dims;
}

void RFactor::triangle(MatrixView<double> out) const {
  const std::int64_t size = impl_->d + impl_->k;
  GRAMIAN_REQUIRE(out.rows == size && out.cols == size, shape_mismatch, "triangle: the output has another shape");
  download<double>(impl_->exec, impl_->r.view(), out);
}

TriangularSolution RFactor::solve(double rtol, double ridge) const {
  GRAMIAN_REQUIRE(impl_->n_rows > 0, not_fitted, "the R factor has no rows yet");
  return solve_triangle(impl_->exec, impl_->r.view(), impl_->d, rtol, ridge);
}

Json RFactor::save(ModelWriter& writer, const std::string& prefix) const {
  const std::int64_t size = impl_->d + impl_->k;
  const std::vector<double> host = on_host(impl_->exec, impl_->r.view());
  std::vector<double> packed;  // the upper triangle by rows
  packed.reserve(at(size * (size + 1) / 2));
  for (std::int64_t i = 0; i < size; ++i)
    packed.insert(packed.end(), host.begin() + i * size + i, host.begin() + (i + 1) * size);
  writer.add(prefix + "triangle", {size * (size + 1) / 2}, std::move(packed));
  Json json = Json::object();
  json["n_features"] = impl_->d;
  json["n_outputs"] = impl_->k;
  json["n_rows"] = impl_->n_rows;
  json["target_dims"] = impl_->target_dims;
  return json;
}

RFactor RFactor::load(const Exec& exec, const Json& config, const ModelReader& reader, const std::string& prefix) {
  const std::int64_t d = config.at("n_features").integer(), k = config.at("n_outputs").integer();
  const std::int64_t rows = config.at("n_rows").integer();
  GRAMIAN_REQUIRE(d >= 1 && d < kMostColumns && k >= 0 && k < kMostColumns && rows >= 0 && rows <= kMostRows,
                  file_format, "the R factor has an impossible size");
  // The first files of schema 1 do not say: their targets count as one-dimensional, as they did then.
  const std::int64_t dims = config.contains("target_dims") ? config.at("target_dims").integer() : 1;
  GRAMIAN_REQUIRE(dims == 1 || dims == 2, file_format, "the R factor has targets of an impossible shape");
  const std::int64_t size = d + k;
  // Looked up, and so its size checked, before memory for the state is taken.
  const double* packed = reader.tensor(prefix + "triangle", TensorType::f64, {size * (size + 1) / 2}).f64();
  std::vector<double> host(at(size * size), 0.0);
  for (std::int64_t i = 0; i < size; ++i) {
    for (std::int64_t j = i; j < size; ++j) {
      const double value = *packed++;
      GRAMIAN_REQUIRE(std::isfinite(value) && (j > i || value >= 0), file_format,
                      "the R factor in the file is damaged");
      host[at(i * size + j)] = value;
    }
  }
  auto impl = std::make_unique<Impl>(exec, d, k);
  upload<double>(exec, {host.data(), size, size}, impl->r.view());
  impl->n_rows = rows;
  impl->target_dims = static_cast<int>(dims);
  return RFactor(std::move(impl));
}

}  // namespace gramian
