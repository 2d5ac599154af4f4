/* QR factorisation by Householder reflections on Eigen, and the singular value decomposition by Jacobi rotations, in
 * double for both types. */
#include <cmath>

#include "eigen_views.h"
// Eigen's headers below need the configuration above.
#include <Eigen/Householder>
#include <Eigen/QR>

namespace {

using MatrixRef = Eigen::Ref<RowMajor<double>, Eigen::Unaligned, Eigen::OuterStride<>>;

int geqrf(gramian_context*, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* tau) {
  if (m == 0 || n == 0) return GRAMIAN_STATUS_OK;
  return guarded(dtype, [&](auto zero) {
    using T = decltype(zero);
    InDouble<T> matrix(view<T>(a, m, n, lda)), factors(view<T>(tau, 1, m < n ? m : n, n));
    MatrixRef reference(matrix.view());
    const Eigen::HouseholderQR<MatrixRef> qr(reference);
    factors.view() = qr.hCoeffs().transpose();
    matrix.write_back();
    factors.write_back();
    return GRAMIAN_STATUS_OK;
  });
}

/* c = op(Q) c */
void apply_reflectors(int trans, ConstView<double> vectors, const double* tau, View<double> c) {
  const Eigen::Map<const Column<double>> factors(tau, vectors.cols());
  const auto q = Eigen::householderSequence(vectors, factors);
  if (trans != 0) {
    c.applyOnTheLeft(q.transpose());
  } else {
    c.applyOnTheLeft(q);
  }
}

int ormqr(gramian_context*, int dtype, int trans, int64_t m, int64_t n, int64_t k, const void* a, int64_t lda,
          const void* tau, void* c, int64_t ldc) {
  if (k > m) return GRAMIAN_STATUS_INVALID;
  if (m == 0 || n == 0 || k == 0) return GRAMIAN_STATUS_OK;
  return guarded(dtype, [&](auto zero) {
    using T = decltype(zero);
    const InDouble<const T> vectors(const_view<T>(a, m, k, lda)), factors(const_view<T>(tau, 1, k, k));
    InDouble<T> target(view<T>(c, m, n, ldc));
    apply_reflectors(trans, vectors.view(), factors.view().data(), target.view());
    target.write_back();
    return GRAMIAN_STATUS_OK;
  });
}

/* --- one-sided Jacobi ---------------------------------------------------------------------------------------------
 * Rotations of pairs of rows make the rows of W orthogonal: J W = diag(s) Z. Slower than divide and conquer for large
 * matrices, and exact to working precision in every singular vector that the matrix determines. */

double dot(const double* x, const double* y, int64_t n) {
  constexpr int64_t lanes = kLanes<double>;
  Vector<double> even = {}, odd = {};
  int64_t c = 0;
  for (; c + 2 * lanes <= n; c += 2 * lanes) {
    even += load<Vector<double>>(x + c) * load<Vector<double>>(y + c);
    odd += load<Vector<double>>(x + c + lanes) * load<Vector<double>>(y + c + lanes);
  }
  const Vector<double> sum = even + odd;
  double total = 0;
  for (int64_t lane = 0; lane < lanes; ++lane) total += sum[lane];
  for (; c < n; ++c) total += x[c] * y[c];
  return total;
}

/* (x, y) = (c x - s y, s x + c y) */
void rotate(double* x, double* y, int64_t n, double c, double s) {
  constexpr int64_t lanes = kLanes<double>;
  int64_t j = 0;
  for (; j + lanes <= n; j += lanes) {
    const Vector<double> a = load<Vector<double>>(x + j), b = load<Vector<double>>(y + j);
    store(x + j, c * a - s * b);
    store(y + j, s * a + c * b);
  }
  for (; j < n; ++j) {
    const double a = x[j], b = y[j];
    x[j] = c * a - s * b;
    y[j] = s * a + c * b;
  }
}

void swap_rows(View<double> w, int64_t i, int64_t j) {
  w.row(i).swap(w.row(j));
}

/* A row this far below the largest is rounding of it: no direction of it means anything. */
double negligible(double largest) {
  return 1e-3 * Eigen::NumTraits<double>::epsilon() * largest;
}

/* Rows of w (k x n, largest entry of the order of 1) made orthogonal but for those that are rounding; j (k x k), the
 * identity at first, follows. False when 60 sweeps were not enough, which no finite matrix is known to need. */
bool orthogonalise_rows(View<double> w, View<double> j) {
  const int64_t k = w.rows(), n = w.cols();
  const double small = Eigen::NumTraits<double>::epsilon() * std::sqrt(static_cast<double>(n));
  for (int sweep = 0; sweep < 60; ++sweep) {
    bool rotated = false;
    double largest = 0;
    for (int64_t p = 0; p < k; ++p) {
      const double square = dot(&w(p, 0), &w(p, 0), n);
      largest = square > largest ? square : largest;
    }
    const double floor = negligible(std::sqrt(largest));
    for (int64_t p = 0; p + 1 < k; ++p) {
      for (int64_t q = p + 1; q < k; ++q) {
        double *x = &w(p, 0), *y = &w(q, 0);
        double a = dot(x, x, n), b = dot(y, y, n);
        if (a < b) {  // larger rows first: the order the result has, and fewer sweeps
          swap_rows(w, p, q);
          swap_rows(j, p, q);
          const double t = a;
          a = b;
          b = t;
        }
        // Rows that depend on others exactly would shrink from sweep to sweep and never be done.
        if (std::sqrt(b) <= floor) continue;
        const double g = dot(x, y, n);
        if (!(std::fabs(g) > small * std::sqrt(a) * std::sqrt(b))) continue;
        rotated = true;
        const double zeta = (b - a) / (2 * g);
        const double t = (zeta >= 0 ? 1.0 : -1.0) / (std::fabs(zeta) + std::sqrt(1 + zeta * zeta));
        const double c = 1 / std::sqrt(1 + t * t), s = c * t;
        rotate(x, y, n, c, s);
        rotate(&j(p, 0), &j(q, 0), k, c, s);
      }
    }
    if (!rotated) return true;
  }
  return false;
}

/* Row i of w becomes a unit vector orthogonal to the rows before it: where the singular value is zero, any will do. */
void complete_row(View<double> w, int64_t i) {
  const int64_t n = w.cols();
  for (int64_t candidate = 0; candidate < n; ++candidate) {
    w.row(i).setZero();
    w(i, (i + candidate) % n) = 1;
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t p = 0; p < i; ++p) w.row(i) -= dot(&w(i, 0), &w(p, 0), n) * w.row(p);
    }
    const double norm = std::sqrt(dot(&w(i, 0), &w(i, 0), n));
    if (norm * norm * static_cast<double>(n) < 0.5) continue;  // some unit vector keeps at least 1 / n of its length
    w.row(i) *= 1 / norm;
    return;
  }
}

/* s and unit rows from orthogonal rows, in descending order; scale undoes that of the matrix. */
void take_values(View<double> w, View<double> j, double scale, double* s) {
  const int64_t k = w.rows(), n = w.cols();
  for (int64_t i = 0; i < k; ++i) s[i] = std::sqrt(dot(&w(i, 0), &w(i, 0), n));
  for (int64_t i = 0; i < k; ++i) {
    int64_t best = i;
    for (int64_t q = i + 1; q < k; ++q) best = s[q] > s[best] ? q : best;
    if (best == i) continue;
    const double value = s[i];
    s[i] = s[best];
    s[best] = value;
    swap_rows(w, i, best);
    swap_rows(j, i, best);
  }
  const double least = 2 * negligible(s[0]);
  for (int64_t i = 0; i < k; ++i) {
    if (s[i] > least) {
      w.row(i) *= 1 / s[i];
    } else {
      complete_row(w, i);
    }
  }
  for (int64_t i = 0; i < k; ++i) s[i] *= scale;
}

bool svd_of_rows(View<double> w, View<double> j, double* s) {
  j.setIdentity();
  const double scale = w.cwiseAbs().maxCoeff();
  if (scale > 0) w /= scale;
  if (!orthogonalise_rows(w, j)) return false;
  take_values(w, j, scale, s);
  return true;
}

int decompose(View<double> a, double* s, View<double> u, View<double> vt) {
  const int64_t m = a.rows(), n = a.cols();
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      if (!std::isfinite(a(r, c))) return GRAMIAN_STATUS_NO_CONVERGENCE;
    }
  }
  if (m <= n) {
    // J A = diag(s) Vt, so U = J'.
    if (!svd_of_rows(a, u, s)) return GRAMIAN_STATUS_NO_CONVERGENCE;
    u.transposeInPlace();
    vt = a;
    return GRAMIAN_STATUS_OK;
  }
  // A = Q R and J R' = diag(s) Z give A = (Q Z') diag(s) J.
  MatrixRef reference(a);
  const Eigen::HouseholderQR<MatrixRef> qr(reference);
  View<double> core(u.data(), n, n, Eigen::OuterStride<>(u.outerStride()));
  u.setZero();
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = r; c < n; ++c) core(c, r) = a(r, c);
  }
  if (!svd_of_rows(core, vt, s)) return GRAMIAN_STATUS_NO_CONVERGENCE;
  core.transposeInPlace();
  apply_reflectors(0, {a.data(), m, n, Eigen::OuterStride<>(a.outerStride())}, qr.hCoeffs().data(), u);
  return GRAMIAN_STATUS_OK;
}

int gesvd(gramian_context*, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* s, void* u, int64_t ldu,
          void* vt, int64_t ldvt) {
  if (m == 0 || n == 0) return GRAMIAN_STATUS_OK;
  return guarded(dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t k = m < n ? m : n;
    InDouble<T> matrix(view<T>(a, m, n, lda)), values(view<T>(s, 1, k, k));
    InDouble<T> left(view<T>(u, m, k, ldu)), right(view<T>(vt, k, n, ldvt));
    const int status = decompose(matrix.view(), values.view().data(), left.view(), right.view());
    if (status == GRAMIAN_STATUS_OK) {
      values.write_back();
      left.write_back();
      right.write_back();
    }
    return status;
  });
}

}  // namespace

GRAMIAN_FILL_FUNCTION(orthogonal) {
  table->geqrf = geqrf;
  table->ormqr = ormqr;
  table->gesvd = gesvd;
}
