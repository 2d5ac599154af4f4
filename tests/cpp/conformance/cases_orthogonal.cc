/* Orthogonal factorisations and the sweep of the normal equations: geqrf, ormqr, gesvd, normal_sweep. */
#include <cmath>
#include <limits>
#include <utility>

#include "case.h"

namespace conformance {

namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();
const int kDtypes[] = {GRAMIAN_F32, GRAMIAN_F64};

using Wide = std::vector<long double>;

enum Kind { kRandom, kGraded, kRankOne, kZero, kRepeated, kLarge, kKinds };

Matrix matrix_of_kind(Random& random, int dtype, int64_t m, int64_t n, int kind) {
  const Matrix x = random_matrix(random, dtype, m, n);
  Matrix a(dtype, m, n);
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      double value = x(r, c);
      if (kind == kGraded) value = std::ldexp(value, -static_cast<int>(c % 20));
      if (kind == kRankOne) value = x(r, 0) * x(0, c);
      if (kind == kZero) value = 0.0;
      if (kind == kRepeated) value = c == 0 ? value : x(r, c - c % 3);
      if (kind == kLarge) value *= 0x1p40;
      a(r, c) = round_to(dtype, value);
    }
  }
  return a;
}

/* c (rows of n values) = H_i c for reflector i in the columns of a. */
void reflect(const Matrix& a, const std::vector<double>& tau, int64_t i, int64_t n, Wide& c) {
  for (int64_t j = 0; j < n; ++j) {
    long double sum = c[static_cast<size_t>(i * n + j)];
    for (int64_t r = i + 1; r < a.rows; ++r) sum += a(r, i) * c[static_cast<size_t>(r * n + j)];
    sum *= tau[static_cast<size_t>(i)];
    c[static_cast<size_t>(i * n + j)] -= sum;
    for (int64_t r = i + 1; r < a.rows; ++r) c[static_cast<size_t>(r * n + j)] -= a(r, i) * sum;
  }
}

double column_norm(const Matrix& a, int64_t j) {
  double sum = 0.0;
  for (int64_t r = 0; r < a.rows; ++r) sum += a(r, j) * a(r, j);
  return std::sqrt(sum);
}

double frobenius(const Matrix& a) {
  double sum = 0.0;
  for (double value : a.v) sum += value * value;
  return std::sqrt(sum);
}

/* Householder's method is backward stable column by column, with a modest multiple of m u in practice (Higham, Accuracy
 * and Stability, theorem 19.4 and the remarks there); the same constant as for the eigenproblem is taken. */
double small_of(int dtype, int64_t m, int64_t n) {
  return 8.0 * static_cast<double>(m > n ? m : n) * eps(dtype);
}

/* The first `columns` columns of Q R, of their reflectors, against those of A: later ones do not touch them. */
void check_columns(Case& c, const Matrix& a, const Matrix& qr, const std::vector<double>& tau, int64_t columns) {
  const int64_t m = a.rows, n = a.cols, k = m < columns ? m : columns;
  const double small = small_of(a.dtype, m, n);
  for (int64_t i = 0; i < k; ++i) {
    // H is orthogonal when tau (v'v) = 2 or tau = 0.
    long double square = 1.0L;
    for (int64_t r = i + 1; r < m; ++r) square += static_cast<long double>(qr(r, i)) * qr(r, i);
    const double t = tau[static_cast<size_t>(i)];
    const double off = static_cast<double>(std::fabs(t * (t * square - 2.0L)));
    c.expect(off <= small, "reflector %lld is off orthogonality by %.3g", ll(i), off);
  }
  Wide product(static_cast<size_t>(m * columns), 0.0L);
  for (int64_t r = 0; r < k; ++r) {
    for (int64_t j = r; j < columns; ++j) product[static_cast<size_t>(r * columns + j)] = qr(r, j);
  }
  for (int64_t i = k - 1; i >= 0; --i) reflect(qr, tau, i, columns, product);
  for (int64_t j = 0; j < columns; ++j) {
    const double norm = column_norm(a, j);
    for (int64_t r = 0; r < m; ++r) {
      const double off = static_cast<double>(std::fabs(product[static_cast<size_t>(r * columns + j)] - a(r, j)));
      c.expect(off <= small * norm, "[%lld, %lld] of Q R is off by %.3g", ll(r), ll(j), off);
    }
  }
}

void geqrf_case(Harness& harness, int dtype, int64_t m, int64_t n, int kind) {
  harness.run(text("%s m %lld n %lld kind %d", dtype_name(dtype), ll(m), ll(n), kind), [&](Case& c) {
    const Matrix a = matrix_of_kind(harness.random(), dtype, m, n, kind);
    Buffer& da = c.output(a);
    Buffer& dtau = c.output(Matrix(dtype, 1, m < n ? m : n, kNan));
    c.expect_status(c.table().geqrf(c.ctx(), dtype, m, n, da.data(), da.ld, dtau.data()));
    const Matrix tau = c.fetch(dtau);
    c.numbers(tau);
    check_columns(c, a, c.fetch(da), tau.v, n);
  });
}

/* The columns before that of the NaN are what they would be. All of R in its own column is NaN, and of later columns
 * the rows that its reflector reaches; the rows above those are open. */
void geqrf_nan_case(Harness& harness, int dtype, int64_t m, int64_t n, int64_t col) {
  harness.run(text("%s m %lld n %lld NaN in column %lld", dtype_name(dtype), ll(m), ll(n), ll(col)), [&](Case& c) {
    const int64_t k = m < n ? m : n;
    Matrix a = random_matrix(harness.random(), dtype, m, n);
    c.poison(a, m / 2, col);
    Buffer& da = c.output(a);
    Buffer& dtau = c.output(Matrix(dtype, 1, k, kNan));
    c.expect_status(c.table().geqrf(c.ctx(), dtype, m, n, da.data(), da.ld, dtau.data()));
    const Matrix qr = c.fetch(da), tau = c.fetch(dtau);
    std::vector<bool> nan;
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t j = 0; j < n; ++j) {
        const bool of_r = r <= j, reached = j == col || (j > col && r >= col);
        nan.push_back(of_r && reached ? true : j < col ? false : std::isnan(qr(r, j)));
      }
    }
    c.pattern(qr, nan);
    check_columns(c, a, qr, tau.v, col);
  });
}

}  // namespace

void cases_geqrf(Harness& harness) {
  const std::vector<int64_t> all = edge_sizes(129);
  for (int dtype : kDtypes) {
    for (int64_t col : {0, 3, 8}) {
      geqrf_nan_case(harness, dtype, 12, 9, col);
      geqrf_nan_case(harness, dtype, 7, 9, col);
      geqrf_nan_case(harness, dtype, 65, 33, 4 * col);
      geqrf_nan_case(harness, dtype, 129, 129, 15 * col);
    }
    for (int64_t m : edge_sizes(33)) {
      for (int64_t n : edge_sizes(33)) geqrf_case(harness, dtype, m, n, kRandom);
    }
    for (size_t t = 0; t < all.size(); ++t) geqrf_case(harness, dtype, all[t], all[(5 * t + 3) % all.size()], kRandom);
    for (int kind = 0; kind < kKinds; ++kind) {
      geqrf_case(harness, dtype, 65, 17, kind);
      geqrf_case(harness, dtype, 17, 33, kind);
      geqrf_case(harness, dtype, 200, 65, kind);
    }
    geqrf_case(harness, dtype, 129, 129, kRandom);
  }
}

/* --- ormqr --------------------------------------------------------------------------------------------------- */

namespace {

/* operand: where a NaN stands, in C, in the vectors V or in tau T; 0 for none. One of C takes its own column. One of a
 * reflector takes all rows from that reflector's on, and with Q, which goes back to the first reflector, the rows above
 * as well. With Q' those are open. */
void ormqr_case(Harness& harness, int dtype, bool trans, int64_t m, int64_t n, int64_t k, char operand = 0) {
  const std::string what = text("%s trans %d m %lld n %lld k %lld%s%c", dtype_name(dtype), int{trans}, ll(m), ll(n),
                                ll(k), operand != 0 ? " NaN in " : "", operand != 0 ? operand : ' ');
  harness.run(what, [&](Case& c) {
    Matrix a = random_matrix(harness.random(), dtype, m, k);
    Matrix tau(dtype, 1, k);
    for (int64_t i = 0; i < k; ++i) {
      double square = 1.0;
      for (int64_t r = i + 1; r < m; ++r) square += a(r, i) * a(r, i);
      tau(0, i) = i % 5 == 4 ? 0.0 : round_to(dtype, 2.0 / square);
      for (int64_t r = 0; r <= i; ++r) a(r, i) = kNan;  // R stands there
    }
    Matrix old = random_matrix(harness.random(), dtype, m, n);
    const int64_t bad = k / 2;
    if (operand == 'C') c.poison(old, m / 2, n / 2);
    if (operand == 'V') c.poison(a, m - 1, bad);
    if (operand == 'T') c.poison(tau, 0, bad);
    Buffer& da = c.input(a);
    Buffer& dtau = c.input(tau);
    Buffer& dc = c.output(old);
    c.expect_status(c.table().ormqr(c.ctx(), dtype, trans, m, n, k, da.data(), da.ld, dtau.data(), dc.data(), dc.ld));
    Wide product(old.v.begin(), old.v.end());
    for (int64_t i = 0; i < k; ++i) reflect(a, tau.v, trans ? i : k - 1 - i, n, product);
    const Matrix got = c.fetch(dc);
    Estimate want(m, n);
    want.value = product;
    for (int64_t j = 0; j < n; ++j) {
      const double bound = small_of(dtype, m, k) * column_norm(old, j);
      for (int64_t r = 0; r < m; ++r) {
        const bool open = trans && operand != 0 && operand != 'C' && r < bad;
        if (open) want.value[want.at(r, j)] = got(r, j);
        want.bound[want.at(r, j)] = bound;
      }
    }
    c.close(got, want);
  });
}

}  // namespace

void cases_ormqr(Harness& harness) {
  const std::vector<int64_t> all = edge_sizes(129);
  for (int dtype : kDtypes) {
    for (bool trans : {false, true}) {
      for (char operand : {'C', 'V', 'T'}) {
        ormqr_case(harness, dtype, trans, 9, 5, 4, operand);
        ormqr_case(harness, dtype, trans, 33, 17, 33, operand);
        ormqr_case(harness, dtype, trans, 129, 40, 65, operand);
      }
      for (int64_t m : edge_sizes(17)) {
        for (int64_t n : edge_sizes(17)) {
          for (int64_t k : {int64_t{0}, int64_t{1}, m / 2, m}) {
            if (k <= m) ormqr_case(harness, dtype, trans, m, n, k);
          }
        }
      }
      for (size_t t = 0; t < all.size(); ++t) {
        const int64_t m = all[t], k = all[(7 * t + 11) % all.size()];
        ormqr_case(harness, dtype, trans, m, all[(5 * t + 3) % all.size()], k < m ? k : m);
      }
      ormqr_case(harness, dtype, trans, 200, 33, 65);
      ormqr_case(harness, dtype, trans, 129, 1, 129);
    }
  }
}

/* --- gesvd --------------------------------------------------------------------------------------------------- */

namespace {

void check_orthonormal(Case& c, const Matrix& rows, bool columns, double small, const char* name) {
  const Estimate gram = product(rows, columns, rows, !columns, 1.0, 0.0, nullptr);
  for (int64_t i = 0; i < gram.rows; ++i) {
    for (int64_t j = 0; j < gram.cols; ++j) {
      const double off = static_cast<double>(std::fabs(gram.value[gram.at(i, j)] - (i == j ? 1.0L : 0.0L)));
      c.expect(off <= small, "%s vectors %lld and %lld: inner product off by %.3g", name, ll(i), ll(j), off);
    }
  }
}

void gesvd_case(Harness& harness, int dtype, int64_t m, int64_t n, int kind) {
  harness.run(text("%s m %lld n %lld kind %d", dtype_name(dtype), ll(m), ll(n), kind), [&](Case& c) {
    const int64_t k = m < n ? m : n;
    const Matrix a = matrix_of_kind(harness.random(), dtype, m, n, kind);
    Buffer& da = c.output(a);
    Buffer& ds = c.output(Matrix(dtype, 1, k, kNan));
    Buffer& du = c.output(Matrix(dtype, m, k, kNan));
    Buffer& dvt = c.output(Matrix(dtype, k, n, kNan));
    c.expect_status(
        c.table().gesvd(c.ctx(), dtype, m, n, da.data(), da.ld, ds.data(), du.data(), du.ld, dvt.data(), dvt.ld));
    if (k == 0) return;
    const Matrix values = c.fetch(ds), u = c.fetch(du), vt = c.fetch(dvt);
    for (const Matrix& part : {values, u, vt}) c.numbers(part);
    const std::vector<double>& s = values.v;
    const double small = small_of(dtype, m, n);
    for (int64_t i = 0; i < k; ++i) {
      const auto t = static_cast<size_t>(i);
      c.expect(s[t] >= 0.0 && (i == 0 || s[t] <= s[t - 1]), "singular value %lld is negative or out of order", ll(i));
    }
    check_orthonormal(c, u, true, small, "left");
    check_orthonormal(c, vt, false, small, "right");
    const double norm = frobenius(a);
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t j = 0; j < n; ++j) {
        long double sum = -static_cast<long double>(a(r, j));
        for (int64_t i = 0; i < k; ++i) sum += static_cast<long double>(u(r, i)) * s[static_cast<size_t>(i)] * vt(i, j);
        const double off = static_cast<double>(std::fabs(sum));
        c.expect(off <= small * norm, "[%lld, %lld] of U diag(s) Vt is off by %.3g", ll(r), ll(j), off);
      }
    }
  });
}

void gesvd_refusal_case(Harness& harness, int dtype, int64_t m, int64_t n, double value) {
  harness.run(text("%s m %lld n %lld %g is refused", dtype_name(dtype), ll(m), ll(n), value), [&](Case& c) {
    const int64_t k = m < n ? m : n;
    Matrix a = random_matrix(harness.random(), dtype, m, n);
    c.poison(a, m - 1, n / 2, value);
    Buffer& da = c.output(a);
    Buffer& ds = c.output(Matrix(dtype, 1, k));
    Buffer& du = c.output(Matrix(dtype, m, k));
    Buffer& dvt = c.output(Matrix(dtype, k, n));
    c.expect_status(
        c.table().gesvd(c.ctx(), dtype, m, n, da.data(), da.ld, ds.data(), du.data(), du.ld, dvt.data(), dvt.ld),
        GRAMIAN_STATUS_NO_CONVERGENCE);
  });
}

}  // namespace

void cases_gesvd(Harness& harness) {
  const std::vector<int64_t> all = edge_sizes(129);
  for (int dtype : kDtypes) {
    for (int64_t m : edge_sizes(17)) {
      for (int64_t n : edge_sizes(17)) gesvd_case(harness, dtype, m, n, kRandom);
    }
    for (int kind = 0; kind < kKinds; ++kind) {
      gesvd_case(harness, dtype, 33, 33, kind);
      gesvd_case(harness, dtype, 65, 17, kind);
      gesvd_case(harness, dtype, 17, 65, kind);
    }
    for (size_t t = 0; t < all.size(); t += 3) {
      gesvd_case(harness, dtype, all[t], all[(5 * t + 3) % all.size()], kRandom);
    }
    gesvd_case(harness, dtype, 129, 65, kRandom);
    for (const auto& [m, n] : {std::pair<int64_t, int64_t>{20, 5}, {5, 20}, {65, 33}, {33, 65}}) {
      for (double value : {kNan, kInf}) gesvd_refusal_case(harness, dtype, m, n, value);
    }
  }
}

/* --- normal_sweep -------------------------------------------------------------------------------------------- */

namespace {

/* `special` stands in the middle of the operand of that letter: the matrix A, the vectors x, b and g. */
void normal_sweep_case(Harness& harness, int dtype, int64_t rows, int64_t cols, bool with_b, char operand = 0,
                       double special = 0.0) {
  const std::string what = text("%s rows %lld cols %lld b %d%s", dtype_name(dtype), ll(rows), ll(cols), int{with_b},
                                operand == 0 ? "" : text(" %g in %c", special, operand).c_str());
  harness.run(what, [&](Case& c) {
    Matrix a = random_matrix(harness.random(), dtype, rows, cols);
    Matrix x = random_matrix(harness.random(), GRAMIAN_F64, 1, cols);
    Matrix b = random_matrix(harness.random(), GRAMIAN_F64, 1, rows);
    Matrix old = random_matrix(harness.random(), GRAMIAN_F64, 1, cols);
    if (operand == 'A') c.poison(a, rows / 2, cols / 2, special);
    if (operand == 'x') c.poison(x, 0, cols / 2, special);
    if (operand == 'b') c.poison(b, 0, rows / 2, special);
    if (operand == 'g') c.poison(old, 0, cols / 2, special);
    Buffer& da = c.input(a);
    Buffer& dx = c.input(x);
    Buffer& db = c.input(b);
    Buffer& dr = c.output(Matrix(GRAMIAN_F64, 1, rows, kNan));
    Buffer& dg = c.output(old);
    c.expect_status(c.table().normal_sweep(c.ctx(), dtype, rows, cols, da.data(), da.ld,
                                           static_cast<const double*>(dx.data()),
                                           with_b ? static_cast<const double*>(db.data()) : nullptr,
                                           static_cast<double*>(dr.data()), static_cast<double*>(dg.data())));
    const double unit = eps(GRAMIAN_F64);
    Estimate r(1, rows), g(1, cols);
    for (int64_t i = 0; i < rows; ++i) {
      const auto t = static_cast<size_t>(i);
      long double value = with_b ? b.v[t] : 0.0;
      double size = with_b ? std::fabs(b.v[t]) : 0.0;
      for (int64_t j = 0; j < cols; ++j) {
        value -= static_cast<long double>(a(i, j)) * x.v[static_cast<size_t>(j)];
        size += std::fabs(a(i, j) * x.v[static_cast<size_t>(j)]);
      }
      r.value[t] = value;
      r.bound[t] = static_cast<double>(cols + 3) * unit * size;
    }
    for (int64_t j = 0; j < cols; ++j) {
      const auto t = static_cast<size_t>(j);
      long double value = old.v[t];
      double size = std::fabs(old.v[t]), inherited = 0.0;
      for (int64_t i = 0; i < rows; ++i) {
        const auto at = static_cast<size_t>(i);
        value += a(i, j) * r.value[at];
        size += std::fabs(a(i, j)) * static_cast<double>(std::fabs(r.value[at]));
        inherited += std::fabs(a(i, j)) * r.bound[at];
      }
      g.value[t] = value;
      g.bound[t] = static_cast<double>(rows + 3) * unit * size + inherited * (1.0 + unit * static_cast<double>(rows));
    }
    c.close(c.fetch(dr), r);
    c.close(c.fetch(dg), g);
  });
}

}  // namespace

void cases_normal_sweep(Harness& harness) {
  for (int dtype : kDtypes) {
    for (double special : {kNan, kInf}) {
      for (char operand : {'A', 'x', 'b', 'g'}) {
        normal_sweep_case(harness, dtype, 11, 9, true, operand, special);
        normal_sweep_case(harness, dtype, 8, 70, true, operand, special);
      }
    }
    for (int64_t rows : edge_sizes(65)) {
      for (int64_t cols : edge_sizes(65)) normal_sweep_case(harness, dtype, rows, cols, (rows + cols) % 2 == 0);
    }
    normal_sweep_case(harness, dtype, 2500, 129, true);
    normal_sweep_case(harness, dtype, 257, 257, false);
  }
}

}  // namespace conformance
