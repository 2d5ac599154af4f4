// The BLAS provider: OpenBLAS behind the dense entries of the table, where the library was built with it.
#pragma once

#include <string>

#include "backend/op_table.h"

namespace gramian::backend {

// Was the library linked with OpenBLAS? The functions below are called only then.
bool has_openblas();

// A copy of an instruction set's table, named "openblas", whose large dense products and factorisations run in
// OpenBLAS. Everything else, small problems included, stays with `isa`, which must outlive the copy. One per process.
gramian_op_table openblas_table(const gramian_op_table& isa);

// The core that OpenBLAS chose for this processor, and its version and build options.
std::string openblas_core();
std::string openblas_version();

}  // namespace gramian::backend
