#include "sketch/scaled_columns.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "gramian/linalg/ops.hpp"

namespace gramian::sketching {
namespace {

constexpr int kSafeExponent = 150;

// body(begin, rows begin .. in double) for some rows at a time.
template <class Body>
void each_block(const Exec& host, const RowsView& x, const char* name, const Body& body) {
  const std::int64_t edge = std::min(x.rows, std::max<std::int64_t>(1, (std::int64_t{1} << 18) / x.cols));
  Array<double> block(host, edge, x.cols);
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    host.poll();
    const MatrixView<double> rows = block.view().block(0, 0, std::min(edge, x.rows - begin), x.cols);
    load_rows<double>(host, x.slice(begin, rows.rows), nullptr, nullptr, rows, name);
    body(begin, rows);
  }
}

}  // namespace

bool is_safe(const std::vector<int>& exponents) {
  return std::all_of(exponents.begin(), exponents.end(), [](int e) { return std::abs(e) <= kSafeExponent; });
}

std::vector<int> exponents_of(const std::vector<double>& peaks) {
  std::vector<int> out(peaks.size(), 0);
  for (std::size_t j = 0; j < peaks.size(); ++j)
    if (peaks[j] > 0) std::frexp(peaks[j], &out[j]);
  return out;
}

std::vector<int> peak_exponents(const Exec& exec, const RowsView& x, const char* name) {
  std::vector<double> peaks(static_cast<std::size_t>(x.cols), 0.0);
  each_block(exec.on_host(), x, name, [&](std::int64_t, MatrixView<const double> rows) {
    for (std::int64_t r = 0; r < rows.rows; ++r) {
      for (std::int64_t c = 0; c < rows.cols; ++c) {
        double& peak = peaks[static_cast<std::size_t>(c)];
        peak = std::max(peak, std::abs(rows(r, c)));
      }
    }
  });
  return exponents_of(peaks);
}

ScaledRows::ScaledRows(const Exec& exec, const RowsView& rows, std::vector<int> exponents, const char* name)
    : exponents_(std::move(exponents)), copy_(exec.on_host(), rows.rows, rows.cols) {
  each_block(exec.on_host(), rows, name, [&](std::int64_t begin, MatrixView<const double> block) {
    for (std::int64_t r = 0; r < block.rows; ++r)
      for (std::int64_t c = 0; c < block.cols; ++c) copy_.view()(begin + r, c) = std::ldexp(block(r, c), -exponent(c));
  });
  view_ = RowsView::dense<double>(copy_.view());
}

ScaledRows scaled_if_needed(const Exec& exec, const RowsView& rows, std::vector<int> exponents, const char* name) {
  if (is_safe(exponents)) return ScaledRows(rows);
  return ScaledRows(exec, rows, std::move(exponents), name);
}

double distortion_of(std::int64_t m, std::int64_t d) {
  const double rows = std::sqrt(static_cast<double>(m) - 0.5), cols = std::sqrt(static_cast<double>(d) - 0.5);
  const double middle = (rows + cols) * (rows + cols), width = (rows + cols) * std::cbrt(1 / rows + 1 / cols);
  return (middle + 4.5 * width) / static_cast<double>(m) - 1;
}

}  // namespace gramian::sketching
