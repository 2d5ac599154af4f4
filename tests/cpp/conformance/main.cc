/* gramian_conformance: one list of op cases over every op table that can run on this machine.
 * Exit codes: 0 passed, 1 failed, 2 wrong usage, 77 the table that was asked for cannot run here. */
#include <chrono>
#include <cstdlib>

#include "backend/registry.h"
#include "bench.h"
#include "case.h"
#include "faults.h"
#include "gaps.h"
#include "starve.h"

namespace conformance {

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kSkipped = 77;

struct Arguments {
  std::string mode, table, op, json;
};

int usage() {
  std::fprintf(stderr,
               "usage: gramian_conformance check  [--table NAME] [--op NAME]\n"
               "       gramian_conformance bench  [--table NAME] [--op NAME] [--json FILE]\n"
               "       gramian_conformance faults [--table NAME] [--op NAME]   every wrong entry must be caught\n"
               "       gramian_conformance gaps   [--table NAME] [--op NAME]   nor may anything be left out\n"
               "       gramian_conformance starve [--table NAME] [--op NAME]   memory that runs out is said so\n");
  return kUsage;
}

/* --- check --------------------------------------------------------------------------------------------------- */

void print_matrix(const std::vector<const Table*>& tables, const std::vector<std::vector<Tally>>& rows,
                  const std::vector<Op>& ops) {
  std::printf("\n%-18s", "cases passed");
  for (const Table* table : tables) std::printf("%12s", table->name);
  std::printf("\n");
  for (size_t k = 0; k < ops.size(); ++k) {
    std::printf("%-18s", ops[k].name);
    for (const std::vector<Tally>& row : rows) {
      const std::string cell = row[k].failed == 0 ? text("%lld", static_cast<long long>(row[k].passed))
                                                  : text("%lld (-%lld)", static_cast<long long>(row[k].passed),
                                                         static_cast<long long>(row[k].failed));
      std::printf("%12s", cell.c_str());
    }
    std::printf("\n");
  }
}

int check(const std::vector<const Table*>& tables, const std::vector<Op>& ops, size_t skipped) {
  std::vector<std::vector<Tally>> rows;
  Tally total;
  for (const Table* table : tables) {
    Harness harness(*table, OnFailure::print);
    rows.push_back(check_table(harness, ops, &total));
  }
  print_matrix(tables, rows, ops);
  std::printf("\n%lld passed, %lld failed, %zu skipped\n", static_cast<long long>(total.passed),
              static_cast<long long>(total.failed), skipped);
  return passes(total) ? 0 : kFailed;
}

/* --- faults -------------------------------------------------------------------------------------------------- */

bool caught(const Table& table, const Fault& fault) {
  Table wrong = table;
  fault.install(wrong);
  try {
    Harness harness(wrong, OnFailure::stop);
    harness.run_op(*find_op(fault.op));
  } catch (const RunStopped&) {
    return true;
  }
  return false;
}

/* Each wrong variant runs the cases of its op until the first that fails. */
int faults(const std::vector<const Table*>& tables, const std::vector<Op>& ops) {
  int total = 0, found = 0, missing = 0;
  const auto began = std::chrono::steady_clock::now();
  for (const Table* table : tables) {
    set_true_table(*table);
    for (const Op& op : ops) {
      int variants = 0;
      for (const Fault& fault : all_faults()) {
        if (std::string(fault.op) != op.name) continue;
        if (fault.device_only && table->memory != GRAMIAN_DEVICE_MEMORY) continue;
        ++variants;
        ++total;
        if (caught(*table, fault)) {
          ++found;
        } else {
          std::printf("NOT CAUGHT %s %s: %s\n", table->name, fault.op, fault.what);
        }
      }
      if (variants == 0) {
        ++missing;
        std::printf("FAILED %s: no wrong variant of the entry\n", op.name);
      }
    }
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
  std::printf("faults: caught %d of %d in %.1f s\n", found, total, taken.count());
  return found == total && total > 0 && missing == 0 ? 0 : kFailed;
}

/* --- selection ----------------------------------------------------------------------------------------------- */

bool parse(int count, char** words, Arguments* out) {
  if (count < 2) return false;
  out->mode = words[1];
  for (int t = 2; t < count; t += 2) {
    const std::string flag = words[t];
    if (t + 1 == count) return false;
    std::string* value = flag == "--table"                          ? &out->table
                         : flag == "--op"                           ? &out->op
                         : flag == "--json" && out->mode == "bench" ? &out->json
                                                                    : nullptr;
    if (value == nullptr) return false;
    *value = words[t + 1];
  }
  for (const char* mode : {"check", "bench", "faults", "gaps", "starve"}) {
    if (out->mode == mode) return true;
  }
  return false;
}

int run(int count, char** words) {
  Arguments arguments;
  if (!parse(count, words, &arguments)) return usage();
  const std::string defect = list_defect(all_ops());
  if (!defect.empty()) {
    std::printf("FAILED list: %s\n", defect.c_str());
    return kFailed;
  }
  std::vector<Op> ops;
  for (const Op& op : all_ops()) {
    if (arguments.op.empty() || arguments.op == op.name) ops.push_back(op);
  }
  std::vector<const Table*> tables;
  for (const Table* table : gramian::backend::all_tables()) {
    if (arguments.table.empty() || arguments.table == table->name) tables.push_back(table);
  }
  size_t skipped = 0;  // in tables
  for (const auto& missing : gramian::backend::unavailable_tables()) {
    if (!arguments.table.empty() && arguments.table != missing.first) continue;
    std::printf("skipped: %s (%s)\n", missing.first.c_str(), missing.second.c_str());
    ++skipped;
  }
  if (ops.empty()) {
    std::fprintf(stderr, "no op is called `%s`\n", arguments.op.c_str());
    return kUsage;
  }
  if (tables.empty() && skipped > 0) return kSkipped;
  if (tables.empty()) {
    std::fprintf(stderr, "no table is called `%s`\n", arguments.table.c_str());
    return kUsage;
  }
  if (arguments.mode == "check") return check(tables, ops, skipped);
  if (arguments.mode == "faults") return faults(tables, ops);
  if (arguments.mode == "gaps") return prove_gaps_fail(tables, ops) ? 0 : kFailed;
  if (arguments.mode == "starve") {
#if defined(GRAMIAN_CAN_STARVE)
    return prove_starved_fail_well(tables, ops) ? 0 : kFailed;
#else
    std::printf("skipped: this linker cannot stand between the kernels and malloc\n");
    return kSkipped;
#endif
  }
  return run_bench(tables, arguments.op, arguments.json) == 0 ? 0 : kFailed;
}

}  // namespace

}  // namespace conformance

int main(int count, char** words) {
  return conformance::run(count, words);
}
