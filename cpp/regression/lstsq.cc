#include "gramian/regression/lstsq.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/linalg/symmetric.hpp"
#include "linalg/binary_scale.h"
#include "regression/contraction.h"
#include "regression/preconditioner.h"
#include "regression/tall_operand.h"
#include "regression/tall_solver.h"

namespace gramian {

using namespace regression;
using linalg::column_maxima;
using linalg::exponent_of;
using linalg::exponents_of;
using linalg::largest_of;
using linalg::shift_columns;
using linalg::ShiftedRows;

namespace {

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

// The power of two that brings both A and the root of the ridge to 1 or below.
int shared_exponent(double largest_entry, double ridge) {
  return exponent_of(std::max(largest_entry, std::sqrt(ridge)));
}

LstsqOptions shifted_options(const LstsqOptions& options, int power) {
  LstsqOptions out = options;
  out.ridge = std::ldexp(options.ridge, -2 * power);
  return out;
}

// Fewer rows than columns: the solution of least norm by the QR factorisation of [A sqrt(ridge) I]'.
LstsqResult solve_wide(const Exec& exec, const RowsView& a, const RowsView& b, const LstsqOptions& given) {
  GRAMIAN_REQUIRE(given.method == LstsqMethod::automatic || given.method == LstsqMethod::qr, invalid_argument,
                  std::string("method \"") + name_of(given.method) +
                      "\" needs at least as many rows as columns, A is " + std::to_string(a.rows) + " x " +
                      std::to_string(a.cols) + "; method \"qr\" gives the solution of least norm");
  const std::int64_t n = a.rows, d = a.cols, k = b.cols;
  const bool ridge = given.ridge > 0;
  Array<double> rows(exec, n, d), right(exec, n, k), x = zeros(exec, d, k);
  load_rows<double>(exec, a, nullptr, nullptr, rows.view(), "A");
  load_rows<double>(exec, b, nullptr, nullptr, right.view(), "b");
  // A, the root of the ridge and the columns of b near 1.
  const std::vector<int> b_powers = exponents_of(column_maxima(exec, right.view()));
  shift_columns(exec, b_powers, -1, right.view());
  const int a_power = shared_exponent(largest_of(column_maxima(exec, rows.view())), given.ridge);
  shift_columns(exec, std::vector<int>(at(d), a_power), -1, rows.view());
  const LstsqOptions options = shifted_options(given, a_power);
  Array<double> q = zeros(exec, d + (ridge ? n : 0), n), r(exec, n, n);
  transpose<double>(exec, rows.view(), q.view().block(0, 0, d, n));
  if (ridge) {
    std::vector<double> diagonal(at(n * n), 0.0);
    for (std::int64_t i = 0; i < n; ++i) diagonal[at(i * n + i)] = std::sqrt(options.ridge);
    upload<double>(exec, {diagonal.data(), n, n}, q.view().block(d, 0, n, n));
  }
  qr_thin<double>(exec, q.view(), r.view());
  LstsqResult out;
  out.method = LstsqMethod::qr;
  out.why = options.method == LstsqMethod::qr ? "asked for" : "fewer rows than columns: least norm";
  out.iterations = 1;
  out.rank = n;
  // A = R'Q', so x = Q z with R'z = b; by the singular values of R where its rank is in doubt.
  const double rtol = options.rtol >= 0 ? options.rtol : default_rtol(n);
  const SymmetricMatrix<double> l = lower_factor<double, double>(exec, r.view());
  const ScaledFactor scaled = factor_scaled_triangle(exec, r.view());
  out.condition = scaled.condition;
  Array<double> z = copied(exec, right.view());
  Array<double> vt;
  std::vector<double> s;
  if (!(10 * unscaled_bound(scaled) * rtol < 1)) {
    Array<double> u(exec, n, n), inside(exec, n, k);
    vt = Array<double>(exec, n, n);
    small_svd<double>(exec, r.view(), u.view(), s, vt.view());
    out.rank = 0;
    while (out.rank < n && s[at(out.rank)] > rtol * s[0]) ++out.rank;
    out.condition = out.rank > 0 ? s[0] / s[at(out.rank - 1)] : 1.0;
    if (out.rank < n) {
      // R' = V S U': z = U S^+ V'b.
      std::vector<double> inverse(at(n), 0.0);
      for (std::int64_t i = 0; i < out.rank; ++i) inverse[at(i)] = 1.0 / s[at(i)];
      gemm<double>(exec, Trans::no, Trans::no, 1.0, vt.view(), right.view(), 0.0, inside.view());
      scale_rows<double>(exec, inverse, inside.view());
      gemm<double>(exec, Trans::no, Trans::no, 1.0, u.view(), inside.view(), 0.0, z.view());
    }
  }
  if (out.rank == n) cholesky_solve_half<double>(exec, Trans::no, l, z.view());
  gemm<double>(exec, Trans::no, Trans::no, 1.0, q.view().block(0, 0, d, n), z.view(), 0.0, x.view());
  // Residuals b - A x, and the errors they mean: |r| / |x| where the equations can be solved, else only what of r lies
  // in the range of A counts.
  Array<double> rest = copied(exec, right.view());
  gemm<double>(exec, Trans::no, Trans::no, -1.0, rows.view(), x.view(), 1.0, rest.view());
  ++out.iterations;
  out.residual_norms = column_norms(exec, rest.view());
  if (!are_residuals(out.residual_norms, column_norms(exec, right.view())) && raised_rtol(rtol) > rtol) {
    LstsqOptions raised = given;
    raised.rtol = raised_rtol(rtol);
    LstsqResult again = solve_wide(exec, a, b, raised);
    again.why += raised_in_words(raised.rtol);
    return again;
  }
  const std::vector<double> sizes = column_norms(exec, x.view());
  Array<double> errors = copied(exec, rest.view());
  if (ridge) {
    // w = sqrt(ridge) z' is the part of the solution outside A; b - A x - ridge (A A' + ridge)^-1 b is what is wrong.
    gemm<double>(exec, Trans::no, Trans::no, -std::sqrt(options.ridge), q.view().block(d, 0, n, n), z.view(), 1.0,
                 errors.view());
  } else if (out.rank < n) {
    Array<double> inside(exec, n, k);
    gemm<double>(exec, Trans::no, Trans::no, 1.0, vt.view(), rest.view(), 0.0, inside.view());
    axpby<double, double>(exec, 0.0, {}, 0.0, inside.view().block(out.rank, 0, n - out.rank, k));
    axpby<double, double>(exec, 1.0, inside.view(), 0.0, errors.view());
  }
  double norm = 0;
  for (const double value : column_norms(exec, r.view())) norm = std::hypot(norm, value);
  out.backward_errors = column_norms(exec, errors.view());
  for (std::size_t j = 0; j < sizes.size(); ++j) {
    const double scale = norm * sizes[j];
    if (!(out.backward_errors[j] == 0)) out.backward_errors[j] /= scale;
  }
  out.x.resize(at(d * k));
  download<double>(exec, x.view(), {out.x.data(), d, k});
  shift_back(out, a_power, b_powers);
  return out;
}

void check(std::int64_t n, std::int64_t d, const RowsView& b, const LstsqOptions& options) {
  GRAMIAN_REQUIRE(
      n >= 1 && d >= 1, invalid_argument,
      "A must have at least one row and one column, it is " + std::to_string(n) + " x " + std::to_string(d));
  GRAMIAN_REQUIRE(b.rows == n && b.cols >= 1, shape_mismatch,
                  "b must have " + std::to_string(n) + " rows, as A has, and at least one column; it is " +
                      std::to_string(b.rows) + " x " + std::to_string(b.cols));
  GRAMIAN_REQUIRE(std::isfinite(options.ridge) && options.ridge >= 0, invalid_argument,
                  "ridge must be finite and not negative, got " + std::to_string(options.ridge));
  GRAMIAN_REQUIRE(!(options.rtol >= 1), invalid_argument, "rtol must be below 1, got " + std::to_string(options.rtol));
}

}  // namespace

LstsqResult lstsq(const Exec& exec, const RowsView& a, const RowsView& b, const LstsqOptions& options) {
  check(a.rows, a.cols, b, options);
  if (a.rows < a.cols) return solve_wide(exec, a, b, options);
  try {
    const std::unique_ptr<TallOperand> operand = rows_operand(exec, a, "A");
    try {
      return solve_tall(exec, *operand, a, b, options, std::nullopt);
    } catch (const OutOfRange&) {
      const int power = shared_exponent(largest_of(column_maxima(exec, a, "A")), options.ridge);
      const ShiftedRows near(exec, a, std::vector<int>(at(a.cols), -power), "A");
      const std::unique_ptr<TallOperand> near_one = rows_operand(exec, near.view(), "A");
      return solve_tall(exec, *near_one, near.view(), b, shifted_options(options, power), power);
    }
  } catch (const Error& error) {
    // Blocks are read by several threads and in a sketch's own order: the row that is named is the first bad one.
    if (error.code() == ErrorCode::non_finite) require_finite(exec, a, "A");
    throw;
  }
}

LstsqResult lstsq(const Exec& exec, const LinearMap& a, const RowsView& b, const LstsqOptions& options) {
  check(a.n, a.d, b, options);
  const std::unique_ptr<TallOperand> operand = map_operand(exec, a);  // on this device, or it throws
  const bool wants_rows = options.method == LstsqMethod::qr || options.method == LstsqMethod::cholesky ||
                          options.method == LstsqMethod::preconditioned_cholesky;
  if (wants_rows || is_formed(a.n, a.d)) {
    // Not tall enough for a sketch: the columns of A are its products with the unit vectors.
    Array<double> whole(exec, a.n, a.d);
    materialise(exec, a, whole.view());
    return lstsq(exec, RowsView::dense<double>(whole.view()), b, options);
  }
  require_adjoint(exec, a);
  try {
    return solve_tall(exec, *operand, RowsView(), b, options, std::nullopt);
  } catch (const OutOfRange&) {
    const int power = shared_exponent(largest_entry(exec, a), options.ridge);
    const LinearMap near = shifted(a, -power);
    const std::unique_ptr<TallOperand> near_one = map_operand(exec, near);
    return solve_tall(exec, *near_one, RowsView(), b, shifted_options(options, power), power);
  }
}

}  // namespace gramian
