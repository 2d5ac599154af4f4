#include "gramian/core/exec.hpp"

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "backend/registry.h"
#include "gramian/core/error.hpp"

namespace gramian {
namespace {

std::atomic<int> chosen_threads{0};

// Where a body runs on a thread that its parallel_for borrowed: whether that loop has failed or been cancelled. Hooks
// are asked on their callers' threads only.
thread_local const std::atomic<bool>* borrowers_failure = nullptr;

using Clock = std::chrono::steady_clock;

struct CancelHook {
  std::function<bool()> raised;
  std::chrono::duration<double> pause;
};

// When a hook with a pause was last asked in this thread.
thread_local Clock::time_point last_asked;

bool is_raised(const CancelHook& hook, bool now) {
  if (hook.pause.count() > 0) {
    const Clock::time_point time = Clock::now();
    if (!now && time - last_asked < hook.pause) return false;
    last_asked = time;
  }
  return hook.raised();
}

// The number a text begins with, or 0 if that is not one in [1, INT_MAX]. `list`: a comma may follow it.
int leading_count(const char* text, bool list) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  while (*end == ' ') ++end;
  const bool ends = *end == '\0' || (list && *end == ',');
  return end != text && ends && value >= 1 && value <= INT_MAX ? static_cast<int>(value) : 0;
}

const char* variable(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? text : nullptr;
}

// 0 when the environment says nothing.
int threads_of_environment() {
  if (const char* text = variable("GRAMIAN_NUM_THREADS")) {
    const int threads = leading_count(text, false);
    GRAMIAN_REQUIRE(threads >= 1, invalid_argument,
                    "GRAMIAN_NUM_THREADS is \"" + std::string(text) + "\"; it must be a number from 1");
    return threads;
  }
  // A variable of others: what it means to them is none of our business, so nonsense is passed over.
  const char* text = variable("OMP_NUM_THREADS");
  return text != nullptr ? leading_count(text, true) : 0;
}

const gramian_op_table& table_of(Device device) {
  return device == Device::cpu ? backend::cpu_table() : backend::cuda_table();
}

void check_threads(int threads) {
  GRAMIAN_REQUIRE(threads >= 0, invalid_argument,
                  "the number of threads is " + std::to_string(threads) + "; it must be 0 (default) or more");
}

}  // namespace

const char* name_of(Device device) {
  return device == Device::cpu ? "cpu" : "cuda";
}

DeviceName parse_device(const std::string& text) {
  if (text == "cpu") return {Device::cpu, 0};
  if (text == "cuda") return {Device::cuda, 0};
  const std::string prefix = "cuda:";
  const bool numbered = text.compare(0, prefix.size(), prefix) == 0 && text.size() > prefix.size() &&
                        text.size() <= prefix.size() + 4 &&
                        text.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
  GRAMIAN_REQUIRE(numbered, invalid_argument, "unknown device \"" + text + "\"; it is \"cpu\", \"cuda\" or \"cuda:N\"");
  return {Device::cuda, std::atoi(text.c_str() + prefix.size())};
}

namespace {

// An opened device. Every Exec made from another one shares it.
struct OpenDevice {
  OpenDevice(Device device_, int index) : table(table_of(device_)), device(device_), device_index(index) {
    GRAMIAN_REQUIRE(device_ != Device::cpu || index == 0, invalid_argument,
                    "device \"cpu\" has no number " + std::to_string(index));
    const int status = table.open(index, &context.device_state);
    GRAMIAN_REQUIRE(status != GRAMIAN_STATUS_NO_MEMORY, out_of_memory,
                    std::string("opening ") + name_of(device_) + ": " + table.error_text());
    GRAMIAN_REQUIRE(status == 0, backend, table.error_text());
  }
  ~OpenDevice() { table.close(context.device_state); }
  OpenDevice(const OpenDevice&) = delete;
  OpenDevice& operator=(const OpenDevice&) = delete;

  const gramian_op_table& table;
  gramian_context context{nullptr};
  const Device device;
  const int device_index;
};

}  // namespace

struct Exec::State {
  State(std::shared_ptr<OpenDevice> opened_, int threads_) : opened(std::move(opened_)) {
    check_threads(threads_);
    threads.store(threads_, std::memory_order_relaxed);
  }

  // Copied out before it is called, so that the hook may be changed meanwhile, even by itself.
  std::shared_ptr<const CancelHook> current_hook() {
    if (!has_hook.load(std::memory_order_acquire)) return nullptr;
    std::lock_guard<std::mutex> lock(hook_mutex);
    return hook;
  }

  const std::shared_ptr<OpenDevice> opened;
  std::atomic<int> threads{0};
  std::atomic<bool> has_hook{false};
  std::mutex hook_mutex;
  std::shared_ptr<const CancelHook> hook;
};

Exec::Exec(Device device, int threads, int device_index)
    : state_(std::make_shared<State>(std::make_shared<OpenDevice>(device, device_index), threads)) {}

Exec Exec::uninterrupted() const {
  if (!state_->has_hook.load(std::memory_order_acquire)) return *this;
  Exec copy = *this;
  copy.state_ = std::make_shared<State>(state_->opened, state_->threads.load(std::memory_order_relaxed));
  return copy;
}

Exec Exec::on_host() const {
  if (device() == Device::cpu) return *this;
  // Not threads(), which is 1 on a device that works on whole operations.
  Exec host(Device::cpu, state_->threads.load(std::memory_order_relaxed));
  if (const auto hook = state_->current_hook()) host.set_cancel_hook(hook->raised, hook->pause.count());
  return host;
}

Device Exec::device() const {
  return state_->opened->device;
}
int Exec::device_index() const {
  return state_->opened->device_index;
}
const gramian_op_table& Exec::table() const {
  return state_->opened->table;
}
gramian_context* Exec::context() const {
  return &state_->opened->context;
}

int Exec::threads() const {
  if (state_->opened->table.tile == 0) return 1;
  const int threads = state_->threads.load(std::memory_order_relaxed);
  return threads > 0 ? threads : default_threads();
}

void Exec::set_threads(int threads) {
  check_threads(threads);
  state_->threads.store(threads, std::memory_order_relaxed);
}

void Exec::set_cancel_hook(std::function<bool()> hook, double seconds) {
  GRAMIAN_REQUIRE(seconds >= 0, invalid_argument, "the seconds between two calls of a hook must not be negative");
  std::shared_ptr<const CancelHook> shared;
  if (hook)
    shared = std::make_shared<const CancelHook>(CancelHook{std::move(hook), std::chrono::duration<double>(seconds)});
  const bool set = shared != nullptr;
  {
    std::lock_guard<std::mutex> lock(state_->hook_mutex);
    state_->hook.swap(shared);
  }
  state_->has_hook.store(set, std::memory_order_release);
  // The old hook ends here, outside the lock: its captures may run code of their own.
}

void Exec::poll() const {
  ask(false);
}

void Exec::poll_now() const {
  ask(true);
}

void Exec::ask(bool now) const {
  if (!can_be_cancelled()) return;
  if (borrowers_failure != nullptr) {
    // Whatever ended the loop is what its caller sees; this only ends the task.
    if (borrowers_failure->load(std::memory_order_relaxed)) throw Error(ErrorCode::cancelled, "cancelled");
    return;
  }
  const auto hook = state_->current_hook();
  if (hook != nullptr && is_raised(*hook, now)) throw Error(ErrorCode::cancelled, "cancelled");
}

bool Exec::can_be_cancelled() const {
  return state_->has_hook.load(std::memory_order_acquire);
}

namespace {

// One parallel_for: the first exception of any thread ends it.
struct Run {
  Run(const Exec& exec_, const std::function<void(std::int64_t)>& body_) : exec(exec_), body(body_) {}

  const Exec& exec;
  const std::function<void(std::int64_t)>& body;
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<bool> failed{false};
  std::exception_ptr error;  // written by the one thread that set `failed`, read after all have ended

  void keep_current_exception() noexcept {
    if (!failed.exchange(true, std::memory_order_relaxed)) error = std::current_exception();
  }
};

// Tasks handed out after a failure still run: another task may wait for them. The calling thread ends the handing-out.
void run_task(void* arg, long long task) {
  Run& run = *static_cast<Run*>(arg);
  const std::atomic<bool>* const failure_before = borrowers_failure;
  if (failure_before == nullptr && std::this_thread::get_id() != run.caller) borrowers_failure = &run.failed;
  try {
    run.body(task);
  } catch (...) {
    run.keep_current_exception();
  }
  borrowers_failure = failure_before;
}

bool keep_going(void* arg) {
  Run& run = *static_cast<Run*>(arg);
  if (run.failed.load(std::memory_order_relaxed)) return false;
  try {
    run.exec.poll();
  } catch (...) {
    run.keep_current_exception();
    return false;
  }
  return true;
}

}  // namespace

void Exec::parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& body) const {
  if (count <= 0) return;
  const int width = count == 1 ? 1 : threads();
  if (width == 1) {
    for (std::int64_t task = 0; task < count; ++task) {
      poll();
      body(task);
    }
    return;
  }
  Run run(*this, body);
  backend::pool_run(width, count, run_task, keep_going, &run);
  if (run.error) std::rethrow_exception(run.error);
}

int default_threads() {
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  if (chosen > 0) return chosen;
  // Read once: reading the environment while another thread of the program writes it is not safe.
  static const int environment = threads_of_environment();
  return environment > 0 ? environment : backend::available_processors();
}

void set_default_threads(int threads) {
  check_threads(threads);
  chosen_threads.store(threads, std::memory_order_relaxed);
}

bool device_available(Device device, std::string* reason) {
  try {
    table_of(device);
    return true;
  } catch (const Error& error) {
    if (reason != nullptr) *reason = error.what();
    return false;
  }
}

}  // namespace gramian
