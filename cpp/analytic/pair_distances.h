// Squared distances between rows, with the relative precision of the differences themselves: products where they lose
// few digits, the differences where rows are close. Exact zeros for equal rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

class PairDistances {
 public:
  // rows (host) must outlive this object.
  PairDistances(const Exec& exec, MatrixView<const double> rows)
      : exec_(exec), rows_(rows), centred_(exec, rows.rows, rows.cols), shift_(exec, rows.cols) {
    upload<double>(exec, rows, centred_.view());
    // Around their mean the products are as small as a translation can make them.
    std::vector<double> mean = column_sums<double>(exec, centred_.view(), {});
    for (double& value : mean) value /= -static_cast<double>(std::max<std::int64_t>(rows.rows, 1));
    upload<double>(exec, {mean.data(), 1, rows.cols}, shift_.view());
    squares_ = centre(centred_.view());
  }

  // Rows of a query that fit in one block of pairs with `rows` others.
  static std::int64_t block_rows(std::int64_t rows) {
    return std::clamp<std::int64_t>(kPairs / std::max<std::int64_t>(rows, 1), 1, 512);
  }
  std::int64_t block_rows() const { return block_rows(rows_.rows); }

  // out (x.rows x count, host) = |x_r - row c|^2 for the first `count` rows.
  void block(MatrixView<const double> x, std::int64_t count, MatrixView<double> out) const {
    Array<double> mine(exec_, x.rows, x.cols), product(exec_, x.rows, count);
    upload<double>(exec_, x, mine.view());
    const std::vector<double> own = centre(mine.view());
    gemm<double>(exec_, Trans::no, Trans::yes, -2.0, mine.view(), centred_.view().block(0, 0, count, rows_.cols), 0.0,
                 product.view());
    download<double>(exec_, product.view(), out);
    exec_.parallel_for(x.rows, [&](std::int64_t r) {
      for (std::int64_t c = 0; c < count; ++c) {
        const double size = own[static_cast<std::size_t>(r)] + squares_[static_cast<std::size_t>(c)];
        double& entry = out(r, c);
        entry += size;
        if (!(entry > size * kClose)) entry = direct(x.row(r), rows_.row(c));
      }
    });
  }

 private:
  static constexpr std::int64_t kPairs = std::int64_t{1} << 22;
  // Below this share of the squared norms more than six bits are lost, and the difference is taken instead.
  static constexpr double kClose = 1.0 / 64;

  // x += shift; returns the squared norms.
  std::vector<double> centre(MatrixView<double> x) const {
    activate<double>(exec_, Activation::identity, shift_.data(), 1.0, x);
    return row_squares<double>(exec_, x);
  }

  double direct(const double* x, const double* y) const {
    double sum = 0;
    for (std::int64_t j = 0; j < rows_.cols; ++j) sum += (x[j] - y[j]) * (x[j] - y[j]);
    return sum;
  }

  Exec exec_;
  MatrixView<const double> rows_;
  Array<double> centred_, shift_;
  std::vector<double> squares_;
};

// Rows of any storage as doubles in host memory; `name` is the argument as the caller knows it.
inline std::vector<double> host_rows(const Exec& exec, const RowsView& x, const char* name) {
  std::vector<double> host(static_cast<std::size_t>(x.rows * x.cols));
  Array<double> device(exec, x.rows, x.cols);
  load_rows<double>(exec, x, nullptr, nullptr, device.view(), name);
  download<double>(exec, device.view(), {host.data(), x.rows, x.cols});
  return host;
}

}  // namespace gramian
