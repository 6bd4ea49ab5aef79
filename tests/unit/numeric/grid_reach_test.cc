#include "lib/numeric/grid_reach.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace lathe {
namespace {

void expect_reach(const QuantizedTensor& tensor, double least, double median, double largest) {
  const auto found = grid_reach(tensor);
  ASSERT_TRUE(found);
  EXPECT_NEAR(found->least, least, 1e-6 * least);
  EXPECT_NEAR(found->median, median, 1e-6 * median);
  EXPECT_NEAR(found->largest, largest, 1e-6 * largest);
}

// No weight of a group is larger than what its codes can say, and one code says that much.
TEST(GridReach, IsTheLargestMagnitudeOfAnyCode) {
  const at::Tensor scales = at::tensor({0.5f, 2.0f, 1.0f}).view({3, 1});
  QuantizedTensor tensor{.scheme = {.bits = 3, .group_size = -1, .symmetric = false},
                         .codes = at::zeros({3, 8}, at::kChar),
                         .scales = scales,
                         .zero_points = at::tensor({-4, 0, 3}, at::kChar).view({3, 1})};
  tensor.codes.copy_(at::arange(-4, 4).expand({3, 8}));
  const at::Tensor most = tensor.dequantize().abs().amax(1);  // 7 / 2, 4 * 2, 7
  expect_reach(tensor, most[0].item<double>(), most[2].item<double>(), most[1].item<double>());
  tensor.scheme.real_zero = true;
  tensor.zero_points = at::tensor({-0.5f, 0.25f, 2.5f}).view({3, 1});
  const at::Tensor real = tensor.dequantize().abs().amax(1);
  expect_reach(tensor, real[0].item<double>(), real[2].item<double>(), real[1].item<double>());
}

TEST(GridReach, OfSymmetricGridsIsTheLowestCodes) {
  expect_reach({.scheme = {.bits = 4, .group_size = 2},
                .codes = at::zeros({1, 6}, at::kChar),
                .scales = at::tensor({0.25f, 1.0f, 0.5f}).view({1, 3}),
                .zero_points = {}},
               2, 4, 8);
}

TEST(GridReach, OfFloatsIsTheLargestNumbersWithBothScales) {
  QuantizedTensor tensor{.scheme = Scheme::of_floats("nvfp4"),
                         .codes = at::zeros({1, 48}, at::kChar),
                         .scales = at::tensor({2.0f, 3.0f, 448.0f}).view({1, 3}),
                         .zero_points = {}};
  tensor.global_scale = at::scalar_tensor(0.5f);
  expect_reach(tensor, 6, 9, 6 * 224);
  expect_reach({.scheme = Scheme::of_floats("fp8_e4m3", -1, -1),
                .codes = at::zeros({2, 4}, at::kChar),
                .scales = at::full({1, 1}, 0.5f),
                .zero_points = {}},
               224, 224, 224);
}

TEST(GridReach, OfWeightsAsTheyAreThereIsNone) {
  QuantizedTensor tensor;
  tensor.scheme = Scheme::as_they_are();
  tensor.values = at::ones({2, 2});
  EXPECT_FALSE(grid_reach(tensor));
}

}  // namespace
}  // namespace lathe
