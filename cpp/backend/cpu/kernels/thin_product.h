/* Products that are bound by reading one matrix. General kernels first copy their operands into an order of their own,
 * which here would cost more than the product itself.
 *   Few columns, C (m x n) += alpha * op(A) * op(B) for n <= kThinColumns: what triangular solves and predictions with
 *   few outputs are made of. Each element of A is read once, along the rows it lies in; B, which is small, is copied.
 *   Few terms, C += alpha * op(A) * B of k <= kFewTerms terms: sums that take one row or a few. C is read once. */
#ifndef GRAMIAN_BACKEND_CPU_KERNELS_THIN_PRODUCT_H
#define GRAMIAN_BACKEND_CPU_KERNELS_THIN_PRODUCT_H

#include "kernel_common.h"

namespace {

constexpr int64_t kThinColumns = 16;
constexpr int64_t kThinBytes = 16384; /* of a copy, which has to stay in the first cache */

/* alpha * op(B)[row .. row + count) as rows of `width` values, those behind n being zero. B is read along its rows:
 * where these are a power of two apart, one value of each at a time would compete for a few sets of the first cache. */
template <class T>
void pack_thin(int trans_b, T alpha, const T* b, int64_t ldb, int64_t row, int64_t count, int64_t n, int64_t width,
               T* out) {
  if (trans_b) {
    for (int64_t j = 0; j < n; ++j) {
      const T* source = b + row + j * ldb;
      for (int64_t p = 0; p < count; ++p) out[p * width + j] = alpha * source[p];
    }
  }
  for (int64_t p = 0; p < count; ++p) {
    T* target = out + p * width;
    if (!trans_b) {
      for (int64_t j = 0; j < n; ++j) target[j] = alpha * b[(row + p) * ldb + j];
    }
    for (int64_t j = n; j < width; ++j) target[j] = T(0);
  }
}

/* c[r, j] += sum_p a[r, p] packed[p, j] for Rows rows and N vectors of columns. */
template <class T, int N, int Rows>
void thin_rows(int64_t k, const T* a, int64_t lda, const T* packed, int64_t n, T* c, int64_t ldc) {
  Vector<T> sum[Rows][N];
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < N; ++v) sum[r][v] = Vector<T>{};
  }
  for (int64_t p = 0; p < k; ++p) {
    const T* row = packed + p * N * kLanes<T>;
    for (int v = 0; v < N; ++v) {
      const Vector<T> right = load<Vector<T>>(row + v * kLanes<T>);
      for (int r = 0; r < Rows; ++r) sum[r][v] += splat(a[r * lda + p]) * right;
    }
  }
  if (n == N * kLanes<T>) {
    for (int r = 0; r < Rows; ++r) {
      for (int v = 0; v < N; ++v) {
        T* target = c + r * ldc + v * kLanes<T>;
        store(target, load<Vector<T>>(target) + sum[r][v]);
      }
    }
    return;
  }
  T out[N * kLanes<T>];
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < N; ++v) store(out + v * kLanes<T>, sum[r][v]);
    for (int64_t j = 0; j < n; ++j) c[r * ldc + j] += out[j];
  }
}

/* As many sums at once as hide the latency of an addition and fit the registers. */
constexpr int rows_at_once(int vectors) {
  return vectors == 3 ? 3 : vectors >= 8 ? 1 : 8 / vectors;
}

template <class T, int N>
void thin_plain(int trans_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda, const T* b, int64_t ldb,
                T* c, int64_t ldc) {
  constexpr int64_t width = N * kLanes<T>;
  constexpr int64_t depth = kThinBytes / (width * static_cast<int64_t>(sizeof(T)));
  constexpr int at_once = rows_at_once(N);
  T packed[depth * width];
  for (int64_t begin = 0; begin < k; begin += depth) {
    const int64_t count = k - begin < depth ? k - begin : depth;
    pack_thin<T>(trans_b, alpha, b, ldb, begin, count, n, width, packed);
    int64_t r = 0;
    for (; r + at_once <= m; r += at_once) {
      thin_rows<T, N, at_once>(count, a + r * lda + begin, lda, packed, n, c + r * ldc, ldc);
    }
    for (; r < m; ++r) thin_rows<T, N, 1>(count, a + r * lda + begin, lda, packed, n, c + r * ldc, ldc);
  }
}

/* target[j, :] += sum_i a[i, j] packed[i, :] for Columns columns of `count` rows of A. */
template <class T, int N, int Columns>
void thin_columns(int64_t count, const T* a, int64_t lda, const T* packed, T* target) {
  Vector<T> sum[Columns][N];
  for (int j = 0; j < Columns; ++j) {
    for (int v = 0; v < N; ++v) sum[j][v] = load<Vector<T>>(target + (j * N + v) * kLanes<T>);
  }
  for (int64_t i = 0; i < count; ++i) {
    const T* row = packed + i * N * kLanes<T>;
    for (int v = 0; v < N; ++v) {
      const Vector<T> right = load<Vector<T>>(row + v * kLanes<T>);
      for (int j = 0; j < Columns; ++j) sum[j][v] += splat(a[i * lda + j]) * right;
    }
  }
  for (int j = 0; j < Columns; ++j) {
    for (int v = 0; v < N; ++v) store(target + (j * N + v) * kLanes<T>, sum[j][v]);
  }
}

/* Rows of A that are read side by side: more than a processor fetches ahead by itself. */
constexpr int64_t kThinRows = 16;

template <class T, int N>
void thin_transposed(int trans_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda, const T* b,
                     int64_t ldb, T* c, int64_t ldc) {
  constexpr int64_t width = N * kLanes<T>;
  constexpr int64_t block = kThinBytes / (width * static_cast<int64_t>(sizeof(T)));
  constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  constexpr int at_once = rows_at_once(N);
  T packed[kThinRows * width], target[block * width];
  for (int64_t begin = 0; begin < m; begin += block) {
    const int64_t columns = m - begin < block ? m - begin : block;
    for (int64_t j = 0; j < columns * width; ++j) target[j] = T(0);
    for (int64_t first = 0; first < k; first += kThinRows) {
      const int64_t count = k - first < kThinRows ? k - first : kThinRows;
      const T* rows = a + first * lda + begin;
      pack_thin<T>(trans_b, alpha, b, ldb, first, count, n, width, packed);
      int64_t j = 0;
      for (; j + at_once <= columns; j += at_once) {
        if (j % line == 0) {
          for (int64_t i = 0; i < count; ++i) __builtin_prefetch(rows + i * lda + j + 8 * line);
        }
        thin_columns<T, N, at_once>(count, rows + j, lda, packed, target + j * width);
      }
      for (; j < columns; ++j) thin_columns<T, N, 1>(count, rows + j, lda, packed, target + j * width);
    }
    for (int64_t j = 0; j < columns; ++j) {
      for (int64_t v = 0; v < n; ++v) c[(begin + j) * ldc + v] += target[j * width + v];
    }
  }
}

/* One column: dot products of Rows rows with x, and sums of rows. */
template <class T, int Rows>
void dot_rows(int64_t k, const T* a, int64_t lda, const T* x, T* c, int64_t ldc) {
  constexpr int64_t lanes = kLanes<T>;
  Vector<T> sum[Rows][2];
  for (int r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = Vector<T>{};
  int64_t p = 0;
  for (; p + 2 * lanes <= k; p += 2 * lanes) {
    const Vector<T> first = load<Vector<T>>(x + p), second = load<Vector<T>>(x + p + lanes);
    for (int r = 0; r < Rows; ++r) {
      sum[r][0] += load<Vector<T>>(a + r * lda + p) * first;
      sum[r][1] += load<Vector<T>>(a + r * lda + p + lanes) * second;
    }
  }
  for (int r = 0; r < Rows; ++r) {
    T parts[lanes];
    store(parts, sum[r][0] + sum[r][1]);
    T total = 0;
    for (int64_t v = 0; v < lanes; ++v) total += parts[v];
    for (int64_t q = p; q < k; ++q) total += a[r * lda + q] * x[q];
    c[r * ldc] += total;
  }
}

template <class T>
void vector_plain(int64_t m, int64_t k, T alpha, const T* a, int64_t lda, const T* b, int64_t step, T* c, int64_t ldc) {
  constexpr int64_t depth = kThinBytes / static_cast<int64_t>(sizeof(T));
  T x[depth];
  for (int64_t begin = 0; begin < k; begin += depth) {
    const int64_t count = k - begin < depth ? k - begin : depth;
    for (int64_t p = 0; p < count; ++p) x[p] = alpha * b[(begin + p) * step];
    int64_t r = 0;
    for (; r + 4 <= m; r += 4) dot_rows<T, 4>(count, a + r * lda + begin, lda, x, c + r * ldc, ldc);
    for (; r < m; ++r) dot_rows<T, 1>(count, a + r * lda + begin, lda, x, c + r * ldc, ldc);
  }
}

template <class T>
void vector_transposed(int64_t m, int64_t k, T alpha, const T* a, int64_t lda, const T* b, int64_t step, T* c,
                       int64_t ldc) {
  constexpr int64_t lanes = kLanes<T>, block = kThinBytes / static_cast<int64_t>(sizeof(T)), together = 8;
  constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  T target[block], x[together];
  for (int64_t begin = 0; begin < m; begin += block) {
    const int64_t columns = m - begin < block ? m - begin : block;
    for (int64_t j = 0; j < columns; ++j) target[j] = T(0);
    for (int64_t first = 0; first < k; first += together) {
      const int64_t count = k - first < together ? k - first : together;
      const T* rows = a + first * lda + begin;
      for (int64_t i = 0; i < count; ++i) x[i] = alpha * b[(first + i) * step];
      int64_t j = 0;
      if (count == together) {
        for (; j + lanes <= columns; j += lanes) {
          if (j % line == 0) {
            for (int64_t i = 0; i < together; ++i) __builtin_prefetch(rows + (together + i) * lda + j);
          }
          Vector<T> sum = load<Vector<T>>(target + j);
          for (int64_t i = 0; i < together; ++i) sum += splat(x[i]) * load<Vector<T>>(rows + i * lda + j);
          store(target + j, sum);
        }
      }
      for (; j < columns; ++j) {
        for (int64_t i = 0; i < count; ++i) target[j] += x[i] * rows[i * lda + j];
      }
    }
    for (int64_t j = 0; j < columns; ++j) c[(begin + j) * ldc] += target[j];
  }
}

/* Takes the number of vectors that n columns need as a constant. */
template <class T, int N>
void thin_with_vectors(int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
                       const T* b, int64_t ldb, T* c, int64_t ldc) {
  if constexpr (N * kLanes<T> < kThinColumns) {
    if (n > N * kLanes<T>) {
      return thin_with_vectors<T, N + 1>(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, c, ldc);
    }
  }
  if (trans_a) {
    thin_transposed<T, N>(trans_b, m, n, k, alpha, a, lda, b, ldb, c, ldc);
  } else {
    thin_plain<T, N>(trans_b, m, n, k, alpha, a, lda, b, ldb, c, ldc);
  }
}

template <class T>
void thin_product(int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
                  const T* b, int64_t ldb, T* c, int64_t ldc) {
  const int64_t step = trans_b ? 1 : ldb;
  if (n > 1) {
    thin_with_vectors<T, 1>(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, c, ldc);
  } else if (trans_a) {
    vector_transposed<T>(m, k, alpha, a, lda, b, step, c, ldc);
  } else {
    vector_plain<T>(m, k, alpha, a, lda, b, step, c, ldc);
  }
}

constexpr int64_t kFewTerms = 8;

/* sum + sum_p by[p] * row p of b, in the order of p. */
template <class T, int Terms>
inline Vector<T> with_terms(Vector<T> sum, const Vector<T>* by, const T* b, int64_t ldb) {
  for (int p = 0; p < Terms; ++p) sum += by[p] * load<Vector<T>>(b + p * ldb);
  return sum;
}

/* c[0 .. count) += sum_p factor[p] * row p of b, Terms rows. Each element passes the same vector operations in the
 * order of the rows, those at the end too, so rows that come in several calls leave the bits of one call: a loop of
 * scalars would be left to the compiler, which rounds once or twice as the number of rows suits it. What lies `next`
 * elements behind is fetched: pieces of rows are too short for the processor to see their order. */
template <class T, int Terms>
void add_terms(int64_t count, const T* factor, const T* b, int64_t ldb, T* c, int64_t next) {
  constexpr int64_t lanes = kLanes<T>, line = 64 / static_cast<int64_t>(sizeof(T));
  Vector<T> by[Terms];
  for (int p = 0; p < Terms; ++p) by[p] = splat(factor[p]);
  if (count < lanes) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    Vector<T> sum{};
    std::memcpy(&sum, c, bytes);
    for (int p = 0; p < Terms; ++p) {
      Vector<T> right{};
      std::memcpy(&right, b + p * ldb, bytes);
      sum += by[p] * right;
    }
    std::memcpy(c, &sum, bytes);
    return;
  }
  /* The last elements, from what they are before the loop; where the loop reaches them too, it finds the same. */
  const Vector<T> last = with_terms<T, Terms>(load<Vector<T>>(c + count - lanes), by, b + count - lanes, ldb);
  int64_t j = 0;
  for (; j + 2 * lanes <= count; j += 2 * lanes) {
    for (int64_t at = j; at < j + 2 * lanes; at += line) __builtin_prefetch(c + next + at, 1);
    Vector<T> first = load<Vector<T>>(c + j), second = load<Vector<T>>(c + j + lanes);
    for (int p = 0; p < Terms; ++p) {
      first += by[p] * load<Vector<T>>(b + p * ldb + j);
      second += by[p] * load<Vector<T>>(b + p * ldb + j + lanes);
    }
    store(c + j, first);
    store(c + j + lanes, second);
  }
  if (j + lanes <= count) store(c + j, with_terms<T, Terms>(load<Vector<T>>(c + j), by, b + j, ldb));
  store(c + count - lanes, last);
}

/* lower: only the lower triangle of C, which is square. Columns come in blocks, so that what the rows of C share of B
 * stays in the first cache; they are multiples of a vector, so no element passes another operation for it. */
template <class T, int Terms = 1>
void few_terms(int trans_a, bool lower, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda, const T* b,
               int64_t ldb, T* c, int64_t ldc) {
  if constexpr (Terms < kFewTerms) {
    if (k > Terms) return few_terms<T, Terms + 1>(trans_a, lower, m, n, k, alpha, a, lda, b, ldb, c, ldc);
  }
  constexpr int64_t block = kThinBytes / (kFewTerms * static_cast<int64_t>(sizeof(T)));
  T factor[Terms];
  for (int64_t begin = 0; begin < n; begin += block) {
    const int64_t end = n - begin < block ? n : begin + block;
    for (int64_t i = lower ? begin : 0; i < m; ++i) {
      for (int64_t p = 0; p < Terms; ++p) factor[p] = alpha * (trans_a ? a[p * lda + i] : a[i * lda + p]);
      const int64_t count = (lower && i < end ? i + 1 : end) - begin;
      add_terms<T, Terms>(count, factor, b + begin, ldb, c + i * ldc + begin, i + 1 < m ? ldc : 0);
    }
  }
}

}  // namespace

#endif
