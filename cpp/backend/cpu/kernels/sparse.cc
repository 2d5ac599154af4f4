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

/* Fewer elements than a vector has, of one output row. */
template <class T, class V, class Index>
inline void part_of_strip(const SparseRow<V, Index>& row, int64_t count, const T* b, int64_t ldb,
                          const Output<T>& output, T* c) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(T);
  Vector<T> sum{};
  for (int64_t k = 0; k < row.count; ++k) {
    Vector<T> right{};
    std::memcpy(&right, b + static_cast<int64_t>(row.columns[k]) * ldb, bytes);
    sum += static_cast<T>(row.values[k]) * right;
  }
  T out[kLanes<T>] = {};
  std::memcpy(out, c, bytes);
  store(out, output.combine(sum, out));
  std::memcpy(c, out, bytes);
}

/* Each element passes the same vector operations in the order of the row, those at the end too: a loop of scalars would
 * be left to the compiler, which rounds once or twice as it likes, and for indices of one width otherwise than for
 * those of the other. */
template <class T, class V, class Index>
inline void multiply_row(const SparseRow<V, Index>& row, int64_t n, const T* b, int64_t ldb, const Output<T>& output,
                         T* c) {
  constexpr int64_t lanes = kLanes<T>;
  if (n < lanes) return part_of_strip(row, n, b, ldb, output, c);
  /* The last elements, from what they are before the loop; where the loop reaches them too, it finds the same. */
  const bool ragged = n % lanes != 0;
  T last[lanes] = {};
  if (ragged) {
    std::memcpy(last, c + n - lanes, sizeof(last));
    strip<1>(row, b + n - lanes, ldb, output, last);
  }
  int64_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) strip<4>(row, b + j, ldb, output, c + j);
  for (; j + lanes <= n; j += lanes) strip<1>(row, b + j, ldb, output, c + j);
  if (ragged) std::memcpy(c + n - lanes, last, sizeof(last));
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
