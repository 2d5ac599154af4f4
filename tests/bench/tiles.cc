// Our tiled gemm, Gram and Cholesky against raw OpenBLAS in the same process and the same minutes.
//
//   gramian_bench_tiles [--sizes 2000,3000,4000] [--repeats 7] [--tall ROWSxCOLS] [--only gemm|gram|potrf]
//                       [--threads N]
//
// Ours and theirs alternate; medians are printed, with GFLOP/s, and the median of the ratios theirs / ours of the pairs
// (above 1: we are faster), from which the drift of a machine's speed cancels.
// OpenBLAS is the very library we call, once on one thread and once on as many as we use. The last lines hold the
// scaling of a tall Gram against that of a loop of register multiply-adds, which no memory can slow down.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "gramian/gramian.hpp"
#include "support/peak_loop.h"

#define GRAMIAN_JOIN_(a, b) a##b
#define GRAMIAN_JOIN(a, b) GRAMIAN_JOIN_(a, b)
#define BLAS(name) GRAMIAN_JOIN(GRAMIAN_BLAS_PREFIX, name)

extern "C" {
void BLAS(cblas_sgemm)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
void BLAS(cblas_dgemm)(int, int, int, int, int, int, double, const double*, int, const double*, int, double, double*,
                       int);
void BLAS(cblas_ssyrk)(int, int, int, int, int, float, const float*, int, float, float*, int);
void BLAS(cblas_dsyrk)(int, int, int, int, int, double, const double*, int, double, double*, int);
void BLAS(spotrf_)(const char*, const int*, float*, const int*, int*, std::size_t);
void BLAS(dpotrf_)(const char*, const int*, double*, const int*, int*, std::size_t);
void BLAS(openblas_set_num_threads)(int);
char* BLAS(openblas_get_corename)();
}

namespace {

using gramian::Exec;
using gramian::MatrixView;
using Clock = std::chrono::steady_clock;
constexpr int kRowMajor = 101, kNo = 111, kTrans = 112, kLower = 122;

double seconds(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void gemm(int n, const float* a, const float* b, float* c) {
  BLAS(cblas_sgemm)(kRowMajor, kNo, kNo, n, n, n, 1, a, n, b, n, 0, c, n);
}
void gemm(int n, const double* a, const double* b, double* c) {
  BLAS(cblas_dgemm)(kRowMajor, kNo, kNo, n, n, n, 1, a, n, b, n, 0, c, n);
}
void syrk(int n, int k, const float* a, float* c) {
  BLAS(cblas_ssyrk)(kRowMajor, kLower, kTrans, n, k, 1, a, n, 0, c, n);
}
void syrk(int n, int k, const double* a, double* c) {
  BLAS(cblas_dsyrk)(kRowMajor, kLower, kTrans, n, k, 1, a, n, 0, c, n);
}
// Row-major lower is column-major upper.
void potrf(int n, float* a) {
  int info = 0;
  BLAS(spotrf_)("U", &n, a, &n, &info, 1);
}
void potrf(int n, double* a) {
  int info = 0;
  BLAS(dpotrf_)("U", &n, a, &n, &info, 1);
}

struct Pair {
  double ours, theirs, ratio;
};

// OpenBLAS's idle workers spin for some tens of milliseconds before they sleep, and would take a core from whoever is
// timed next.
void let_spinners_sleep() {
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
}

// prepare runs untimed before each run of its side.
Pair alternate(int repeats, int blas_threads, const std::function<void()>& prepare_ours,
               const std::function<void()>& ours, const std::function<void()>& prepare_theirs,
               const std::function<void()>& theirs) {
  std::vector<double> a, b, ratios;
  for (int run = 0; run <= repeats; ++run) {
    prepare_ours();
    let_spinners_sleep();
    const double ours_s = seconds(ours);
    BLAS(openblas_set_num_threads)(blas_threads);
    prepare_theirs();
    let_spinners_sleep();
    const double theirs_s = seconds(theirs);
    BLAS(openblas_set_num_threads)(1);
    if (run == 0) continue;  // warm-up
    a.push_back(ours_s);
    b.push_back(theirs_s);
    ratios.push_back(theirs_s / ours_s);
  }
  return {median(a), median(b), median(ratios)};
}

void print(const char* op, const char* type, int n, int threads, double flops, Pair pair) {
  std::printf(
      "%-6s %-7s n=%-5d threads=%d  ours %8.1f ms %7.1f GFLOP/s   OpenBLAS %8.1f ms %7.1f GFLOP/s   ratio %.3f\n", op,
      type, n, threads, pair.ours * 1e3, flops / pair.ours * 1e-9, pair.theirs * 1e3, flops / pair.theirs * 1e-9,
      pair.ratio);
  std::fflush(stdout);
}

template <class T>
void bench_size(int n, int threads, int repeats, const std::string& only) {
  const auto wanted = [&](const char* op) { return only.empty() || only == op; };
  const char* type = sizeof(T) == 4 ? "float32" : "float64";
  const Exec exec(gramian::Device::cpu, threads);
  const auto size = static_cast<std::size_t>(n) * static_cast<std::size_t>(n);
  std::vector<T> a(size), b(size), c(size);
  const gramian::RngStream stream(1, gramian::RngFamily::gaussian);
  gramian::fill_random<T>(exec, gramian::Distribution::gaussian, stream, 1.0, {a.data(), n, n});
  gramian::fill_random<T>(exec, gramian::Distribution::gaussian, stream, 0.5, {b.data(), n, n});
  const auto nothing = [] {};
  const double cube = static_cast<double>(n) * n * n;

  if (wanted("gemm"))
    print("gemm", type, n, threads, 2 * cube,
          alternate(
              repeats, threads, nothing,
              [&] {
                gramian::gemm<T>(exec, gramian::Trans::no, gramian::Trans::no, 1.0, MatrixView<const T>(a.data(), n, n),
                                 MatrixView<const T>(b.data(), n, n), 0.0, MatrixView<T>(c.data(), n, n));
              },
              nothing, [&] { gemm(n, a.data(), b.data(), c.data()); }));

  gramian::SymmetricMatrix<double> g(exec, n);
  if (wanted("gram"))
    print("gram", type, n, threads, cube,
          alternate(
              repeats, threads, nothing,
              [&] { gramian::gram_update<T>(exec, 1.0, MatrixView<const T>(a.data(), n, n), g); }, nothing,
              [&] { syrk(n, n, a.data(), c.data()); }));

  // A well conditioned matrix: A'A / n + 2 I, as tiles and as a square.
  syrk(n, n, a.data(), b.data());
  for (int i = 0; i < n; ++i)
    for (int j = 0; j <= i; ++j) {
      const T value = b[static_cast<std::size_t>(i) * static_cast<std::size_t>(n) + static_cast<std::size_t>(j)] /
                          static_cast<T>(n) +
                      static_cast<T>(i == j ? 2 : 0);
      b[static_cast<std::size_t>(i) * static_cast<std::size_t>(n) + static_cast<std::size_t>(j)] = value;
    }
  std::vector<T> packed;
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
    packed.insert(packed.end(), b.begin() + static_cast<std::ptrdiff_t>(i * static_cast<std::size_t>(n)),
                  b.begin() + static_cast<std::ptrdiff_t>(i * static_cast<std::size_t>(n) + i + 1));
  gramian::SymmetricMatrix<T> tiles(exec, n);
  if (wanted("potrf"))
    print("potrf", type, n, threads, cube / 3,
          alternate(
              repeats, threads, [&] { tiles.unpack(exec, packed.data()); },
              [&] {
                if (gramian::cholesky(exec, tiles) != 0) std::abort();
              },
              [&] { c = b; }, [&] { potrf(n, c.data()); }));
}

// GFLOP/s of multiply-adds in registers on `threads` threads at once, about as long as a tall Gram takes.
double register_rate(int threads) {
  std::vector<double> rates(static_cast<std::size_t>(threads), 0.0);
  std::vector<std::thread> workers;
  constexpr int kTurns = 100;
  for (double& rate : rates)
    workers.emplace_back([&rate] {
      for (int turn = 0; turn < kTurns; ++turn) rate += peak::peak_once(peak::best_level(), false) / kTurns;
    });
  for (std::thread& worker : workers) worker.join();
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

template <class T>
void bench_tall(std::int64_t rows, std::int64_t cols, int threads, int repeats) {
  const Exec one(gramian::Device::cpu, 1), all(gramian::Device::cpu, threads);
  gramian::Array<T> x(one, rows, cols);
  gramian::fill_random<T>(all, gramian::Distribution::rademacher, gramian::RngStream(2, gramian::RngFamily::rademacher),
                          1.0, x.view());
  gramian::SymmetricMatrix<double> g(one, cols);
  std::vector<double> gram_one, gram_all, loop_one, loop_all;
  for (int run = 0; run <= repeats; ++run) {
    const double t1 = seconds([&] { gramian::gram_update<T>(one, 1.0, x.view(), g); });
    const double l1 = register_rate(1);
    const double t2 = seconds([&] { gramian::gram_update<T>(all, 1.0, x.view(), g); });
    const double l2 = register_rate(threads);
    if (run == 0) continue;
    gram_one.push_back(t1), gram_all.push_back(t2), loop_one.push_back(l1), loop_all.push_back(l2);
  }
  const double gram_scaling = median(gram_one) / median(gram_all);
  const double loop_scaling = median(loop_all) / median(loop_one);
  const double flops = static_cast<double>(rows) * static_cast<double>(cols) * static_cast<double>(cols);
  std::printf(
      "tall Gram %lld x %lld %s: 1 thread %.0f ms %.1f GFLOP/s, %d threads %.0f ms %.1f GFLOP/s; scaling %.2f, "
      "register loop %.2f, ratio %.3f%s\n",
      static_cast<long long>(rows), static_cast<long long>(cols), sizeof(T) == 4 ? "float32" : "float64",
      median(gram_one) * 1e3, flops / median(gram_one) * 1e-9, threads, median(gram_all) * 1e3,
      flops / median(gram_all) * 1e-9, gram_scaling, loop_scaling, gram_scaling / loop_scaling,
      loop_scaling < 0.85 * threads ? "  (machine busy)" : "");
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> sizes{2000, 3000, 4000};
  int repeats = 7, only_threads = 0;
  std::string only;
  long long rows = 200000, cols = 1000;
  for (int k = 1; k + 1 < argc; k += 2) {
    if (std::strcmp(argv[k], "--sizes") == 0) {
      sizes.clear();
      for (char* part = std::strtok(argv[k + 1], ","); part != nullptr; part = std::strtok(nullptr, ","))
        sizes.push_back(std::atoi(part));
    } else if (std::strcmp(argv[k], "--repeats") == 0) {
      repeats = std::atoi(argv[k + 1]);
    } else if (std::strcmp(argv[k], "--only") == 0) {
      only = argv[k + 1];
    } else if (std::strcmp(argv[k], "--threads") == 0) {
      only_threads = std::atoi(argv[k + 1]);
    } else if (std::strcmp(argv[k], "--tall") == 0) {
      std::sscanf(argv[k + 1], "%lldx%lld", &rows, &cols);
    }
  }
  const int all = gramian::default_threads();
  const gramian::BuildInfo info = gramian::build_info();
  double load = 0;
  getloadavg(&load, 1);
  std::printf("kernels %s, BLAS %s core %s, threads %d, load %.1f\n", info.kernel_isa.c_str(),
              info.blas_provider.c_str(), BLAS(openblas_get_corename)(), all, load);
  for (const int threads : {1, all}) {
    if (only_threads != 0 && threads != only_threads) continue;
    for (const int n : sizes) {
      bench_size<float>(n, threads, repeats, only);
      bench_size<double>(n, threads, repeats, only);
    }
    if (all == 1) break;
  }
  if (rows > 0) {
    bench_tall<float>(rows, cols, all, std::min(repeats, 5));
    bench_tall<double>(rows, cols, all, std::min(repeats, 5));
  }
}
