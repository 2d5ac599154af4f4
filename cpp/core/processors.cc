#include "gramian/core/processors.hpp"

#include "backend/registry.h"

namespace gramian {

int available_processors() {
  return backend::available_processors();
}

}  // namespace gramian
