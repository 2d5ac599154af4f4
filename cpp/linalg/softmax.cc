#include "gramian/linalg/softmax.hpp"

#if defined(__linux__)
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "linalg/call.h"

namespace gramian {

using namespace linalg;

namespace {

// Elements of one task.
constexpr std::int64_t kTask = std::int64_t{1} << 15;
// Elements of a long row that one task takes: a multiple of the kernel's blocks.
constexpr std::int64_t kPiece = std::int64_t{1} << 16;
// Columns of a task are a multiple of this: whole strips of the kernel.
constexpr std::int64_t kColumns = 64;

// Bytes of the last cache before memory, as the system tells.
std::int64_t last_level_cache() {
  static const std::int64_t bytes = [] {
#if defined(__linux__) && defined(_SC_LEVEL3_CACHE_SIZE)
    for (const int level : {_SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE}) {
      const long found = sysconf(level);
      if (found > 0) return static_cast<std::int64_t>(found);
    }
#endif
    return std::int64_t{16} << 20;
  }();
  return bytes;
}

template <class T>
std::int64_t bytes_of(std::int64_t rows, std::int64_t cols) {
  return rows * cols * static_cast<std::int64_t>(sizeof(T));
}

// What every call of the table takes beside its rows.
struct Plan {
  int kind;
  int flags;
  double scale;
};

template <class T>
Plan plan_of(Softmax what, const SoftmaxOptions& options, MatrixView<const T> x, MatrixView<T> out) {
  GRAMIAN_REQUIRE(options.scale > 0, invalid_argument,
                  "scale must be a number > 0, got " + std::to_string(options.scale));
  GRAMIAN_REQUIRE(options.passes == 0 || options.passes == 2 || options.passes == 3, invalid_argument,
                  "passes must be 0, 2 or 3, got " + std::to_string(options.passes));
  Plan plan;
  plan.kind = static_cast<int>(what);
  plan.flags = options.subnormals ? GRAMIAN_SOFTMAX_SUBNORMALS : 0;
  // Written past the caches only where they could not keep the output anyway.
  if (out.data != x.data && bytes_of<T>(out.rows, out.cols) > last_level_cache()) plan.flags |= GRAMIAN_SOFTMAX_STREAM;
  // An infinite scale would turn the largest value's difference from itself into NaN.
  plan.scale = std::min(options.scale, static_cast<double>(std::numeric_limits<T>::max()));
  return plan;
}

template <class T>
void three_passes(const Exec& exec, const Plan& plan, MatrixView<const T> x, MatrixView<T> out) {
  GRAMIAN_CALL(exec, softmax, code_of<T>(), plan.kind, plan.flags, x.rows, x.cols, plan.scale,
               static_cast<const void*>(x.data), x.stride, static_cast<void*>(out.data), out.stride);
}

// M 2^E, as the table returns it.
struct Pair {
  double sum, exponent;
};

Pair operator+(const Pair& a, const Pair& b) {
  const Pair& high = a.exponent >= b.exponent ? a : b;
  const Pair& low = a.exponent >= b.exponent ? b : a;
  const double below = std::max(low.exponent - high.exponent, -4096.0);
  // Two sums of nothing but -inf have no exponent to compare.
  if (std::isnan(below)) return {a.sum + b.sum, a.exponent};
  return {high.sum + std::ldexp(low.sum, static_cast<int>(below)), high.exponent};
}

// One tree for every number of threads.
Pair total(const std::vector<Pair>& pairs, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return pairs[begin];
  const std::size_t middle = begin + (end - begin) / 2;
  return total(pairs, begin, middle) + total(pairs, middle, end);
}

// One row in pieces; false where its values are out of reach.
template <class T>
bool two_passes(const Exec& exec, const Plan& plan, const T* x, std::int64_t cols, T* out) {
  const std::int64_t pieces = ceil_div(cols, kPiece);
  std::vector<Pair> pairs(static_cast<std::size_t>(pieces));
  std::atomic<bool> reached{true};
  exec.parallel_for(pieces, [&](std::int64_t piece) {
    if (!reached.load(std::memory_order_relaxed)) return;
    const Range range = part_of(cols, kPiece, piece);
    double pair[2];
    const int far = GRAMIAN_CALL(exec, exp_sums, code_of<T>(), std::int64_t{1}, range.size(), plan.scale,
                                 static_cast<const void*>(x + range.begin), range.size(), pair);
    if (far > 0) reached.store(false, std::memory_order_relaxed);
    pairs[static_cast<std::size_t>(piece)] = {pair[0], pair[1]};
  });
  if (!reached.load()) return false;
  const Pair sum = total(pairs, 0, pairs.size());
  if (plan.kind == GRAMIAN_LOGSUMEXP) {
    *out = static_cast<T>(sum.sum > 0 ? sum.exponent * 0.693147180559945309417 + std::log(sum.sum)
                                      : (sum.sum < 0 || std::isnan(sum.sum) ? sum.sum : -HUGE_VAL));
    return true;
  }
  const double pair[2] = {sum.sum, sum.exponent};
  exec.parallel_for(pieces, [&](std::int64_t piece) {
    const Range range = part_of(cols, kPiece, piece);
    GRAMIAN_CALL(exec, exp_write, code_of<T>(), plan.kind, plan.flags, std::int64_t{1}, range.size(), plan.scale,
                 static_cast<const void*>(x + range.begin), range.size(), static_cast<const double*>(pair),
                 static_cast<void*>(out + range.begin), range.size());
  });
  return true;
}

}  // namespace

template <class T>
void softmax_rows(const Exec& exec, Softmax what, const SoftmaxOptions& options, MatrixView<const T> x,
                  MatrixView<T> out) {
  const bool one_each = what == Softmax::log_sum;
  GRAMIAN_REQUIRE(out.rows == x.rows && out.cols == (one_each ? 1 : x.cols), shape_mismatch,
                  "softmax_rows: the output does not fit");
  if (x.rows == 0) return;
  const Plan plan = plan_of(what, options, x, out);
  if (exec.table().tile == 0) return three_passes(exec, plan, x, out);
  const bool long_rows = bytes_of<T>(1, x.cols) > last_level_cache();
  if (x.cols > 0 && (options.passes == 2 || (options.passes == 0 && long_rows))) {
    for (std::int64_t r = 0; r < x.rows; ++r) {
      if (two_passes(exec, plan, x.row(r), x.cols, out.row(r))) continue;
      three_passes(exec, plan, x.block(r, 0, 1, x.cols), out.block(r, 0, 1, out.cols));
    }
    return;
  }
  const std::int64_t edge = std::max<std::int64_t>(1, kTask / std::max<std::int64_t>(1, x.cols));
  exec.parallel_for(ceil_div(x.rows, edge), [&](std::int64_t task) {
    const Range rows = part_of(x.rows, edge, task);
    three_passes(exec, plan, x.block(rows.begin, 0, rows.size(), x.cols),
                 out.block(rows.begin, 0, rows.size(), out.cols));
  });
}

template <class T>
void softmax_columns(const Exec& exec, Softmax what, const SoftmaxOptions& options, std::int64_t n,
                     MatrixView<const T> x, MatrixView<T> out) {
  const bool one_each = what == Softmax::log_sum;
  GRAMIAN_REQUIRE(n > 0 && x.rows % n == 0, shape_mismatch,
                  std::to_string(x.rows) + " rows are not a multiple of the length " + std::to_string(n));
  const std::int64_t runs = x.rows / n, out_n = one_each ? 1 : n;
  GRAMIAN_REQUIRE(out.rows == runs * out_n && out.cols == x.cols, shape_mismatch,
                  "softmax_columns: the output does not fit");
  if (out.empty()) return;
  const Plan plan = plan_of(what, options, x, out);
  const auto part = [&](std::int64_t run, Range cols) {
    const MatrixView<const T> from = x.block(run * n, cols.begin, n, cols.size());
    const MatrixView<T> to = out.block(run * out_n, cols.begin, out_n, cols.size());
    GRAMIAN_CALL(exec, softmax_columns, code_of<T>(), plan.kind, plan.flags, n, cols.size(), plan.scale,
                 static_cast<const void*>(from.data), from.stride, static_cast<void*>(to.data), to.stride);
  };
  // Short runs share a task, wide ones are cut in strips.
  const bool whole = exec.table().tile == 0;
  const std::int64_t wanted = ceil_div(std::max<std::int64_t>(1, kTask / n), kColumns) * kColumns;
  const std::int64_t edge = whole ? x.cols : std::min(wanted, x.cols), strips = ceil_div(x.cols, edge);
  const std::int64_t group = std::max<std::int64_t>(1, kTask / (n * edge)), groups = ceil_div(runs, group);
  exec.parallel_for(groups * strips, [&](std::int64_t task) {
    const Range together = part_of(runs, group, task / strips);
    for (std::int64_t run = together.begin; run < together.end; ++run) part(run, part_of(x.cols, edge, task % strips));
  });
}

#define GRAMIAN_INSTANTIATE(T)                                                                                   \
  template GRAMIAN_EXPORT void softmax_rows<T>(const Exec&, Softmax, const SoftmaxOptions&, MatrixView<const T>, \
                                               MatrixView<T>);                                                   \
  template GRAMIAN_EXPORT void softmax_columns<T>(const Exec&, Softmax, const SoftmaxOptions&, std::int64_t,     \
                                                  MatrixView<const T>, MatrixView<T>);
GRAMIAN_INSTANTIATE(float)
GRAMIAN_INSTANTIATE(double)
#undef GRAMIAN_INSTANTIATE

}  // namespace gramian
