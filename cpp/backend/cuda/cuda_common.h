/* What the files of the CUDA table share: the state of one open device, the guard that every entry begins with, error
 * texts, work counters and the launch shapes. Private to this folder.
 *
 * All work of a state goes to its one stream, in order. Entries that answer with a value on the host wait for it; the
 * others return as soon as their work is queued, and a fault of the device shows up in a later call or in sync().
 * A state may be used by several host threads: its mutex is held for the length of a call.
 * Typed arrays (indptr, indices, weights ...) are naturally aligned; only the `src` of load_rows may be unaligned.
 */
#ifndef GRAMIAN_BACKEND_CUDA_COMMON_H
#define GRAMIAN_BACKEND_CUDA_COMMON_H

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cusolverDn.h>
#include <stddef.h>
#include <stdint.h>

#include <mutex>

#include "../op_table.h"

namespace gramian_cuda {

constexpr int kOk = GRAMIAN_STATUS_OK;

struct State {
  int device = 0;
  cudaStream_t stream = nullptr;
  cublasHandle_t blas = nullptr;
  cusolverDnHandle_t solver = nullptr;
  cusolverDnParams_t solver_params = nullptr;
  int64_t* answer = nullptr;  /* one device word for first_bad, pivots and the like */
  int* solver_info = nullptr; /* one device word for cuSOLVER */
  void* workspace = nullptr;  /* device scratch of cuSOLVER; grows, never shrinks */
  size_t workspace_bytes = 0;
  std::mutex mutex;
};

/* --- errors: each keeps the text for error_text() and returns the gramian_status that fits ---------------------- */
int invalid(const char* what);
int failed(int status, const char* what, const char* text);
int check(cudaError_t, const char* what);
int check(cublasStatus_t, const char* what);
int check(cusolverStatus_t, const char* what);

#define GRAMIAN_CUDA_TRY(expression)                        \
  do {                                                      \
    const int gramian_try_status = (expression);            \
    if (gramian_try_status != 0) return gramian_try_status; \
  } while (0)

/* --- work counters ---------------------------------------------------------------------------------------------- */
void count_allocation();
void count_work();

/* Ends the launch of a kernel or a call of a vendor's routine that computes: checks and counts it. */
template <class Status>
int submitted(Status status, const char* what) {
  count_work();
  return check(status, what);
}
inline int launched(const char* what) {
  return submitted(cudaGetLastError(), what);
}

/* --- the guard of an entry -------------------------------------------------------------------------------------- */
/* Locks the state and makes its device the current one of this thread; the destructor puts both back, so that a host
 * program with its own CUDA code keeps its device. */
class Call {
 public:
  explicit Call(gramian_context* context);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  int status() const { return status_; }
  State& state() { return *state_; }

 private:
  State* state_ = nullptr;
  int previous_device_ = -1;
  int status_ = kOk;
};

/* Runs body(State&) under the guard. */
template <class Body>
int guarded(gramian_context* context, Body body) {
  Call call(context);
  return call.status() != 0 ? call.status() : body(call.state());
}

/* Runs body(T{}) with T the C++ type of a compute dtype. */
template <class Body>
int with_type(int dtype, Body body) {
  if (dtype == GRAMIAN_F32) return body(float{});
  if (dtype == GRAMIAN_F64) return body(double{});
  return invalid("dtype is neither F32 nor F64");
}

/* Device scratch of at least `bytes` bytes, valid until the next call on this state. */
int workspace(State&, size_t bytes, void** out);
/* Copies one device word to the host and waits for it. */
int read_word(State&, const void* device, void* host, size_t bytes);

/* --- launch shapes ---------------------------------------------------------------------------------------------- */
constexpr int kBlockThreads = 256;
constexpr int64_t kMaxGrid = 65535;

/* Blocks that cover `items` in steps of `per_block`, capped: kernels walk on by grid strides. */
inline unsigned grid_size(int64_t items, int64_t per_block) {
  const int64_t blocks = (items + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks < kMaxGrid ? blocks : kMaxGrid);
}

struct Shape {
  dim3 grid, block;
};

/* 256 threads over a rows x cols matrix: x walks columns; narrow matrices give the rest of a block to rows. */
inline Shape matrix_shape(int64_t rows, int64_t cols) {
  unsigned width = 1;
  while (width < cols && width < kBlockThreads) width *= 2;
  const unsigned height = kBlockThreads / width;
  return {dim3(grid_size(cols, width), grid_size(rows, height)), dim3(width, height)};
}

#ifdef __CUDACC__
__device__ inline int64_t first_x() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t step_x() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}
__device__ inline int64_t first_y() {
  return static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
}
__device__ inline int64_t step_y() {
  return static_cast<int64_t>(gridDim.y) * blockDim.y;
}

/* *word = min(*word, value) */
__device__ inline void lower_word(int64_t* word, int64_t value) {
  atomicMin(reinterpret_cast<long long*>(word), static_cast<long long>(value));
}
#endif

/* Larger than any row or pivot: "none" in State::answer. */
constexpr int64_t kNone = INT64_MAX;
/* Sets State::answer to kNone, in stream order. */
int reset_answer(State&);
/* Waits for State::answer; NULL asks for nothing. *first_bad becomes -1 where nothing was found. */
int read_first_bad(State&, int64_t* first_bad);

/* --- the entries, as op_table.h describes them ------------------------------------------------------------------ */
int open(int device_index, void** device_state);
void close(void* device_state);
const char* error_text(void);
int alloc(gramian_context*, size_t bytes, void** out);
void free(gramian_context*, void* pointer);
int upload(gramian_context*, int64_t rows, size_t row_bytes, const void* host, int64_t host_stride, void* dst,
           int64_t dst_stride);
int download(gramian_context*, int64_t rows, size_t row_bytes, const void* src, int64_t src_stride, void* host,
             int64_t host_stride);
int sync(gramian_context*);

int load_rows(gramian_context*, int src_dtype, const void* src, int64_t row_stride, int64_t col_stride,
              const int64_t* row_index, int64_t rows, int64_t cols, int dst_dtype, void* dst, int64_t ld_dst,
              const double* shift, const double* row_scale, int64_t* first_bad);
int load_csr(gramian_context*, int src_dtype, int index_dtype, const void* indptr, const void* indices,
             const void* values, const int64_t* row_index, int64_t rows, int64_t cols, int dst_dtype, void* dst,
             int64_t ld_dst, const double* shift, const double* row_scale, int64_t* first_bad);
int axpby(gramian_context*, int src_dtype, int64_t rows, int64_t cols, double alpha, const void* src, int64_t ld_src,
          double beta, int dst_dtype, void* dst, int64_t ld_dst);
int add_diagonal(gramian_context*, int dtype, int64_t n, double value, void* a, int64_t lda);
int symmetrize(gramian_context*, int dtype, int64_t n, void* a, int64_t lda);
int scale_columns(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* v, void* x, int64_t ldx);
int scale_rows(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* v, void* x, int64_t ldx);

int gemm(gramian_context*, int dtype, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, double alpha,
         const void* a, int64_t lda, const void* b, int64_t ldb, double beta, void* c, int64_t ldc);
int gram(gramian_context*, int dtype, int trans, int64_t n, int64_t k, double alpha, const void* a, int64_t lda,
         double beta, void* c, int64_t ldc);
int csr_gemm(gramian_context*, int dtype, int value_dtype, int index_dtype, int64_t m, int64_t n, int64_t k,
             double alpha, const void* indptr, const void* indices, const void* values, const void* b, int64_t ldb,
             double beta, void* c, int64_t ldc);
int normal_sweep(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* a, int64_t lda, const double* x,
                 const double* b, double* r, double* g);
int rotate_rows(gramian_context*, int sign, int64_t rows, int64_t cols, int64_t b, const double* cosine,
                const double* sine, double* l, int64_t ldl, double* x, int64_t ldx);

int potrf(gramian_context*, int dtype, int64_t n, void* a, int64_t lda);
int trsm(gramian_context*, int dtype, int side, int trans, int64_t m, int64_t n, const void* l, int64_t ldl, void* b,
         int64_t ldb);
int syevd(gramian_context*, int dtype, int64_t n, void* a, int64_t lda, void* w);
int geqrf(gramian_context*, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* tau);
int ormqr(gramian_context*, int dtype, int trans, int64_t m, int64_t n, int64_t k, const void* a, int64_t lda,
          const void* tau, void* c, int64_t ldc);
int gesvd(gramian_context*, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* s, void* u, int64_t ldu,
          void* vt, int64_t ldvt);

int map(gramian_context*, int dtype, int activation, int64_t rows, int64_t cols, const void* shift, double scale,
        void* x, int64_t ldx);
int rbf(gramian_context*, int dtype, int64_t rows, int64_t cols, const double* row_sq, const double* col_sq,
        double gamma, void* x, int64_t ldx);
int row_sumsq(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx, double* out);
int column_sums(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx,
                const double* weight, double* out);
int class_sums(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx, const int64_t* code,
               const double* weight, int64_t n_codes, double* out, int64_t ld_out);

int fill_random(gramian_context*, int dtype, int distribution, gramian_stream, int64_t j0, int64_t rows, int64_t i0,
                int64_t cols, double scale, void* out, int64_t ld_out);
int fill_signs(gramian_context*, int dtype, gramian_stream, int64_t j0, int64_t count, void* out);
int fill_uniform(gramian_context*, int dtype, gramian_stream, int64_t i0, int64_t count, double low, double high,
                 void* out);
int fwht(gramian_context*, int dtype, int64_t rows, int64_t n, double scale, const void* from, int64_t ld_from, void* x,
         int64_t ldx);
int fwht_columns(gramian_context*, int dtype, int64_t n, int64_t cols, double scale, void* x, int64_t ldx,
                 void* scratch);
int hadamard_rows(gramian_context*, int dtype, int64_t rows, int64_t cols, int64_t n, int64_t m, const void* x,
                  int64_t ldx, const int64_t* index, const void* sign, int64_t rounds, const void* further,
                  double factor, const int64_t* choice, const void* scale, int times, void* work, void* out,
                  int64_t ld_out);
int softmax(gramian_context*, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale, const void* x,
            int64_t ldx, void* out, int64_t ldout);
int softmax_columns(gramian_context*, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale,
                    const void* x, int64_t ldx, void* out, int64_t ldout);
int exp_sums(gramian_context*, int dtype, int64_t rows, int64_t cols, double scale, const void* x, int64_t ldx,
             double* sums);
int exp_write(gramian_context*, int dtype, int kind, int flags, int64_t rows, int64_t cols, double scale, const void* x,
              int64_t ldx, const double* sums, void* out, int64_t ldout);

int fill_row_hash(gramian_context*, gramian_stream, int64_t j0, int64_t rows, int64_t nnz, int64_t m, int32_t* codes);
int sparse_sketch(gramian_context*, int dtype, int64_t rows, int64_t cols, int64_t nnz, const int32_t* codes,
                  const void* x, int64_t ldx, int64_t m, int64_t panel, void* out);
int sparse_sketch_csr(gramian_context*, int dtype, int value_dtype, int index_dtype, int64_t rows, int64_t nnz,
                      const int32_t* codes, const void* indptr, const void* indices, const void* values, void* out,
                      int64_t ld_out);
int gather_columns(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* x, int64_t ldx,
                   const int64_t* index, const void* scale, int times, void* out, int64_t ld_out);
int circular_convolve(gramian_context*, int dtype, int64_t rows, int64_t n, const void* a, int64_t lda, const void* b,
                      int64_t ldb, double* work, void* out, int64_t ld_out);

}  // namespace gramian_cuda
#endif
