#include "gramian/linalg/qr.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "linalg/abandon.h"
#include "linalg/blocks.h"
#include "linalg/call.h"
#include "linalg/scratch.h"

namespace gramian {

using namespace linalg;

namespace {

bool on_host(const Exec& exec) {
  return exec.table().memory == GRAMIAN_HOST_MEMORY;
}

// Wide matrices are factored a panel of columns at a time, and reflectors applied to a strip of columns, so that a
// cancellation is seen between two calls that take a fraction of a second. Devices want whole operations.
constexpr std::int64_t kWidePanel = 256;
constexpr std::int64_t kWideStrip = 512;
constexpr std::int64_t kWideFrom = 2 * kWidePanel;

bool is_wide(const Exec& exec, std::int64_t columns) {
  return exec.table().tile != 0 && columns > kWideFrom;
}

template <class T>
void factor_panel(const Exec& exec, MatrixView<T> a, T* tau) {
  GRAMIAN_CALL(exec, geqrf, code_of<T>(), a.rows, a.cols, static_cast<void*>(a.data), a.stride,
               static_cast<void*>(tau));
}

// c = op(Q) c for the Q of the reflectors in the columns of `panel`.
template <class T>
void apply_panel(const Exec& exec, Trans trans, MatrixView<const T> panel, const T* tau, MatrixView<T> c) {
  const std::int64_t width = is_wide(exec, c.cols) ? kWideStrip : std::max<std::int64_t>(c.cols, 1);
  for (std::int64_t strip = 0; strip < ceil_div(c.cols, width); ++strip) {
    exec.poll();
    const Range cols = part_of(c.cols, width, strip);
    GRAMIAN_CALL(exec, ormqr, code_of<T>(), static_cast<int>(trans), c.rows, cols.size(), panel.cols,
                 static_cast<const void*>(panel.data), panel.stride, static_cast<const void*>(tau),
                 static_cast<void*>(c.data + cols.begin), c.stride);
  }
}

template <class T>
void factor_block(const Exec& exec, MatrixView<T> a, T* tau) {
  const std::int64_t k = std::min(a.rows, a.cols);
  if (!is_wide(exec, k)) return factor_panel<T>(exec, a, tau);
  for (std::int64_t begin = 0; begin < k; begin += kWidePanel) {
    exec.poll();
    const std::int64_t end = std::min(begin + kWidePanel, k), height = a.rows - begin;
    const MatrixView<T> panel = a.block(begin, begin, height, end - begin);
    factor_panel<T>(exec, panel, tau + begin);
    apply_panel<T>(exec, Trans::yes, panel, tau + begin, a.block(begin, end, height, a.cols - end));
  }
}

// c = Q c for the Q that factor_block left in the first k columns of a.
template <class T>
void apply_q(const Exec& exec, MatrixView<const T> a, std::int64_t k, const T* tau, MatrixView<T> c) {
  if (!is_wide(exec, k)) return apply_panel<T>(exec, Trans::no, a.block(0, 0, a.rows, k), tau, c);
  for (std::int64_t begin = (k - 1) / kWidePanel * kWidePanel; begin >= 0; begin -= kWidePanel) {
    const std::int64_t width = std::min(kWidePanel, k - begin), height = a.rows - begin;
    apply_panel<T>(exec, Trans::no, a.block(begin, begin, height, width), tau + begin,
                   c.block(begin, 0, height, c.cols));
  }
}

template <class T>
void clear_lower(MatrixView<T> r, std::int64_t valid) {
  for (std::int64_t i = 0; i < r.rows; ++i) std::fill_n(r.row(i), i < valid ? std::min(i, r.cols) : r.cols, T(0));
}

// Leaves the upper triangle of the first `valid` rows and zeros. On a device the triangle takes a trip to the host,
// which is small against the factorisation it came from.
template <class T>
void keep_triangle(const Exec& exec, MatrixView<T> r, std::int64_t valid) {
  if (on_host(exec)) return clear_lower(r, valid);
  std::vector<T> host(static_cast<std::size_t>(r.rows * r.cols));
  const MatrixView<T> copy(host.data(), r.rows, r.cols);
  download<T>(exec, r, copy);
  clear_lower(copy, valid);
  upload<T>(exec, copy, r);
}

// Signs (+-1) that make the diagonal of r non-negative.
template <class T>
std::vector<double> diagonal_signs(const Exec& exec, MatrixView<const T> r) {
  const std::int64_t k = std::min(r.rows, r.cols);
  std::vector<T> diagonal(static_cast<std::size_t>(k));
  // A column of single elements, one row and one column apart.
  download<T>(exec, {r.data, k, 1, r.stride + 1}, {diagonal.data(), k, 1});
  std::vector<double> signs(diagonal.size());
  for (std::size_t i = 0; i < signs.size(); ++i) signs[i] = diagonal[i] < T(0) ? -1.0 : 1.0;
  return signs;
}

// Rows of narrow matrices are factored in leaves of this height, and the leaves' triangles in leaves again. The sums of
// a reflection round more the longer the column is, most where its terms are alike, as in columns of ones; what they
// leave would be taken for rank. Triangles are d / leaf of the work, which narrow matrices have to spare.
std::int64_t leaf_of(std::int64_t d) {
  return d <= 32 ? 128 : 8 * d;
}

// How the rows are cut; the shape alone decides.
struct Cut {
  std::int64_t block;  // rows of one factorisation
  std::int64_t chunk;  // rows of one task, which streams them block by block into one triangle
  std::int64_t chunks;
};

// Beyond this the triangles weigh more than the threads they feed.
constexpr std::int64_t kMaxChunks = 16;

Cut cut_of(const Exec& exec, std::int64_t n, std::int64_t d) {
  const bool whole = exec.table().tile == 0;
  // Blocks that fit a last-level cache, and high enough that the triangle on top of them is a small part of the work.
  const std::int64_t elements = std::int64_t{1} << (whole ? 27 : 21);
  // Narrow blocks are 1 MB: every one merged into the triangle adds its rounding to all that came before.
  const std::int64_t highest = std::max<std::int64_t>(8 * d, whole ? elements / d : (std::int64_t{1} << 17) / d);
  const std::int64_t block = std::clamp(elements / d, 2 * d, highest);
  const std::int64_t share = std::min(block, std::max<std::int64_t>(8 * d, 1024));
  const std::int64_t wanted = whole ? 1 : std::clamp<std::int64_t>(n / (2 * share), 1, kMaxChunks);
  const std::int64_t chunk = std::max<std::int64_t>(1, ceil_div(n, wanted));
  return {block, chunk, ceil_div(n, chunk)};
}

// The first rows of x become triangles of its leaves, stacked, with the R that x had. Returns how many rows those are:
// a leaf's at most.
template <class T>
std::int64_t factor_leaves(const Exec& exec, MatrixView<T> x, T* tau) {
  const std::int64_t leaf = leaf_of(x.cols);
  std::int64_t rows = x.rows;
  while (rows > leaf) {
    std::int64_t kept = 0;
    for (std::int64_t begin = 0; begin < rows; begin += leaf) {
      const MatrixView<T> part = x.block(begin, 0, std::min(leaf, rows - begin), x.cols);
      const MatrixView<T> top = part.block(0, 0, std::min(part.rows, x.cols), x.cols);
      factor_block<T>(exec, part, tau);
      keep_triangle<T>(exec, top, top.rows);
      if (kept < begin) add_block<T, T>(exec, 1.0, top, 0.0, x.block(kept, 0, top.rows, x.cols));
      kept += top.rows;
    }
    rows = kept;
  }
  return rows;
}

// work (d + block rows high) ends with the triangle of rows [rows.begin, rows.end) on top.
template <class T>
void factor_chunk(const Exec& exec, const RowLoader<T>& load, Range rows, std::int64_t block, MatrixView<T> work,
                  T* tau) {
  const std::int64_t d = work.cols;
  std::int64_t begin = rows.begin, above = 0;  // rows of the triangle on top, none at first
  while (begin < rows.end) {
    exec.poll();
    const std::int64_t count = std::min(block, rows.end - begin);
    const MatrixView<T> part = work.block(above, 0, count, d);
    load(begin, part);
    const std::int64_t left = on_host(exec) ? factor_leaves<T>(exec, part, tau) : count;
    factor_block<T>(exec, work.block(0, 0, above + left, d), tau);
    keep_triangle<T>(exec, work.block(0, 0, d, d), std::min(d, above + left));
    above = d;
    begin += count;
  }
}

template <class T>
void merge_pair(const Exec& exec, MatrixView<const T> lower, MatrixView<T> upper, MatrixView<T> work, T* tau) {
  const std::int64_t d = upper.rows;
  add_block<T, T>(exec, 1.0, upper, 0.0, work.block(0, 0, d, d));
  add_block<T, T>(exec, 1.0, lower, 0.0, work.block(d, 0, d, d));
  factor_block<T>(exec, work, tau);
  keep_triangle<T>(exec, work.block(0, 0, d, d), d);
  add_block<T, T>(exec, 1.0, work.block(0, 0, d, d), 0.0, upper);
}

template <class T>
void make_positive(const Exec& exec, MatrixView<T> r) {
  scale_rows<T>(exec, diagonal_signs<T>(exec, r), r);
}

}  // namespace

template <class T>
void qr_factor_r(const Exec& exec, std::int64_t n, const RowLoader<T>& load, MatrixView<T> r) {
  const std::int64_t d = r.cols;
  GRAMIAN_REQUIRE(r.rows == d && n >= 0, shape_mismatch, "qr_factor_r: R is not square");
  if (d == 0) return;
  if (n == 0) return axpby<T, T>(exec, 0.0, {}, 0.0, r);
  const Cut cut = cut_of(exec, n, d);
  const std::int64_t height = std::max(d + cut.block, 2 * d);
  Array<T> triangles(exec, cut.chunks * d, d);
  {
    ScratchPool<T> work(exec, height * d), factors(exec, d);
    const auto triangle = [&](std::int64_t k) { return triangles.view().block(k * d, 0, d, d); };
    exec.parallel_for(cut.chunks, [&](std::int64_t task) {
      const auto lease = work.lease();
      const auto tau = factors.lease();
      const MatrixView<T> area(lease.data(), height, d);
      factor_chunk<T>(exec, load, part_of(n, cut.chunk, task), cut.block, area, tau.data());
      add_block<T, T>(exec, 1.0, area.block(0, 0, d, d), 0.0, triangle(task));
    });
    for (std::int64_t step = 1; step < cut.chunks; step *= 2) {
      exec.parallel_for(ceil_div(cut.chunks - step, 2 * step), [&](std::int64_t task) {
        const auto lease = work.lease();
        const auto tau = factors.lease();
        merge_pair<T>(exec, triangle((2 * task + 1) * step), triangle(2 * task * step), {lease.data(), 2 * d, d},
                      tau.data());
      });
    }
  }
  axpby<T, T>(exec, 1.0, triangles.view().block(0, 0, d, d), 0.0, r);
  make_positive<T>(exec, r);
}

template <class T>
void qr_factor_r(const Exec& exec, MatrixView<const T> x, MatrixView<T> r) {
  GRAMIAN_REQUIRE(x.cols == r.cols, shape_mismatch, "qr_factor_r: X and R differ in width");
  const RowLoader<T> load = [&](std::int64_t begin, MatrixView<T> out) {
    add_block<T, T>(exec, 1.0, x.block(begin, 0, out.rows, x.cols), 0.0, out);
  };
  qr_factor_r<T>(exec, x.rows, load, r);
}

template <class T>
void qr_merge_r(const Exec& exec, MatrixView<const T> other, MatrixView<T> r) {
  GRAMIAN_REQUIRE(r.rows == r.cols && other.rows == r.rows && other.cols == r.cols, shape_mismatch,
                  "qr_merge_r: the triangles differ in size");
  if (r.empty()) return;
  Array<T> work(exec, 2 * r.rows, r.cols), tau(exec, r.cols);
  merge_pair<T>(exec, other, r, work.view(), tau.data());
  make_positive<T>(exec, r);
}

namespace {

// Blocks of at least d rows each, factored on their own; their triangles, stacked, are a matrix like x but smaller.
std::int64_t leaves_of(const Exec& exec, std::int64_t n, std::int64_t d) {
  if (exec.table().tile == 0) return 1;
  const std::int64_t highest = std::min<std::int64_t>(leaf_of(d), 1024);
  const std::int64_t block = std::clamp((std::int64_t{1} << 20) / d, 4 * d, std::max<std::int64_t>(4 * d, highest));
  return std::max<std::int64_t>(1, n / block);
}

// x becomes Q, r the triangle with diagonals of either sign. k = min(n, d) columns of Q.
template <class T>
void thin(const Exec& exec, MatrixView<T> x, MatrixView<T> r) {
  const std::int64_t n = x.rows, d = x.cols, count = leaves_of(exec, n, d), k = std::min(n, d);
  // Nearly equal parts: a short last one could have fewer than d rows.
  const auto part = [&](std::int64_t task) { return Range{n * task / count, n * (task + 1) / count}; };
  Array<T> tau(exec, count, k), triangles(exec, count * k, d);
  exec.parallel_for(count, [&](std::int64_t task) {
    const Range rows = part(task);
    const MatrixView<T> block = x.block(rows.begin, 0, rows.size(), d), top = triangles.view().block(task * k, 0, k, d);
    factor_block<T>(exec, block, tau.view().row(task));
    add_block<T, T>(exec, 1.0, block.block(0, 0, k, d), 0.0, top);
    keep_triangle<T>(exec, top, k);
  });
  if (count == 1) {
    add_block<T, T>(exec, 1.0, triangles.view(), 0.0, r);
    zero<T>(exec, triangles.view());
    GRAMIAN_CALL(exec, add_diagonal, code_of<T>(), k, 1.0, static_cast<void*>(triangles.data()), d);
  } else {
    thin<T>(exec, triangles.view(), r);
  }
  // Every block: Q of the block times its share of the Q of the triangles.
  ScratchPool<T> work(exec, ceil_div(n, count) * k);
  exec.parallel_for(count, [&](std::int64_t task) {
    const Range rows = part(task);
    const auto lease = work.lease();
    const MatrixView<T> q(lease.data(), rows.size(), k), block = x.block(rows.begin, 0, rows.size(), d);
    zero<T>(exec, q);
    add_block<T, T>(exec, 1.0, triangles.view().block(task * k, 0, k, k), 0.0, q.block(0, 0, k, k));
    apply_q<T>(exec, block, k, tau.view().row(task), q);
    add_block<T, T>(exec, 1.0, q, 0.0, block.block(0, 0, rows.size(), k));
  });
}

}  // namespace

template <class T>
void qr_thin(const Exec& exec, MatrixView<T> x, MatrixView<T> r) {
  const std::int64_t k = std::min(x.rows, x.cols);
  GRAMIAN_REQUIRE(r.rows == k && r.cols == x.cols, shape_mismatch, "qr_thin: R has another shape");
  if (k == 0) return;
  thin<T>(exec, x, r);
  const std::vector<double> signs = diagonal_signs<T>(exec, r);
  scale_rows<T>(exec, signs, r);
  const std::vector<T> rounded(signs.begin(), signs.end());
  Array<T> device(exec, k);
  upload<T>(exec, {rounded.data(), 1, k}, device.view());
  scale_columns<T>(exec, device.data(), x.block(0, 0, x.rows, k));
}

namespace {

// Orders of square matrices, others by their flops, from which a singular value decomposition may take longer than the
// half second in which a cancellation is to be answered; the rotations of the tables without LAPACK are the slow ones.
constexpr double kLongSvd = 192;

bool is_long_svd(const Exec& exec, std::int64_t m, std::int64_t n) {
  const double edge = std::cbrt(static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(std::min(m, n)));
  return edge >= kLongSvd && on_host(exec);
}

// a is overwritten.
template <class T>
void decompose(const Exec& exec, MatrixView<T> a, T* s, MatrixView<T> u, MatrixView<T> vt) {
  GRAMIAN_CALL(exec, gesvd, code_of<T>(), a.rows, a.cols, static_cast<void*>(a.data), a.stride, static_cast<void*>(s),
               static_cast<void*>(u.data), u.stride, static_cast<void*>(vt.data), vt.stride);
}

// On memory of its own, with a hook or without, so that the bits do not depend on it.
template <class T>
void long_svd(const Exec& exec, MatrixView<const T> a, MatrixView<T> u, std::vector<T>& s, MatrixView<T> vt) {
  struct Work {
    Work(const Exec& exec_, std::int64_t m, std::int64_t n, std::int64_t k)
        : exec(exec_), matrix(exec_, m, n), values(exec_, k), left(exec_, m, k), right(exec_, k, n) {}
    const Exec exec;  // without the hook, which must not stay with work that a cancelled caller leaves behind
    Array<T> matrix, values, left, right;
  };
  const auto work = std::make_shared<Work>(exec.uninterrupted(), a.rows, a.cols, u.cols);
  axpby<T, T>(exec, 1.0, a, 0.0, work->matrix.view());
  run_abandonable(exec, [work] {
    decompose<T>(work->exec, work->matrix.view(), work->values.data(), work->left.view(), work->right.view());
  });
  axpby<T, T>(exec, 1.0, work->left.view(), 0.0, u);
  axpby<T, T>(exec, 1.0, work->right.view(), 0.0, vt);
  download<T>(exec, work->values.view(), {s.data(), 1, u.cols});
}

}  // namespace

template <class T>
void small_svd(const Exec& exec, MatrixView<const T> a, MatrixView<T> u, std::vector<T>& s, MatrixView<T> vt) {
  const std::int64_t k = std::min(a.rows, a.cols);
  GRAMIAN_REQUIRE(u.rows == a.rows && u.cols == k && vt.rows == k && vt.cols == a.cols, shape_mismatch,
                  "small_svd: the shapes of U and V do not fit");
  s.assign(static_cast<std::size_t>(k), T(0));
  if (k == 0) return;
  if (is_long_svd(exec, a.rows, a.cols)) return long_svd<T>(exec, a, u, s, vt);
  Array<T> work(exec, a.rows, a.cols), values(exec, k);
  axpby<T, T>(exec, 1.0, a, 0.0, work.view());
  decompose<T>(exec, work.view(), values.data(), u, vt);
  download<T>(exec, values.view(), {s.data(), 1, k});
}

namespace {

template <class S, class T>
void transpose_block(const Exec& exec, MatrixView<const S> x, MatrixView<T> out) {
  std::int64_t first_bad = -1;
  const auto size = static_cast<std::int64_t>(sizeof(S));
  GRAMIAN_CALL(exec, load_rows, code_of<S>(), static_cast<const void*>(x.data), size, x.stride * size,
               static_cast<const std::int64_t*>(nullptr), x.cols, x.rows, code_of<T>(), static_cast<void*>(out.data),
               out.stride, static_cast<const double*>(nullptr), static_cast<const double*>(nullptr), &first_bad);
}

}  // namespace

template <class T>
void transpose(const Exec& exec, MatrixView<const T> x, MatrixView<T> out) {
  GRAMIAN_REQUIRE(out.rows == x.cols && out.cols == x.rows, shape_mismatch, "transpose: the shapes do not fit");
  if (x.empty()) return;
  const std::int64_t edge = exec.table().tile == 0 ? x.rows : 256;
  exec.parallel_for(ceil_div(x.rows, edge), [&](std::int64_t task) {
    const Range rows = part_of(x.rows, edge, task);
    transpose_block<T, T>(exec, x.block(rows.begin, 0, rows.size(), x.cols),
                          out.block(0, rows.begin, x.cols, rows.size()));
  });
}

template <class S, class T>
SymmetricMatrix<T> lower_factor(const Exec& exec, MatrixView<const S> r) {
  GRAMIAN_REQUIRE(r.rows == r.cols, shape_mismatch, "lower_factor: R is not square");
  SymmetricMatrix<T> l(exec, r.rows);
  const std::int64_t edge = l.tile_edge();
  for (std::int64_t i = 0; i < l.tiles(); ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      const MatrixView<T> tile = l.tile(i, j);
      transpose_block<S, T>(exec, r.block(j * edge, i * edge, tile.cols, tile.rows), tile);
    }
  }
  return l;
}

double default_rtol(std::int64_t d) {
  // Beyond 25 columns LAPACK decomposes by divide and conquer, which makes 16 eps of smaller singular values.
  return (d <= 25 ? 8 : 32) * std::numeric_limits<double>::epsilon();
}

#define GRAMIAN_INSTANTIATE(T)                                                                                \
  template GRAMIAN_EXPORT void qr_factor_r<T>(const Exec&, MatrixView<const T>, MatrixView<T>);               \
  template GRAMIAN_EXPORT void qr_factor_r<T>(const Exec&, std::int64_t, const RowLoader<T>&, MatrixView<T>); \
  template GRAMIAN_EXPORT void qr_merge_r<T>(const Exec&, MatrixView<const T>, MatrixView<T>);                \
  template GRAMIAN_EXPORT void qr_thin<T>(const Exec&, MatrixView<T>, MatrixView<T>);                         \
  template GRAMIAN_EXPORT void small_svd<T>(const Exec&, MatrixView<const T>, MatrixView<T>, std::vector<T>&, \
                                            MatrixView<T>);                                                   \
  template GRAMIAN_EXPORT void transpose<T>(const Exec&, MatrixView<const T>, MatrixView<T>);                 \
  template GRAMIAN_EXPORT SymmetricMatrix<T> lower_factor<double, T>(const Exec&, MatrixView<const double>);
GRAMIAN_INSTANTIATE(float)
GRAMIAN_INSTANTIATE(double)
#undef GRAMIAN_INSTANTIATE
template GRAMIAN_EXPORT SymmetricMatrix<float> lower_factor<float, float>(const Exec&, MatrixView<const float>);

}  // namespace gramian
