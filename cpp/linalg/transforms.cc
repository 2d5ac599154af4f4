#include "gramian/linalg/transforms.hpp"

#include <algorithm>
#include <string>

#include "linalg/blocks.h"
#include "linalg/hadamard.h"
#include "linalg/scratch.h"

namespace gramian {

using namespace linalg;

namespace {

// Elements of one task: enough to pay for handing it out. Rows fetch those that follow in their task, so they get
// longer ones.
constexpr std::int64_t kTask = std::int64_t{1} << 15, kRowsTask = 4 * kTask;
// Columns of a task: whole strips of the kernel, and enough of them that the narrow ones at its ends do not matter.
constexpr std::int64_t kColumns = 512;
constexpr std::int64_t kLine = 64;
// Stages that the kernel does in one sweep over the strips of a matrix with gaps, and in one over rows that are wide.
constexpr int kSweep = 10, kPackedSweep = 6;
// Bytes of packed rows that one task transforms to the end: what it writes in a pass is in the last cache at the next.
constexpr std::int64_t kRun = std::int64_t{8} << 20;

int stages_of(std::int64_t n) {
  int stages = 0;
  while ((std::int64_t{1} << stages) < n) ++stages;
  return stages;
}

void check_length(std::int64_t n) {
  GRAMIAN_REQUIRE(n > 0 && (n & (n - 1)) == 0, invalid_argument,
                  "the length of a Walsh-Hadamard transform must be a power of two, got " + std::to_string(n));
}

// Sweeps on parts of a matrix, each task with a scratch tile of its own.
template <class T>
class Columns {
 public:
  explicit Columns(const Exec& exec) : exec_(exec), scratch_(exec, GRAMIAN_FWHT_SCRATCH) {}

  void whole(double scale, MatrixView<T> x) {
    const auto tile = scratch_.lease();
    GRAMIAN_CALL(exec_, fwht_columns, code_of<T>(), x.rows, x.cols, scale, static_cast<void*>(x.data), x.stride,
                 static_cast<void*>(tile.data()));
  }

  void by_columns(double scale, MatrixView<T> x) {
    // Many columns are cut where cache lines begin.
    const auto size = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t wanted = ceil_div(kTask, x.rows), narrow = x.cols <= 4 * kColumns ? kLine : kColumns;
    const std::int64_t edge = ceil_div(wanted, narrow) * narrow;
    const auto past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(x.data) % kLine) / size;
    const std::int64_t head = narrow == kLine || past == 0 ? 0 : kLine / size - past;
    exec_.parallel_for(ceil_div(x.cols - head, edge), [&](std::int64_t task) {
      const std::int64_t begin = task == 0 ? 0 : head + task * edge;
      const std::int64_t end = std::min(x.cols, head + (task + 1) * edge);
      whole(scale, x.block(0, begin, x.rows, end - begin));
    });
  }

  // Each run of n rows.
  void by_runs(double scale, std::int64_t n, MatrixView<T> x) {
    const std::int64_t runs = x.rows / n, edge = std::max<std::int64_t>(1, kTask / (n * x.cols));
    exec_.parallel_for(ceil_div(runs, edge), [&](std::int64_t task) {
      const Range range = part_of(runs, edge, task);
      for (std::int64_t run = range.begin; run < range.end; ++run) whole(scale, x.block(run * n, 0, n, x.cols));
    });
  }

  // One long transform: the first sweeps meet rows far apart, what follows stays inside runs of rows. The widest stages
  // come first here as in the kernel, so the cut changes no bit.
  void long_columns(double scale, MatrixView<T> x) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    if (x.stride == x.cols && x.cols * size >= kLine) {
      std::int64_t run = x.rows;
      for (; run * x.cols * size > kRun && run > 1 << kPackedSweep; run >>= kPackedSweep) {
        const std::int64_t far = (run >> kPackedSweep) * x.cols;
        for (std::int64_t r = 0; r < x.rows; r += run) by_columns(1.0, {x.row(r), 1 << kPackedSweep, far, far});
      }
      return by_runs(scale, run, x);
    }
    const int stages = stages_of(x.rows), sweeps = (stages + kSweep - 1) / kSweep;
    const std::int64_t outer = std::int64_t{1} << ((stages + sweeps - 1) / sweeps), inner = x.rows / outer;
    if (x.stride == x.cols) {
      by_columns(1.0, {x.data, outer, inner * x.cols, inner * x.cols});
    } else {
      exec_.parallel_for(inner, [&](std::int64_t r) { whole(1.0, {x.row(r), outer, x.cols, inner * x.stride}); });
    }
    by_runs(scale, inner, x);
  }

 private:
  const Exec& exec_;
  ScratchPool<char> scratch_;
};

}  // namespace

template <class T>
void walsh_hadamard_columns(const Exec& exec, double scale, MatrixView<T> x) {
  walsh_hadamard_columns<T>(exec, scale, x.rows, x);
}

template <class T>
void walsh_hadamard_columns(const Exec& exec, double scale, std::int64_t n, MatrixView<T> x) {
  if (x.empty()) return;
  check_length(n);
  GRAMIAN_REQUIRE(x.rows % n == 0, shape_mismatch,
                  std::to_string(x.rows) + " rows are not a multiple of the length " + std::to_string(n));
  Columns<T> columns(exec);
  if (exec.table().tile != 0 && n * x.cols < 4 * kTask) return columns.by_runs(scale, n, x);
  for (std::int64_t r = 0; r < x.rows; r += n) {
    const MatrixView<T> run = x.block(r, 0, n, x.cols);
    if (exec.table().tile == 0) {
      columns.whole(scale, run);
    } else if (n > std::int64_t{1} << kSweep) {
      columns.long_columns(scale, run);
    } else {
      columns.by_columns(scale, run);
    }
  }
}

template <class T>
void walsh_hadamard_rows(const Exec& exec, double scale, MatrixView<const T> from, MatrixView<T> to) {
  GRAMIAN_REQUIRE(from.rows == to.rows && from.cols == to.cols, shape_mismatch,
                  "walsh_hadamard_rows: the output does not fit");
  if (from.empty()) return;
  check_length(from.cols);
  const std::int64_t edge = exec.table().tile == 0 ? from.rows : std::max<std::int64_t>(1, kRowsTask / from.cols);
  exec.parallel_for(ceil_div(from.rows, edge), [&](std::int64_t task) {
    const Range rows = part_of(from.rows, edge, task);
    GRAMIAN_CALL(exec, fwht, code_of<T>(), rows.size(), to.cols, scale, static_cast<const void*>(from.row(rows.begin)),
                 from.stride, static_cast<void*>(to.row(rows.begin)), to.stride);
  });
}

template <class T>
void signed_hadamard_rows(const Exec& exec, double scale, MatrixView<const T> signs, MatrixView<const T> x,
                          MatrixView<T> out) {
  const std::int64_t n = signs.cols;
  GRAMIAN_REQUIRE(out.rows == x.rows && x.cols <= n && out.cols <= n && signs.rows > 0 && signs.stride == n,
                  shape_mismatch, "signed_hadamard_rows: the shapes do not fit");
  if (out.empty()) return;
  check_length(n);
  const std::int64_t edge = hadamard_rows_at_once(exec, x.rows, n);
  ScratchPool<T> scratch(exec, hadamard_work(exec, std::min(edge, x.rows), n));
  exec.parallel_for(ceil_div(x.rows, edge), [&](std::int64_t task) {
    const Range rows = part_of(x.rows, edge, task);
    const auto lease = scratch.lease();
    GRAMIAN_CALL(exec, hadamard_rows, code_of<T>(), rows.size(), x.cols, n, out.cols,
                 static_cast<const void*>(x.row(rows.begin)), x.stride, static_cast<const std::int64_t*>(nullptr),
                 static_cast<const void*>(signs.data), signs.rows, static_cast<const void*>(signs.data + n), scale,
                 static_cast<const std::int64_t*>(nullptr), static_cast<const void*>(nullptr), 0,
                 static_cast<void*>(lease.data()), static_cast<void*>(out.row(rows.begin)), out.stride);
  });
}

#define GRAMIAN_INSTANTIATE(T)                                                                                        \
  template GRAMIAN_EXPORT void walsh_hadamard_columns<T>(const Exec&, double, MatrixView<T>);                         \
  template GRAMIAN_EXPORT void walsh_hadamard_columns<T>(const Exec&, double, std::int64_t, MatrixView<T>);           \
  template GRAMIAN_EXPORT void walsh_hadamard_rows<T>(const Exec&, double, MatrixView<const T>, MatrixView<T>);       \
  template GRAMIAN_EXPORT void signed_hadamard_rows<T>(const Exec&, double, MatrixView<const T>, MatrixView<const T>, \
                                                       MatrixView<T>);
GRAMIAN_INSTANTIATE(float)
GRAMIAN_INSTANTIATE(double)
#undef GRAMIAN_INSTANTIATE

}  // namespace gramian
