#include "lib/numeric/distortion.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/numeric/quadratic_form.h"

namespace lathe {
namespace {

at::Tensor gram_of(const at::Tensor& x) { return x.t().mm(x) / static_cast<double>(x.size(0)); }

double direct_form(const at::Tensor& d, const at::Tensor& gram) {
  const at::Tensor wide = d.to(at::kDouble);
  return wide.mm(gram.to(at::kDouble)).mul(wide).sum().item<double>();
}

TEST(QuadraticForm, EqualsTheDirectTraceForOneAndSeveralPanels) {
  at::manual_seed(1);
  for (const int64_t width : {1, 7, 512, 513, 1100, 1536}) {
    const at::Tensor gram = gram_of(at::randn({300, width}));
    const at::Tensor d = at::randn({9, width});
    const double expected = direct_form(d, gram);
    EXPECT_NEAR(QuadraticForm(gram)(d) / expected, 1.0, 2e-5) << width;
  }
}

TEST(QuadraticForm, IsTheOutputErrorOnTokens) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({200, 640}) * at::rand({640}), d = at::randn({30, 640});
  const double per_token = x.mm(d.t()).square().sum().item<double>() / 200;
  EXPECT_NEAR(QuadraticForm(gram_of(x))(d) / per_token, 1.0, 1e-4);
}

TEST(QuadraticForm, LeavesTheGramMatrixAlone) {
  const at::Tensor gram = gram_of(at::randn({10, 1030})), copy = gram.clone();
  QuadraticForm form(gram);
  EXPECT_TRUE(at::equal(gram, copy));
}

TEST(Distortion, ByHand) {
  const at::Tensor weight = at::tensor({3.0f, 4.0f, 0.0f, 0.0f}).view({2, 2});
  const at::Tensor approximation = at::tensor({3.0f, 3.0f, 0.0f, 2.0f}).view({2, 2});
  const Distortion plain = measure_distortion(weight, approximation, {});
  EXPECT_DOUBLE_EQ(plain.weight_relative_mse, 5.0 / 25.0);
  EXPECT_DOUBLE_EQ(plain.max_abs_error, 2.0);
  EXPECT_FALSE(plain.output_relative_error);
  const at::Tensor gram = at::tensor({1.0f, 0.0f, 0.0f, 10.0f}).view({2, 2});
  EXPECT_DOUBLE_EQ(*measure_distortion(weight, approximation, gram).output_relative_error, 50.0 / 169.0);
}

TEST(Distortion, ZerosAndNan) {
  const at::Tensor zero = at::zeros({2, 4}), gram = at::eye(4);
  const Distortion none = measure_distortion(zero, zero, gram);
  EXPECT_EQ(none.weight_relative_mse, 0);
  EXPECT_EQ(*none.output_relative_error, 0);
  EXPECT_TRUE(std::isinf(measure_distortion(zero, at::ones({2, 4}), gram).weight_relative_mse));
  const Distortion spoiled = measure_distortion(at::ones({2, 4}), zero + std::nanf(""), gram);
  EXPECT_TRUE(std::isnan(spoiled.weight_relative_mse));
  EXPECT_TRUE(std::isnan(spoiled.max_abs_error));
}

TEST(Distortion, OfCodesIsThatOfTheirValues) {
  at::manual_seed(5);
  const int64_t rows = 4500, width = 512;
  const QuantizedTensor quantized{.scheme = {.type = "int", .bits = 4, .group_size = 64, .symmetric = false},
                                  .scale_dtype = DType::F16,
                                  .codes = at::randint(-8, 8, {rows, width}, at::kChar),
                                  .scales = at::rand({rows, width / 64}) + 0.1,
                                  .zero_points = at::randint(-8, 8, {rows, width / 64}, at::kChar)};
  const at::Tensor values = quantized.dequantize(), weight = values + 0.1 * at::randn({rows, width});
  ASSERT_LT(rows_per_chunk(weight), rows) << "the matrix must need more than one chunk";
  EXPECT_TRUE(at::equal(quantized.dequantize_rows(7, 12), values.slice(0, 7, 12)));
  const at::Tensor gram = gram_of(at::randn({50, width}));
  const Distortion of_codes = measure_distortion(weight, quantized, gram);
  const Distortion of_values = measure_distortion(weight, values, gram);
  EXPECT_EQ(of_codes.weight_relative_mse, of_values.weight_relative_mse);
  EXPECT_EQ(of_codes.max_abs_error, of_values.max_abs_error);
  EXPECT_EQ(of_codes.output_relative_error, of_values.output_relative_error);
}

TEST(Distortion, IsTheSameInChunks) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({4500, 1024}), approximation = weight + 0.01 * at::randn({4500, 1024});
  ASSERT_LT(rows_per_chunk(weight), weight.size(0)) << "the matrix must need more than one chunk";
  const double expected =
      ((weight - approximation).to(at::kDouble).square().sum() / weight.to(at::kDouble).square().sum())
          .item<double>();
  EXPECT_NEAR(measure_distortion(weight, approximation, {}).weight_relative_mse / expected, 1, 1e-6);
}

}  // namespace
}  // namespace lathe
