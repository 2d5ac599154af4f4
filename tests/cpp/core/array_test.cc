#include "gramian/core/array.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>

#include "gramian/core/error.hpp"

namespace {

using gramian::Array;
using gramian::Buffer;
using gramian::Exec;

TEST(Buffer, CountsWhatItHolds) {
  const Exec exec;
  const std::size_t before = gramian::memory_stats().live;
  gramian::reset_memory_stats();
  EXPECT_EQ(gramian::memory_stats().peak, before);
  {
    const Buffer small(exec, 100);
    {
      const Buffer large(exec, 1000);
      std::memset(large.data(), 7, large.bytes());
    }
    const gramian::MemoryStats stats = gramian::memory_stats();
    EXPECT_EQ(stats.live, before + 100);
    EXPECT_EQ(stats.peak, before + 1100);
    EXPECT_EQ(stats.largest, 1000u);
    EXPECT_EQ(stats.count, 2u);
  }
  EXPECT_EQ(gramian::memory_stats().live, before);
}

TEST(Buffer, IsAligned) {
  const Exec exec;
  for (const std::size_t bytes : {1, 63, 65, 4097}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(Buffer(exec, bytes).data()) % 64, 0u);
  }
}

TEST(Buffer, ZeroBytesAreNoAllocation) {
  const Exec exec;
  gramian::reset_memory_stats();
  EXPECT_EQ(Buffer(exec, 0).data(), nullptr);
  EXPECT_EQ(Buffer().data(), nullptr);
  EXPECT_EQ(gramian::memory_stats().count, 0u);
}

TEST(Buffer, Moves) {
  const Exec exec;
  const std::size_t before = gramian::memory_stats().live;
  {
    Buffer first(exec, 10);
    void* const data = first.data();
    Buffer second(std::move(first));
    EXPECT_EQ(second.data(), data);
    EXPECT_EQ(first.data(), nullptr);
    EXPECT_EQ(first.bytes(), 0u);
    Buffer third(exec, 20);
    third = std::move(second);
    EXPECT_EQ(third.data(), data);
    EXPECT_EQ(gramian::memory_stats().live, before + 10);
    Buffer& same = third;
    third = std::move(same);
    EXPECT_EQ(third.data(), data);
    second = Buffer(exec, 30);
    EXPECT_EQ(second.bytes(), 30u);
  }
  EXPECT_EQ(gramian::memory_stats().live, before);
}

std::string failure(std::size_t bytes) {
  const Exec exec;
  const gramian::MemoryStats before = gramian::memory_stats();
  try {
    const Buffer buffer(exec, bytes);
  } catch (const gramian::Error& error) {
    EXPECT_EQ(error.code(), gramian::ErrorCode::out_of_memory);
    EXPECT_EQ(gramian::memory_stats().live, before.live);
    EXPECT_EQ(gramian::memory_stats().count, before.count);
    return error.what();
  }
  return "";
}

TEST(Buffer, SaysWhatCouldNotBeAllocated) {
#if !defined(__SANITIZE_ADDRESS__)  // it ends the process at such a request
  EXPECT_EQ(failure(std::size_t{3} << 61), "cannot allocate 6.0 EiB on cpu");
#endif
  EXPECT_EQ(failure(static_cast<std::size_t>(-8)), "cannot allocate 16.0 EiB on cpu");
}

TEST(Array, HasAShape) {
  const Exec exec;
  Array<float> array(exec, 3, 5);
  EXPECT_EQ(array.size(), 15);
  const gramian::MatrixView<float> view = array.view();
  EXPECT_EQ(view.rows, 3);
  EXPECT_EQ(view.stride, 5);
  view(2, 4) = 1.5f;
  EXPECT_EQ(array.data()[14], 1.5f);
  const Array<float> moved = std::move(array);
  EXPECT_EQ(moved.data()[14], 1.5f);
  EXPECT_EQ(Array<double>(exec, 7).rows(), 1);
}

}  // namespace
