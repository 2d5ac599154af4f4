/* Deliberately wrong entries: what the conformance list must catch. */
#ifndef GRAMIAN_CONFORMANCE_FAULTS_H
#define GRAMIAN_CONFORMANCE_FAULTS_H

#include <vector>

#include "case.h"

namespace conformance {

struct Fault {
  const char* op;
  const char* what;
  void (*install)(Table&);  /* replaces the entry; the wrong one forwards to the table given to set_true_table */
  bool device_only = false; /* nothing a host table could get wrong */
};

const std::vector<Fault>& all_faults();
/* The table that wrong entries forward to. */
void set_true_table(const Table& table);

}  // namespace conformance

#endif
