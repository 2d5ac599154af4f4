/* What sketches need beside products and transforms: adding rows to hashed places, gathering columns, and circular
 * convolution. */
#include <cmath>

#include "gather.h"

namespace {

/* --- sparse sketches ----------------------------------------------------------------------------------------- */

/* Rows of x whose cache lines stay in the second-level cache while every panel takes its columns of them. */
constexpr int64_t kSketchRows = 128;
constexpr int64_t kLine = 64;
/* How many rows ahead of the first panel the lines of the whole row are asked for. */
constexpr int64_t kAhead = 8;

template <class T>
constexpr T kSigns[2] = {1, -1};

template <class T>
inline T signed_value(T value, int32_t code) {
  return (code & 1) != 0 ? -value : value;
}

/* One row times its nnz signs into kVectors vectors of a panel. The product with a sign is exact, so one multiply-add
 * does what a change of sign and an addition would. */
template <class T, int kVectors>
inline void add_row(const T* x, int64_t nnz, const int32_t* codes, int64_t panel, T* out) {
  Vector<T> v[kVectors];
#pragma GCC unroll 8
  for (int p = 0; p < kVectors; ++p) v[p] = load<Vector<T>>(x + p * kLanes<T>);
  for (int64_t k = 0; k < nnz; ++k) {
    T* const at = out + static_cast<int64_t>(codes[k] >> 1) * panel;
    const Vector<T> sign = splat(kSigns<T>[codes[k] & 1]);
#pragma GCC unroll 8
    for (int p = 0; p < kVectors; ++p) {
      T* const to = at + p * kLanes<T>;
      store(to, load<Vector<T>>(to) + v[p] * sign);
    }
  }
}

template <class T>
struct SketchRows {
  int64_t rows;
  int64_t nnz;
  const int32_t* codes;
  const T* x;
  int64_t ldx;
  int64_t panel;
};

/* kVectors vectors of columns of all rows. `lines` bytes of each row are fetched ahead; 0 for the later panels. */
template <class T, int kVectors>
void add_columns(const SketchRows<T>& s, int64_t lines, T* out) {
  for (int64_t r = 0; r < s.rows; ++r) {
    if (r + kAhead < s.rows) {
      const char* next = reinterpret_cast<const char*>(s.x + (r + kAhead) * s.ldx);
      for (int64_t b = 0; b < lines; b += kLine) __builtin_prefetch(next + b);
    }
    add_row<T, kVectors>(s.x + r * s.ldx, s.nnz, s.codes + r * s.nnz, s.panel, out);
  }
}

template <class T>
void add_ragged(const SketchRows<T>& s, int64_t cols, T* out) {
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t k = 0; k < s.nnz; ++k) {
      const int32_t code = s.codes[r * s.nnz + k];
      T* const at = out + static_cast<int64_t>(code >> 1) * s.panel;
      for (int64_t c = 0; c < cols; ++c) at[c] += signed_value(s.x[r * s.ldx + c], code);
    }
  }
}

/* One panel: as many vectors at a time as fit, the rest one by one. */
template <class T>
void add_panel(SketchRows<T> s, int64_t cols, int64_t lines, T* out) {
  while (cols >= kLanes<T>) {
    const int64_t vectors = cols / kLanes<T>;
    const int64_t taken = vectors >= 8 ? 8 : vectors >= 4 ? 4 : vectors >= 2 ? 2 : 1;
    if (taken == 8) add_columns<T, 8>(s, lines, out);
    if (taken == 4) add_columns<T, 4>(s, lines, out);
    if (taken == 2) add_columns<T, 2>(s, lines, out);
    if (taken == 1) add_columns<T, 1>(s, lines, out);
    lines = 0;
    s.x += taken * kLanes<T>;
    out += taken * kLanes<T>;
    cols -= taken * kLanes<T>;
  }
  if (cols > 0) add_ragged(s, cols, out);
}

template <class T>
int sparse_sketch_type(int64_t rows, int64_t cols, int64_t nnz, const int32_t* codes, const T* x, int64_t ldx,
                       int64_t m, int64_t panel, T* out) {
  if (panel < 1) return GRAMIAN_STATUS_INVALID;
  for (int64_t r = 0; r < rows; r += kSketchRows) {
    const int64_t count = rows - r < kSketchRows ? rows - r : kSketchRows;
    for (int64_t c = 0; c < cols; c += panel) {
      const SketchRows<T> part = {count, nnz, codes + r * nnz, x + r * ldx + c, ldx, panel};
      // Lines asked for by name keep the first-level cache busy for as long as memory takes. Rows that follow each
      // other are fetched by the hardware, if there is little work between two of them.
      const bool ask = c == 0 && (nnz > 2 || ldx != cols);
      const int64_t lines = ask ? cols * static_cast<int64_t>(sizeof(T)) : 0;
      add_panel(part, cols - c < panel ? cols - c : panel, lines, out + c * m);
    }
  }
  return GRAMIAN_STATUS_OK;
}

int sparse_sketch(gramian_context*, int dtype, int64_t rows, int64_t cols, int64_t nnz, const int32_t* codes,
                  const void* x, int64_t ldx, int64_t m, int64_t panel, void* out) {
  if (dtype == GRAMIAN_F32) {
    return sparse_sketch_type(rows, cols, nnz, codes, static_cast<const float*>(x), ldx, m, panel,
                              static_cast<float*>(out));
  }
  if (dtype == GRAMIAN_F64) {
    return sparse_sketch_type(rows, cols, nnz, codes, static_cast<const double*>(x), ldx, m, panel,
                              static_cast<double*>(out));
  }
  return GRAMIAN_STATUS_INVALID;
}

template <class T, class V, class Index>
int sketch_csr(int64_t rows, int64_t nnz, const int32_t* codes, const void* indptr, const void* indices,
               const void* values, void* out, int64_t ld_out) {
  const Index* starts = static_cast<const Index*>(indptr);
  const Index* columns = static_cast<const Index*>(indices);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t end = static_cast<int64_t>(starts[r + 1]);
    for (int64_t k = 0; k < nnz; ++k) {
      const int32_t code = codes[r * nnz + k];
      T* const at = static_cast<T*>(out) + static_cast<int64_t>(code >> 1) * ld_out;
      for (int64_t e = static_cast<int64_t>(starts[r]); e < end; ++e) {
        at[static_cast<int64_t>(columns[e])] += signed_value(static_cast<T>(static_cast<const V*>(values)[e]), code);
      }
    }
  }
  return GRAMIAN_STATUS_OK;
}

template <class T, class V>
int sketch_csr_indexed(int index_dtype, int64_t rows, int64_t nnz, const int32_t* codes, const void* indptr,
                       const void* indices, const void* values, void* out, int64_t ld_out) {
  if (index_dtype == GRAMIAN_I32) {
    return sketch_csr<T, V, int32_t>(rows, nnz, codes, indptr, indices, values, out, ld_out);
  }
  if (index_dtype == GRAMIAN_I64) {
    return sketch_csr<T, V, int64_t>(rows, nnz, codes, indptr, indices, values, out, ld_out);
  }
  return GRAMIAN_STATUS_INVALID;
}

template <class T>
int sketch_csr_typed(int value_dtype, int index_dtype, int64_t rows, int64_t nnz, const int32_t* codes,
                     const void* indptr, const void* indices, const void* values, void* out, int64_t ld_out) {
  if (value_dtype == GRAMIAN_F32) {
    return sketch_csr_indexed<T, float>(index_dtype, rows, nnz, codes, indptr, indices, values, out, ld_out);
  }
  if (value_dtype == GRAMIAN_F64) {
    return sketch_csr_indexed<T, double>(index_dtype, rows, nnz, codes, indptr, indices, values, out, ld_out);
  }
  return GRAMIAN_STATUS_INVALID;
}

int sparse_sketch_csr(gramian_context*, int dtype, int value_dtype, int index_dtype, int64_t rows, int64_t nnz,
                      const int32_t* codes, const void* indptr, const void* indices, const void* values, void* out,
                      int64_t ld_out) {
  if (dtype == GRAMIAN_F32) {
    return sketch_csr_typed<float>(value_dtype, index_dtype, rows, nnz, codes, indptr, indices, values, out, ld_out);
  }
  if (dtype == GRAMIAN_F64) {
    return sketch_csr_typed<double>(value_dtype, index_dtype, rows, nnz, codes, indptr, indices, values, out, ld_out);
  }
  return GRAMIAN_STATUS_INVALID;
}

/* --- gathering columns --------------------------------------------------------------------------------------- */

int gather_columns(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx,
                   const int64_t* index, const void* scale, int times, void* out, int64_t ld_out) {
  if (dtype == GRAMIAN_F32) {
    return gather_type(rows, cols, static_cast<const float*>(x), ldx, index, static_cast<const float*>(scale), times,
                       static_cast<float*>(out), ld_out);
  }
  if (dtype == GRAMIAN_F64) {
    return gather_type(rows, cols, static_cast<const double*>(x), ldx, index, static_cast<const double*>(scale), times,
                       static_cast<double*>(out), ld_out);
  }
  return GRAMIAN_STATUS_INVALID;
}

/* --- circular convolution ------------------------------------------------------------------------------------ */

/* cos and -sin of 2 pi k / p for k < p / 2. */
void fill_roots(int64_t p, double* re, double* im) {
  const double turn = 6.283185307179586476925286766559 / static_cast<double>(p);
  for (int64_t k = 0; k < p / 2; ++k) {
    re[k] = std::cos(turn * static_cast<double>(k));
    im[k] = -std::sin(turn * static_cast<double>(k));
  }
}

/* Decimation in frequency, in place: natural order in, bit-reversed order out. */
void transform_forward(int64_t p, const double* root_re, const double* root_im, double* __restrict re,
                       double* __restrict im) {
  for (int64_t half = p / 2; half >= 1; half /= 2) {
    const int64_t step = p / (2 * half);
    for (int64_t at = 0; at < p; at += 2 * half) {
      for (int64_t k = 0; k < half; ++k) {
        const double ur = re[at + k], ui = im[at + k], vr = re[at + k + half], vi = im[at + k + half];
        const double dr = ur - vr, di = ui - vi, wr = root_re[k * step], wi = root_im[k * step];
        re[at + k] = ur + vr;
        im[at + k] = ui + vi;
        re[at + k + half] = dr * wr - di * wi;
        im[at + k + half] = dr * wi + di * wr;
      }
    }
  }
}

/* The inverse times p: bit-reversed order in, natural order out. */
void transform_back(int64_t p, const double* root_re, const double* root_im, double* __restrict re,
                    double* __restrict im) {
  for (int64_t half = 1; half < p; half *= 2) {
    const int64_t step = p / (2 * half);
    for (int64_t at = 0; at < p; at += 2 * half) {
      for (int64_t k = 0; k < half; ++k) {
        const double wr = root_re[k * step], wi = -root_im[k * step];
        const double vr = re[at + k + half] * wr - im[at + k + half] * wi;
        const double vi = re[at + k + half] * wi + im[at + k + half] * wr;
        const double ur = re[at + k], ui = im[at + k];
        re[at + k] = ur + vr;
        im[at + k] = ui + vi;
        re[at + k + half] = ur - vr;
        im[at + k + half] = ui - vi;
      }
    }
  }
}

/* The frequency that position k of the bit-reversed spectrum holds, negated, as a position: with bit reversal the
 * negative of k > 0 flips all bits below its highest set one. */
inline int64_t negative_frequency(int64_t k) {
  if (k < 2) return k;
  int64_t top = 1;
  while (2 * top <= k) top *= 2;
  return k ^ (top - 1);
}

/* For z = a + i b the spectra are A = (Z_k + conj Z_-k) / 2 and B = (Z_k - conj Z_-k) / 2i, so A B is a quarter of
 * -i (Z_k^2 - conj(Z_-k)^2). */
void multiply_spectra(int64_t p, const double* re, const double* im, double* out_re, double* out_im) {
  for (int64_t k = 0; k < p; ++k) {
    const int64_t n = negative_frequency(k);
    const double sr = re[k] * re[k] - im[k] * im[k] - (re[n] * re[n] - im[n] * im[n]);
    const double si = 2.0 * (re[k] * im[k] + re[n] * im[n]);
    out_re[k] = 0.25 * si;
    out_im[k] = -0.25 * sr;
  }
}

/* A row at a time: the linear convolution by transforms of length p >= 2 n, folded at n. work: roots (p), z (2 p) and
 * the product's spectrum (2 p). */
template <class T>
int convolve_type(int64_t rows, int64_t n, const T* a, int64_t lda, const T* b, int64_t ldb, double* work, T* out,
                  int64_t ld_out) {
  int64_t p = 2;
  while (p < 2 * n) p *= 2;
  double *root_re = work, *root_im = root_re + p / 2, *re = work + p, *im = re + p, *pre = im + p, *pim = pre + p;
  fill_roots(p, root_re, root_im);
  const double scale = 1.0 / static_cast<double>(p);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < p; ++k) {
      re[k] = k < n ? static_cast<double>(a[r * lda + k]) : 0.0;
      im[k] = k < n ? static_cast<double>(b[r * ldb + k]) : 0.0;
    }
    transform_forward(p, root_re, root_im, re, im);
    multiply_spectra(p, re, im, pre, pim);
    transform_back(p, root_re, root_im, pre, pim);
    for (int64_t k = 0; k < n; ++k) out[r * ld_out + k] = static_cast<T>((pre[k] + pre[k + n]) * scale);
  }
  return GRAMIAN_STATUS_OK;
}

int circular_convolve(gramian_context*, int dtype, int64_t rows, int64_t n, const void* a, int64_t lda, const void* b,
                      int64_t ldb, double* work, void* out, int64_t ld_out) {
  if (n < 1) return rows == 0 || n == 0 ? GRAMIAN_STATUS_OK : GRAMIAN_STATUS_INVALID;
  if (dtype == GRAMIAN_F32) {
    return convolve_type(rows, n, static_cast<const float*>(a), lda, static_cast<const float*>(b), ldb, work,
                         static_cast<float*>(out), ld_out);
  }
  if (dtype == GRAMIAN_F64) {
    return convolve_type(rows, n, static_cast<const double*>(a), lda, static_cast<const double*>(b), ldb, work,
                         static_cast<double*>(out), ld_out);
  }
  return GRAMIAN_STATUS_INVALID;
}

}  // namespace

GRAMIAN_FILL_FUNCTION(sketch) {
  table->sparse_sketch = sparse_sketch;
  table->sparse_sketch_csr = sparse_sketch_csr;
  table->gather_columns = gather_columns;
  table->circular_convolve = circular_convolve;
}
