// One sweep over L changes it by b rows. The columns are cut into narrow panels. For the diagonal block D of a panel
// and the columns X of the rows, an orthogonal transformation Q with Q [D'; X] = [new D'; 0] is found, and every row of
// L below sees it: (l, x) -> (new l, new x), where l are the panel's columns of that row and x (b values) is what the
// row has left of X. A row of L is therefore read and written once, and no two rows depend on each other but through
// the small transformations; tasks take runs of rows in order and wait for the transformation they need next.
//
// The transformation has two forms. Up to kRotationRows rows it is a sequence of Givens rotations: 6 flops an element
// and row, a sweep that runs near the speed of memory; for one row in host memory it has a class of its own
// (OneRowSweep), whose panels are a few columns and are applied many at a time. Otherwise it is a product of
// Householder reflectors I - V T V', V = [I; V2], applied by matrix products, on every table. Both are found in plain
// loops on the host, where the diagonal blocks are small (a panel's square, b rows), and both are orthogonal to
// rounding by construction. To form I + P P' with P = D^-1 X' and to factor that needs entries of the table alone, but
// squares the size of P, which is |x| / sqrt(ridge) for the first rows of a stream, and with it the loss of
// orthogonality; so it is not done.
//
// Taking rows out: the transformation that would bring them back is found from the new D, and its relation between the
// old and the new row of L is solved for the new one (Chambers' form of the hyperbolic rotation). That is stable where
// hyperbolic rotations applied outright are not, and the solve is with a triangle whose diagonal is the cosines.
#include "gramian/linalg/update.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "linalg/blocks.h"
#include "linalg/call.h"
#include "linalg/flags.h"
#include "linalg/scratch.h"

namespace gramian {

using namespace linalg;

namespace {

constexpr std::int64_t kMostRows = 256;      // rows of X in one sweep
constexpr std::int64_t kRotationRows = 6;    // rows up to which rotations beat products of matrices
constexpr std::int64_t kPanel = 32;          // columns of a panel on a CPU
constexpr std::int64_t kNarrowPanel = 16;    // the same for reflectors of no more rows than that: work grows with both
constexpr std::int64_t kDevicePanel = 64;    // the same where each operation is a launch
constexpr std::int64_t kChunk = 4 * kPanel;  // rows of a task
constexpr std::int64_t kRotationChunk = 64;  // the same of a OneRowSweep: little stays for one thread at its end
constexpr std::int64_t kRotationBlock = 8;   // rows of it whose rotations are found together

struct Panel {
  std::int64_t begin, size;
};

// Panels [first, last) with the same rows of L: one task. They lie in one block row.
struct Chunk {
  std::int64_t first, last;
  std::int64_t begin, end;  // rows
  std::int64_t block_row;
};

// Rows [begin, end) of L, which lie in block row i; columns up to the end of its diagonal tile.
MatrixView<double> rows_of(const SymmetricMatrix<double>& l, std::int64_t i, std::int64_t begin, std::int64_t end) {
  const MatrixView<double> all = l.tiles_of_row(i, 0, i + 1);
  return all.block(begin - i * l.tile_edge(), 0, end - begin, all.cols);
}

void copy_to_host(const Exec& exec, MatrixView<const double> from, std::vector<double>& to) {
  to.resize(static_cast<std::size_t>(from.rows * from.cols));
  download<double>(exec, from, {to.data(), from.rows, from.cols});
}

Array<double> copy_of_host(const Exec& exec, const std::vector<double>& from, std::int64_t rows, std::int64_t cols) {
  Array<double> out(exec, rows, cols);
  upload<double>(exec, {from.data(), rows, cols}, out.view());
  return out;
}

// The transposed square.
void transpose(std::vector<double>& a, std::int64_t n) {
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t c = 0; c < r; ++c)
      std::swap(a[static_cast<std::size_t>(r * n + c)], a[static_cast<std::size_t>(c * n + r)]);
}

// Rotations that take the rows of x (b x m) into (Sign > 0) or out of (Sign < 0) the triangle r (m x m, upper): cosine
// and sine of row p at column j in place p * m + j. r becomes the new triangle. False where a row takes more out than
// there is.
template <int Sign>
bool rotate_triangle(std::int64_t m, std::int64_t b, double* r, double* x, double* cosine, double* sine) {
  for (std::int64_t p = 0; p < b; ++p) {
    double* row = x + p * m;
    for (std::int64_t j = 0; j < m; ++j) {
      double* top = r + j * m;
      const double alpha = top[j];
      double c = 1, s = 0;
      if constexpr (Sign > 0) {
        const double norm = std::hypot(alpha, row[j]);
        if (norm > 0) {
          c = alpha / norm;
          s = row[j] / norm;
        }
        top[j] = norm;
        for (std::int64_t k = j + 1; k < m; ++k) {
          const double l = top[k];
          top[k] = c * l + s * row[k];
          row[k] = c * row[k] - s * l;
        }
      } else {
        s = row[j] / alpha;
        const double left = (1 - s) * (1 + s);
        if (!(left > 0)) return false;
        c = std::sqrt(left);
        top[j] = alpha * c;
        const double inverse = 1 / c;
        for (std::int64_t k = j + 1; k < m; ++k) {
          top[k] = (top[k] - s * row[k]) * inverse;
          row[k] = c * row[k] - s * top[k];
        }
      }
      cosine[p * m + j] = c;
      sine[p * m + j] = s;
    }
  }
  return true;
}

// Reflectors that turn [r; x] (upper m x m, b x m) into [another triangle; 0]. x becomes V2, r that triangle, with a
// positive diagonal: each reflector makes its pivot negative, without cancellation, and the row is negated.
void reflect_triangle(std::int64_t m, std::int64_t b, double* r, double* x, double* t) {
  std::vector<double> w(static_cast<std::size_t>(m));
  for (std::int64_t j = 0; j < m; ++j) {
    double* top = r + j * m;
    double sum = 0;
    for (std::int64_t p = 0; p < b; ++p) sum += x[p * m + j] * x[p * m + j];
    const double alpha = top[j], norm = std::sqrt(alpha * alpha + sum);
    const double tau = norm > 0 ? 1 + alpha / norm : 2.0, scale = norm > 0 ? 1 / (alpha + norm) : 0.0;
    for (std::int64_t k = j + 1; k < m; ++k) w[static_cast<std::size_t>(k)] = top[k];
    for (std::int64_t p = 0; p < b; ++p) {
      double* row = x + p * m;
      const double v = row[j] *= scale;
      for (std::int64_t k = j + 1; k < m; ++k) w[static_cast<std::size_t>(k)] += v * row[k];
    }
    for (std::int64_t k = j + 1; k < m; ++k) w[static_cast<std::size_t>(k)] *= tau;
    for (std::int64_t k = j + 1; k < m; ++k) top[k] = w[static_cast<std::size_t>(k)] - top[k];
    for (std::int64_t p = 0; p < b; ++p) {
      double* row = x + p * m;
      const double v = row[j];
      for (std::int64_t k = j + 1; k < m; ++k) row[k] -= v * w[static_cast<std::size_t>(k)];
    }
    top[j] = norm;
    t[j * m + j] = tau;
  }
  // T of the product: T[:j, j] = -tau_j T[:j, :j] (V2'V2)[:j, j], the unit parts of V being orthogonal.
  for (std::int64_t j = 1; j < m; ++j) {
    std::fill_n(w.begin(), j, 0.0);
    for (std::int64_t p = 0; p < b; ++p) {
      const double* row = x + p * m;
      for (std::int64_t k = 0; k < j; ++k) w[static_cast<std::size_t>(k)] += row[k] * row[j];
    }
    for (std::int64_t k = 0; k < j; ++k) {
      double sum = 0;
      for (std::int64_t q = k; q < j; ++q) sum += t[k * m + q] * w[static_cast<std::size_t>(q)];
      t[k * m + j] = -t[j * m + j] * sum;
    }
  }
}

// What one panel does to the rows below it.
struct Transformation {
  Array<double> cosine, sine;  // rotations: b x m
  Array<double> v, t;          // reflectors: V2 (b x m) and T (m x m, upper)
  Array<double> vt, back;      // where rows go out: V2 T, and (T - I)' (lower)
};

// |(a, b)|: the plain root where its squares neither overflow nor lose digits.
double length_of(double a, double b) {
  constexpr double kLow = 1e-280, kHigh = 1e280;
  const double sum = a * a + b * b;
  return sum > kLow && sum < kHigh ? std::sqrt(sum) : std::hypot(a, b);
}

// One row in host memory. A task takes a run of rows of L: the rotations of the columns before it, as many at a time as
// other tasks have finished, and then, block by block of its rows, those of its own columns and the new ones. Each row
// of L is read along itself.
template <int Sign>
class OneRowSweep {
 public:
  // x: one row. solved: 1 x d or empty.
  OneRowSweep(const Exec& exec, SymmetricMatrix<double>& l, MatrixView<const double> x, MatrixView<double> solved)
      : exec_(exec), l_(l), solved_(solved) {
    const auto size = static_cast<std::size_t>(l.size());
    cosine_.resize(size);
    sine_.resize(size);
    left_.assign(x.data, x.data + l.size());
    left_.push_back(Sign);  // of the row that becomes L^-1 x as the factor does
    if (solved.rows > 0) std::fill_n(solved.data, l.size(), 0.0);
    for (std::int64_t i = 0; i < l.tiles(); ++i) {
      const Range tile = part_of(l.size(), l.tile_edge(), i);
      for (std::int64_t begin = tile.begin; begin < tile.end; begin += kRotationChunk)
        chunks_.push_back({begin, std::min(begin + kRotationChunk, tile.end), i});
    }
  }

  // False where more would be taken out than there is; L is then garbage.
  bool run() {
    const auto count = static_cast<std::int64_t>(chunks_.size());
    TileFlags flags(chunks_.size());
    exec_.parallel_for(count + solved_.rows, [&](std::int64_t task) {
      if (flags.failed()) return;
      try {
        if (task < count) {
          chunk_task(task, flags);
        } else {
          apply_chunks(count, solved_, l_.size(), flags);
        }
      } catch (...) {
        flags.fail();
        throw;
      }
    });
    return !flags.failed();
  }

 private:
  struct Rows {
    std::int64_t begin, end, block_row;
  };

  // The rotations of columns [begin, end) on rows that begin at `first`.
  void apply(MatrixView<double> rows, std::int64_t first, std::int64_t begin, std::int64_t end) {
    GRAMIAN_CALL(exec_, rotate_rows, Sign, rows.rows, end - begin, std::int64_t{1},
                 static_cast<const double*>(cosine_.data() + begin), static_cast<const double*>(sine_.data() + begin),
                 rows.data + begin, rows.stride, left_.data() + first, std::int64_t{1});
  }

  // The columns of chunks [0, last) as they get ready; false where another task has failed.
  bool apply_chunks(std::int64_t last, MatrixView<double> rows, std::int64_t first, const TileFlags& flags) {
    for (std::int64_t k = 0; k < last;) {
      if (!flags.wait(k)) return false;
      std::int64_t end = k + 1;
      while (end < last && flags.is_set(end)) ++end;
      apply(rows, first, chunks_[static_cast<std::size_t>(k)].begin, chunks_[static_cast<std::size_t>(end - 1)].end);
      k = end;
    }
    return true;
  }

  void chunk_task(std::int64_t task, TileFlags& flags) {
    const Rows& own = chunks_[static_cast<std::size_t>(task)];
    const MatrixView<double> rows = rows_of(l_, own.block_row, own.begin, own.end);
    if (!apply_chunks(task, rows, own.begin, flags)) return;
    for (std::int64_t begin = own.begin; begin < own.end; begin += kRotationBlock) {
      const std::int64_t height = std::min(kRotationBlock, own.end - begin);
      const MatrixView<double> block = rows.block(begin - own.begin, 0, height, rows.cols);
      if (begin > own.begin) apply(block, begin, own.begin, begin);
      if (!find(block.block(0, begin, height, height), begin)) {
        flags.fail();
        return;
      }
    }
    flags.set(task);
  }

  // The rotations of the columns that begin at `first`, from their diagonal block, which becomes the new one. False
  // where the row takes more out than there is.
  bool find(MatrixView<double> diagonal, std::int64_t first) {
    double *const cosine = cosine_.data() + first, *const sine = sine_.data() + first;
    for (std::int64_t r = 0; r < diagonal.rows; ++r) {
      double* const row = diagonal.row(r);
      double x = left_[static_cast<std::size_t>(first + r)];
      for (std::int64_t j = 0; j < r; ++j) {
        const double l = row[j];
        if constexpr (Sign > 0) {
          row[j] = cosine[j] * l + sine[j] * x;
          x = cosine[j] * x - sine[j] * l;
        } else {
          row[j] = (l - sine[j] * x) / cosine[j];
          x = cosine[j] * x - sine[j] * row[j];
        }
      }
      const double pivot = row[r];
      if constexpr (Sign > 0) {
        const double length = length_of(pivot, x);
        cosine[r] = length > 0 ? pivot / length : 1.0;
        sine[r] = length > 0 ? x / length : 0.0;
        row[r] = length;
      } else {
        sine[r] = x / pivot;
        const double share = (1 - sine[r]) * (1 + sine[r]);
        if (!(share > 0)) return false;
        cosine[r] = std::sqrt(share);
        row[r] = pivot * cosine[r];
      }
    }
    return true;
  }

  const Exec& exec_;
  SymmetricMatrix<double>& l_;
  MatrixView<double> solved_;
  std::vector<double> cosine_, sine_;  // of each column
  std::vector<double> left_;           // of x, for the rows of L and then for `solved`
  std::vector<Rows> chunks_;
};

template <int Sign>
class Sweep {
 public:
  // x: at most kMostRows rows. solved: b x d or empty.
  Sweep(const Exec& exec, SymmetricMatrix<double>& l, MatrixView<const double> x, MatrixView<double> solved)
      : exec_(exec),
        l_(l),
        solved_(solved),
        b_(x.rows),
        rotations_(x.rows <= kRotationRows),
        left_(exec, l.size() + solved.rows, x.rows) {
    cut();
    copy_rows(x);
  }

  // False where more would be taken out than there is; L is then garbage.
  bool run() {
    const std::int64_t height = exec_.table().tile == 0 ? solved_.rows : kChunk;
    const std::int64_t extra = solved_.rows == 0 ? 0 : ceil_div(solved_.rows, height);
    const auto count = static_cast<std::int64_t>(chunks_.size());
    std::int64_t tallest = std::min(height, solved_.rows);
    for (const Chunk& chunk : chunks_) tallest = std::max(tallest, chunk.end - chunk.begin);
    ScratchPool<double> scratch(exec_, rotations_ ? 0 : 2 * tallest * panel_edge());
    TileFlags flags(panels_.size());
    exec_.parallel_for(count + extra, [&](std::int64_t task) {
      if (flags.failed()) return;
      const auto lease = scratch.lease();
      try {
        if (task < count) {
          chunk_task(chunks_[static_cast<std::size_t>(task)], flags, lease.data());
        } else {
          solved_task(part_of(solved_.rows, height, task - count), flags, lease.data());
        }
      } catch (...) {
        flags.fail();
        throw;
      }
    });
    return !flags.failed();
  }

 private:
  std::int64_t panel_edge() const {
    if (exec_.table().tile == 0) return kDevicePanel;
    return rotations_ || b_ > kNarrowPanel ? kPanel : kNarrowPanel;
  }

  // Panels do not cross the edges of tiles. Where the table wants whole operations, one chunk is everything, and a
  // panel is applied to all rows below it in one go.
  void cut() {
    const std::int64_t chunk_rows = exec_.table().tile == 0 ? l_.size() : kChunk;
    for (std::int64_t i = 0; i < l_.tiles(); ++i) {
      const Range tile = part_of(l_.size(), l_.tile_edge(), i);
      for (std::int64_t begin = tile.begin; begin < tile.end; begin += chunk_rows) {
        Chunk chunk{static_cast<std::int64_t>(panels_.size()), 0, begin, std::min(begin + chunk_rows, tile.end), i};
        for (std::int64_t at = begin; at < chunk.end; at += panel_edge())
          panels_.push_back({at, std::min(panel_edge(), chunk.end - at)});
        chunk.last = static_cast<std::int64_t>(panels_.size());
        chunks_.push_back(chunk);
      }
    }
    transformations_.resize(panels_.size());
  }

  // left_ = X' and below it +-I: the rows that become L^-1 X' as the factor does.
  void copy_rows(MatrixView<const double> x) {
    std::vector<double> host, transposed(static_cast<std::size_t>(left_.size()), 0.0);
    copy_to_host(exec_, x, host);
    for (std::int64_t r = 0; r < b_; ++r)
      for (std::int64_t j = 0; j < l_.size(); ++j)
        transposed[static_cast<std::size_t>(j * b_ + r)] = host[static_cast<std::size_t>(r * x.cols + j)];
    for (std::int64_t r = 0; r < solved_.rows; ++r)
      transposed[static_cast<std::size_t>((l_.size() + r) * b_ + r)] = Sign;
    upload<double>(exec_, {transposed.data(), left_.rows(), b_}, left_.view());
    if (solved_.rows > 0) axpby<double, double>(exec_, 0.0, {}, 0.0, solved_);
  }

  void chunk_task(const Chunk& chunk, TileFlags& flags, double* scratch) {
    const MatrixView<double> rows = rows_of(l_, chunk.block_row, chunk.begin, chunk.end);
    const MatrixView<double> left = left_.view().block(chunk.begin, 0, rows.rows, b_);
    for (std::int64_t k = 0; k < chunk.first; ++k) {
      if (!flags.wait(k)) return;
      apply(k, rows, left, scratch);
    }
    for (std::int64_t k = chunk.first; k < chunk.last; ++k) {
      const Panel panel = panels_[static_cast<std::size_t>(k)];
      const std::int64_t above = panel.begin - chunk.begin;
      if (!find(k, rows.block(above, panel.begin, panel.size, panel.size), left.block(above, 0, panel.size, b_))) {
        flags.fail();
        return;
      }
      flags.set(k);
      const std::int64_t done = above + panel.size, below = rows.rows - done;
      if (below > 0) apply(k, rows.block(done, 0, below, rows.cols), left.block(done, 0, below, b_), scratch);
    }
  }

  void solved_task(Range part, TileFlags& flags, double* scratch) {
    const MatrixView<double> rows = solved_.block(part.begin, 0, part.size(), solved_.cols);
    const MatrixView<double> left = left_.view().block(l_.size() + part.begin, 0, part.size(), b_);
    for (std::int64_t k = 0; k < static_cast<std::int64_t>(panels_.size()); ++k) {
      if (!flags.wait(k)) return;
      apply(k, rows, left, scratch);
    }
  }

  // The transformation of panel k from its diagonal block, which becomes the new one, and from its columns of X.
  bool find(std::int64_t k, MatrixView<double> diagonal, MatrixView<const double> left) {
    const std::int64_t m = diagonal.rows;
    Transformation& out = transformations_[static_cast<std::size_t>(k)];
    std::vector<double> r, transposed, x(static_cast<std::size_t>(b_ * m));
    copy_to_host(exec_, diagonal, r);
    copy_to_host(exec_, left, transposed);
    transpose(r, m);
    for (std::int64_t j = 0; j < m; ++j)
      for (std::int64_t p = 0; p < b_; ++p)
        x[static_cast<std::size_t>(p * m + j)] = transposed[static_cast<std::size_t>(j * b_ + p)];
    if (rotations_ || Sign < 0) {
      std::vector<double> going = x, cosine(x.size()), sine(x.size());
      if (!rotate_triangle<Sign>(m, b_, r.data(), going.data(), cosine.data(), sine.data())) return false;
      if (rotations_) {
        out.cosine = copy_of_host(exec_, cosine, b_, m);
        out.sine = copy_of_host(exec_, sine, b_, m);
      }
    }
    if (!rotations_) {
      std::vector<double> t(static_cast<std::size_t>(m * m), 0.0);
      std::vector<double> again = r;  // where rows go out, the reflectors bring them back and leave L as it is
      reflect_triangle(m, b_, Sign > 0 ? r.data() : again.data(), x.data(), t.data());
      out.v = copy_of_host(exec_, x, b_, m);
      out.t = copy_of_host(exec_, t, m, m);
      if (Sign < 0) {
        out.vt = Array<double>(exec_, b_, m);
        multiply_block<double>(exec_, Trans::no, Trans::no, 1.0, out.v.view(), out.t.view(), 0.0, out.vt.view());
        for (std::int64_t j = 0; j < m; ++j) t[static_cast<std::size_t>(j * m + j)] -= 1;
        transpose(t, m);
        out.back = copy_of_host(exec_, t, m, m);
      }
    }
    transpose(r, m);
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = i + 1; j < m; ++j) r[static_cast<std::size_t>(i * m + j)] = 0;
    upload<double>(exec_, {r.data(), m, m}, diagonal);
    return true;
  }

  // rows: all columns of some rows of L; left: what they have left of X.
  void apply(std::int64_t k, MatrixView<double> rows, MatrixView<double> left, double* scratch) {
    const Panel panel = panels_[static_cast<std::size_t>(k)];
    const Transformation& by = transformations_[static_cast<std::size_t>(k)];
    const MatrixView<double> l = rows.block(0, panel.begin, rows.rows, panel.size);
    if (rotations_) {
      GRAMIAN_CALL(exec_, rotate_rows, Sign, l.rows, l.cols, b_, static_cast<const double*>(by.cosine.data()),
                   static_cast<const double*>(by.sine.data()), l.data, l.stride, left.data, left.stride);
      return;
    }
    const MatrixView<double> w(scratch, l.rows, panel.size), wt(scratch + l.rows * panel.size, l.rows, panel.size);
    if (Sign < 0) {
      // old l = new l (T - I) + x V2 T
      multiply_block<double>(exec_, Trans::no, Trans::no, -1.0, left, by.vt.view(), 1.0, l);
      triangular_block<double>(exec_, GRAMIAN_RIGHT, Trans::yes, by.back.view(), l);
    }
    add_block<double, double>(exec_, 1.0, l, 0.0, w);
    multiply_block<double>(exec_, Trans::no, Trans::no, 1.0, left, by.v.view(), 1.0, w);
    multiply_block<double>(exec_, Trans::no, Trans::no, 1.0, w, by.t.view(), 0.0, wt);
    if (Sign > 0) add_block<double, double>(exec_, 1.0, wt, -1.0, l);
    multiply_block<double>(exec_, Trans::no, Trans::yes, -1.0, wt, by.v.view(), 1.0, left);
  }

  const Exec& exec_;
  SymmetricMatrix<double>& l_;
  MatrixView<double> solved_;
  std::int64_t b_;
  bool rotations_;
  Array<double> left_;  // d rows of L, then those of `solved`: b values each
  std::vector<Panel> panels_;
  std::vector<Chunk> chunks_;
  std::vector<Transformation> transformations_;
};

void require_shapes(const SymmetricMatrix<double>& l, MatrixView<const double> x, MatrixView<const double> solved,
                    const char* name) {
  GRAMIAN_REQUIRE(x.cols == l.size(), shape_mismatch, std::string(name) + ": L and X differ in width");
  GRAMIAN_REQUIRE(solved.rows == 0 || (solved.rows == x.rows && solved.cols == x.cols), shape_mismatch,
                  std::string(name) + ": the solved rows need the shape of X");
}

// One sweep; false where more would be taken out than there is.
template <int Sign>
bool sweep(const Exec& exec, SymmetricMatrix<double>& l, MatrixView<const double> x, MatrixView<double> solved) {
  if (x.rows == 1 && exec.table().memory == GRAMIAN_HOST_MEMORY) return OneRowSweep<Sign>(exec, l, x, solved).run();
  return Sweep<Sign>(exec, l, x, solved).run();
}

// One sweep for each kMostRows rows; 0 or the 1-based row before which it failed.
template <int Sign, class Check>
std::int64_t sweep_all(const Exec& exec, SymmetricMatrix<double>& l, MatrixView<const double> x,
                       MatrixView<double> solved, const Check& check) {
  const bool together = x.rows <= kMostRows;
  for (std::int64_t begin = 0; begin < x.rows; begin += kMostRows) {
    const MatrixView<const double> part = x.block(begin, 0, std::min(kMostRows, x.rows - begin), x.cols);
    if (const std::int64_t row = check(part); row != 0) return begin + row;
    if (!sweep<Sign>(exec, l, part, together ? solved : MatrixView<double>())) return begin + 1;
  }
  if (!together && solved.rows > 0) {
    axpby<double, double>(exec, 1.0, x, 0.0, solved);
    cholesky_solve_rows<double>(exec, l, solved);
  }
  return 0;
}

// 0, or the first row of x without `least` of its share left when the rows before it are out: the pivots of I - V V',
// V = L^-1 X'.
std::int64_t first_missing(const Exec& exec, const SymmetricMatrix<double>& l, MatrixView<const double> x,
                           double least) {
  const std::int64_t b = x.rows;
  Array<double> v(exec, b, x.cols), k(exec, b, b);
  axpby<double, double>(exec, 1.0, x, 0.0, v.view());
  cholesky_solve_rows<double>(exec, l, v.view());
  gemm<double>(exec, Trans::no, Trans::yes, -1.0, v.view(), v.view(), 0.0, k.view());
  std::vector<double> a;
  copy_to_host(exec, k.view(), a);
  const auto at = [&](std::int64_t r, std::int64_t c) -> double& { return a[static_cast<std::size_t>(r * b + c)]; };
  for (std::int64_t j = 0; j < b; ++j) {
    double pivot = 1 + at(j, j);
    for (std::int64_t q = 0; q < j; ++q) pivot -= at(j, q) * at(j, q);
    if (!(pivot > 0) || !(pivot >= least)) return j + 1;
    const double root = std::sqrt(pivot);
    for (std::int64_t r = j + 1; r < b; ++r) {
      double sum = at(r, j);
      for (std::int64_t q = 0; q < j; ++q) sum -= at(r, q) * at(j, q);
      at(r, j) = sum / root;
    }
  }
  return 0;
}

// Copies rows [begin, begin + count) and columns [column, column + width) of `from` to the place (row, to_column) of
// `to`, in pieces that lie in one block row of each. Only what is in the lower triangles counts, so columns behind the
// last row of a piece stay out.
void copy_rows(const Exec& exec, const SymmetricMatrix<double>& from, std::int64_t begin, std::int64_t count,
               std::int64_t column, std::int64_t width, SymmetricMatrix<double>& to, std::int64_t row,
               std::int64_t to_column) {
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t i = (begin + done) / from.tile_edge(), j = (row + done) / to.tile_edge();
    const std::int64_t piece =
        std::min({count - done, (i + 1) * from.tile_edge() - (begin + done), (j + 1) * to.tile_edge() - (row + done)});
    const MatrixView<double> source = rows_of(from, i, begin + done, begin + done + piece);
    const MatrixView<double> target = rows_of(to, j, row + done, row + done + piece);
    const std::int64_t columns = std::min({width, source.cols - column, target.cols - to_column});
    if (columns > 0)
      add_block<double, double>(exec, 1.0, source.block(0, column, piece, columns), 0.0,
                                target.block(0, to_column, piece, columns));
    done += piece;
  }
}

}  // namespace

void cholesky_update(const Exec& exec, SymmetricMatrix<double>& l, MatrixView<const double> x,
                     MatrixView<double> solved) {
  require_shapes(l, x, solved, "cholesky_update");
  sweep_all<1>(exec, l, x, solved, [](MatrixView<const double>) { return std::int64_t{0}; });
}

std::int64_t cholesky_downdate(const Exec& exec, SymmetricMatrix<double>& l, MatrixView<const double> x,
                               MatrixView<double> solved, double least_left) {
  require_shapes(l, x, solved, "cholesky_downdate");
  return sweep_all<-1>(exec, l, x, solved,
                       [&](MatrixView<const double> part) { return first_missing(exec, l, part, least_left); });
}

void cholesky_scale(const Exec& exec, SymmetricMatrix<double>& l, double factor) {
  GRAMIAN_REQUIRE(std::isfinite(factor) && factor > 0, invalid_argument, "cholesky_scale: the factor must be above 0");
  l.axpby(exec, std::sqrt(factor), l, 0.0);
}

std::int64_t cholesky_append(const Exec& exec, SymmetricMatrix<double>& l, MatrixView<const double> rows) {
  const std::int64_t d = l.size(), k = rows.rows;
  GRAMIAN_REQUIRE(rows.cols == d + k, shape_mismatch, "cholesky_append: k new rows need d + k columns");
  if (k == 0) return 0;
  // [L 0; M N]: M = A21 L^-T, N N' = A22 - M M'.
  SymmetricMatrix<double> corner(exec, k);
  for (std::int64_t i = 0; i < corner.tiles(); ++i) {
    const Range part = part_of(k, corner.tile_edge(), i);
    add_block<double, double>(exec, 1.0, rows.block(part.begin, d, part.size(), part.end), 0.0,
                              corner.tiles_of_row(i, 0, i + 1));
  }
  Array<double> m(exec, k, d);
  if (d > 0) {
    axpby<double, double>(exec, 1.0, rows.block(0, 0, k, d), 0.0, m.view());
    cholesky_solve_rows<double>(exec, l, m.view());
    outer_gram_update(exec, -1.0, m.view(), corner);
  }
  if (const std::int64_t pivot = cholesky(exec, corner); pivot != 0) return d + pivot;
  SymmetricMatrix<double> grown(exec, d + k);
  if (d > 0) copy_rows(exec, l, 0, d, 0, d, grown, 0, 0);
  for (std::int64_t done = 0; done < k;) {
    const std::int64_t i = (d + done) / grown.tile_edge();
    const std::int64_t piece = std::min(k - done, (i + 1) * grown.tile_edge() - (d + done));
    const MatrixView<double> target = rows_of(grown, i, d + done, d + done + piece);
    if (d > 0)
      add_block<double, double>(exec, 1.0, m.view().block(done, 0, piece, d), 0.0, target.block(0, 0, piece, d));
    done += piece;
  }
  copy_rows(exec, corner, 0, k, 0, k, grown, d, d);
  l = std::move(grown);
  return 0;
}

bool cholesky_replace(const Exec& exec, SymmetricMatrix<double>& l, std::int64_t index, MatrixView<const double> row,
                      double least_left) {
  const std::int64_t d = l.size();
  GRAMIAN_REQUIRE(row.rows == 1 && row.cols == d, shape_mismatch, "cholesky_replace: the row must be as long as L");
  GRAMIAN_REQUIRE(index >= 0 && index < d, invalid_argument, "cholesky_replace: no such row");
  SymmetricMatrix<double> next(exec, d);
  next.axpby(exec, 1.0, l, 0.0);
  // The rows of L behind `index`, piece by piece: body(first row, the piece with all its columns).
  const auto over_rows_behind = [&](const auto& body) {
    for (std::int64_t begin = index + 1; begin < d;) {
      const std::int64_t i = begin / next.tile_edge(), end = std::min(d, (i + 1) * next.tile_edge());
      body(begin, rows_of(next, i, begin, end));
      begin = end;
    }
  };
  // Column `index` goes back to the rows behind it.
  std::vector<double> column(static_cast<std::size_t>(d), 0.0);
  over_rows_behind([&](std::int64_t begin, MatrixView<double> part) {
    download<double>(exec, part.block(0, index, part.rows, 1), {column.data() + begin, part.rows, 1});
  });
  cholesky_update(exec, next, copy_of_host(exec, column, 1, d).view());
  // Its new content: y = L11^-1 k1, sqrt(k2 - y'y), (k3 - L31 y) / the root.
  std::vector<double> wanted;
  copy_to_host(exec, row, wanted);
  std::vector<double> head(wanted);
  std::fill(head.begin() + index, head.end(), 0.0);
  Array<double> y = copy_of_host(exec, head, 1, d);
  cholesky_solve_rows<double>(exec, next, y.view());
  copy_to_host(exec, y.view(), head);
  double pivot = wanted[static_cast<std::size_t>(index)];
  for (std::int64_t k = 0; k < index; ++k)
    pivot -= head[static_cast<std::size_t>(k)] * head[static_cast<std::size_t>(k)];
  if (!(pivot > 0) || !std::isfinite(pivot)) return false;
  const double root = std::sqrt(pivot);
  std::fill(column.begin(), column.end(), 0.0);
  over_rows_behind([&](std::int64_t begin, MatrixView<double> part) {
    std::vector<double> known(static_cast<std::size_t>(part.rows), 0.0);
    if (index > 0) {
      Array<double> product(exec, part.rows, 1);
      multiply_block<double>(exec, Trans::no, Trans::yes, 1.0, part.block(0, 0, part.rows, index),
                             y.view().block(0, 0, 1, index), 0.0, product.view());
      copy_to_host(exec, product.view(), known);
    }
    for (std::int64_t r = 0; r < part.rows; ++r)
      column[static_cast<std::size_t>(begin + r)] =
          (wanted[static_cast<std::size_t>(begin + r)] - known[static_cast<std::size_t>(r)]) / root;
  });
  if (cholesky_downdate(exec, next, copy_of_host(exec, column, 1, d).view(), {}, least_left) != 0) return false;
  over_rows_behind([&](std::int64_t begin, MatrixView<double> part) {
    upload<double>(exec, {column.data() + begin, part.rows, 1}, part.block(0, index, part.rows, 1));
  });
  head[static_cast<std::size_t>(index)] = root;
  upload<double>(exec, {head.data(), 1, index + 1},
                 rows_of(next, index / next.tile_edge(), index, index + 1).block(0, 0, 1, index + 1));
  l = std::move(next);
  return true;
}

void cholesky_delete(const Exec& exec, SymmetricMatrix<double>& l, const std::vector<std::int64_t>& features) {
  const std::int64_t d = l.size(), k = static_cast<std::int64_t>(features.size());
  for (std::size_t n = 0; n < features.size(); ++n)
    GRAMIAN_REQUIRE(features[n] >= 0 && features[n] < d && (n == 0 || features[n] > features[n - 1]), invalid_argument,
                    "cholesky_delete: the features must be places in the matrix, ascending, each once");
  if (k == 0) return;
  // With rows and columns in their order, A without some features is K K' + C C': K the rows that stay in the columns
  // that stay, which is a triangle, and C the same rows in the columns that go.
  std::vector<Range> runs;  // of what stays
  std::int64_t begin = 0;
  for (std::int64_t n = 0; n <= k; ++n) {
    const std::int64_t end = n < k ? features[static_cast<std::size_t>(n)] : d;
    if (end > begin) runs.push_back({begin, end});
    begin = end + 1;
  }
  SymmetricMatrix<double> kept(exec, d - k);
  Array<double> given(exec, k, d - k);
  axpby<double, double>(exec, 0.0, {}, 0.0, given.view());
  std::int64_t row = 0;
  for (const Range run : runs) {
    std::int64_t column = 0;
    for (const Range left : runs) {
      if (left.begin > run.begin) break;
      copy_rows(exec, l, run.begin, run.size(), left.begin, left.size(), kept, row, column);
      column += left.size();
    }
    // The columns that go, of these rows, as rows: one strided column at a time.
    for (std::int64_t done = run.begin; done < run.end;) {
      const std::int64_t i = done / l.tile_edge(), end = std::min(run.end, (i + 1) * l.tile_edge());
      const MatrixView<double> source = rows_of(l, i, done, end);
      std::vector<double> column_values(static_cast<std::size_t>(end - done));
      for (std::int64_t n = 0; n < k && features[static_cast<std::size_t>(n)] < done; ++n) {
        const std::int64_t feature = features[static_cast<std::size_t>(n)];
        download<double>(exec, source.block(0, feature, end - done, 1), {column_values.data(), end - done, 1});
        upload<double>(exec, {column_values.data(), 1, end - done},
                       given.view().block(n, row + done - run.begin, 1, end - done));
      }
      done = end;
    }
    row += run.size();
  }
  if (d > k) cholesky_update(exec, kept, given.view());
  l = std::move(kept);
}

}  // namespace gramian
