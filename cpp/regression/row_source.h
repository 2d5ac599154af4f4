// Rows that are passed over many times, as doubles on the device, block by block: kept there where they are few, loaded
// anew in each pass where they are many.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

class RowSource {
 public:
  // ones: a column of ones behind the others. name: the rows as the caller knows them. center and scale, one value a
  // column where given: rows become (x - center) scale.
  RowSource(const Exec& exec, const RowsView& x, bool ones, const char* name, std::vector<double> center = {},
            const std::vector<double>& scale = {})
      : exec_(exec), x_(x), ones_(ones), name_(name), center_(std::move(center)) {
    if (!scale.empty()) {
      scale_ = Array<double>(exec, x.cols);
      upload<double>(exec, {scale.data(), 1, x.cols}, {scale_.data(), 1, x.cols});
    }
    // About 16 MiB a block.
    edge_ =
        std::clamp<std::int64_t>((std::int64_t{1} << 21) / std::max<std::int64_t>(1, width()) / 256 * 256, 256, 8192);
    if (x.rows * width() > kKept) return;
    kept_ = Array<double>(exec, x.rows, width());
    for (std::int64_t begin = 0; begin < x.rows; begin += edge_)
      load(begin, kept_.view().block(begin, 0, std::min(edge_, x.rows - begin), width()));
  }

  // Rows of the same matrix, centred and scaled, each times its factor.
  void load_picked(const RowsView& rows, const double* factors, MatrixView<double> out) const {
    const MatrixView<double> columns = out.block(0, 0, rows.rows, x_.cols);
    load_rows<double>(exec_, rows, center_.empty() ? nullptr : center_.data(), factors, columns, name_);
    if (scale_.size() > 0) scale_columns<double>(exec_, scale_.data(), columns);
  }

  std::int64_t rows() const { return x_.rows; }
  std::int64_t width() const { return x_.cols + (ones_ ? 1 : 0); }

  // body(number of its first row, block), rows in order.
  template <class Body>
  void for_blocks(const Body& body) const {
    Array<double> scratch;
    for (std::int64_t begin = 0; begin < x_.rows; begin += edge_) {
      exec_.poll();
      const std::int64_t count = std::min(edge_, x_.rows - begin);
      if (kept_.size() > 0) {
        body(begin, MatrixView<const double>(kept_.view().block(begin, 0, count, width())));
        continue;
      }
      if (scratch.size() == 0) scratch = Array<double>(exec_, edge_, width());
      const MatrixView<double> block = scratch.view().block(0, 0, count, width());
      load(begin, block);
      body(begin, MatrixView<const double>(block));
    }
  }

 private:
  static constexpr std::int64_t kKept = std::int64_t{1} << 25;  // values: 256 MiB

  void load(std::int64_t begin, MatrixView<double> block) const {
    load_picked(x_.slice(begin, block.rows), nullptr, block);
    if (!ones_) return;
    const std::vector<double> ones(static_cast<std::size_t>(block.rows), 1.0);
    upload<double>(exec_, {ones.data(), block.rows, 1}, block.block(0, x_.cols, block.rows, 1));
  }

  Exec exec_;
  RowsView x_;
  bool ones_;
  const char* name_;
  std::vector<double> center_;
  Array<double> scale_;
  std::int64_t edge_;
  Array<double> kept_;
};

}  // namespace gramian
