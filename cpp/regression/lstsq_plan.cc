#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/linalg/sweep.hpp"
#include "gramian/regression/lstsq.hpp"
#include "regression/contraction.h"

namespace gramian {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Name {
  LstsqMethod method;
  const char* text;
};
constexpr Name kNames[] = {{LstsqMethod::automatic, "auto"},
                           {LstsqMethod::qr, "qr"},
                           {LstsqMethod::cholesky, "cholesky"},
                           {LstsqMethod::preconditioned_cholesky, "preconditioned_cholesky"},
                           {LstsqMethod::spir, "spir"},
                           {LstsqMethod::fossils, "fossils"},
                           {LstsqMethod::sketch_and_solve, "sketch_and_solve"}};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The best of three runs, after one that pages memory in.
template <class Body>
double best_time(const Body& body) {
  double best = kInfinity;
  for (int run = 0; run < 4; ++run) {
    const auto start = std::chrono::steady_clock::now();
    body();
    if (run > 0) best = std::min(best, seconds_since(start));
  }
  return std::max(best, 1e-9);
}

template <class T>
double product_flops(const Exec& exec) {
  constexpr std::int64_t n = 640;
  Array<T> a(exec, n, n), b(exec, n, n), c(exec, n, n);
  axpby<T, T>(exec, 0.0, {}, 0.0, a.view());
  axpby<T, T>(exec, 0.0, {}, 0.0, b.view());
  const double seconds = best_time([&] {
    gemm<T>(exec, Trans::no, Trans::no, 1.0, a.view(), b.view(), 0.0, c.view());
    T first;
    download<T>(exec, c.view().block(0, 0, 1, 1), {&first, 1, 1});
  });
  return 2.0 * n * n * n / seconds;
}

// The costs of one problem, method by method.
class Costs {
 public:
  Costs(const LstsqShape& shape, const LstsqSpeeds& speeds)
      : shape_(shape),
        speeds_(speeds),
        n_(static_cast<double>(shape.n)),
        d_(static_cast<double>(shape.d)),
        k_(static_cast<double>(shape.k)),
        dense_(shape.stored < 0),
        entries_(dense_ ? n_ * d_ : shape.stored),
        // A sparse matrix is read with its indices, and once in each direction.
        bytes_(dense_ ? entries_ * static_cast<double>(shape.item_bytes) : 2 * 16 * entries_) {}

  LstsqCost qr() const {
    if (!shape_.has_rows) return none(LstsqMethod::qr);
    const double wide = d_ + k_, flops = 2 * n_ * wide * wide;
    return cost(LstsqMethod::qr, flops, 9.0 / 8 * flops / speeds_.qr_flops, 3);
  }

  LstsqCost cholesky(bool single) const {
    const double rate =
        single ? regression::single_contraction(shape_.condition) : regression::double_contraction(shape_.condition);
    if (!shape_.has_rows || shape_.condition == 0 || rate > regression::kUsefulContraction)
      return none(LstsqMethod::cholesky);
    const double flops = n_ * d_ * d_;
    LstsqCost out =
        cost(LstsqMethod::cholesky, flops, flops / (single ? speeds_.flops32 : speeds_.flops64) + small(d_ * d_ * d_),
             1 + regression::corrections(rate));
    out.single = single;
    return out;
  }

  LstsqCost preconditioned_cholesky() const {
    if (!shape_.has_rows) return none(LstsqMethod::preconditioned_cholesky);
    const double square = n_ * d_ * d_;
    LstsqCost out = cost(LstsqMethod::preconditioned_cholesky, 2 * square,
                         sketch(regression::kDirectRows * d_) + square / speeds_.flops64 + square / speeds_.flops32 +
                             small(2 * d_ * d_ * d_),
                         2 + regression::corrections(regression::kSketchedContraction));
    out.single = true;
    return out;
  }

  LstsqCost iterative(LstsqMethod method) const {
    const double steps = 2 * (regression::inner_steps(regression::kIterativeRows) + 1) + 1;
    return cost(method, 4 * entries_ * k_ * steps, sketch(regression::kIterativeRows * d_), steps + 1);
  }

  LstsqCost sketch_and_solve() const {
    return cost(LstsqMethod::sketch_and_solve, 16 * entries_, sketch(regression::kIterativeRows * d_), 2);
  }

 private:
  static LstsqCost none(LstsqMethod method) {
    LstsqCost out;
    out.method = method;
    out.seconds = kInfinity;
    return out;
  }

  // A reading with k right-hand sides is bound by memory or by its products.
  double reading() const { return std::max(bytes_ / speeds_.bandwidth, 4 * entries_ * k_ / speeds_.flops64); }
  double small(double flops) const { return flops / speeds_.small_flops; }
  // Eight additions to the sketch for each entry come from cache at about the cost of three readings of memory; a
  // linear operator is applied to all unit vectors.
  double sketch(double rows) const {
    const double wide = d_ + k_;
    const double apply = shape_.has_rows ? 3 * bytes_ / speeds_.bandwidth : d_ / std::max(1.0, k_) * reading();
    return apply + 2 * rows * wide * wide / speeds_.qr_flops;
  }

  LstsqCost cost(LstsqMethod method, double flops, double seconds, double readings) const {
    LstsqCost out;
    out.method = method;
    out.flops = flops;
    out.readings = readings;
    out.seconds = seconds + readings * reading();
    return out;
  }

  const LstsqShape shape_;
  const LstsqSpeeds speeds_;
  const double n_, d_, k_;
  const bool dense_;
  const double entries_, bytes_;
};

}  // namespace

const char* name_of(LstsqMethod method) {
  for (const Name& name : kNames)
    if (name.method == method) return name.text;
  return "unknown";
}

LstsqMethod parse_lstsq_method(const std::string& text) {
  std::string known;
  for (const Name& name : kNames) {
    if (text == name.text) return name.method;
    known += std::string(known.empty() ? "" : ", ") + name.text;
  }
  throw Error(ErrorCode::invalid_argument, "unknown method \"" + text + "\"; it is one of " + known);
}

LstsqSpeeds measure_lstsq_speeds(const Exec& exec) {
  LstsqSpeeds out;
  out.flops64 = product_flops<double>(exec);
  out.flops32 = product_flops<float>(exec);
  {
    constexpr std::int64_t n = 16384, d = 256;
    Array<double> x(exec, n, d), r(exec, d, d);
    axpby<double, double>(exec, 0.0, {}, 0.0, x.view());
    const double seconds = best_time([&] { qr_factor_r<double>(exec, x.view(), r.view()); });
    out.qr_flops = 2.0 * n * d * d / seconds;
    const Exec alone = exec.device() == Device::cpu ? Exec(Device::cpu, 1) : exec;
    Array<double> small(alone, 2 * d, d);
    axpby<double, double>(alone, 0.0, {}, 0.0, small.view());
    const double one = best_time([&] { qr_factor_r<double>(alone, small.view(), r.view()); });
    out.small_flops = 4.0 * d * d * d / one;
  }
  {
    // 128 MB: beyond the caches.
    constexpr std::int64_t n = 32768, d = 512;
    Array<double> a(exec, n, d), x(exec, d, 1), r(exec, n, 1), g(exec, d, 1);
    axpby<double, double>(exec, 0.0, {}, 0.0, a.view());
    axpby<double, double>(exec, 0.0, {}, 0.0, x.view());
    const double seconds = best_time([&] { normal_sweep<double>(exec, a.view(), x.view(), {}, r.view(), g.view()); });
    out.bandwidth = 8.0 * n * d / seconds;
  }
  return out;
}

LstsqPlan plan_lstsq(const LstsqShape& given, const LstsqSpeeds& speeds) {
  LstsqShape shape = given;
  // A short operator is solved as the matrix of doubles that its products form.
  if (!shape.has_rows && regression::is_formed(shape.n, shape.d)) {
    shape.has_rows = true;
    shape.item_bytes = 8;
    shape.stored = -1;
  }
  GRAMIAN_REQUIRE(shape.n >= 1 && shape.d >= 1 && shape.k >= 1, invalid_argument,
                  "a least-squares problem needs at least one row, one column and one right-hand side");
  const Costs costs(shape, speeds);
  LstsqPlan out;
  out.costs = {costs.qr(),
               costs.cholesky(true),
               costs.cholesky(false),
               costs.preconditioned_cholesky(),
               costs.iterative(LstsqMethod::spir),
               costs.iterative(LstsqMethod::fossils),
               costs.sketch_and_solve()};
  // A sketch of not many fewer rows than there are saves nothing; the last method is not accurate.
  const auto allowed = [&](const LstsqCost& cost) {
    if (cost.method == LstsqMethod::sketch_and_solve) return false;
    const double rows = cost.method == LstsqMethod::spir || cost.method == LstsqMethod::fossils
                            ? regression::kIterativeRows
                        : cost.method == LstsqMethod::preconditioned_cholesky ? regression::kDirectRows
                                                                              : 0;
    return !shape.has_rows || static_cast<double>(shape.n) > rows * static_cast<double>(shape.d);
  };
  out.choice.seconds = kInfinity;
  for (const LstsqCost& cost : out.costs)
    if (allowed(cost) && cost.seconds < out.choice.seconds) out.choice = cost;
  return out;
}

}  // namespace gramian
