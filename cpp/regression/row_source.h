// Rows that are passed over many times, as doubles on the device, block by block: kept there where they are few, loaded
// anew in each pass where they are many.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

class RowSource {
 public:
  // ones: a column of ones behind the others. name: the rows as the caller knows them.
  RowSource(const Exec& exec, const RowsView& x, bool ones, const char* name)
      : exec_(exec), x_(x), ones_(ones), name_(name) {
    // About 16 MiB a block.
    edge_ =
        std::clamp<std::int64_t>((std::int64_t{1} << 21) / std::max<std::int64_t>(1, width()) / 256 * 256, 256, 8192);
    if (x.rows * width() > kKept) return;
    kept_ = Array<double>(exec, x.rows, width());
    for (std::int64_t begin = 0; begin < x.rows; begin += edge_)
      load(begin, kept_.view().block(begin, 0, std::min(edge_, x.rows - begin), width()));
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
    load_rows<double>(exec_, x_.slice(begin, block.rows), nullptr, nullptr, block.block(0, 0, block.rows, x_.cols),
                      name_);
    if (!ones_) return;
    const std::vector<double> ones(static_cast<std::size_t>(block.rows), 1.0);
    upload<double>(exec_, {ones.data(), block.rows, 1}, block.block(0, x_.cols, block.rows, 1));
  }

  Exec exec_;
  RowsView x_;
  bool ones_;
  const char* name_;
  std::int64_t edge_;
  Array<double> kept_;
};

}  // namespace gramian
