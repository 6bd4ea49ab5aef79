#include "lib/tensor/dtype.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

struct DTypeRow {
  DType dtype;
  const char* name;
  uint32_t bytes;
  bool floating;
  at::ScalarType scalar;
};

const DTypeRow kRows[] = {{DType::F64, "F64", 8, true, at::kDouble},
                          {DType::F32, "F32", 4, true, at::kFloat},
                          {DType::F16, "F16", 2, true, at::kHalf},
                          {DType::BF16, "BF16", 2, true, at::kBFloat16},
                          {DType::F8_E4M3, "F8_E4M3", 1, true, at::kFloat8_e4m3fn},
                          {DType::F8_E5M2, "F8_E5M2", 1, true, at::kFloat8_e5m2},
                          {DType::F8_E8M0, "F8_E8M0", 1, true, at::kFloat8_e8m0fnu},
                          {DType::I64, "I64", 8, false, at::kLong},
                          {DType::I32, "I32", 4, false, at::kInt},
                          {DType::I16, "I16", 2, false, at::kShort},
                          {DType::I8, "I8", 1, false, at::kChar},
                          {DType::U8, "U8", 1, false, at::kByte},
                          {DType::BOOL, "BOOL", 1, false, at::kBool}};

TEST(DType, TableAgreesWithTheSpecAndWithATen) {
  for (const DTypeRow& row : kRows) {
    EXPECT_EQ(traits(row.dtype).dtype, row.dtype) << row.name;
    EXPECT_EQ(name_of(row.dtype), row.name);
    EXPECT_EQ(traits(row.dtype).bytes, row.bytes) << row.name;
    EXPECT_EQ(traits(row.dtype).floating, row.floating) << row.name;
    EXPECT_EQ(parse_dtype(row.name), row.dtype);
    EXPECT_EQ(to_scalar_type(row.dtype), row.scalar) << row.name;
    EXPECT_EQ(to_dtype(row.scalar), row.dtype) << row.name;
    EXPECT_EQ(c10::elementSize(row.scalar), row.bytes) << row.name;
  }
}

TEST(DType, UnknownSpellings) {
  for (const char* name : {"", "f16", "F16 ", "FP16", "F8", "U32", "BF16x"}) {
    EXPECT_EQ(parse_dtype(name), std::nullopt) << name;
  }
  EXPECT_THROW(to_dtype(at::kComplexFloat), InternalError);
  EXPECT_THROW(to_dtype(at::kQInt8), InternalError);
}

}  // namespace
}  // namespace lathe
