// Which real zero points are integers of their grid, and what a tensor is with those.
#include "lib/numeric/integer_zeros.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

QuantizedTensor with_zeros(const at::Tensor& zeros) {
  QuantizedTensor tensor;
  tensor.scheme = {.type = "int", .bits = 4, .group_size = 8, .symmetric = false, .real_zero = true};
  tensor.codes = at::arange(32, at::kChar).remainder(16).sub(8).view({2, 16}).to(at::kChar);
  tensor.scales = at::tensor({0.5f, 0.25f, 2.0f, 1.0f}).view({2, 2});
  tensor.zero_points = zeros.view({2, 2});
  return tensor;
}

TEST(IntegerZeros, AreThoseOfTheGridAlone) {
  const QuantizedTensor tensor = with_zeros(at::tensor({-8.0f, 7.0f, -0.5f, 8.0f}));
  EXPECT_TRUE(off_grid_zeros(tensor).equal(at::tensor({0, 0, 1, 1}).to(at::kBool).view({2, 2})));
  EXPECT_TRUE(off_grid_zeros(with_zeros(at::tensor({-9.0f, 0.0f, 7.001f, 1.0f})))
                  .equal(at::tensor({1, 0, 1, 0}).to(at::kBool).view({2, 2})));
  EXPECT_THROW(with_integer_zeros(tensor, false), InternalError);
  EXPECT_THROW(with_integer_zeros(with_zeros(at::tensor({0.0f, 0.0f, 1.0f, 0.0f})), true), InternalError);
}

TEST(IntegerZeros, MeanTheSameNumbers) {
  const QuantizedTensor real = with_zeros(at::tensor({-8.0f, 7.0f, 0.0f, 3.0f}));
  const QuantizedTensor integers = with_integer_zeros(real, false);
  EXPECT_FALSE(integers.scheme.real_zero || integers.scheme.symmetric);
  EXPECT_TRUE(integers.zero_points.equal(at::tensor({-8, 7, 0, 3}, at::kChar).view({2, 2})));
  EXPECT_TRUE(integers.dequantize().equal(real.dequantize()));
  const QuantizedTensor around = with_zeros(at::zeros({4}));
  const QuantizedTensor symmetric = with_integer_zeros(around, true);
  EXPECT_TRUE(symmetric.scheme.symmetric && !symmetric.zero_points.defined());
  EXPECT_TRUE(symmetric.dequantize().equal(around.dequantize()));
}

}  // namespace
}  // namespace lathe
