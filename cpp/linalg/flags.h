// How the tasks of one parallel_for tell each other what is finished.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>

namespace gramian::linalg {

// Waits for tiles that other threads finish; a failure anywhere releases everybody.
class TileFlags {
 public:
  explicit TileFlags(std::size_t count) : done_(std::make_unique<std::atomic<bool>[]>(count)) {
    for (std::size_t k = 0; k < count; ++k) done_[k].store(false, std::memory_order_relaxed);
  }
  void set(std::int64_t tile) { done_[static_cast<std::size_t>(tile)].store(true, std::memory_order_release); }
  bool is_set(std::int64_t tile) const { return done_[static_cast<std::size_t>(tile)].load(std::memory_order_acquire); }
  // False when the work has failed and the caller should leave.
  bool wait(std::int64_t tile) const {
    for (int spin = 0; !is_set(tile); ++spin) {
      if (failed_.load(std::memory_order_relaxed)) return false;
      if (spin > 200) std::this_thread::yield();
    }
    return true;
  }
  void fail() { failed_.store(true); }
  bool failed() const { return failed_.load(); }

 private:
  std::unique_ptr<std::atomic<bool>[]> done_;
  std::atomic<bool> failed_{false};
};

}  // namespace gramian::linalg
