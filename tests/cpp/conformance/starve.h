/* Memory that runs out inside an entry. */
#ifndef GRAMIAN_CONFORMANCE_STARVE_H
#define GRAMIAN_CONFORMANCE_STARVE_H

#include <vector>

#include "case.h"

namespace conformance {

/* Every call that the cases make is repeated with its first, its second, .. allocation refused, until it asks for no
 * more. Each must answer NO_MEMORY, let no exception out and give back what it took. Tables of host memory only: the
 * others allocate where no linker reaches. False also where nothing was ever refused. */
bool prove_starved_fail_well(const std::vector<const Table*>& tables, const std::vector<Op>& ops);

}  // namespace conformance

#endif
