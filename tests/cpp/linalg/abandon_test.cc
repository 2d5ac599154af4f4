// Eigen-decompositions and singular value decompositions are single calls of the table: whoever is cancelled does not
// wait for them.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/linalg/symmetric.hpp"
#include "support/fork.h"
#include "support/helpers.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

using gramian::Array;
using gramian::Error;
using gramian::ErrorCode;
using gramian::Exec;
using gramian::MatrixView;
using gramian::memory_stats;
using gramian::symmetric_eigen;
using gramian::SymmetricMatrix;
using testkit::cpu;
using testkit::expect_error;
using testkit::same_bits;
using Clock = std::chrono::steady_clock;

// What guarantees.md promises, and an order whose decomposition takes longer than that where LAPACK is there.
constexpr double kPromise = 0.5;
constexpr std::int64_t kLong = 1500;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

SymmetricMatrix<double> symmetric(const Exec& exec, std::int64_t n) {
  std::mt19937_64 random(static_cast<std::uint64_t>(n));
  std::normal_distribution<double> normal;
  std::vector<double> packed(static_cast<std::size_t>(n * (n + 1) / 2));
  for (double& value : packed) value = normal(random);
  SymmetricMatrix<double> a(exec, n);
  a.unpack(exec, packed.data());
  return a;
}

struct Eigen {
  std::vector<double> values, vectors;
};

Eigen decompose(const Exec& exec, const SymmetricMatrix<double>& a) {
  Eigen out;
  Array<double> v;
  symmetric_eigen(exec, a, out.values, v);
  out.vectors.assign(v.data(), v.data() + v.size());
  return out;
}

bool same(const Eigen& a, const Eigen& b) {
  return same_bits(a.values, b.values) && same_bits(a.vectors, b.vectors);
}

// Cancels from `after` seconds on, and notes when it first did.
struct Canceller {
  explicit Canceller(double after_) : after(after_) {}
  bool operator()() {
    if (seconds_since(start) < after) return false;
    if (cancelled == Clock::time_point()) cancelled = Clock::now();
    return true;
  }
  const double after;
  const Clock::time_point start = Clock::now();
  Clock::time_point cancelled;
};

// Seconds from the cancellation to the end of the call, which it must have ended.
template <class Call>
double answer_to_cancel(Exec exec, double after, const Call& call) {
  const auto canceller = std::make_shared<Canceller>(after);
  exec.set_cancel_hook([canceller] { return (*canceller)(); });
  EXPECT_EQ(static_cast<int>([&] {
              try {
                call(exec);
              } catch (const Error& error) {
                return error.code();
              }
              return ErrorCode::internal;
            }()),
            static_cast<int>(ErrorCode::cancelled));
  const double seconds = seconds_since(canceller->cancelled);
  exec.set_cancel_hook(nullptr);
  EXPECT_EQ(canceller.use_count(), 1) << "the hook outlives its exec's";
  return seconds;
}

// Until all that abandoned calls hold has been given back.
void expect_memory_back(std::size_t live) {
  const auto start = Clock::now();
  while (memory_stats().live > live && seconds_since(start) < 120) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(memory_stats().live, live);
}

TEST(Abandon, AnEigenDecompositionIsLeftBehind) {
  const Exec quiet = cpu();
  const SymmetricMatrix<double> a = symmetric(quiet, kLong);
  const auto start = Clock::now();
  const Eigen whole = decompose(quiet, a);
  const double whole_seconds = seconds_since(start);
  const std::size_t live = memory_stats().live;
  std::vector<double> w;
  Array<double> v;
  const double answer = answer_to_cancel(cpu(), std::min(0.05, whole_seconds / 4),
                                         [&](const Exec& exec) { symmetric_eigen(exec, a, w, v); });
  EXPECT_LT(answer, kPromise) << "of " << whole_seconds << " s";
  EXPECT_EQ(v.size(), 0);
  // It was left in its middle: the work is still there, and then no more.
  EXPECT_GT(memory_stats().live, live) << "of " << whole_seconds << " s, answered after " << answer;
  EXPECT_TRUE(same(decompose(quiet, a), whole)) << "beside the one that was left behind";
  expect_memory_back(live);
  Exec asked = cpu();
  int polls = 0;
  asked.set_cancel_hook([&] {
    ++polls;
    return false;
  });
  EXPECT_TRUE(same(decompose(asked, a), whole));
  EXPECT_GE(polls, 1);
}

TEST(Abandon, ASingularValueDecompositionToo) {
  const Exec quiet = cpu();
  const std::int64_t m = 900, n = 700;
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  const Array<double> a(quiet, m, n), u(quiet, m, n), vt(quiet, n, n);
  for (std::int64_t k = 0; k < a.size(); ++k) a.data()[k] = normal(random);
  const auto left = [&] { return std::vector<double>(u.data(), u.data() + u.size()); };
  const auto right = [&] { return std::vector<double>(vt.data(), vt.data() + vt.size()); };
  std::vector<double> s;
  const auto start = Clock::now();
  gramian::small_svd<double>(quiet, a.view(), u.view(), s, vt.view());
  const double whole_seconds = seconds_since(start);
  const std::vector<double> s_first = s, u_first = left(), vt_first = right();
  const std::size_t live = memory_stats().live;
  const double answer = answer_to_cancel(cpu(), std::min(0.05, whole_seconds / 4), [&](const Exec& exec) {
    gramian::small_svd<double>(exec, a.view(), u.view(), s, vt.view());
  });
  EXPECT_LT(answer, kPromise) << "of " << whole_seconds << " s";
  EXPECT_GT(memory_stats().live, live);
  EXPECT_TRUE(same_bits(left(), u_first) && same_bits(right(), vt_first)) << "written to by abandoned work";
  expect_memory_back(live);
  Exec asked = cpu();
  asked.set_cancel_hook([] { return false; });
  gramian::small_svd<double>(asked, a.view(), u.view(), s, vt.view());
  EXPECT_TRUE(same_bits(s, s_first) && same_bits(left(), u_first) && same_bits(right(), vt_first));
}

TEST(Abandon, QrIsCutWhereItCanBe) {
  const Exec quiet = cpu();
  const std::int64_t n = 5000, d = 1200;
  std::mt19937_64 random(4);
  std::normal_distribution<double> normal;
  const Array<double> x(quiet, n, d), r(quiet, d, d);
  for (std::int64_t k = 0; k < x.size(); ++k) x.data()[k] = normal(random);
  for (const int threads : {1, 2}) {
    int polls = 0;
    Exec exec = cpu(threads);
    exec.set_cancel_hook([&] {
      ++polls;
      return false;
    });
    gramian::qr_factor_r<double>(exec, x.view(), r.view());
    // Each of the five panels is asked for, and each strip right of it.
    EXPECT_GE(polls, 5);
    exec.set_cancel_hook(nullptr);
    const double answer = answer_to_cancel(
        cpu(threads), 0.02, [&](const Exec& asked) { gramian::qr_factor_r<double>(asked, x.view(), r.view()); });
    EXPECT_LT(answer, kPromise);
  }
}

TEST(Abandon, ErrorsComeBack) {
  Exec exec = cpu();
  const SymmetricMatrix<double> a = symmetric(exec, 600);
  a.tile(0, 0)(3, 2) = std::numeric_limits<double>::quiet_NaN();
  exec.set_cancel_hook([] { return false; });
  expect_error(ErrorCode::no_convergence, "", [&] { decompose(exec, a); });
  // What a hook throws passes through.
  const SymmetricMatrix<double> large = symmetric(cpu(), 1000);
  const std::size_t live = memory_stats().live;
  exec.set_cancel_hook([]() -> bool { throw std::runtime_error("from the hook"); });
  EXPECT_THROW(decompose(exec, large), std::runtime_error);
  expect_memory_back(live);
}

TEST(Abandon, OnBorrowedThreadsToo) {
  const std::size_t live = memory_stats().live;
  {
    const SymmetricMatrix<double> a = symmetric(cpu(), kLong);
    const double answer = answer_to_cancel(
        cpu(3), 0.05, [&](const Exec& exec) { exec.parallel_for(3, [&](std::int64_t) { decompose(exec, a); }); });
    EXPECT_LT(answer, kPromise);
  }
  expect_memory_back(live);
}

TEST(Abandon, ALoopAsksWhileItWaitsForItsHelpers) {
  // The caller is done while its helper is in a long task, which polls.
  const Exec exec = cpu(2);
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<bool> helper_is_in{false};
  const double answer = answer_to_cancel(exec, 0.1, [&](const Exec& asked) {
    asked.parallel_for(2, [&](std::int64_t) {
      const auto start = Clock::now();
      if (std::this_thread::get_id() == caller) {
        while (!helper_is_in.load()) std::this_thread::yield();
        return;
      }
      helper_is_in.store(true);
      while (seconds_since(start) < 20) {
        asked.poll();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
  });
  EXPECT_LT(answer, kPromise);
}

TEST(Abandon, OnlySoManyAreLeftBehind) {
  const std::size_t live = memory_stats().live;
  {
    constexpr std::int64_t n = 1000;
    const SymmetricMatrix<double> a = symmetric(cpu(), n);
    const std::size_t before = memory_stats().live;
    constexpr std::size_t bytes = (n * n + n) * sizeof(double);
    for (int k = 0; k < 8; ++k) {
      const double answer = answer_to_cancel(cpu(), 0.03, [&](const Exec& exec) { decompose(exec, a); });
      EXPECT_LT(answer, kPromise);
      // Four that nobody waits for, and at most the fifth's memory.
      EXPECT_LE(memory_stats().live, before + 5 * bytes);
    }
  }
  expect_memory_back(live);
}

#if !defined(_WIN32)
std::size_t live_at_start = 0;

// Registered before the first decomposition, so it runs after the handler that waits for what was abandoned.
void leave_with_code_of_memory() {
  _exit(memory_stats().live == live_at_start ? 7 : 8);
}

void cancel_one_and_exit() {
  live_at_start = memory_stats().live;
  std::atexit(leave_with_code_of_memory);
  {
    const SymmetricMatrix<double> a = symmetric(cpu(), kLong);
    Exec exec = cpu();
    const auto start = Clock::now();
    exec.set_cancel_hook([start] { return seconds_since(start) > 0.05; });
    try {
      decompose(exec, a);
      _exit(9);
    } catch (const Error&) {
    }
  }
  if (memory_stats().live == live_at_start) _exit(10);  // nothing was left behind
  std::exit(6);
}

TEST(AbandonDeathTest, TheEndOfTheProcessWaits) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";  // a fresh process
  EXPECT_EXIT(cancel_one_and_exit(), testing::ExitedWithCode(7), "");
}
#endif

#ifdef GRAMIAN_TESTS_FORK
TEST(Abandon, AForkedChildKnowsNothingOfIt) {
  const Exec quiet = cpu();
  const std::size_t live = memory_stats().live;
  {
    const SymmetricMatrix<double> a = symmetric(quiet, kLong), small = symmetric(quiet, 500);
    const Eigen whole = decompose(quiet, small);
    answer_to_cancel(cpu(), 0.05, [&](const Exec& exec) { decompose(exec, a); });
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);  // a hang kills the child, not the test run
      Exec exec = cpu();
      exec.set_cancel_hook([] { return false; });
      const bool right = same(decompose(exec, small), whole);
      std::exit(right ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  expect_memory_back(live);
}

TEST(Abandon, AHookThatForksLeavesTheChildAnError) {
  const SymmetricMatrix<double> a = symmetric(cpu(), kLong);
  Exec exec = cpu();
  pid_t child = -1;
  exec.set_cancel_hook([&] {
    if (child != -1) return false;
    child = fork();
    if (child == 0) alarm(60);
    return false;
  });
  ErrorCode code = ErrorCode::internal;
  try {
    decompose(exec, a);
  } catch (const Error& error) {
    code = error.code();
  }
  if (child == 0) _exit(code == ErrorCode::unsupported ? 0 : 1);
  EXPECT_EQ(static_cast<int>(code), static_cast<int>(ErrorCode::internal)) << "the parent's went through";
  int status = 0;
  ASSERT_GT(child, 0);
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}
#endif

}  // namespace
