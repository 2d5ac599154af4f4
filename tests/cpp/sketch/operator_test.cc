// Sketch operators and sums through their C++ face. The bits of S are compared with a second definition in the Python
// tests; here every way of applying S is compared with S itself.
#include <algorithm>
#include <cmath>

#include "gramian/core/rng.hpp"
#include "gramian/sketch/operator.hpp"
#include "gramian/sketch/sum.hpp"
#include "support/helpers.h"

using gramian::ErrorCode;
using gramian::MatrixView;
using gramian::RowsView;
using gramian::SketchDist;
using gramian::SketchKind;
using gramian::SketchOp;
using gramian::SketchSum;
using testkit::cpu;

namespace {

constexpr std::int64_t kBlock = 4096;

template <class T>
struct Matrix {
  std::int64_t rows, cols;
  std::vector<T> v;
  Matrix(std::int64_t r, std::int64_t c) : rows(r), cols(c), v(static_cast<std::size_t>(r * c)) {}
  MatrixView<T> view() { return {v.data(), rows, cols}; }
  MatrixView<const T> view() const { return {v.data(), rows, cols}; }
  RowsView all() const { return RowsView::dense<T>(view()); }
};

template <class T>
Matrix<T> numbers(std::int64_t rows, std::int64_t cols) {
  Matrix<T> out(rows, cols);
  for (std::size_t k = 0; k < out.v.size(); ++k) out.v[k] = static_cast<T>((k * 7919) % 1009) / T(505) - T(1);
  return out;
}

SketchDist dist_of(SketchKind kind, std::int64_t n_out, std::int64_t n_in) {
  SketchDist dist;
  dist.kind = kind;
  dist.n_out = n_out;
  dist.n_in = n_in;
  dist.seed = 11;
  if (kind == SketchKind::row_sampling) {
    for (std::int64_t i = 0; i < n_in; ++i) dist.scores.push_back(static_cast<double>(1 + i % 4));
  }
  if (kind == SketchKind::tensor_sketch || kind == SketchKind::tensor_srht) dist.dims = {4, n_in / 4};
  return dist;
}

const SketchKind kKinds[] = {SketchKind::gaussian,    SketchKind::rademacher,   SketchKind::srht,
                             SketchKind::hdhd,        SketchKind::count_sketch, SketchKind::sparse_sign,
                             SketchKind::long_axis,   SketchKind::row_sampling, SketchKind::tensor_sketch,
                             SketchKind::tensor_srht, SketchKind::dct};

// op(a) b in double.
template <class T>
std::vector<double> product(const Matrix<T>& a, bool turned, const Matrix<T>& b) {
  const std::int64_t rows = turned ? a.cols : a.rows, inner = turned ? a.rows : a.cols;
  std::vector<double> out(static_cast<std::size_t>(rows * b.cols));
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t k = 0; k < inner; ++k) {
      const double value = turned ? a.view()(k, i) : a.view()(i, k);
      for (std::int64_t c = 0; c < b.cols; ++c) out[static_cast<std::size_t>(i * b.cols + c)] += value * b.view()(k, c);
    }
  }
  return out;
}

template <class T>
double distance(const Matrix<T>& found, const std::vector<double>& expected) {
  return testkit::difference(std::vector<double>(found.v.begin(), found.v.end()), expected);
}

template <class T>
Matrix<T> whole(const SketchOp& op) {
  Matrix<T> out(op.dist().n_out, op.dist().n_in);
  op.materialise<T>(cpu(), 0, 0, out.view());
  return out;
}

template <class T>
void check_kind(SketchKind kind, double tolerance) {
  SCOPED_TRACE(name_of(kind));
  const std::int64_t n = kBlock + 104, m = 24, d = 5;
  const SketchOp op(dist_of(kind, m, n).with_rows(8));
  const Matrix<T> s = whole<T>(op), x = numbers<T>(n, d), y = numbers<T>(m + 8, d);
  Matrix<T> sx(m + 8, d), back(n, d), part(100, d), added = y;
  op.apply<T>(cpu(), x.all(), sx.view());
  EXPECT_LE(distance(sx, product(s, false, x)), tolerance);
  op.apply_adjoint<T>(cpu(), y.view(), 0, back.view());
  EXPECT_LE(distance(back, product(s, true, y)), tolerance);
  op.apply_adjoint<T>(cpu(), y.view(), kBlock - 50, part.view());
  EXPECT_LE(distance(part, std::vector<double>(back.v.begin() + (kBlock - 50) * d, back.v.begin() + (kBlock + 50) * d)),
            tolerance);
  op.update<T>(cpu(), x.all(), 0, added.view());
  for (std::size_t k = 0; k < added.v.size(); ++k) added.v[k] -= y.v[k];
  EXPECT_LE(distance(added, product(s, false, x)), 4 * tolerance);
  const Matrix<T> features = numbers<T>(33, n);
  Matrix<T> projected(33, m + 8);
  op.project<T>(cpu(), features.all(), projected.view());
  Matrix<T> turned(m + 8, n);
  turned.v = s.v;
  std::vector<double> expected(projected.v.size());
  for (std::int64_t r = 0; r < 33; ++r) {
    for (std::int64_t i = 0; i < m + 8; ++i) {
      double sum = 0;
      for (std::int64_t j = 0; j < n; ++j) sum += static_cast<double>(features.view()(r, j)) * turned.view()(i, j);
      expected[static_cast<std::size_t>(r * (m + 8) + i)] = sum;
    }
  }
  EXPECT_LE(distance(projected, expected), tolerance);
}

TEST(SketchOp, EveryWayOfApplyingIsTheMatrix) {
  for (const SketchKind kind : kKinds) {
    check_kind<double>(kind, 1e-13);
    check_kind<float>(kind, 1e-5);
  }
}

TEST(SketchOp, AnAbsentFactorIsNoticed) {
  // The control for the comparison above: one wrong entry of S is far beyond its tolerance.
  const SketchOp op(dist_of(SketchKind::gaussian, 24, 600));
  Matrix<double> s = whole<double>(op);
  const Matrix<double> x = numbers<double>(600, 5);
  Matrix<double> sx(24, 5);
  op.apply<double>(cpu(), x.all(), sx.view());
  s.v[100] += 1e-6;
  EXPECT_GT(distance(sx, product(s, false, x)), 1e-12);
}

TEST(SketchOp, PlaceOfTheCountSketch) {
  SketchDist dist = dist_of(SketchKind::count_sketch, 100, 5);
  dist.seed = 12345;
  const Matrix<double> s = whole<double>(SketchOp(dist));
  const std::int64_t rows[] = {22, 40, 4, 97, 80};
  const double signs[] = {-1, 1, -1, 1, 1};
  for (std::int64_t j = 0; j < 5; ++j) EXPECT_EQ(s.view()(rows[j], j), signs[j]);
}

TEST(SketchSum, StreamsMergesAndThreadsGiveTheSameBits) {
  const std::int64_t n = 5 * kBlock + 300, d = 3;
  const Matrix<float> x = numbers<float>(n, d);
  for (const SketchKind kind : kKinds) {
    SCOPED_TRACE(name_of(kind));
    const SketchOp op(dist_of(kind, 20, n));
    Matrix<float> one(20, d), found(20, d);
    SketchSum<float> all(cpu(1), op, d);
    all.update(cpu(1), x.all(), 0);
    all.result(cpu(1), one.view());
    for (int threads = 2; threads <= 4; ++threads) {
      SketchSum<float> stream(cpu(threads), op, d);
      for (std::int64_t begin = 0; begin < n; begin += 777)
        stream.update(cpu(threads), x.all().slice(begin, std::min<std::int64_t>(777, n - begin)), begin);
      stream.result(cpu(threads), found.view());
      EXPECT_TRUE(testkit::same_bits(found.v, one.v));
    }
    SketchSum<float> left(cpu(), op, d), right(cpu(), op, d);
    right.update(cpu(), x.all().slice(3 * kBlock, n - 3 * kBlock), 3 * kBlock);
    left.update(cpu(), x.all().slice(0, 3 * kBlock), 0);
    left.merge(cpu(), right);
    left.result(cpu(), found.view());
    EXPECT_TRUE(testkit::same_bits(found.v, one.v));
    EXPECT_EQ(left.rows(), n);
  }
}

TEST(SketchSum, FileGivesTheSameSum) {
  const std::int64_t n = kBlock + 500;
  const Matrix<double> x = numbers<double>(n, 4);
  SketchSum<double> sum(cpu(), SketchOp(dist_of(SketchKind::sparse_sign, 16, n)), 4);
  sum.update(cpu(), x.all(), 0);
  const std::vector<std::uint8_t> bytes = sum.save(cpu());
  const auto reader = gramian::ModelReader::from_bytes(bytes.data(), bytes.size());
  const SketchSum<double> loaded = SketchSum<double>::load(cpu(), reader);
  EXPECT_EQ(loaded.save(cpu()), bytes);
  Matrix<double> a(16, 4), b(16, 4);
  sum.result(cpu(), a.view());
  loaded.result(cpu(), b.view());
  EXPECT_TRUE(testkit::same_bits(a.v, b.v));
  testkit::expect_error(ErrorCode::file_format, "float64", [&] { SketchSum<float>::load(cpu(), reader); });
}

TEST(SketchSum, AStopLeavesTheSumAsItWas) {
  const std::int64_t n = 8 * kBlock;
  const Matrix<double> x = numbers<double>(n, 4);
  SketchSum<double> sum(cpu(), SketchOp(dist_of(SketchKind::gaussian, 16, n)), 4);
  sum.update(cpu(), x.all().slice(0, 100), 0);
  const std::vector<std::uint8_t> before = sum.save(cpu());
  gramian::Exec stopped = cpu();
  int polls = 0;
  stopped.set_cancel_hook([&] { return ++polls > 3; });
  testkit::expect_error(ErrorCode::cancelled, "cancelled",
                        [&] { sum.update(stopped, x.all().slice(100, n - 100), 100); });
  EXPECT_EQ(sum.save(cpu()), before);
}

TEST(SketchDist, JsonKeepsEverything) {
  for (const SketchKind kind : kKinds) {
    const SketchDist dist = dist_of(kind, 8, 64).with_rows(8).with_rows(9);
    const SketchDist copy = SketchDist::from_json(gramian::Json::parse(dist.to_json().dump()));
    EXPECT_EQ(copy.to_json().dump(), dist.to_json().dump());
    EXPECT_EQ(copy.n_out, 25);
  }
  testkit::expect_error(ErrorCode::file_format, "kind", [] {
    gramian::Json json = dist_of(SketchKind::gaussian, 8, 64).to_json();
    json["kind"] = "unknown";
    SketchDist::from_json(json);
  });
}

TEST(SketchOp, WrongShapesAreNamed) {
  const SketchOp op(dist_of(SketchKind::count_sketch, 8, 64));
  const Matrix<double> x = numbers<double>(63, 2);
  Matrix<double> out(8, 2);
  testkit::expect_error(ErrorCode::shape_mismatch, "n_in = 64", [&] { op.apply<double>(cpu(), x.all(), out.view()); });
  testkit::expect_error(ErrorCode::shape_mismatch, "not inside",
                        [&] { op.update<double>(cpu(), x.all(), 2, out.view()); });
  testkit::expect_error(ErrorCode::invalid_argument, "take factors",
                        [&] { op.apply_factors<double>(cpu(), {x.all()}, out.view()); });
  testkit::expect_error(ErrorCode::invalid_argument, "must know n_in",
                        [] { SketchOp(dist_of(SketchKind::srht, 4, 0)); });
}

}  // namespace
