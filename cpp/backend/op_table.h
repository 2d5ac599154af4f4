/* The border between linear algebra written once and the machines that run it.
 *
 * A backend (a CPU instruction set, a BLAS provider, CUDA) is one filled gramian_op_table. Only PODs cross this
 * border, so a backend can be compiled with any flags, by any compiler, into the library or into a module that is
 * opened at run time, and no type can leak through it.
 *
 * Rules that every entry obeys
 *   - Matrices are row-major; `ld*` is the distance between rows in elements (ld >= cols); sizes are int64 and may be
 * 0.
 *   - Pointers are in the table's own memory (host memory for CPU tables, device memory for CUDA) unless the comment
 *     says "host". Nothing is aligned by promise.
 *   - `dtype` is GRAMIAN_F32 or GRAMIAN_F64 and names the type behind every `void*` whose comment names no other type.
 *     Scalars cross as double.
 *   - One call uses one thread; splitting work over threads is the caller's job (linalg). A table with
 *     `tile == 0` wants whole operations instead of tiles (a GPU).
 *   - Returns 0 on success, a negative gramian_status on failure. Where the comment says so, a positive value is an
 *     answer of the operation (the failing pivot of potrf). Entries never throw and never print.
 *   - Outputs do not overlap inputs unless the comment says "in place". NaN and infinity follow IEEE rules: 0 * NaN is
 *     NaN, also where the zero is a weight or a stored element, and a NaN reaches what depends on it and nothing else.
 *   - beta == 0 means the old content of the output is not read (NaN in it does not survive). In gemm, gram and
 *     csr_gemm alpha == 0 means the same for A and B.
 */
#ifndef GRAMIAN_BACKEND_OP_TABLE_H
#define GRAMIAN_BACKEND_OP_TABLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GRAMIAN_OP_API_VERSION 1

enum gramian_status {
  GRAMIAN_STATUS_OK = 0,
  GRAMIAN_STATUS_INVALID = -1, /* an argument no caller above may pass: a bug */
  GRAMIAN_STATUS_NO_MEMORY = -2,
  GRAMIAN_STATUS_BACKEND = -3, /* the device or vendor library failed; error_text says how */
  GRAMIAN_STATUS_UNSUPPORTED = -4,
  GRAMIAN_STATUS_NO_CONVERGENCE = -5
};

/* Compute types are the first two; the others are storage types that load_rows and load_csr widen. */
enum gramian_dtype {
  GRAMIAN_F32 = 0,
  GRAMIAN_F64 = 1,
  GRAMIAN_F16 = 2,
  GRAMIAN_U8 = 3,
  GRAMIAN_I16 = 4,
  GRAMIAN_BOOL = 5, /* one byte, zero is false, anything else is 1 */
  GRAMIAN_I32 = 6,  /* widen only to f64 */
  GRAMIAN_I64 = 7   /* widen only to f64; index arrays of load_csr and csr_gemm use I32 and I64 too */
};

enum gramian_activation {
  GRAMIAN_IDENTITY = 0,
  GRAMIAN_RELU = 1, /* max(x, 0); NaN stays NaN */
  GRAMIAN_TANH = 2,
  GRAMIAN_SIGMOID = 3, /* 1 / (1 + exp(-x)) */
  GRAMIAN_COS = 4,
  GRAMIAN_SIGN = 5 /* -1, 0, 1; NaN stays NaN */
};

/* What the softmax entries answer with. */
enum gramian_softmax { GRAMIAN_SOFTMAX = 0, GRAMIAN_LOG_SOFTMAX = 1, GRAMIAN_LOGSUMEXP = 2 };
/* Flags of the softmax entries. */
enum gramian_softmax_flag {
  GRAMIAN_SOFTMAX_SUBNORMALS = 1, /* results below the smallest normal number stay; without it they are 0 */
  GRAMIAN_SOFTMAX_STREAM = 2      /* the output is larger than the caches: write it past them */
};

enum gramian_memory { GRAMIAN_HOST_MEMORY = 0, GRAMIAN_DEVICE_MEMORY = 1 };
enum gramian_side { GRAMIAN_LEFT = 0, GRAMIAN_RIGHT = 1 };
enum gramian_distribution { GRAMIAN_GAUSSIAN = 0, GRAMIAN_RADEMACHER = 1 };

/* Bytes of scratch that fwht_columns wants. */
#define GRAMIAN_FWHT_SCRATCH 139264
/* Values of the longest row that hadamard_rows of CPU tables transforms together with others, and the elements of work
 * that it wants. */
#define GRAMIAN_HADAMARD_TOGETHER 4096
#define GRAMIAN_HADAMARD_WORK(rows, n) ((rows) * (n) + ((n) <= GRAMIAN_HADAMARD_TOGETHER ? (rows) * (n) + 256 : 0))

/* What a call runs on. CPU tables ignore it and accept NULL. */
typedef struct gramian_context {
  void* device_state; /* made by open(): stream and library handles */
} gramian_context;

/* The name of one draw of randomness; see "Frozen bit law" in docs/guarantees.md.
 * Counter words of block b at index j: low32(j), high32(j), tag | factor << 8 | generation << 16, b. */
typedef struct gramian_stream {
  uint64_t key; /* seed mixed with the family */
  uint32_t tag;
  uint32_t factor;
  uint32_t generation;
} gramian_stream;

typedef struct gramian_op_table {
  uint32_t api_version; /* GRAMIAN_OP_API_VERSION */
  uint32_t struct_size; /* sizeof(gramian_op_table) */
  const char* name;     /* "base", "avx2", "avx512", "neon", "openblas", "cuda" */
  int32_t memory;       /* gramian_memory */
  int32_t tile;         /* preferred edge of square tiles; 0: whole operations */

  /* --- device and memory ------------------------------------------------------------------------------------- */
  /* Makes the state of one device (host pointer out). CPU tables set *device_state = NULL. */
  int (*open)(int device_index, void** device_state);
  void (*close)(void* device_state);
  /* Text of the last failure on this thread, "" if none. Host pointer, valid until the next failing call. */
  const char* (*error_text)(void);
  int (*alloc)(gramian_context*, size_t bytes, void** out); /* 64-byte aligned */
  void (*free)(gramian_context*, void* pointer);
  /* Row blocks of bytes between host and table memory, or inside table memory; strides in bytes. upload and download
   * return after the data may be reused. On CPU tables all three are memcpy. */
  int (*upload)(gramian_context*, int64_t rows, size_t row_bytes, const void* host, int64_t host_stride, void* dst,
                int64_t dst_stride);
  int (*download)(gramian_context*, int64_t rows, size_t row_bytes, const void* src, int64_t src_stride, void* host,
                  int64_t host_stride);
  int (*sync)(gramian_context*);

  /* --- moving and widening rows ------------------------------------------------------------------------------ */
  /* dst[r, c] = (widen(src[row(r), c]) - shift[c]) * row_scale[r], row(r) = row_index ? row_index[r] : r.
   * The arithmetic is double, then rounded to dst_dtype. Strides in bytes, may be 0 or negative; src may be unaligned.
   * shift (cols) and row_scale (rows) are double and may be NULL. *first_bad (host) becomes the smallest r whose
   * source row holds a NaN or an infinity, else -1; dst is written in any case.
   * Cost: reads rows*cols source elements, writes rows*cols. */
  int (*load_rows)(gramian_context*, int src_dtype, const void* src, int64_t row_stride, int64_t col_stride,
                   const int64_t* row_index, int64_t rows, int64_t cols, int dst_dtype, void* dst, int64_t ld_dst,
                   const double* shift, const double* row_scale, int64_t* first_bad);
  /* The same for CSR rows: indptr and indices are of index_dtype (GRAMIAN_I32 or I64); indptr[row] .. indptr[row + 1]
   * index `indices` and `values` from their beginnings. Duplicate entries add up. Column indices were checked above.
   * Entries without a stored value are 0 - shift. */
  int (*load_csr)(gramian_context*, int src_dtype, int index_dtype, const void* indptr, const void* indices,
                  const void* values, const int64_t* row_index, int64_t rows, int64_t cols, int dst_dtype, void* dst,
                  int64_t ld_dst, const double* shift, const double* row_scale, int64_t* first_bad);
  /* dst = alpha * src + beta * dst, any pair of F32/F64: also copy (alpha 1, beta 0), convert, zero (alpha 0, beta 0,
   * src NULL). Computed in the wider of the two types. In place (dst == src) allowed for equal types. */
  int (*axpby)(gramian_context*, int src_dtype, int64_t rows, int64_t cols, double alpha, const void* src,
               int64_t ld_src, double beta, int dst_dtype, void* dst, int64_t ld_dst);
  /* a[i, i] += value, i < n */
  int (*add_diagonal)(gramian_context*, int dtype, int64_t n, double value, void* a, int64_t lda);
  /* a[r, c] = a[c, r] for c > r: the lower triangle mirrored into the upper one. In place. */
  int (*symmetrize)(gramian_context*, int dtype, int64_t n, void* a, int64_t lda);
  /* x[r, c] *= v[c], v of the same dtype. In place. */
  int (*scale_columns)(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* v, void* x, int64_t ldx);
  /* x[r, c] *= v[r], v of the same dtype. In place. */
  int (*scale_rows)(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* v, void* x, int64_t ldx);

  /* --- dense products ---------------------------------------------------------------------------------------- */
  /* C (m x n) = alpha * op(A) * op(B) + beta * C, op(A) m x k. 2 m n k flops. */
  int (*gemm)(gramian_context*, int dtype, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, double alpha,
              const void* a, int64_t lda, const void* b, int64_t ldb, double beta, void* c, int64_t ldc);
  /* Lower triangle of C (n x n) = alpha * A' A + beta * C for A k x n (trans = 1), or alpha * A A' + beta * C for A
   * n x k (trans = 0). The strict upper triangle is not touched. n^2 k flops. */
  int (*gram)(gramian_context*, int dtype, int trans, int64_t n, int64_t k, double alpha, const void* a, int64_t lda,
              double beta, void* c, int64_t ldc);
  /* C (m x n) = alpha * A * op(B) + beta * C for a CSR matrix A (m x k); values of value_dtype (F32 or F64),
   * accumulated in dtype. 2 nnz n flops. B is k x n, not transposed. */
  int (*csr_gemm)(gramian_context*, int dtype, int value_dtype, int index_dtype, int64_t m, int64_t n, int64_t k,
                  double alpha, const void* indptr, const void* indices, const void* values, const void* b, int64_t ldb,
                  double beta, void* c, int64_t ldc);
  /* One sweep of the normal equations, reading A (rows x cols) once: r[i] = b[i] - A[i, :] x, then g += A' r. x and g
   * (cols), b and r (rows) are double and sums are made in double, whatever the type of A; b may be NULL (zeros).
   * 4 rows cols flops. */
  int (*normal_sweep)(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* a, int64_t lda,
                      const double* x, const double* b, double* r, double* g);
  /* Givens rotations on rows of L (rows x cols) and on what they have left of b further rows, X (rows x b); all double.
   * For p in order and within it for j in order, with c = cosine[p * cols + j] and s = sine[p * cols + j], where l
   * stands for L[r, j] and x for X[r, p]: sign > 0: (l, x) = (c l + s x, c x - s l). sign < 0 solves that relation for
   * the rows of before: l = (l - s x) / c, then x = c x - s l. 6 rows cols b flops. */
  int (*rotate_rows)(gramian_context*, int sign, int64_t rows, int64_t cols, int64_t b, const double* cosine,
                     const double* sine, double* l, int64_t ldl, double* x, int64_t ldx);

  /* --- factorisations ---------------------------------------------------------------------------------------- */
  /* Lower Cholesky factor over the lower triangle of A, in place; the strict upper triangle is not touched.
   * Returns 0, or the 1-based index of the first pivot that is not positive (or NaN). n^3 / 3 flops. */
  int (*potrf)(gramian_context*, int dtype, int64_t n, void* a, int64_t lda);
  /* B (m x n) = op(L)^-1 B (side LEFT, L m x m) or B op(L)^-1 (side RIGHT, L n x n), L lower triangular, not unit;
   * its strict upper triangle is not read. In place. A NaN in a column (LEFT) or row (RIGHT) of B stays in it, but may
   * reach all of it; one in L may reach all of B. */
  int (*trsm)(gramian_context*, int dtype, int side, int trans, int64_t m, int64_t n, const void* l, int64_t ldl,
              void* b, int64_t ldb);
  /* Eigen-decomposition of the symmetric matrix in the lower triangle of A: w ascending (n values of dtype), row i of
   * A becomes the unit eigenvector of w[i]. In place. NaN and infinity end in NO_CONVERGENCE. About 9 n^3 flops, half
   * of them bound by memory. */
  int (*syevd)(gramian_context*, int dtype, int64_t n, void* a, int64_t lda, void* w);
  /* QR factorisation of A (m x n) in place, k = min(m, n): on and above the diagonal stands R (k x n), below it the
   * Householder vectors, v_i in column i with v_i[i] = 1 not stored. Q = H_0 H_1 .. H_(k-1), H_i = I - tau[i] v_i v_i',
   * tau: k values of dtype. The diagonal of R has either sign. A NaN in column j leaves the columns before it as they
   * are without it, and may reach all of those behind it: blocked methods multiply it with zeros. 2 n^2 (m - n / 3)
   * flops for m >= n. */
  int (*geqrf)(gramian_context*, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* tau);
  /* C (m x n) = op(Q) C for the Q (m x m) of the k reflectors in a (m x k, k <= m) and tau, as geqrf leaves them.
   * In place; 4 m n k - 2 n k^2 flops. */
  int (*ormqr)(gramian_context*, int dtype, int trans, int64_t m, int64_t n, int64_t k, const void* a, int64_t lda,
               const void* tau, void* c, int64_t ldc);
  /* Thin singular value decomposition A (m x n) = U diag(s) Vt, k = min(m, n): U m x k, Vt k x n, s descending (k
   * values of dtype). A is destroyed. NaN and infinity end in NO_CONVERGENCE. For m = n about 20 n^3 flops. */
  int (*gesvd)(gramian_context*, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* s, void* u, int64_t ldu,
               void* vt, int64_t ldvt);

  /* --- elementwise maps and reductions ----------------------------------------------------------------------- */
  /* x[r, c] = scale * f(x[r, c] + shift[c]), shift of dtype or NULL. In place. */
  int (*map)(gramian_context*, int dtype, int activation, int64_t rows, int64_t cols, const void* shift, double scale,
             void* x, int64_t ldx);
  /* x[r, c] = exp(-gamma * max(0, row_sq[r] + col_sq[c] - 2 x[r, c])); row_sq and col_sq are double. In place. */
  int (*rbf)(gramian_context*, int dtype, int64_t rows, int64_t cols, const double* row_sq, const double* col_sq,
             double gamma, void* x, int64_t ldx);
  /* out[r] (double) = sum_c x[r, c]^2, summed in double */
  int (*row_sumsq)(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx, double* out);
  /* out[c] (double) += sum_r weight[r] x[r, c], rows in order, in double; weight (double) may be NULL */
  int (*column_sums)(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx,
                     const double* weight, double* out);
  /* out[code[r], c] (double) += weight[r] x[r, c], rows in order; weight may be NULL; codes lie in [0, n_codes) */
  int (*class_sums)(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx,
                    const int64_t* code, const double* weight, int64_t n_codes, double* out, int64_t ld_out);

  /* --- randomness: the same bits on every table -------------------------------------------------------------- */
  /* out[j - j0, i - i0] = scale * S(i, j) for i0 <= i < i0 + cols, j0 <= j < j0 + rows: the transpose of a block of the
   * random matrix S of this stream (distribution: gramian_distribution). scale multiplies in double before the
   * rounding to dtype. */
  int (*fill_random)(gramian_context*, int dtype, int distribution, gramian_stream, int64_t j0, int64_t rows,
                     int64_t i0, int64_t cols, double scale, void* out, int64_t ld_out);
  /* out[t] = sign of index j0 + t (+-1): block(j / 128, b = 0), bit j mod 128, set means -1 */
  int (*fill_signs)(gramian_context*, int dtype, gramian_stream, int64_t j0, int64_t count, void* out);
  /* out[t] = low + (high - low) * u, u = (k + 1/2) 2^-52 of index i0 + t: block(i / 2, b = 0), k = word pair i mod 2
   * >> 12; double arithmetic without contraction, rounded to dtype */
  int (*fill_uniform)(gramian_context*, int dtype, gramian_stream, int64_t i0, int64_t count, double low, double high,
                      void* out);
  /* x = rows of `from` (n a power of two) times scale * Walsh-Hadamard matrix in natural (Sylvester) order; in place
   * allowed. rows n log2(n) flops. */
  int (*fwht)(gramian_context*, int dtype, int64_t rows, int64_t n, double scale, const void* from, int64_t ld_from,
              void* x, int64_t ldx);
  /* Columns of x (n x cols, n a power of two) times scale * Walsh-Hadamard matrix in natural order. In place. scratch:
   * GRAMIAN_FWHT_SCRATCH bytes of table memory. CPU tables give a column the bits that fwht gives it as a row.
   * cols n log2(n) flops; one read and one write of x per ten stages begun, or per three where rows have no gaps,
   * or for six stages of wide rows. */
  int (*fwht_columns)(gramian_context*, int dtype, int64_t n, int64_t cols, double scale, void* x, int64_t ldx,
                      void* scratch);

  /* Rows of x (rows x cols) through signs, transforms and a choice. z (n values, n a power of two >= cols) is
   * z[k] = sign[k] * x[r, index[k]], 0 where index[k] < 0; index NULL: k itself, and 0 from cols on. z = H z, and for
   * each further round t = 1 .. rounds - 1: z[k] *= further[(t - 1) * n + k], z = H z. v[q] = scale[q] * (factor *
   * z[choice[q]]) for q < m; choice NULL: q itself; scale NULL: ones. out[r, q] = v[q], or with `times` *= v[q]. sign,
   * further (of 1, -1 and 0) and scale are of dtype. work: GRAMIAN_HADAMARD_WORK(rows, n) elements; rows * n where
   * tile == 0. rows rounds n log2(n) flops; on CPU tables the bits do not depend on how rows are grouped, and x is read
   * and out written once. */
  int (*hadamard_rows)(gramian_context*, int dtype, int64_t rows, int64_t cols, int64_t n, int64_t m, const void* x,
                       int64_t ldx, const int64_t* index, const void* sign, int64_t rounds, const void* further,
                       double factor, const int64_t* choice, const void* scale, int times, void* work, void* out,
                       int64_t ld_out);

  /* --- softmax: z = scale * x, scale > 0 and finite ----------------------------------------------------------- */
  /* By kind (gramian_softmax), per row: out[r, c] = exp(z[r, c]) / sum_c exp(z[r, c]), its logarithm, or
   * out[r, 0] = log sum_c exp(z[r, c]). The maximum is found first, so nothing overflows; sums end in double. -inf
   * gives 0. A row with NaN, with +inf or with nothing but -inf is NaN, but log sum exp is +inf where +inf is there
   * and NaN is not, and -inf where there is nothing else (or no column). In place (out == x) allowed for the first two
   * kinds. flags: gramian_softmax_flag. */
  int (*softmax)(gramian_context*, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
                 const void* x, int64_t ldx, void* out, int64_t ldout);
  /* The same down the columns; log sum exp is out[0, c]. */
  int (*softmax_columns)(gramian_context*, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
                         const void* x, int64_t ldx, void* out, int64_t ldout);
  /* First of two passes: sum_c exp(z[r, c]) = sums[2 r] * 2^sums[2 r + 1], with an integer exponent, or 0 and -inf
   * where all is -inf, or NaN in sums[2 r] where NaN is. Returns 0, or 1 + the first row whose maximum is beyond the
   * reduction's reach, 2^15 log 2 in float32 and 2^20 log 2 in float64 (+inf too): sums are then not to be used. */
  int (*exp_sums)(gramian_context*, int dtype, int64_t rows, int64_t cols, double scale, const void* x, int64_t ldx,
                  double* sums);
  /* Second of two passes: out[r, c] = exp(z[r, c]) / S or its logarithm (kind), S = sums[0] * 2^sums[1] for all rows.
   * In place allowed. */
  int (*exp_write)(gramian_context*, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
                   const void* x, int64_t ldx, const double* sums, void* out, int64_t ldout);

  /* --- sketches ---------------------------------------------------------------------------------------------- */
  /* codes[r * nnz + k] = 2 * row + bit for nonzero k of column j0 + r of a sparse sign matrix with m rows: draw block
   * k / 2 at index j0 + r, w = word pair k mod 2, row = a + floor(w (b - a) / 2^64) with a = floor(k m / nnz) and
   * b = floor((k + 1) m / nnz), bit = w mod 2, set means -1. 1 <= nnz <= m < 2^30. */
  int (*fill_row_hash)(gramian_context*, gramian_stream, int64_t j0, int64_t rows, int64_t nnz, int64_t m,
                       int32_t* codes);
  /* out[row, c] += +-x[r, c] for every code (row, bit) of row r, rows in order: the sparse sketch of `rows` rows of x.
   * out (m x cols) lies in panels of `panel` columns, each packed: column c of row i at
   * out[(c / panel) * m * panel + i * panel + c % panel]. 2 nnz rows cols flops; x is read once. */
  int (*sparse_sketch)(gramian_context*, int dtype, int64_t rows, int64_t cols, int64_t nnz, const int32_t* codes,
                       const void* x, int64_t ldx, int64_t m, int64_t panel, void* out);
  /* The same for CSR rows and a row-major out: the entries of a row in their order, each to its nnz places. Values of
   * value_dtype (F32 or F64), rounded to dtype before they are added. 2 nnz flops a stored entry. */
  int (*sparse_sketch_csr)(gramian_context*, int dtype, int value_dtype, int index_dtype, int64_t rows, int64_t nnz,
                           const int32_t* codes, const void* indptr, const void* indices, const void* values, void* out,
                           int64_t ld_out);
  /* v[r, c] = scale[c] * x[r, index[c]], and 0 where index[c] < 0; scale of dtype, or NULL for ones. out = v, or with
   * `times` out[r, c] *= v[r, c]. */
  int (*gather_columns)(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx,
                        const int64_t* index, const void* scale, int times, void* out, int64_t ld_out);
  /* out[r, k] = sum_t a[r, t] b[r, (k - t) mod n]: rows of circular convolutions of length n, computed in double. work:
   * 5 p doubles, p the smallest power of two >= 2 n. About 10 p log2(p) flops a row on CPU tables. */
  int (*circular_convolve)(gramian_context*, int dtype, int64_t rows, int64_t n, const void* a, int64_t lda,
                           const void* b, int64_t ldb, double* work, void* out, int64_t ld_out);
} gramian_op_table;

#ifdef __cplusplus
}
#endif
#endif
