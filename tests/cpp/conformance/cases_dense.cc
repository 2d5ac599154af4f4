/* Products and factorisations: gemm, gram, csr_gemm, potrf, trsm, syevd. */
#include <cmath>
#include <limits>

#include "case.h"

namespace conformance {

namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();
const double kScalars[] = {1.0, 0.0, -1.0, 0.7};
const int kDtypes[] = {GRAMIAN_F32, GRAMIAN_F64};

void poison_upper(Matrix& matrix, double poison) {
  for (int64_t r = 0; r < matrix.rows; ++r) {
    for (int64_t c = r + 1; c < matrix.cols; ++c) matrix(r, c) = poison;
  }
}

/* The result's lower triangle against `want`, the upper one excluded from the comparison. */
void close_lower(Case& c, Matrix got, Estimate want) {
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t j = r + 1; j < got.cols; ++j) {
      got(r, j) = 0.0;
      want.value[want.at(r, j)] = 0.0L;
      want.bound[want.at(r, j)] = 0.0;
    }
  }
  c.close(got, want);
}

/* One entry in the middle of the operand of that letter. */
struct Special {
  char operand = 0;
  double value = 0.0;
};

std::string name_of(const Special& special) {
  return special.operand == 0 ? "" : text(" %g in %c", special.value, special.operand);
}

void put(Case& c, const Special& special, char operand, Matrix& matrix) {
  if (operand == special.operand) c.poison(matrix, matrix.rows / 2, matrix.cols / 2, special.value);
}

/* --- gemm ---------------------------------------------------------------------------------------------------- */

void gemm_case(Harness& harness, int dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha,
               double beta, Special special = Special()) {
  const std::string what = text("%s %c%c m %lld n %lld k %lld alpha %g beta %g%s", dtype_name(dtype), ta ? 'T' : 'N',
                                tb ? 'T' : 'N', ll(m), ll(n), ll(k), alpha, beta, name_of(special).c_str());
  harness.run(what, [&](Case& c) {
    Matrix a = random_matrix(harness.random(), dtype, ta ? k : m, ta ? m : k);
    Matrix b = random_matrix(harness.random(), dtype, tb ? n : k, tb ? k : n);
    Matrix old = random_matrix(harness.random(), dtype, m, n);
    put(c, special, 'A', a);
    put(c, special, 'B', b);
    put(c, special, 'C', old);
    if (alpha == 0.0) a.v.assign(a.v.size(), kNan);
    if (beta == 0.0) old.v.assign(old.v.size(), kNan);
    Buffer& da = c.input(a);
    Buffer& db = c.input(b);
    Buffer& dc = c.output(old);
    c.expect_status(c.table().gemm(c.ctx(), dtype, ta, tb, m, n, k, alpha, da.data(), da.ld, db.data(), db.ld, beta,
                                   dc.data(), dc.ld));
    c.close(c.fetch(dc), product(a, ta, b, tb, alpha, beta, &old));
  });
}

}  // namespace

void cases_gemm(Harness& harness) {
  const std::vector<int64_t> all = edge_sizes(257);
  const std::vector<int64_t> edges = edge_sizes(65);
  size_t turn = 0;
  for (int dtype : kDtypes) {
    for (int flags = 0; flags < 4; ++flags) {
      const bool ta = (flags & 1) != 0, tb = (flags & 2) != 0;
      for (double value : {kNan, kInf}) {
        for (char operand : {'A', 'B', 'C'}) {
          const Special special = {operand, value};
          gemm_case(harness, dtype, ta, tb, 9, 7, 5, 1.0, 0.7, special);
          gemm_case(harness, dtype, ta, tb, 33, 1, 70, -1.0, 1.0, special);
          gemm_case(harness, dtype, ta, tb, 40, 67, 7, 0.7, 1.0, special);
          gemm_case(harness, dtype, ta, tb, 65, 70, 33, 1.0, -1.0, special);
        }
      }
      for (double alpha : kScalars) {
        for (double beta : kScalars) gemm_case(harness, dtype, ta, tb, 9, 17, 33, alpha, beta);
      }
      for (int64_t m : edges) {
        for (int64_t n : edges) {
          gemm_case(harness, dtype, ta, tb, m, n, edges[turn % edges.size()], kScalars[turn % 4],
                    kScalars[turn / 4 % 4]);
          ++turn;
        }
      }
      for (size_t t = 0; t < all.size(); ++t) {
        gemm_case(harness, dtype, ta, tb, all[t], all[(5 * t + 3) % all.size()], all[(7 * t + 11) % all.size()], 0.7,
                  t % 2 == 0 ? 1.0 : 0.0);
      }
      for (int64_t k : {200, 257}) gemm_case(harness, dtype, ta, tb, 129, 65, k, 1.0, -1.0);
      /* Few columns or terms, for which CPU tables have kernels of their own: every number of them, sides longer than
       * one of their blocks. */
      for (int64_t n = 1; n <= 18; ++n) gemm_case(harness, dtype, ta, tb, 29 + 17 * n, n, 19 * n, 0.7, 1.0);
      for (int64_t k = 1; k <= 9; ++k) gemm_case(harness, dtype, ta, tb, 40 + k, 37 * k, k, 0.7, 1.0);
      for (int64_t k : {1, 8}) gemm_case(harness, dtype, ta, tb, 5, 521, k, 0.7, 1.0);
      for (int64_t n : {1, 2, 16}) {
        gemm_case(harness, dtype, ta, tb, 65, n, 4099, -1.0, 0.7);
        gemm_case(harness, dtype, ta, tb, 4099, n, 65, -1.0, 0.7);
      }
    }
  }
}

/* --- gram ---------------------------------------------------------------------------------------------------- */

namespace {

void gram_case(Harness& harness, int dtype, bool trans, int64_t n, int64_t k, double alpha, double beta, double poison,
               Special special = Special()) {
  const std::string what = text("%s trans %d n %lld k %lld alpha %g beta %g upper %g%s", dtype_name(dtype), int{trans},
                                ll(n), ll(k), alpha, beta, poison, name_of(special).c_str());
  harness.run(what, [&](Case& c) {
    Matrix a = random_matrix(harness.random(), dtype, trans ? k : n, trans ? n : k);
    Matrix old = random_matrix(harness.random(), dtype, n, n);
    put(c, special, 'A', a);
    put(c, special, 'C', old);
    if (alpha == 0.0) a.v.assign(a.v.size(), kNan);
    if (beta == 0.0) old.v.assign(old.v.size(), kNan);
    poison_upper(old, poison);
    Buffer& da = c.input(a);
    Buffer& dc = c.output(old);
    c.expect_status(c.table().gram(c.ctx(), dtype, trans, n, k, alpha, da.data(), da.ld, beta, dc.data(), dc.ld));
    close_lower(c, c.fetch(dc), product(a, trans, a, !trans, alpha, beta, &old));
    c.upper_untouched(dc);
  });
}

}  // namespace

void cases_gram(Harness& harness) {
  const std::vector<int64_t> all = edge_sizes(257);
  const std::vector<int64_t> edges = edge_sizes(65);
  size_t turn = 0;
  for (int dtype : kDtypes) {
    for (bool trans : {false, true}) {
      for (double value : {kNan, kInf}) {
        for (char operand : {'A', 'C'}) {
          for (int64_t k : {3, 8, 33}) {
            gram_case(harness, dtype, trans, 17, k, 1.0, 0.7, 3.25, {operand, value});
            gram_case(harness, dtype, trans, 70, k, -1.0, 1.0, kNan, {operand, value});
          }
        }
      }
      for (double alpha : kScalars) {
        for (double beta : kScalars) gram_case(harness, dtype, trans, 17, 9, alpha, beta, beta == 0.0 ? kNan : 3.25);
      }
      for (int64_t n : edges) {
        for (int64_t k : edges) {
          gram_case(harness, dtype, trans, n, k, kScalars[turn % 4], kScalars[turn / 4 % 4],
                    turn % 2 == 0 ? kNan : 3.25);
          ++turn;
        }
      }
      for (size_t t = 0; t < all.size(); ++t) {
        gram_case(harness, dtype, trans, all[t], all[(5 * t + 3) % all.size()], 0.7, t % 2 == 0 ? 1.0 : 0.0, kNan);
      }
      gram_case(harness, dtype, trans, 257, 129, 1.0, 1.0, 3.25);
      for (int64_t k = 1; k <= 9; ++k) gram_case(harness, dtype, trans, 31 + 11 * k, k, 0.7, 1.0, 3.25);
      for (int64_t k : {1, 8}) gram_case(harness, dtype, trans, 521, k, 0.7, 1.0, 3.25);
    }
  }
}

/* --- csr_gemm ------------------------------------------------------------------------------------------------ */

namespace {

/* Empty rows, repeated and unsorted columns; the values are representable in value_dtype. */
Csr random_csr(Random& random, int value_dtype, int64_t rows, int64_t cols, double density) {
  Csr csr;
  csr.rows = rows;
  csr.cols = cols;
  csr.indptr.push_back(0);
  const auto most = static_cast<int64_t>(density * static_cast<double>(cols)) + 1;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t count = cols == 0 || r % 3 == 1 ? 0 : random.index(most + 1);
    for (int64_t t = 0; t < count; ++t) {
      const bool repeat = t > 0 && random.index(4) == 0;
      csr.indices.push_back(repeat ? csr.indices.back() : random.index(cols));
      csr.values.push_back(round_to(value_dtype, random.uniform(-1.0, 1.0)));
    }
    csr.indptr.push_back(static_cast<int64_t>(csr.indices.size()));
  }
  return csr;
}

Buffer& index_array(Case& c, int index_dtype, const std::vector<int64_t>& values) {
  if (index_dtype == GRAMIAN_I64) return c.array(values);
  std::vector<int32_t> narrow;
  for (int64_t value : values) narrow.push_back(static_cast<int32_t>(value));
  return c.array(narrow);
}

Buffer& value_array(Case& c, int value_dtype, const std::vector<double>& values) {
  if (value_dtype == GRAMIAN_F64) return c.array(values);
  std::vector<float> narrow;
  for (double value : values) narrow.push_back(static_cast<float>(value));
  return c.array(narrow);
}

/* Specials: in the values (V), in a row of B that some value meets (B), the same where that value is zero (0), in C. */
void csr_gemm_case(Harness& harness, int dtype, int value_dtype, int index_dtype, int64_t m, int64_t n, int64_t k,
                   double alpha, double beta, Special special = Special()) {
  const std::string what =
      text("%s values %s index %s m %lld n %lld k %lld alpha %g beta %g%s", dtype_name(dtype), dtype_name(value_dtype),
           dtype_name(index_dtype), ll(m), ll(n), ll(k), alpha, beta, name_of(special).c_str());
  harness.run(what, [&](Case& c) {
    Csr a = random_csr(harness.random(), value_dtype, m, k, 0.3);
    Matrix b = random_matrix(harness.random(), dtype, k, n);
    Matrix old = random_matrix(harness.random(), dtype, m, n);
    const size_t middle = a.values.size() / 2;
    if (special.operand == 'V') {
      a.values[middle] = special.value;
      if (std::isnan(special.value)) c.poisoned(value_dtype);
    }
    if (special.operand == '0') a.values[middle] = 0.0;
    if (special.operand == 'B' || special.operand == '0') c.poison(b, a.indices[middle], n / 2, special.value);
    put(c, special, 'C', old);
    if (alpha == 0.0) b.v.assign(b.v.size(), kNan);
    if (beta == 0.0) old.v.assign(old.v.size(), kNan);
    Buffer& indptr = index_array(c, index_dtype, a.indptr);
    Buffer& indices = index_array(c, index_dtype, a.indices);
    Buffer& values = value_array(c, value_dtype, a.values);
    Buffer& db = c.input(b);
    Buffer& dc = c.output(old);
    c.expect_status(c.table().csr_gemm(c.ctx(), dtype, value_dtype, index_dtype, m, n, k, alpha, indptr.data(),
                                       indices.data(), values.data(), db.data(), db.ld, beta, dc.data(), dc.ld));
    c.close(c.fetch(dc), csr_product(a, b, alpha, beta, &old));
  });
}

}  // namespace

void cases_csr_gemm(Harness& harness) {
  const std::vector<int64_t> all = edge_sizes(200);
  size_t turn = 0;
  for (int dtype : kDtypes) {
    for (int value_dtype : kDtypes) {
      for (int index_dtype : {GRAMIAN_I32, GRAMIAN_I64}) {
        for (double value : {kNan, kInf}) {
          for (char operand : {'V', 'B', '0', 'C'}) {
            for (int64_t n : {1, 9, 40, 70}) {
              csr_gemm_case(harness, dtype, value_dtype, index_dtype, 12, n, 31, 0.7, 1.0, {operand, value});
            }
          }
        }
        for (double alpha : kScalars) {
          for (double beta : kScalars) {
            csr_gemm_case(harness, dtype, value_dtype, index_dtype, 9, 17, 31, alpha, beta);
          }
        }
        for (int64_t n : all) {
          const size_t t = turn++;
          csr_gemm_case(harness, dtype, value_dtype, index_dtype, all[(5 * t + 3) % all.size()], n,
                        all[(7 * t + 2) % all.size()], kScalars[t % 4], kScalars[t / 4 % 4]);
        }
      }
    }
  }
}

/* --- potrf --------------------------------------------------------------------------------------------------- */

namespace {

/* X X' / n + ridge I, optionally graded by D = diag(2^(-i % 20)) on both sides: backward stability is scale-free. */
Matrix positive_definite(Random& random, int dtype, int64_t n, bool graded) {
  const Matrix x = random_matrix(random, dtype, n, n);
  const Estimate square = product(x, false, x, true, 1.0, 0.0, nullptr);
  Matrix a(dtype, n, n);
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      const double value = static_cast<double>(square.value[square.at(r, c)]) / static_cast<double>(n);
      const double grade = graded ? std::ldexp(1.0, -static_cast<int>(r % 20) - static_cast<int>(c % 20)) : 1.0;
      a(r, c) = round_to(dtype, (value + (r == c ? 0.1 : 0.0)) * grade);
    }
  }
  return a;
}

void potrf_case(Harness& harness, int dtype, int64_t n, bool graded, double poison) {
  harness.run(text("%s n %lld graded %d upper %g", dtype_name(dtype), ll(n), int{graded}, poison), [&](Case& c) {
    Matrix a = positive_definite(harness.random(), dtype, n, graded);
    poison_upper(a, poison);
    Buffer& da = c.output(a);
    c.expect_status(c.table().potrf(c.ctx(), dtype, n, da.data(), da.ld));
    const Matrix l = c.fetch(da);
    for (int64_t i = 0; i < n; ++i) c.expect(l(i, i) > 0.0, "diagonal element %lld is not positive", ll(i));
    // |A - L L'| <= gamma_{n+1} |L||L'| (Higham, Accuracy and Stability, theorem 10.3).
    Estimate square = lower_square(l);
    for (double& bound : square.bound) bound *= static_cast<double>(n + 1) * eps(dtype);
    close_lower(c, a, square);
    c.upper_untouched(da);
  });
}

/* I + S / (2 n) with |S| <= 1: every leading minor is positive, at the cost of n^2. */
Matrix near_identity(Random& random, int dtype, int64_t n) {
  Matrix a = random_matrix(random, dtype, n, n);
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = 0; c <= r; ++c) {
      a(r, c) = round_to(dtype, a(r, c) / (2.0 * static_cast<double>(n)) + (r == c ? 1.0 : 0.0));
    }
  }
  return a;
}

/* The leading minors before `pivot` are positive; the pivot itself is -1, 0, NaN, or NaN through its row. */
void potrf_failure_case(Harness& harness, int dtype, int64_t n, int64_t pivot, int kind) {
  static const char* const kinds[] = {"negative", "zero", "NaN", "NaN in the row"};
  harness.run(text("%s n %lld %s pivot %lld", dtype_name(dtype), ll(n), kinds[kind], ll(pivot)), [&](Case& c) {
    Matrix a = near_identity(harness.random(), dtype, n);
    if (kind == 0) a(pivot, pivot) = -1.0;
    if (kind == 1) {
      for (int64_t j = 0; j <= pivot; ++j) a(pivot, j) = 0.0;
    }
    if (kind == 2) c.poison(a, pivot, pivot);
    if (kind == 3) c.poison(a, pivot, pivot / 2);
    poison_upper(a, kNan);
    Buffer& da = c.output(a);
    c.expect_status(c.table().potrf(c.ctx(), dtype, n, da.data(), da.ld), static_cast<int>(pivot + 1));
    c.upper_untouched(da);
  });
}

}  // namespace

void cases_potrf(Harness& harness) {
  for (int dtype : kDtypes) {
    for (int64_t n : edge_sizes(257)) {
      for (bool graded : {false, true}) potrf_case(harness, dtype, n, graded, graded ? 3.25 : kNan);
      for (int kind = 0; kind < 4 && n > 0; ++kind) {
        for (int64_t pivot : {int64_t{0}, n / 2, n - 1}) {
          if (kind != 3 || pivot > 1) potrf_failure_case(harness, dtype, n, pivot, kind);
        }
      }
    }
  }
}

/* --- trsm ---------------------------------------------------------------------------------------------------- */

namespace {

Matrix triangular_factor(Random& random, int dtype, int64_t order) {
  Matrix l = random_matrix(random, dtype, order, order);
  for (int64_t i = 0; i < order; ++i) {
    // Off-diagonal entries of size 1/sqrt(order) keep the solution of the size of B, whatever the order.
    for (int64_t j = 0; j < i; ++j) l(i, j) = round_to(dtype, l(i, j) / std::sqrt(static_cast<double>(order)));
    l(i, i) = round_to(dtype, (i % 3 == 0 ? -1.5 : 1.5) + 0.5 * l(i, i));
  }
  poison_upper(l, kNan);
  return l;
}

/* A NaN in L or in B. Substitution runs over the rows of X on the left, over its columns on the right; upwards for L
 * from the left and L' from the right. A NaN of B, in the last column (left) or row (right), takes what follows of that
 * column or row; one of L takes what follows in all of them. What comes before is open there, because OpenBLAS's kernel
 * for float32 on Haswell multiplies the blocks it solves with zeros; all else is solved as ever. */
void trsm_nan_case(Harness& harness, int dtype, bool right, bool trans, int64_t m, int64_t n, bool in_factor) {
  const std::string what = text("%s %s trans %d m %lld n %lld NaN in %s", dtype_name(dtype), right ? "right" : "left",
                                int{trans}, ll(m), ll(n), in_factor ? "L" : "B");
  harness.run(what, [&](Case& c) {
    const int64_t order = right ? n : m;
    Matrix l = triangular_factor(harness.random(), dtype, order);
    Matrix b = random_matrix(harness.random(), dtype, m, n);
    const int64_t row = in_factor ? 2 * order / 3 : right ? m - 1 : m / 2;
    const int64_t col = in_factor ? order / 3 : right ? n / 2 : n - 1;
    c.poison(in_factor ? l : b, row, col);
    Buffer& dl = c.input(l);
    Buffer& db = c.output(b);
    c.expect_status(c.table().trsm(c.ctx(), dtype, right ? GRAMIAN_RIGHT : GRAMIAN_LEFT, trans, m, n, dl.data(), dl.ld,
                                   db.data(), db.ld));
    const bool upwards = right == trans;
    const int64_t first = in_factor ? (upwards ? row : col) : (right ? col : row);
    const Matrix x = c.fetch(db);
    Matrix known = x;
    std::vector<bool> nan;
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t j = 0; j < n; ++j) {
        const int64_t step = right ? j : r;
        const bool met = in_factor || (right ? r == row : j == col);
        const bool follows = upwards ? step >= first : step <= first;
        nan.push_back(met && (follows || std::isnan(x(r, j))));
        if (met) b(r, j) = known(r, j) = 0.0;
      }
    }
    c.pattern(x, nan);
    if (in_factor) return;
    Estimate residual = triangular_product(l, right, trans, known);
    for (double& bound : residual.bound) bound *= static_cast<double>(order + 1) * eps(dtype);
    c.close(b, residual);
  });
}

void trsm_case(Harness& harness, int dtype, bool right, bool trans, int64_t m, int64_t n) {
  const std::string what =
      text("%s %s trans %d m %lld n %lld", dtype_name(dtype), right ? "right" : "left", int{trans}, ll(m), ll(n));
  harness.run(what, [&](Case& c) {
    const int64_t order = right ? n : m;
    const Matrix l = triangular_factor(harness.random(), dtype, order);
    const Matrix b = random_matrix(harness.random(), dtype, m, n);
    Buffer& dl = c.input(l);
    Buffer& db = c.output(b);
    c.expect_status(c.table().trsm(c.ctx(), dtype, right ? GRAMIAN_RIGHT : GRAMIAN_LEFT, trans, m, n, dl.data(), dl.ld,
                                   db.data(), db.ld));
    const Matrix x = c.fetch(db);
    for (double value : x.v) c.expect(std::isfinite(value), "the solution is not finite");
    // |op(L) X - B| <= gamma_n |op(L)||X| for substitution in any order (Higham, theorem 8.5).
    Estimate residual = triangular_product(l, right, trans, x);
    for (double& bound : residual.bound) bound *= static_cast<double>(order + 1) * eps(dtype);
    c.close(b, residual);
  });
}

}  // namespace

void cases_trsm(Harness& harness) {
  const std::vector<int64_t> all = edge_sizes(257);
  const std::vector<int64_t> edges = edge_sizes(33);
  for (int dtype : kDtypes) {
    for (int flags = 0; flags < 4; ++flags) {
      const bool right = (flags & 1) != 0, trans = (flags & 2) != 0;
      for (bool in_factor : {false, true}) {
        for (int64_t n : {1, 5, 16}) trsm_nan_case(harness, dtype, right, trans, 40, n, in_factor);
        trsm_nan_case(harness, dtype, right, trans, 9, 33, in_factor);
        trsm_nan_case(harness, dtype, right, trans, 70, 129, in_factor);
      }
      for (int64_t m : edges) {
        for (int64_t n : edges) trsm_case(harness, dtype, right, trans, m, n);
      }
      for (size_t t = 0; t < all.size(); ++t) {
        trsm_case(harness, dtype, right, trans, all[t], all[(5 * t + 3) % all.size()]);
      }
      trsm_case(harness, dtype, right, trans, 257, 129);
      trsm_case(harness, dtype, right, trans, 65, 200);
      // Few columns, for which CPU tables have kernels of their own: every number of them, orders around their largest.
      for (int64_t n = 1; n <= 18; ++n) trsm_case(harness, dtype, right, trans, right ? 62 : 61 + n % 5, n);
    }
  }
}

/* --- syevd --------------------------------------------------------------------------------------------------- */

namespace {

enum Spectrum { kRandom, kDiagonal, kZero, kRankOne, kRepeated, kLarge, kSpectra };

Matrix symmetric(Random& random, int dtype, int64_t n, int spectrum) {
  const Matrix x = random_matrix(random, dtype, n, n);
  Matrix a(dtype, n, n);
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = 0; c <= r; ++c) {
      double value = x(r, c);
      if (spectrum == kDiagonal) value = r == c ? static_cast<double>((7 * r) % 5) - 2.0 : 0.0;
      if (spectrum == kZero) value = 0.0;
      if (spectrum == kRankOne) value = x(r, 0) * x(c, 0);
      if (spectrum == kRepeated) value = (r == c ? 3.0 : 0.0) + 0.5 * x(r, 0) * x(c, 0);
      if (spectrum == kLarge) value *= 0x1p40;
      a(r, c) = a(c, r) = round_to(dtype, value);
    }
  }
  return a;
}

/* Rows of `v` against `w` and A: order, unit length, orthogonality and residual, each within 8 n eps. A Householder
 * reduction and implicit QR (or divide and conquer) are backward stable with a bound of a modest multiple of n u
 * times the norm of A; the Frobenius norm is taken because it is known exactly. */
void check_eigen(Case& c, const Matrix& a, const Matrix& v, const std::vector<double>& w) {
  const int64_t n = a.rows;
  double norm = 0.0;
  for (double value : a.v) norm += value * value;
  norm = std::sqrt(norm);
  const double small = 8.0 * static_cast<double>(n) * eps(a.dtype);
  for (int64_t i = 1; i < n; ++i) {
    const auto t = static_cast<size_t>(i);
    c.expect(w[t - 1] <= w[t], "eigenvalues %lld and %lld are out of order", ll(i - 1), ll(i));
  }
  Estimate gram = product(v, false, v, true, 1.0, 0.0, nullptr);
  Estimate image = product(v, false, a, false, 1.0, 0.0, nullptr);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const double off = static_cast<double>(std::fabs(gram.value[gram.at(i, j)] - (i == j ? 1.0L : 0.0L)));
      c.expect(off <= small, "eigenvectors %lld and %lld: inner product off by %.3g", ll(i), ll(j), off);
      const long double scaled = static_cast<long double>(w[static_cast<size_t>(i)]) * v(i, j);
      const double residual = static_cast<double>(std::fabs(image.value[image.at(i, j)] - scaled));
      c.expect(residual <= small * norm, "residual of eigenpair %lld is %.3g", ll(i), residual);
    }
  }
}

void syevd_case(Harness& harness, int dtype, int64_t n, int spectrum) {
  harness.run(text("%s n %lld spectrum %d", dtype_name(dtype), ll(n), spectrum), [&](Case& c) {
    const Matrix a = symmetric(harness.random(), dtype, n, spectrum);
    Matrix poisoned = a;
    poison_upper(poisoned, kNan);
    Buffer& da = c.output(poisoned);
    Buffer& dw = c.output(Matrix(dtype, 1, n, kNan));
    c.expect_status(c.table().syevd(c.ctx(), dtype, n, da.data(), da.ld, dw.data()));
    const Matrix w = c.fetch(dw);
    c.numbers(w);
    check_eigen(c, a, c.fetch(da), w.v);
  });
}

}  // namespace

void cases_syevd(Harness& harness) {
  for (int dtype : kDtypes) {
    for (int64_t n : edge_sizes(129)) {
      for (int spectrum = 0; spectrum < kSpectra; ++spectrum) {
        if (n <= 33 || spectrum == kRandom || spectrum == kRepeated) syevd_case(harness, dtype, n, spectrum);
      }
    }
    syevd_case(harness, dtype, 200, kRandom);
    for (int64_t n : {5, 65}) {
      for (double value : {kNan, kInf}) {
        harness.run(text("%s n %lld %g is refused", dtype_name(dtype), ll(n), value), [&](Case& c) {
          Matrix a = symmetric(harness.random(), dtype, n, kRandom);
          c.poison(a, n - 2, 1, value);
          Buffer& da = c.output(a);
          Buffer& dw = c.output(Matrix(dtype, 1, n));
          c.expect_status(c.table().syevd(c.ctx(), dtype, n, da.data(), da.ld, dw.data()),
                          GRAMIAN_STATUS_NO_CONVERGENCE);
        });
      }
    }
  }
}

}  // namespace conformance
