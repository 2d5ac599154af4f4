// The one engine that changes a Cholesky factor when its matrix changes: rows come and go, sums age, features come and
// go. Recursive least squares, unlearning and growing models are policies over it. No inverse is ever formed.
//
// Adding rows is an orthogonal transformation of [L'; X], so the factor that comes out is the exact one of a matrix
// within a few eps |L L'| of the true one, whatever the condition and however often it is done. Taking rows out is the
// same transformation read backwards and is as good as the problem is: the part of the matrix that is left must not be
// lost in the rounding of the part that goes, which is what the check of `least_left` is about.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

// L becomes the factor of L L' + X'X, X b x d (device, kept). `solved`, b x d where given, receives the rows of X
// solved with the new factor: row r = L^-1 x_r, nearly for nothing.
// Flops: 3 b d^2 for b <= 6 on a CPU, else 2 (b + edge) d^2 with the small edge of a panel; L is read and written once
// per 256 rows. Memory: 2 b d.
GRAMIAN_EXPORT void cholesky_update(const Exec& exec, SymmetricMatrix<double>& l, MatrixView<const double> x,
                                    MatrixView<double> solved = {});

// Rows whose own share of what is left, 1 - x'(L L')^-1 x given that the rows before them are out, is below this are
// not taken out by default: about half the digits of the result would be rounding.
constexpr double kLeastLeft = 1e-8;

// L becomes the factor of L L' - X'X. Returns 0, or the 1-based row of X at which less than `least_left` (or nothing)
// would be left; L is then unchanged where X has at most 256 rows, and must be made anew from the matrix otherwise.
// Flops: the update's and b d^2 for the check.
GRAMIAN_EXPORT std::int64_t cholesky_downdate(const Exec& exec, SymmetricMatrix<double>& l, MatrixView<const double> x,
                                              MatrixView<double> solved = {}, double least_left = kLeastLeft);

// L becomes the factor of factor * L L', factor > 0: sums that age.
GRAMIAN_EXPORT void cholesky_scale(const Exec& exec, SymmetricMatrix<double>& l, double factor);

// L (d x d) becomes the factor of the matrix with k more rows and columns (bordered Cholesky); rows: the new rows, k x
// (d + k), whose last k columns are read in the lower triangle only. Returns 0, or the 1-based pivot, counted from the
// first row of the matrix, that is not positive; L is then unchanged. k d^2 + k^2 d + k^3 / 3 flops.
GRAMIAN_EXPORT std::int64_t cholesky_append(const Exec& exec, SymmetricMatrix<double>& l,
                                            MatrixView<const double> rows);

// L becomes the factor of the matrix whose row and column `index` are `row` (1 x d). False where that matrix is not
// positive definite, or where less than `least_left` of that feature's share would be left; L is then unchanged. What
// stood there is given back to the rows behind it as an update by one row, and what comes is taken out of them: in
// place of the rank-2 change as a whole, whose two vectors are as large as the row itself and nearly cancel. 6 d^2
// flops.
GRAMIAN_EXPORT bool cholesky_replace(const Exec& exec, SymmetricMatrix<double>& l, std::int64_t index,
                                     MatrixView<const double> row, double least_left = 0);

// L becomes the factor of the matrix without the features listed (ascending, each once): what the columns that go
// explained is given back to those that stay, as an update by as many rows. 3 k d^2 flops for k features, or fewer.
GRAMIAN_EXPORT void cholesky_delete(const Exec& exec, SymmetricMatrix<double>& l,
                                    const std::vector<std::int64_t>& features);

}  // namespace gramian
