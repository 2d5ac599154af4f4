/* Reading one value of any storage dtype as double, for load_rows and load_csr. */
#ifndef GRAMIAN_BACKEND_CUDA_SOURCE_H
#define GRAMIAN_BACKEND_CUDA_SOURCE_H

#include <cuda_fp16.h>
#include <stdint.h>
#include <string.h>

#include "../op_table.h"

namespace gramian_cuda {

/* Bytes of one value, 0 for an unknown dtype. */
inline int64_t dtype_bytes(int dtype) {
  switch (dtype) {
    case GRAMIAN_F32:
    case GRAMIAN_I32:
      return 4;
    case GRAMIAN_F64:
    case GRAMIAN_I64:
      return 8;
    case GRAMIAN_F16:
    case GRAMIAN_I16:
      return 2;
    case GRAMIAN_U8:
    case GRAMIAN_BOOL:
      return 1;
    default:
      return 0;
  }
}

/* Whether src_dtype may be widened to dst_dtype. */
inline bool can_widen(int src_dtype, int dst_dtype) {
  if (dtype_bytes(src_dtype) == 0) return false;
  return dst_dtype == GRAMIAN_F64 || (src_dtype != GRAMIAN_I32 && src_dtype != GRAMIAN_I64);
}

/* A device faults on an unaligned load, so values off their grid are put together from bytes. */
template <class T>
__device__ inline T fetch(const char* address, bool aligned) {
  if (aligned) return *reinterpret_cast<const T*>(address);
  T value;
  memcpy(&value, address, sizeof value);
  return value;
}

__device__ inline double widen(int dtype, const char* address, bool aligned) {
  switch (dtype) {
    case GRAMIAN_F32:
      return fetch<float>(address, aligned);
    case GRAMIAN_F64:
      return fetch<double>(address, aligned);
    case GRAMIAN_F16:
      return __half2float(__ushort_as_half(fetch<unsigned short>(address, aligned)));
    case GRAMIAN_U8:
      return fetch<uint8_t>(address, aligned);
    case GRAMIAN_I16:
      return fetch<int16_t>(address, aligned);
    case GRAMIAN_BOOL:
      return fetch<uint8_t>(address, aligned) != 0 ? 1.0 : 0.0;
    case GRAMIAN_I32:
      return fetch<int32_t>(address, aligned);
    default:
      return static_cast<double>(fetch<int64_t>(address, aligned));
  }
}

/* (value - shift[c]) * row_scale[r] where these are given. */
__device__ inline double shift_and_scale(double value, const double* shift, int64_t c, const double* row_scale,
                                         int64_t r) {
  if (shift != nullptr) value -= shift[c];
  return row_scale == nullptr ? value : value * row_scale[r];
}

}  // namespace gramian_cuda
#endif
