/* QR factorisation by Householder reflections on Eigen, and the singular value decomposition by Jacobi rotations. */
#include <cmath>

#include "eigen_views.h"
// Eigen's headers below need the configuration above.
#include <Eigen/Householder>
#include <Eigen/QR>

namespace {

template <class T>
using Column = Eigen::Matrix<T, Eigen::Dynamic, 1>;

int geqrf(gramian_context*, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* tau) {
  if (m == 0 || n == 0) return GRAMIAN_STATUS_OK;
  return guarded(dtype, [&](auto zero) {
    using T = decltype(zero);
    View<T> matrix = view<T>(a, m, n, lda);
    Eigen::Ref<RowMajor<T>, Eigen::Unaligned, Eigen::OuterStride<>> reference(matrix);
    const Eigen::HouseholderQR<Eigen::Ref<RowMajor<T>, Eigen::Unaligned, Eigen::OuterStride<>>> qr(reference);
    Eigen::Map<Column<T>>(static_cast<T*>(tau), qr.hCoeffs().size()) = qr.hCoeffs();
    return GRAMIAN_STATUS_OK;
  });
}

int ormqr(gramian_context*, int dtype, int trans, int64_t m, int64_t n, int64_t k, const void* a, int64_t lda,
          const void* tau, void* c, int64_t ldc) {
  if (k > m) return GRAMIAN_STATUS_INVALID;
  if (m == 0 || n == 0 || k == 0) return GRAMIAN_STATUS_OK;
  return guarded(dtype, [&](auto zero) {
    using T = decltype(zero);
    const ConstView<T> vectors = const_view<T>(a, m, k, lda);
    const Eigen::Map<const Column<T>> factors(static_cast<const T*>(tau), k);
    const auto q = Eigen::householderSequence(vectors, factors);
    View<T> target = view<T>(c, m, n, ldc);
    if (trans != 0) {
      target.applyOnTheLeft(q.transpose());
    } else {
      target.applyOnTheLeft(q);
    }
    return GRAMIAN_STATUS_OK;
  });
}

/* --- one-sided Jacobi ---------------------------------------------------------------------------------------------
 * Rotations of pairs of rows make the rows of W orthogonal: J W = diag(s) Z. Slower than divide and conquer for large
 * matrices, and exact to working precision in every singular vector that the matrix determines. All in double. */

template <class T>
double dot(const T* x, const T* y, int64_t n) {
  constexpr int64_t lanes = kLanes<double>;
  Vector<double> even = {}, odd = {};
  int64_t c = 0;
  for (; c + 2 * lanes <= n; c += 2 * lanes) {
    even += load_wide(x + c) * load_wide(y + c);
    odd += load_wide(x + c + lanes) * load_wide(y + c + lanes);
  }
  const Vector<double> sum = even + odd;
  double total = 0;
  for (int64_t lane = 0; lane < lanes; ++lane) total += sum[lane];
  for (; c < n; ++c) total += static_cast<double>(x[c]) * static_cast<double>(y[c]);
  return total;
}

/* (x, y) = (c x - s y, s x + c y) */
template <class T>
void rotate(T* x, T* y, int64_t n, double c, double s) {
  constexpr int64_t lanes = kLanes<double>;
  int64_t j = 0;
  for (; j + lanes <= n; j += lanes) {
    const Vector<double> a = load_wide(x + j), b = load_wide(y + j);
    store_rounded(x + j, c * a - s * b);
    store_rounded(y + j, s * a + c * b);
  }
  for (; j < n; ++j) {
    const double a = static_cast<double>(x[j]), b = static_cast<double>(y[j]);
    x[j] = static_cast<T>(c * a - s * b);
    y[j] = static_cast<T>(s * a + c * b);
  }
}

template <class T>
void swap_rows(View<T> w, int64_t i, int64_t j) {
  w.row(i).swap(w.row(j));
}

/* A row this far below the largest is rounding of it: no direction of it means anything. */
template <class T>
double negligible(double largest) {
  return 1e-3 * static_cast<double>(Eigen::NumTraits<T>::epsilon()) * largest;
}

/* Rows of w (k x n, largest entry of the order of 1) made orthogonal but for those that are rounding; j (k x k), the
 * identity at first, follows. False when 60 sweeps were not enough, which no finite matrix is known to need. */
template <class T>
bool orthogonalise_rows(View<T> w, View<T> j) {
  const int64_t k = w.rows(), n = w.cols();
  const double small = static_cast<double>(Eigen::NumTraits<T>::epsilon()) * std::sqrt(static_cast<double>(n));
  for (int sweep = 0; sweep < 60; ++sweep) {
    bool rotated = false;
    double largest = 0;
    for (int64_t p = 0; p < k; ++p) {
      const double square = dot(&w(p, 0), &w(p, 0), n);
      largest = square > largest ? square : largest;
    }
    const double floor = negligible<T>(std::sqrt(largest));
    for (int64_t p = 0; p + 1 < k; ++p) {
      for (int64_t q = p + 1; q < k; ++q) {
        T *x = &w(p, 0), *y = &w(q, 0);
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
template <class T>
void complete_row(View<T> w, int64_t i) {
  const int64_t n = w.cols();
  for (int64_t candidate = 0; candidate < n; ++candidate) {
    w.row(i).setZero();
    w(i, (i + candidate) % n) = T(1);
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t p = 0; p < i; ++p) w.row(i) -= static_cast<T>(dot(&w(i, 0), &w(p, 0), n)) * w.row(p);
    }
    const double norm = std::sqrt(dot(&w(i, 0), &w(i, 0), n));
    if (norm * norm * static_cast<double>(n) < 0.5) continue;  // some unit vector keeps at least 1 / n of its length
    w.row(i) *= static_cast<T>(1 / norm);
    return;
  }
}

/* s and unit rows from orthogonal rows, in descending order; scale undoes that of the matrix. */
template <class T>
void take_values(View<T> w, View<T> j, double scale, T* s) {
  const int64_t k = w.rows(), n = w.cols();
  for (int64_t i = 0; i < k; ++i) s[i] = static_cast<T>(std::sqrt(dot(&w(i, 0), &w(i, 0), n)));
  for (int64_t i = 0; i < k; ++i) {
    int64_t best = i;
    for (int64_t q = i + 1; q < k; ++q) best = s[q] > s[best] ? q : best;
    if (best == i) continue;
    const T value = s[i];
    s[i] = s[best];
    s[best] = value;
    swap_rows(w, i, best);
    swap_rows(j, i, best);
  }
  const double least = 2 * negligible<T>(static_cast<double>(s[0]));
  for (int64_t i = 0; i < k; ++i) {
    if (static_cast<double>(s[i]) > least) {
      w.row(i) *= static_cast<T>(1 / static_cast<double>(s[i]));
    } else {
      complete_row(w, i);
    }
  }
  for (int64_t i = 0; i < k; ++i) s[i] = static_cast<T>(scale * static_cast<double>(s[i]));
}

template <class T>
bool svd_of_rows(View<T> w, View<T> j, T* s) {
  j.setIdentity();
  const double scale = static_cast<double>(w.cwiseAbs().maxCoeff());
  if (scale > 0) w /= static_cast<T>(scale);
  if (!orthogonalise_rows<T>(w, j)) return false;
  take_values<T>(w, j, scale, s);
  return true;
}

template <class T>
int decompose(View<T> a, T* s, View<T> u, View<T> vt) {
  const int64_t m = a.rows(), n = a.cols();
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      if (!std::isfinite(a(r, c))) return GRAMIAN_STATUS_NO_CONVERGENCE;
    }
  }
  if (m <= n) {
    // J A = diag(s) Vt, so U = J'.
    if (!svd_of_rows<T>(a, u, s)) return GRAMIAN_STATUS_NO_CONVERGENCE;
    u.transposeInPlace();
    vt = a;
    return GRAMIAN_STATUS_OK;
  }
  // A = Q R and J R' = diag(s) Z give A = (Q Z') diag(s) J.
  Eigen::Ref<RowMajor<T>, Eigen::Unaligned, Eigen::OuterStride<>> reference(a);
  const Eigen::HouseholderQR<Eigen::Ref<RowMajor<T>, Eigen::Unaligned, Eigen::OuterStride<>>> qr(reference);
  View<T> core(u.data(), n, n, Eigen::OuterStride<>(u.outerStride()));
  u.setZero();
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = r; c < n; ++c) core(c, r) = a(r, c);
  }
  if (!svd_of_rows<T>(core, vt, s)) return GRAMIAN_STATUS_NO_CONVERGENCE;
  core.transposeInPlace();
  const ConstView<T> vectors(a.data(), m, n, Eigen::OuterStride<>(a.outerStride()));
  const Eigen::Map<const Column<T>> factors(qr.hCoeffs().data(), n);
  u.applyOnTheLeft(Eigen::householderSequence(vectors, factors));
  return GRAMIAN_STATUS_OK;
}

int gesvd(gramian_context*, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* s, void* u, int64_t ldu,
          void* vt, int64_t ldvt) {
  if (m == 0 || n == 0) return GRAMIAN_STATUS_OK;
  return guarded(dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t k = m < n ? m : n;
    return decompose<T>(view<T>(a, m, n, lda), static_cast<T*>(s), view<T>(u, m, k, ldu), view<T>(vt, k, n, ldvt));
  });
}

}  // namespace

GRAMIAN_FILL_FUNCTION(orthogonal) {
  table->geqrf = geqrf;
  table->ormqr = ormqr;
  table->gesvd = gesvd;
}
