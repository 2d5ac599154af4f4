// min |A x - b|^2 + ridge |x|^2 for tall A, as accurate as Householder's QR and faster, by whichever of these the
// shape, the condition and a cost model favour:
//
//   qr                       the triangle of [A b] block by block, then substitution
//   cholesky                 A'A and its Cholesky factor as a preconditioner of iterative refinement: for
//   well-conditioned
//                            A, where A'A may even be made in single precision
//   preconditioned_cholesky  R of a sketch of A first, then the Gram matrix of A R^-1, block by block and never stored:
//                            any condition, 2 n d^2 flops at the speed of products and three or four readings of A
//   spir, fossils            conjugate gradients or momentum, preconditioned by the sketch and restarted once: about 40
//                            readings of A and no d^2 n work, for wide A, CSR and linear operators
//   sketch_and_solve         the solution of the sketched problem alone: two or three digits
//
// Whatever the method, what it returns is corrected with exact residuals, and carries an estimate of its backward
// error: |dA| / |A| for the smallest dA with which x is exact.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/linear_map.hpp"

namespace gramian {

enum class LstsqMethod { automatic, qr, cholesky, preconditioned_cholesky, spir, fossils, sketch_and_solve };

GRAMIAN_EXPORT const char* name_of(LstsqMethod method);
// "auto", "qr", ...; throws invalid_argument for anything else.
GRAMIAN_EXPORT LstsqMethod parse_lstsq_method(const std::string& name);

// What a machine does in a second, by all threads of an Exec together. The defaults are those of two server cores;
// being fixed, they let every run choose the same method.
struct LstsqSpeeds {
  double flops64 = 80e9;      // products in double
  double flops32 = 160e9;     // in float
  double qr_flops = 40e9;     // Householder's QR of tall blocks
  double small_flops = 20e9;  // factorisations of one small matrix on one thread
  double bandwidth = 12e9;    // bytes read
};
// Times products, a factorisation and readings for about a fifth of a second.
GRAMIAN_EXPORT LstsqSpeeds measure_lstsq_speeds(const Exec& exec);

// What the cost of a problem depends on.
struct LstsqShape {
  std::int64_t n = 0, d = 0, k = 1;
  std::int64_t item_bytes = 8;  // of A as it is read
  double stored = -1;           // entries stored of a sparse A; < 0: dense
  bool has_rows = true;         // false: A is known by its products alone
  double condition = 0;         // of A with columns of equal length, where it is known (0: not)
};

struct LstsqCost {
  LstsqMethod method = LstsqMethod::qr;
  double seconds = 0;   // infinite where the method does not apply
  double readings = 0;  // of A
  double flops = 0;
  bool single = false;  // products in float
};

// Costs of all methods, and the cheapest that is accurate.
struct LstsqPlan {
  LstsqCost choice;
  std::vector<LstsqCost> costs;
};
GRAMIAN_EXPORT LstsqPlan plan_lstsq(const LstsqShape& shape, const LstsqSpeeds& speeds);

struct LstsqOptions {
  LstsqMethod method = LstsqMethod::automatic;
  double ridge = 0;
  double rtol = -1;              // singular values up to rtol times the largest are zero; < 0: default_rtol(d). Raised
                                 // where the residual is longer than b, which x = 0 would not leave
  std::uint64_t seed = 0;        // of the sketch
  std::int64_t sketch_rows = 0;  // 0: 12 d for spir, fossils and sketch_and_solve, 4 d below preconditioned_cholesky
  int inner_steps = 0;           // of spir and fossils in each round; 0: as the sketch needs
  int max_rounds = 12;           // corrections with an exact residual, at most
  LstsqSpeeds speeds;            // that the choice of a method counts on
};

struct LstsqResult {
  std::vector<double> x;                 // d x k by rows
  LstsqMethod method = LstsqMethod::qr;  // that gave x
  std::vector<double> residual_norms;    // k: |b - A x|
  std::vector<double> backward_errors;   // k: estimates of |dA|_F / |A|_F
  std::int64_t iterations = 0;           // readings of A
  std::int64_t rank = 0;
  double condition = 0;          // an estimate
  std::int64_t sketch_rows = 0;  // 0 without a sketch
  std::string why;               // the method: chosen, asked for or fallen back to; and whether rtol was raised
};

// A n x d (dense of any layout or CSR), b n x k, both in host memory. Where n < d, or the rank is below d, x is the
// solution of least norm (ridge 0). Float A is factored and multiplied in float where that is enough; residuals are
// double. Throws Error{shape_mismatch, invalid_argument, non_finite} (the last naming the row of A or b).
GRAMIAN_EXPORT LstsqResult lstsq(const Exec& exec, const RowsView& a, const RowsView& b, const LstsqOptions& options);
GRAMIAN_EXPORT LstsqResult lstsq(const Exec& exec, const LinearMap& a, const RowsView& b, const LstsqOptions& options);

}  // namespace gramian
