#include "lib/numeric/quantized_tensor.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/numeric/scheme.h"

namespace lathe {
namespace {

QuantizedTensor example(bool symmetric, DType scale_dtype = DType::F16) {
  QuantizedTensor tensor;
  tensor.scheme = {"int", 4, 2, symmetric};
  tensor.scale_dtype = scale_dtype;
  tensor.codes = at::tensor({-8, 7, 0, 3, 1, -1, 2, 2}, at::kChar).view({2, 4});
  tensor.scales = at::tensor({0.5f, 0.25f, 2.0f, 1.0f}).view({2, 2});
  if (!symmetric) tensor.zero_points = at::tensor({-8, 7, 0, 2}, at::kChar).view({2, 2});
  return tensor;
}

TEST(QuantizedTensor, DequantizesByHand) {
  const at::Tensor symmetric = at::tensor({-4.0f, 3.5f, 0.0f, 0.75f, 2.0f, -2.0f, 2.0f, 2.0f}).view({2, 4});
  EXPECT_TRUE(at::equal(example(true).dequantize(), symmetric));
  const at::Tensor asymmetric = at::tensor({0.0f, 7.5f, -1.75f, -1.0f, 2.0f, -2.0f, 0.0f, 0.0f}).view({2, 4});
  EXPECT_TRUE(at::equal(example(false).dequantize(), asymmetric));
}

TEST(QuantizedTensor, ScaleRowsByPowersOfTwoIsExact) {
  for (const bool symmetric : {true, false}) {
    QuantizedTensor tensor = example(symmetric);
    const at::Tensor before = tensor.dequantize(), codes = tensor.codes.clone();
    tensor.scale_rows(at::tensor({0.125f, 8.0f}));
    EXPECT_TRUE(at::equal(tensor.dequantize(), before * at::tensor({0.125f, 8.0f}).unsqueeze(1)));
    EXPECT_TRUE(at::equal(tensor.codes, codes));
  }
}

TEST(QuantizedTensor, ScaleRowsRoundsOnlyTheScales) {
  for (const DType dtype : {DType::F16, DType::BF16, DType::F32}) {
    QuantizedTensor tensor = example(false, dtype);
    const at::Tensor factors = at::tensor({0.7f, 1.3f}),
                     expected = round_to(tensor.scales * factors.unsqueeze(1), dtype);
    tensor.scale_rows(factors);
    EXPECT_TRUE(at::equal(tensor.scales, expected));
    EXPECT_TRUE(at::equal(round_to(tensor.scales, dtype), tensor.scales));
  }
}

TEST(QuantizedTensor, ScaleRowsRefusesWhatTheScaleTypeCannotHold) {
  QuantizedTensor tensor = example(true);
  try {
    tensor.scale_rows(at::tensor({1.0f, 40000.0f}));
    FAIL() << "80000 passed as an F16 scale";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("row 1, group 0"));
    EXPECT_THAT(error.what(), testing::HasSubstr("F16"));
  }
  QuantizedTensor small = example(true);
  EXPECT_THROW(small.scale_rows(at::tensor({1e-12f, 1.0f})), UserError);
  QuantizedTensor wide = example(true, DType::BF16);
  wide.scale_rows(at::tensor({1.0f, 40000.0f}));
  EXPECT_TRUE(at::equal(wide.codes, tensor.codes));
}

TEST(QuantizedTensor, AGroupOfZerosKeepsItsScaleWhereTheProductUnderflows) {
  QuantizedTensor tensor = example(true);
  tensor.codes.slice(0, 0, 1).zero_();
  tensor.scale_rows(at::tensor({1e-12f, 1.0f}));
  EXPECT_TRUE(at::equal(tensor.scales, example(true).scales));
}

TEST(RoundTo, TiesToEvenAndInfinity) {
  const at::Tensor values = at::tensor({1.0f + 0x1p-11f, 1.0f + 3 * 0x1p-11f, 65519.0f, 65520.0f});
  const at::Tensor expected = at::tensor({1.0f, 1.0f + 0x1p-9f, 65504.0f, INFINITY});
  EXPECT_TRUE(at::equal(round_to(values, DType::F16), expected));
  EXPECT_TRUE(at::equal(round_to(values, DType::F32), values));
}

TEST(SchemeProblem, NamesWhatIsWrong) {
  EXPECT_FALSE((Scheme{"int", 4, 128, true}).problem(256));
  EXPECT_FALSE((Scheme{"int", 8, -1, false}).problem(43));
  EXPECT_THAT(*(Scheme{"int", 4, 128, true}).problem(172), testing::HasSubstr("does not divide rows of 172"));
  EXPECT_THAT(*(Scheme{"int", 9, 128, true}).problem(128), testing::HasSubstr("bits 9"));
  EXPECT_THAT(*(Scheme{"int", 4, 0, true}).problem(128), testing::HasSubstr("group_size 0"));
  EXPECT_THAT(*(Scheme{"float", 4, 32, true}).problem(128), testing::HasSubstr("'float'"));
  EXPECT_THAT(*(Scheme{"int", 1, 32, true}).problem(128), testing::HasSubstr("symmetric: false"));
  EXPECT_THAT(*(Scheme{"int", 4, 32, true, {}, true}).problem(128), testing::HasSubstr("symmetric: false"));
  EXPECT_THAT(*(Scheme{"int", 4, 32, false, {}, false, 0}).problem(128), testing::HasSubstr("axis 0"));
  EXPECT_FALSE((Scheme{"int", 4, 32, false, {}, false, 0}).problem(64, 43));
  EXPECT_THAT(*(Scheme{"int", 4, 32, false, {}, false, 0}).problem(43, 64),
              testing::HasSubstr("does not divide columns of 43"));
}

TEST(Scheme, CountsRealZeroPointsAndGroupsOfColumns) {
  EXPECT_DOUBLE_EQ((Scheme{"int", 4, 64, false}).bits_per_weight(96, 128), 4 + 20.0 / 64);
  EXPECT_DOUBLE_EQ((Scheme{"int", 4, 64, false, {}, true}).bits_per_weight(96, 128), 4 + 32.0 / 64);
  EXPECT_DOUBLE_EQ((Scheme{"int", 4, -1, false, {}, true, 0}).bits_per_weight(96, 128), 4 + 32.0 / 96);
  EXPECT_EQ((Scheme{"int", 2, 16, false, {}, true, 0}).describe(), "int2 asym g16 real zero axis 0");
  EXPECT_EQ((Scheme{"int", 2, 16, false, {}, true, 0}).parameter_shape(32, 5),
            (std::array<int64_t, 2>{2, 5}));
}

TEST(QuantizedTensor, ReadsRealZeroPointsAndGroupsOfColumns) {
  QuantizedTensor tensor;
  tensor.scheme = {"int", 4, 2, false, {}, true, 0};  // groups are rows 0 and 2, 1 and 3
  tensor.codes = at::tensor({-8, 7, 0, 3, 1, -1, 2, 2}, at::kChar).view({4, 2});
  tensor.scales = at::tensor({0.5f, 0.25f, 2.0f, 1.0f}).view({2, 2});
  tensor.zero_points = at::tensor({0.5f, -1.0f, 0.0f, 2.5f}).view({2, 2});
  const at::Tensor expected = at::tensor({-4.25f, 2.0f, 0.0f, 0.5f, 0.25f, 0.0f, 4.0f, -0.5f}).view({4, 2});
  EXPECT_TRUE(at::equal(tensor.dequantize(), expected));
  EXPECT_TRUE(at::equal(tensor.dequantize_rows(1, 4), expected.slice(0, 1, 4)));
  EXPECT_FALSE(tensor.can_scale_rows());
}

QuantizedTensor with_outliers() {
  QuantizedTensor tensor = example(false);
  tensor.outliers = outliers_of(at::tensor({0.0f, 40.0f, 0.0f, -0.5f, 0.0f, 0.0f, 1e-4f, 0.0f}).view({2, 4}));
  return tensor;
}

TEST(QuantizedTensor, OutliersAreAddedToTheirCodesValues) {
  const QuantizedTensor tensor = with_outliers();
  const at::Tensor sparse =
      at::tensor({0.0f, 40.0f, 0.0f, -0.5f, 0.0f, 0.0f, 1.0001659393310547e-4f, 0.0f}).view({2, 4});
  EXPECT_TRUE(at::equal(tensor.dequantize(), example(false).dequantize() + sparse));
  for (int64_t begin = 0; begin < 2; ++begin) {
    for (int64_t end = begin + 1; end <= 2; ++end) {
      EXPECT_TRUE(at::equal(tensor.dequantize_rows(begin, end), tensor.dequantize().slice(0, begin, end)));
    }
  }
  EXPECT_TRUE(at::equal(tensor.outliers->row_offsets, at::tensor({0, 2, 3}, at::kInt)));
  EXPECT_TRUE(at::equal(tensor.outliers->columns, at::tensor({1, 3, 2}, at::kInt)));
}

TEST(QuantizedTensor, CountsEveryBit) {
  QuantizedTensor tensor = with_outliers();
  EXPECT_DOUBLE_EQ(example(false).bits_per_weight(), 4 + (16 + 4) / 2.0);
  EXPECT_DOUBLE_EQ(tensor.bits_per_weight(), 4 + (16 + 4) / 2.0 + (3 * 32 + 3 * 32) / 8.0);
  tensor.scheme = {"int", 3, 16, false, ScaleGrid{3, 16}};
  tensor.codes = at::zeros({32, 64}, at::kChar);
  tensor.outliers = outliers_of(at::zeros({32, 64}));
  EXPECT_DOUBLE_EQ(tensor.bits_per_weight(), 3 + 6 / 16.0 + 64 / 256.0 + 33 * 32 / 2048.0);
}

TEST(QuantizedTensor, SchemeSaysWhatASecondLevelNeeds) {
  const Scheme scheme{"int", 3, 16, false, ScaleGrid{3, 16}};
  EXPECT_EQ(scheme.describe(), "int3 asym g16, scales int3 r16");
  EXPECT_FALSE(scheme.problem(64));
  Scheme symmetric = scheme;
  symmetric.symmetric = true;
  EXPECT_THAT(*symmetric.problem(64), testing::HasSubstr("symmetric: false"));
  Scheme one_bit = scheme;
  one_bit.scale_grid->bits = 1;
  EXPECT_THAT(*one_bit.problem(64), testing::HasSubstr("scale_bits 1"));
}

TEST(QuantizedTensor, GroupIndexSaysWhichGridAColumnHas) {
  at::manual_seed(21);
  QuantizedTensor tensor{{"int", 4, 2, false},
                         DType::F16,
                         at::randint(-8, 8, {3, 6}).to(at::kChar),
                         at::rand({3, 3}) + 0.5,
                         at::randint(-8, 8, {3, 3}).to(at::kChar)};
  tensor.group_index = at::tensor({2, 0, 1, 1, 2, 0}, at::kInt);
  const at::Tensor values = tensor.dequantize();
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t column = 0; column < 6; ++column) {
      const int64_t group = tensor.group_index[column].item<int64_t>();
      const float centred =
          tensor.codes[row][column].item<float>() - tensor.zero_points[row][group].item<float>();
      EXPECT_EQ(values[row][column].item<float>(), tensor.scales[row][group].item<float>() * centred);
    }
  }
  EXPECT_TRUE(at::equal(tensor.dequantize_rows(1, 3), values.slice(0, 1)));
  QuantizedTensor scaled = tensor;
  scaled.scale_rows(at::tensor({2.f, 1.f, 4.f}));
  EXPECT_TRUE(at::allclose(scaled.dequantize(), values * at::tensor({2.f, 1.f, 4.f}).view({3, 1}), 1e-2));
  tensor.group_index = at::arange(6).div(2, "floor").to(at::kInt);
  QuantizedTensor plain = tensor;
  plain.group_index.reset();
  EXPECT_TRUE(at::equal(tensor.dequantize(), plain.dequantize()));
}

}  // namespace
}  // namespace lathe
