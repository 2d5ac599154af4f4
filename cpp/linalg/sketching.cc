#include "gramian/linalg/sketching.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/transforms.hpp"
#include "linalg/blocks.h"
#include "linalg/device_csr.h"
#include "linalg/hadamard.h"
#include "linalg/scratch.h"

namespace gramian {

using namespace linalg;

namespace {

// Rows that are widened at a time, and columns of a task where rows are added to an output that lies row by row.
constexpr std::int64_t kLoadRows = 512;
constexpr std::int64_t kAddColumns = 64;
// Rows of S in one tile of a dense sketch: with kSketchPanel columns it stays in the second-level cache.
constexpr std::int64_t kTileRows = 128;
constexpr std::int64_t kDeviceTileRows = 4096;
// Elements of rows that are widened before a product reads them; more only where one panel is larger.
constexpr std::int64_t kLoadedElements = std::int64_t{1} << 25;
// Rows of x per task of a projection.
constexpr std::int64_t kProjectRows = 2048;
constexpr const char* kName = "A";

gramian_stream plain(const RngStream& stream) {
  return {stream.key(), stream.tag(), stream.factor(), stream.generation()};
}

bool whole_operations(const Exec& exec) {
  return exec.table().tile == 0;
}

RowsView columns_of(const RowsView& x, std::int64_t first, std::int64_t count) {
  RowsView part = x;
  part.data = static_cast<const char*>(x.data) + first * x.col_stride;
  part.cols = count;
  return part;
}

// Dense rows that a kernel can read where they are. Rows that overlap (one row, broadcast) or run backwards are no
// matrix to a BLAS.
template <class T>
bool is_direct(const Exec& exec, const RowsView& x) {
  constexpr auto size = static_cast<std::int64_t>(sizeof(T));
  return exec.table().memory == GRAMIAN_HOST_MEMORY && !x.sparse && x.row_index == nullptr &&
         x.dtype == dtype_of<T>::value && x.col_stride == size && x.row_stride >= x.cols * size &&
         x.row_stride % size == 0 && reinterpret_cast<std::uintptr_t>(x.data) % sizeof(T) == 0;
}

template <class T>
MatrixView<const T> direct_view(const RowsView& x) {
  return {static_cast<const T*>(x.data), x.rows, x.cols, x.row_stride / static_cast<std::int64_t>(sizeof(T))};
}

// The rows as a matrix of T in the memory of exec: where they are, or loaded into `buffer`.
template <class T>
MatrixView<const T> rows_of(const Exec& exec, const RowsView& x, Array<T>& buffer) {
  if (is_direct<T>(exec, x)) return direct_view<T>(x);
  if (buffer.rows() < x.rows || buffer.cols() != x.cols) buffer = Array<T>(exec, x.rows, x.cols);
  const MatrixView<T> loaded = buffer.view().block(0, 0, x.rows, x.cols);
  load_rows<T>(exec, x, nullptr, nullptr, loaded, kName);
  return loaded;
}

template <class T>
void add_rows(const Exec& exec, MatrixView<const T> x, std::int64_t nnz, const std::int32_t* codes, std::int64_t m,
              std::int64_t panel, T* out) {
  GRAMIAN_CALL(exec, sparse_sketch, code_of<T>(), x.rows, x.cols, nnz, codes, static_cast<const void*>(x.data),
               x.stride, m, panel, static_cast<void*>(out));
}

// The same for rows that may have to be widened first, a few at a time.
template <class T>
void add_loaded(const Exec& exec, const RowsView& x, std::int64_t nnz, const std::int32_t* codes, std::int64_t m,
                std::int64_t panel, T* out, Array<T>& buffer) {
  const bool at_once = is_direct<T>(exec, x) || whole_operations(exec);
  const std::int64_t edge = at_once ? std::max<std::int64_t>(1, x.rows) : kLoadRows;
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    const RowsView part = x.slice(begin, std::min(edge, x.rows - begin));
    add_rows<T>(exec, rows_of<T>(exec, part, buffer), nnz, codes + begin * nnz, m, panel, out);
  }
}

bool is_plain_csr(const RowsView& x) {
  return x.sparse && (x.dtype == DType::f32 || x.dtype == DType::f64);
}

template <class T>
void add_csr(const Exec& exec, const RowsView& x, std::int64_t nnz, const std::int32_t* codes, MatrixView<T> out) {
  const PickedCsr picked(x);
  const DeviceCsr device = to_device(exec, picked.view);
  GRAMIAN_CALL(exec, sparse_sketch_csr, code_of<T>(), static_cast<int>(x.dtype), static_cast<int>(x.index_dtype),
               x.rows, nnz, codes, device.view.indptr, device.view.indices, device.view.values,
               static_cast<void*>(out.data), out.stride);
}

// The sums of blocks, or of aligned groups of them, put together pairwise as they come.
template <class T>
class PairwiseStack {
 public:
  explicit PairwiseStack(const Exec& exec) : exec_(exec) {}
  void push(Array<T> sum) {
    int level = 0;
    while (!levels_.empty() && levels_.back() == level) {
      axpby<T, T>(exec_, 1.0, sums_.back().view(), 1.0, sum.view());
      sums_.pop_back();
      levels_.pop_back();
      ++level;
    }
    sums_.push_back(std::move(sum));
    levels_.push_back(level);
  }
  // The one sum that is left after a power-of-two number of pushes.
  MatrixView<const T> sum() const { return sums_.back().view(); }

 private:
  const Exec& exec_;
  std::vector<Array<T>> sums_;
  std::vector<int> levels_;
};

// out = the tree over `leaves` blocks, as many at a time as keep the threads busy. body(wave, first leaf, outputs) adds
// the blocks first .. first + wave.size() to the zeroed outputs.
template <class T, class Body>
void tree_of_blocks(const Exec& exec, std::int64_t leaves, std::int64_t at_once, MatrixView<T> out, const Body& body) {
  PairwiseStack<T> stack(exec);
  for (std::int64_t first = 0; first < leaves; first += at_once) {
    const std::int64_t count = std::min(at_once, leaves - first);
    std::vector<Array<T>> sums;
    for (std::int64_t k = 0; k < count; ++k) {
      sums.emplace_back(exec, out.rows, out.cols);
      axpby<T, T>(exec, 0.0, {}, 0.0, sums.back().view());
    }
    body(first, sums);
    for (Array<T>& sum : sums) stack.push(std::move(sum));
  }
  axpby<T, T>(exec, 1.0, stack.sum(), 0.0, out);
}

// --- sparse, dense rows, on the host: panels that are packed, strips that fit the second-level cache ------------

// How the columns of an m x d sum are cut, in columns. Shape alone decides.
struct Strips {
  std::int64_t panel, strip, count;
};

template <class T>
Strips strips_of(std::int64_t m, std::int64_t d) {
  constexpr std::int64_t kLineColumns = 64 / static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kPanelBytes = std::int64_t{128} << 10, kStripBytes = std::int64_t{256} << 10;
  const std::int64_t column_bytes = m * static_cast<std::int64_t>(sizeof(T));
  // A code is decoded once for a panel, so panels are wide; two lines even where they just fit the cache.
  std::int64_t panel = 2 * kLineColumns * column_bytes <= 4 * kPanelBytes ? 2 * kLineColumns : kLineColumns;
  while (panel < 8 * kLineColumns && panel < d && 2 * panel * column_bytes <= kPanelBytes) panel *= 2;
  std::int64_t strip = std::max<std::int64_t>(1, kStripBytes / (panel * column_bytes)) * panel;
  strip = std::min(strip, ceil_div(d, panel) * panel);
  return {panel, strip, ceil_div(d, strip)};
}

// Blocks that one task adds up before it writes: the writes then cost little beside the reading of the rows.
std::int64_t group_of(std::int64_t m, std::int64_t leaves) {
  std::int64_t group = 8;
  while (group < leaves && group * kSketchBlock < 8 * m) group *= 2;
  return std::min(group, leaves);
}

template <class T>
class SparseNode {
 public:
  SparseNode(const Exec& exec, const RowsView& x, std::int64_t start, std::int64_t nnz, const RowCodes& draw,
             std::int64_t m)
      : exec_(exec),
        x_(x),
        start_(start),
        nnz_(nnz),
        draw_(draw),
        m_(m),
        strips_(strips_of<T>(m, x.cols)),
        group_(group_of(m, x.rows / kSketchBlock)),
        scratch_(exec, (levels() + 1) * area()) {}

  void run(MatrixView<T> out) {
    const std::int64_t groups = x_.rows / kSketchBlock / group_;
    const std::int64_t wanted = ceil_div(2 * exec_.threads(), strips_.count);
    tree_of_blocks<T>(exec_, groups, std::min(groups, wanted), out,
                      [&](std::int64_t first, std::vector<Array<T>>& sums) { add_groups(first, sums); });
  }

 private:
  std::int64_t levels() const {
    std::int64_t count = 1;
    while (std::int64_t{1} << count <= group_) ++count;
    return count;
  }
  std::int64_t area() const { return m_ * strips_.strip; }
  std::int64_t group_rows() const { return group_ * kSketchBlock; }

  void add_groups(std::int64_t first, std::vector<Array<T>>& sums) {
    const auto count = static_cast<std::int64_t>(sums.size());
    Array<std::int32_t> codes(exec_, count * group_rows() * nnz_);
    exec_.parallel_for(count * group_, [&](std::int64_t leaf) {
      const std::int64_t row = leaf * kSketchBlock;
      draw_(exec_, start_ + first * group_rows() + row, kSketchBlock, codes.data() + row * nnz_);
    });
    exec_.parallel_for(count * strips_.count, [&](std::int64_t task) {
      const std::int64_t group = task / strips_.count, strip = task % strips_.count;
      add_group((first + group) * group_rows(), strip, codes.data() + group * group_rows() * nnz_,
                sums[static_cast<std::size_t>(group)].view());
    });
  }

  // One strip of columns of one group: its blocks one after the other, each summed from zero, the sums put together
  // pairwise as soon as two of a size are there.
  void add_group(std::int64_t row, std::int64_t strip, const std::int32_t* codes, MatrixView<T> out) {
    const Range cols = part_of(x_.cols, strips_.strip, strip);
    const auto lease = scratch_.lease();
    Array<T> loaded;
    std::vector<int> level;
    for (std::int64_t leaf = 0; leaf < group_; ++leaf) {
      T* const sum = lease.data() + static_cast<std::int64_t>(level.size()) * area();
      zero<T>(exec_, {sum, 1, area()});
      const RowsView rows = columns_of(x_.slice(row + leaf * kSketchBlock, kSketchBlock), cols.begin, cols.size());
      add_loaded<T>(exec_, rows, nnz_, codes + leaf * kSketchBlock * nnz_, m_, strips_.panel, sum, loaded);
      level.push_back(0);
      while (level.size() >= 2 && level[level.size() - 1] == level[level.size() - 2]) {
        level.pop_back();
        ++level.back();
        T* const right = lease.data() + static_cast<std::int64_t>(level.size()) * area();
        add_block<T, T>(exec_, 1.0, {right, 1, area()}, 1.0, {right - area(), 1, area()});
      }
    }
    for (std::int64_t c = 0; c < cols.size(); c += strips_.panel) {
      const std::int64_t width = std::min(strips_.panel, cols.size() - c);
      add_block<T, T>(exec_, 1.0, {lease.data() + c * m_, m_, width, strips_.panel}, 0.0,
                      out.block(0, cols.begin + c, m_, width));
    }
  }

  const Exec& exec_;
  const RowsView& x_;
  std::int64_t start_, nnz_;
  const RowCodes& draw_;
  std::int64_t m_;
  Strips strips_;
  std::int64_t group_;
  ScratchPool<T> scratch_;
};

}  // namespace

template <class T>
void fill_random_tile(const Exec& exec, Distribution distribution, const RngStream& stream, double scale,
                      std::int64_t first, std::int64_t start, MatrixView<T> out) {
  GRAMIAN_CALL(exec, fill_random, code_of<T>(), static_cast<int>(distribution), plain(stream), start, out.rows, first,
               out.cols, scale, static_cast<void*>(out.data), out.stride);
}

void fill_row_hash(const Exec& exec, const RngStream& stream, std::int64_t start, std::int64_t rows, std::int64_t nnz,
                   std::int64_t m, std::int32_t* codes) {
  GRAMIAN_CALL(exec, fill_row_hash, plain(stream), start, rows, nnz, m, codes);
}

template <class T>
void sparse_sketch_add(const Exec& exec, const RowsView& x, std::int64_t start, std::int64_t nnz, const RowCodes& draw,
                       MatrixView<T> out) {
  if (x.rows == 0 || out.empty()) return;
  const Array<std::int32_t> codes(exec, x.rows * nnz);
  draw(exec, start, x.rows, codes.data());
  if (is_plain_csr(x)) return add_csr<T>(exec, x, nnz, codes.data(), out);
  const std::int64_t edge = x.sparse || whole_operations(exec) ? x.cols : kAddColumns;
  exec.parallel_for(ceil_div(x.cols, edge), [&](std::int64_t task) {
    const Range cols = part_of(x.cols, edge, task);
    const RowsView part = x.sparse ? x : columns_of(x, cols.begin, cols.size());
    Array<T> loaded;
    add_loaded<T>(exec, part, nnz, codes.data(), out.rows, out.stride, out.data + cols.begin, loaded);
  });
}

template <class T>
void sparse_sketch_node(const Exec& exec, const RowsView& x, std::int64_t start, std::int64_t nnz, const RowCodes& draw,
                        MatrixView<T> out) {
  if (out.empty()) return;
  if (!x.sparse && !whole_operations(exec)) {
    SparseNode<T>(exec, x, start, nnz, draw, out.rows).run(out);
    return;
  }
  const std::int64_t at_once = whole_operations(exec) ? 1 : 2 * exec.threads();
  tree_of_blocks<T>(exec, x.rows / kSketchBlock, at_once, out, [&](std::int64_t first, std::vector<Array<T>>& sums) {
    exec.parallel_for(static_cast<std::int64_t>(sums.size()), [&](std::int64_t k) {
      const std::int64_t row = (first + k) * kSketchBlock;
      sparse_sketch_add<T>(exec, x.slice(row, kSketchBlock), start + row, nnz, draw,
                           sums[static_cast<std::size_t>(k)].view());
    });
  });
}

// --- dense ---------------------------------------------------------------------------------------------------------

namespace {

std::int64_t tile_rows(const Exec& exec, std::int64_t m) {
  return std::min(m, whole_operations(exec) ? kDeviceTileRows : kTileRows);
}

// Rows i0 .. i0 + out.rows of S times x, added to out panel by panel; panels end at multiples of kSketchPanel.
template <class T>
void add_panels(const Exec& exec, MatrixView<const T> x, std::int64_t start, std::int64_t i0, const SketchTile<T>& tile,
                T* scratch, MatrixView<T> out) {
  for (std::int64_t begin = 0; begin < x.rows;) {
    const std::int64_t count = std::min(kSketchPanel - (start + begin) % kSketchPanel, x.rows - begin);
    const MatrixView<T> s(scratch, count, out.rows);
    tile(exec, i0, start + begin, s);
    multiply_block<T>(exec, Trans::yes, Trans::no, 1.0, s, x.block(begin, 0, count, x.cols), 1.0, out);
    begin += count;
  }
}

// Blocks of rows, each with its own output: tasks are pairs of a block and a tile of S.
template <class T>
void add_dense_blocks(const Exec& exec, const std::vector<MatrixView<const T>>& x, std::int64_t start,
                      const SketchTile<T>& tile, const std::vector<MatrixView<T>>& outs) {
  const std::int64_t m = outs.front().rows, edge = tile_rows(exec, m), tiles = ceil_div(m, edge);
  ScratchPool<T> scratch(exec, edge * kSketchPanel);
  exec.parallel_for(static_cast<std::int64_t>(x.size()) * tiles, [&](std::int64_t task) {
    const auto k = static_cast<std::size_t>(task / tiles);
    const Range rows = part_of(m, edge, task % tiles);
    const auto lease = scratch.lease();
    add_panels<T>(exec, x[k], start + static_cast<std::int64_t>(k) * kSketchBlock, rows.begin, tile, lease.data(),
                  outs[k].block(rows.begin, 0, rows.size(), outs[k].cols));
  });
}

}  // namespace

template <class T>
void dense_sketch_add(const Exec& exec, const RowsView& x, std::int64_t start, const SketchTile<T>& tile,
                      MatrixView<T> out) {
  if (x.rows == 0 || out.empty()) return;
  const std::int64_t panels = std::max<std::int64_t>(1, kLoadedElements / (kSketchPanel * x.cols));
  const std::int64_t edge = is_direct<T>(exec, x) ? kSketchBlock : panels * kSketchPanel;
  Array<T> loaded;
  for (std::int64_t begin = 0; begin < x.rows;) {
    const std::int64_t count = std::min(edge - (start + begin) % kSketchPanel, x.rows - begin);
    add_dense_blocks<T>(exec, {rows_of<T>(exec, x.slice(begin, count), loaded)}, start + begin, tile, {out});
    begin += count;
  }
}

template <class T>
void dense_sketch_node(const Exec& exec, const RowsView& x, std::int64_t start, const SketchTile<T>& tile,
                       MatrixView<T> out) {
  if (out.empty()) return;
  const std::int64_t tiles = ceil_div(out.rows, tile_rows(exec, out.rows));
  const std::int64_t room =
      is_direct<T>(exec, x) ? ceil_div(2 * exec.threads(), tiles) : kLoadedElements / (kSketchBlock * x.cols);
  const std::int64_t at_once = std::max<std::int64_t>(1, std::min(ceil_div(2 * exec.threads(), tiles), room));
  Array<T> loaded;
  tree_of_blocks<T>(exec, x.rows / kSketchBlock, at_once, out, [&](std::int64_t first, std::vector<Array<T>>& sums) {
    const std::int64_t row = first * kSketchBlock;
    if (sums.size() == 1) {
      dense_sketch_add<T>(exec, x.slice(row, kSketchBlock), start + row, tile, sums.front().view());
      return;
    }
    const RowsView wave = x.slice(row, static_cast<std::int64_t>(sums.size()) * kSketchBlock);
    const MatrixView<const T> rows = rows_of<T>(exec, wave, loaded);
    std::vector<MatrixView<const T>> blocks;
    std::vector<MatrixView<T>> outs;
    for (std::size_t k = 0; k < sums.size(); ++k) {
      blocks.push_back(rows.block(static_cast<std::int64_t>(k) * kSketchBlock, 0, kSketchBlock, rows.cols));
      outs.push_back(sums[k].view());
    }
    add_dense_blocks<T>(exec, blocks, start + row, tile, outs);
  });
}

template <class T>
void dense_sketch_adjoint(const Exec& exec, MatrixView<const T> y, std::int64_t start, double scale,
                          const SketchTile<T>& tile, MatrixView<T> out) {
  if (out.empty()) return;
  const std::int64_t edge = tile_rows(exec, y.rows);
  ScratchPool<T> scratch(exec, edge * kSketchPanel);
  exec.parallel_for(ceil_div(out.rows, kSketchPanel), [&](std::int64_t task) {
    const Range rows = part_of(out.rows, kSketchPanel, task);
    const auto lease = scratch.lease();
    for (std::int64_t i0 = 0; i0 < y.rows; i0 += edge) {
      const MatrixView<T> s(lease.data(), rows.size(), std::min(edge, y.rows - i0));
      tile(exec, i0, start + rows.begin, s);
      multiply_block<T>(exec, Trans::no, Trans::no, scale, s, y.block(i0, 0, s.cols, y.cols), i0 == 0 ? 0.0 : 1.0,
                        out.block(rows.begin, 0, rows.size(), out.cols));
    }
  });
}

template <class T>
void dense_sketch_project(const Exec& exec, const RowsView& x, double scale, const SketchTile<T>& tile,
                          MatrixView<T> out) {
  if (out.empty()) return;
  const std::int64_t edge = tile_rows(exec, out.cols), tiles = ceil_div(out.cols, edge);
  const std::int64_t chunk = is_direct<T>(exec, x) ? std::max<std::int64_t>(1, x.rows) : 4 * kProjectRows;
  ScratchPool<T> scratch(exec, edge * kSketchPanel);
  Array<T> loaded;
  for (std::int64_t begin = 0; begin < x.rows; begin += chunk) {
    const std::int64_t count = std::min(chunk, x.rows - begin);
    const MatrixView<const T> rows = rows_of<T>(exec, x.slice(begin, count), loaded);
    exec.parallel_for(ceil_div(count, kProjectRows) * tiles, [&](std::int64_t task) {
      const Range part = part_of(count, kProjectRows, task / tiles), features = part_of(out.cols, edge, task % tiles);
      const MatrixView<T> target = out.block(begin + part.begin, features.begin, part.size(), features.size());
      const auto lease = scratch.lease();
      for (std::int64_t j = 0; j < x.cols; j += kSketchPanel) {
        const MatrixView<T> s(lease.data(), std::min(kSketchPanel, x.cols - j), features.size());
        tile(exec, features.begin, j, s);
        multiply_block<T>(exec, Trans::no, Trans::no, scale, rows.block(part.begin, j, part.size(), s.rows), s,
                          j == 0 ? 0.0 : 1.0, target);
      }
    });
  }
}

// --- transposition and what stands on it ---------------------------------------------------------------------------

namespace {

template <class T>
void transpose_block(const Exec& exec, MatrixView<const T> src, MatrixView<T> dst) {
  constexpr auto size = static_cast<std::int64_t>(sizeof(T));
  std::int64_t first_bad = -1;
  GRAMIAN_CALL(exec, load_rows, code_of<T>(), static_cast<const void*>(src.data), size, src.stride * size,
               static_cast<const std::int64_t*>(nullptr), dst.rows, dst.cols, code_of<T>(),
               static_cast<void*>(dst.data), dst.stride, static_cast<const double*>(nullptr),
               static_cast<const double*>(nullptr), &first_bad);
}

template <class T>
Array<T> device_vector(const Exec& exec, const std::vector<double>& host) {
  const std::vector<T> rounded(host.begin(), host.end());
  Array<T> device(exec, static_cast<std::int64_t>(host.size()));
  upload<T>(exec, {rounded.data(), 1, device.size()}, device.view());
  return device;
}

Array<std::int64_t> device_indices(const Exec& exec, const std::vector<std::int64_t>& host) {
  Array<std::int64_t> device(exec, static_cast<std::int64_t>(host.size()));
  const std::size_t bytes = host.size() * sizeof(std::int64_t);
  if (bytes == 0) return device;
  GRAMIAN_CALL(exec, upload, std::int64_t{1}, bytes, static_cast<const void*>(host.data()), std::int64_t{0},
               static_cast<void*>(device.data()), std::int64_t{0});
  return device;
}

// A plan in the memory of exec.
template <class T>
struct DevicePlan {
  Array<std::int64_t> index, choice;
  Array<T> sign, second_sign, choice_scale;

  DevicePlan(const Exec& exec, const HadamardPlan& plan)
      : index(device_indices(exec, plan.index)),
        choice(device_indices(exec, plan.choice)),
        sign(device_vector<T>(exec, plan.sign)),
        second_sign(device_vector<T>(exec, plan.second_sign)),
        choice_scale(device_vector<T>(exec, plan.choice_scale)) {}
};

// rows x n values -> rows x choice; work as hadamard_work says.
template <class T>
void transform_rows(const Exec& exec, MatrixView<const T> x, const DevicePlan<T>& plan, T* work, int times,
                    MatrixView<T> out) {
  const std::int64_t rounds = plan.second_sign.size() > 0 ? 2 : 1;
  GRAMIAN_CALL(exec, hadamard_rows, code_of<T>(), x.rows, x.cols, plan.index.size(), plan.choice.size(),
               static_cast<const void*>(x.data), x.stride, static_cast<const std::int64_t*>(plan.index.data()),
               static_cast<const void*>(plan.sign.data()), rounds, static_cast<const void*>(plan.second_sign.data()),
               1.0, static_cast<const std::int64_t*>(plan.choice.data()),
               static_cast<const void*>(plan.choice_scale.data()), times, static_cast<void*>(work),
               static_cast<void*>(out.data), out.stride);
}

}  // namespace

template <class T>
void copy_transposed(const Exec& exec, MatrixView<const T> src, MatrixView<T> dst) {
  GRAMIAN_REQUIRE(src.rows == dst.cols && src.cols == dst.rows, shape_mismatch,
                  "copy_transposed: the shapes do not fit");
  if (dst.empty()) return;
  const std::int64_t edge = whole_operations(exec) ? dst.rows : 64;
  exec.parallel_for(ceil_div(dst.rows, edge), [&](std::int64_t task) {
    const Range rows = part_of(dst.rows, edge, task);
    transpose_block<T>(exec, src.block(0, rows.begin, src.rows, rows.size()),
                       dst.block(rows.begin, 0, rows.size(), dst.cols));
  });
}

namespace {

// rows(begin, count, buffer) gives rows of the input as a matrix of T.
template <class T, class Rows>
bool hadamard_pieces(const Exec& exec, const HadamardPlan& plan, MatrixView<T> out, bool times, const Rows& source) {
  if (out.empty()) return true;
  const DevicePlan<T> device(exec, plan);
  const std::int64_t padded = device.index.size(), edge = hadamard_rows_at_once(exec, out.rows, padded);
  ScratchPool<T> scratch(exec, hadamard_work(exec, edge, padded));
  std::atomic<bool> finite{true};
  exec.parallel_for(ceil_div(out.rows, edge), [&](std::int64_t task) {
    const Range rows = part_of(out.rows, edge, task);
    const auto lease = scratch.lease();
    const MatrixView<T> target = out.block(rows.begin, 0, rows.size(), out.cols);
    Array<T> loaded;
    transform_rows<T>(exec, source(rows.begin, rows.size(), loaded), device, lease.data(), times ? 1 : 0, target);
    // While it is in cache. NaN spreads to all columns, but sums may overflow in some of them alone.
    if (!is_finite<T>(exec, target)) finite.store(false);
  });
  return finite.load();
}

}  // namespace

template <class T>
bool hadamard_rows(const Exec& exec, const RowsView& x, const HadamardPlan& plan, MatrixView<T> out, bool times) {
  return hadamard_pieces<T>(exec, plan, out, times, [&](std::int64_t begin, std::int64_t count, Array<T>& buffer) {
    return rows_of<T>(exec, x.slice(begin, count), buffer);
  });
}

template <class T>
bool hadamard_rows(const Exec& exec, MatrixView<const T> x, const HadamardPlan& plan, MatrixView<T> out, bool times) {
  return hadamard_pieces<T>(exec, plan, out, times, [&](std::int64_t begin, std::int64_t count, Array<T>&) {
    return x.block(begin, 0, count, x.cols);
  });
}

namespace {

// Columns through a plan on the host: rows go to their places, with their signs, as they are read, and the transforms
// run down the columns of a work space of plan.index.size() rows.
template <class T>
class HostColumns {
 public:
  HostColumns(const Exec& exec, const RowsView& x, const HadamardPlan& plan)
      : exec_(exec), x_(x), plan_(plan), choice_scale_(plan.choice_scale.begin(), plan.choice_scale.end()) {
    x_.row_index = nullptr;
    for (std::size_t k = 0; k < plan.index.size(); ++k) {
      const std::int64_t row = std::max<std::int64_t>(0, plan.index[k]);
      source_.push_back(x.row_index != nullptr ? x.row_index[row] : row);
      sign_.push_back(plan.index[k] < 0 ? 0.0 : plan.sign[k]);
    }
  }

  void run(MatrixView<T> out) {
    const auto padded = static_cast<std::int64_t>(source_.size());
    const std::int64_t edge = std::max(kAddColumns, kWorkElements / padded / kAddColumns * kAddColumns);
    const Array<T> work(exec_, padded, std::min(edge, out.cols));
    for (std::int64_t begin = 0; begin < out.cols; begin += edge) {
      const std::int64_t width = std::min(edge, out.cols - begin);
      const MatrixView<T> packed(work.data(), padded, width);
      take(columns_of(x_, begin, width), static_cast<int>(x_.dtype), source_, sign_.data(), packed);
      walsh_hadamard_columns<T>(exec_, 1.0, packed);
      if (!plan_.second_sign.empty()) {
        scale_rows<T>(exec_, plan_.second_sign, packed);
        walsh_hadamard_columns<T>(exec_, 1.0, packed);
      }
      const MatrixView<T> target = out.block(0, begin, out.rows, width);
      take(RowsView::dense<T>(packed), code_of<T>(), plan_.choice, nullptr, target);
    }
    exec_.parallel_for(ceil_div(out.rows, kLoadRows), [&](std::int64_t task) {
      const Range rows = part_of(out.rows, kLoadRows, task);
      GRAMIAN_CALL(exec_, scale_rows, code_of<T>(), rows.size(), out.cols,
                   static_cast<const void*>(choice_scale_.data() + rows.begin), static_cast<void*>(out.row(rows.begin)),
                   out.stride);
    });
  }

 private:
  // Elements of the work space, unless a few columns alone are more.
  static constexpr std::int64_t kWorkElements = std::int64_t{1} << 26;

  // to[k, :] = scale[k] * from[rows[k], :]; what is not finite comes out in the result.
  void take(const RowsView& from, int dtype, const std::vector<std::int64_t>& rows, const double* scale,
            MatrixView<T> to) const {
    exec_.parallel_for(ceil_div(to.rows, kLoadRows), [&](std::int64_t task) {
      const Range part = part_of(to.rows, kLoadRows, task);
      std::int64_t first_bad = -1;
      GRAMIAN_CALL(exec_, load_rows, dtype, from.data, from.row_stride, from.col_stride, rows.data() + part.begin,
                   part.size(), to.cols, code_of<T>(), static_cast<void*>(to.row(part.begin)), to.stride,
                   static_cast<const double*>(nullptr), scale != nullptr ? scale + part.begin : nullptr, &first_bad);
    });
  }

  const Exec& exec_;
  RowsView x_;
  const HadamardPlan& plan_;
  std::vector<T> choice_scale_;
  std::vector<std::int64_t> source_;
  std::vector<double> sign_;
};

// On a device of whole operations: columns become rows.
template <class T>
void device_columns(const Exec& exec, const RowsView& x, const HadamardPlan& plan, MatrixView<T> out) {
  const DevicePlan<T> device(exec, plan);
  const Array<T> turned(exec, x.cols, x.rows), work(exec, hadamard_work(exec, x.cols, device.index.size()));
  const Array<T> picked(exec, x.cols, device.choice.size());
  const Array<T> rows(exec, x.rows, x.cols);
  load_rows<T>(exec, x, nullptr, nullptr, rows.view(), kName);
  transpose_block<T>(exec, rows.view(), turned.view());
  transform_rows<T>(exec, turned.view(), device, work.data(), 0, picked.view());
  transpose_block<T>(exec, picked.view(), out);
}

}  // namespace

template <class T>
void hadamard_columns(const Exec& exec, const RowsView& x, const HadamardPlan& plan, MatrixView<T> out) {
  if (out.empty()) return;
  if (x.rows == 0) return zero<T>(exec, out);
  if (whole_operations(exec)) return device_columns<T>(exec, x, plan, out);
  // The table widens integers of 32 and 64 bits to double only, and rows of CSR one after the other.
  const bool narrowing = sizeof(T) == sizeof(float) && (x.dtype == DType::i32 || x.dtype == DType::i64);
  if (!x.sparse && !narrowing) return HostColumns<T>(exec, x, plan).run(out);
  const Array<T> loaded(exec, x.rows, x.cols);
  load_rows<T>(exec, x, nullptr, nullptr, loaded.view(), kName);
  HostColumns<T>(exec, RowsView::dense<T>(loaded.view()), plan).run(out);
}

template <class T>
void sparse_sketch_project(const Exec& exec, const RowsView& x, double scale, std::int64_t nnz, const RowCodes& draw,
                           MatrixView<T> out) {
  if (out.empty()) return;
  const Array<std::int32_t> codes(exec, std::max<std::int64_t>(1, x.cols * nnz));
  draw(exec, 0, x.cols, codes.data());
  const std::int64_t edge = whole_operations(exec) ? x.rows : 32, m = out.cols;
  ScratchPool<T> scratch(exec, edge * (x.cols + m));
  exec.parallel_for(ceil_div(x.rows, edge), [&](std::int64_t task) {
    const Range rows = part_of(x.rows, edge, task);
    const auto lease = scratch.lease();
    const MatrixView<T> turned(lease.data(), x.cols, rows.size());
    const MatrixView<T> sums(turned.data + edge * x.cols, m, rows.size());
    Array<T> loaded;
    transpose_block<T>(exec, rows_of<T>(exec, x.slice(rows.begin, rows.size()), loaded), turned);
    zero<T>(exec, sums);
    add_rows<T>(exec, turned, nnz, codes.data(), m, sums.cols, sums.data);
    const MatrixView<T> target = out.block(rows.begin, 0, rows.size(), m);
    transpose_block<T>(exec, sums, target);
    if (scale != 1.0) add_block<T, T>(exec, scale, target, 0.0, target);
  });
}

template <class T>
void circular_convolve(const Exec& exec, MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> out) {
  GRAMIAN_REQUIRE(a.rows == b.rows && a.cols == b.cols && out.rows == a.rows && out.cols == a.cols, shape_mismatch,
                  "circular_convolve: the shapes do not fit");
  if (out.empty()) return;
  std::int64_t padded = 2;
  while (padded < 2 * a.cols) padded *= 2;
  ScratchPool<double> scratch(exec, 5 * padded);
  const std::int64_t edge =
      whole_operations(exec) ? a.rows : std::max<std::int64_t>(8, (std::int64_t{1} << 14) / padded);
  exec.parallel_for(ceil_div(a.rows, edge), [&](std::int64_t task) {
    const Range rows = part_of(a.rows, edge, task);
    const auto lease = scratch.lease();
    GRAMIAN_CALL(exec, circular_convolve, code_of<T>(), rows.size(), a.cols,
                 static_cast<const void*>(a.row(rows.begin)), a.stride, static_cast<const void*>(b.row(rows.begin)),
                 b.stride, lease.data(), static_cast<void*>(out.row(rows.begin)), out.stride);
  });
}

template <class T>
void gather_rows(const Exec& exec, const RowsView& x, const std::vector<std::int64_t>& rows, MatrixView<T> out) {
  std::vector<std::int64_t> index(rows);
  if (x.row_index != nullptr) {
    for (std::int64_t& row : index) row = x.row_index[row];
  }
  RowsView picked = x;
  picked.rows = static_cast<std::int64_t>(index.size());
  picked.row_index = index.data();
  load_rows<T>(exec, picked, nullptr, nullptr, out, kName);
}

// --- what is finite ------------------------------------------------------------------------------------------------

namespace {

// Stored values of a CSR row range; integers are always finite.
bool values_are_finite(const RowsView& x, std::int64_t begin, std::int64_t end) {
  for (std::int64_t e = begin; e < end; ++e) {
    if (x.dtype == DType::f32 && !std::isfinite(static_cast<const float*>(x.values)[e])) return false;
    if (x.dtype == DType::f64 && !std::isfinite(static_cast<const double*>(x.values)[e])) return false;
    if (x.dtype == DType::f16 && (static_cast<const std::uint16_t*>(x.values)[e] & 0x7c00u) == 0x7c00u) return false;
  }
  return true;
}

}  // namespace

void check_finite(const Exec& exec, const RowsView& x) {
  if (x.sparse) {
    for (std::int64_t r = 0; r < x.rows; ++r) {
      const std::int64_t row = x.row_index != nullptr ? x.row_index[r] : r;
      GRAMIAN_REQUIRE(
          values_are_finite(x, index_at(x.indptr, x.index_dtype, row), index_at(x.indptr, x.index_dtype, row + 1)),
          non_finite,
          std::string(kName) + " contains NaN or infinity, first in row " + std::to_string(x.first_row + row));
    }
    return;
  }
  // Loading looks at every value; a few rows at a time, so that the copies stay in cache. The smallest row wins.
  const Exec host = exec.on_host();
  const std::int64_t edge = std::max<std::int64_t>(1, (std::int64_t{1} << 15) / std::max<std::int64_t>(1, x.cols));
  for (std::int64_t begin = 0; begin < x.rows; begin += 16 * edge) {
    const std::int64_t count = std::min(16 * edge, x.rows - begin);
    ScratchPool<double> scratch(host, edge * x.cols);
    std::atomic<bool> bad{false};
    host.parallel_for(ceil_div(count, edge), [&](std::int64_t task) {
      const Range rows = part_of(count, edge, task);
      const auto lease = scratch.lease();
      const RowsView part = x.slice(begin + rows.begin, rows.size());
      std::int64_t first_bad = -1;
      GRAMIAN_CALL(host, load_rows, static_cast<int>(part.dtype), part.data, part.row_stride, part.col_stride,
                   part.row_index, part.rows, part.cols, code_of<double>(), static_cast<void*>(lease.data()), x.cols,
                   static_cast<const double*>(nullptr), static_cast<const double*>(nullptr), &first_bad);
      if (first_bad >= 0) bad.store(true);
    });
    if (!bad.load()) continue;
    Array<double> wide(host, count, x.cols);
    load_rows<double>(host, x.slice(begin, count), nullptr, nullptr, wide.view(), kName);
  }
}

void finish(const Exec& exec) {
  const int status = exec.table().sync(exec.context());
  if (status < 0) throw_status(exec, status, "sync");
}

template <class T>
bool is_finite(const Exec& exec, MatrixView<const T> x) {
  if (x.empty()) return true;
  const Array<double> squares(exec, x.rows);
  row_sumsq<T>(exec, x, squares.data());
  std::vector<double> host(static_cast<std::size_t>(x.rows));
  download<double>(exec, squares.view(), {host.data(), 1, x.rows});
  for (std::int64_t r = 0; r < x.rows; ++r) {
    if (std::isfinite(host[static_cast<std::size_t>(r)])) continue;
    // Squares may overflow where no value is infinite.
    std::vector<T> row(static_cast<std::size_t>(x.cols));
    download<T>(exec, x.block(r, 0, 1, x.cols), {row.data(), 1, x.cols});
    if (!std::all_of(row.begin(), row.end(), [](T value) { return std::isfinite(value); })) return false;
  }
  return true;
}

#define GRAMIAN_INSTANTIATE(T)                                                                                        \
  template GRAMIAN_EXPORT void sparse_sketch_add<T>(const Exec&, const RowsView&, std::int64_t, std::int64_t,         \
                                                    const RowCodes&, MatrixView<T>);                                  \
  template GRAMIAN_EXPORT void sparse_sketch_node<T>(const Exec&, const RowsView&, std::int64_t, std::int64_t,        \
                                                     const RowCodes&, MatrixView<T>);                                 \
  template GRAMIAN_EXPORT void dense_sketch_add<T>(const Exec&, const RowsView&, std::int64_t, const SketchTile<T>&,  \
                                                   MatrixView<T>);                                                    \
  template GRAMIAN_EXPORT void dense_sketch_node<T>(const Exec&, const RowsView&, std::int64_t, const SketchTile<T>&, \
                                                    MatrixView<T>);                                                   \
  template GRAMIAN_EXPORT void dense_sketch_adjoint<T>(const Exec&, MatrixView<const T>, std::int64_t, double,        \
                                                       const SketchTile<T>&, MatrixView<T>);                          \
  template GRAMIAN_EXPORT void dense_sketch_project<T>(const Exec&, const RowsView&, double, const SketchTile<T>&,    \
                                                       MatrixView<T>);                                                \
  template GRAMIAN_EXPORT void sparse_sketch_project<T>(const Exec&, const RowsView&, double, std::int64_t,           \
                                                        const RowCodes&, MatrixView<T>);                              \
  template GRAMIAN_EXPORT bool hadamard_rows<T>(const Exec&, const RowsView&, const HadamardPlan&, MatrixView<T>,     \
                                                bool);                                                                \
  template GRAMIAN_EXPORT bool hadamard_rows<T>(const Exec&, MatrixView<const T>, const HadamardPlan&, MatrixView<T>, \
                                                bool);                                                                \
  template GRAMIAN_EXPORT void fill_random_tile<T>(const Exec&, Distribution, const RngStream&, double, std::int64_t, \
                                                   std::int64_t, MatrixView<T>);                                      \
  template GRAMIAN_EXPORT void hadamard_columns<T>(const Exec&, const RowsView&, const HadamardPlan&, MatrixView<T>); \
  template GRAMIAN_EXPORT void copy_transposed<T>(const Exec&, MatrixView<const T>, MatrixView<T>);                   \
  template GRAMIAN_EXPORT void circular_convolve<T>(const Exec&, MatrixView<const T>, MatrixView<const T>,            \
                                                    MatrixView<T>);                                                   \
  template GRAMIAN_EXPORT void gather_rows<T>(const Exec&, const RowsView&, const std::vector<std::int64_t>&,         \
                                              MatrixView<T>);                                                         \
  template GRAMIAN_EXPORT bool is_finite<T>(const Exec&, MatrixView<const T>);
GRAMIAN_INSTANTIATE(float)
GRAMIAN_INSTANTIATE(double)
#undef GRAMIAN_INSTANTIATE

}  // namespace gramian
