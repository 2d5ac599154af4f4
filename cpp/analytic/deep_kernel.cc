#include "gramian/analytic/deep_kernel.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "analytic/pair_distances.h"
#include "gramian/core/error.hpp"

namespace gramian {

namespace {

constexpr double kPi = 3.14159265358979323846;
// erf has slope sqrt(2 a^2 / (1 + 2 a^2)) behind its arcsine; a = 1 for erf itself on unit variance.
constexpr double kErfRho = 2.0 / 3.0;
// |S| below this is carried by its logarithm: c(S) is then its lowest term to far below rounding.
constexpr double kTiny = 1e-60;
// Powers of ten that a mantissa may take before it moves into the exponent.
constexpr double kLarge = 1e120;

Scaled normal(double m, double exponent) {
  const double size = std::abs(m);
  if (size == 0) return {0, 0};
  if (size < kLarge && size > 1 / kLarge) return {m, exponent};
  return {std::copysign(1.0, m), exponent + std::log(size)};
}

Scaled times(const Scaled& a, const Scaled& b) {
  return a.m == 0 || b.m == 0 ? Scaled{} : normal(a.m * b.m, a.exponent + b.exponent);
}

Scaled plus(const Scaled& a, const Scaled& b) {
  if (a.m == 0) return b;
  if (b.m == 0) return a;
  if (a.exponent >= b.exponent) return normal(a.m + b.m * std::exp(b.exponent - a.exponent), a.exponent);
  return normal(b.m + a.m * std::exp(a.exponent - b.exponent), b.exponent);
}

// sin t - t cos t, which cancels for small t.
double sine_gap(double t) {
  if (t > 0.5) return std::sin(t) - t * std::cos(t);
  // sum (-1)^(k+1) 2 k t^(2 k + 1) / (2 k + 1)!
  double power = t * t * t / 6, sum = 0;
  for (int k = 1; k <= 9; ++k) {
    sum += (k % 2 == 1 ? 2.0 : -2.0) * k * power;
    power *= t * t / ((2.0 * k + 2) * (2.0 * k + 3));
  }
  return sum;
}

}  // namespace

double Scaled::value() const {
  return m == 0 ? 0.0 : m * std::exp(exponent);
}
double Scaled::log_abs() const {
  return m == 0 ? -std::numeric_limits<double>::infinity() : std::log(std::abs(m)) + exponent;
}

DualMap DualMap::relu(double bias) {
  DualMap map;
  map.kind_ = Kind::relu;
  map.finish(bias);
  return map;
}

DualMap DualMap::erf(double bias) {
  DualMap map;
  map.kind_ = Kind::erf;
  map.finish(bias);
  return map;
}

DualMap DualMap::hermite(const std::vector<double>& coefficients, double bias) {
  DualMap map;
  double total = 0;
  for (const double a : coefficients) {
    GRAMIAN_REQUIRE(std::isfinite(a), invalid_argument, "hermite contains NaN or infinity");
    map.squares_.push_back(a * a);
    total += a * a;
  }
  GRAMIAN_REQUIRE(total > 0 && std::isfinite(total), invalid_argument, "hermite needs a coefficient that is not zero");
  for (double& square : map.squares_) square /= total;
  while (map.squares_.back() == 0) map.squares_.pop_back();
  map.finish(bias);
  return map;
}

void DualMap::finish(double bias) {
  GRAMIAN_REQUIRE(std::isfinite(bias) && bias >= 0, invalid_argument,
                  "bias must be finite and not negative, got " + std::to_string(bias));
  bias_ = bias;
  const double share = 1 / (1 + bias);
  if (bias > 0 || kind_ == Kind::relu) return;
  if (kind_ == Kind::erf) {
    power_ = 1;
    weight_ = kErfRho / std::asin(kErfRho) * share;
    return;
  }
  while (squares_[static_cast<std::size_t>(power_)] == 0) ++power_;
  weight_ = squares_[static_cast<std::size_t>(power_)] * share;
}

double DualMap::value(double s) const {
  double c = 0;
  switch (kind_) {
    case Kind::relu:
      s = std::clamp(s, -1.0, 1.0);
      c = (std::sqrt((1 - s) * (1 + s)) + s * (kPi - std::acos(s))) / kPi;
      break;
    case Kind::erf:
      c = std::asin(kErfRho * s) / std::asin(kErfRho);
      break;
    case Kind::hermite:
      for (std::size_t k = squares_.size(); k-- > 0;) c = c * s + squares_[k];
  }
  return (c + bias_) / (1 + bias_);
}

double DualMap::slope(double s) const {
  double c = 0;
  switch (kind_) {
    case Kind::relu:
      c = (kPi - std::acos(std::clamp(s, -1.0, 1.0))) / kPi;
      break;
    case Kind::erf:
      c = kErfRho / (std::sqrt(1 - kErfRho * kErfRho * s * s) * std::asin(kErfRho));
      break;
    case Kind::hermite:
      for (std::size_t k = squares_.size(); k-- > 1;) c = c * s + static_cast<double>(k) * squares_[k];
  }
  return c / (1 + bias_);
}

double DualMap::gap(double u) const {
  double gap = 0;
  switch (kind_) {
    case Kind::relu: {
      const double angle = 2 * std::asin(std::sqrt(0.5 * u));
      gap = u - sine_gap(angle) / kPi;
      break;
    }
    case Kind::erf: {
      // asin a - asin b through the sine of the difference, a = rho, b = rho (1 - u).
      const double a = kErfRho, step = kErfRho * u, b = a - step;
      const double cos_a = std::sqrt((1 - a) * (1 + a)), cos_b = std::sqrt((1 - b) * (1 + b));
      gap = std::asin(a * step * (a + b) / (cos_a + cos_b) + step * cos_a) / std::asin(kErfRho);
      break;
    }
    case Kind::hermite: {
      // 1 - (1 - u)^k by g_{k+1} = g_k + u (1 - u)^k: sums of what is not negative.
      double g = 0, power = 1;
      for (std::size_t k = 1; k < squares_.size(); ++k) {
        g += u * power;
        power *= 1 - u;
        gap += squares_[k] * g;
      }
    }
  }
  return gap / (1 + bias_);
}

double DualMap::slope_at_gap(double u) const {
  if (kind_ != Kind::relu) return slope(1 - u);
  return (kPi - 2 * std::asin(std::sqrt(0.5 * u))) / kPi / (1 + bias_);
}

double DualMap::mean() const {
  return std::sqrt(value(0.0));
}
double DualMap::first() const {
  return std::sqrt(slope(0.0));
}
double DualMap::expansion() const {
  return slope(1.0);
}

DeepKernel::DeepKernel(DualMap map, std::int64_t depth, Kind kind, double lift)
    : map_(std::move(map)), depth_(depth), kind_(kind), lift_(lift) {
  GRAMIAN_REQUIRE(depth >= 0, invalid_argument, "depth must not be negative, got " + std::to_string(depth));
  GRAMIAN_REQUIRE(std::isfinite(lift) && lift >= 0, invalid_argument,
                  "lift must be finite and not negative, got " + std::to_string(lift));
}

Scaled DeepKernel::at(double gap, Kind kind) const {
  const bool tangent = kind == Kind::ntk;
  const int power = map_.lowest_power();
  // S is 1 - gap where that is at least 1/2, else s, and s = sign e^log_s once it is tiny.
  double s = 1 - gap, sign = 1, log_s = 0;
  bool near = gap <= 0.5, tiny = false;
  Scaled k = normal(s, 0);
  for (std::int64_t layer = 0; layer < depth_; ++layer) {
    if (!near && !tiny && power > 0 && std::abs(s) < kTiny) {
      tiny = true;
      sign = s < 0 ? -1 : 1;
      log_s = std::log(std::abs(s));
    }
    Scaled slope, next;
    if (tiny) {
      const double log_weight = std::log(map_.lowest_weight());
      const double odd = power % 2 == 0 ? 1.0 : sign;
      // power - 1 = 0 times an infinite logarithm would be no number.
      const double below = power == 1 ? 0.0 : (power - 1) * log_s;
      if (std::isfinite(below))
        slope = {power % 2 == 0 ? sign : 1.0, std::log(static_cast<double>(power)) + log_weight + below};
      log_s = log_weight + power * log_s;
      sign = odd;
      if (std::isfinite(log_s)) next = {sign, log_s};
    } else {
      if (tangent) slope = normal(near ? map_.slope_at_gap(gap) : map_.slope(s), 0);
      if (near) {
        gap = map_.gap(gap);
        s = 1 - gap;
        near = gap <= 0.5;
      } else {
        s = map_.value(s);
        if (s >= 0.5) {
          gap = 1 - s;
          near = true;
        }
      }
      next = normal(s, 0);
    }
    k = tangent ? plus(next, times(k, slope)) : next;
  }
  return k;
}

Array<double> DeepKernel::unit_rows(const Exec& exec, const RowsView& x, const char* name) const {
  const std::int64_t n = x.rows, width = x.cols + (lift_ > 0 ? 1 : 0);
  Array<double> rows(exec, n, width);
  load_rows<double>(exec, x, nullptr, nullptr, rows.view().block(0, 0, n, x.cols), name);
  if (lift_ > 0) {
    const std::vector<double> column(static_cast<std::size_t>(n), lift_);
    upload<double>(exec, {column.data(), n, 1}, rows.view().block(0, x.cols, n, 1));
  }
  std::vector<double> factor = row_squares<double>(exec, rows.view());
  for (std::int64_t r = 0; r < n; ++r) {
    double& value = factor[static_cast<std::size_t>(r)];
    GRAMIAN_REQUIRE(
        value > 0 && std::isfinite(value), invalid_argument,
        "row " + std::to_string(x.first_row + r) + " of " + name +
            (value > 0 ? " is too long to be scaled to unit length" : " is zero and has no direction; use lift > 0"));
    value = 1 / std::sqrt(value);
  }
  scale_rows<double>(exec, factor, rows.view());
  if (exec.device() == Device::cpu) return rows;
  Array<double> host(Exec(Device::cpu, 1), n, width);
  download<double>(exec, rows.view(), host.view());
  return host;
}

void DeepKernel::matrix(const Exec& exec, const RowsView& x, const RowsView* y, Output output,
                        MatrixView<double> out) const {
  GRAMIAN_REQUIRE(y == nullptr || x.cols == y->cols, shape_mismatch,
                  "X has " + std::to_string(x.cols) + " features, but Y has " + std::to_string(y ? y->cols : 0));
  const Array<double> left = unit_rows(exec, x, "X");
  const Array<double> right = y == nullptr ? Array<double>() : unit_rows(exec, *y, "Y");
  const MatrixView<const double> columns = y == nullptr ? left.view() : right.view();
  GRAMIAN_REQUIRE(out.rows == left.rows() && out.cols == columns.rows, shape_mismatch,
                  "the kernel matrix has another shape");
  if (out.empty()) return;
  const PairDistances distances(exec, columns);
  const std::int64_t block = distances.block_rows();
  for (std::int64_t begin = 0; begin < out.rows; begin += block) {
    exec.poll();
    const std::int64_t rows = std::min(block, out.rows - begin);
    // Of a symmetric matrix the columns up to the block's diagonal; the rest is copied below.
    const std::int64_t count = y == nullptr ? begin + rows : out.cols;
    const MatrixView<double> part = out.block(begin, 0, rows, count);
    distances.block(left.view().block(begin, 0, rows, left.cols()), count, part);
    exec.parallel_for(rows, [&](std::int64_t r) {
      for (std::int64_t c = 0; c < count; ++c) {
        if (y == nullptr && c > begin + r) break;
        const Scaled k = at(std::min(2.0, 0.5 * part(r, c)));
        part(r, c) = output == Output::value     ? k.value()
                     : output == Output::log_abs ? k.log_abs()
                                                 : static_cast<double>((k.m > 0) - (k.m < 0));
      }
    });
  }
  if (y != nullptr) return;
  exec.parallel_for(out.rows, [&](std::int64_t r) {
    for (std::int64_t c = r + 1; c < out.cols; ++c) out(r, c) = out(c, r);
  });
}

}  // namespace gramian
