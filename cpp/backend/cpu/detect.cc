#include "backend/cpu/detect.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "backend/registry.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#define GRAMIAN_X86 1
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace gramian::backend {
namespace {

#if defined(GRAMIAN_X86)
struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zeros where the processor does not know the leaf.
Leaf cpuid(unsigned leaf) {
  Leaf out;
  if (!__get_cpuid_count(leaf, 0, &out.eax, &out.ebx, &out.ecx, &out.edx)) return Leaf();
  return out;
}

bool has(unsigned word, unsigned bits) {
  return (word & bits) == bits;
}

// Register states that the operating system saves when it switches threads: XCR0.
std::uint64_t saved_states() {
  if (!has(cpuid(1).ecx, bit_OSXSAVE)) return 0;
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

constexpr std::uint64_t kYmmStates = 0x06;  // SSE, AVX
constexpr std::uint64_t kZmmStates = 0xe6;  // and the mask registers, the upper halves, the upper sixteen

std::string avx2_obstacle() {
  const bool processor = has(cpuid(1).ecx, bit_AVX | bit_FMA | bit_F16C) && has(cpuid(7).ebx, bit_AVX2);
  if (!processor) return "the processor lacks AVX2, FMA or F16C";
  if ((saved_states() & kYmmStates) != kYmmStates) return "the operating system does not save 256-bit registers";
  return "";
}

std::string avx512_obstacle() {
  if (!has(cpuid(7).ebx, bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL)) {
    return "the processor lacks AVX-512 F, DQ, BW or VL";
  }
  if ((saved_states() & kZmmStates) != kZmmStates) return "the operating system does not save 512-bit registers";
  return avx2_obstacle();
}
#endif

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// quota / period in processors; 0 when there is no limit ("max" or -1) or no such file.
double quota_of(const std::string& quota, const std::string& period) {
  char* end = nullptr;
  const double amount = std::strtod(quota.c_str(), &end);
  if (end == quota.c_str() || !(amount > 0)) return 0;
  const double length = std::strtod(period.c_str(), nullptr);
  return length > 0 ? amount / length : 0;
}

double group_quota_v2(const std::string& folder) {
  std::istringstream words(read_line(folder + "/cpu.max"));
  std::string quota, period;
  words >> quota >> period;
  return quota_of(quota, period);
}

double group_quota_v1(const std::string& folder) {
  return quota_of(read_line(folder + "/cpu.cfs_quota_us"), read_line(folder + "/cpu.cfs_period_us"));
}

// The smallest quota of a group and of those above it. In a container the path may be one of the host's that does not
// exist here; the walk then still ends at the mount point, which is the container's own group.
double smallest_quota(const std::string& mount, std::string group, double (*quota_of_group)(const std::string&)) {
  double smallest = 0;
  for (;;) {
    const double quota = quota_of_group(mount + group);
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
    const std::size_t slash = group.rfind('/');
    if (group.empty() || slash == std::string::npos) return smallest;
    group.erase(slash);
  }
}

bool names_cpu(const std::string& controllers) {
  std::istringstream list(controllers);
  for (std::string name; std::getline(list, name, ',');) {
    if (name == "cpu") return true;
  }
  return false;
}

int processors_by_affinity() {
#if defined(__linux__)
  // A fixed cpu_set_t holds 1024 processors; larger machines answer EINVAL until the set is large enough.
  for (int processors = CPU_SETSIZE; processors <= 1 << 20; processors *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(processors));
    if (set == nullptr) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(processors));
    const int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::base:
      return "base";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::neon:
      return "neon";
  }
  return "unknown";
}

std::string isa_obstacle(Isa isa) {
  switch (isa) {
    case Isa::base:
      return "";
#if defined(GRAMIAN_X86)
    case Isa::avx2:
      return avx2_obstacle();
    case Isa::avx512:
      return avx512_obstacle();
#elif defined(__aarch64__)
    case Isa::neon:
      return "";  // part of the architecture
#endif
    default:
      return "made for another processor architecture";
  }
}

double cgroup_cpu_quota(const std::string& root) {
  double smallest = 0;
  std::ifstream groups(root + "/proc/self/cgroup");
  // Lines are id:controllers:path; v2 has id 0 and no controllers.
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    double quota = 0;
    if (controllers.empty()) {
      quota = smallest_quota(root + "/sys/fs/cgroup", group, group_quota_v2);
    } else if (names_cpu(controllers)) {
      quota = smallest_quota(root + "/sys/fs/cgroup/cpu", group, group_quota_v1);
    }
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
  }
  return smallest;
}

int available_processors() {
  // The affinity mask may change while the process runs; a quota is read once, since it takes several files.
  static const double quota = cgroup_cpu_quota("");
  const int processors = processors_by_affinity();
  if (quota <= 0 || quota >= processors) return processors;
  return std::max(1, static_cast<int>(std::ceil(quota)));
}

}  // namespace gramian::backend
