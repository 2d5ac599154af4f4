#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

#include "backend/registry.h"
#include "support/fork.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

using gramian::backend::pool_run;

// Counts how often each task ran.
struct Tally {
  explicit Tally(std::size_t count) : runs(count) {}
  std::vector<std::atomic<int>> runs;

  static void body(void* arg, long long task) {
    static_cast<Tally*>(arg)->runs[static_cast<std::size_t>(task)].fetch_add(1);
  }
  void run(int threads) { pool_run(threads, static_cast<long long>(runs.size()), body, nullptr, this); }
  bool each_ran_once() const {
    for (const auto& count : runs) {
      if (count.load() != 1) return false;
    }
    return true;
  }
};

TEST(Pool, EachTaskRunsOnce) {
  for (const int threads : {0, 1, 2, 3, 8, 40}) {
    for (const std::size_t count : {0, 1, 2, 5, 1000}) {
      Tally tally(count);
      tally.run(threads);
      EXPECT_TRUE(tally.each_ran_once()) << threads << " threads, " << count << " tasks";
    }
  }
}

TEST(Pool, ManySmallJobsFollowEachOther) {
  for (int round = 0; round < 5000; ++round) {
    Tally tally(4);
    tally.run(4);
    ASSERT_TRUE(tally.each_ran_once()) << round;
  }
}

TEST(Pool, JobsAfterASleep) {
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    Tally tally(16);
    tally.run(3);
    ASSERT_TRUE(tally.each_ran_once());
  }
}

// All threads meet in one task each: only possible if there really are that many.
struct Meeting {
  int expected;
  std::atomic<int> here{0};
  static void body(void* arg, long long) {
    auto& meeting = *static_cast<Meeting*>(arg);
    meeting.here.fetch_add(1);
    while (meeting.here.load() < meeting.expected) std::this_thread::yield();
  }
};

TEST(Pool, GrowsToTheRequest) {
  for (const int threads : {2, 5, 3, 9}) {
    Meeting meeting{threads};
    pool_run(threads, threads, Meeting::body, nullptr, &meeting);
    EXPECT_EQ(meeting.here.load(), threads);
  }
}

// Task t waits for task t - 1.
struct Chain {
  std::atomic<long long> done{0};
  static void body(void* arg, long long task) {
    auto& chain = *static_cast<Chain*>(arg);
    while (chain.done.load() != task) std::this_thread::yield();
    chain.done.store(task + 1);
  }
};

TEST(Pool, ATaskMayWaitForALowerOne) {
  Chain chain;
  pool_run(6, 500, Chain::body, nullptr, &chain);
  EXPECT_EQ(chain.done.load(), 500);
}

struct Stopper {
  Chain chain;
  std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> asked{0};
  bool foreign = false;
  static bool keep_going(void* arg) {
    auto& self = *static_cast<Stopper*>(arg);
    if (std::this_thread::get_id() != self.caller) self.foreign = true;
    return self.asked.fetch_add(1) < 3;
  }
  static void body(void* arg, long long task) { Chain::body(&static_cast<Stopper*>(arg)->chain, task); }
};

TEST(Pool, StopsWhenTheCallerSaysSo) {
  // More tasks than the workers could do while the calling thread, which is asked, waits for a processor.
  constexpr long long kMany = 1LL << 40;
  for (const int threads : {1, 4}) {
    Stopper stopper;
    pool_run(threads, kMany, Stopper::body, Stopper::keep_going, &stopper);
    EXPECT_EQ(stopper.asked.load(), 4);
    EXPECT_FALSE(stopper.foreign);
    EXPECT_LT(stopper.chain.done.load(), kMany);
    // What was handed out ran to its end, without a hole.
    EXPECT_GE(stopper.chain.done.load(), 3);
  }
}

struct Nest {
  Tally inner{400};
  static void body(void* arg, long long outer) {
    const std::thread::id here = std::this_thread::get_id();
    struct Row {
      Nest* nest;
      long long outer;
      std::thread::id here;
    } row{static_cast<Nest*>(arg), outer, here};
    const auto inner_body = [](void* inner_arg, long long task) {
      const Row& mine = *static_cast<Row*>(inner_arg);
      EXPECT_EQ(std::this_thread::get_id(), mine.here);
      Tally::body(&mine.nest->inner, mine.outer * 20 + task);
    };
    pool_run(8, 20, inner_body, nullptr, &row);
  }
};

TEST(Pool, NestedCallsRunInPlace) {
  Nest nest;
  pool_run(4, 20, Nest::body, nullptr, &nest);
  EXPECT_TRUE(nest.inner.each_ran_once());
}

TEST(Pool, CallersFromSeveralThreads) {
  std::vector<std::thread> callers;
  std::atomic<int> bad{0};
  for (int c = 0; c < 6; ++c) {
    callers.emplace_back([&bad] {
      for (int round = 0; round < 200; ++round) {
        Tally tally(30);
        tally.run(1 + round % 5);
        if (!tally.each_ran_once()) bad.fetch_add(1);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(bad.load(), 0);
}

TEST(Pool, ResultsOfHelpersAreVisible) {
  std::vector<double> squares(10000);
  const auto body = [](void* arg, long long task) {
    static_cast<double*>(arg)[task] = static_cast<double>(task) * static_cast<double>(task);
  };
  pool_run(4, 10000, body, nullptr, squares.data());
  for (std::size_t i = 0; i < squares.size(); ++i)
    ASSERT_EQ(squares[i], static_cast<double>(i) * static_cast<double>(i));
}

bool pool_works() {
  Meeting meeting{4};
  pool_run(4, 4, Meeting::body, nullptr, &meeting);
  Tally tally(100);
  tally.run(3);
  return tally.each_ran_once();
}

#ifdef GRAMIAN_TESTS_FORK
// Exit status of a child that does `work` and answers whether all was well; -1 if it hung.
template <class Work>
int in_child(Work work) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // a hang kills the child, not the test run
    _exit(work() ? 0 : 1);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(PoolFork, ChildMakesItsOwnThreads) {
  ASSERT_TRUE(pool_works());
  EXPECT_EQ(in_child(pool_works), 0);
  EXPECT_TRUE(pool_works());
}

TEST(PoolFork, ChildOfAChild) {
  ASSERT_TRUE(pool_works());
  EXPECT_EQ(in_child([] { return pool_works() && in_child(pool_works) == 0; }), 0);
}

TEST(PoolFork, WhileAnotherThreadRunsJobs) {
  std::atomic<bool> stop{false};
  std::thread busy([&stop] {
    while (!stop.load()) {
      Tally tally(50);
      tally.run(3);
    }
  });
  for (int round = 0; round < 30; ++round) EXPECT_EQ(in_child(pool_works), 0);
  stop.store(true);
  busy.join();
  EXPECT_TRUE(pool_works());
}

#endif

TEST(PoolExit, ProcessEndsWithWorkersAlive) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        alarm(60);
        std::exit(pool_works() ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
