// What lies beyond a static scale's grid: where the reach ends, and how many values are counted.
#include "lib/kernels/input_overflow.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/base/error.h"
#include "lib/kernels/input_quant.h"
#include "lib/numeric/hadamard.h"

namespace lathe::kernels {
namespace {

using Per = ActivationScheme::Per;

InputQuantizer static_fp8(const char* type, float scale) {
  ActivationScheme scheme = ActivationScheme::of_floats(type);
  scheme.dynamic = false;
  scheme.per = Per::tensor;
  return {scheme, scale};
}

InputQuantizer static_int8(float scale, bool symmetric, int zero_point) {
  return {{"int", 8, false, Per::tensor, symmetric}, scale, zero_point};
}

TEST(InputOverflow, TheReachEndsHalfAStepBehindTheLastNumber) {
  EXPECT_EQ(input_reach(static_fp8("fp8_e4m3", 0.5f)).largest, 232);  // 0.5 (448 + 16)
  EXPECT_EQ(input_reach(static_fp8("fp8_e4m3", 0.5f)).lowest, -232);
  EXPECT_EQ(input_reach(static_fp8("fp8_e5m2", 1)).largest, 57344 + 4096);
  EXPECT_EQ(input_reach(static_int8(2, true, 0)).largest, 255);     // 2 * 127.5
  EXPECT_EQ(input_reach(static_int8(2, true, 0)).lowest, -257);     // 2 * -128.5
  EXPECT_EQ(input_reach(static_int8(2, false, -28)).largest, 311);  // 2 * (127 + 28 + 0.5)
  EXPECT_EQ(input_reach(static_int8(2, false, -28)).lowest, -201);  // 2 * (-128 + 28 - 0.5)
  EXPECT_THROW(input_reach({ActivationScheme{}}), InternalError);
}

TEST(InputOverflow, CountsWhatLiesBeyond) {
  const float infinity = std::numeric_limits<float>::infinity();
  const at::Tensor x =
      at::tensor({0.f, 232.f, -232.f, 232.1f, -240.f, infinity, std::nanf(""), 1.f}).view({2, 4});
  EXPECT_EQ(count_overflow(x, static_fp8("fp8_e4m3", 0.5f)).item<int64_t>(), 3);
  EXPECT_EQ(count_overflow(x.to(at::kHalf), static_fp8("fp8_e4m3", 0.5f)).item<int64_t>(), 3);
  EXPECT_EQ(count_overflow(x, static_fp8("fp8_e4m3", 1)).item<int64_t>(), 1);
  EXPECT_EQ(count_overflow(at::empty({0, 4}), static_fp8("fp8_e4m3", 1)).item<int64_t>(), 0);
}

// Held against the rounding itself: what is counted is what loses more than half a step of the grid's end.
TEST(InputOverflow, IsWhatRoundingLosesMoreThanHalfAStepOf) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({64, 96}) * 40;
  for (const InputQuantizer& quantizer :
       {static_int8(0.5f, true, 0), static_int8(0.5f, false, -28), static_fp8("fp8_e4m3", 0.125f)}) {
    const bool floats = quantizer.scheme.float_grid() != nullptr;
    const double half = quantizer.scale * (floats ? 16 : 0.5);  // of the last step, the widest
    const at::Tensor lost = (x - fake_quantize_input(x, quantizer)).abs() > half;
    EXPECT_GT(lost.sum().item<int64_t>(), 10);
    EXPECT_EQ(count_overflow(x, quantizer).item<int64_t>(), lost.sum().item<int64_t>());
  }
}

TEST(InputOverflow, RotatedInputsAreCountedAsTheyAreRounded) {
  at::Tensor x = at::zeros({1, 32});
  x[0][5] = 100;  // 100 / sqrt(16) everywhere in its block
  InputQuantizer quantizer = static_int8(0.25f, true, 0);
  EXPECT_EQ(count_overflow(x, quantizer).item<int64_t>(), 1);
  quantizer.hadamard = 16;
  EXPECT_EQ(count_overflow(x, quantizer).item<int64_t>(), 0);
  quantizer.scale = 0.125f;  // reaches 15.9
  EXPECT_EQ(count_overflow(x, quantizer).item<int64_t>(), 16);
}

}  // namespace
}  // namespace lathe::kernels
