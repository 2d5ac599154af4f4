#include "gramian/linalg/sweep.hpp"

#include <algorithm>

#include "gramian/core/error.hpp"
#include "gramian/linalg/ops.hpp"
#include "linalg/blocks.h"
#include "linalg/call.h"
#include "linalg/scratch.h"

namespace gramian {

using namespace linalg;

namespace {

constexpr std::int64_t kPartRows = 4096;
constexpr std::int64_t kMaxParts = 64;
// Rows of the products with several right-hand sides: a block of A that stays in cache between the two.
constexpr std::int64_t kBlockRows = 256;

template <class T>
void sweep_one(const Exec& exec, MatrixView<const T> a, const double* x, const double* b, double* r, double* g) {
  GRAMIAN_CALL(exec, normal_sweep, code_of<T>(), a.rows, a.cols, static_cast<const void*>(a.data), a.stride, x, b, r,
               g);
}

// One block with k right-hand sides by two products; g is added to. weight: of the rows of r, on the device, or null.
void sweep_block(const Exec& exec, MatrixView<const double> a, MatrixView<const double> x, MatrixView<const double> b,
                 const double* weight, MatrixView<double> r, MatrixView<double> g) {
  const bool given = b.data != nullptr;
  if (given) add_block<double, double>(exec, 1.0, b, 0.0, r);
  multiply_block<double>(exec, Trans::no, Trans::no, -1.0, a, x, given ? 1.0 : 0.0, r);
  if (weight != nullptr) {
    GRAMIAN_CALL(exec, scale_rows, code_of<double>(), r.rows, r.cols, static_cast<const void*>(weight),
                 static_cast<void*>(r.data), r.stride);
  }
  multiply_block<double>(exec, Trans::yes, Trans::no, 1.0, a, r, 1.0, g);
}

// `wide`: room for a block of A in double, used where A is float.
template <class T>
void sweep_part(const Exec& exec, MatrixView<const T> a, MatrixView<const double> x, MatrixView<const double> b,
                const double* weight, MatrixView<double> r, MatrixView<double> g, double* wide) {
  const bool given = b.data != nullptr;
  if (weight == nullptr && x.cols == 1 && x.stride == 1 && r.stride == 1 && (!given || b.stride == 1)) {
    return sweep_one<T>(exec, a, x.data, b.data, r.data, g.data);
  }
  const std::int64_t edge = exec.table().tile == 0 ? a.rows : kBlockRows;
  for (std::int64_t begin = 0; begin < a.rows; begin += edge) {
    const std::int64_t rows = std::min(edge, a.rows - begin);
    const MatrixView<const T> block = a.block(begin, 0, rows, a.cols);
    const MatrixView<const double> part_b = given ? b.block(begin, 0, rows, b.cols) : b;
    const MatrixView<double> part_r = r.block(begin, 0, rows, r.cols);
    const double* part_weight = weight != nullptr ? weight + begin : nullptr;
    if constexpr (sizeof(T) == sizeof(double)) {
      sweep_block(exec, block, x, part_b, part_weight, part_r, g);
    } else {
      const MatrixView<double> copy(wide, rows, a.cols);
      add_block<T, double>(exec, 1.0, block, 0.0, copy);
      sweep_block(exec, copy, x, part_b, part_weight, part_r, g);
    }
  }
}

}  // namespace

template <class T>
void normal_sweep(const Exec& exec, MatrixView<const T> a, MatrixView<const double> x, MatrixView<const double> b,
                  MatrixView<double> r, MatrixView<double> g, const std::vector<double>& weight) {
  const std::int64_t n = a.rows, d = a.cols, k = x.cols;
  GRAMIAN_REQUIRE(x.rows == d && r.rows == n && r.cols == k && g.rows == d && g.cols == k &&
                      (b.data == nullptr || (b.rows == n && b.cols == k)) &&
                      (weight.empty() || static_cast<std::int64_t>(weight.size()) == n),
                  shape_mismatch, "normal_sweep: the shapes do not fit");
  if (k == 0) return;
  const bool whole = exec.table().tile == 0;
  const std::int64_t parts = whole ? 1 : std::clamp<std::int64_t>(n / kPartRows, 1, kMaxParts);
  const std::int64_t edge = std::max<std::int64_t>(1, ceil_div(n, parts));
  const std::int64_t size = d * k;
  Array<double> sums(exec, parts, size), weights;
  if (!weight.empty()) {
    weights = Array<double>(exec, n);
    upload<double>(exec, {weight.data(), 1, n}, weights.view());
  }
  const bool fused = k == 1 && weight.empty();
  const std::int64_t wide_rows = sizeof(T) == sizeof(double) || fused ? 0 : whole ? n : kBlockRows;
  ScratchPool<double> wide(exec, wide_rows * d);
  exec.parallel_for(parts, [&](std::int64_t task) {
    const Range rows = part_of(n, edge, std::min(task, ceil_div(n, edge)));
    const MatrixView<double> part_g(sums.view().row(task), d, k);
    zero<double>(exec, part_g);
    if (rows.size() <= 0) return;
    const auto lease = wide.lease();
    sweep_part<T>(exec, a.block(rows.begin, 0, rows.size(), d), x,
                  b.data != nullptr ? b.block(rows.begin, 0, rows.size(), k) : b,
                  weight.empty() ? nullptr : weights.data() + rows.begin, r.block(rows.begin, 0, rows.size(), k),
                  part_g, lease.data());
  });
  // Pairwise over the parts, strip by strip.
  const std::int64_t strip = whole ? size : 4096;
  exec.parallel_for(ceil_div(size, strip), [&](std::int64_t task) {
    const Range columns = part_of(size, strip, task);
    const auto part = [&](std::int64_t p) { return sums.view().block(p, columns.begin, 1, columns.size()); };
    for (std::int64_t step = 1; step < parts; step *= 2) {
      for (std::int64_t p = 0; p + step < parts; p += 2 * step) {
        add_block<double, double>(exec, 1.0, part(p + step), 1.0, part(p));
      }
    }
  });
  axpby<double, double>(exec, 1.0, MatrixView<const double>(sums.data(), d, k), 0.0, g);
}

template GRAMIAN_EXPORT void normal_sweep<float>(const Exec&, MatrixView<const float>, MatrixView<const double>,
                                                 MatrixView<const double>, MatrixView<double>, MatrixView<double>,
                                                 const std::vector<double>&);
template GRAMIAN_EXPORT void normal_sweep<double>(const Exec&, MatrixView<const double>, MatrixView<const double>,
                                                  MatrixView<const double>, MatrixView<double>, MatrixView<double>,
                                                  const std::vector<double>&);

}  // namespace gramian
