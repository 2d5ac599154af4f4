// How many processors there are for this process.
#pragma once

#include "gramian/core/export.hpp"

namespace gramian {

// Those that the affinity mask and the quotas of the cgroup leave to it, whatever the environment says of threads.
// >= 1.
GRAMIAN_EXPORT int available_processors();

}  // namespace gramian
