#include "gramian/linalg/symmetric.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "linalg/abandon.h"
#include "linalg/blocks.h"
#include "linalg/call.h"
#include "linalg/flags.h"
#include "linalg/scratch.h"

namespace gramian {

using namespace linalg;

namespace {

// Rows of float products that may be added up in float before they go to a double sum.
constexpr std::int64_t kFloatRows = 2048;

// Right-hand sides that cholesky_solve_half solves in one strip.
constexpr std::int64_t kStrip = 64;
// Rows of L that one task of a strip takes, and those of its diagonal block that are solved at once: few enough that
// threads find work in a small system, and that what is solved alone is little.
constexpr std::int64_t kGroupRows = 128;
constexpr std::int64_t kBlockRows = 32;
// Groups before a task's own that it takes one by one, since other threads may still be at them.
constexpr std::int64_t kGroupLag = 8;

// Orders from which an eigen-decomposition may take longer than the half second in which a cancellation is to be
// answered: below, the slowest of our tables takes a fifth of it.
constexpr std::int64_t kLongEigen = 384;

// Rows of a right-hand side that one task of cholesky_solve_rows takes: enough for the kernels' full speed.
constexpr std::int64_t kSolveRows = 256;

// The edge of square tiles. A sixth of the matrix or less, so that the threads of a factorisation seldom wait for each
// other, and as large as the table likes, so that the kernels run at full speed.
std::int64_t edge_for(const Exec& exec, std::int64_t n) {
  const std::int64_t preferred = exec.table().tile;
  if (preferred == 0 || n <= preferred / 2) return n;
  const std::int64_t wanted = n < 6 * preferred ? preferred / 2 : n < 11 * preferred ? preferred : 2 * preferred;
  const std::int64_t parts = ceil_div(n, wanted);
  return ceil_div(ceil_div(n, parts), 16) * 16;
}

struct TileIndex {
  std::int64_t i, j;
};

// Tile number `task` of the lower triangle, column by column: every tile comes after all it depends on in a
// factorisation.
std::vector<TileIndex> columns_first(std::int64_t tiles) {
  std::vector<TileIndex> order;
  order.reserve(static_cast<std::size_t>(tiles * (tiles + 1) / 2));
  for (std::int64_t j = 0; j < tiles; ++j)
    for (std::int64_t i = j; i < tiles; ++i) order.push_back({i, j});
  return order;
}

// What one task of a factorisation makes: tiles [first, last) of column j, all in one panel.
struct ColumnPiece {
  std::int64_t first, last, j;
  bool diagonal() const { return first == j; }
};

// Column by column: the tiles of the panel on the diagonal one by one, since the next columns wait for them, then whole
// panels, whose taller products pack the column's own rows less often.
std::vector<ColumnPiece> pieces_of(std::int64_t tiles, std::int64_t per_panel) {
  std::vector<ColumnPiece> order;
  for (std::int64_t j = 0; j < tiles; ++j) {
    const std::int64_t below = std::min((j / per_panel + 1) * per_panel, tiles);
    for (std::int64_t i = j; i < below; ++i) order.push_back({i, i + 1, j});
    for (std::int64_t i = below; i < tiles; i += per_panel) order.push_back({i, std::min(i + per_panel, tiles), j});
  }
  return order;
}

// What one task of a Gram update makes: squares [first, last) of panel p.
struct PanelRun {
  std::int64_t p, first, last;
  bool diagonal() const { return first == p; }
};

// Squares of one run: a wider product packs its operands less often, up to about 2048 columns, but half a panel
// leaves every thread something.
std::int64_t run_length(std::int64_t panels, std::int64_t edge) {
  return std::max<std::int64_t>(2, std::min(panels / 2, 2048 / std::max<std::int64_t>(edge, 1)));
}

// Runs of squares, then those on the diagonal, which are the smallest pieces and even out the end.
std::vector<PanelRun> runs_of(std::int64_t panels, std::int64_t edge) {
  const std::int64_t length = run_length(panels, edge);
  std::vector<PanelRun> runs;
  for (std::int64_t p = 0; p < panels; ++p)
    for (std::int64_t j = 0; j < p; j += length) runs.push_back({p, j, std::min(j + length, p)});
  for (std::int64_t p = 0; p < panels; ++p) runs.push_back({p, p, p + 1});
  return runs;
}

std::int64_t longest_of(const std::vector<PanelRun>& runs) {
  std::int64_t longest = 1;
  for (const PanelRun& run : runs) longest = std::max(longest, run.last - run.first);
  return longest;
}

// dst += alpha X_i'X_run over `rows`, in double; float products go through a scratch tile 2048 rows at a time.
template <class P>
class RunProduct {
 public:
  RunProduct(const Exec& exec, std::int64_t edge, std::int64_t run_elements)
      : exec_(exec), edge_(edge), scratch_(exec_, sizeof(P) == sizeof(float) ? run_elements : 0) {}

  void reserve(std::int64_t tasks) {
    if (sizeof(P) == sizeof(float)) scratch_.reserve(tasks);
  }

  void operator()(const Exec& exec, double alpha, MatrixView<const P> x, Range rows, PanelRun run,
                  MatrixView<double> dst) {
    const std::int64_t left = run.p * edge_, right = run.first * edge_;
    const auto product = [&](Range part, double beta, MatrixView<P> out) {
      const auto xi = x.block(part.begin, left, part.size(), dst.rows);
      if (run.diagonal()) {
        gram_block<P>(exec, Trans::yes, alpha, xi, beta, out);
      } else {
        const auto xj = x.block(part.begin, right, part.size(), dst.cols);
        multiply_block<P>(exec, Trans::yes, Trans::no, alpha, xi, xj, beta, out);
      }
    };
    if constexpr (sizeof(P) == sizeof(double)) {
      product(rows, 1.0, dst);
    } else {
      const auto lease = scratch_.lease();
      const MatrixView<float> tile(lease.data(), dst.rows, dst.cols);
      if (run.diagonal()) zero(exec, tile);  // gram leaves the upper triangle alone
      for (std::int64_t begin = rows.begin; begin < rows.end; begin += kFloatRows) {
        product({begin, std::min(begin + kFloatRows, rows.end)}, 0.0, tile);
        add_block<float, double>(exec, 1.0, tile, 1.0, dst);
      }
    }
  }

 private:
  const Exec exec_;
  std::int64_t edge_;
  ScratchPool<float> scratch_;
};

std::int64_t index_of(std::int64_t i, std::int64_t j) {
  return i * (i + 1) / 2 + j;
}

// Where panel p begins: after rows of (1 .. p) edges and their padding.
std::int64_t panel_offset(std::int64_t p, std::int64_t edge, std::int64_t pad) {
  return edge * (edge * p * (p + 1) / 2 + pad * p);
}

}  // namespace

template <class T>
SymmetricMatrix<T>::SymmetricMatrix(const Exec& exec, std::int64_t n) : n_(n) {
  if (n == 0) return;
  edge_ = edge_for(exec, n);
  // The square above the diagonal of a panel is memory that nobody reads: too much of it in small matrices.
  tiles_per_panel_ = n >= 3 * exec.table().tile && 2 * edge_ <= exec.table().tile ? 2 : 1;
  // Off powers of two, so that the rows of a tile do not compete for the same cache sets.
  pad_ = exec.table().tile != 0 && edge_ >= 128 ? 8 : 0;
  const std::int64_t above = (panels() - 1) * panel_edge(), last = panel_offset(panels() - 1, panel_edge(), pad_);
  data_ = Buffer(exec, static_cast<std::size_t>(last + (n - above) * (above + panel_edge() + pad_)) * sizeof(T));
  set_zero(exec);
}

template <class T>
MatrixView<T> SymmetricMatrix<T>::tiles_of_row(std::int64_t i, std::int64_t first, std::int64_t last) const {
  return tiles_of_rows(i, i + 1, first, last);
}

template <class T>
MatrixView<T> SymmetricMatrix<T>::tiles_of_rows(std::int64_t first_row, std::int64_t last_row, std::int64_t first,
                                                std::int64_t last) const {
  const std::int64_t p = first_row / tiles_per_panel_, row = first_row * edge_, column = first * edge_;
  return panel(p, 0, p + 1)
      .block(row - p * panel_edge(), column, std::min(last_row * edge_, n_) - row, std::min(last * edge_, n_) - column);
}

template <class T>
MatrixView<T> SymmetricMatrix<T>::panel(std::int64_t p, std::int64_t first, std::int64_t last) const {
  const std::int64_t edge = panel_edge(), end = std::min(last * edge, n_);
  return {static_cast<T*>(data_.data()) + panel_offset(p, edge, pad_) + first * edge, part_of(n_, edge, p).size(),
          end - first * edge, (p + 1) * edge + pad_};
}

template <class T>
void SymmetricMatrix<T>::set_zero(const Exec& exec) {
  // Whole panels: a Gram update also adds to what lies above the diagonal, which nobody reads.
  const auto order = columns_first(panels());
  exec.parallel_for(static_cast<std::int64_t>(order.size()), [&](std::int64_t task) {
    const TileIndex at = order[static_cast<std::size_t>(task)];
    zero(exec, panel(at.i, at.j, at.j + 1));
  });
}

template <class T>
template <class S>
void SymmetricMatrix<T>::axpby(const Exec& exec, double alpha, const SymmetricMatrix<S>& other, double beta) {
  GRAMIAN_REQUIRE(other.size() == n_ && other.tile_edge() == edge_, shape_mismatch,
                  "SymmetricMatrix::axpby: the sizes differ");
  const auto order = columns_first(tiles());
  exec.parallel_for(static_cast<std::int64_t>(order.size()), [&](std::int64_t task) {
    const TileIndex at = order[static_cast<std::size_t>(task)];
    add_block<S, T>(exec, alpha, other.tile(at.i, at.j), beta, tile(at.i, at.j));
  });
}

template <class T>
void SymmetricMatrix<T>::add_outer(const Exec& exec, double alpha, const T* x, const T* y) {
  const auto order = columns_first(tiles());
  exec.parallel_for(static_cast<std::int64_t>(order.size()), [&](std::int64_t task) {
    const TileIndex at = order[static_cast<std::size_t>(task)];
    const MatrixView<T> c = tile(at.i, at.j);
    const std::int64_t row = at.i * edge_, col = at.j * edge_;
    multiply_block<T>(exec, Trans::no, Trans::no, alpha, {x + row, c.rows, 1}, {y + col, 1, c.cols}, 1.0, c);
    if (x != y) {
      multiply_block<T>(exec, Trans::no, Trans::no, alpha, {y + row, c.rows, 1}, {x + col, 1, c.cols}, 1.0, c);
    }
  });
}

template <class T>
void SymmetricMatrix<T>::add_diagonal(const Exec& exec, double value) {
  for (std::int64_t i = 0; i < tiles(); ++i) {
    const MatrixView<T> t = tile(i, i);
    GRAMIAN_CALL(exec, add_diagonal, code_of<T>(), t.rows, value, static_cast<void*>(t.data), t.stride);
  }
}

template <class T>
void SymmetricMatrix<T>::scale(const Exec& exec, const std::vector<double>& v) {
  const std::vector<T> rounded(v.begin(), v.end());
  Array<T> factors(exec, n_);
  upload<T>(exec, {rounded.data(), 1, n_}, factors.view());
  const auto order = columns_first(tiles());
  exec.parallel_for(static_cast<std::int64_t>(order.size()), [&](std::int64_t task) {
    const TileIndex at = order[static_cast<std::size_t>(task)];
    const MatrixView<T> t = tile(at.i, at.j);
    GRAMIAN_CALL(exec, scale_rows, code_of<T>(), t.rows, t.cols,
                 static_cast<const void*>(factors.data() + at.i * edge_), static_cast<void*>(t.data), t.stride);
    GRAMIAN_CALL(exec, scale_columns, code_of<T>(), t.rows, t.cols,
                 static_cast<const void*>(factors.data() + at.j * edge_), static_cast<void*>(t.data), t.stride);
  });
}

template <class T>
void SymmetricMatrix<T>::pack(const Exec& exec, T* out) const {
  std::vector<T> staging(static_cast<std::size_t>(edge_ * edge_));
  for (const TileIndex at : columns_first(tiles())) {
    const MatrixView<T> t = tile(at.i, at.j);
    download<T>(exec, t, MatrixView<T>(staging.data(), t.rows, t.cols));
    for (std::int64_t r = 0; r < t.rows; ++r) {
      const std::int64_t row = at.i * edge_ + r;
      const std::int64_t count = at.i == at.j ? r + 1 : t.cols;
      std::copy_n(staging.data() + r * t.cols, count, out + row * (row + 1) / 2 + at.j * edge_);
    }
  }
}

template <class T>
void SymmetricMatrix<T>::unpack(const Exec& exec, const T* packed) {
  std::vector<T> staging(static_cast<std::size_t>(edge_ * edge_));
  for (const TileIndex at : columns_first(tiles())) {
    const MatrixView<T> t = tile(at.i, at.j);
    std::fill(staging.begin(), staging.end(), T(0));
    for (std::int64_t r = 0; r < t.rows; ++r) {
      const std::int64_t row = at.i * edge_ + r;
      const std::int64_t count = at.i == at.j ? r + 1 : t.cols;
      std::copy_n(packed + row * (row + 1) / 2 + at.j * edge_, count, staging.data() + r * t.cols);
    }
    upload<T>(exec, MatrixView<const T>(staging.data(), t.rows, t.cols), t);
  }
}

template <class T>
void SymmetricMatrix<T>::diagonal(const Exec& exec, T* out) const {
  for (std::int64_t i = 0; i < tiles(); ++i) {
    const MatrixView<T> t = tile(i, i);
    // A column of single elements, one row and one column apart.
    download<T>(exec, MatrixView<const T>(t.data, t.rows, 1, t.stride + 1), MatrixView<T>(out + i * edge_, t.rows, 1));
  }
}

template <class P>
struct GramUpdater<P>::Impl {
  Impl(const Exec& exec, const SymmetricMatrix<double>& g, std::int64_t rows)
      : runs(runs_of(g.panels(), g.panel_edge())),
        run_elements(longest_of(runs) * g.panel_edge() * g.panel_edge()),
        product(exec, g.panel_edge(), run_elements) {
    const auto n_runs = static_cast<std::int64_t>(runs.size());
    const std::int64_t most = groups_of(exec, rows);
    if (most > 1) partial = Array<double>(exec, n_runs * most, run_elements);
    product.reserve(std::min<std::int64_t>(exec.threads(), n_runs * most));
  }

  // Few tasks: the rows are cut as well, into groups that the shape alone decides, and their sums are added in order.
  std::int64_t group_rows(const Exec& exec, std::int64_t rows) const {
    const auto n_runs = static_cast<std::int64_t>(runs.size());
    const std::int64_t groups = n_runs >= 6 || exec.table().tile == 0 ? 1 : ceil_div(8, n_runs);
    return std::max<std::int64_t>(512, ceil_div(rows, groups));
  }
  std::int64_t groups_of(const Exec& exec, std::int64_t rows) const {
    return std::max<std::int64_t>(1, ceil_div(rows, group_rows(exec, rows)));
  }

  std::vector<PanelRun> runs;
  std::int64_t run_elements;  // of the longest run
  RunProduct<P> product;
  Array<double> partial;
};

template <class P>
GramUpdater<P>::GramUpdater(const Exec& exec, const SymmetricMatrix<double>& g, std::int64_t rows)
    : impl_(std::make_unique<Impl>(exec, g, rows)) {}
template <class P>
GramUpdater<P>::~GramUpdater() = default;

template <class P>
void GramUpdater<P>::update(const Exec& exec, double alpha, MatrixView<const P> x, SymmetricMatrix<double>& g) {
  GRAMIAN_REQUIRE(x.cols == g.size(), shape_mismatch, "gram_update: X and G differ in width");
  if (x.empty()) return;
  const std::vector<PanelRun>& runs = impl_->runs;
  RunProduct<P>& product = impl_->product;
  const auto n_runs = static_cast<std::int64_t>(runs.size());
  const auto run_at = [&](std::int64_t k) { return runs[static_cast<std::size_t>(k)]; };
  const auto target = [&](std::int64_t k) { return g.panel(run_at(k).p, run_at(k).first, run_at(k).last); };
  const std::int64_t group_rows = impl_->group_rows(exec, x.rows);
  const std::int64_t groups = impl_->groups_of(exec, x.rows);
  if (groups == 1) {
    exec.parallel_for(n_runs, [&](std::int64_t k) { product(exec, alpha, x, {0, x.rows}, run_at(k), target(k)); });
    return;
  }
  const auto partial_sum = [&](std::int64_t task) {
    const MatrixView<double> shape = target(task / groups);
    return MatrixView<double>(impl_->partial.view().row(task), shape.rows, shape.cols);
  };
  exec.parallel_for(n_runs * groups, [&](std::int64_t task) {
    zero(exec, partial_sum(task));
    product(exec, alpha, x, part_of(x.rows, group_rows, task % groups), run_at(task / groups), partial_sum(task));
  });
  exec.parallel_for(n_runs, [&](std::int64_t k) {
    for (std::int64_t group = 0; group < groups; ++group)
      add_block<double, double>(exec, 1.0, partial_sum(k * groups + group), 1.0, target(k));
  });
}

template <class P>
void gram_update(const Exec& exec, double alpha, MatrixView<const P> x, SymmetricMatrix<double>& g) {
  GramUpdater<P>(exec, g, x.rows).update(exec, alpha, x, g);
}

void outer_gram_update(const Exec& exec, double alpha, MatrixView<const double> x, SymmetricMatrix<double>& k) {
  GRAMIAN_REQUIRE(x.rows == k.size(), shape_mismatch, "outer_gram_update: X and K differ in size");
  const auto order = columns_first(k.tiles());
  exec.parallel_for(static_cast<std::int64_t>(order.size()), [&](std::int64_t task) {
    const TileIndex at = order[static_cast<std::size_t>(task)];
    const Range ri = part_of(x.rows, k.tile_edge(), at.i), rj = part_of(x.rows, k.tile_edge(), at.j);
    const auto xi = x.block(ri.begin, 0, ri.size(), x.cols);
    if (at.i == at.j) {
      gram_block<double>(exec, Trans::no, alpha, xi, 1.0, k.tile(at.i, at.j));
    } else {
      multiply_block<double>(exec, Trans::no, Trans::yes, alpha, xi, x.block(rj.begin, 0, rj.size(), x.cols), 1.0,
                             k.tile(at.i, at.j));
    }
  });
}

void symmetric_multiply(const Exec& exec, double alpha, const SymmetricMatrix<double>& a, MatrixView<const double> w,
                        double beta, MatrixView<double> out) {
  GRAMIAN_REQUIRE(w.rows == a.size() && out.rows == a.size() && w.cols == out.cols, shape_mismatch,
                  "symmetric_multiply: the shapes do not fit");
  if (out.empty()) return;
  const std::int64_t edge = a.tile_edge();
  const std::int64_t width = exec.table().tile == 0 ? out.cols : 64;
  const std::int64_t column_parts = ceil_div(out.cols, width);
  ScratchPool<double> scratch(exec, edge * edge);
  exec.parallel_for(a.tiles() * column_parts, [&](std::int64_t task) {
    const std::int64_t i = task / column_parts;
    const Range rows = part_of(a.size(), edge, i), cols = part_of(out.cols, width, task % column_parts);
    const MatrixView<double> target = out.block(rows.begin, cols.begin, rows.size(), cols.size());
    const auto lease = scratch.lease();
    const MatrixView<double> diagonal(lease.data(), rows.size(), rows.size());
    add_block<double, double>(exec, 1.0, a.tile(i, i), 0.0, diagonal);
    GRAMIAN_CALL(exec, symmetrize, code_of<double>(), diagonal.rows, static_cast<void*>(diagonal.data),
                 diagonal.stride);
    const auto part = [&](std::int64_t first, std::int64_t last) {
      const std::int64_t end = std::min(last * edge, a.size());
      return w.block(first * edge, cols.begin, end - first * edge, cols.size());
    };
    multiply_block<double>(exec, Trans::no, Trans::no, alpha, diagonal, part(i, i + 1), beta, target);
    if (i > 0)
      multiply_block<double>(exec, Trans::no, Trans::no, alpha, a.tiles_of_row(i, 0, i), part(0, i), 1.0, target);
    for (std::int64_t j = i + 1; j < a.tiles(); ++j)
      multiply_block<double>(exec, Trans::yes, Trans::no, alpha, a.tile(j, i), part(j, j + 1), 1.0, target);
  });
}

template <class T>
std::int64_t cholesky(const Exec& exec, SymmetricMatrix<T>& a) {
  // Left-looking: one task makes one finished piece of a column of tiles, from tiles that come earlier in the order.
  // Threads take tasks in order and wait for what they need, so nothing but the data limits how far they run ahead of
  // each other.
  const auto order = pieces_of(a.tiles(), a.panel_edge() / std::max<std::int64_t>(a.tile_edge(), 1));
  TileFlags flags(static_cast<std::size_t>(a.tiles() * (a.tiles() + 1) / 2));
  std::atomic<std::int64_t> pivot{0};
  const auto make_piece = [&](ColumnPiece at) {
    const MatrixView<T> c = a.tiles_of_rows(at.first, at.last, at.j, at.j + 1);
    // The last tiles of the block rows are the ones most likely to be still in work, so they come alone.
    for (const Range part : {Range{0, at.j - 1}, Range{std::max<std::int64_t>(0, at.j - 1), at.j}}) {
      if (part.size() <= 0) continue;
      for (std::int64_t k = part.begin; k < part.end; ++k) {
        if (!flags.wait(index_of(at.j, k))) return;
        for (std::int64_t i = at.first; i < at.last; ++i)
          if (!flags.wait(index_of(i, k))) return;
      }
      const MatrixView<const T> left = a.tiles_of_rows(at.first, at.last, part.begin, part.end);
      if (at.diagonal()) {
        gram_block<T>(exec, Trans::no, -1.0, left, 1.0, c);
      } else {
        multiply_block<T>(exec, Trans::no, Trans::yes, -1.0, left, a.tiles_of_row(at.j, part.begin, part.end), 1.0, c);
      }
    }
    if (at.diagonal()) {
      const int bad = GRAMIAN_CALL(exec, potrf, code_of<T>(), c.rows, static_cast<void*>(c.data), c.stride);
      if (bad > 0) {
        pivot.store(at.j * a.tile_edge() + bad);
        flags.fail();
        return;
      }
    } else {
      if (!flags.wait(index_of(at.j, at.j))) return;
      triangular_block<T>(exec, GRAMIAN_RIGHT, Trans::yes, a.tile(at.j, at.j), c);
    }
    for (std::int64_t i = at.first; i < at.last; ++i) flags.set(index_of(i, at.j));
  };
  exec.parallel_for(static_cast<std::int64_t>(order.size()), [&](std::int64_t task) {
    if (flags.failed()) return;
    try {
      make_piece(order[static_cast<std::size_t>(task)]);
    } catch (...) {
      flags.fail();
      throw;
    }
  });
  return pivot.load();
}

namespace {

// b = L^-1 b or L^-T b on one strip of columns, tile by tile. Rows above `first` are known to be zero (forward only).
template <class T>
void solve_strip(const Exec& exec, Trans trans, const SymmetricMatrix<T>& l, MatrixView<T> b, std::int64_t first) {
  const std::int64_t edge = l.tile_edge(), tiles = l.tiles();
  const auto strip = [&](std::int64_t i) {
    const Range rows = part_of(l.size(), edge, i);
    return b.block(rows.begin, 0, rows.size(), b.cols);
  };
  for (std::int64_t step = first; step < tiles; ++step) {
    exec.poll();
    const std::int64_t i = trans == Trans::no ? step : tiles - 1 - (step - first);
    if (trans == Trans::no) {
      if (i > first)
        multiply_block<T>(exec, Trans::no, Trans::no, -1.0, l.tiles_of_row(i, first, i),
                          b.block(first * edge, 0, (i - first) * edge, b.cols), 1.0, strip(i));
    } else {
      for (std::int64_t j = i + 1; j < tiles; ++j)
        multiply_block<T>(exec, Trans::yes, Trans::no, -1.0, l.tile(j, i), strip(j), 1.0, strip(i));
    }
    triangular_block<T>(exec, GRAMIAN_LEFT, trans, l.tile(i, i), strip(i));
  }
}

// One strip of columns by all threads: groups of rows of L in order, each waiting for those that it needs. Every row of
// L is read along itself, and once. The order of the sums is that of the groups, whatever the threads.
template <class T>
class StripSolve {
 public:
  StripSolve(const Exec& exec, const SymmetricMatrix<T>& l, MatrixView<T> b) : exec_(exec), l_(l), b_(b) {
    for (std::int64_t i = 0; i < l.tiles(); ++i) {
      const Range tile = part_of(l.size(), l.tile_edge(), i);
      for (std::int64_t begin = tile.begin; begin < tile.end; begin += kGroupRows)
        groups_.push_back({{begin, std::min(begin + kGroupRows, tile.end)}, i});
    }
  }

  void run(Trans trans) {
    const auto count = static_cast<std::int64_t>(groups_.size());
    TileFlags flags(groups_.size());
    exec_.parallel_for(count, [&](std::int64_t task) {
      if (flags.failed()) return;
      const std::int64_t g = trans == Trans::no ? task : count - 1 - task;
      try {
        if (trans == Trans::no ? forward(g, flags) : backward(g, count, flags)) flags.set(g);
      } catch (...) {
        flags.fail();
        throw;
      }
    });
  }

 private:
  struct Group {
    Range rows;
    std::int64_t block_row;
  };

  const Group& at(std::int64_t g) const { return groups_[static_cast<std::size_t>(g)]; }

  MatrixView<T> entries(Range rows, std::int64_t block_row, Range columns) const {
    return l_.tiles_of_row(block_row, 0, block_row + 1)
        .block(rows.begin - block_row * l_.tile_edge(), columns.begin, rows.size(), columns.size());
  }
  MatrixView<T> solved(Range rows) const { return b_.block(rows.begin, 0, rows.size(), b_.cols); }

  void subtract(Trans trans, MatrixView<const T> l, Range from, Range to) const {
    multiply_block<T>(exec_, trans, Trans::no, -1.0, l, solved(from), 1.0, solved(to));
  }

  bool forward(std::int64_t g, const TileFlags& flags) const {
    const Group& own = at(g);
    const std::int64_t late = std::max<std::int64_t>(0, g - kGroupLag);
    for (std::int64_t k = 0; k < late; ++k)
      if (!flags.wait(k)) return false;
    const Range early{0, at(late).rows.begin};
    if (early.size() > 0) subtract(Trans::no, entries(own.rows, own.block_row, early), early, own.rows);
    for (std::int64_t k = late; k < g; ++k) {
      if (!flags.wait(k)) return false;
      subtract(Trans::no, entries(own.rows, own.block_row, at(k).rows), at(k).rows, own.rows);
    }
    for (std::int64_t begin = own.rows.begin; begin < own.rows.end; begin += kBlockRows) {
      const Range block{begin, std::min(begin + kBlockRows, own.rows.end)}, before{own.rows.begin, begin};
      if (before.size() > 0) subtract(Trans::no, entries(block, own.block_row, before), before, block);
      triangular_block<T>(exec_, GRAMIAN_LEFT, Trans::no, entries(block, own.block_row, block), solved(block));
    }
    return true;
  }

  bool backward(std::int64_t g, std::int64_t count, const TileFlags& flags) const {
    const Group& own = at(g);
    for (std::int64_t k = count - 1; k > g; --k) {
      if (!flags.wait(k)) return false;
      subtract(Trans::yes, entries(at(k).rows, at(k).block_row, own.rows), at(k).rows, own.rows);
    }
    for (std::int64_t end = own.rows.end; end > own.rows.begin;) {
      const Range block{own.rows.begin + (end - own.rows.begin - 1) / kBlockRows * kBlockRows, end};
      const Range before{own.rows.begin, block.begin};
      triangular_block<T>(exec_, GRAMIAN_LEFT, Trans::yes, entries(block, own.block_row, block), solved(block));
      if (before.size() > 0) subtract(Trans::yes, entries(block, own.block_row, before), block, before);
      end = block.begin;
    }
    return true;
  }

  const Exec& exec_;
  const SymmetricMatrix<T>& l_;
  MatrixView<T> b_;
  std::vector<Group> groups_;
};

}  // namespace

template <class T>
void cholesky_solve_half(const Exec& exec, Trans trans, const SymmetricMatrix<T>& l, MatrixView<T> b) {
  GRAMIAN_REQUIRE(b.rows == l.size(), shape_mismatch, "cholesky_solve_half: L and B differ in size");
  if (b.empty()) return;
  if (exec.table().tile != 0 && b.cols <= kStrip) return StripSolve<T>(exec, l, b).run(trans);
  const std::int64_t width = exec.table().tile == 0 ? b.cols : kStrip;
  exec.parallel_for(ceil_div(b.cols, width), [&](std::int64_t task) {
    const Range cols = part_of(b.cols, width, task);
    solve_strip<T>(exec, trans, l, b.block(0, cols.begin, b.rows, cols.size()), 0);
  });
}

template <class T>
void cholesky_solve_rows(const Exec& exec, const SymmetricMatrix<T>& l, MatrixView<T> x) {
  GRAMIAN_REQUIRE(x.cols == l.size(), shape_mismatch, "cholesky_solve_rows: L and X differ in size");
  if (x.empty()) return;
  // Blocks of rows are independent; each walks the columns from left to right.
  const std::int64_t height = exec.table().tile == 0 ? x.rows : kSolveRows;
  const std::int64_t edge = l.tile_edge();
  exec.parallel_for(ceil_div(x.rows, height), [&](std::int64_t task) {
    const Range rows = part_of(x.rows, height, task);
    for (std::int64_t j = 0; j < l.tiles(); ++j) {
      exec.poll();
      const Range cols = part_of(l.size(), edge, j);
      const MatrixView<T> strip = x.block(rows.begin, cols.begin, rows.size(), cols.size());
      if (j > 0) {
        multiply_block<T>(exec, Trans::no, Trans::yes, -1.0, x.block(rows.begin, 0, rows.size(), cols.begin),
                          l.tiles_of_row(j, 0, j), 1.0, strip);
      }
      triangular_block<T>(exec, GRAMIAN_RIGHT, Trans::yes, l.tile(j, j), strip);
    }
  });
}

template <class T>
double inverse_trace(const Exec& exec, const SymmetricMatrix<T>& l) {
  if (l.size() == 0) return 0;
  ScratchPool<T> scratch(exec, l.size() * l.tile_edge());
  ScratchPool<double> row_sums(exec, l.size());
  std::vector<double> parts(static_cast<std::size_t>(l.tiles()), 0.0);
  exec.parallel_for(l.tiles(), [&](std::int64_t j) {
    const Range cols = part_of(l.size(), l.tile_edge(), j);
    const auto lease = scratch.lease();
    const MatrixView<T> z(lease.data(), l.size(), cols.size());
    const MatrixView<T> used = z.block(cols.begin, 0, l.size() - cols.begin, cols.size());
    zero(exec, used);
    GRAMIAN_CALL(exec, add_diagonal, code_of<T>(), cols.size(), 1.0, static_cast<void*>(used.data), used.stride);
    solve_strip<T>(exec, Trans::no, l, z, j);
    const auto sums = row_sums.lease();
    GRAMIAN_CALL(exec, row_sumsq, code_of<T>(), used.rows, used.cols, static_cast<const void*>(used.data), used.stride,
                 sums.data());
    std::vector<double> host(static_cast<std::size_t>(used.rows));
    download<double>(exec, {sums.data(), 1, used.rows}, {host.data(), 1, used.rows});
    double total = 0;
    for (const double value : host) total += value;
    parts[static_cast<std::size_t>(j)] = total;
  });
  double total = 0;
  for (const double part : parts) total += part;
  return total;
}

void symmetric_eigen(const Exec& exec, const SymmetricMatrix<double>& a, std::vector<double>& w, Array<double>& v) {
  const std::int64_t n = a.size();
  // Everything that the decomposition touches: a cancelled caller leaves it behind, and no hook may stay with it.
  struct Work {
    Work(const Exec& exec_, std::int64_t size) : exec(exec_), matrix(exec_, size, size), values(exec_, size) {}
    const Exec exec;
    Array<double> matrix, values;
  };
  const auto work = std::make_shared<Work>(exec.uninterrupted(), n);
  w.assign(static_cast<std::size_t>(n), 0.0);
  if (n > 0) {
    for (const TileIndex at : columns_first(a.tiles())) {
      const MatrixView<double> t = a.tile(at.i, at.j);
      add_block<double, double>(exec, 1.0, t, 0.0,
                                work->matrix.view().block(at.i * a.tile_edge(), at.j * a.tile_edge(), t.rows, t.cols));
    }
    const auto decompose = [work, n] {
      const int status = GRAMIAN_CALL(work->exec, syevd, code_of<double>(), n, static_cast<void*>(work->matrix.data()),
                                      n, static_cast<void*>(work->values.data()));
      GRAMIAN_REQUIRE(status == 0, no_convergence, "the eigen-decomposition did not converge");
    };
    if (n >= kLongEigen && exec.table().memory == GRAMIAN_HOST_MEMORY) {
      run_abandonable(exec, decompose);
    } else {
      decompose();
    }
    download<double>(exec, work->values.view(), {w.data(), 1, n});
  }
  v = std::move(work->matrix);
}

template class GramUpdater<float>;
template class GramUpdater<double>;
template class SymmetricMatrix<float>;
template class SymmetricMatrix<double>;
#define GRAMIAN_INSTANTIATE(T)                                                                                        \
  template GRAMIAN_EXPORT void SymmetricMatrix<T>::axpby<float>(const Exec&, double, const SymmetricMatrix<float>&,   \
                                                                double);                                              \
  template GRAMIAN_EXPORT void SymmetricMatrix<T>::axpby<double>(const Exec&, double, const SymmetricMatrix<double>&, \
                                                                 double);                                             \
  template GRAMIAN_EXPORT void gram_update<T>(const Exec&, double, MatrixView<const T>, SymmetricMatrix<double>&);    \
  template GRAMIAN_EXPORT std::int64_t cholesky<T>(const Exec&, SymmetricMatrix<T>&);                                 \
  template GRAMIAN_EXPORT void cholesky_solve_half<T>(const Exec&, Trans, const SymmetricMatrix<T>&, MatrixView<T>);  \
  template GRAMIAN_EXPORT void cholesky_solve_rows<T>(const Exec&, const SymmetricMatrix<T>&, MatrixView<T>);         \
  template GRAMIAN_EXPORT double inverse_trace<T>(const Exec&, const SymmetricMatrix<T>&);
GRAMIAN_INSTANTIATE(float)
GRAMIAN_INSTANTIATE(double)
#undef GRAMIAN_INSTANTIATE

}  // namespace gramian
