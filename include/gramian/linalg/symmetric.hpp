// A symmetric matrix kept as its lower triangle cut into block rows: half the memory of the square. Block row i holds
// the columns up to its diagonal tile as row-major rows, so a kernel can take a tile or a run of tiles in one call;
// tiles are the unit of parallel work for triangular solves. One or two block rows make a panel, whose rows lie at one
// distance from each other: the unit of a Gram update and of most of a factorisation, where larger operands are packed
// less often.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

template <class T>
class GRAMIAN_EXPORT SymmetricMatrix {
 public:
  SymmetricMatrix() = default;
  // n x n zeros.
  SymmetricMatrix(const Exec& exec, std::int64_t n);

  std::int64_t size() const { return n_; }
  std::int64_t tile_edge() const { return edge_; }
  std::int64_t tiles() const { return edge_ == 0 ? 0 : (n_ + edge_ - 1) / edge_; }  // in one direction
  // Rows [i * edge, ...) x columns [j * edge, ...), i >= j. Of a diagonal tile only the lower triangle counts.
  MatrixView<T> tile(std::int64_t i, std::int64_t j) const { return tiles_of_row(i, j, j + 1); }
  // Tiles [first, last) of block row i side by side; last <= i + 1.
  MatrixView<T> tiles_of_row(std::int64_t i, std::int64_t first, std::int64_t last) const;
  // The same of block rows [first_row, last_row) of one panel.
  MatrixView<T> tiles_of_rows(std::int64_t first_row, std::int64_t last_row, std::int64_t first,
                              std::int64_t last) const;
  std::int64_t panel_edge() const { return tiles_per_panel_ * edge_; }
  std::int64_t panels() const { return edge_ == 0 ? 0 : (n_ + panel_edge() - 1) / panel_edge(); }
  // Columns [first * panel_edge, last * panel_edge) of panel p; last <= p + 1. Of the square on the diagonal only the
  // lower triangle counts.
  MatrixView<T> panel(std::int64_t p, std::int64_t first, std::int64_t last) const;
  std::size_t bytes() const { return data_.bytes(); }

  void set_zero(const Exec& exec);
  // this = alpha other + beta this, also between precisions.
  template <class S>
  void axpby(const Exec& exec, double alpha, const SymmetricMatrix<S>& other, double beta);
  // this += alpha (x y' + y x'); x == y counts once: this += alpha x x'. x, y: n values of T on the device.
  void add_outer(const Exec& exec, double alpha, const T* x, const T* y);
  void add_diagonal(const Exec& exec, double value);
  // this = diag(v) this diag(v), v on the host.
  void scale(const Exec& exec, const std::vector<double>& v);

  // The lower triangle by rows, n (n + 1) / 2 host values.
  void pack(const Exec& exec, T* out) const;
  void unpack(const Exec& exec, const T* packed);
  // The diagonal, n host values.
  void diagonal(const Exec& exec, T* out) const;

 private:
  Buffer data_;
  std::int64_t n_ = 0;
  std::int64_t edge_ = 0;
  std::int64_t tiles_per_panel_ = 1;
  std::int64_t pad_ = 0;  // between the end of a row and the next, in elements
};

// G += alpha X'X. Products are made in the type of X, over at most 2048 rows at a time where that is float, and
// added to G in its own type. n^2 k flops for k rows.
//
// An updater takes all the memory its updates need when it is made, so that an update cannot run out of it half way.
template <class P>
class GRAMIAN_EXPORT GramUpdater {
 public:
  // For updates of at most `rows` rows of this matrix.
  GramUpdater(const Exec& exec, const SymmetricMatrix<double>& g, std::int64_t rows);
  ~GramUpdater();
  void update(const Exec& exec, double alpha, MatrixView<const P> x, SymmetricMatrix<double>& g);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};
template <class P>
GRAMIAN_EXPORT void gram_update(const Exec& exec, double alpha, MatrixView<const P> x, SymmetricMatrix<double>& g);
// K += alpha X X' for X n x k.
GRAMIAN_EXPORT void outer_gram_update(const Exec& exec, double alpha, MatrixView<const double> x,
                                      SymmetricMatrix<double>& k);

// out (n x c) = alpha A w + beta out. 2 n^2 c flops, reads A once per 64 columns.
GRAMIAN_EXPORT void symmetric_multiply(const Exec& exec, double alpha, const SymmetricMatrix<double>& a,
                                       MatrixView<const double> w, double beta, MatrixView<double> out);

// Lower Cholesky factor in place. Returns 0, or the 1-based pivot that is not positive (the matrix is then garbage).
// n^3 / 3 flops.
template <class T>
GRAMIAN_EXPORT std::int64_t cholesky(const Exec& exec, SymmetricMatrix<T>& a);

// b (n x c) = L^-1 b (Trans::no) or L^-T b (Trans::yes), L from cholesky. n^2 c flops.
template <class T>
GRAMIAN_EXPORT void cholesky_solve_half(const Exec& exec, Trans trans, const SymmetricMatrix<T>& l, MatrixView<T> b);

// Row r of x (k x n) = L^-1 x_r: many right-hand sides that lie in rows. n^2 k flops.
template <class T>
GRAMIAN_EXPORT void cholesky_solve_rows(const Exec& exec, const SymmetricMatrix<T>& l, MatrixView<T> x);

// |L^-1|_F^2 = trace of (L L')^-1. n^3 / 3 flops, n x edge memory a thread.
template <class T>
GRAMIAN_EXPORT double inverse_trace(const Exec& exec, const SymmetricMatrix<T>& l);

// Eigenvalues w (ascending, n host values) and eigenvectors (row i of v, n x n on the device). One thread; about
// 9 n^3 flops. Throws Error{no_convergence}.
GRAMIAN_EXPORT void symmetric_eigen(const Exec& exec, const SymmetricMatrix<double>& a, std::vector<double>& w,
                                    Array<double>& v);

}  // namespace gramian
