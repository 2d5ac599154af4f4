#include "regression/tall_operand.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/csr.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/linalg/sweep.hpp"
#include "linalg/binary_scale.h"
#include "regression/preconditioner.h"

namespace gramian::regression {

using linalg::column_maxima;
using linalg::larger;
using linalg::largest_of;

namespace {

class RowsOperand : public TallOperand {
 public:
  RowsOperand(const Exec& exec, const RowsView& a, const char* name) : exec_(exec), a_(a), name_(name) {}

  std::int64_t rows() const override { return a_.rows; }
  std::int64_t cols() const override { return a_.cols; }
  void sketch(const SketchOp& op, MatrixView<double> out) const override {
    op.try_apply<double>(exec_, a_, out);  // sizes are looked at afterwards
  }
  void load(std::int64_t begin, MatrixView<double> out) const override {
    load_rows<double>(exec_, a_.slice(begin, out.rows), nullptr, nullptr, out, name_);
  }
  void load(std::int64_t begin, MatrixView<float> out) const override {
    load_rows<float>(exec_, a_.slice(begin, out.rows), nullptr, nullptr, out, name_);
  }

 protected:
  const Exec& exec_;
  const RowsView a_;
  const char* name_;
};

template <class T>
class DenseOperand : public RowsOperand {
 public:
  DenseOperand(const Exec& exec, const RowsView& a, const char* name) : RowsOperand(exec, a, name) {
    const auto size = static_cast<std::int64_t>(sizeof(T));
    const bool in_place = exec.device() == Device::cpu && a.dtype == dtype_of<T>::value && a.row_index == nullptr &&
                          a.col_stride == size && a.row_stride >= a.cols * size && a.row_stride % size == 0;
    if (in_place) {
      view_ = {static_cast<const T*>(a.data), a.rows, a.cols, a.row_stride / size};
    } else {
      copy_ = Array<T>(exec, a.rows, a.cols);
      load_rows<T>(exec, a, nullptr, nullptr, copy_.view(), name);
      view_ = copy_.view();
    }
  }

  void sweep(MatrixView<const double> x, MatrixView<const double> b, MatrixView<double> r, MatrixView<double> g,
             const std::vector<double>& weight) const override {
    normal_sweep<T>(exec_, view_, x, b, r, g, weight);
  }
  void load(std::int64_t begin, MatrixView<double> out) const override { load_as(begin, out); }
  void load(std::int64_t begin, MatrixView<float> out) const override { load_as(begin, out); }
  void describe(LstsqShape& shape) const override { shape.item_bytes = static_cast<std::int64_t>(sizeof(T)); }

 private:
  template <class P>
  void load_as(std::int64_t begin, MatrixView<P> out) const {
    // A copy was checked when it was made.
    if (copy_.data() == nullptr) return RowsOperand::load(begin, out);
    axpby<T, P>(exec_, 1.0, view_.block(begin, 0, out.rows, view_.cols), 0.0, out);
  }

  Array<T> copy_;
  MatrixView<const T> view_;
};

class SparseOperand : public RowsOperand {
 public:
  using RowsOperand::RowsOperand;

  void sweep(MatrixView<const double> x, MatrixView<const double> b, MatrixView<double> r, MatrixView<double> g,
             const std::vector<double>& weight) const override {
    sparse_multiply<double>(exec_, a_, x, r);
    axpby<double, double>(exec_, b.data != nullptr ? 1.0 : 0.0, b, -1.0, r);
    if (!weight.empty()) scale_rows<double>(exec_, weight, r);
    sparse_multiply_transposed(exec_, a_, r, g);
  }
  void describe(LstsqShape& shape) const override { shape.stored = static_cast<double>(stored_entries(a_)); }
};

constexpr std::int64_t kMapColumns = 64;

template <class Function>
void product(const Function& function, MatrixView<const double> x, MatrixView<double> out) {
  function(x, out);
  for (std::int64_t r = 0; r < out.rows; ++r) {
    for (std::int64_t c = 0; c < out.cols; ++c) {
      GRAMIAN_REQUIRE(std::isfinite(out(r, c)), non_finite,
                      "the products of A contain NaN or infinity, first in row " + std::to_string(r));
    }
  }
}

// body(begin, A [e_begin, ..]) for some columns at a time.
template <class Body>
void each_image(const Exec& exec, const LinearMap& map, const Body& body) {
  const std::int64_t width = std::min(kMapColumns, map.d);
  Array<double> unit(exec, map.d, width), image(exec, map.n, width);
  for (std::int64_t begin = 0; begin < map.d; begin += width) {
    exec.poll();
    const std::int64_t cols = std::min(width, map.d - begin);
    const MatrixView<double> e(unit.data(), map.d, cols), y(image.data(), map.n, cols);
    std::fill_n(e.data, map.d * cols, 0.0);
    for (std::int64_t j = 0; j < cols; ++j) e(begin + j, j) = 1.0;
    product(map.apply, e, y);
    body(begin, y);
  }
}

class MapOperand : public TallOperand {
 public:
  MapOperand(const Exec& exec, const LinearMap& map) : exec_(exec), map_(map) {}

  std::int64_t rows() const override { return map_.n; }
  std::int64_t cols() const override { return map_.d; }
  bool has_rows() const override { return false; }

  void sketch(const SketchOp& op, MatrixView<double> out) const override {
    // S (A e_j), some columns at a time: A is never whole in memory.
    Array<double> part(exec_, out.rows, kMapColumns);
    each_image(exec_, map_, [&](std::int64_t begin, MatrixView<const double> image) {
      const MatrixView<double> sketched(part.data(), out.rows, image.cols);
      op.try_apply<double>(exec_, RowsView::dense<double>(image), sketched);  // as above
      axpby<double, double>(exec_, 1.0, sketched, 0.0, out.block(0, begin, out.rows, image.cols));
    });
  }
  void sweep(MatrixView<const double> x, MatrixView<const double> b, MatrixView<double> r, MatrixView<double> g,
             const std::vector<double>& weight) const override {
    product(map_.apply, x, r);
    axpby<double, double>(exec_, b.data != nullptr ? 1.0 : 0.0, b, -1.0, r);
    if (!weight.empty()) scale_rows<double>(exec_, weight, r);
    product(map_.adjoint, r, g);
  }
  void load(std::int64_t, MatrixView<double>) const override { no_rows(); }
  void load(std::int64_t, MatrixView<float>) const override { no_rows(); }
  void describe(LstsqShape& shape) const override { shape.has_rows = false; }

 private:
  [[noreturn]] static void no_rows() { throw Error(ErrorCode::internal, "a linear operator has no rows to load"); }

  const Exec& exec_;
  const LinearMap& map_;
};

}  // namespace

std::unique_ptr<TallOperand> rows_operand(const Exec& exec, const RowsView& a, const char* name) {
  if (a.sparse) return std::make_unique<SparseOperand>(exec, a, name);
  const bool narrow = a.dtype != DType::f64 && a.dtype != DType::i32 && a.dtype != DType::i64;
  if (narrow) return std::make_unique<DenseOperand<float>>(exec, a, name);
  return std::make_unique<DenseOperand<double>>(exec, a, name);
}

void require_finite(const Exec& exec, const RowsView& a, const char* name) {
  column_maxima(exec, a, name);  // for which every block is loaded, and that looks
}

double largest_entry(const Exec& exec, const LinearMap& map) {
  double largest = 0;
  each_image(exec, map, [&](std::int64_t, MatrixView<const double> image) {
    largest = larger(largest, largest_of(column_maxima(exec, image)));
  });
  return largest;
}

LinearMap shifted(const LinearMap& map, int power) {
  const auto shift = [power](MatrixView<double> x) {
    for (std::int64_t r = 0; r < x.rows; ++r)
      for (std::int64_t c = 0; c < x.cols; ++c) x(r, c) = std::ldexp(x(r, c), power);
  };
  LinearMap out;
  out.n = map.n;
  out.d = map.d;
  out.apply = [&map, shift](MatrixView<const double> x, MatrixView<double> y) {
    map.apply(x, y);
    shift(y);
  };
  out.adjoint = [&map, shift](MatrixView<const double> x, MatrixView<double> y) {
    map.adjoint(x, y);
    shift(y);
  };
  return out;
}

void require_adjoint(const Exec& exec, const LinearMap& map) {
  Array<double> x(exec, map.d, 1), image(exec, map.n, 1), y(exec, map.n, 1), back(exec, map.d, 1);
  fill_random<double>(exec, Distribution::gaussian, RngStream(0, RngFamily::gaussian), 1.0, x.view());
  fill_random<double>(exec, Distribution::gaussian, RngStream(1, RngFamily::gaussian), 1.0, y.view());
  product(map.apply, x.view(), image.view());
  const double image_size = column_norms(exec, image.view())[0];
  // Zero, or subnormal numbers, which have few digits to compare.
  if (!(image_size > 1e-280)) return;
  // Along A x, where the two products do not cancel, and beside it.
  const double beside = 1 / column_norms(exec, y.view())[0];
  for (std::int64_t i = 0; i < map.n; ++i) y.view()(i, 0) = image.view()(i, 0) / image_size + beside * y.view()(i, 0);
  product(map.adjoint, y.view(), back.view());
  const double back_size = column_norms(exec, back.view())[0], x_size = column_norms(exec, x.view())[0];
  double forth = 0, other = 0;
  for (std::int64_t i = 0; i < map.n; ++i) forth += image.view()(i, 0) / image_size * y.view()(i, 0);
  for (std::int64_t j = 0; j < map.d; ++j) other += x.view()(j, 0) * (back.view()(j, 0) / image_size);
  // Products in single precision pass.
  const double rounding = 1e-5 * (2 + x_size * (back_size / image_size));
  if (std::abs(forth - other) <= rounding) return;
  char text[160];
  std::snprintf(text, sizeof text,
                "A.rmatvec is not the adjoint of A.matvec: for the same x and y, y'(A x) is %.6g and (A'y)'x is %.6g",
                forth * image_size, other * image_size);
  throw Error(ErrorCode::invalid_argument, text);
}

void materialise(const Exec& exec, const LinearMap& map, MatrixView<double> out) {
  each_image(exec, map, [&](std::int64_t begin, MatrixView<const double> image) {
    axpby<double, double>(exec, 1.0, image, 0.0, out.block(0, begin, out.rows, image.cols));
  });
}

std::unique_ptr<TallOperand> map_operand(const Exec& exec, const LinearMap& map) {
  GRAMIAN_REQUIRE(exec.device() == Device::cpu, unsupported, "a linear operator is solved on device \"cpu\" only");
  return std::make_unique<MapOperand>(exec, map);
}

}  // namespace gramian::regression
