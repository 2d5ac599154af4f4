/* The kernels as the registry sees them: one function per instruction set that writes its entries into a table.
 *
 * The target that includes this file defines GRAMIAN_HAVE_ISA_AVX2, GRAMIAN_HAVE_ISA_AVX512 and GRAMIAN_HAVE_ISA_NEON
 * for the levels that were compiled (gramian_add_kernels does it). NEON is the floor of arm64 and replaces base there;
 * everywhere else base is always present. A fill function may be called on any processor; the entries it writes only on
 * one that has the level.
 */
#ifndef GRAMIAN_BACKEND_CPU_KERNELS_KERNELS_H
#define GRAMIAN_BACKEND_CPU_KERNELS_KERNELS_H

#include "../../op_table.h"

#ifdef __cplusplus
extern "C" {
#endif

#define GRAMIAN_KERNEL_HIDDEN __attribute__((visibility("hidden")))

/* open, close, error_text, alloc, free, upload, download and sync of host memory. */
GRAMIAN_KERNEL_HIDDEN void gramian_fill_memory_cpu(gramian_op_table* table);

/* gramian_fill_kernels_<isa>: every other entry. Name, memory kind and tile edge are the caller's. */
#define GRAMIAN_DECLARE_KERNELS(isa)                                                  \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_dense_##isa(gramian_op_table* table);       \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_factor_##isa(gramian_op_table* table);      \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_orthogonal_##isa(gramian_op_table* table);  \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_sweep_##isa(gramian_op_table* table);       \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_rotate_##isa(gramian_op_table* table);      \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_elementwise_##isa(gramian_op_table* table); \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_rows_##isa(gramian_op_table* table);        \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_random_##isa(gramian_op_table* table);      \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_hadamard_##isa(gramian_op_table* table);    \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_softmax_##isa(gramian_op_table* table);     \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_sparse_##isa(gramian_op_table* table);      \
  GRAMIAN_KERNEL_HIDDEN void gramian_fill_sketch_##isa(gramian_op_table* table);      \
  static inline void gramian_fill_kernels_##isa(gramian_op_table* table) {            \
    gramian_fill_dense_##isa(table);                                                  \
    gramian_fill_factor_##isa(table);                                                 \
    gramian_fill_orthogonal_##isa(table);                                             \
    gramian_fill_sweep_##isa(table);                                                  \
    gramian_fill_rotate_##isa(table);                                                 \
    gramian_fill_elementwise_##isa(table);                                            \
    gramian_fill_rows_##isa(table);                                                   \
    gramian_fill_random_##isa(table);                                                 \
    gramian_fill_hadamard_##isa(table);                                               \
    gramian_fill_softmax_##isa(table);                                                \
    gramian_fill_sparse_##isa(table);                                                 \
    gramian_fill_sketch_##isa(table);                                                 \
  }

#ifdef GRAMIAN_HAVE_ISA_NEON
GRAMIAN_DECLARE_KERNELS(neon)
#else
GRAMIAN_DECLARE_KERNELS(base)
#endif
#ifdef GRAMIAN_HAVE_ISA_AVX2
GRAMIAN_DECLARE_KERNELS(avx2)
#endif
#ifdef GRAMIAN_HAVE_ISA_AVX512
GRAMIAN_DECLARE_KERNELS(avx512)
#endif

#ifdef __cplusplus
}
#endif
#endif
