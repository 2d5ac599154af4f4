#include "linalg/abandon.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "backend/registry.h"
#include "gramian/core/error.hpp"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace gramian::linalg {
namespace {

constexpr std::chrono::milliseconds kAskAgain{20};

// Abandoned work that runs at a time. It takes processors and memory from what the user does next, so whoever
// interrupts call after call waits for the oldest of it in the end.
constexpr std::ptrdiff_t kMostAbandoned = 4;

struct Task {
  std::function<void()> work;
  std::thread thread;
  std::exception_ptr error;  // written before `ended` is set
  bool ended = false;        // guarded by the mutex of Tasks, as is `abandoned`
  bool abandoned = false;
};

// All work that runs or has not been joined yet. Who takes a task off the list joins its thread.
class Tasks {
 public:
  // Null where the system gives no thread.
  std::shared_ptr<Task> start(const std::function<void()>& work) {
    join(take([](const Task& task) { return task.ended && task.abandoned; }));
    const auto task = std::make_shared<Task>();
    task->work = work;
    std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push_back(task);
    try {
      task->thread = backend::thread_without_signals([this, task] { run(*task); });
    } catch (...) {
      tasks_.pop_back();
      return nullptr;
    }
    return task;
  }

  // Waits a little; whether the task has ended.
  bool wait(const Task& task) {
    std::unique_lock<std::mutex> lock(mutex_);
    return ended_.wait_for(lock, kAskAgain, [&task] { return task.ended; });
  }

  // Waits a little; whether another task may start.
  bool wait_for_room() {
    std::unique_lock<std::mutex> lock(mutex_);
    return ended_.wait_for(lock, kAskAgain, [this] {
      return std::count_if(tasks_.begin(), tasks_.end(), [](const std::shared_ptr<Task>& task) {
               return task->abandoned && !task->ended;
             }) < kMostAbandoned;
    });
  }

  void abandon(Task& task) {
    std::lock_guard<std::mutex> lock(mutex_);
    task.abandoned = true;
  }

  void join(const Task& task) {
    join(take([&task](const Task& other) { return &other == &task; }));
  }
  void join_all() {
    join(take([](const Task&) { return true; }));
  }

 private:
  using List = std::vector<std::shared_ptr<Task>>;

  void run(Task& task) noexcept {
    try {
      task.work();
    } catch (...) {
      task.error = std::current_exception();
    }
    task.work = nullptr;  // memory that nobody else holds is given back here
    std::lock_guard<std::mutex> lock(mutex_);
    task.ended = true;
    ended_.notify_all();
  }

  template <class Wanted>
  List take(const Wanted& wanted) {
    List taken;
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& task : tasks_)
      if (wanted(*task)) taken.push_back(task);
    tasks_.erase(
        std::remove_if(tasks_.begin(), tasks_.end(), [&](const std::shared_ptr<Task>& task) { return wanted(*task); }),
        tasks_.end());
    return taken;
  }

  static void join(const List& taken) {
    for (const auto& task : taken) task->thread.join();
  }

  std::mutex mutex_;
  std::condition_variable ended_;
  List tasks_;
};

// Never deleted: threads use it until they have been joined, which is in an exit handler at the latest.
std::atomic<Tasks*> current_tasks{nullptr};
std::atomic<bool> handlers_set{false};

// In a child of fork only the forking thread lives on: the parent's threads must not be joined, and their mutex may be
// locked for ever.
void forget_tasks() {
  current_tasks.store(nullptr, std::memory_order_relaxed);
}

void join_tasks() {
  if (Tasks* const tasks = current_tasks.load(std::memory_order_acquire)) tasks->join_all();
}

// No lock and no static guard here: a child forked in the middle of either would wait for it for ever.
Tasks& all_tasks() {
  Tasks* existing = current_tasks.load(std::memory_order_acquire);
  if (existing != nullptr) return *existing;
  // Threads that come here together may register twice, which is harmless. What was made before this is destroyed after
  // join_tasks has run, the tables and the libraries behind them included.
  if (!handlers_set.load(std::memory_order_acquire)) {
#if !defined(_WIN32)
    pthread_atfork(nullptr, nullptr, forget_tasks);
#endif
    std::atexit(join_tasks);
    handlers_set.store(true, std::memory_order_release);
  }
  Tasks* const made = new Tasks;
  if (current_tasks.compare_exchange_strong(existing, made, std::memory_order_acq_rel)) return *made;
  delete made;
  return *existing;
}

// A hook may do anything, fork too. The child then stands here with a thread that it does not have.
bool is_forked(const Tasks& tasks) {
  return current_tasks.load(std::memory_order_relaxed) != &tasks;
}

void ask(const Exec& exec, const Tasks& tasks) {
  exec.poll();
  GRAMIAN_REQUIRE(!is_forked(tasks), unsupported, "a process forked in the middle of a call cannot go on with it");
}

}  // namespace

void run_abandonable(const Exec& exec, std::function<void()> work) {
  if (!exec.can_be_cancelled()) return work();
  Tasks& tasks = all_tasks();
  while (!tasks.wait_for_room()) ask(exec, tasks);
  const std::shared_ptr<Task> task = tasks.start(work);
  if (task == nullptr) return work();
  work = nullptr;  // the thread's own copy is the last one, whoever ends first
  try {
    while (!tasks.wait(*task)) ask(exec, tasks);
  } catch (...) {
    if (!is_forked(tasks)) tasks.abandon(*task);
    throw;
  }
  tasks.join(*task);
  if (task->error) std::rethrow_exception(task->error);
}

}  // namespace gramian::linalg
