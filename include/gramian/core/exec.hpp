// Where and how work runs: device, threads, cancellation. Cheap to copy; copies share one state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "gramian/core/export.hpp"

struct gramian_op_table;
struct gramian_context;

namespace gramian {

enum class Device { cpu, cuda };

GRAMIAN_EXPORT const char* name_of(Device device);
// "cpu", "cuda", "cuda:1"; throws invalid_argument for anything else.
struct DeviceName {
  Device device = Device::cpu;
  int index = 0;
};
GRAMIAN_EXPORT DeviceName parse_device(const std::string& text);

class GRAMIAN_EXPORT Exec {
 public:
  // threads = 0: the count of default_threads() at each use. Opening a device that is not there throws
  // Error{backend} or Error{unsupported} saying why; nothing falls back to another device.
  explicit Exec(Device device = Device::cpu, int threads = 0, int device_index = 0);

  Device device() const;
  int device_index() const;
  // Threads that parallel_for may use, the calling one included; 1 where the device works on whole operations.
  int threads() const;
  void set_threads(int threads);

  // The hook is called between pieces of work on the calling thread; returning true cancels. A hook that is not cheap
  // may ask for `seconds` between two calls of poll that reach such hooks in one thread.
  void set_cancel_hook(std::function<bool()> hook, double seconds = 0);
  // Throws Error{cancelled} when the hook says so. A task on a thread that parallel_for borrowed does not ask the hook:
  // there it throws once the loop has been cancelled or has failed.
  void poll() const;
  // The last poll before work that must not stop half way: it asks the hook however lately poll did, since what comes
  // after can only be answered when the work is done.
  void poll_now() const;
  // Whether there is a hook, so that poll may throw.
  bool can_be_cancelled() const;
  // The same device and threads without the hook: for work that must not stop half way.
  Exec uninterrupted() const;
  // An Exec for host memory with this one's choice of threads and its hook: for what is prepared on the host before a
  // device receives it. On the CPU it is this one.
  Exec on_host() const;

  // Runs body(0) .. body(count - 1). Tasks are handed out in order, so a task may wait for a lower one. The first
  // exception (a cancellation too) stops the handing-out and is rethrown here after the running tasks have ended; the
  // hook is asked between the calling thread's tasks and while it waits for those of the others.
  // Which thread runs a task must not matter to its result.
  void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& body) const;

  // For linalg only: the operations of this device.
  const gramian_op_table& table() const;
  gramian_context* context() const;

 private:
  void ask(bool now) const;

  struct State;
  std::shared_ptr<State> state_;
};

// Threads when nobody says otherwise: set_default_threads, else GRAMIAN_NUM_THREADS, else OMP_NUM_THREADS, else the
// processors this process may use (affinity and cgroup quota).
GRAMIAN_EXPORT int default_threads();
// 0 returns to the environment's answer.
GRAMIAN_EXPORT void set_default_threads(int threads);

// Does a device of this kind answer? On no, `reason` (if not null) receives why.
GRAMIAN_EXPORT bool device_available(Device device, std::string* reason = nullptr);

}  // namespace gramian
