// The element types the library reads. f32 and f64 are computed in; the others are storage that is widened on load.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gramian/core/export.hpp"

namespace gramian {

// The values are those of gramian_dtype in the op table.
enum class DType : std::int32_t { f32 = 0, f64 = 1, f16 = 2, u8 = 3, i16 = 4, boolean = 5, i32 = 6, i64 = 7 };

// Bytes of one element.
GRAMIAN_EXPORT std::size_t size_of(DType dtype);
// "float32", "float64", ... as NumPy writes them.
GRAMIAN_EXPORT const char* name_of(DType dtype);

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::f64;
};

}  // namespace gramian
