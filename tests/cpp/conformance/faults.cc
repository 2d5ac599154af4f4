#include "faults.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace conformance {

namespace {

Table real;

/* --- spoiling results in table memory ------------------------------------------------------------------------ */

void poke(gramian_context* x, void* base, int64_t index, size_t size, void (*change)(unsigned char*, size_t)) {
  unsigned char bytes[8] = {};
  auto* place = static_cast<unsigned char*>(base) + index * static_cast<int64_t>(size);
  const auto stride = static_cast<int64_t>(size);
  if (real.download(x, 1, size, place, stride, bytes, stride) != 0) return;
  change(bytes, size);
  real.upload(x, 1, size, bytes, stride, place, stride);
}

/* A relative error of 1e-3, or 1e-3 where the value is zero. */
void disturb(gramian_context* x, int dtype, void* base, int64_t index) {
  poke(x, base, index, size_of(dtype), [](unsigned char* bytes, size_t size) {
    if (size == sizeof(float)) {
      float value;
      std::memcpy(&value, bytes, size);
      value = value == 0.0f ? 1e-3f : value * 1.001f;
      std::memcpy(bytes, &value, size);
    } else {
      double value;
      std::memcpy(&value, bytes, size);
      value = value == 0.0 ? 1e-3 : value * 1.001;
      std::memcpy(bytes, &value, size);
    }
  });
}

/* One unit in the last place. */
void flip_last_bit(gramian_context* x, int dtype, void* base, int64_t index) {
  poke(x, base, index, size_of(dtype), [](unsigned char* bytes, size_t) { bytes[0] ^= 1; });
}

/* 1000 units in the last place: far above rounding in either type, far below what an eye would see. */
void nudge(gramian_context* x, int dtype, void* base, int64_t index) {
  poke(x, base, index, size_of(dtype), [](unsigned char* bytes, size_t size) {
    if (size == sizeof(float)) {
      float value;
      std::memcpy(&value, bytes, size);
      value *= 1.0f + 1000.0f * 0x1p-23f;
      std::memcpy(bytes, &value, size);
    } else {
      double value;
      std::memcpy(&value, bytes, size);
      value *= 1.0 + 1000.0 * 0x1p-52;
      std::memcpy(bytes, &value, size);
    }
  });
}

/* A block of table memory, copied out and put back. */
class Block {
 public:
  Block(gramian_context* x, int dtype, void* base, int64_t rows, int64_t cols, int64_t ld)
      : context_(x),
        dtype_(dtype),
        base_(base),
        rows_(rows),
        row_bytes_(static_cast<size_t>(cols) * size_of(dtype)),
        stride_(ld * static_cast<int64_t>(size_of(dtype))),
        bytes_(static_cast<size_t>(rows) * row_bytes_) {
    if (bytes_.empty()) return;
    const auto packed = static_cast<int64_t>(row_bytes_);
    if (real.download(x, rows, row_bytes_, base, stride_, bytes_.data(), packed) != 0) bytes_.clear();
  }
  size_t size() const { return bytes_.size() / size_of(dtype_); }
  bool is_nan(size_t t) const { return std::isnan(widen(dtype_, bytes_.data() + t * size_of(dtype_))); }
  void set(size_t t, double value) {
    const auto single = static_cast<float>(value);
    const void* from = dtype_ == GRAMIAN_F32 ? static_cast<const void*>(&single) : &value;
    std::memcpy(bytes_.data() + t * size_of(dtype_), from, size_of(dtype_));
  }
  void put_back() {
    if (bytes_.empty()) return;
    real.upload(context_, rows_, row_bytes_, bytes_.data(), static_cast<int64_t>(row_bytes_), base_, stride_);
  }

 private:
  gramian_context* context_;
  int dtype_;
  void* base_;
  int64_t rows_;
  size_t row_bytes_;
  int64_t stride_;
  std::vector<unsigned char> bytes_;
};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/* Kinds of wrong entries that all ops share. */
enum NanFault {
  kLost = 100, /* all NaN of the result become numbers, as where products with zero are left out */
  kSpread,     /* where the result holds a NaN, one of its numbers becomes NaN too */
  kStale       /* with beta == 0 what stood in the output is multiplied with it */
};

void spoil_nan(int kind, gramian_context* x, int dtype, void* base, int64_t rows, int64_t cols, int64_t ld) {
  if (kind != kLost && kind != kSpread) return;
  Block block(x, dtype, base, rows, cols, ld);
  size_t number = block.size();
  bool any = false;
  for (size_t t = 0; t < block.size(); ++t) {
    const bool nan = block.is_nan(t);
    any |= nan;
    if (nan && kind == kLost) block.set(t, 0.0);
    if (!nan && number == block.size()) number = t;
  }
  if (!any) return;
  if (kind == kSpread && number < block.size()) block.set(number, kNan);
  block.put_back();
}

/* The same in the lower triangle, row by row. */
void spoil_lower(int kind, gramian_context* x, int dtype, void* base, int64_t n, int64_t ld) {
  auto* const bytes = static_cast<unsigned char*>(base);
  for (int64_t r = 0; r < n; ++r) {
    spoil_nan(kind, x, dtype, bytes + r * ld * static_cast<int64_t>(size_of(dtype)), 1, r + 1, ld);
  }
}

/* After a call with beta == 0: NaN where one stood before. */
void leave_nan(int kind, gramian_context* x, const Block& before, double beta, int dtype, void* base, int64_t rows,
               int64_t cols, int64_t ld) {
  if (kind != kStale || beta != 0.0) return;
  Block now(x, dtype, base, rows, cols, ld);
  for (size_t t = 0; t < now.size(); ++t) {
    if (before.is_nan(t)) now.set(t, kNan);
  }
  now.put_back();
}

/* --- memory -------------------------------------------------------------------------------------------------- */

bool close_failed = false;

int open_without_state(int, void**) {
  return 0;
}
void close_with_error(void* state) {
  real.close(state);
  close_failed = true;
}
const char* error_text_of_close() {
  return close_failed ? "close failed" : real.error_text();
}
const char* error_text_empty() {
  return "";
}
const char* error_text_null() {
  return nullptr;
}
int alloc_without_memory(gramian_context*, size_t, void** out) {
  *out = nullptr;
  return 0;
}
/* Hands out addresses 8 bytes late; the matching free takes them back. */
int alloc_misaligned(gramian_context* x, size_t bytes, void** out) {
  const int status = real.alloc(x, bytes + 64, out);
  if (status == 0) *out = static_cast<unsigned char*>(*out) + 8;
  return status;
}
void free_misaligned(gramian_context* x, void* pointer) {
  real.free(x, pointer == nullptr ? nullptr : static_cast<unsigned char*>(pointer) - 8);
}
void free_large_never(gramian_context* x, void* pointer) {
  static std::vector<void*> kept;  // 16 MiB blocks of the case that watches; small ones go back
  kept.push_back(pointer);
  if (kept.size() > 1024) {
    real.free(x, kept.front());
    kept.erase(kept.begin());
  }
}
int upload_packed(gramian_context* x, int64_t rows, size_t row_bytes, const void* host, int64_t, void* dst,
                  int64_t dst_stride) {
  return real.upload(x, rows, row_bytes, host, static_cast<int64_t>(row_bytes), dst, dst_stride);
}
int upload_one_less(gramian_context* x, int64_t rows, size_t row_bytes, const void* host, int64_t host_stride,
                    void* dst, int64_t dst_stride) {
  return real.upload(x, rows > 1 ? rows - 1 : rows, row_bytes, host, host_stride, dst, dst_stride);
}
int download_packed(gramian_context* x, int64_t rows, size_t row_bytes, const void* src, int64_t src_stride, void* host,
                    int64_t) {
  return real.download(x, rows, row_bytes, src, src_stride, host, static_cast<int64_t>(row_bytes));
}
int sync_fails(gramian_context*) {
  return GRAMIAN_STATUS_BACKEND;
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

template <int kKind>
int load_rows_wrong(gramian_context* x, int src_dtype, const void* src, int64_t row_stride, int64_t col_stride,
                    const int64_t* row_index, int64_t rows, int64_t cols, int dst_dtype, void* dst, int64_t ld_dst,
                    const double* shift, const double* row_scale, int64_t* first_bad) {
  if (kKind == 0) shift = nullptr;
  if (kKind == 1) row_index = nullptr;
  const int status = real.load_rows(x, src_dtype, src, row_stride, col_stride, row_index, rows, cols, dst_dtype, dst,
                                    ld_dst, shift, row_scale, first_bad);
  if (kKind == 2 && *first_bad >= 0) ++*first_bad;
  if (kKind == 3 && rows > 0 && cols > 0) flip_last_bit(x, dst_dtype, dst, (rows - 1) * ld_dst + cols - 1);
  if (kKind == 4 && rows > 0) flip_last_bit(x, dst_dtype, dst, (rows - 1) * ld_dst + cols);
  spoil_nan(kKind, x, dst_dtype, dst, rows, cols, ld_dst);
  return status;
}

template <int kKind>
int load_csr_wrong(gramian_context* x, int src_dtype, int index_dtype, const void* indptr, const void* indices,
                   const void* values, const int64_t* row_index, int64_t rows, int64_t cols, int dst_dtype, void* dst,
                   int64_t ld_dst, const double* shift, const double* row_scale, int64_t* first_bad) {
  if (kKind == 0) row_scale = nullptr;
  const int status = real.load_csr(x, src_dtype, index_dtype, indptr, indices, values, row_index, rows, cols, dst_dtype,
                                   dst, ld_dst, shift, row_scale, first_bad);
  if (kKind == 1) *first_bad = -1;
  if (kKind == 2 && rows > 0 && cols > 0) flip_last_bit(x, dst_dtype, dst, cols - 1);
  if (kKind == 3 && rows > 0) flip_last_bit(x, dst_dtype, dst, cols);
  spoil_nan(kKind, x, dst_dtype, dst, rows, cols, ld_dst);
  return status;
}

template <int kKind>
int axpby_wrong(gramian_context* x, int src_dtype, int64_t rows, int64_t cols, double alpha, const void* src,
                int64_t ld_src, double beta, int dst_dtype, void* dst, int64_t ld_dst) {
  if (kKind == 0) beta = 0.0;
  const Block before(x, dst_dtype, dst, kKind == kStale ? rows : 0, cols, ld_dst);
  const int status = real.axpby(x, src_dtype, rows, cols, alpha, src, ld_src, beta, dst_dtype, dst, ld_dst);
  if (kKind == 1 && rows > 0 && cols > 0) nudge(x, dst_dtype, dst, cols - 1);
  if (kKind == 2 && rows > 0) nudge(x, dst_dtype, dst, cols);
  spoil_nan(kKind, x, dst_dtype, dst, rows, cols, ld_dst);
  leave_nan(kKind, x, before, beta, dst_dtype, dst, rows, cols, ld_dst);
  return status;
}

template <int kKind>
int add_diagonal_wrong(gramian_context* x, int dtype, int64_t n, double value, void* a, int64_t lda) {
  if (kKind == 0) return real.add_diagonal(x, dtype, n > 1 ? n - 1 : n, value, a, lda);
  const int status = real.add_diagonal(x, dtype, n, value, a, lda);
  if (n > 1 && kKind < kLost) nudge(x, dtype, a, kKind == 1 ? 1 : lda + 1);
  spoil_nan(kKind, x, dtype, a, n, n, lda);
  return status;
}

template <int kKind>
int symmetrize_wrong(gramian_context* x, int dtype, int64_t n, void* a, int64_t lda) {
  if (kKind == 0) return real.symmetrize(x, dtype, n > 0 ? n - 1 : 0, a, lda);
  const int status = real.symmetrize(x, dtype, n, a, lda);
  if (n > 1 && kKind < kLost) flip_last_bit(x, dtype, a, kKind == 1 ? 1 : n);
  spoil_nan(kKind, x, dtype, a, n, n, lda);
  return status;
}

template <int kKind>
int scale_columns_wrong(gramian_context* x, int dtype, int64_t rows, int64_t cols, const void* v, void* m,
                        int64_t ldx) {
  if (kKind == 0) return real.scale_columns(x, dtype, rows, cols > 1 ? cols - 1 : cols, v, m, ldx);
  const int status = real.scale_columns(x, dtype, rows, cols, v, m, ldx);
  if (rows > 0 && kKind < kLost) flip_last_bit(x, dtype, m, kKind == 1 && cols > 0 ? cols - 1 : cols);
  spoil_nan(kKind, x, dtype, m, rows, cols, ldx);
  return status;
}

template <int kKind>
int scale_rows_wrong(gramian_context* x, int dtype, int64_t rows, int64_t cols, const void* v, void* m, int64_t ldx) {
  if (kKind == 0) return real.scale_columns(x, dtype, rows, std::min(rows, cols), v, m, ldx);
  const int status = real.scale_rows(x, dtype, rows, cols, v, m, ldx);
  if (rows > 0 && kKind < kLost) flip_last_bit(x, dtype, m, kKind == 1 && cols > 0 ? cols - 1 : cols);
  spoil_nan(kKind, x, dtype, m, rows, cols, ldx);
  return status;
}

/* --- products and factorisations ----------------------------------------------------------------------------- */

template <int kKind>
int gemm_wrong(gramian_context* x, int dtype, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, double alpha,
               const void* a, int64_t lda, const void* b, int64_t ldb, double beta, void* c, int64_t ldc) {
  if (kKind == 0) beta = 0.0;
  if (kKind == 1 && k > 0) --k;
  const Block before(x, dtype, c, kKind == kStale ? m : 0, n, ldc);
  const int status = real.gemm(x, dtype, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  if (kKind == 2 && m > 0 && n > 0) disturb(x, dtype, c, (m - 1) * ldc + n - 1);
  if (kKind == 3 && m > 0) disturb(x, dtype, c, (m - 1) * ldc + n);
  if (kKind == 4 && k == 1 && m > 0 && n > 0) nudge(x, dtype, c, 0);
  spoil_nan(kKind, x, dtype, c, m, n, ldc);
  leave_nan(kKind, x, before, beta, dtype, c, m, n, ldc);
  return status;
}

template <int kKind>
int gram_wrong(gramian_context* x, int dtype, int trans, int64_t n, int64_t k, double alpha, const void* a, int64_t lda,
               double beta, void* c, int64_t ldc) {
  if (kKind == 0) beta = 0.0;
  const Block before(x, dtype, c, kKind == kStale ? 1 : 0, n > 0 ? 1 : 0, ldc);
  const int status = real.gram(x, dtype, trans, n, k, alpha, a, lda, beta, c, ldc);
  if (kKind == 1 && n > 0) disturb(x, dtype, c, (n - 1) * ldc);
  if (kKind == 2 && n > 1) poke(x, c, 1, size_of(dtype), [](unsigned char* bytes, size_t) { bytes[0] ^= 1; });
  spoil_lower(kKind, x, dtype, c, n, ldc);
  leave_nan(kKind, x, before, beta, dtype, c, 1, n > 0 ? 1 : 0, ldc);
  return status;
}

template <int kKind>
int csr_gemm_wrong(gramian_context* x, int dtype, int value_dtype, int index_dtype, int64_t m, int64_t n, int64_t k,
                   double alpha, const void* indptr, const void* indices, const void* values, const void* b,
                   int64_t ldb, double beta, void* c, int64_t ldc) {
  if (kKind == 0) beta = 0.0;
  const Block before(x, dtype, c, kKind == kStale ? m : 0, n, ldc);
  const int status =
      real.csr_gemm(x, dtype, value_dtype, index_dtype, m, n, k, alpha, indptr, indices, values, b, ldb, beta, c, ldc);
  if (kKind == 1 && m > 0 && n > 0) disturb(x, dtype, c, n - 1);
  if (kKind == 2 && m > 0) disturb(x, dtype, c, n);
  spoil_nan(kKind, x, dtype, c, m, n, ldc);
  leave_nan(kKind, x, before, beta, dtype, c, m, n, ldc);
  return status;
}

template <int kKind>
int potrf_wrong(gramian_context* x, int dtype, int64_t n, void* a, int64_t lda) {
  const int status = real.potrf(x, dtype, n, a, lda);
  if (kKind == 0 && status == 0 && n > 0) disturb(x, dtype, a, (n - 1) * lda + n - 1);
  if (kKind == 1 && status > 0) return status + 1;
  if (kKind == 2 && status == 0 && n > 1) {
    poke(x, a, 1, size_of(dtype), [](unsigned char* bytes, size_t) { bytes[0] ^= 1; });
  }
  return kKind == 3 && status > 0 ? 0 : status;
}

template <int kKind>
int trsm_wrong(gramian_context* x, int dtype, int side, int trans, int64_t m, int64_t n, const void* l, int64_t ldl,
               void* b, int64_t ldb) {
  if (kKind == 0) trans = 0;
  const int status = real.trsm(x, dtype, side, trans, m, n, l, ldl, b, ldb);
  if (kKind == 1 && m > 0 && n > 0) disturb(x, dtype, b, (m - 1) * ldb);
  if (kKind == 2 && m > 0) disturb(x, dtype, b, n);
  spoil_nan(kKind, x, dtype, b, m, n, ldb);
  return status;
}

template <int kKind>
int syevd_wrong(gramian_context* x, int dtype, int64_t n, void* a, int64_t lda, void* w) {
  const int status = real.syevd(x, dtype, n, a, lda, w);
  if (kKind == kLost && status == GRAMIAN_STATUS_NO_CONVERGENCE) return 0;
  if (status != 0 || n == 0) return status;
  if (kKind == 0) disturb(x, dtype, w, n - 1);
  if (kKind == 1) disturb(x, dtype, a, 0);
  if (kKind == 2 && n > 1) disturb(x, dtype, a, n);
  return status;
}

template <int kKind>
int geqrf_wrong(gramian_context* x, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* tau) {
  const int status = real.geqrf(x, dtype, m, n, a, lda, tau);
  if (status != 0 || m == 0 || n == 0) return status;
  if (kKind == 0) disturb(x, dtype, a, n - 1);
  if (kKind == 1) disturb(x, dtype, tau, 0);
  if (kKind == 2) disturb(x, dtype, a, n);
  spoil_nan(kKind, x, dtype, a, m, n, lda);
  return status;
}

template <int kKind>
int ormqr_wrong(gramian_context* x, int dtype, int trans, int64_t m, int64_t n, int64_t k, const void* a, int64_t lda,
                const void* tau, void* c, int64_t ldc) {
  if (kKind == 0) trans = 0;
  const int status = real.ormqr(x, dtype, trans, m, n, k, a, lda, tau, c, ldc);
  if (kKind == 1 && m > 0 && n > 0) disturb(x, dtype, c, (m - 1) * ldc);
  if (kKind == 2 && m > 0) disturb(x, dtype, c, n);
  spoil_nan(kKind, x, dtype, c, m, n, ldc);
  return status;
}

template <int kKind>
int gesvd_wrong(gramian_context* x, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* s, void* u,
                int64_t ldu, void* vt, int64_t ldvt) {
  const int status = real.gesvd(x, dtype, m, n, a, lda, s, u, ldu, vt, ldvt);
  if (kKind == kLost && status == GRAMIAN_STATUS_NO_CONVERGENCE) return 0;
  if (status != 0 || m == 0 || n == 0) return status;
  if (kKind == 0) disturb(x, dtype, s, 0);
  if (kKind == 1) disturb(x, dtype, u, 0);
  if (kKind == 2) disturb(x, dtype, vt, n - 1);
  if (kKind == 3) disturb(x, dtype, vt, n);
  return status;
}

template <int kKind>
int normal_sweep_wrong(gramian_context* x, int dtype, int64_t rows, int64_t cols, const void* a, int64_t lda,
                       const double* solution, const double* b, double* r, double* g) {
  if (kKind == 0) b = nullptr;
  const int status = real.normal_sweep(x, dtype, rows, cols, a, lda, solution, b, r, g);
  if (kKind == 1 && rows > 0) nudge(x, GRAMIAN_F64, r, rows - 1);
  if (kKind == 2 && cols > 0) nudge(x, GRAMIAN_F64, g, 0);
  if (kKind == 3) nudge(x, GRAMIAN_F64, g, cols);
  spoil_nan(kKind, x, GRAMIAN_F64, r, 1, rows, rows);
  return status;
}

template <int kKind>
int rotate_rows_wrong(gramian_context* c, int sign, int64_t rows, int64_t cols, int64_t b, const double* cosine,
                      const double* sine, double* l, int64_t ldl, double* x, int64_t ldx) {
  if (kKind == 0) sign = 1;
  if (kKind == 4 && rows > 1) --rows;
  const int status = real.rotate_rows(c, sign, rows, cols, b, cosine, sine, l, ldl, x, ldx);
  const bool any = rows > 0 && cols > 0 && b > 0;
  if (kKind == 1 && any) nudge(c, GRAMIAN_F64, l, cols - 1);
  if (kKind == 2 && any) nudge(c, GRAMIAN_F64, x, (rows - 1) * ldx);
  if (kKind == 3 && any) nudge(c, GRAMIAN_F64, l, cols);
  spoil_nan(kKind, c, GRAMIAN_F64, l, rows, cols, ldl);
  return status;
}

/* --- elementwise --------------------------------------------------------------------------------------------- */

template <int kKind>
int map_wrong(gramian_context* x, int dtype, int kind, int64_t rows, int64_t cols, const void* shift, double scale,
              void* m, int64_t ldx) {
  if (kKind == 0) shift = nullptr;
  if (kKind == 1) scale = 1.0;
  const int status = real.map(x, dtype, kind, rows, cols, shift, scale, m, ldx);
  if (kKind == 2 && rows > 0 && cols > 0) nudge(x, dtype, m, cols - 1);
  if (kKind == 3 && rows > 0) nudge(x, dtype, m, cols);
  spoil_nan(kKind, x, dtype, m, rows, cols, ldx);
  return status;
}

template <int kKind>
int rbf_wrong(gramian_context* x, int dtype, int64_t rows, int64_t cols, const double* row_sq, const double* col_sq,
              double gamma, void* m, int64_t ldx) {
  const int status = real.rbf(x, dtype, rows, cols, row_sq, col_sq, kKind == 0 ? gamma * 1.001 : gamma, m, ldx);
  if (kKind == 1 && rows > 0 && cols > 0) nudge(x, dtype, m, cols - 1);
  if (kKind == 2 && rows > 0) nudge(x, dtype, m, cols);
  spoil_nan(kKind, x, dtype, m, rows, cols, ldx);
  return status;
}

template <int kKind>
int row_sumsq_wrong(gramian_context* x, int dtype, int64_t rows, int64_t cols, const void* m, int64_t ldx,
                    double* out) {
  const int status = real.row_sumsq(x, dtype, rows, cols > 0 && kKind == 0 ? cols - 1 : cols, m, ldx, out);
  if (kKind == 1 && rows > 0) nudge(x, GRAMIAN_F64, out, rows - 1);
  if (kKind == 2) nudge(x, GRAMIAN_F64, out, rows);
  spoil_nan(kKind, x, GRAMIAN_F64, out, 1, rows, rows);
  return status;
}

template <int kKind>
int column_sums_wrong(gramian_context* x, int dtype, int64_t rows, int64_t cols, const void* m, int64_t ldx,
                      const double* weight, double* out) {
  const int status = real.column_sums(x, dtype, rows, cols, m, ldx, kKind == 0 ? nullptr : weight, out);
  if (kKind == 1 && cols > 0) nudge(x, GRAMIAN_F64, out, cols - 1);
  if (kKind == 2) nudge(x, GRAMIAN_F64, out, cols);
  spoil_nan(kKind, x, GRAMIAN_F64, out, 1, cols, cols);
  return status;
}

template <int kKind>
int class_sums_wrong(gramian_context* x, int dtype, int64_t rows, int64_t cols, const void* m, int64_t ldx,
                     const int64_t* code, const double* weight, int64_t n_codes, double* out, int64_t ld_out) {
  const int status =
      real.class_sums(x, dtype, rows, cols, m, ldx, code, kKind == 0 ? nullptr : weight, n_codes, out, ld_out);
  if (kKind == 1 && cols > 0) nudge(x, GRAMIAN_F64, out, cols - 1);
  if (kKind == 2) nudge(x, GRAMIAN_F64, out, cols);
  spoil_nan(kKind, x, GRAMIAN_F64, out, n_codes, cols, ld_out);
  return status;
}

/* --- randomness and the transform ---------------------------------------------------------------------------- */

template <int kKind>
int fill_random_wrong(gramian_context* x, int dtype, int distribution, gramian_stream stream, int64_t j0, int64_t rows,
                      int64_t i0, int64_t cols, double scale, void* out, int64_t ld_out) {
  if (kKind == 0) stream.generation = 0;
  if (kKind == 1) j0 &= 0xFFFFFFFF;
  const int status = real.fill_random(x, dtype, distribution, stream, j0, rows, i0, cols, scale, out, ld_out);
  if (kKind == 2 && rows > 0 && cols > 0) flip_last_bit(x, dtype, out, cols - 1);
  if (kKind == 3 && rows > 0) flip_last_bit(x, dtype, out, cols);
  return status;
}

template <int kKind>
int fill_signs_wrong(gramian_context* x, int dtype, gramian_stream stream, int64_t j0, int64_t count, void* out) {
  const int status = real.fill_signs(x, dtype, stream, kKind == 0 ? j0 + 1 : j0, count, out);
  if (kKind == 1 && count > 0) flip_last_bit(x, dtype, out, count - 1);
  if (kKind == 2) flip_last_bit(x, dtype, out, count);
  return status;
}

template <int kKind>
int fill_uniform_wrong(gramian_context* x, int dtype, gramian_stream stream, int64_t i0, int64_t count, double low,
                       double high, void* out) {
  const int status = real.fill_uniform(x, dtype, stream, kKind == 0 ? i0 + 1 : i0, count, low, high, out);
  if (kKind == 1 && count > 0) flip_last_bit(x, dtype, out, count - 1);
  if (kKind == 2) flip_last_bit(x, dtype, out, count);
  return status;
}

template <int kKind>
int fwht_wrong(gramian_context* x, int dtype, int64_t rows, int64_t n, double scale, const void* a, int64_t lda,
               void* m, int64_t ldx) {
  const int status =
      real.fwht(x, dtype, rows, n, kKind == 0 ? 1.0 : scale, kKind == 3 ? m : a, kKind == 3 ? ldx : lda, m, ldx);
  if (kKind == 1 && rows > 0) disturb(x, dtype, m, n - 1);
  if (kKind == 2 && rows > 0) disturb(x, dtype, m, n);
  spoil_nan(kKind, x, dtype, m, rows, n, ldx);
  return status;
}

template <int kKind>
int fwht_columns_wrong(gramian_context* x, int dtype, int64_t n, int64_t cols, double scale, void* m, int64_t ldx,
                       void* scratch) {
  const int status = real.fwht_columns(x, dtype, n, cols, kKind == 0 ? 1.0 : scale, m, ldx, scratch);
  if (kKind == 1 && cols > 0) disturb(x, dtype, m, (n - 1) * ldx + cols - 1);
  if (kKind == 2) disturb(x, dtype, m, cols);
  if (kKind == 3) poke(x, scratch, GRAMIAN_FWHT_SCRATCH, 1, [](unsigned char* bytes, size_t) { bytes[0] ^= 1; });
  spoil_nan(kKind, x, dtype, m, n, cols, ldx);
  return status;
}

template <int kKind>
int hadamard_rows_wrong(gramian_context* x, int dtype, int64_t rows, int64_t cols, int64_t n, int64_t m, const void* a,
                        int64_t lda, const int64_t* index, const void* sign, int64_t rounds, const void* further,
                        double factor, const int64_t* choice, const void* scale, int times, void* work, void* out,
                        int64_t ld) {
  const int status = real.hadamard_rows(x, dtype, rows, cols, n, m, a, lda, kKind == 0 ? nullptr : index, sign,
                                        kKind == 1 ? 1 : rounds, further, kKind == 2 ? 1.0 : factor,
                                        kKind == 3 && m <= n ? nullptr : choice, kKind == 4 ? nullptr : scale,
                                        kKind == 5 ? 0 : times, work, out, ld);
  if (kKind == 6 && rows > 0) disturb(x, dtype, out, m - 1);
  if (kKind == 7 && rows > 0) disturb(x, dtype, out, m);
  if (kKind == 8) disturb(x, dtype, work, GRAMIAN_HADAMARD_WORK(rows, n));
  if (kKind == 9 && rows > 16) nudge(x, dtype, out, (rows - 1) * ld);
  spoil_nan(kKind, x, dtype, out, rows, m, ld);
  return status;
}

/* --- softmax ------------------------------------------------------------------------------------------------- */

template <int kKind>
int softmax_wrong(gramian_context* x, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
                  const void* m, int64_t ldx, void* out, int64_t ldout) {
  const int status =
      real.softmax(x, dtype, kind, kKind == 3 ? 0 : flags, rows, kKind == 4 && cols > 1 ? cols - 1 : cols,
                   kKind == 0 ? 1.0 : scale, m, ldx, out, ldout);
  if (kKind == 1 && rows > 0 && cols > 0) nudge(x, dtype, out, 0);
  if (kKind == 2 && rows > 0) nudge(x, dtype, out, kind == GRAMIAN_LOGSUMEXP ? 1 : cols);
  spoil_nan(kKind, x, dtype, out, rows, kind == GRAMIAN_LOGSUMEXP ? 1 : cols, ldout);
  return status;
}

template <int kKind>
int softmax_columns_wrong(gramian_context* x, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
                          const void* m, int64_t ldx, void* out, int64_t ldout) {
  const int status = real.softmax_columns(x, dtype, kind, kKind == 3 ? 0 : flags, rows, cols, kKind == 0 ? 1.0 : scale,
                                          m, ldx, out, ldout);
  if (kKind == 1 && rows > 0 && cols > 0) nudge(x, dtype, out, cols - 1);
  if (kKind == 2 && rows > 0) nudge(x, dtype, out, cols);
  spoil_nan(kKind, x, dtype, out, kind == GRAMIAN_LOGSUMEXP ? 1 : rows, cols, ldout);
  return status;
}

template <int kKind>
int exp_sums_wrong(gramian_context* x, int dtype, int64_t rows, int64_t cols, double scale, const void* m, int64_t ldx,
                   double* sums) {
  const int status = real.exp_sums(x, dtype, rows, cols, kKind == 0 ? 1.0 : scale, m, ldx, sums);
  if (kKind == 1 && rows > 0) nudge(x, GRAMIAN_F64, sums, 2 * rows - 2);
  if (kKind == 2) nudge(x, GRAMIAN_F64, sums, 2 * rows);
  if (kKind == 3 && rows > 0) nudge(x, GRAMIAN_F64, sums, 2 * rows - 1);
  spoil_nan(kKind, x, GRAMIAN_F64, sums, 1, 2 * rows, 2 * rows);
  return kKind == 4 ? 0 : status;
}

template <int kKind>
int exp_write_wrong(gramian_context* x, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
                    const void* m, int64_t ldx, const double* sums, void* out, int64_t ldout) {
  const int status = real.exp_write(x, dtype, kKind == 3 ? GRAMIAN_SOFTMAX : kind, kKind == 4 ? 0 : flags, rows, cols,
                                    kKind == 0 ? 1.0 : scale, m, ldx, sums, out, ldout);
  if (kKind == 1 && rows > 0 && cols > 0) nudge(x, dtype, out, cols - 1);
  if (kKind == 2 && rows > 0) nudge(x, dtype, out, cols);
  spoil_nan(kKind, x, dtype, out, rows, cols, ldout);
  return status;
}

/* --- sketches ------------------------------------------------------------------------------------------------ */

template <int kKind>
int fill_row_hash_wrong(gramian_context* x, gramian_stream stream, int64_t j0, int64_t rows, int64_t nnz, int64_t m,
                        int32_t* codes) {
  if (kKind == 0) stream.factor = 0;
  const int status = real.fill_row_hash(x, stream, kKind == 1 ? j0 + 1 : j0, rows, nnz, m, codes);
  if (kKind == 2 && status == 0) flip_last_bit(x, GRAMIAN_F32, codes, rows * nnz - 1);
  if (kKind == 3 && status == 0) flip_last_bit(x, GRAMIAN_F32, codes, rows * nnz);
  return status;
}

template <int kKind>
int sparse_sketch_wrong(gramian_context* x, int dtype, int64_t rows, int64_t cols, int64_t nnz, const int32_t* codes,
                        const void* a, int64_t lda, int64_t m, int64_t panel, void* out) {
  const int64_t used = kKind == 0 && rows > 0 ? rows - 1 : rows;
  const int status = real.sparse_sketch(x, dtype, used, cols, nnz, codes, a, lda, m, panel, out);
  if (kKind == 1 && cols > 0) flip_last_bit(x, dtype, out, 0);
  if (kKind == 2 && cols > 0) flip_last_bit(x, dtype, out, (cols + panel - 1) / panel * panel * m);
  spoil_nan(kKind, x, dtype, out, 1, (cols + panel - 1) / panel * panel * m, 0);
  return status;
}

template <int kKind>
int sparse_sketch_csr_wrong(gramian_context* x, int dtype, int value_dtype, int index_dtype, int64_t rows, int64_t nnz,
                            const int32_t* codes, const void* indptr, const void* indices, const void* values,
                            void* out, int64_t ld) {
  const int64_t used = kKind == 0 && rows > 0 ? rows - 1 : rows;
  const int status =
      real.sparse_sketch_csr(x, dtype, value_dtype, index_dtype, used, nnz, codes, indptr, indices, values, out, ld);
  if (kKind == 1) flip_last_bit(x, dtype, out, 0);
  if (kKind == 2) flip_last_bit(x, dtype, out, -1);
  spoil_nan(kKind, x, dtype, out, 1, ld, ld);
  return status;
}

template <int kKind>
int gather_columns_wrong(gramian_context* x, int dtype, int64_t rows, int64_t cols, const void* a, int64_t lda,
                         const int64_t* index, const void* scale, int times, void* out, int64_t ld) {
  const int status = real.gather_columns(x, dtype, rows, cols, a, lda, index, kKind == 0 ? nullptr : scale,
                                         kKind == 1 ? 0 : times, out, ld);
  if (kKind == 2 && rows > 0 && cols > 0) nudge(x, dtype, out, cols - 1);
  if (kKind == 3 && rows > 0) nudge(x, dtype, out, cols);
  spoil_nan(kKind, x, dtype, out, rows, cols, ld);
  return status;
}

template <int kKind>
int circular_convolve_wrong(gramian_context* x, int dtype, int64_t rows, int64_t n, const void* a, int64_t lda,
                            const void* b, int64_t ldb, double* work, void* out, int64_t ld) {
  const int status = kKind == 0 ? real.circular_convolve(x, dtype, rows, n, a, lda, a, lda, work, out, ld)
                                : real.circular_convolve(x, dtype, rows, n, a, lda, b, ldb, work, out, ld);
  if (kKind == 1 && rows > 0 && n > 0) disturb(x, dtype, out, n - 1);
  if (kKind == 2 && rows > 0) disturb(x, dtype, out, n);
  spoil_nan(kKind, x, dtype, out, rows, n, ld);
  return status;
}

#define GRAMIAN_FAULT(entry, wrong, what)                            \
  {                                                                  \
#entry, what, [](Table & table) { table.entry = &wrong; }, false \
  }

#define GRAMIAN_NAN_FAULTS(entry)                            \
  GRAMIAN_FAULT(entry, entry##_wrong<kLost>, "loses a NaN"), \
      GRAMIAN_FAULT(entry, entry##_wrong<kSpread>, "spreads a NaN")

}  // namespace

const std::vector<Fault>& all_faults() {
  static const std::vector<Fault> faults = {
      GRAMIAN_FAULT(open, open_without_state, "leaves the state unset"),
      {"close", "fails",
       [](Table& table) {
         close_failed = false;
         table.close = &close_with_error;
         table.error_text = &error_text_of_close;
       },
       false},
      {"error_text", "is empty after a failure", [](Table& table) { table.error_text = &error_text_empty; }, true},
      GRAMIAN_FAULT(error_text, error_text_null, "is null"),
      GRAMIAN_FAULT(alloc, alloc_without_memory, "succeeds without memory"),
      {"alloc", "is misaligned",
       [](Table& table) {
         table.alloc = &alloc_misaligned;
         table.free = &free_misaligned;
       },
       false},
      GRAMIAN_FAULT(free, free_large_never, "keeps the memory"),
      GRAMIAN_FAULT(upload, upload_packed, "ignores the host stride"),
      GRAMIAN_FAULT(upload, upload_one_less, "leaves out the last row"),
      GRAMIAN_FAULT(download, download_packed, "ignores the host stride"),
      GRAMIAN_FAULT(sync, sync_fails, "fails"),
      GRAMIAN_FAULT(load_rows, load_rows_wrong<0>, "ignores shift"),
      GRAMIAN_FAULT(load_rows, load_rows_wrong<1>, "ignores row_index"),
      GRAMIAN_FAULT(load_rows, load_rows_wrong<2>, "names the row after the bad one"),
      GRAMIAN_FAULT(load_rows, load_rows_wrong<3>, "one ulp off in one element"),
      GRAMIAN_FAULT(load_rows, load_rows_wrong<4>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(load_rows),
      GRAMIAN_FAULT(load_csr, load_csr_wrong<0>, "ignores row_scale"),
      GRAMIAN_FAULT(load_csr, load_csr_wrong<1>, "never names a bad row"),
      GRAMIAN_FAULT(load_csr, load_csr_wrong<2>, "one ulp off in one element"),
      GRAMIAN_FAULT(load_csr, load_csr_wrong<3>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(load_csr),
      GRAMIAN_FAULT(axpby, axpby_wrong<0>, "ignores beta"),
      GRAMIAN_FAULT(axpby, axpby_wrong<1>, "1000 ulp off in one element"),
      GRAMIAN_FAULT(axpby, axpby_wrong<2>, "writes one element past a row"),
      GRAMIAN_FAULT(axpby, axpby_wrong<kStale>, "multiplies what it overwrites with a beta of 0"),
      GRAMIAN_NAN_FAULTS(axpby),
      GRAMIAN_FAULT(add_diagonal, add_diagonal_wrong<0>, "leaves out the last element"),
      GRAMIAN_FAULT(add_diagonal, add_diagonal_wrong<1>, "changes an element off the diagonal"),
      GRAMIAN_FAULT(add_diagonal, add_diagonal_wrong<2>, "1000 ulp off in one element"),
      GRAMIAN_NAN_FAULTS(add_diagonal),
      GRAMIAN_FAULT(symmetrize, symmetrize_wrong<0>, "leaves out the last column"),
      GRAMIAN_FAULT(symmetrize, symmetrize_wrong<1>, "one ulp off in one element"),
      GRAMIAN_FAULT(symmetrize, symmetrize_wrong<2>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(symmetrize),
      GRAMIAN_FAULT(scale_columns, scale_columns_wrong<0>, "leaves out the last column"),
      GRAMIAN_FAULT(scale_columns, scale_columns_wrong<1>, "one ulp off in one element"),
      GRAMIAN_FAULT(scale_columns, scale_columns_wrong<2>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(scale_columns),
      GRAMIAN_FAULT(scale_rows, scale_rows_wrong<0>, "scales columns"),
      GRAMIAN_FAULT(scale_rows, scale_rows_wrong<1>, "one ulp off in one element"),
      GRAMIAN_FAULT(scale_rows, scale_rows_wrong<2>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(scale_rows),
      GRAMIAN_FAULT(gemm, gemm_wrong<0>, "ignores beta"),
      GRAMIAN_FAULT(gemm, gemm_wrong<1>, "drops the last term"),
      GRAMIAN_FAULT(gemm, gemm_wrong<2>, "1e-3 off in one element"),
      GRAMIAN_FAULT(gemm, gemm_wrong<3>, "writes one element past a row"),
      GRAMIAN_FAULT(gemm, gemm_wrong<4>, "1000 ulp off for k = 1"),
      GRAMIAN_FAULT(gemm, gemm_wrong<kStale>, "multiplies what it overwrites with a beta of 0"),
      GRAMIAN_NAN_FAULTS(gemm),
      GRAMIAN_FAULT(gram, gram_wrong<0>, "ignores beta"),
      GRAMIAN_FAULT(gram, gram_wrong<1>, "1e-3 off in one element"),
      GRAMIAN_FAULT(gram, gram_wrong<2>, "writes the upper triangle"),
      GRAMIAN_FAULT(gram, gram_wrong<kStale>, "multiplies what it overwrites with a beta of 0"),
      GRAMIAN_NAN_FAULTS(gram),
      GRAMIAN_FAULT(csr_gemm, csr_gemm_wrong<0>, "ignores beta"),
      GRAMIAN_FAULT(csr_gemm, csr_gemm_wrong<1>, "1e-3 off in one element"),
      GRAMIAN_FAULT(csr_gemm, csr_gemm_wrong<2>, "writes one element past a row"),
      GRAMIAN_FAULT(csr_gemm, csr_gemm_wrong<kStale>, "multiplies what it overwrites with a beta of 0"),
      GRAMIAN_NAN_FAULTS(csr_gemm),
      GRAMIAN_FAULT(normal_sweep, normal_sweep_wrong<0>, "ignores b"),
      GRAMIAN_FAULT(normal_sweep, normal_sweep_wrong<1>, "1000 ulp off in one element of r"),
      GRAMIAN_FAULT(normal_sweep, normal_sweep_wrong<2>, "1000 ulp off in one element of g"),
      GRAMIAN_FAULT(normal_sweep, normal_sweep_wrong<3>, "writes one element past g"),
      GRAMIAN_NAN_FAULTS(normal_sweep),
      GRAMIAN_FAULT(rotate_rows, rotate_rows_wrong<0>, "takes rows out as it takes them in"),
      GRAMIAN_FAULT(rotate_rows, rotate_rows_wrong<1>, "1000 ulp off in one element of L"),
      GRAMIAN_FAULT(rotate_rows, rotate_rows_wrong<2>, "1000 ulp off in one element of X"),
      GRAMIAN_FAULT(rotate_rows, rotate_rows_wrong<3>, "writes one element past a row of L"),
      GRAMIAN_FAULT(rotate_rows, rotate_rows_wrong<4>, "leaves out the last row"),
      GRAMIAN_NAN_FAULTS(rotate_rows),
      GRAMIAN_FAULT(potrf, potrf_wrong<0>, "1e-3 off in one element"),
      GRAMIAN_FAULT(potrf, potrf_wrong<1>, "names the pivot after the failing one"),
      GRAMIAN_FAULT(potrf, potrf_wrong<2>, "writes the upper triangle"),
      GRAMIAN_FAULT(potrf, potrf_wrong<3>, "hides the failing pivot"),
      GRAMIAN_FAULT(trsm, trsm_wrong<0>, "ignores trans"),
      GRAMIAN_FAULT(trsm, trsm_wrong<1>, "1e-3 off in one element"),
      GRAMIAN_FAULT(trsm, trsm_wrong<2>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(trsm),
      GRAMIAN_FAULT(syevd, syevd_wrong<0>, "1e-3 off in one eigenvalue"),
      GRAMIAN_FAULT(syevd, syevd_wrong<1>, "1e-3 off in one eigenvector"),
      GRAMIAN_FAULT(syevd, syevd_wrong<2>, "writes one element past a row"),
      GRAMIAN_FAULT(syevd, syevd_wrong<kLost>, "takes NaN for numbers"),
      GRAMIAN_FAULT(geqrf, geqrf_wrong<0>, "1e-3 off in one element of R"),
      GRAMIAN_FAULT(geqrf, geqrf_wrong<1>, "1e-3 off in one factor of a reflector"),
      GRAMIAN_FAULT(geqrf, geqrf_wrong<2>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(geqrf),
      GRAMIAN_FAULT(ormqr, ormqr_wrong<0>, "ignores trans"),
      GRAMIAN_FAULT(ormqr, ormqr_wrong<1>, "1e-3 off in one element"),
      GRAMIAN_FAULT(ormqr, ormqr_wrong<2>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(ormqr),
      GRAMIAN_FAULT(gesvd, gesvd_wrong<0>, "1e-3 off in one singular value"),
      GRAMIAN_FAULT(gesvd, gesvd_wrong<1>, "1e-3 off in one left vector"),
      GRAMIAN_FAULT(gesvd, gesvd_wrong<2>, "1e-3 off in one right vector"),
      GRAMIAN_FAULT(gesvd, gesvd_wrong<3>, "writes one element past a row"),
      GRAMIAN_FAULT(gesvd, gesvd_wrong<kLost>, "takes NaN for numbers"),
      GRAMIAN_FAULT(map, map_wrong<0>, "ignores shift"),
      GRAMIAN_FAULT(map, map_wrong<1>, "ignores scale"),
      GRAMIAN_FAULT(map, map_wrong<2>, "1000 ulp off in one element"),
      GRAMIAN_FAULT(map, map_wrong<3>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(map),
      GRAMIAN_FAULT(rbf, rbf_wrong<0>, "gamma 1e-3 off"),
      GRAMIAN_FAULT(rbf, rbf_wrong<1>, "1000 ulp off in one element"),
      GRAMIAN_FAULT(rbf, rbf_wrong<2>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(rbf),
      GRAMIAN_FAULT(row_sumsq, row_sumsq_wrong<0>, "leaves out the last column"),
      GRAMIAN_FAULT(row_sumsq, row_sumsq_wrong<1>, "1000 ulp off in one element"),
      GRAMIAN_FAULT(row_sumsq, row_sumsq_wrong<2>, "writes one element past the end"),
      GRAMIAN_NAN_FAULTS(row_sumsq),
      GRAMIAN_FAULT(column_sums, column_sums_wrong<0>, "ignores weight"),
      GRAMIAN_FAULT(column_sums, column_sums_wrong<1>, "1000 ulp off in one element"),
      GRAMIAN_FAULT(column_sums, column_sums_wrong<2>, "writes one element past the end"),
      GRAMIAN_NAN_FAULTS(column_sums),
      GRAMIAN_FAULT(class_sums, class_sums_wrong<0>, "ignores weight"),
      GRAMIAN_FAULT(class_sums, class_sums_wrong<1>, "1000 ulp off in one element"),
      GRAMIAN_FAULT(class_sums, class_sums_wrong<2>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(class_sums),
      GRAMIAN_FAULT(fill_random, fill_random_wrong<0>, "ignores the generation"),
      GRAMIAN_FAULT(fill_random, fill_random_wrong<1>, "drops the high word of the index"),
      GRAMIAN_FAULT(fill_random, fill_random_wrong<2>, "one ulp off in one element"),
      GRAMIAN_FAULT(fill_random, fill_random_wrong<3>, "writes one element past a row"),
      GRAMIAN_FAULT(fill_signs, fill_signs_wrong<0>, "begins one index late"),
      GRAMIAN_FAULT(fill_signs, fill_signs_wrong<1>, "one ulp off in one element"),
      GRAMIAN_FAULT(fill_signs, fill_signs_wrong<2>, "writes one element past the end"),
      GRAMIAN_FAULT(fill_uniform, fill_uniform_wrong<0>, "begins one index late"),
      GRAMIAN_FAULT(fill_uniform, fill_uniform_wrong<1>, "one ulp off in one element"),
      GRAMIAN_FAULT(fill_uniform, fill_uniform_wrong<2>, "writes one element past the end"),
      GRAMIAN_FAULT(fwht, fwht_wrong<0>, "ignores scale"),
      GRAMIAN_FAULT(fwht, fwht_wrong<1>, "1e-3 off in one element"),
      GRAMIAN_FAULT(fwht, fwht_wrong<2>, "writes one element past a row"),
      GRAMIAN_FAULT(fwht, fwht_wrong<3>, "transforms what stands in the output"),
      GRAMIAN_NAN_FAULTS(fwht),
      GRAMIAN_FAULT(fwht_columns, fwht_columns_wrong<0>, "ignores scale"),
      GRAMIAN_FAULT(fwht_columns, fwht_columns_wrong<1>, "1e-3 off in one element"),
      GRAMIAN_FAULT(fwht_columns, fwht_columns_wrong<2>, "writes one element past a row"),
      GRAMIAN_FAULT(fwht_columns, fwht_columns_wrong<3>, "writes past the scratch"),
      GRAMIAN_NAN_FAULTS(fwht_columns),
      GRAMIAN_FAULT(hadamard_rows, hadamard_rows_wrong<0>, "ignores the index"),
      GRAMIAN_FAULT(hadamard_rows, hadamard_rows_wrong<1>, "makes one round only"),
      GRAMIAN_FAULT(hadamard_rows, hadamard_rows_wrong<2>, "ignores the factor"),
      GRAMIAN_FAULT(hadamard_rows, hadamard_rows_wrong<3>, "ignores the choice"),
      GRAMIAN_FAULT(hadamard_rows, hadamard_rows_wrong<4>, "ignores scale"),
      GRAMIAN_FAULT(hadamard_rows, hadamard_rows_wrong<5>, "ignores times"),
      GRAMIAN_FAULT(hadamard_rows, hadamard_rows_wrong<6>, "1e-3 off in one element"),
      GRAMIAN_FAULT(hadamard_rows, hadamard_rows_wrong<7>, "writes one element past a row"),
      GRAMIAN_FAULT(hadamard_rows, hadamard_rows_wrong<8>, "writes past the work space"),
      GRAMIAN_FAULT(hadamard_rows, hadamard_rows_wrong<9>, "1000 ulp off in the last of many rows"),
      GRAMIAN_NAN_FAULTS(hadamard_rows),
      GRAMIAN_FAULT(softmax, softmax_wrong<0>, "ignores scale"),
      GRAMIAN_FAULT(softmax, softmax_wrong<1>, "1000 ulp off in one element"),
      GRAMIAN_FAULT(softmax, softmax_wrong<2>, "writes one element past a row"),
      GRAMIAN_FAULT(softmax, softmax_wrong<3>, "always flushes"),
      GRAMIAN_FAULT(softmax, softmax_wrong<4>, "leaves out the last column"),
      GRAMIAN_NAN_FAULTS(softmax),
      GRAMIAN_FAULT(softmax_columns, softmax_columns_wrong<0>, "ignores scale"),
      GRAMIAN_FAULT(softmax_columns, softmax_columns_wrong<1>, "1000 ulp off in one element"),
      GRAMIAN_FAULT(softmax_columns, softmax_columns_wrong<2>, "writes one element past a row"),
      GRAMIAN_FAULT(softmax_columns, softmax_columns_wrong<3>, "always flushes"),
      GRAMIAN_NAN_FAULTS(softmax_columns),
      GRAMIAN_FAULT(exp_sums, exp_sums_wrong<0>, "ignores scale"),
      GRAMIAN_FAULT(exp_sums, exp_sums_wrong<1>, "1000 ulp off in one sum"),
      GRAMIAN_FAULT(exp_sums, exp_sums_wrong<2>, "writes one element past the end"),
      GRAMIAN_FAULT(exp_sums, exp_sums_wrong<3>, "an exponent that is no integer"),
      GRAMIAN_FAULT(exp_sums, exp_sums_wrong<4>, "never names a row out of reach"),
      GRAMIAN_NAN_FAULTS(exp_sums),
      GRAMIAN_FAULT(exp_write, exp_write_wrong<0>, "ignores scale"),
      GRAMIAN_FAULT(exp_write, exp_write_wrong<1>, "1000 ulp off in one element"),
      GRAMIAN_FAULT(exp_write, exp_write_wrong<2>, "writes one element past a row"),
      GRAMIAN_FAULT(exp_write, exp_write_wrong<3>, "ignores the kind"),
      GRAMIAN_FAULT(exp_write, exp_write_wrong<4>, "always flushes"),
      GRAMIAN_NAN_FAULTS(exp_write),
      GRAMIAN_FAULT(fill_row_hash, fill_row_hash_wrong<0>, "ignores the factor"),
      GRAMIAN_FAULT(fill_row_hash, fill_row_hash_wrong<1>, "begins one index late"),
      GRAMIAN_FAULT(fill_row_hash, fill_row_hash_wrong<2>, "one sign wrong"),
      GRAMIAN_FAULT(fill_row_hash, fill_row_hash_wrong<3>, "writes one element past the end"),
      GRAMIAN_FAULT(sparse_sketch, sparse_sketch_wrong<0>, "leaves out the last row"),
      GRAMIAN_FAULT(sparse_sketch, sparse_sketch_wrong<1>, "one ulp off in one element"),
      GRAMIAN_FAULT(sparse_sketch, sparse_sketch_wrong<2>, "writes one element past the end"),
      GRAMIAN_NAN_FAULTS(sparse_sketch),
      GRAMIAN_FAULT(sparse_sketch_csr, sparse_sketch_csr_wrong<0>, "leaves out the last row"),
      GRAMIAN_FAULT(sparse_sketch_csr, sparse_sketch_csr_wrong<1>, "one ulp off in one element"),
      GRAMIAN_FAULT(sparse_sketch_csr, sparse_sketch_csr_wrong<2>, "writes one element before the beginning"),
      GRAMIAN_NAN_FAULTS(sparse_sketch_csr),
      GRAMIAN_FAULT(gather_columns, gather_columns_wrong<0>, "ignores scale"),
      GRAMIAN_FAULT(gather_columns, gather_columns_wrong<1>, "ignores times"),
      GRAMIAN_FAULT(gather_columns, gather_columns_wrong<2>, "1000 ulp off in one element"),
      GRAMIAN_FAULT(gather_columns, gather_columns_wrong<3>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(gather_columns),
      GRAMIAN_FAULT(circular_convolve, circular_convolve_wrong<0>, "takes one operand twice"),
      GRAMIAN_FAULT(circular_convolve, circular_convolve_wrong<1>, "1e-3 off in one element"),
      GRAMIAN_FAULT(circular_convolve, circular_convolve_wrong<2>, "writes one element past a row"),
      GRAMIAN_NAN_FAULTS(circular_convolve),
  };
  return faults;
}

#undef GRAMIAN_NAN_FAULTS
#undef GRAMIAN_FAULT

void set_true_table(const Table& table) {
  real = table;
}

}  // namespace conformance
