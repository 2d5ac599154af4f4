#include "gramian/core/dtype.hpp"

#include "backend/op_table.h"
#include "gramian/core/error.hpp"

namespace gramian {
namespace {

// DTypes cross the op table as plain integers.
constexpr bool same(DType dtype, int value) {
  return static_cast<int>(dtype) == value;
}
static_assert(same(DType::f32, GRAMIAN_F32) && same(DType::f64, GRAMIAN_F64) && same(DType::f16, GRAMIAN_F16) &&
                  same(DType::u8, GRAMIAN_U8) && same(DType::i16, GRAMIAN_I16) && same(DType::boolean, GRAMIAN_BOOL) &&
                  same(DType::i32, GRAMIAN_I32) && same(DType::i64, GRAMIAN_I64),
              "DType and gramian_dtype must agree");

[[noreturn]] void unknown(DType dtype) {
  throw Error(ErrorCode::wrong_dtype, "unknown dtype number " + std::to_string(static_cast<int>(dtype)));
}

}  // namespace

std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::u8:
    case DType::boolean:
      return 1;
    case DType::f16:
    case DType::i16:
      return 2;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f64:
    case DType::i64:
      return 8;
  }
  unknown(dtype);
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::f16:
      return "float16";
    case DType::u8:
      return "uint8";
    case DType::i16:
      return "int16";
    case DType::boolean:
      return "bool";
    case DType::i32:
      return "int32";
    case DType::i64:
      return "int64";
  }
  unknown(dtype);
}

}  // namespace gramian
