/* What each op means, written a second time: long double or exact integers, no speed, no shared code with the library.
 * Each reference returns its value together with the elementwise bound that rounding in the table's dtype may reach.
 *
 * eps(dtype) is 2^-23 or 2^-52, twice the unit roundoff u. A sum of k products in any order, with fused or separate
 * multiply-add, has error at most (k + 3) u times the sum of the magnitudes to first order; the bounds here use eps,
 * which leaves a factor two for the second-order terms and the rounding of the reference itself.
 */
#ifndef GRAMIAN_CONFORMANCE_REFERENCE_H
#define GRAMIAN_CONFORMANCE_REFERENCE_H

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/op_table.h"

namespace conformance {

/* A packed row-major matrix on the host; every value is representable in dtype. */
struct Matrix {
  int dtype = GRAMIAN_F64;
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<double> v;
  bool was_nan = false; /* of what a table left behind: nothing but NaN stood there before */

  Matrix() = default;
  Matrix(int type, int64_t r, int64_t c, double fill = 0.0)
      : dtype(type), rows(r), cols(c), v(static_cast<size_t>(r * c), fill) {}
  double& operator()(int64_t r, int64_t c) { return v[static_cast<size_t>(r * cols + c)]; }
  double operator()(int64_t r, int64_t c) const { return v[static_cast<size_t>(r * cols + c)]; }
};

/* A reference value and how far a correct table may be from it. */
struct Estimate {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<long double> value;
  std::vector<double> bound;

  Estimate(int64_t r, int64_t c)
      : rows(r), cols(c), value(static_cast<size_t>(r * c)), bound(static_cast<size_t>(r * c)) {}
  size_t at(int64_t r, int64_t c) const { return static_cast<size_t>(r * cols + c); }
};

/* Sparse rows; column indices may repeat and need not be sorted. */
struct Csr {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<int64_t> indptr, indices;
  std::vector<double> values;
};

size_t size_of(int dtype);
double eps(int dtype);
double smallest_normal(int dtype);
/* Rounded once, to nearest, to a compute dtype. */
double round_to(int dtype, double value);
/* One stored element of any dtype, widened to double. The bytes need no alignment. */
double widen(int dtype, const unsigned char* bytes);

/* alpha op(A) op(B) + beta C. `c` may be null when beta is 0; it is not read then, nor are A and B when alpha is 0. */
Estimate product(const Matrix& a, bool trans_a, const Matrix& b, bool trans_b, double alpha, double beta,
                 const Matrix* c);
Estimate csr_product(const Csr& a, const Matrix& b, double alpha, double beta, const Matrix* c);
/* alpha x + beta y in the wider of the two types, then rounded to y's; null x means zero. */
Estimate combination(double alpha, const Matrix* x, double beta, const Matrix& y);

/* L L' for the lower triangle of `l`, with |L||L'| beside it in `bound`. */
Estimate lower_square(const Matrix& l);
/* op(L) X (left) or X op(L) (right) with |op(L)||X| or |X||op(L)| in `bound`; only the lower triangle is read. */
Estimate triangular_product(const Matrix& l, bool right, bool trans, const Matrix& x);

/* f(t) exactly; NaN for NaN. */
long double activation(int kind, long double t);
/* How far a good implementation of scale * f(t) may be off: 8 eps of the result (f and the two roundings of the
 * scaling), for cos 8 eps of the scale for |t| <= 1e4; plus the smallest normal number where results may be flushed. */
double activation_bound(int kind, int dtype, long double value, double scale);

/* --- the frozen bit law, version 1 --------------------------------------------------------------------------- */
struct Block {
  uint32_t x[4];
};
Block philox(const uint32_t counter[4], uint64_t key);
uint64_t mix(uint64_t z);
Block stream_block(const gramian_stream& stream, uint64_t j, uint32_t b);
double normal_quantile(double u);
double gaussian_entry(const gramian_stream& stream, uint64_t i, uint64_t j);
double rademacher_entry(const gramian_stream& stream, uint64_t i, uint64_t j);
double sign_entry(const gramian_stream& stream, uint64_t j);
double uniform_entry(const gramian_stream& stream, uint64_t i, double low, double high);

/* scale * H x for one row of integers or reals: H[i, j] = (-1)^popcount(i & j). */
std::vector<long double> hadamard(const std::vector<long double>& x);

}  // namespace conformance

#endif
