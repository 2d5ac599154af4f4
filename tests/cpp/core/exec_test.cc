#include "gramian/core/exec.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "backend/registry.h"
#include "gramian/core/error.hpp"

namespace {

using gramian::Device;
using gramian::Error;
using gramian::ErrorCode;
using gramian::Exec;

template <class F>
ErrorCode code_of(F call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::internal;
}

TEST(Device, Names) {
  EXPECT_EQ(gramian::parse_device("cpu").device, Device::cpu);
  EXPECT_EQ(gramian::parse_device("cuda").device, Device::cuda);
  EXPECT_EQ(gramian::parse_device("cuda").index, 0);
  EXPECT_EQ(gramian::parse_device("cuda:12").index, 12);
  for (const char* wrong : {"", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1 ", "cuda:99999", "gpu"}) {
    EXPECT_EQ(code_of([&] { gramian::parse_device(wrong); }), ErrorCode::invalid_argument) << wrong;
  }
  EXPECT_EQ(std::string(gramian::name_of(Device::cpu)), "cpu");
  EXPECT_EQ(std::string(gramian::name_of(Device::cuda)), "cuda");
}

TEST(Exec, CopiesShareOneState) {
  Exec exec(Device::cpu, 3);
  Exec copy = exec;
  EXPECT_EQ(copy.threads(), 3);
  copy.set_threads(5);
  EXPECT_EQ(exec.threads(), 5);
  EXPECT_EQ(exec.context(), copy.context());
  EXPECT_EQ(exec.device(), Device::cpu);
  EXPECT_EQ(exec.device_index(), 0);
  EXPECT_EQ(&exec.table(), &gramian::backend::cpu_table());
}

TEST(Exec, RefusesNonsense) {
  EXPECT_EQ(code_of([] { Exec(Device::cpu, -1); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([] { Exec(Device::cpu, 0, 1); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([] { Exec().set_threads(-2); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([] { gramian::set_default_threads(-2); }), ErrorCode::invalid_argument);
}

TEST(Exec, DefaultThreadsAreLookedUpAtEachUse) {
  const Exec exec;
  const int before = gramian::default_threads();
  gramian::set_default_threads(7);
  EXPECT_EQ(exec.threads(), 7);
  gramian::set_default_threads(0);
  EXPECT_EQ(exec.threads(), before);
}

TEST(Exec, ParallelForRunsEachTaskOnce) {
  for (const int threads : {1, 2, 7}) {
    const Exec exec(Device::cpu, threads);
    for (const std::int64_t count : {-1, 0, 1, 2, 100}) {
      std::vector<std::atomic<int>> runs(100);
      exec.parallel_for(count, [&](std::int64_t task) { runs[static_cast<std::size_t>(task)].fetch_add(1); });
      std::int64_t total = 0;
      for (const auto& run : runs) {
        EXPECT_LE(run.load(), 1);
        total += run.load();
      }
      EXPECT_EQ(total, std::max<std::int64_t>(count, 0));
    }
  }
}

TEST(Exec, OneThreadRunsInOrderInPlace) {
  const Exec exec(Device::cpu, 1);
  std::vector<std::int64_t> order;
  exec.parallel_for(5, [&](std::int64_t task) { order.push_back(task); });
  EXPECT_EQ(order, (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
}

TEST(Exec, ExceptionsComeBack) {
  for (const int threads : {1, 4}) {
    const Exec exec(Device::cpu, threads);
    std::atomic<std::int64_t> runs{0};
    // More tasks than the others could do while the thread that throws waits for a processor.
    constexpr std::int64_t kMany = std::int64_t{1} << 40;
    try {
      exec.parallel_for(kMany, [&](std::int64_t task) {
        runs.fetch_add(1);
        if (task == 17) throw std::runtime_error("seventeen");
      });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(std::string(error.what()), "seventeen");
    }
    EXPECT_LT(runs.load(), kMany);
    EXPECT_THROW(exec.parallel_for(8, [](std::int64_t) { throw std::bad_alloc(); }), std::bad_alloc);
    EXPECT_THROW(exec.parallel_for(8, [](std::int64_t) { throw 5; }), int);
    // The pool is as good as before.
    runs = 0;
    exec.parallel_for(50, [&](std::int64_t) { runs.fetch_add(1); });
    EXPECT_EQ(runs.load(), 50);
  }
}

TEST(Exec, CancelHookStops) {
  for (const int threads : {1, 4}) {
    Exec exec(Device::cpu, threads);
    const std::thread::id caller = std::this_thread::get_id();
    std::atomic<int> runs{0}, foreign{0};
    exec.set_cancel_hook([&] {
      if (std::this_thread::get_id() != caller) foreign.fetch_add(1);
      return runs.load() >= 20;
    });
    const Exec copy = exec;
    // More tasks than the workers could do while the calling thread, which asks the hook, waits for a processor.
    constexpr int kMany = 1 << 30;
    EXPECT_EQ(code_of([&] { copy.parallel_for(kMany, [&](std::int64_t) { runs.fetch_add(1); }); }),
              ErrorCode::cancelled);
    EXPECT_GE(runs.load(), 20);
    EXPECT_LT(runs.load(), kMany);
    EXPECT_EQ(code_of([&] { exec.poll(); }), ErrorCode::cancelled);
    // Work inside tasks asks too, but never on a thread that is not the caller's.
    runs = 0;
    try {
      exec.parallel_for(200, [&](std::int64_t) { exec.parallel_for(5, [&](std::int64_t) { runs.fetch_add(1); }); });
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::cancelled);
    }
    EXPECT_EQ(foreign.load(), 0);
    exec.set_cancel_hook(nullptr);
    EXPECT_NO_THROW(exec.poll());
  }
}

TEST(Exec, AHookWithAPauseIsAskedLessOftenExceptBeforeAChange) {
  Exec exec(Device::cpu, 1);
  int asked = 0;
  const auto count = [&] {
    ++asked;
    return false;
  };
  exec.set_cancel_hook(count, 3600);
  exec.poll_now();
  const int first = asked;
  EXPECT_EQ(first, 1);
  exec.parallel_for(100, [&](std::int64_t) { exec.poll(); });
  EXPECT_EQ(asked, first);
  exec.poll_now();
  exec.on_host().poll_now();
  EXPECT_EQ(asked, first + 2);
  exec.on_host().poll();
  exec.uninterrupted().poll_now();
  EXPECT_EQ(asked, first + 2);
  exec.set_cancel_hook([] { return true; }, 3600);
  EXPECT_NO_THROW(exec.poll());
  EXPECT_EQ(code_of([&] { exec.poll_now(); }), ErrorCode::cancelled);
  // Without a pause every poll asks.
  exec.set_cancel_hook(count);
  for (int k = 0; k < 5; ++k) exec.poll();
  EXPECT_EQ(asked, first + 7);
  exec.set_cancel_hook(count, 0.001);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  exec.poll();
  EXPECT_EQ(asked, first + 8);
  EXPECT_EQ(code_of([&] { exec.set_cancel_hook(count, -1); }), ErrorCode::invalid_argument);
}

TEST(Exec, AHookMayThrow) {
  for (const int threads : {1, 4}) {
    Exec exec(Device::cpu, threads);
    exec.set_cancel_hook([]() -> bool { throw std::logic_error("hook"); });
    EXPECT_THROW(exec.parallel_for(10, [](std::int64_t) {}), std::logic_error);
    EXPECT_THROW(exec.poll(), std::logic_error);
  }
}

TEST(Exec, NestedLoopsEnd) {
  const Exec exec(Device::cpu, 4);
  std::atomic<int> runs{0};
  exec.parallel_for(10, [&](std::int64_t) { exec.parallel_for(10, [&](std::int64_t) { runs.fetch_add(1); }); });
  EXPECT_EQ(runs.load(), 100);
}

TEST(Exec, OnHostKeepsTheChoiceOfThreadsAndTheHook) {
  Exec exec(Device::cpu, 3);
  exec.set_cancel_hook([] { return true; });
  EXPECT_EQ(exec.on_host().device(), Device::cpu);
  EXPECT_EQ(exec.on_host().threads(), 3);
  EXPECT_EQ(code_of([&] { exec.on_host().poll(); }), ErrorCode::cancelled);
  if (!gramian::device_available(Device::cuda)) GTEST_SKIP() << "no device";
  Exec device(Device::cuda, 3);
  EXPECT_EQ(device.on_host().device(), Device::cpu);
  EXPECT_EQ(device.on_host().threads(), 3);
  EXPECT_EQ(Exec(Device::cuda).on_host().threads(), gramian::default_threads());
  device.set_cancel_hook([] { return true; });
  EXPECT_EQ(code_of([&] { device.on_host().poll(); }), ErrorCode::cancelled);
  EXPECT_NO_THROW(device.uninterrupted().on_host().poll());
}

TEST(Device, Available) {
  std::string reason = "unchanged";
  EXPECT_TRUE(gramian::device_available(Device::cpu, &reason));
  EXPECT_EQ(reason, "unchanged");
  if (gramian::device_available(Device::cuda, &reason)) {
    EXPECT_EQ(Exec(Device::cuda).threads(), 1);
  } else {
    EXPECT_NE(reason, "unchanged");
    EXPECT_NE(reason, "");
    EXPECT_THROW(Exec(Device::cuda), Error);
  }
}

// The environment is read once per process, so each setting is tried in a process of its own, which prints the answer.
class Environment : public testing::Test {
 protected:
  Environment() { testing::FLAGS_gtest_death_test_style = "threadsafe"; }

  [[noreturn]] static void print_threads(const char* gramian_threads, const char* omp_threads, int chosen = 0) {
    setenv("GRAMIAN_NUM_THREADS", gramian_threads, 1);
    setenv("OMP_NUM_THREADS", omp_threads, 1);
    try {
      gramian::set_default_threads(chosen);
      const int threads = gramian::default_threads();
      const bool all = threads == gramian::backend::available_processors();
      std::fprintf(stderr, "<%d>%s\n", threads, all ? " all" : "");
    } catch (const Error& error) {
      std::fprintf(stderr, "error %d: %s\n", static_cast<int>(error.code()), error.what());
    }
    std::exit(0);
  }
};

TEST_F(Environment, OrderOfThreadSettings) {
  const testing::ExitedWithCode fine(0);
  EXPECT_EXIT(print_threads("5", "6"), fine, "<5>");
  EXPECT_EXIT(print_threads("", "6"), fine, "<6>");
  EXPECT_EXIT(print_threads("", "11,2"), fine, "<11>");
  EXPECT_EXIT(print_threads("", ""), fine, " all");
  EXPECT_EXIT(print_threads("", "many"), fine, " all");
  EXPECT_EXIT(print_threads("", "0"), fine, " all");
  EXPECT_EXIT(print_threads("5", "6", 13), fine, "<13>");
}

TEST_F(Environment, NonsenseInOurVariableIsRefused) {
  const std::string refused =
      "error " + std::to_string(static_cast<int>(ErrorCode::invalid_argument)) + ": GRAMIAN_NUM_THREADS is ";
  for (const char* wrong : {"0", "-3", "two", "4x", "4,2", "99999999999999999999"}) {
    EXPECT_EXIT(print_threads(wrong, "6"), testing::ExitedWithCode(0), refused) << wrong;
  }
}

}  // namespace
