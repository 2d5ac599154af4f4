// The inverse itself, where a caller needs it: P = H^-1 that follows H <- g H + beta X'X, one triangle, any number of
// rows at a time. Where weights or solves are wanted, the Cholesky factor of update.hpp is the better record: it stays
// exact to rounding, while an inverse keeps what its first rows lost. Hence the two ways back to an exact inverse
// below, both from the matrix H, which is kept on request.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/symmetric.hpp"
#include "gramian/linalg/update.hpp"

namespace gramian {

// out (n x n) = A, both triangles.
GRAMIAN_EXPORT void symmetric_to_dense(const Exec& exec, const SymmetricMatrix<double>& a, MatrixView<double> out);

struct RunningInverseOptions {
  // Ageing stops for an update after which the trace of P would be above this: directions that no row looks into would
  // grow by 1 / g a step without end.
  double max_trace = std::numeric_limits<double>::infinity();
  bool keep_matrix = false;        // H beside P: 4 d^2 bytes more, and P can be checked and renewed
  std::int64_t check_every = 0;    // updates between checks of the residual; 0: when asked. Needs keep_matrix
  double refresh_above = 1e-10;    // residual from which a check renews P
  double least_left = kLeastLeft;  // of a row that is taken out, as in cholesky_downdate
  // Refuse rows along which P would be nothing but rounding: those whose x'P x exceeds g / beta by 1 / (4 eps). Where
  // the matrix is kept, and its factor has half its digits, P is made anew from it in place of that. Off for rules that
  // lift P again, as blend does.
  bool refuse_loss = true;
};

// All that a RunningInverse is beyond its options: what a file keeps of it.
struct RunningInverseState {
  std::vector<double> inverse, matrix;  // lower triangles by rows; matrix is empty where it is not kept
  std::int64_t updates = 0, held_back = 0, refreshes = 0;
};

// P = keep P + add I before the rows of an update, without H: what published rules of thumb do.
struct InverseBlend {
  double keep = 1, add = 0;
};

class GRAMIAN_EXPORT RunningInverse {
 public:
  // H = diagonal I, diagonal > 0. 4 d^2 bytes, 8 with keep_matrix.
  RunningInverse(const Exec& exec, std::int64_t d, double diagonal, RunningInverseOptions options = {});

  std::int64_t size() const { return p_.size(); }
  const SymmetricMatrix<double>& inverse() const { return p_; }
  std::int64_t updates() const { return updates_; }
  std::int64_t held_back() const { return held_back_; }  // updates without ageing, for max_trace
  std::int64_t refreshes() const { return refreshes_; }
  double trace() const { return trace_; }
  double largest_entry() const;  // the largest of the diagonal, and so of all: P is positive definite

  // H becomes g H + beta X'X, X k x d (device), g in (0, 1], beta != 0. With beta < 0 rows go: where less than
  // least_left of one would be left it is Error{not_positive_definite} naming it; so it is where P would be rounding
  // (refuse_loss). Error{non_finite} for rows whose products with P overflow. On errors nothing has changed.
  // 4 k d^2 flops; for any k reads P three times (a product takes each tile from both sides) and writes it once. Where
  // a check finds H singular, P stays as it is.
  void update(double g, double beta, MatrixView<const double> x);
  // The same in two parts, for several inverses that change together or not at all: all that can fail is in the first.
  // A blend needs an inverse without its matrix. x must live until the second, which belongs to the same P.
  class Change {
    friend class RunningInverse;
    double forgetting = 1, weight = 1, trace = 0;
    bool held_back = false;
    MatrixView<const double> x;
    InverseBlend blend;
    Array<double> v;               // the new P is (keep P + add I - sign(weight) V'V) / forgetting ...
    SymmetricMatrix<double> p, h;  // ... or this, beside the new H, where that would be rounding
  };
  Change prepare(double g, double beta, MatrixView<const double> x, InverseBlend blend = {}) const;
  void commit(Change change);
  // The blend alone.
  void blend(InverseBlend blend);
  // out = X P, k x d. 2 k d^2 flops.
  void multiply(MatrixView<const double> x, MatrixView<double> out) const;

  // |I - P H|_F / sqrt(d), estimated from `probes` vectors of signs; 4 d^2 flops each. Needs keep_matrix.
  double residual(int probes = 4) const;
  // One Newton-Schulz step P <- 2 P - P H P, which squares the residual (below 1): 4 d^3 flops. Needs keep_matrix.
  void refine();
  // P from a Cholesky factor of H: d^3 flops. Needs keep_matrix.
  void rebuild();

  // The state, and the same bits again in an inverse of the same size and options. A state that fits no such inverse is
  // Error{invalid_argument} and changes nothing.
  RunningInverseState state() const;
  void restore(const RunningInverseState& state);

 private:
  Change change_of(double g, double beta, MatrixView<const double> x, InverseBlend blend, MatrixView<const double> u,
                   MatrixView<const double> seen) const;
  Change renewal_of(double g, double beta, MatrixView<const double> x) const;
  void check();
  void set_from_dense(MatrixView<const double> p);
  void require_matrix() const;
  void measure_trace();
  Exec exec_;
  RunningInverseOptions options_;
  SymmetricMatrix<double> p_, h_;
  double trace_ = 0;
  std::int64_t updates_ = 0, held_back_ = 0, refreshes_ = 0;
};

}  // namespace gramian
