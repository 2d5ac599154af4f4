/* Cholesky factor and symmetric eigen-decomposition on Eigen. */
#include <cmath>

#include "eigen_views.h"
// Eigen's headers below need the configuration above.
#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

namespace {

template <class T>
int factor_lower(View<T> a) {
  const int64_t failed = Eigen::internal::llt_inplace<T, Eigen::Lower>::blocked(a);
  // Eigen only stops at pivots <= 0; a NaN pivot leaves its NaN on the diagonal and runs on.
  const int64_t done = failed < 0 ? a.rows() : failed;
  for (int64_t i = 0; i < done; ++i) {
    if (!(a(i, i) > T(0))) return static_cast<int>(i + 1);
  }
  return static_cast<int>(failed + 1);
}

int potrf(gramian_context*, int dtype, int64_t n, void* a, int64_t lda) {
  return guarded(dtype, [&](auto zero) {
    using T = decltype(zero);
    return n == 0 ? 0 : factor_lower<T>(view<T>(a, n, n, lda));
  });
}

int eigen_decompose(View<double> a, View<double> w) {
  const int64_t n = a.rows();
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = 0; c <= r; ++c) {
      // The iteration has no exit for NaN but its limit of sweeps.
      if (!std::isfinite(a(r, c))) return GRAMIAN_STATUS_NO_CONVERGENCE;
    }
  }
  using Square = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
  Eigen::SelfAdjointEigenSolver<Square> solver(n);
  solver.compute(a, Eigen::ComputeEigenvectors);
  if (solver.info() != Eigen::Success) return GRAMIAN_STATUS_NO_CONVERGENCE;
  w = solver.eigenvalues().transpose();
  a = solver.eigenvectors().transpose();
  return GRAMIAN_STATUS_OK;
}

int syevd(gramian_context*, int dtype, int64_t n, void* a, int64_t lda, void* w) {
  if (n == 0) return GRAMIAN_STATUS_OK;
  return guarded(dtype, [&](auto zero) {
    using T = decltype(zero);
    InDouble<T> matrix(view<T>(a, n, n, lda)), values(view<T>(w, 1, n, n));
    const int status = eigen_decompose(matrix.view(), values.view());
    if (status == GRAMIAN_STATUS_OK) {
      matrix.write_back();
      values.write_back();
    }
    return status;
  });
}

}  // namespace

GRAMIAN_FILL_FUNCTION(factor) {
  table->potrf = potrf;
  table->syevd = syevd;
}
