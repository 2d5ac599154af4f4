/* Speed of the entries of a table, beside what the machine itself reaches in the same run. */
#ifndef GRAMIAN_CONFORMANCE_BENCH_H
#define GRAMIAN_CONFORMANCE_BENCH_H

#include <string>
#include <vector>

#include "case.h"

namespace conformance {

/* Benches every table (op_name empty: every op), prints one line per size, writes json_path unless empty.
 * Returns the number of failures: a call that failed, an op that computes without a size, a file not written. */
int run_bench(const std::vector<const Table*>& tables, const std::string& op_name, const std::string& json_path);

}  // namespace conformance

#endif
