/* Triangular systems of a small order with few right-hand sides: the diagonal blocks of a solve that is bound by
 * reading L. A general routine takes longer to set them up than to solve them.
 * B (m x n) = op(L)^-1 B for m <= kThinOrder and n <= kThinColumns, which fits the first cache with L. */
#ifndef GRAMIAN_BACKEND_CPU_KERNELS_THIN_SOLVE_H
#define GRAMIAN_BACKEND_CPU_KERNELS_THIN_SOLVE_H

#include "thin_product.h"

namespace {

constexpr int64_t kThinOrder = 64;

/* N vectors of columns; those behind n are zero. */
template <class T, int N>
void thin_solve_columns(int trans, int64_t m, int64_t n, const T* l, int64_t ldl, T* b, int64_t ldb) {
  constexpr int64_t width = N * kLanes<T>;
  T x[kThinOrder * width];
  pack_thin<T>(0, T(1), b, ldb, 0, m, n, width, x);
  for (int64_t step = 0; step < m; ++step) {
    const int64_t i = trans ? m - 1 - step : step;
    const T* row = l + i * ldl;
    T* own = x + i * width;
    Vector<T> value[N];
    for (int v = 0; v < N; ++v) value[v] = load<Vector<T>>(own + v * kLanes<T>);
    if (!trans) {
      for (int64_t j = 0; j < i; ++j) {
        for (int v = 0; v < N; ++v) value[v] -= splat(row[j]) * load<Vector<T>>(x + j * width + v * kLanes<T>);
      }
    }
    for (int v = 0; v < N; ++v) {
      value[v] /= splat(row[i]);
      store(own + v * kLanes<T>, value[v]);
    }
    if (trans) {
      for (int64_t j = 0; j < i; ++j) {
        T* target = x + j * width;
        for (int v = 0; v < N; ++v) {
          T* at = target + v * kLanes<T>;
          store(at, load<Vector<T>>(at) - splat(row[j]) * value[v]);
        }
      }
    }
  }
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) b[i * ldb + j] = x[i * width + j];
  }
}

/* One column: dot products with the rows of L, or sums of them. */
template <class T>
void thin_solve_vector(int trans, int64_t m, const T* l, int64_t ldl, T* b, int64_t ldb) {
  constexpr int64_t lanes = kLanes<T>;
  T x[kThinOrder];
  for (int64_t i = 0; i < m; ++i) x[i] = b[i * ldb];
  for (int64_t step = 0; step < m; ++step) {
    const int64_t i = trans ? m - 1 - step : step;
    const T* row = l + i * ldl;
    int64_t j = 0;
    if (trans) {
      const T value = x[i] / row[i];
      x[i] = value;
      for (; j + lanes <= i; j += lanes) store(x + j, load<Vector<T>>(x + j) - splat(value) * load<Vector<T>>(row + j));
      for (; j < i; ++j) x[j] -= value * row[j];
    } else {
      Vector<T> sum{};
      for (; j + lanes <= i; j += lanes) sum += load<Vector<T>>(row + j) * load<Vector<T>>(x + j);
      T parts[lanes];
      store(parts, sum);
      T value = x[i];
      for (int64_t v = 0; v < lanes; ++v) value -= parts[v];
      for (; j < i; ++j) value -= row[j] * x[j];
      x[i] = value / row[i];
    }
  }
  for (int64_t i = 0; i < m; ++i) b[i * ldb] = x[i];
}

template <class T, int N = 1>
void thin_solve(int trans, int64_t m, int64_t n, const T* l, int64_t ldl, T* b, int64_t ldb) {
  if (n == 1) return thin_solve_vector<T>(trans, m, l, ldl, b, ldb);
  if constexpr (N * kLanes<T> < kThinColumns) {
    if (n > N * kLanes<T>) return thin_solve<T, N + 1>(trans, m, n, l, ldl, b, ldb);
  }
  thin_solve_columns<T, N>(trans, m, n, l, ldl, b, ldb);
}

}  // namespace

#endif
