#include "sketch/two_sided.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gramian/core/error.hpp"
#include "gramian/linalg/csr.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/sketching.hpp"
#include "gramian/linalg/tall.hpp"

namespace gramian::sketching {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

template <class T>
class DenseStorage : public Storage<T> {
 public:
  DenseStorage(const Exec& exec, const RowsView& a) : exec_(exec), a_(a) {
    const auto size = static_cast<std::int64_t>(sizeof(T));
    const bool readable = exec.device() == Device::cpu && a.dtype == dtype_of<T>::value && a.row_index == nullptr;
    if (readable && a.col_stride == size && a.row_stride >= a.cols * size && a.row_stride % size == 0) {
      view_ = {static_cast<const T*>(a.data), a.rows, a.cols, a.row_stride / size};
    } else if (readable && a.row_stride == size && a.col_stride >= a.rows * size && a.col_stride % size == 0) {
      // Fortran order: the transpose, row by row.
      turned_ = true;
      view_ = {static_cast<const T*>(a.data), a.cols, a.rows, a.col_stride / size};
    } else {
      copy_ = Array<T>(exec, a.rows, a.cols);
      load_rows<T>(exec, a, nullptr, nullptr, copy_.view(), "A");
      view_ = copy_.view();
    }
  }

  std::int64_t rows() const override { return a_.rows; }
  std::int64_t cols() const override { return a_.cols; }
  void multiply(Trans trans, MatrixView<const T> x, MatrixView<T> out) const override {
    const bool across = (trans == Trans::yes) != turned_;
    // Where the result is the shorter side, the sums are the long ones.
    if (x.rows > out.rows) {
      long_gemm<T>(exec_, across ? Trans::yes : Trans::no, view_, x, out);
    } else {
      gemm<T>(exec_, across ? Trans::yes : Trans::no, Trans::no, 1.0, view_, x, 0.0, out);
    }
  }
  double sum_of_squares() const override { return gramian::sum_of_squares<T>(exec_, view_); }
  double sum_of_squares(const std::vector<double>& mean, double factor) const override {
    double total = 0;
    each_block(mean.empty() ? nullptr : mean.data(), factor,
               [&](MatrixView<const double> rows) { total += gramian::sum_of_squares<double>(exec_, rows); });
    return total;
  }
  double largest() const override {
    double out = 0;
    each_block(nullptr, 1.0, [&](MatrixView<const double> rows) {
      std::vector<double> host(static_cast<std::size_t>(rows.rows * rows.cols));
      download<double>(exec_, rows, {host.data(), rows.rows, rows.cols});
      for (const double value : host) out = std::max(out, std::abs(value));
    });
    return out;
  }
  void find_bad_row() const override { check_finite(exec_, a_); }

 private:
  // body(factor (rows of A - mean) in double) for some rows at a time.
  template <class Body>
  void each_block(const double* mean, double factor, const Body& body) const {
    const std::int64_t edge = std::clamp<std::int64_t>((std::int64_t{1} << 20) / a_.cols, 1, a_.rows);
    const std::vector<double> factors(static_cast<std::size_t>(edge), factor);
    Array<double> block(exec_, edge, a_.cols);
    for (std::int64_t begin = 0; begin < a_.rows; begin += edge) {
      exec_.poll();
      const MatrixView<double> rows = block.view().block(0, 0, std::min(edge, a_.rows - begin), a_.cols);
      load_rows<double>(exec_, a_.slice(begin, rows.rows), mean, factors.data(), rows, "A");
      body(rows);
    }
  }

  const Exec& exec_;
  const RowsView a_;
  bool turned_ = false;
  Array<T> copy_;
  MatrixView<const T> view_;
};

template <class T>
class SparseStorage : public Storage<T> {
 public:
  SparseStorage(const Exec& exec, const RowsView& a) : exec_(exec), a_(a), across_(a) {}

  std::int64_t rows() const override { return a_.rows; }
  std::int64_t cols() const override { return a_.cols; }
  void multiply(Trans trans, MatrixView<const T> x, MatrixView<T> out) const override {
    sparse_multiply<T>(exec_, trans == Trans::yes ? across_.view() : a_, x, out);
  }
  double sum_of_squares() const override { return across_.sum_of_squares(); }
  double sum_of_squares(const std::vector<double>& mean, double factor) const override {
    return across_.sum_of_squares(mean, factor);
  }
  double largest() const override { return across_.largest(); }
  void find_bad_row() const override { check_finite(exec_, a_); }

 private:
  const Exec& exec_;
  const RowsView a_;
  const TransposedCsr across_;
};

class MapStorage : public Storage<double> {
 public:
  explicit MapStorage(const LinearMap& map) : map_(map) {}

  std::int64_t rows() const override { return map_.n; }
  std::int64_t cols() const override { return map_.d; }
  void multiply(Trans trans, MatrixView<const double> x, MatrixView<double> out) const override {
    (trans == Trans::yes ? map_.adjoint : map_.apply)(x, out);
  }
  double sum_of_squares() const override { return kUnknown; }
  double sum_of_squares(const std::vector<double>&, double) const override { return kUnknown; }
  double largest() const override { return kUnknown; }
  void find_bad_row() const override {}

 private:
  const LinearMap& map_;
};

}  // namespace

template <class T>
std::unique_ptr<Storage<T>> store_rows(const Exec& exec, const RowsView& a) {
  if (a.sparse) return std::make_unique<SparseStorage<T>>(exec, a);
  return std::make_unique<DenseStorage<T>>(exec, a);
}

std::unique_ptr<Storage<double>> store_map(const Exec& exec, const LinearMap& map) {
  GRAMIAN_REQUIRE(exec.device() == Device::cpu, unsupported, "a linear operator is read on device \"cpu\" only");
  return std::make_unique<MapStorage>(map);
}

template <class T>
TallMatrix<T>::TallMatrix(const Exec& exec, const Storage<T>& a, bool centre)
    : exec_(exec),
      a_(a),
      turned_(a.rows() < a.cols()),
      stored_squares_(a.sum_of_squares()),
      sum_of_squares_(stored_squares_) {
  if (!centre) return;
  const std::int64_t rows = a.rows(), cols = a.cols();
  const std::vector<T> ones(static_cast<std::size_t>(rows), T(1));
  ones_ = Array<T>(exec, rows, 1);
  upload<T>(exec, {ones.data(), rows, 1}, ones_.view());
  mean_device_ = Array<T>(exec, cols, 1);
  a.multiply(Trans::yes, ones_.view(), mean_device_.view());
  ++passes_;
  axpby<T, T>(exec, 0.0, {}, 1.0 / static_cast<double>(rows), mean_device_.view());
  std::vector<T> host(static_cast<std::size_t>(cols));
  download<T>(exec, mean_device_.view(), {host.data(), cols, 1});
  mean_.assign(host.begin(), host.end());
  for (const double value : mean_) {
    if (!std::isfinite(value)) a.find_bad_row();
    GRAMIAN_REQUIRE(std::isfinite(value), non_finite, "the sums of the columns of A are not finite");
  }
  // Not a difference: where the means are large, that is nothing but rounding.
  if (std::isfinite(stored_squares_)) sum_of_squares_ = a.sum_of_squares(mean_, 1.0);
}

template <class T>
void TallMatrix<T>::subtract_mean(bool transposed, MatrixView<const T> x, MatrixView<T> out) const {
  if (mean_.empty()) return;
  // (A - 1 m') x = A x - 1 (m' x) and (A - 1 m')' y = A' y - m (1' y).
  const MatrixView<const T> inner = transposed ? ones_.view() : mean_device_.view();
  const MatrixView<const T> outer = transposed ? mean_device_.view() : ones_.view();
  Array<T> sums(exec_, 1, x.cols);
  long_gemm<T>(exec_, Trans::yes, inner, x, sums.view());
  gemm<T>(exec_, Trans::no, Trans::no, -1.0, outer, sums.view(), 1.0, out);
}

template <class T>
void TallMatrix<T>::product(bool transposed, MatrixView<const T> x, MatrixView<T> out) const {
  exec_.poll();
  ++passes_;
  const bool across = transposed != turned_;
  if (alpha_ == 1.0) {
    a_.multiply(across ? Trans::yes : Trans::no, x, out);
    subtract_mean(across, x, out);
  } else {
    // The factor goes to what is multiplied, before anything can overflow or vanish.
    Array<T> scaled(exec_, x.rows, x.cols);
    axpby<T, T>(exec_, alpha_, x, 0.0, scaled.view());
    a_.multiply(across ? Trans::yes : Trans::no, scaled.view(), out);
    subtract_mean(across, scaled.view(), out);
  }
  if (!is_finite<T>(exec_, out)) {
    a_.find_bad_row();
    throw Error(ErrorCode::non_finite,
                "the products of A are not finite: it contains NaN or infinity, or is too large");
  }
}

#define GRAMIAN_INSTANTIATE(T)                                                      \
  template std::unique_ptr<Storage<T>> store_rows<T>(const Exec&, const RowsView&); \
  template class TallMatrix<T>;
GRAMIAN_INSTANTIATE(float)
GRAMIAN_INSTANTIATE(double)
#undef GRAMIAN_INSTANTIATE

}  // namespace gramian::sketching
