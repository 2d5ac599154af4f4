// Work space of parallel tasks: as many buffers as tasks run at once, whoever runs them.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "gramian/core/array.hpp"

namespace gramian::linalg {

template <class T>
class ScratchPool {
 public:
  ScratchPool(const Exec& exec, std::int64_t size) : exec_(exec), size_(size) {}

  class Lease {
   public:
    Lease(ScratchPool& pool, Array<T> array) : pool_(pool), array_(std::move(array)) {}
    ~Lease() { pool_.give_back(std::move(array_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    T* data() const { return array_.data(); }

   private:
    ScratchPool& pool_;
    Array<T> array_;
  };

  Lease lease() { return Lease(*this, take()); }
  // Makes at least `count` buffers now, so that as many leases at a time cannot fail later.
  void reserve(std::int64_t count) {
    std::lock_guard<std::mutex> lock(mutex_);
    idle_.reserve(static_cast<std::size_t>(count));
    while (static_cast<std::int64_t>(idle_.size()) < count) idle_.push_back(Array<T>(exec_, size_));
  }

 private:
  Array<T> take() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!idle_.empty()) {
        Array<T> array = std::move(idle_.back());
        idle_.pop_back();
        return array;
      }
      idle_.reserve(idle_.capacity() + 1);  // so that give_back cannot throw
    }
    return Array<T>(exec_, size_);
  }
  void give_back(Array<T> array) noexcept {
    std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(array));
  }

  const Exec& exec_;
  std::int64_t size_;
  std::mutex mutex_;
  std::vector<Array<T>> idle_;
};

}  // namespace gramian::linalg
