#include "linalg/binary_scale.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "gramian/core/array.hpp"
#include "gramian/linalg/csr.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian::linalg {
namespace {

constexpr int kSafeExponent = 150;
constexpr std::int64_t kScanElements = std::int64_t{1} << 20;

// body(begin, rows begin.. of A on the host) for some rows at a time; NaN and infinity are found on the way.
template <class Body>
void each_block(const Exec& exec, const RowsView& a, const char* name, const Body& body) {
  const std::int64_t edge = std::max<std::int64_t>(1, kScanElements / std::max<std::int64_t>(1, a.cols));
  Array<double> block(exec, std::min(edge, a.rows), a.cols);
  std::vector<double> host(exec.device() == Device::cpu ? 0 : static_cast<std::size_t>(block.size()));
  for (std::int64_t begin = 0; begin < a.rows; begin += edge) {
    exec.poll();
    MatrixView<double> rows = block.view().block(0, 0, std::min(edge, a.rows - begin), a.cols);
    load_rows<double>(exec, a.slice(begin, rows.rows), nullptr, nullptr, rows, name);
    if (!host.empty()) {
      const MatrixView<double> copy(host.data(), rows.rows, rows.cols);
      download<double>(exec, rows, copy);
      rows = copy;
    }
    body(begin, MatrixView<const double>(rows));
  }
}

}  // namespace

double largest_of(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) largest = larger(largest, value);
  return largest;
}

int exponent_of(double x) {
  int power = 0;
  std::frexp(x, &power);
  return x != 0 && std::isfinite(x) ? power : 0;
}

std::vector<int> exponents_of(const std::vector<double>& values) {
  std::vector<int> out;
  for (const double value : values) out.push_back(exponent_of(value));
  return out;
}

void raise_maxima(MatrixView<const double> x, std::vector<double>& largest) {
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t c = 0; c < x.cols; ++c) {
      double& of_column = largest[static_cast<std::size_t>(c)];
      of_column = larger(of_column, std::abs(x(r, c)));
    }
}

std::vector<double> column_maxima(const Exec& exec, MatrixView<const double> x) {
  std::vector<double> host, largest(static_cast<std::size_t>(x.cols), 0.0);
  if (exec.device() != Device::cpu) {
    host.resize(static_cast<std::size_t>(x.rows * x.cols));
    download<double>(exec, x, {host.data(), x.rows, x.cols});
    x = {host.data(), x.rows, x.cols};
  }
  raise_maxima(x, largest);
  return largest;
}

void shift_columns(const Exec& exec, const std::vector<int>& powers, int sign, MatrixView<double> x) {
  if (std::all_of(powers.begin(), powers.end(), [](int power) { return power == 0; })) return;
  Array<double> device(exec, x.cols);
  // In two steps, since the power itself may be no double.
  for (const bool first : {true, false}) {
    std::vector<double> factors;
    for (const int power : powers) factors.push_back(std::ldexp(1.0, sign * (first ? power / 2 : power - power / 2)));
    upload<double>(exec, {factors.data(), 1, x.cols}, device.view());
    scale_columns<double>(exec, device.data(), x);
  }
}

std::vector<double> column_maxima(const Exec& exec, const RowsView& a, const char* name) {
  std::vector<double> largest(static_cast<std::size_t>(a.cols), 0.0);
  each_block(exec, a, name, [&](std::int64_t, MatrixView<const double> block) { raise_maxima(block, largest); });
  return largest;
}

ShiftedRows::ShiftedRows(const Exec& exec, const RowsView& a, const std::vector<int>& powers, const char* name)
    : view_(a) {
  if (a.sparse) {
    std::int64_t end = 0;  // one past the last stored entry that a row refers to
    each_entry(a, [&](std::int64_t, std::size_t, std::int64_t t, double) { end = std::max(end, t + 1); });
    values_.resize(static_cast<std::size_t>(end));
    each_entry(a, [&](std::int64_t, std::size_t column, std::int64_t t, double value) {
      values_[static_cast<std::size_t>(t)] = std::ldexp(value, powers[column]);
    });
    view_.dtype = DType::f64;
    view_.values = values_.data();
    return;
  }
  values_.resize(static_cast<std::size_t>(a.rows * a.cols));
  each_block(exec, a, name, [&](std::int64_t begin, MatrixView<const double> block) {
    double* out = values_.data() + begin * a.cols;
    for (std::int64_t r = 0; r < block.rows; ++r)
      for (std::int64_t c = 0; c < a.cols; ++c) *out++ = std::ldexp(block(r, c), powers[static_cast<std::size_t>(c)]);
  });
  view_ = RowsView::dense<double>({values_.data(), a.rows, a.cols});
}

bool is_safe(const std::vector<int>& exponents) {
  return std::all_of(exponents.begin(), exponents.end(), [](int e) { return std::abs(e) <= kSafeExponent; });
}

ScaledRows::ScaledRows(const Exec& exec, const RowsView& rows, std::vector<int> exponents, const char* name)
    : ScaledRows(rows) {
  if (is_safe(exponents)) return;
  exponents_ = std::move(exponents);
  std::vector<int> powers;
  for (const int exponent : exponents_) powers.push_back(-exponent);
  copy_.emplace(exec, rows, powers, name);
  view_ = copy_->view();
}

}  // namespace gramian::linalg
