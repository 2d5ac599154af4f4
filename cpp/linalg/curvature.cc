#include "linalg/curvature.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian::linalg {
namespace {

using View = MatrixView<double>;
using ConstView = MatrixView<const double>;

constexpr std::int64_t kHeld = 16, kKept = 8;
// The Ritz vectors only tell where to look: what counts is a product of their own.
constexpr double kCut = 1e-10;
constexpr double kSlack = 10;
constexpr int kMostPower = 1000;  // so that the inverse is a double too
// Lengths whose squares are in range.
constexpr double kShortest = 1e-280, kLongest = 1e280;

std::vector<double> to_host(const Exec& exec, ConstView x) {
  std::vector<double> host(static_cast<std::size_t>(x.rows * x.cols));
  download<double>(exec, x, {host.data(), x.rows, x.cols});
  return host;
}

// x y' on the host.
std::vector<double> products(const Exec& exec, ConstView x, ConstView y) {
  Array<double> out(exec, x.rows, y.rows);
  gemm<double>(exec, Trans::no, Trans::yes, 1.0, x, y, 0.0, out.view());
  return to_host(exec, out.view());
}

}  // namespace

SymmetricMatrix<double> symmetric_part(const Exec& exec, const std::vector<double>& a, std::int64_t k) {
  std::vector<double> lower;
  const auto at = [&](std::int64_t i, std::int64_t j) { return a[static_cast<std::size_t>(i * k + j)]; };
  for (std::int64_t i = 0; i < k; ++i)
    for (std::int64_t j = 0; j <= i; ++j) lower.push_back((at(i, j) + at(j, i)) / 2);
  SymmetricMatrix<double> out(exec, k);
  out.unpack(exec, lower.data());
  return out;
}

Ritz ritz_of(const Exec& exec, const std::vector<double>& gram, const std::vector<double>& products, std::int64_t k,
             double cut) {
  std::vector<double> w, scale;
  Array<double> v;
  symmetric_eigen(exec, symmetric_part(exec, gram, k), w, v);
  std::int64_t first = 0;
  while (first < k && !(w[static_cast<std::size_t>(first)] > cut * w.back())) ++first;
  const std::int64_t kept = k - first;
  if (kept == 0) return {};
  for (std::int64_t i = first; i < k; ++i) scale.push_back(1 / std::sqrt(w[static_cast<std::size_t>(i)]));
  const View basis = v.view().block(first, 0, kept, k);
  scale_rows<double>(exec, scale, basis);
  Array<double> middle(exec, k, k), half(exec, kept, k), inside(exec, kept, kept);
  upload<double>(exec, {products.data(), k, k}, middle.view());
  gemm<double>(exec, Trans::no, Trans::no, 1.0, basis, middle.view(), 0.0, half.view());
  gemm<double>(exec, Trans::no, Trans::yes, 1.0, half.view(), basis, 0.0, inside.view());
  Ritz out;
  Array<double> vectors;
  symmetric_eigen(exec, symmetric_part(exec, to_host(exec, inside.view()), kept), out.values, vectors);
  out.weights = Array<double>(exec, kept, k);
  gemm<double>(exec, Trans::no, Trans::no, 1.0, vectors.view(), basis, 0.0, out.weights.view());
  return out;
}

CurvatureWatch::CurvatureWatch(const Exec& exec, std::int64_t n, double top, double unit)
    : exec_(exec),
      noise_(kSlack * unit * std::sqrt(static_cast<double>(n))),
      unit_(top > 0 ? std::ldexp(1.0, std::clamp(-std::ilogb(top), -kMostPower, kMostPower)) : 1.0),
      largest_(top > 0 ? top * unit_ : 0.0),
      x_(exec, kHeld, n),
      ax_(exec, kHeld, n) {}

void CurvatureWatch::see(ConstView x, ConstView ax) {
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const View v = row(x_, count_), av = row(ax_, count_);
    axpby<double, double>(exec_, 1.0, x.block(r, 0, 1, x.cols), 0.0, v);
    axpby<double, double>(exec_, unit_, ax.block(r, 0, 1, x.cols), 0.0, av);
    const double square = row_squares<double>(exec_, v).front(), image = row_squares<double>(exec_, av).front();
    // Zeros, and solutions of any size, which no direction is.
    if (!(square > kShortest && square < kLongest && image < kLongest)) continue;
    const double length = std::sqrt(square);
    axpby<double, double>(exec_, 0.0, {}, 1 / length, v);
    axpby<double, double>(exec_, 0.0, {}, 1 / length, av);
    judge(products(exec_, v, av).front(), std::sqrt(image) / length);
    if (++count_ == kHeld) compress();
  }
}

// Of a unit vector.
void CurvatureWatch::judge(double curvature, double image) {
  largest_ = std::max(largest_, image);
  if (!(curvature < -noise_ * largest_)) return;
  char text[120];
  std::snprintf(text, sizeof text, "the matrix is not positive semi-definite: v'K v / v'v = %.6g for a direction v",
                curvature / unit_);
  throw Error(ErrorCode::not_positive_definite, text);
}

// All rows become the lowest Ritz vectors of their span.
void CurvatureWatch::compress() {
  const View x = x_.view().block(0, 0, count_, x_.cols()), ax = ax_.view().block(0, 0, count_, x_.cols());
  const Ritz found = ritz_of(exec_, products(exec_, x, x), products(exec_, x, ax), count_, kCut);
  const auto kept = std::min<std::int64_t>(kKept, static_cast<std::int64_t>(found.values.size()));
  least_ = found.values.front();
  const ConstView weights = found.weights.view().block(0, 0, kept, count_);
  for (Array<double>* held : {&x_, &ax_}) {
    Array<double> next(exec_, kept, x_.cols());
    gemm<double>(exec_, Trans::no, Trans::no, 1.0, weights, held->view().block(0, 0, count_, x_.cols()), 0.0,
                 next.view());
    axpby<double, double>(exec_, 1.0, next.view(), 0.0, held->view().block(0, 0, kept, x_.cols()));
  }
  count_ = kept;
}

std::int64_t CurvatureWatch::finish(const BlockMap& a) {
  if (count_ == 0) return 0;
  compress();
  if (!(least_ < -noise_ * largest_)) return 0;
  Array<double> v(exec_, 1, x_.cols()), av(exec_, 1, x_.cols());
  axpby<double, double>(exec_, 1.0, row(x_, 0), 0.0, v.view());
  a(v.view(), av.view());
  see(v.view(), av.view());
  return 1;
}

}  // namespace gramian::linalg
