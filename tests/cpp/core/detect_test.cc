// What the machine offers, and the choice of tables by the environment.
#include "backend/cpu/detect.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "backend/registry.h"
#include "gramian/core/error.hpp"
#include "gramian/version.hpp"

namespace {

namespace backend = gramian::backend;
using backend::Isa;

TEST(Detect, AgreesWithTheCompiler) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  EXPECT_EQ(backend::isa_obstacle(Isa::avx2).empty(), avx2);
  EXPECT_EQ(backend::isa_obstacle(Isa::avx512).empty(), avx512);
  EXPECT_FALSE(backend::isa_obstacle(Isa::neon).empty());
#elif defined(__aarch64__)
  EXPECT_EQ(backend::isa_obstacle(Isa::neon), "");
  EXPECT_FALSE(backend::isa_obstacle(Isa::avx2).empty());
#endif
  EXPECT_EQ(backend::isa_obstacle(Isa::base), "");
}

// A made-up /proc and /sys.
class Cgroup : public testing::Test {
 protected:
  Cgroup() {
    std::string pattern = (std::filesystem::temp_directory_path() / "gramian_cgroup_XXXXXX").string();
    root_ = mkdtemp(pattern.data());
  }
  ~Cgroup() override { std::filesystem::remove_all(root_); }

  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  double quota() const { return backend::cgroup_cpu_quota(root_); }

  std::string root_;
};

TEST_F(Cgroup, NoneMeansNoQuota) {
  EXPECT_EQ(quota(), 0);
  put("/proc/self/cgroup", "0::/\n");
  EXPECT_EQ(quota(), 0);
  put("/sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), 0);
  put("/proc/self/cgroup", "nonsense\n:\n");
  EXPECT_EQ(quota(), 0);
}

TEST_F(Cgroup, VersionTwo) {
  put("/proc/self/cgroup", "0::/a/b\n");
  put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), 0);
  put("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(quota(), 1.5);
  put("/sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
  EXPECT_EQ(quota(), 1.5);  // the tighter of the two, which is above
}

TEST_F(Cgroup, VersionTwoInAContainer) {
  put("/proc/self/cgroup", "0::/host/path/not/seen/here\n");
  put("/sys/fs/cgroup/cpu.max", "300000 100000\n");
  EXPECT_EQ(quota(), 3);
}

TEST_F(Cgroup, VersionOne) {
  put("/proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/job\n0::/\n");
  put("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n");
  put("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 0);
  put("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(quota(), 2.5);
}

TEST(Processors, AtLeastOneAtMostAll) {
  EXPECT_GE(backend::available_processors(), 1);
  EXPECT_LE(static_cast<unsigned>(backend::available_processors()), std::thread::hardware_concurrency());
}

TEST(Registry, TablesAreComplete) {
  const auto tables = backend::all_tables();
  ASSERT_FALSE(tables.empty());
  for (const gramian_op_table* table : tables) {
    SCOPED_TRACE(table->name);
    EXPECT_EQ(table->api_version, static_cast<uint32_t>(GRAMIAN_OP_API_VERSION));
    EXPECT_EQ(table->struct_size, sizeof(gramian_op_table));
    // Every entry from `open` on is a function pointer, and none may be missing.
    const char* entry = reinterpret_cast<const char*>(&table->open);
    for (; entry < reinterpret_cast<const char*>(table + 1); entry += sizeof(void*)) {
      EXPECT_NE(*reinterpret_cast<void* const*>(entry), nullptr) << entry - reinterpret_cast<const char*>(table);
    }
  }
  EXPECT_EQ(&backend::cpu_table(), &backend::cpu_table());
}

TEST(Registry, EveryTableIsThereOrExcused) {
  std::string names;
  for (const gramian_op_table* table : backend::all_tables()) names += std::string(table->name) + " ";
  for (const auto& absent : backend::unavailable_tables()) {
    EXPECT_NE(absent.second, "") << absent.first;
    names += absent.first + " ";
  }
  for (const char* name : {"base", "avx2", "avx512", "neon", "openblas", "cuda"}) {
    const std::size_t at = (" " + names).find(std::string(" ") + name + " ");
    EXPECT_NE(at, std::string::npos) << name << " in " << names;
  }
}

TEST(BuildInfo, IsFilled) {
  const gramian::BuildInfo info = gramian::build_info();
  EXPECT_EQ(info.version, gramian::version());
  EXPECT_NE(info.version, "");
  EXPECT_NE(info.compiler, "");
  EXPECT_NE(info.compiled_isas.find(info.kernel_isa), std::string::npos);
  EXPECT_EQ(info.blas_provider == "openblas", info.blas_core != "");
  EXPECT_EQ(info.blas_provider == "openblas", info.blas_version != "");
  EXPECT_GE(info.threads, 1);
}

// The environment is read once per process, so each choice is tried in a process of its own, which prints the answer.
class Choice : public testing::Test {
 protected:
  Choice() { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

template <class Answer>
[[noreturn]] void answer_with(const char* name, const char* value, Answer answer) {
  setenv(name, value, 1);
  try {
    std::fprintf(stderr, "<%s>\n", answer().c_str());
  } catch (const gramian::Error& error) {
    std::fprintf(stderr, "error %d: %s\n", static_cast<int>(error.code()), error.what());
  }
  std::exit(0);
}

const std::string kUnsupported = "error " + std::to_string(static_cast<int>(gramian::ErrorCode::unsupported));

TEST_F(Choice, ForcedIsaIsTaken) {
  const std::string compiled = ", " + backend::compiled_isas() + ",";
  for (const Isa isa : {Isa::base, Isa::avx2, Isa::avx512, Isa::neon}) {
    const std::string name = backend::isa_name(isa);
    if (compiled.find(", " + name + ",") == std::string::npos || !backend::isa_obstacle(isa).empty()) continue;
    EXPECT_EXIT(answer_with("GRAMIAN_FORCE_ISA", name.c_str(), backend::cpu_isa), testing::ExitedWithCode(0),
                "<" + name + ">");
  }
}

TEST_F(Choice, UnknownIsaIsRefused) {
  EXPECT_EXIT(answer_with("GRAMIAN_FORCE_ISA", "mmx", backend::cpu_isa), testing::ExitedWithCode(0),
              kUnsupported + ": GRAMIAN_FORCE_ISA=mmx: unknown; possible here: ");
}

TEST_F(Choice, IsaOfAnotherMachineIsRefused) {
#if defined(__aarch64__)
  const char* const foreign = "avx2";
#else
  const char* const foreign = "neon";
#endif
  EXPECT_EXIT(answer_with("GRAMIAN_FORCE_ISA", foreign, backend::cpu_isa), testing::ExitedWithCode(0),
              kUnsupported + ".*another processor architecture; possible here: ");
}

TEST_F(Choice, BlasProvider) {
  EXPECT_EXIT(answer_with("GRAMIAN_BLAS_PROVIDER", "eigen", backend::blas_provider), testing::ExitedWithCode(0),
              "<eigen>");
  EXPECT_EXIT(answer_with("GRAMIAN_BLAS_PROVIDER", "mkl", backend::blas_provider), testing::ExitedWithCode(0),
              kUnsupported + ": GRAMIAN_BLAS_PROVIDER=mkl: unknown; possible here: ");
}

TEST_F(Choice, CudaModuleThatIsNone) {
  EXPECT_EXIT(answer_with("GRAMIAN_CUDA_MODULE", "/nonexistent/module.so",
                          [] { return std::string(backend::cuda_table().name); }),
              testing::ExitedWithCode(0), "error");
}

}  // namespace
