// Solved codes as ggml's blocks: the same numbers, or the reason.
#include "lib/kernels/ggml_exact.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lib/kernels/ggml_quant.h"

namespace lathe::kernels {
namespace {

using enum GgmlType;
using testing::HasSubstr;

QuantizedTensor example(int bits, bool symmetric, int64_t group) {
  at::manual_seed(bits);
  QuantizedTensor tensor;
  tensor.scheme = {"int", bits, group, symmetric};
  const Scheme& scheme = tensor.scheme;
  tensor.codes = at::randint(scheme.qmin(), scheme.qmax() + 1, {6, 192}, at::kChar);
  tensor.codes[0][0] = scheme.qmin();
  tensor.codes[0][1] = scheme.qmax();
  tensor.scales = (at::rand({6, scheme.groups(192)}) + 0.1).to(at::kHalf).to(at::kFloat);
  if (!symmetric)
    tensor.zero_points = at::randint(scheme.qmin(), scheme.qmax() + 1, tensor.scales.sizes(), at::kChar);
  return tensor;
}

void expect_exact(const QuantizedTensor& tensor, GgmlType type) {
  const ExactBlocks result = exact_ggml_blocks(tensor, type);
  ASSERT_TRUE(result.exact()) << traits(type).name << ": " << result.reason;
  EXPECT_TRUE(dequantize_ggml(result.blocks, type, tensor.cols()).equal(tensor.dequantize()))
      << traits(type).name;
}

std::string reason(const QuantizedTensor& tensor, GgmlType type) {
  return exact_ggml_blocks(tensor, type).reason;
}

TEST(GgmlExact, SymmetricCodesKeepTheirValues) {
  for (const int64_t group : {32, 64, 96, 192, -1}) {
    for (int bits = 2; bits <= 8; ++bits) {
      const QuantizedTensor tensor = example(bits, true, group);
      const GgmlType smallest = bits <= 4 ? Q4_0 : bits == 5 ? Q5_0 : Q8_0;
      EXPECT_EQ(exact_ggml_type(tensor), smallest) << bits << " bits";
      expect_exact(tensor, smallest);
      expect_exact(tensor, Q8_0);
    }
  }
}

TEST(GgmlExact, AsymmetricCodesOfFourBitsFitFiveSignedBits) {
  const QuantizedTensor tensor = example(4, false, 64);
  expect_exact(tensor, Q5_0);
  EXPECT_EQ(exact_ggml_type(tensor), Q5_0);
  EXPECT_THAT(reason(tensor, Q4_0), HasSubstr("steps from zero, where Q4_0 has -8 to 7"));
  EXPECT_THAT(reason(tensor, Q4_1), HasSubstr("is not a half (F16)"));
}

TEST(GgmlExact, MinimaThatAreHalvesFitBlocksWithMinima) {
  QuantizedTensor tensor = example(4, false, 32);
  tensor.zero_points = at::full_like(tensor.zero_points, 4 - 8);  // a power of two, counted from qmin
  expect_exact(tensor, Q4_1);
  EXPECT_EQ(exact_ggml_type(tensor), Q4_1);
  tensor = example(5, false, 32);
  tensor.zero_points = at::full_like(tensor.zero_points, 16 - 16);
  expect_exact(tensor, Q5_1);
}

TEST(GgmlExact, RealZeroPointsFitBlocksWithMinimaOnly) {
  QuantizedTensor tensor = example(4, false, 64);
  tensor.scheme.real_zero = true;
  tensor.scales = at::full_like(tensor.scales, 0.5);
  tensor.zero_points = tensor.zero_points.to(at::kFloat) + 0.25;
  expect_exact(tensor, Q4_1);
  EXPECT_THAT(reason(tensor, Q5_0), HasSubstr("is not a whole number"));
}

TEST(GgmlExact, MxCodesAreGgmlsOwn) {
  QuantizedTensor tensor;
  tensor.scheme = Scheme::of_floats("mxfp4");
  tensor.scale_dtype = DType::F8_E8M0;
  at::manual_seed(1);
  tensor.codes = at::randint(0, 16, {5, 96}, at::kChar);
  tensor.scales = at::exp2(at::randint(-20, 20, {5, 3}, at::kFloat));
  tensor.scales[0][0] = std::ldexp(1.0f, -127);
  tensor.scales[4][2] = std::ldexp(1.0f, 120);
  expect_exact(tensor, MXFP4);
  EXPECT_THAT(reason(tensor, Q4_0), HasSubstr("Q4_0 holds integers, not mxfp4 g32"));
  EXPECT_THAT(reason(example(4, true, 32), MXFP4), HasSubstr("MXFP4 holds codes of scheme mxfp4, not int4"));
}

TEST(GgmlExact, MxIntegersAreQ8) {
  QuantizedTensor tensor;
  tensor.scheme = Scheme::of_floats("mxint8");
  tensor.scale_dtype = DType::F8_E8M0;
  tensor.codes = at::arange(256).to(at::kChar).repeat({6, 3});  // all of them
  tensor.scales = at::exp2(at::randint(-18, 21, {6, 24}, at::kFloat));
  expect_exact(tensor, Q8_0);
  EXPECT_EQ(exact_ggml_type(tensor), Q8_0);
  EXPECT_THAT(reason(tensor, Q4_0), HasSubstr("Q4_0 holds integers, not mxint8 g32"));
  tensor.scales[2][1] = std::ldexp(1.0f, -19);
  EXPECT_THAT(reason(tensor, Q8_0), HasSubstr("row 2, group 1: its scale 1.90735e-06 / 64 is not a half"));
}

TEST(GgmlExact, SaysWhyGridsDontAgree) {
  QuantizedTensor tensor = example(4, true, 64);
  EXPECT_THAT(reason(tensor, Q4_K), HasSubstr("Q4_K's scales are codes themselves"));
  tensor.scales[2][1] = 0.1f;
  EXPECT_THAT(reason(tensor, Q4_0), HasSubstr("row 2, group 1: its scale 0.1 is not a half"));
  tensor.scales[2][1] = 70000.0f;
  EXPECT_THAT(reason(tensor, Q4_0), HasSubstr("row 2, group 1: its scale 70000 is not a half"));
  EXPECT_THAT(reason(example(4, true, 16), Q4_0), HasSubstr("groups of 16 are not whole blocks of 32"));
  EXPECT_THAT(reason(example(4, true, 48), Q4_0), HasSubstr("groups of 48"));
  EXPECT_THAT(reason(example(5, true, 32), Q4_0), HasSubstr("row 0, column 0: -16 steps from zero"));
  QuantizedTensor ordered = example(4, true, 64);
  ordered.group_index = at::arange(192, at::kInt).remainder(3);
  EXPECT_THAT(reason(ordered, Q4_0), HasSubstr("g_idx"));
  EXPECT_EQ(exact_ggml_type(ordered), std::nullopt);
  QuantizedTensor columns = example(4, true, 64);
  columns.scheme.axis = 0;
  EXPECT_THAT(reason(columns, Q4_0), HasSubstr("along the rows of a column"));
}

}  // namespace
}  // namespace lathe::kernels
