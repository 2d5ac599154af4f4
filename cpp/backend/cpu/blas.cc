#include "backend/cpu/blas.h"

#if defined(GRAMIAN_HAVE_OPENBLAS)

#include <algorithm>
#include <atomic>
#include <climits>
#include <cmath>
#include <condition_variable>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <new>

#if !defined(_WIN32)
#include <pthread.h>
#endif

#define GRAMIAN_PASTE(a, b) a##b
#define GRAMIAN_PREFIXED(prefix, name) GRAMIAN_PASTE(prefix, name)
// The symbols of a scipy-openblas library begin with scipy_, those of a system's begin with nothing.
#define GRAMIAN_BLAS(name) GRAMIAN_PREFIXED(GRAMIAN_BLAS_PREFIX, name)

// Declared here, since not every OpenBLAS comes with headers: the 32-bit integer interface. The Fortran entries take
// the lengths of their text arguments at the end, as gfortran passes them.
extern "C" {
#define GRAMIAN_DECLARE_BLAS(s, T)                                                                                   \
  void GRAMIAN_BLAS(cblas_##s##gemm)(int order, int trans_a, int trans_b, int m, int n, int k, T alpha, const T* a,  \
                                     int lda, const T* b, int ldb, T beta, T* c, int ldc);                           \
  void GRAMIAN_BLAS(cblas_##s##syrk)(int order, int uplo, int trans, int n, int k, T alpha, const T* a, int lda,     \
                                     T beta, T* c, int ldc);                                                         \
  void GRAMIAN_BLAS(cblas_##s##trsm)(int order, int side, int uplo, int trans, int diagonal, int m, int n, T alpha,  \
                                     const T* l, int ldl, T* b, int ldb);                                            \
  void GRAMIAN_BLAS(s##potrf_)(const char* uplo, const int* n, T* a, const int* lda, int* info, std::size_t);        \
  void GRAMIAN_BLAS(s##syevd_)(const char* job, const char* uplo, const int* n, T* a, const int* lda, T* w, T* work, \
                               const int* work_size, int* iwork, const int* iwork_size, int* info, std::size_t,      \
                               std::size_t);                                                                         \
  void GRAMIAN_BLAS(s##gelqf_)(const int* m, const int* n, T* a, const int* lda, T* tau, T* work,                    \
                               const int* work_size, int* info);                                                     \
  void GRAMIAN_BLAS(s##ormlq_)(const char* side, const char* trans, const int* m, const int* n, const int* k,        \
                               const T* a, const int* lda, const T* tau, T* c, const int* ldc, T* work,              \
                               const int* work_size, int* info, std::size_t, std::size_t);                           \
  void GRAMIAN_BLAS(s##gesdd_)(const char* job, const int* m, const int* n, T* a, const int* lda, T* values, T* u,   \
                               const int* ldu, T* vt, const int* ldvt, T* work, const int* work_size, int* iwork,    \
                               int* info, std::size_t);
GRAMIAN_DECLARE_BLAS(s, float)
GRAMIAN_DECLARE_BLAS(d, double)
#undef GRAMIAN_DECLARE_BLAS
int GRAMIAN_BLAS(openblas_get_num_threads)(void);
void GRAMIAN_BLAS(openblas_set_num_threads)(int threads);
char* GRAMIAN_BLAS(openblas_get_corename)(void);
char* GRAMIAN_BLAS(openblas_get_config)(void);
}

namespace gramian::backend {
namespace {

// The values of the C interface of BLAS.
constexpr int kRowMajor = 101, kNoTrans = 111, kTrans = 112, kLower = 122, kNonUnit = 131, kLeft = 141, kRight = 142;

// The other triangle's letter: LAPACK reads our rows as columns.
constexpr char kLowerOfRows = 'U';

constexpr int cblas_trans(int trans) {
  return trans != 0 ? kTrans : kNoTrans;
}

template <class T>
struct Blas;

#define GRAMIAN_BLAS_OF(s, T)                                   \
  template <>                                                   \
  struct Blas<T> {                                              \
    static constexpr auto gemm = GRAMIAN_BLAS(cblas_##s##gemm); \
    static constexpr auto syrk = GRAMIAN_BLAS(cblas_##s##syrk); \
    static constexpr auto trsm = GRAMIAN_BLAS(cblas_##s##trsm); \
    static constexpr auto potrf = GRAMIAN_BLAS(s##potrf_);      \
    static constexpr auto syevd = GRAMIAN_BLAS(s##syevd_);      \
    static constexpr auto gelqf = GRAMIAN_BLAS(s##gelqf_);      \
    static constexpr auto ormlq = GRAMIAN_BLAS(s##ormlq_);      \
    static constexpr auto gesdd = GRAMIAN_BLAS(s##gesdd_);      \
  };
GRAMIAN_BLAS_OF(s, float)
GRAMIAN_BLAS_OF(d, double)
#undef GRAMIAN_BLAS_OF

// OpenBLAS has a fixed number of work buffers: beyond about twice this many callers it warns, then fails.
constexpr int kMaxCallers = 48;

// Lets kMaxCallers threads in at once; below that it costs one atomic addition each way.
class Gate {
 public:
  void enter() {
    if (inside_.fetch_add(1) < kMaxCallers) return;
    inside_.fetch_sub(1);
    std::unique_lock<std::mutex> lock(mutex_);
    // A leaver either sees this count or has made room before the first look below.
    waiting_.fetch_add(1);
    room_.wait(lock, [this] { return try_enter(); });
    waiting_.fetch_sub(1);
  }

  void leave() {
    inside_.fetch_sub(1);
    if (waiting_.load() == 0) return;
    std::lock_guard<std::mutex> lock(mutex_);
    room_.notify_one();
  }

 private:
  bool try_enter() {
    int seen = inside_.load();
    while (seen < kMaxCallers) {
      if (inside_.compare_exchange_weak(seen, seen + 1)) return true;
    }
    return false;
  }

  std::atomic<int> inside_{0}, waiting_{0};
  std::mutex mutex_;
  std::condition_variable room_;
};

// Never deleted: threads may still compute while the process ends. Made before the table that leads here is handed out.
Gate* gate = nullptr;

// In a child of fork, the callers of the parent are not there.
void renew_gate() {
  gate = new Gate;
}

void use_one_thread() {
  // Other code of the process may raise the count at any time; parallelism is ours, outside of BLAS.
  if (GRAMIAN_BLAS(openblas_get_num_threads)() != 1) GRAMIAN_BLAS(openblas_set_num_threads)(1);
}

// Stands around every call into OpenBLAS.
class BlasCall {
 public:
  BlasCall() {
    gate->enter();
    use_one_thread();
  }
  ~BlasCall() { gate->leave(); }
  BlasCall(const BlasCall&) = delete;
  BlasCall& operator=(const BlasCall&) = delete;
};

// The table below ours. Set once, before ours is handed out.
const gramian_op_table* small = nullptr;

// Measured against our AVX2 kernels on one core: OpenBLAS is level at 8 to 32 and ahead from there (gemm 1.0x, potrf
// 1.3x, trsm 2x to 5x at 128), its eigen-decomposition from 64 on (2x at 128). Below, calls take well under a
// microsecond, and threads that make many of them would meet at the gate and at OpenBLAS's buffers.
constexpr int64_t kSmallSide = 16;
// Products of so few columns, or of so few terms that are rows of B, are ours whatever the other sides: they are bound
// by reading A or C, and OpenBLAS copies its operands first.
constexpr int64_t kFewColumns = 16;
constexpr int64_t kFewTerms = 8;
// Triangular systems of so few columns and of at most this order: a call into OpenBLAS takes several times as long.
constexpr int64_t kThinOrder = 64;
constexpr int64_t kSmallEigen = 48;

// Empty problems too: BLAS has its own opinions about them.
bool is_small(int64_t a, int64_t b, int64_t c) {
  return std::max({a, b, c}) <= kSmallSide || std::min({a, b, c}) == 0;
}
bool fits(std::initializer_list<int64_t> sizes) {
  return std::max(sizes) <= INT_MAX;
}
constexpr int narrow(int64_t size) {
  return static_cast<int>(size);
}

// Calls body(T()) for the type behind dtype.
template <class F>
int with_type(int dtype, F body) {
  if (dtype == GRAMIAN_F32) return body(float());
  if (dtype == GRAMIAN_F64) return body(double());
  return GRAMIAN_STATUS_INVALID;
}

int gemm(gramian_context* context, int dtype, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, double alpha,
         const void* a, int64_t lda, const void* b, int64_t ldb, double beta, void* c, int64_t ldc) {
  const bool ours = n <= kFewColumns || (k <= kFewTerms && trans_b == 0);
  if (ours || is_small(m, n, k) || !fits({m, n, k, lda, ldb, ldc})) {
    return small->gemm(context, dtype, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    const BlasCall call;
    Blas<T>::gemm(kRowMajor, cblas_trans(trans_a), cblas_trans(trans_b), narrow(m), narrow(n), narrow(k),
                  static_cast<T>(alpha), static_cast<const T*>(a), narrow(lda), static_cast<const T*>(b), narrow(ldb),
                  static_cast<T>(beta), static_cast<T*>(c), narrow(ldc));
    return static_cast<int>(GRAMIAN_STATUS_OK);
  });
}

int gram(gramian_context* context, int dtype, int trans, int64_t n, int64_t k, double alpha, const void* a, int64_t lda,
         double beta, void* c, int64_t ldc) {
  if ((k <= kFewTerms && trans != 0) || is_small(n, n, k) || !fits({n, k, lda, ldc})) {
    return small->gram(context, dtype, trans, n, k, alpha, a, lda, beta, c, ldc);
  }
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    const BlasCall call;
    Blas<T>::syrk(kRowMajor, kLower, cblas_trans(trans), narrow(n), narrow(k), static_cast<T>(alpha),
                  static_cast<const T*>(a), narrow(lda), static_cast<T>(beta), static_cast<T*>(c), narrow(ldc));
    return static_cast<int>(GRAMIAN_STATUS_OK);
  });
}

int trsm(gramian_context* context, int dtype, int side, int trans, int64_t m, int64_t n, const void* l, int64_t ldl,
         void* b, int64_t ldb) {
  const bool thin = side == GRAMIAN_LEFT && m <= kThinOrder && n <= kFewColumns;
  if (thin || is_small(m, n, n) || !fits({m, n, ldl, ldb})) {
    return small->trsm(context, dtype, side, trans, m, n, l, ldl, b, ldb);
  }
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    const BlasCall call;
    Blas<T>::trsm(kRowMajor, side == GRAMIAN_LEFT ? kLeft : kRight, kLower, cblas_trans(trans), kNonUnit, narrow(m),
                  narrow(n), T(1), static_cast<const T*>(l), narrow(ldl), static_cast<T*>(b), narrow(ldb));
    return static_cast<int>(GRAMIAN_STATUS_OK);
  });
}

int potrf(gramian_context* context, int dtype, int64_t n, void* a, int64_t lda) {
  if (is_small(n, n, n) || !fits({n, lda})) return small->potrf(context, dtype, n, a, lda);
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    T* const factor = static_cast<T*>(a);
    const int size = narrow(n), stride = narrow(lda);
    int info = 0;
    {
      const BlasCall call;
      Blas<T>::potrf(&kLowerOfRows, &size, factor, &stride, &info, 1);
    }
    if (info < 0) return static_cast<int>(GRAMIAN_STATUS_INVALID);
    // OpenBLAS stops at pivots <= 0 only; a NaN pivot leaves its NaN on the diagonal and the rest runs on.
    const int64_t done = info > 0 ? info - 1 : n;
    for (int64_t i = 0; i < done; ++i) {
      if (!(factor[i * lda + i] > T(0))) return narrow(i + 1);
    }
    return info;
  });
}

template <class T>
bool lower_is_finite(int64_t n, const T* a, int64_t lda) {
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = 0; c <= r; ++c) {
      if (!std::isfinite(a[r * lda + c])) return false;
    }
  }
  return true;
}

int syevd(gramian_context* context, int dtype, int64_t n, void* a, int64_t lda, void* w) {
  // Above this size the length of the workspace, 1 + 6 n + 2 n^2, leaves the 32-bit integers of LAPACK.
  constexpr int64_t max_size = 32765;
  if (n <= kSmallEigen || n > max_size || !fits({lda})) return small->syevd(context, dtype, n, a, lda, w);
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    // The iterations of LAPACK have no way out of NaN.
    if (!lower_is_finite(n, static_cast<const T*>(a), lda)) return static_cast<int>(GRAMIAN_STATUS_NO_CONVERGENCE);
    const int size = narrow(n), stride = narrow(lda);
    const int work_size = 1 + 6 * size + 2 * size * size, iwork_size = 3 + 5 * size;
    const std::unique_ptr<T[]> work(new (std::nothrow) T[static_cast<std::size_t>(work_size)]);
    const std::unique_ptr<int[]> iwork(new (std::nothrow) int[static_cast<std::size_t>(iwork_size)]);
    if (work == nullptr || iwork == nullptr) return static_cast<int>(GRAMIAN_STATUS_NO_MEMORY);
    int info = 0;
    const BlasCall call;
    // The eigenvectors come out as columns of LAPACK's matrix, which are rows of ours.
    Blas<T>::syevd("V", &kLowerOfRows, &size, static_cast<T*>(a), &stride, static_cast<T*>(w), work.get(), &work_size,
                   iwork.get(), &iwork_size, &info, 1, 1);
    if (info < 0) return static_cast<int>(GRAMIAN_STATUS_INVALID);
    return static_cast<int>(info > 0 ? GRAMIAN_STATUS_NO_CONVERGENCE : GRAMIAN_STATUS_OK);
  });
}

// Work space of a LAPACK routine: asks for the best size by `run(work, size, info)` with the size -1, then runs it.
template <class T, class Run>
int with_work(const Run& run) {
  T wanted = 0;
  int info = 0;
  run(&wanted, -1, &info);
  if (info != 0) return GRAMIAN_STATUS_INVALID;
  // Sizes above 2^24 are rounded in float; LAPACK rounds them up from 3.10 on, earlier ones need the slack.
  const double size = static_cast<double>(wanted) * (sizeof(T) == sizeof(float) ? 1.0 + 1e-6 : 1.0) + 1;
  if (size > INT_MAX) return GRAMIAN_STATUS_UNSUPPORTED;
  const std::unique_ptr<T[]> work(new (std::nothrow) T[static_cast<std::size_t>(size)]);
  if (work == nullptr) return GRAMIAN_STATUS_NO_MEMORY;
  run(work.get(), static_cast<int>(size), &info);
  return info < 0 ? static_cast<int>(GRAMIAN_STATUS_INVALID) : info;
}

// LAPACK reads our A by columns, as A' = L Q': the LQ factorisation of what it sees is the QR factorisation of ours.
int geqrf(gramian_context* context, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* tau) {
  if (is_small(m, n, n) || !fits({m, n, lda})) return small->geqrf(context, dtype, m, n, a, lda, tau);
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    const int rows = narrow(n), cols = narrow(m), stride = narrow(lda);
    const BlasCall call;
    return with_work<T>([&](T* work, int size, int* info) {
      Blas<T>::gelqf(&rows, &cols, static_cast<T*>(a), &stride, static_cast<T*>(tau), work, &size, info);
    });
  });
}

int ormqr(gramian_context* context, int dtype, int trans, int64_t m, int64_t n, int64_t k, const void* a, int64_t lda,
          const void* tau, void* c, int64_t ldc) {
  if (k > m || is_small(m, n, k) || !fits({m, n, lda, ldc})) {
    return small->ormqr(context, dtype, trans, m, n, k, a, lda, tau, c, ldc);
  }
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    // C' (n x m) is multiplied from the right by op(Q)', and the Q of the LQ factorisation is ours transposed.
    const int rows = narrow(n), cols = narrow(m), count = narrow(k), stride = narrow(lda), stride_c = narrow(ldc);
    const BlasCall call;
    return with_work<T>([&](T* work, int size, int* info) {
      Blas<T>::ormlq("R", trans != 0 ? "T" : "N", &rows, &cols, &count, static_cast<const T*>(a), &stride,
                     static_cast<const T*>(tau), static_cast<T*>(c), &stride_c, work, &size, info, 1, 1);
    });
  });
}

template <class T>
bool is_finite(int64_t rows, int64_t cols, const T* a, int64_t lda) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      if (!std::isfinite(a[r * lda + c])) return false;
    }
  }
  return true;
}

int gesvd(gramian_context* context, int dtype, int64_t m, int64_t n, void* a, int64_t lda, void* s, void* u,
          int64_t ldu, void* vt, int64_t ldvt) {
  if (is_small(m, n, n) || !fits({m, n, lda, ldu, ldvt, 8 * std::min(m, n)})) {
    return small->gesvd(context, dtype, m, n, a, lda, s, u, ldu, vt, ldvt);
  }
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!is_finite(m, n, static_cast<const T*>(a), lda)) return static_cast<int>(GRAMIAN_STATUS_NO_CONVERGENCE);
    // A' = V diag(s) U', and both factors by columns are the ones we want by rows.
    const int rows = narrow(n), cols = narrow(m), stride = narrow(lda), left = narrow(ldvt), right = narrow(ldu);
    const std::unique_ptr<int[]> iwork(new (std::nothrow) int[static_cast<std::size_t>(8 * std::min(m, n))]);
    if (iwork == nullptr) return static_cast<int>(GRAMIAN_STATUS_NO_MEMORY);
    const BlasCall call;
    const int status = with_work<T>([&](T* work, int size, int* info) {
      Blas<T>::gesdd("S", &rows, &cols, static_cast<T*>(a), &stride, static_cast<T*>(s), static_cast<T*>(vt), &left,
                     static_cast<T*>(u), &right, work, &size, iwork.get(), info, 1);
    });
    return status > 0 ? static_cast<int>(GRAMIAN_STATUS_NO_CONVERGENCE) : status;
  });
}

}  // namespace

bool has_openblas() {
  return true;
}

gramian_op_table openblas_table(const gramian_op_table& isa) {
  small = &isa;
  gate = new Gate;
#if !defined(_WIN32)
  pthread_atfork(nullptr, nullptr, renew_gate);
#endif
  use_one_thread();
  gramian_op_table table = isa;
  table.name = "openblas";
  table.gemm = gemm;
  table.gram = gram;
  table.trsm = trsm;
  table.potrf = potrf;
  table.syevd = syevd;
  table.geqrf = geqrf;
  table.ormqr = ormqr;
  table.gesvd = gesvd;
  return table;
}

std::string openblas_core() {
  return GRAMIAN_BLAS(openblas_get_corename)();
}
std::string openblas_version() {
  return GRAMIAN_BLAS(openblas_get_config)();
}

}  // namespace gramian::backend

#else

namespace gramian::backend {

bool has_openblas() {
  return false;
}
gramian_op_table openblas_table(const gramian_op_table& isa) {
  return isa;
}
std::string openblas_core() {
  return "";
}
std::string openblas_version() {
  return "";
}

}  // namespace gramian::backend

#endif
