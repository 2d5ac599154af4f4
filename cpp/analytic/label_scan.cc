#include "gramian/analytic/label_scan.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {
namespace {

constexpr std::int64_t kRows = 256;
// Rows of one task: long enough to pay for handing it out.
constexpr std::int64_t kRowsOfTask = 16;

}  // namespace

LabelScan::LabelScan(const Exec& exec, const RowsView& rows, DType products, const char* name)
    : exec_(exec),
      rows_(rows),
      products_(products),
      name_(name),
      labels_(static_cast<std::size_t>(rows.rows), -1),
      costs_(static_cast<std::size_t>(rows.rows), HUGE_VAL) {
  GRAMIAN_REQUIRE(products == DType::f32 || products == DType::f64, wrong_dtype, "dtype must be float32 or float64");
}

void LabelScan::take(std::int64_t first, const RowsView& tile, bool labels_in_rows, double scale,
                     const double* offset) {
  const std::int64_t inner = labels_in_rows ? tile.cols : tile.rows;
  GRAMIAN_REQUIRE(inner == rows_.cols, shape_mismatch,
                  std::string(name_) + " has " + std::to_string(rows_.cols) + " columns, but the labels have " +
                      std::to_string(inner) + " entries each");
  if (rows_.rows == 0 || tile.rows == 0 || tile.cols == 0) return;
  if (products_ == DType::f32) {
    run<float>(first, tile, labels_in_rows, scale, offset);
  } else {
    run<double>(first, tile, labels_in_rows, scale, offset);
  }
}

template <class T>
void LabelScan::run(std::int64_t first, const RowsView& tile, bool labels_in_rows, double scale, const double* offset) {
  const std::int64_t count = labels_in_rows ? tile.rows : tile.cols;
  const Array<T> labels(exec_, tile.rows, tile.cols);
  load_rows<T>(exec_, tile, nullptr, nullptr, labels.view(), "metric");
  const std::int64_t edge = std::min(kRows, rows_.rows);
  const Array<T> z(exec_, edge, rows_.cols), products(exec_, edge, count);
  std::vector<T> host(static_cast<std::size_t>(edge * count));
  const Exec here = exec_.on_host();
  for (std::int64_t begin = 0; begin < rows_.rows; begin += edge) {
    exec_.poll();
    const std::int64_t some = std::min(edge, rows_.rows - begin);
    const MatrixView<T> block = z.view().block(0, 0, some, rows_.cols);
    load_rows<T>(exec_, rows_.slice(begin, some), nullptr, nullptr, block, name_);
    gemm<T>(exec_, Trans::no, labels_in_rows ? Trans::yes : Trans::no, scale, block, labels.view(), 0.0,
            products.view().block(0, 0, some, count));
    const MatrixView<T> found(host.data(), some, count);
    download<T>(exec_, products.view().block(0, 0, some, count), found);
    here.parallel_for((some + kRowsOfTask - 1) / kRowsOfTask, [&](std::int64_t task) {
      const std::int64_t end = std::min(some, (task + 1) * kRowsOfTask);
      for (std::int64_t r = task * kRowsOfTask; r < end; ++r) {
        const T* row = found.row(r);
        std::int64_t best = 0;
        double lowest = HUGE_VAL;
        for (std::int64_t k = 0; k < count; ++k) {
          const double cost = static_cast<double>(row[k]) + (offset == nullptr ? 0.0 : offset[k]);
          if (cost < lowest) {
            lowest = cost;
            best = k;
          }
        }
        const auto at = static_cast<std::size_t>(begin + r);
        const std::int64_t label = first + best;
        if (lowest < costs_[at] || (lowest == costs_[at] && label < labels_[at])) {
          costs_[at] = lowest;
          labels_[at] = label;
        }
      }
    });
  }
}

}  // namespace gramian
