/* Compiled with contraction (see CMakeLists.txt), as peak_loop.h asks. */
#include "bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <thread>

#include "backend/registry.h"
#include "support/peak_loop.h"

namespace conformance {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/* --- what the machine reaches -------------------------------------------------------------------------------- */

/* The instruction set a table may use: its name, and for a BLAS the best this processor has. */
peak::Level level_of(const Table& table) {
  const std::string name = table.name;
  if (name == "avx512") return peak::kAvx512;
  if (name == "avx2") return peak::kAvx2;
  return name == "base" || name == "neon" ? peak::kBase : peak::best_level();
}

/* GFLOP/s of one core. A ceiling is the best of several turns: other work on the machine can only lower it. */
double host_peak(peak::Level level, int dtype) {
  double best = 0.0;
  for (int t = 0; t < 7; ++t) best = std::max(best, peak::peak_once(level, dtype == GRAMIAN_F32));
  return best;
}

/* GB/s read plus written by a copy far larger than the caches. Ops whose operands lie in cache may exceed it. */
double host_copy_bandwidth() {
  const size_t bytes = size_t{1} << 27;
  std::vector<unsigned char> from(bytes, 1), to(bytes, 2);
  double best = 0.0;
  for (int t = 0; t < 5; ++t) {
    const Clock::time_point start = Clock::now();
    std::memcpy(to.data(), from.data(), bytes);
    best = std::max(best, 2.0 * static_cast<double>(bytes) / seconds_since(start) / 1e9);
  }
  return best;
}

/* --- one table ----------------------------------------------------------------------------------------------- */

struct Result {
  std::string table, op, dtype, size, unit;
  double rate = 0.0;
  double ceiling = 0.0; /* of the same unit; 0 where there is none */
  double seconds = 0.0;
};

/* Work of one call: flops for ops bound by arithmetic, bytes for ops bound by memory. */
struct Work {
  double amount;
  const char* unit;
};
Work flops(double count) {
  return {count, "GFLOP/s"};
}
Work bytes(double count) {
  return {count, "GB/s"};
}

class Bench {
 public:
  Bench(const Table& table, std::vector<Result>* results) : table_(table), results_(results) {
    if (table_.open(0, &context_.device_state) != 0) throw CaseFailed{};
    measure_ceilings();
  }
  ~Bench() {
    release();
    table_.close(context_.device_state);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  const Table& table() const { return table_; }
  gramian_context* ctx() { return &context_; }
  bool on_device() const { return table_.memory == GRAMIAN_DEVICE_MEMORY; }

  /* Uploaded operands live until the next size. */
  void* put(const void* host, size_t count) {
    void* memory = nullptr;
    const auto stride = static_cast<int64_t>(count);
    if (table_.alloc(ctx(), count, &memory) != 0) throw CaseFailed{};
    blocks_.push_back(memory);
    if (table_.upload(ctx(), 1, count, host, stride, memory, stride) != 0) throw CaseFailed{};
    return memory;
  }
  void* random(int dtype, int64_t count) {
    std::vector<float> narrow(dtype == GRAMIAN_F32 ? static_cast<size_t>(count) : 0);
    std::vector<double> wide(dtype == GRAMIAN_F32 ? 0 : static_cast<size_t>(count));
    for (float& value : narrow) value = static_cast<float>(random_.uniform(-1.0, 1.0));
    for (double& value : wide) value = random_.uniform(-1.0, 1.0);
    return dtype == GRAMIAN_F32 ? put(narrow.data(), narrow.size() * sizeof(float))
                                : put(wide.data(), wide.size() * sizeof(double));
  }
  /* Symmetric and diagonally dominant; also a well-conditioned lower triangle. */
  void* dominant(int dtype, int64_t n) {
    void* matrix = random(dtype, n * n);
    if (table_.add_diagonal(ctx(), dtype, n, static_cast<double>(n), matrix, n) != 0) throw CaseFailed{};
    return matrix;
  }
  int restore(int dtype, int64_t count, const void* from, void* to) {
    const size_t size = static_cast<size_t>(count) * size_of(dtype);
    return table_.upload(ctx(), 1, size, from, static_cast<int64_t>(size), to, static_cast<int64_t>(size));
  }

  /* Median of at least five calls and 0.2 s; `before` is not timed. */
  void time(const std::string& op, int dtype, const std::string& size, Work work, const std::function<int()>& call,
            const std::function<int()>& before = nullptr) {
    std::vector<double> times;
    double total = 0.0;
    for (int turn = -1; turn < 5 || (total < 0.2 && turn < 200); ++turn) {
      if (before && before() != 0) throw CaseFailed{};
      if (table_.sync(ctx()) != 0) throw CaseFailed{};
      const Clock::time_point start = Clock::now();
      if (call() != 0 || table_.sync(ctx()) != 0) throw CaseFailed{};
      const double seconds = seconds_since(start);
      if (turn < 0) continue;  // the first call pages memory in
      times.push_back(seconds);
      total += seconds;
    }
    Result result;
    result.table = table_.name;
    result.op = op;
    result.dtype = dtype_name(dtype);
    result.size = size;
    result.unit = work.unit;
    result.seconds = median(times);
    result.rate = work.amount / result.seconds / 1e9;
    result.ceiling = result.unit == "GB/s" ? bandwidth_ : peak_[dtype];
    std::printf("%-9s %-13s %-4s %-26s %10.2f %-8s %5.1f %%\n", result.table.c_str(), op.c_str(), result.dtype.c_str(),
                size.c_str(), result.rate, work.unit, 100.0 * result.rate / result.ceiling);
    std::fflush(stdout);
    results_->push_back(result);
    release();
  }

  void print_ceilings() const {
    std::printf("%s: %s f32 %.1f GFLOP/s, f64 %.1f GFLOP/s; large copy %.1f GB/s, exceeded by operands in cache\n",
                table_.name, on_device() ? "best product" : "register multiply-add", peak_.at(GRAMIAN_F32),
                peak_.at(GRAMIAN_F64), bandwidth_);
  }

 private:
  void release() {
    for (void* block : blocks_) table_.free(ctx(), block);
    blocks_.clear();
  }

  /* A device runs none of our loops from here: its ceilings are a large product and a copy inside its own memory. */
  void measure_ceilings() {
    for (int dtype : {GRAMIAN_F32, GRAMIAN_F64}) {
      peak_[dtype] = on_device() ? device_product(dtype) : host_peak(level_of(table_), dtype);
    }
    bandwidth_ = on_device() ? device_copy() : host_copy_bandwidth();
  }
  double best_rate(double amount, const std::function<int()>& call) {
    double best = 0.0;
    for (int turn = 0; turn < 6; ++turn) {
      const Clock::time_point start = Clock::now();
      if (call() != 0 || table_.sync(ctx()) != 0) throw CaseFailed{};
      best = std::max(best, amount / seconds_since(start) / 1e9);
    }
    release();
    return best;
  }
  double device_product(int dtype) {
    const int64_t n = 6144;
    void* a = random(dtype, n * n);
    void* c = random(dtype, n * n);
    return best_rate(2.0 * std::pow(static_cast<double>(n), 3.0),
                     [&] { return table_.gemm(ctx(), dtype, 0, 0, n, n, n, 1.0, a, n, a, n, 0.0, c, n); });
  }
  double device_copy() {
    const int64_t count = int64_t{1} << 26;
    void* from = random(GRAMIAN_F64, count);
    void* to = random(GRAMIAN_F64, count);
    return best_rate(16.0 * static_cast<double>(count), [&] { return restore(GRAMIAN_F64, count, from, to); });
  }

  const Table& table_;
  std::vector<Result>* results_;
  gramian_context context_{nullptr};
  std::vector<void*> blocks_;
  std::map<int, double> peak_;
  double bandwidth_ = 0.0;
  Random random_{7};
};

/* --- sizes of each op ---------------------------------------------------------------------------------------- */

double real_of(int64_t value) {
  return static_cast<double>(value);
}
double element_bytes(int dtype) {
  return static_cast<double>(size_of(dtype));
}

void bench_gemm(Bench& b, int t) {
  const int64_t shapes[][3] = {{128, 128, 128}, {512, 512, 512}, {1024, 1024, 1024}, {256, 2000, 784}};
  for (const auto& s : shapes) {
    const int64_t m = s[0], n = s[1], k = s[2];
    void *a = b.random(t, m * k), *x = b.random(t, k * n), *c = b.random(t, m * n);
    b.time("gemm", t, text("%lld x %lld x %lld", ll(m), ll(n), ll(k)),
           flops(2.0 * real_of(m) * real_of(n) * real_of(k)),
           [&] { return b.table().gemm(b.ctx(), t, 0, 0, m, n, k, 1.0, a, k, x, n, 0.0, c, n); });
  }
}

void bench_gram(Bench& b, int t) {
  const int64_t shapes[][2] = {{256, 1024}, {1000, 2000}};
  for (const auto& s : shapes) {
    const int64_t n = s[0], k = s[1];
    void *a = b.random(t, n * k), *c = b.random(t, n * n);
    b.time("gram", t, text("n %lld k %lld", ll(n), ll(k)), flops(real_of(n) * real_of(n) * real_of(k)),
           [&] { return b.table().gram(b.ctx(), t, 1, n, k, 1.0, a, n, 0.0, c, n); });
  }
}

void bench_csr_gemm(Bench& b, int t) {
  const int64_t m = 2000, k = 5000, n = 128, per_row = 50;
  std::vector<int64_t> indptr = {0}, indices;
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t p = 0; p < per_row; ++p) indices.push_back((r * 37 + p * 101) % k);
    indptr.push_back(static_cast<int64_t>(indices.size()));
  }
  void* starts = b.put(indptr.data(), indptr.size() * sizeof(int64_t));
  void* columns = b.put(indices.data(), indices.size() * sizeof(int64_t));
  void *values = b.random(t, m * per_row), *x = b.random(t, k * n), *c = b.random(t, m * n);
  b.time("csr_gemm", t, text("%lld x %lld x %lld, %lld a row", ll(m), ll(n), ll(k), ll(per_row)),
         flops(2.0 * real_of(m * per_row) * real_of(n)), [&] {
           return b.table().csr_gemm(b.ctx(), t, t, GRAMIAN_I64, m, n, k, 1.0, starts, columns, values, x, n, 0.0, c,
                                     n);
         });
}

void bench_potrf(Bench& b, int t) {
  for (int64_t n : {128, 1000}) {
    void *a = b.dominant(t, n), *work = b.random(t, n * n);
    b.time(
        "potrf", t, text("n %lld", ll(n)), flops(std::pow(real_of(n), 3.0) / 3.0),
        [&] { return b.table().potrf(b.ctx(), t, n, work, n); }, [&] { return b.restore(t, n * n, a, work); });
  }
}

void bench_trsm(Bench& b, int t) {
  for (int64_t n : {128, 1000}) {
    const int64_t m = 256;
    void *l = b.dominant(t, n), *x = b.random(t, n * m), *work = b.random(t, n * m);
    b.time(
        "trsm", t, text("left %lld, %lld columns", ll(n), ll(m)), flops(real_of(n) * real_of(n) * real_of(m)),
        [&] { return b.table().trsm(b.ctx(), t, GRAMIAN_LEFT, 0, n, m, l, n, work, m); },
        [&] { return b.restore(t, n * m, x, work); });
  }
}

void bench_syevd(Bench& b, int t) {
  for (int64_t n : {64, 300}) {
    void *a = b.dominant(t, n), *work = b.random(t, n * n), *w = b.random(t, n);
    b.time(
        "syevd", t, text("n %lld", ll(n)), flops(9.0 * std::pow(real_of(n), 3.0)),
        [&] { return b.table().syevd(b.ctx(), t, n, work, n, w); }, [&] { return b.restore(t, n * n, a, work); });
  }
}

void bench_geqrf(Bench& b, int t) {
  for (const auto& s : {std::pair<int64_t, int64_t>{4096, 128}, {4096, 512}}) {
    const int64_t m = s.first, n = s.second;
    void *a = b.random(t, m * n), *work = b.random(t, m * n), *tau = b.random(t, n);
    b.time(
        "geqrf", t, text("%lld x %lld", ll(m), ll(n)),
        flops(2.0 * real_of(n) * real_of(n) * (real_of(m) - real_of(n) / 3.0)),
        [&] { return b.table().geqrf(b.ctx(), t, m, n, work, n, tau); }, [&] { return b.restore(t, m * n, a, work); });
  }
}

void bench_ormqr(Bench& b, int t) {
  const int64_t m = 4096, n = 128;
  void *a = b.random(t, m * n), *tau = b.random(t, n), *c = b.random(t, m * n), *work = b.random(t, m * n);
  if (b.table().geqrf(b.ctx(), t, m, n, a, n, tau) != 0) throw CaseFailed{};
  b.time(
      "ormqr", t, text("%lld x %lld", ll(m), ll(n)),
      flops(2.0 * real_of(n) * real_of(n) * (2.0 * real_of(m) - real_of(n))),
      [&] { return b.table().ormqr(b.ctx(), t, 0, m, n, n, a, n, tau, work, n); },
      [&] { return b.restore(t, m * n, c, work); });
}

void bench_gesvd(Bench& b, int t) {
  for (int64_t n : {64, 300}) {
    void *a = b.random(t, n * n), *work = b.random(t, n * n), *s = b.random(t, n), *u = b.random(t, n * n);
    void* vt = b.random(t, n * n);
    b.time(
        "gesvd", t, text("n %lld", ll(n)), flops(20.0 * std::pow(real_of(n), 3.0)),
        [&] { return b.table().gesvd(b.ctx(), t, n, n, work, n, s, u, n, vt, n); },
        [&] { return b.restore(t, n * n, a, work); });
  }
}

void bench_rotate_rows(Bench& b, int t) {
  if (t != GRAMIAN_F64) return;
  for (const int64_t rows : {1024, 65536}) {
    constexpr int64_t kCols = 32;
    auto *l = static_cast<double*>(b.random(t, rows * kCols)), *x = static_cast<double*>(b.random(t, rows));
    const std::vector<double> cosines(kCols, 0.8), sines(kCols, 0.6);  // a rotation: nothing grows or vanishes
    const auto* cosine = static_cast<const double*>(b.put(cosines.data(), cosines.size() * sizeof(double)));
    const auto* sine = static_cast<const double*>(b.put(sines.data(), sines.size() * sizeof(double)));
    b.time("rotate_rows", t, text("%lld x %lld", ll(rows), ll(kCols)), bytes(2 * real_of(rows * kCols) * 8),
           [&] { return b.table().rotate_rows(b.ctx(), 1, rows, kCols, 1, cosine, sine, l, kCols, x, 1); });
  }
}

void bench_normal_sweep(Bench& b, int t) {
  for (const auto& s : {std::pair<int64_t, int64_t>{256, 256}, {65536, 256}}) {
    const int64_t rows = s.first, cols = s.second;
    void* a = b.random(t, rows * cols);
    auto *x = static_cast<double*>(b.random(GRAMIAN_F64, cols)), *g = static_cast<double*>(b.random(GRAMIAN_F64, cols));
    auto* r = static_cast<double*>(b.random(GRAMIAN_F64, rows));
    b.time("normal_sweep", t, text("%lld x %lld", ll(rows), ll(cols)), bytes(real_of(rows * cols) * element_bytes(t)),
           [&] { return b.table().normal_sweep(b.ctx(), t, rows, cols, a, cols, x, nullptr, r, g); });
  }
}

/* The memory-bound ops: a block that fits the second-level cache and one that does not. */
const int64_t kBlocks[][2] = {{64, 512}, {4096, 2048}};
std::string block_size(int64_t rows, int64_t cols) {
  return text("%lld x %lld", ll(rows), ll(cols));
}

void bench_load_rows(Bench& b, int t) {
  for (const auto& s : kBlocks) {
    const int64_t rows = s[0], cols = s[1];
    for (int src : {GRAMIAN_F32, GRAMIAN_U8}) {
      const auto size = static_cast<int64_t>(size_of(src));
      const std::vector<unsigned char> zeros(static_cast<size_t>(rows * cols * size));
      void *from = b.put(zeros.data(), zeros.size()), *to = b.random(t, rows * cols);
      auto* shift = static_cast<const double*>(b.random(GRAMIAN_F64, cols));
      int64_t bad = 0;
      b.time("load_rows", t, text("%s %s shifted", dtype_name(src), block_size(rows, cols).c_str()),
             bytes(real_of(rows * cols) * (real_of(size) + element_bytes(t))), [&] {
               return b.table().load_rows(b.ctx(), src, from, cols * size, size, nullptr, rows, cols, t, to, cols,
                                          shift, nullptr, &bad);
             });
    }
  }
}

void bench_load_csr(Bench& b, int t) {
  const int64_t rows = 2000, cols = 1000, per_row = 50;
  std::vector<int32_t> indptr = {0}, indices;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t p = 0; p < per_row; ++p) indices.push_back(static_cast<int32_t>((r * 37 + p * 101) % cols));
    indptr.push_back(static_cast<int32_t>(indices.size()));
  }
  void* starts = b.put(indptr.data(), indptr.size() * sizeof(int32_t));
  void* columns = b.put(indices.data(), indices.size() * sizeof(int32_t));
  void *values = b.random(GRAMIAN_F32, rows * per_row), *to = b.random(t, rows * cols);
  int64_t bad = 0;
  b.time("load_csr", t, text("%s, %lld a row", block_size(rows, cols).c_str(), ll(per_row)),
         bytes(real_of(rows * cols) * element_bytes(t) + 8.0 * real_of(rows * per_row)), [&] {
           return b.table().load_csr(b.ctx(), GRAMIAN_F32, GRAMIAN_I32, starts, columns, values, nullptr, rows, cols, t,
                                     to, cols, nullptr, nullptr, &bad);
         });
}

void bench_axpby(Bench& b, int t) {
  for (const auto& s : kBlocks) {
    void *x = b.random(t, s[0] * s[1]), *y = b.random(t, s[0] * s[1]);
    b.time("axpby", t, block_size(s[0], s[1]), bytes(3.0 * real_of(s[0] * s[1]) * element_bytes(t)),
           [&] { return b.table().axpby(b.ctx(), t, s[0], s[1], 0.7, x, s[1], 0.3, t, y, s[1]); });
  }
}

void bench_add_diagonal(Bench& b, int t) {
  const int64_t n = 2000;
  void* a = b.random(t, n * n);
  b.time("add_diagonal", t, text("n %lld", ll(n)), bytes(2.0 * real_of(n) * element_bytes(t)),
         [&] { return b.table().add_diagonal(b.ctx(), t, n, 0.1, a, n); });
}

void bench_symmetrize(Bench& b, int t) {
  for (int64_t n : {256, 2000}) {
    void* a = b.random(t, n * n);
    b.time("symmetrize", t, text("n %lld", ll(n)), bytes(real_of(n) * real_of(n) * element_bytes(t)),
           [&] { return b.table().symmetrize(b.ctx(), t, n, a, n); });
  }
}

void bench_scale_columns(Bench& b, int t) {
  for (const auto& s : kBlocks) {
    const std::vector<double> ones(static_cast<size_t>(s[1]), 1.0);  // factors of one keep repeated calls in range
    const std::vector<float> narrow(ones.begin(), ones.end());
    void* x = b.random(t, s[0] * s[1]);
    void* v = t == GRAMIAN_F32 ? b.put(narrow.data(), narrow.size() * 4) : b.put(ones.data(), ones.size() * 8);
    b.time("scale_columns", t, block_size(s[0], s[1]), bytes(2.0 * real_of(s[0] * s[1]) * element_bytes(t)),
           [&] { return b.table().scale_columns(b.ctx(), t, s[0], s[1], v, x, s[1]); });
  }
}

void bench_scale_rows(Bench& b, int t) {
  for (const auto& s : kBlocks) {
    const std::vector<double> ones(static_cast<size_t>(s[0]), 1.0);
    const std::vector<float> narrow(ones.begin(), ones.end());
    void* x = b.random(t, s[0] * s[1]);
    void* v = t == GRAMIAN_F32 ? b.put(narrow.data(), narrow.size() * 4) : b.put(ones.data(), ones.size() * 8);
    b.time("scale_rows", t, block_size(s[0], s[1]), bytes(2.0 * real_of(s[0] * s[1]) * element_bytes(t)),
           [&] { return b.table().scale_rows(b.ctx(), t, s[0], s[1], v, x, s[1]); });
  }
}

void bench_map(Bench& b, int t) {
  static const char* const names[] = {"identity", "relu", "tanh", "sigmoid", "cos", "sign"};
  const int64_t rows = 256, cols = 2048;
  for (int kind = GRAMIAN_RELU; kind <= GRAMIAN_SIGN; ++kind) {
    void *x = b.random(t, rows * cols), *work = b.random(t, rows * cols), *shift = b.random(t, cols);
    b.time(
        "map", t, text("%s %s", names[kind], block_size(rows, cols).c_str()),
        bytes(2.0 * real_of(rows * cols) * element_bytes(t)),
        [&] { return b.table().map(b.ctx(), t, kind, rows, cols, shift, 1.0, work, cols); },
        [&] { return b.restore(t, rows * cols, x, work); });
  }
}

void bench_rbf(Bench& b, int t) {
  const int64_t rows = 256, cols = 2048;
  const std::vector<double> row_sq(static_cast<size_t>(rows), 3.0), col_sq(static_cast<size_t>(cols), 2.0);
  auto* first = static_cast<const double*>(b.put(row_sq.data(), row_sq.size() * 8));
  auto* second = static_cast<const double*>(b.put(col_sq.data(), col_sq.size() * 8));
  void *x = b.random(t, rows * cols), *work = b.random(t, rows * cols);
  b.time(
      "rbf", t, block_size(rows, cols), bytes(2.0 * real_of(rows * cols) * element_bytes(t)),
      [&] { return b.table().rbf(b.ctx(), t, rows, cols, first, second, 0.5, work, cols); },
      [&] { return b.restore(t, rows * cols, x, work); });
}

void bench_row_sumsq(Bench& b, int t) {
  for (const auto& s : kBlocks) {
    void* x = b.random(t, s[0] * s[1]);
    auto* out = static_cast<double*>(b.random(GRAMIAN_F64, s[0]));
    b.time("row_sumsq", t, block_size(s[0], s[1]), bytes(real_of(s[0] * s[1]) * element_bytes(t)),
           [&] { return b.table().row_sumsq(b.ctx(), t, s[0], s[1], x, s[1], out); });
  }
}

void bench_column_sums(Bench& b, int t) {
  for (const auto& s : kBlocks) {
    void* x = b.random(t, s[0] * s[1]);
    auto* weight = static_cast<const double*>(b.random(GRAMIAN_F64, s[0]));
    auto* out = static_cast<double*>(b.random(GRAMIAN_F64, s[1]));
    b.time("column_sums", t, block_size(s[0], s[1]), bytes(real_of(s[0] * s[1]) * element_bytes(t)),
           [&] { return b.table().column_sums(b.ctx(), t, s[0], s[1], x, s[1], weight, out); });
  }
}

void bench_class_sums(Bench& b, int t) {
  const int64_t classes = 100;
  for (const auto& s : kBlocks) {
    std::vector<int64_t> code(static_cast<size_t>(s[0]));
    for (size_t r = 0; r < code.size(); ++r) code[r] = static_cast<int64_t>(r * 37) % classes;
    void* x = b.random(t, s[0] * s[1]);
    auto* codes = static_cast<const int64_t*>(b.put(code.data(), code.size() * sizeof(int64_t)));
    auto* out = static_cast<double*>(b.random(GRAMIAN_F64, classes * s[1]));
    b.time("class_sums", t, block_size(s[0], s[1]), bytes(real_of(s[0] * s[1]) * element_bytes(t)),
           [&] { return b.table().class_sums(b.ctx(), t, s[0], s[1], x, s[1], codes, nullptr, classes, out, s[1]); });
  }
}

constexpr gramian_stream kStream = {0x5f4c1dac282d5556u, 0, 0, 0};

void bench_fill_random(Bench& b, int t) {
  const int64_t rows = 256, cols = 2048;
  for (int law : {GRAMIAN_GAUSSIAN, GRAMIAN_RADEMACHER}) {
    void* out = b.random(t, rows * cols);
    b.time("fill_random", t,
           text("%s %s", law == GRAMIAN_GAUSSIAN ? "gaussian" : "rademacher", block_size(rows, cols).c_str()),
           bytes(real_of(rows * cols) * element_bytes(t)),
           [&] { return b.table().fill_random(b.ctx(), t, law, kStream, 0, rows, 0, cols, 1.0, out, cols); });
  }
}

void bench_fill_signs(Bench& b, int t) {
  const int64_t count = int64_t{1} << 20;
  void* out = b.random(t, count);
  b.time("fill_signs", t, text("%lld", ll(count)), bytes(real_of(count) * element_bytes(t)),
         [&] { return b.table().fill_signs(b.ctx(), t, kStream, 0, count, out); });
}

void bench_fill_uniform(Bench& b, int t) {
  const int64_t count = int64_t{1} << 20;
  void* out = b.random(t, count);
  b.time("fill_uniform", t, text("%lld", ll(count)), bytes(real_of(count) * element_bytes(t)),
         [&] { return b.table().fill_uniform(b.ctx(), t, kStream, 0, count, 0.0, 1.0, out); });
}

void bench_fwht(Bench& b, int t) {
  const int64_t shapes[][2] = {{256, 1024}, {16, 65536}};
  for (const auto& s : shapes) {
    void* x = b.random(t, s[0] * s[1]);
    b.time("fwht", t, block_size(s[0], s[1]), bytes(2.0 * real_of(s[0] * s[1]) * element_bytes(t)),
           [&] { return b.table().fwht(b.ctx(), t, s[0], s[1], 1.0 / std::sqrt(real_of(s[1])), x, s[1], x, s[1]); });
  }
}

void bench_fwht_columns(Bench& b, int t) {
  const int64_t shapes[][2] = {{1024, 256}, {65536, 64}};
  void* scratch = b.random(GRAMIAN_F64, GRAMIAN_FWHT_SCRATCH / 8);
  for (const auto& s : shapes) {
    void* x = b.random(t, s[0] * s[1]);
    b.time("fwht_columns", t, block_size(s[0], s[1]), bytes(2.0 * real_of(s[0] * s[1]) * element_bytes(t)), [&] {
      return b.table().fwht_columns(b.ctx(), t, s[0], s[1], 1.0 / std::sqrt(real_of(s[0])), x, s[1], scratch);
    });
  }
}

void bench_hadamard_rows(Bench& b, int t) {
  const int64_t rows = 256, cols = 1000, n = 1024;
  std::vector<int64_t> index, choice;
  for (int64_t k = 0; k < n; ++k) index.push_back(k * 389 % n < cols ? k * 389 % n : -1);
  for (int64_t q = 0; q < cols; ++q) choice.push_back(q * 229 % n);
  auto* places = static_cast<const int64_t*>(b.put(index.data(), index.size() * sizeof(int64_t)));
  auto* chosen = static_cast<const int64_t*>(b.put(choice.data(), choice.size() * sizeof(int64_t)));
  void *x = b.random(t, rows * cols), *sign = b.random(t, n), *out = b.random(t, rows * cols);
  void* work = b.random(t, GRAMIAN_HADAMARD_WORK(rows, n));
  b.time("hadamard_rows", t, block_size(rows, cols), bytes(2.0 * real_of(rows * cols) * element_bytes(t)), [&] {
    return b.table().hadamard_rows(b.ctx(), t, rows, cols, n, cols, x, cols, places, sign, 1, nullptr, 1.0, chosen,
                                   nullptr, 0, work, out, cols);
  });
}

void bench_softmax(Bench& b, int t) {
  const int64_t shapes[][2] = {{256, 1000}, {4, 65536}};
  for (const auto& s : shapes) {
    const void* x = b.random(t, s[0] * s[1]);
    void* out = b.random(t, s[0] * s[1]);
    b.time("softmax", t, block_size(s[0], s[1]), bytes(2.0 * real_of(s[0] * s[1]) * element_bytes(t)),
           [&] { return b.table().softmax(b.ctx(), t, GRAMIAN_SOFTMAX, 0, s[0], s[1], 1.0, x, s[1], out, s[1]); });
  }
}

void bench_softmax_columns(Bench& b, int t) {
  const int64_t rows = 1000, cols = 256;
  const void* x = b.random(t, rows * cols);
  void* out = b.random(t, rows * cols);
  b.time("softmax_columns", t, block_size(rows, cols), bytes(2.0 * real_of(rows * cols) * element_bytes(t)), [&] {
    return b.table().softmax_columns(b.ctx(), t, GRAMIAN_SOFTMAX, 0, rows, cols, 1.0, x, cols, out, cols);
  });
}

void bench_exp_sums(Bench& b, int t) {
  const int64_t cols = 65536;
  const void* x = b.random(t, cols);
  auto* sums = static_cast<double*>(b.random(GRAMIAN_F64, 2));
  b.time("exp_sums", t, block_size(1, cols), bytes(real_of(cols) * element_bytes(t)),
         [&] { return b.table().exp_sums(b.ctx(), t, 1, cols, 1.0, x, cols, sums); });
}

void bench_exp_write(Bench& b, int t) {
  const int64_t cols = 65536;
  const void* x = b.random(t, cols);
  void* out = b.random(t, cols);
  const double pair[2] = {1.5, 16};
  auto* sums = static_cast<const double*>(b.put(pair, sizeof pair));
  b.time("exp_write", t, block_size(1, cols), bytes(2.0 * real_of(cols) * element_bytes(t)),
         [&] { return b.table().exp_write(b.ctx(), t, GRAMIAN_SOFTMAX, 0, 1, cols, 1.0, x, cols, sums, out, cols); });
}

std::vector<int32_t> hashed(int64_t rows, int64_t nnz, int64_t m) {
  std::vector<int32_t> codes;
  for (int64_t t = 0; t < rows * nnz; ++t) codes.push_back(static_cast<int32_t>((t * 2654435761) % (2 * m)));
  return codes;
}

void bench_fill_row_hash(Bench& b, int t) {
  if (t != GRAMIAN_F64) return;  // codes have one type
  const int64_t rows = 65536, nnz = 8, m = 512;
  auto* codes = static_cast<int32_t*>(b.random(GRAMIAN_F32, rows * nnz));
  b.time("fill_row_hash", t, text("%lld x %lld", ll(rows), ll(nnz)), bytes(4.0 * real_of(rows * nnz)),
         [&] { return b.table().fill_row_hash(b.ctx(), kStream, 0, rows, nnz, m, codes); });
}

void bench_sparse_sketch(Bench& b, int t) {
  const int64_t rows = 65536, cols = 64;
  for (int64_t nnz : {1, 8}) {
    for (int64_t m : {512, 4096}) {
      const std::vector<int32_t> host = hashed(rows, nnz, m);
      auto* codes = static_cast<const int32_t*>(b.put(host.data(), host.size() * sizeof(int32_t)));
      void *x = b.random(t, rows * cols), *out = b.random(t, m * cols);
      b.time("sparse_sketch", t, text("%s, %lld to %lld", block_size(rows, cols).c_str(), ll(nnz), ll(m)),
             bytes(real_of(rows * cols) * element_bytes(t)),
             [&] { return b.table().sparse_sketch(b.ctx(), t, rows, cols, nnz, codes, x, cols, m, 8, out); });
    }
  }
}

void bench_sparse_sketch_csr(Bench& b, int t) {
  const int64_t rows = 4096, cols = 1000, per_row = 50, nnz = 8, m = 512;
  std::vector<int64_t> indptr = {0}, indices;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t p = 0; p < per_row; ++p) indices.push_back((r * 37 + p * 101) % cols);
    indptr.push_back(static_cast<int64_t>(indices.size()));
  }
  const std::vector<int32_t> host = hashed(rows, nnz, m);
  auto* codes = static_cast<const int32_t*>(b.put(host.data(), host.size() * sizeof(int32_t)));
  void* starts = b.put(indptr.data(), indptr.size() * sizeof(int64_t));
  void* columns = b.put(indices.data(), indices.size() * sizeof(int64_t));
  void *values = b.random(t, rows * per_row), *out = b.random(t, m * cols);
  b.time("sparse_sketch_csr", t, text("%s, %lld a row", block_size(rows, cols).c_str(), ll(per_row)),
         flops(2.0 * real_of(nnz * rows * per_row)), [&] {
           return b.table().sparse_sketch_csr(b.ctx(), t, t, GRAMIAN_I64, rows, nnz, codes, starts, columns, values,
                                              out, cols);
         });
}

void bench_gather_columns(Bench& b, int t) {
  const int64_t rows = 256, cols = 1024;
  std::vector<int64_t> index;
  for (int64_t c = 0; c < cols; ++c) index.push_back((c * 389) % cols);
  auto* places = static_cast<const int64_t*>(b.put(index.data(), index.size() * sizeof(int64_t)));
  void *x = b.random(t, rows * cols), *scale = b.random(t, cols), *out = b.random(t, rows * cols);
  b.time("gather_columns", t, block_size(rows, cols), bytes(2.0 * real_of(rows * cols) * element_bytes(t)),
         [&] { return b.table().gather_columns(b.ctx(), t, rows, cols, x, cols, places, scale, 0, out, cols); });
}

void bench_circular_convolve(Bench& b, int t) {
  const int64_t rows = 64, n = 1024;
  void *x = b.random(t, rows * n), *y = b.random(t, rows * n), *out = b.random(t, rows * n);
  auto* work = static_cast<double*>(b.random(GRAMIAN_F64, 10 * n));
  b.time("circular_convolve", t, block_size(rows, n), flops(10.0 * real_of(2 * n * rows) * std::log2(2.0 * real_of(n))),
         [&] { return b.table().circular_convolve(b.ctx(), t, rows, n, x, n, y, n, work, out, n); });
}

struct Entry {
  const char* op;
  void (*run)(Bench&, int dtype);
};

/* Everything that computes; the memory entries have no rate of their own beside the copy ceiling. */
const Entry kEntries[] = {
    {"load_rows", bench_load_rows},
    {"load_csr", bench_load_csr},
    {"axpby", bench_axpby},
    {"add_diagonal", bench_add_diagonal},
    {"symmetrize", bench_symmetrize},
    {"scale_columns", bench_scale_columns},
    {"scale_rows", bench_scale_rows},
    {"gemm", bench_gemm},
    {"gram", bench_gram},
    {"csr_gemm", bench_csr_gemm},
    {"normal_sweep", bench_normal_sweep},
    {"rotate_rows", bench_rotate_rows},
    {"potrf", bench_potrf},
    {"trsm", bench_trsm},
    {"syevd", bench_syevd},
    {"geqrf", bench_geqrf},
    {"ormqr", bench_ormqr},
    {"gesvd", bench_gesvd},
    {"map", bench_map},
    {"rbf", bench_rbf},
    {"row_sumsq", bench_row_sumsq},
    {"column_sums", bench_column_sums},
    {"class_sums", bench_class_sums},
    {"fill_random", bench_fill_random},
    {"fill_signs", bench_fill_signs},
    {"fill_uniform", bench_fill_uniform},
    {"fwht", bench_fwht},
    {"fwht_columns", bench_fwht_columns},
    {"hadamard_rows", bench_hadamard_rows},
    {"softmax", bench_softmax},
    {"softmax_columns", bench_softmax_columns},
    {"exp_sums", bench_exp_sums},
    {"exp_write", bench_exp_write},
    {"fill_row_hash", bench_fill_row_hash},
    {"sparse_sketch", bench_sparse_sketch},
    {"sparse_sketch_csr", bench_sparse_sketch_csr},
    {"gather_columns", bench_gather_columns},
    {"circular_convolve", bench_circular_convolve},
};

int ops_without_size() {
  int missing = 0;
  for (const Op& op : all_ops()) {
    if (op.offset <= offsetof(gramian_op_table, sync)) continue;
    const bool known = std::any_of(std::begin(kEntries), std::end(kEntries),
                                   [&](const Entry& entry) { return std::string(entry.op) == op.name; });
    if (!known) std::printf("FAILED %s: no size to bench\n", op.name);
    missing += known ? 0 : 1;
  }
  return missing;
}

/* --- environment and output ---------------------------------------------------------------------------------- */

std::string first_line_with(const char* file, const std::string& key) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t colon = line.find(": ");
    return key.empty() ? line : colon == std::string::npos ? "" : line.substr(colon + 2);
  }
  return "unknown";
}

using Environment = std::vector<std::pair<std::string, std::string>>;

Environment environment() {
  return {{"cpu", first_line_with("/proc/cpuinfo", "model name")},
          {"cores", text("%u", std::thread::hardware_concurrency())},
          {"load", first_line_with("/proc/loadavg", "")},
          {"blas_core", gramian::backend::blas_core()},
          {"threads", "1"}};
}

std::string quoted(const std::string& value) {
  std::string out = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

bool write_json(const std::string& path, const Environment& where, const std::vector<Result>& results) {
  std::ofstream out(path);
  out << "{\n  \"environment\": {";
  for (size_t t = 0; t < where.size(); ++t) {
    out << (t == 0 ? "" : ", ") << quoted(where[t].first) << ": " << quoted(where[t].second);
  }
  out << "},\n  \"results\": [";
  for (size_t t = 0; t < results.size(); ++t) {
    const Result& r = results[t];
    out << (t == 0 ? "\n" : ",\n") << "    {\"table\": " << quoted(r.table) << ", \"op\": " << quoted(r.op)
        << ", \"dtype\": " << quoted(r.dtype) << ", \"size\": " << quoted(r.size) << ", \"seconds\": " << r.seconds
        << ", \"rate\": " << r.rate << ", \"unit\": " << quoted(r.unit) << ", \"ceiling\": " << r.ceiling << "}";
  }
  out << "\n  ]\n}\n";
  return static_cast<bool>(out.flush());
}

}  // namespace

int run_bench(const std::vector<const Table*>& tables, const std::string& op_name, const std::string& json_path) {
  int failures = ops_without_size();
  const Environment where = environment();
  for (const auto& item : where) std::printf("%s: %s\n", item.first.c_str(), item.second.c_str());
  std::vector<Result> results;
  for (const Table* table : tables) {
    try {
      Bench bench(*table, &results);
      bench.print_ceilings();
      for (const Entry& entry : kEntries) {
        if (!op_name.empty() && op_name != entry.op) continue;
        for (int dtype : {GRAMIAN_F32, GRAMIAN_F64}) entry.run(bench, dtype);
      }
    } catch (const CaseFailed&) {
      std::printf("FAILED %s: a call failed: %s\n", table->name, table->error_text());
      ++failures;
    }
  }
  if (!json_path.empty() && !write_json(json_path, where, results)) {
    std::printf("FAILED: cannot write %s\n", json_path.c_str());
    ++failures;
  }
  return failures;
}

}  // namespace conformance
