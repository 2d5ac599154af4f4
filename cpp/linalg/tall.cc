#include "gramian/linalg/tall.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/qr.hpp"
#include "linalg/blocks.h"
#include "linalg/call.h"

namespace gramian {

using namespace linalg;

namespace {

// Rows of one piece: sums in T stay short, and a piece is work enough for a thread.
constexpr std::int64_t kPieceRows = 2048;
constexpr std::int64_t kMostPieces = 64;
constexpr std::int64_t kMostElements = std::int64_t{1} << 23;  // of all pieces together
constexpr int kMostFactorings = 4;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

// A small square matrix on the host, by rows.
struct Small {
  explicit Small(std::int64_t n_) : n(n_), values(at(n_ * n_), 0.0) {}
  double& operator()(std::int64_t i, std::int64_t j) { return values[at(i * n + j)]; }
  double operator()(std::int64_t i, std::int64_t j) const { return values[at(i * n + j)]; }
  static Small identity(std::int64_t n) {
    Small out(n);
    for (std::int64_t i = 0; i < n; ++i) out(i, i) = 1;
    return out;
  }
  std::int64_t n;
  std::vector<double> values;
};

Small times(const Small& a, const Small& b) {
  Small out(a.n);
  for (std::int64_t i = 0; i < a.n; ++i)
    for (std::int64_t k = 0; k < a.n; ++k)
      for (std::int64_t j = 0; j < a.n; ++j) out(i, j) += a(i, k) * b(k, j);
  return out;
}

template <class T>
std::vector<double> to_host(const Exec& exec, MatrixView<const T> x) {
  std::vector<T> raw(at(x.rows * x.cols));
  download<T>(exec, x, {raw.data(), x.rows, x.cols});
  return std::vector<double>(raw.begin(), raw.end());
}

template <class T>
Array<T> to_device(const Exec& exec, const double* values, std::int64_t rows, std::int64_t cols) {
  const std::vector<T> rounded(values, values + rows * cols);
  Array<T> out(exec, rows, cols);
  upload<T>(exec, {rounded.data(), rows, cols}, out.view());
  return out;
}

// R (upper, R'R = G) with G scaled to a unit diagonal, and the smallest pivot of that; false where one is not positive.
bool factor(const Small& g, double shift, Small& r, double& least) {
  const std::int64_t n = g.n;
  std::vector<double> scale(at(n));
  for (std::int64_t i = 0; i < n; ++i) {
    if (!(g(i, i) > 0) || !std::isfinite(g(i, i))) return false;
    scale[at(i)] = std::sqrt(g(i, i));
  }
  least = std::numeric_limits<double>::infinity();
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = i; j < n; ++j) {
      double sum = g(i, j) / (scale[at(i)] * scale[at(j)]) + (i == j ? shift : 0.0);
      for (std::int64_t k = 0; k < i; ++k) sum -= r(k, i) * r(k, j);
      if (j == i) {
        if (!(sum > 0)) return false;
        least = std::min(least, sum);
        r(i, i) = std::sqrt(sum);
      } else {
        r(i, j) = sum / r(i, i);
      }
    }
  }
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = i; j < n; ++j) r(i, j) *= scale[at(j)];
  return true;
}

Small inverse_of_upper(const Small& r) {
  Small out(r.n);
  for (std::int64_t j = 0; j < r.n; ++j) {
    out(j, j) = 1 / r(j, j);
    for (std::int64_t i = j - 1; i >= 0; --i) {
      double sum = 0;
      for (std::int64_t k = i + 1; k <= j; ++k) sum += r(i, k) * out(k, j);
      out(i, j) = -sum / r(i, i);
    }
  }
  return out;
}

// y = y c.
template <class T>
void multiply_from_right(const Exec& exec, const Small& c, Array<T>& y) {
  const Array<T> device = to_device<T>(exec, c.values.data(), c.n, c.n);
  Array<T> next(exec, y.rows(), c.n);
  gemm<T>(exec, Trans::no, Trans::no, 1.0, y.view(), device.view(), 0.0, next.view());
  y = std::move(next);
}

// y becomes orthonormal, y before = y after times the result. Columns within rounding of the span of the others end
// somewhere outside it.
template <class T>
Small orthonormalise(const Exec& exec, Array<T>& y) {
  const std::int64_t b = y.cols();
  const double unit = 8.0 * static_cast<double>(b) * static_cast<double>(std::numeric_limits<T>::epsilon());
  Small total = Small::identity(b);
  Array<T> product(exec, b, b);
  for (int round = 0; round < kMostFactorings; ++round) {
    long_gemm<T>(exec, Trans::yes, y.view(), y.view(), product.view());
    Small g(b), r(b);
    g.values = to_host<T>(exec, product.view());
    double least = 0;
    const bool plain = factor(g, 0.0, r, least) && least > unit;
    if (!plain) {
      std::fill(r.values.begin(), r.values.end(), 0.0);
      if (round + 1 == kMostFactorings || !factor(g, unit, r, least)) break;
    }
    multiply_from_right<T>(exec, inverse_of_upper(r), y);
    total = times(r, total);
    if (plain) return total;
  }
  Array<T> r(exec, b, b);
  qr_thin<T>(exec, y.view(), r.view());
  Small last(b);
  last.values = to_host<T>(exec, r.view());
  return times(last, total);
}

}  // namespace

template <class T>
void long_gemm(const Exec& exec, Trans trans_a, MatrixView<const T> a, MatrixView<const T> y, MatrixView<T> out) {
  const std::int64_t n = y.rows, size = out.rows * out.cols;
  GRAMIAN_REQUIRE((trans_a == Trans::yes ? a.rows : a.cols) == n && out.cols == y.cols &&
                      (trans_a == Trans::yes ? a.cols : a.rows) == out.rows,
                  shape_mismatch, "long_gemm: the shapes do not fit");
  if (out.empty()) return;
  const std::int64_t pieces =
      exec.table().tile == 0 ? 1 : std::min({kMostPieces, ceil_div(n, kPieceRows), kMostElements / size});
  if (pieces < 4) return gemm<T>(exec, trans_a, Trans::no, 1.0, a, y, 0.0, out);
  const std::int64_t edge = ceil_div(n, pieces), count = ceil_div(n, edge);
  Array<T> parts(exec, count * out.rows, out.cols);
  const auto part = [&](std::int64_t k) { return parts.view().block(k * out.rows, 0, out.rows, out.cols); };
  exec.parallel_for(count, [&](std::int64_t task) {
    const Range rows = part_of(n, edge, task);
    const MatrixView<const T> left = trans_a == Trans::yes ? a.block(rows.begin, 0, rows.size(), a.cols)
                                                           : a.block(0, rows.begin, a.rows, rows.size());
    multiply_block<T>(exec, trans_a, Trans::no, 1.0, left, y.block(rows.begin, 0, rows.size(), y.cols), 0.0,
                      part(task));
  });
  for (std::int64_t step = 1; step < count; step *= 2) {
    exec.parallel_for(ceil_div(count - step, 2 * step), [&](std::int64_t task) {
      add_block<T, T>(exec, 1.0, part((2 * task + 1) * step), 1.0, part(2 * task * step));
    });
  }
  axpby<T, T>(exec, 1.0, part(0), 0.0, out);
}

template <class T>
std::vector<double> column_sumsq(const Exec& exec, MatrixView<const T> y) {
  Array<T> product(exec, y.cols, y.cols);
  long_gemm<T>(exec, Trans::yes, y, y, product.view());
  const std::vector<double> host = to_host<T>(exec, product.view());
  std::vector<double> out;
  for (std::int64_t j = 0; j < y.cols; ++j) out.push_back(host[at(j * y.cols + j)]);
  return out;
}

template <class T>
OrthonormalColumns<T>::OrthonormalColumns(const Exec& exec, std::int64_t length, std::uint64_t seed, std::uint32_t tag)
    : exec_(exec), length_(length), seed_(seed), tag_(tag) {}

template <class T>
void OrthonormalColumns<T>::clear() {
  blocks_.clear();
  size_ = 0;
}

// y -= old columns times (their products with y), which are added to `coefficients` (size() x k by rows).
template <class T>
void OrthonormalColumns<T>::project(MatrixView<T> y, std::vector<double>& coefficients) const {
  std::int64_t first = 0;
  for (const Array<T>& q : blocks_) {
    Array<T> c(exec_, q.cols(), y.cols);
    long_gemm<T>(exec_, Trans::yes, q.view(), y, c.view());
    gemm<T>(exec_, Trans::no, Trans::no, -1.0, q.view(), c.view(), 1.0, y);
    const std::vector<double> host = to_host<T>(exec_, c.view());
    for (std::int64_t k = 0; k < c.size(); ++k) coefficients[at(first * y.cols + k)] += host[at(k)];
    first += q.cols();
  }
}

template <class T>
void OrthonormalColumns<T>::project_out(MatrixView<T> y) const {
  std::vector<double> ignored(at(size_ * y.cols));
  for (int pass = 0; pass < 2; ++pass) project(y, ignored);
}

// Random columns, orthogonal to all others, in the places [live, b) of y.
template <class T>
void OrthonormalColumns<T>::refill(Array<T>& y, std::int64_t live) {
  const std::int64_t b = y.cols();
  Array<T> all(exec_, length_, b);
  axpby<T, T>(exec_, 1.0, y.view(), 0.0, all.view());
  fill_random<T>(exec_, Distribution::gaussian, RngStream(seed_, RngFamily::gaussian, tag_, 0, ++refills_), 1.0,
                 all.view().block(0, live, length_, b - live));
  // The live columns come first and are orthonormal already: a triangular factor leaves their span as it is.
  for (int pass = 0; pass < 2; ++pass) {
    std::vector<double> ignored(at(size_ * b));
    project(all.view(), ignored);
    const std::vector<double> squares = column_sumsq<T>(exec_, all.view());
    std::vector<T> scale;
    for (const double square : squares) scale.push_back(square > 0 ? static_cast<T>(1 / std::sqrt(square)) : T(1));
    const std::vector<double> wide(scale.begin(), scale.end());
    const Array<T> device = to_device<T>(exec_, wide.data(), 1, b);
    scale_columns<T>(exec_, device.data(), all.view());
    Array<T> r(exec_, b, b);
    qr_thin<T>(exec_, all.view(), r.view());
  }
  y = std::move(all);
}

template <class T>
std::vector<double> OrthonormalColumns<T>::extend(Array<T> y, double floor) {
  const std::int64_t b = y.cols(), before = size_;
  GRAMIAN_REQUIRE(y.rows() == length_ && before + b <= length_, internal, "more columns than dimensions");
  std::vector<double> c(at((before + b) * b), 0.0);
  Small r = Small::identity(b);
  const auto round = [&] {
    std::vector<double> along(at(before * b), 0.0);
    project(y.view(), along);
    // y before = old columns times `along` + y, and y before times r is what came in.
    for (std::int64_t i = 0; i < before; ++i)
      for (std::int64_t k = 0; k < b; ++k)
        for (std::int64_t j = 0; j < b; ++j) c[at(i * b + j)] += along[at(i * b + k)] * r(k, j);
    r = times(orthonormalise<T>(exec_, y), r);
  };
  round();
  round();
  // Which directions of the block are more than rounding?
  Array<double> u(exec_, b, b), vt(exec_, b, b);
  std::vector<double> s;
  small_svd<double>(exec_, to_device<double>(exec_, r.values.data(), b, b).view(), u.view(), s, vt.view());
  const auto live = static_cast<std::int64_t>(
      std::find_if(s.begin(), s.end(), [floor](double value) { return !(value > floor); }) - s.begin());
  if (live < b) {
    Small turn(b), rest(b);
    turn.values = to_host<double>(exec_, u.view());
    rest.values = to_host<double>(exec_, vt.view());
    for (std::int64_t i = 0; i < b; ++i)
      for (std::int64_t j = 0; j < b; ++j) rest(i, j) *= i < live ? s[at(i)] : 0.0;
    multiply_from_right<T>(exec_, turn, y);
    refill(y, live);
    r = rest;
  }
  std::copy(r.values.begin(), r.values.end(), c.begin() + before * b);
  blocks_.push_back(std::move(y));
  size_ += b;
  return c;
}

template <class T>
void OrthonormalColumns<T>::combine(const std::vector<double>& c, std::int64_t k, MatrixView<T> out) const {
  axpby<T, T>(exec_, 0.0, {}, 0.0, out);
  std::int64_t first = 0;
  for (const Array<T>& q : blocks_) {
    const Array<T> part = to_device<T>(exec_, c.data() + first * k, q.cols(), k);
    gemm<T>(exec_, Trans::no, Trans::no, 1.0, q.view(), part.view(), 1.0, out);
    first += q.cols();
  }
}

template <class T>
void OrthonormalColumns<T>::combine_transposed(const std::vector<double>& c, std::int64_t k, MatrixView<T> out) const {
  axpby<T, T>(exec_, 0.0, {}, 0.0, out);
  std::int64_t first = 0;
  for (const Array<T>& q : blocks_) {
    const Array<T> part = to_device<T>(exec_, c.data() + first * k, q.cols(), k);
    gemm<T>(exec_, Trans::yes, Trans::yes, 1.0, part.view(), q.view(), 1.0, out);
    first += q.cols();
  }
}

#define GRAMIAN_INSTANTIATE(T)                                                                            \
  template GRAMIAN_EXPORT void long_gemm<T>(const Exec&, Trans, MatrixView<const T>, MatrixView<const T>, \
                                            MatrixView<T>);                                               \
  template GRAMIAN_EXPORT std::vector<double> column_sumsq<T>(const Exec&, MatrixView<const T>);          \
  template class GRAMIAN_EXPORT OrthonormalColumns<T>;
GRAMIAN_INSTANTIATE(float)
GRAMIAN_INSTANTIATE(double)
#undef GRAMIAN_INSTANTIATE

}  // namespace gramian
