#include "gramian/core/dtype.hpp"

#include <gtest/gtest.h>

#include <string>

#include "gramian/core/error.hpp"

namespace {

using gramian::DType;

TEST(DType, SizesAndNames) {
  const struct {
    DType dtype;
    std::size_t size;
    const char* name;
  } cases[] = {{DType::f32, 4, "float32"}, {DType::f64, 8, "float64"}, {DType::f16, 2, "float16"},
               {DType::u8, 1, "uint8"},    {DType::i16, 2, "int16"},   {DType::boolean, 1, "bool"},
               {DType::i32, 4, "int32"},   {DType::i64, 8, "int64"}};
  for (const auto& expected : cases) {
    EXPECT_EQ(gramian::size_of(expected.dtype), expected.size);
    EXPECT_EQ(std::string(gramian::name_of(expected.dtype)), expected.name);
  }
  EXPECT_THROW(gramian::size_of(static_cast<DType>(99)), gramian::Error);
  EXPECT_THROW(gramian::name_of(static_cast<DType>(-1)), gramian::Error);
}

TEST(DType, OfCppTypes) {
  EXPECT_EQ(gramian::dtype_of<float>::value, DType::f32);
  EXPECT_EQ(gramian::dtype_of<double>::value, DType::f64);
}

}  // namespace
