// The thread pool: sleeping workers, jobs that hand out their tasks by one counter, no OpenMP.
//
// A caller puts its job on a list, works on it itself, and takes it off the list when no task is left; workers join any
// job on the list that still wants help. So every job ends even if no worker ever comes, callers in several threads
// share what workers there are, and nothing can wait in a circle.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "backend/registry.h"

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif

namespace gramian::backend {
namespace {

using Body = void (*)(void*, long long);
using KeepGoing = bool (*)(void*);

// Long enough to bridge the gap between two jobs of one algorithm, short enough not to starve the work itself where
// threads outnumber processors.
constexpr std::chrono::microseconds kSpin{30};
// How often a caller that waits for its helpers is asked whether it wants to go on.
constexpr std::chrono::milliseconds kAskAgain{20};
// A request beyond any machine is a mistake; it must not exhaust the process's threads.
constexpr int kMaxWorkers = 1023;

// True on a worker, and on a caller while it works on a job that workers share.
thread_local bool inside_job = false;

struct Job {
  Body body;
  void* arg;
  long long count;
  int helpers_wanted;    // guarded by the pool's mutex, as is `later`
  Job* later = nullptr;  // the list of jobs
  std::atomic<long long> next{0};
  std::atomic<bool> stop{false};
  std::atomic<int> helpers_inside{0};

  Job(Body body_, void* arg_, long long count_, int helpers)
      : body(body_), arg(arg_), count(count_), helpers_wanted(helpers) {}

  // Runs the next task; false when none is left. A task that was handed out always runs: a higher one may wait for it.
  bool run_next() {
    if (stop.load(std::memory_order_relaxed)) return false;
    const long long task = next.fetch_add(1, std::memory_order_relaxed);
    if (task >= count) return false;
    body(arg, task);
    return true;
  }
};

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

template <class Condition>
bool spin_until(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (condition()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return condition();
}

class Pool {
 public:
  void run(Job& job, KeepGoing keep_going) {
    post(job);
    while ((keep_going == nullptr || keep_going(job.arg)) && job.run_next()) {
    }
    job.stop.store(true, std::memory_order_relaxed);
    finish(job, keep_going);
  }

 private:
  void post(Job& job) {
    std::lock_guard<std::mutex> lock(mutex_);
    while (workers_ < job.helpers_wanted && start_worker()) {
    }
    Job** tail = &jobs_;
    while (*tail != nullptr) tail = &(*tail)->later;
    *tail = &job;
    posted_.fetch_add(1, std::memory_order_relaxed);
    for (int i = 0; i < job.helpers_wanted && i < sleeping_; ++i) wake_.notify_one();
  }

  void finish(Job& job, KeepGoing keep_going) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      Job** link = &jobs_;
      while (*link != &job) link = &(*link)->later;
      *link = job.later;
    }
    // Nobody can join any more. The acquire makes the helpers' work visible here.
    const auto alone = [&job] { return job.helpers_inside.load(std::memory_order_acquire) == 0; };
    if (spin_until(alone)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    ++waiting_callers_;
    while (!done_.wait_for(lock, kAskAgain, alone)) {
      if (keep_going == nullptr) continue;
      // A helper may be in a long task, which looks now and then whether the job is wanted: so this goes on asking.
      lock.unlock();
      keep_going(job.arg);
      lock.lock();
    }
    --waiting_callers_;
  }

  // With mutex_ held. False where the system gives no more threads; the job then runs on those there are.
  bool start_worker() {
    if (workers_ >= kMaxWorkers) return false;
    try {
      thread_without_signals([this] { work(); }).detach();
    } catch (...) {  // no thread or no memory for one
      return false;
    }
    ++workers_;
    return true;
  }

  // With mutex_ held: a job that still wants help, oldest first.
  Job* open_job() {
    for (Job* job = jobs_; job != nullptr; job = job->later) {
      if (job->helpers_wanted > 0 && !job->stop.load(std::memory_order_relaxed)) return job;
    }
    return nullptr;
  }

  void work() {
    inside_job = true;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      if (Job* job = open_job()) {
        help(*job, lock);
        continue;
      }
      const std::uint64_t seen = posted_.load(std::memory_order_relaxed);
      const auto news = [this, seen] { return posted_.load(std::memory_order_relaxed) != seen; };
      lock.unlock();
      const bool found = spin_until(news);
      lock.lock();
      if (found) continue;
      ++sleeping_;
      wake_.wait(lock, news);
      --sleeping_;
    }
  }

  // Enters and leaves with mutex_ held. After helpers_inside fell, the job may be gone.
  void help(Job& job, std::unique_lock<std::mutex>& lock) {
    --job.helpers_wanted;
    job.helpers_inside.fetch_add(1, std::memory_order_relaxed);
    lock.unlock();
    while (job.run_next()) {
    }
    lock.lock();
    job.helpers_inside.fetch_sub(1, std::memory_order_release);
    if (waiting_callers_ > 0) done_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* jobs_ = nullptr;
  std::atomic<std::uint64_t> posted_{0};
  int workers_ = 0;
  int sleeping_ = 0;
  int waiting_callers_ = 0;
};

// Never deleted: workers sleep in it until the process ends, later than any destructor would run.
std::atomic<Pool*> current_pool{nullptr};
std::atomic<bool> fork_handled{false};

// In a child of fork only the forking thread lives on, and the parent's pool, perhaps locked in mid-job, is a ruin.
void forget_pool() {
  current_pool.store(nullptr, std::memory_order_relaxed);
}

// No lock and no static guard here: a child forked in the middle of either would wait for it for ever.
Pool& pool() {
  Pool* existing = current_pool.load(std::memory_order_acquire);
  if (existing != nullptr) return *existing;
#if !defined(_WIN32)
  // Threads that come here together may register twice, which is harmless.
  if (!fork_handled.load(std::memory_order_acquire)) {
    pthread_atfork(nullptr, nullptr, forget_pool);
    fork_handled.store(true, std::memory_order_release);
  }
#endif
  Pool* made = new Pool;
  if (current_pool.compare_exchange_strong(existing, made, std::memory_order_acq_rel)) return *made;
  delete made;
  return *existing;
}

void run_in_place(long long count, Body body, KeepGoing keep_going, void* arg) {
  for (long long task = 0; task < count; ++task) {
    if (keep_going != nullptr && !keep_going(arg)) return;
    body(arg, task);
  }
}

#if !defined(_WIN32)
// While one of these lives, the calling thread takes no signals, and a thread that it starts never does.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};
#endif

}  // namespace

std::thread thread_without_signals(std::function<void()> work) {
#if !defined(_WIN32)
  const SignalsBlocked blocked;
#endif
  return std::thread(std::move(work));
}

void pool_run(int threads, long long count, Body body, KeepGoing keep_going, void* arg) {
  if (threads <= 1 || count <= 1 || inside_job) return run_in_place(count, body, keep_going, arg);
  const long long helpers = (threads < count ? threads : count) - 1;
  Job job(body, arg, count, static_cast<int>(helpers));
  Pool& shared = pool();
  inside_job = true;
  shared.run(job, keep_going);
  inside_job = false;
}

}  // namespace gramian::backend
