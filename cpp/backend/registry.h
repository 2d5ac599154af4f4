// Which op table serves which device. The CPU table is chosen once per process; the CUDA module is opened on first use.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backend/op_table.h"

namespace gramian::backend {

// The table the library computes with on the CPU: the best instruction set this machine and GRAMIAN_FORCE_ISA allow,
// its dense entries taken over by the BLAS provider (GRAMIAN_BLAS_PROVIDER=openblas|eigen).
// Throws gramian::Error{unsupported} for a forced name that is unknown or cannot run here.
const gramian_op_table& cpu_table();

// The table of the CUDA module. Throws gramian::Error{unsupported or backend} saying why there is none.
const gramian_op_table& cuda_table();

// Instruction set and BLAS provider behind cpu_table(), for build_info().
std::string cpu_isa();
std::string compiled_isas();
std::string blas_provider();
std::string blas_core();
std::string blas_version();
// A file of the CUDA module exists where the library looks for it.
bool cuda_module_present();

// For the conformance list: every table that can run on this machine, each instruction set with the Eigen provider,
// "openblas" over the best of them, "cuda"; and those that cannot run, with the reason.
std::vector<const gramian_op_table*> all_tables();
std::vector<std::pair<std::string, std::string>> unavailable_tables();

// Runs body(arg, 0) .. body(arg, count - 1) on up to `threads` threads, the caller's included. Tasks are handed out
// in order. keep_going(arg) is asked by the calling thread between its tasks, and some fifty times a second while it
// waits for those of the others; false stops the handing-out. Neither must throw. Survives fork: a child makes its own
// threads. Calls from inside a body run in place.
void pool_run(int threads, long long count, void (*body)(void* arg, long long task), bool (*keep_going)(void* arg),
              void* arg);
// A thread that takes no signals: these belong to the program's own threads. Throws where the system gives none.
std::thread thread_without_signals(std::function<void()> work);
// Processors this process may use: affinity mask and cgroup v1/v2 quota.
int available_processors();

}  // namespace gramian::backend
