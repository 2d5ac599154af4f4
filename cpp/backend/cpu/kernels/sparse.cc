/* CSR times dense: strips of columns whose sums stay in registers while a row's entries stream by. */
#include "kernel_common.h"

namespace {

template <class V, class Index>
struct SparseRow {
  const V* values;
  const Index* columns;
  int64_t count;
};

template <class T>
struct Output {
  T alpha;
  T beta;

  Vector<T> combine(Vector<T> sum, const T* c) const {
    return beta == T(0) ? alpha * sum : alpha * sum + beta * load<Vector<T>>(c);
  }
  T combine_one(T sum, const T* c) const { return beta == T(0) ? alpha * sum : alpha * sum + beta * *c; }
};

/* kVectors vectors of one output row. */
template <int kVectors, class T, class V, class Index>
inline void strip(const SparseRow<V, Index>& row, const T* b, int64_t ldb, const Output<T>& output, T* c) {
  Vector<T> sums[kVectors] = {};
  for (int64_t k = 0; k < row.count; ++k) {
    const T* from = b + static_cast<int64_t>(row.columns[k]) * ldb;
    const T value = static_cast<T>(row.values[k]);
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p) sums[p] += value * load<Vector<T>>(from + p * kLanes<T>);
  }
#pragma GCC unroll 4
  for (int p = 0; p < kVectors; ++p) {
    T* at = c + p * kLanes<T>;
    store<Vector<T>>(at, output.combine(sums[p], at));
  }
}

template <class T, class V, class Index>
inline void multiply_row(const SparseRow<V, Index>& row, int64_t n, const T* b, int64_t ldb, const Output<T>& output,
                         T* c) {
  int64_t j = 0;
  for (; j + 4 * kLanes<T> <= n; j += 4 * kLanes<T>) strip<4>(row, b + j, ldb, output, c + j);
  for (; j + kLanes<T> <= n; j += kLanes<T>) strip<1>(row, b + j, ldb, output, c + j);
  for (; j < n; ++j) {
    T sum = 0;
    for (int64_t k = 0; k < row.count; ++k) {
      sum += static_cast<T>(row.values[k]) * b[static_cast<int64_t>(row.columns[k]) * ldb + j];
    }
    c[j] = output.combine_one(sum, c + j);
  }
}

template <class T, class V, class Index>
int multiply(int64_t m, int64_t n, const void* indptr, const void* indices, const void* values, const void* b,
             int64_t ldb, const Output<T>& output, void* c, int64_t ldc) {
  const Index* starts = static_cast<const Index*>(indptr);
  for (int64_t i = 0; i < m; ++i) {
    const int64_t begin = static_cast<int64_t>(starts[i]);
    const int64_t count = output.alpha == T(0) ? 0 : static_cast<int64_t>(starts[i + 1]) - begin;
    const SparseRow<V, Index> row = {static_cast<const V*>(values) + begin, static_cast<const Index*>(indices) + begin,
                                     count};
    multiply_row(row, n, static_cast<const T*>(b), ldb, output, static_cast<T*>(c) + i * ldc);
  }
  return GRAMIAN_STATUS_OK;
}

template <class T, class V>
int multiply_indexed(int index_dtype, int64_t m, int64_t n, const void* indptr, const void* indices, const void* values,
                     const void* b, int64_t ldb, const Output<T>& output, void* c, int64_t ldc) {
  if (index_dtype == GRAMIAN_I32) {
    return multiply<T, V, int32_t>(m, n, indptr, indices, values, b, ldb, output, c, ldc);
  }
  if (index_dtype == GRAMIAN_I64) {
    return multiply<T, V, int64_t>(m, n, indptr, indices, values, b, ldb, output, c, ldc);
  }
  return GRAMIAN_STATUS_INVALID;
}

template <class T>
int multiply_typed(int value_dtype, int index_dtype, int64_t m, int64_t n, double alpha, const void* indptr,
                   const void* indices, const void* values, const void* b, int64_t ldb, double beta, void* c,
                   int64_t ldc) {
  const Output<T> output = {static_cast<T>(alpha), static_cast<T>(beta)};
  if (value_dtype == GRAMIAN_F32) {
    return multiply_indexed<T, float>(index_dtype, m, n, indptr, indices, values, b, ldb, output, c, ldc);
  }
  if (value_dtype == GRAMIAN_F64) {
    return multiply_indexed<T, double>(index_dtype, m, n, indptr, indices, values, b, ldb, output, c, ldc);
  }
  return GRAMIAN_STATUS_INVALID;
}

/* k, the number of rows of B, bounds the column indices; the caller checked them. */
int csr_gemm(gramian_context*, int dtype, int value_dtype, int index_dtype, int64_t m, int64_t n, int64_t, double alpha,
             const void* indptr, const void* indices, const void* values, const void* b, int64_t ldb, double beta,
             void* c, int64_t ldc) {
  if (dtype == GRAMIAN_F32) {
    return multiply_typed<float>(value_dtype, index_dtype, m, n, alpha, indptr, indices, values, b, ldb, beta, c, ldc);
  }
  if (dtype == GRAMIAN_F64) {
    return multiply_typed<double>(value_dtype, index_dtype, m, n, alpha, indptr, indices, values, b, ldb, beta, c, ldc);
  }
  return GRAMIAN_STATUS_INVALID;
}

}  // namespace

GRAMIAN_FILL_FUNCTION(sparse) {
  table->csr_gemm = csr_gemm;
}
