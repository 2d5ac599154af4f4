#include "gramian/core/array.hpp"

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>

#include "backend/op_table.h"
#include "gramian/core/error.hpp"

namespace gramian {
namespace {

struct Counters {
  std::atomic<std::size_t> live{0}, peak{0}, largest{0}, count{0};
};
Counters counters;

void raise_to(std::atomic<std::size_t>& maximum, std::size_t value) {
  std::size_t seen = maximum.load(std::memory_order_relaxed);
  while (seen < value && !maximum.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

void count_allocation(std::size_t bytes) {
  const std::size_t live = counters.live.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  raise_to(counters.peak, live);
  raise_to(counters.largest, bytes);
  counters.count.fetch_add(1, std::memory_order_relaxed);
}

std::string readable(std::size_t bytes) {
  static const char* const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double amount = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (amount >= 1024 && unit + 1 < sizeof units / sizeof *units) {
    amount /= 1024;
    ++unit;
  }
  char text[48];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", amount, units[unit]);
  return text;
}

}  // namespace

Buffer::Buffer(const Exec& exec, std::size_t bytes) : exec_(exec), bytes_(bytes) {
  if (bytes == 0) return;
  const gramian_op_table& table = exec.table();
  // Beyond PTRDIFF_MAX no allocator may answer, and a size that wrapped around below zero lands here.
  const int status = bytes > static_cast<std::size_t>(PTRDIFF_MAX) ? GRAMIAN_STATUS_NO_MEMORY
                                                                   : table.alloc(exec.context(), bytes, &data_);
  if (status != 0) {
    data_ = nullptr;
    const std::string what = "cannot allocate " + readable(bytes) + " on " + name_of(exec.device());
    GRAMIAN_REQUIRE(status == GRAMIAN_STATUS_NO_MEMORY, backend, what + ": " + table.error_text());
    throw Error(ErrorCode::out_of_memory, what);
  }
  count_allocation(bytes);
}

Buffer::~Buffer() {
  release();
}

// The state of `other` is shared, not taken: a moved-from Buffer stays an empty one of the same device.
Buffer::Buffer(Buffer&& other) noexcept
    : exec_(other.exec_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  release();
  exec_ = other.exec_;
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

void Buffer::release() noexcept {
  if (data_ == nullptr) return;
  exec_.table().free(exec_.context(), data_);
  counters.live.fetch_sub(bytes_, std::memory_order_relaxed);
  data_ = nullptr;
  bytes_ = 0;
}

MemoryStats memory_stats() {
  MemoryStats stats;
  stats.live = counters.live.load(std::memory_order_relaxed);
  stats.peak = counters.peak.load(std::memory_order_relaxed);
  stats.largest = counters.largest.load(std::memory_order_relaxed);
  stats.count = counters.count.load(std::memory_order_relaxed);
  return stats;
}

void reset_memory_stats() {
  counters.peak.store(counters.live.load(std::memory_order_relaxed), std::memory_order_relaxed);
  counters.largest.store(0, std::memory_order_relaxed);
  counters.count.store(0, std::memory_order_relaxed);
}

}  // namespace gramian
