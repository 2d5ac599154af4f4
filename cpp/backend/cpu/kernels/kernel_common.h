/* What every kernel file of one instruction set shares: the name of its fill function and the native vector types.
 * Included once per (source, ISA); everything is in an anonymous namespace, so no symbol can be shared between ISAs. */
#ifndef GRAMIAN_BACKEND_CPU_KERNELS_KERNEL_COMMON_H
#define GRAMIAN_BACKEND_CPU_KERNELS_KERNEL_COMMON_H

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../../op_table.h"

#define GRAMIAN_JOIN_NAME(stem, isa) gramian_fill_##stem##_##isa
#define GRAMIAN_EXPAND_NAME(stem, isa) GRAMIAN_JOIN_NAME(stem, isa)
/* Opens the one exported function of a kernel file. */
#define GRAMIAN_FILL_FUNCTION(stem) \
  extern "C" __attribute__((visibility("hidden"))) void GRAMIAN_EXPAND_NAME(stem, GRAMIAN_ISA)(gramian_op_table * table)

#if defined(__AVX512F__)
#define GRAMIAN_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define GRAMIAN_VECTOR_BYTES 32
#else
#define GRAMIAN_VECTOR_BYTES 16
#endif

namespace {

/* Native vectors of T, with the integer vectors that comparisons of them give. `Narrow` (of float) has as many lanes as
 * the vector of double. */
template <class T>
struct Pack;

template <>
struct Pack<float> {
  typedef float Vector __attribute__((vector_size(GRAMIAN_VECTOR_BYTES)));
  typedef int32_t Integer __attribute__((vector_size(GRAMIAN_VECTOR_BYTES)));
  typedef float Narrow __attribute__((vector_size(GRAMIAN_VECTOR_BYTES / 2)));
};

template <>
struct Pack<double> {
  typedef double Vector __attribute__((vector_size(GRAMIAN_VECTOR_BYTES)));
  typedef int64_t Integer __attribute__((vector_size(GRAMIAN_VECTOR_BYTES)));
};

template <class T>
using Vector = typename Pack<T>::Vector;
template <class T>
using Integer = typename Pack<T>::Integer;
template <class T>
constexpr int64_t kLanes = GRAMIAN_VECTOR_BYTES / static_cast<int64_t>(sizeof(T));

template <class V>
inline V load(const void* source) {
  V vector;
  std::memcpy(&vector, source, sizeof vector);
  return vector;
}

template <class V>
inline void store(void* target, const V& vector) {
  std::memcpy(target, &vector, sizeof vector);
}

template <class T>
inline Vector<T> splat(T value) {
  return value - Vector<T>{};
}

template <class To, class From>
inline To bit_copy(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "equal sizes");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

/* kLanes<double> values of T as doubles, and back. */
inline Vector<double> load_wide(const double* source) {
  return load<Vector<double>>(source);
}
inline Vector<double> load_wide(const float* source) {
  return __builtin_convertvector(load<Pack<float>::Narrow>(source), Vector<double>);
}
inline void store_rounded(double* target, const Vector<double>& vector) {
  store(target, vector);
}
inline void store_rounded(float* target, const Vector<double>& vector) {
  store(target, __builtin_convertvector(vector, Pack<float>::Narrow));
}

inline bool is_compute_type(int dtype) {
  return dtype == GRAMIAN_F32 || dtype == GRAMIAN_F64;
}

}  // namespace

#endif
