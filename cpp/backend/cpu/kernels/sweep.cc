/* Both products of the normal equations from one reading of the matrix. */
#include "kernel_common.h"

namespace {

constexpr int64_t kRows = 4;  // together: their dot products share the loads of x, their updates the trips over g

/* out[k] = x . a_k for kRows rows; two accumulators a row hide the latency of the additions. */
template <class T>
inline void dot_rows(int64_t cols, const T* a, int64_t lda, const double* x, double* out) {
  constexpr int64_t lanes = kLanes<double>;
  Vector<double> even[kRows] = {}, odd[kRows] = {};
  int64_t c = 0;
  for (; c + 2 * lanes <= cols; c += 2 * lanes) {
    const Vector<double> first = load_wide(x + c), second = load_wide(x + c + lanes);
    for (int64_t k = 0; k < kRows; ++k) {
      even[k] += first * load_wide(a + k * lda + c);
      odd[k] += second * load_wide(a + k * lda + c + lanes);
    }
  }
  for (int64_t k = 0; k < kRows; ++k) {
    const Vector<double> sum = even[k] + odd[k];
    double total = 0;
    for (int64_t lane = 0; lane < lanes; ++lane) total += sum[lane];
    for (int64_t j = c; j < cols; ++j) total += x[j] * static_cast<double>(a[k * lda + j]);
    out[k] = total;
  }
}

template <class T>
inline void add_rows(int64_t cols, const T* a, int64_t lda, const double* r, double* g) {
  constexpr int64_t lanes = kLanes<double>;
  const Vector<double> r0 = splat(r[0]), r1 = splat(r[1]), r2 = splat(r[2]), r3 = splat(r[3]);
  int64_t c = 0;
  for (; c + lanes <= cols; c += lanes) {
    Vector<double> sum = load_wide(g + c);
    sum += r0 * load_wide(a + c);
    sum += r1 * load_wide(a + lda + c);
    sum += r2 * load_wide(a + 2 * lda + c);
    sum += r3 * load_wide(a + 3 * lda + c);
    store(g + c, sum);
  }
  for (; c < cols; ++c) {
    for (int64_t k = 0; k < kRows; ++k) g[c] += r[k] * static_cast<double>(a[k * lda + c]);
  }
}

template <class T>
int sweep(int64_t rows, int64_t cols, const T* a, int64_t lda, const double* x, const double* b, double* r, double* g) {
  int64_t i = 0;
  for (; i + kRows <= rows; i += kRows) {
    double product[kRows];
    dot_rows(cols, a + i * lda, lda, x, product);
    for (int64_t k = 0; k < kRows; ++k) r[i + k] = (b != nullptr ? b[i + k] : 0.0) - product[k];
    add_rows(cols, a + i * lda, lda, r + i, g);
  }
  for (; i < rows; ++i) {
    const T* row = a + i * lda;
    double product = 0;
    for (int64_t c = 0; c < cols; ++c) product += x[c] * static_cast<double>(row[c]);
    r[i] = (b != nullptr ? b[i] : 0.0) - product;
    for (int64_t c = 0; c < cols; ++c) g[c] += r[i] * static_cast<double>(row[c]);
  }
  return GRAMIAN_STATUS_OK;
}

int normal_sweep(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* a, int64_t lda, const double* x,
                 const double* b, double* r, double* g) {
  if (dtype == GRAMIAN_F32) return sweep(rows, cols, static_cast<const float*>(a), lda, x, b, r, g);
  if (dtype == GRAMIAN_F64) return sweep(rows, cols, static_cast<const double*>(a), lda, x, b, r, g);
  return GRAMIAN_STATUS_INVALID;
}

}  // namespace

GRAMIAN_FILL_FUNCTION(sweep) {
  table->normal_sweep = normal_sweep;
}
