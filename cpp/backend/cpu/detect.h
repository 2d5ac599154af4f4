// What this machine can run and how much of it this process may use. Compiled for the ABI floor, since it decides
// whether anything above the floor may run.
#pragma once

#include <string>

namespace gramian::backend {

enum class Isa { base, avx2, avx512, neon };

const char* isa_name(Isa isa);
// "" if code of this level runs here, else what is missing: the processor's part or the operating system's.
std::string isa_obstacle(Isa isa);

// Processors granted by the CPU quota of this process's cgroup and of all groups above it, v1 or v2; 0 without a quota.
// `root` stands before /proc and /sys ("" for this machine).
double cgroup_cpu_quota(const std::string& root);

}  // namespace gramian::backend
