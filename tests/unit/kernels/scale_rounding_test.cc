// The portable rounding of scales against ATen's casts.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::device {
namespace {

/// Every exponent with the significands near each rounding boundary, both signs.
std::vector<float> interesting_values() {
  std::vector<float> values;
  for (uint32_t exponent = 0; exponent < 256; ++exponent) {
    for (const uint32_t kept : {0u, 1u, 2u, 3u, 0x1ffu, 0x3feu, 0x3ffu}) {
      for (const uint32_t shift : {13u, 16u, 14u, 20u, 22u}) {
        for (const int32_t offset : {-1, 0, 1}) {
          const uint32_t half = 1u << (shift - 1);
          for (const uint32_t tail : {0u, half}) {
            const uint32_t significand = ((kept << shift) + tail + static_cast<uint32_t>(offset)) & 0x7fffffu;
            values.push_back(bits_float((exponent << 23) | significand));
            values.push_back(-values.back());
          }
        }
      }
    }
  }
  return values;
}

void expect_same(float ours, float theirs, float input) {
  if (std::isnan(theirs)) {
    EXPECT_TRUE(std::isnan(ours)) << std::hexfloat << input;
  } else {
    EXPECT_EQ(float_bits(ours), float_bits(theirs)) << std::hexfloat << input;
  }
}

TEST(ScaleRounding, EqualsAtenCasts) {
  std::vector<float> values = interesting_values();
  ASSERT_GT(values.size(), 50000u);
  const at::Tensor input = at::from_blob(values.data(), {static_cast<int64_t>(values.size())});
  const at::Tensor half = input.to(at::kHalf).to(at::kFloat), brain = input.to(at::kBFloat16).to(at::kFloat);
  for (size_t i = 0; i < values.size(); ++i) {
    expect_same(round_to_f16(values[i]), half.const_data_ptr<float>()[i], values[i]);
    expect_same(round_to_bf16(values[i]), brain.const_data_ptr<float>()[i], values[i]);
  }
}

TEST(ScaleRounding, KeepsEveryHalfAndEveryMidpointGoesToEven) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const float value = static_cast<float>(c10::Half(static_cast<uint16_t>(bits), c10::Half::from_bits()));
    ASSERT_EQ(float_bits(round_to_f16(value)), float_bits(value));
    if (bits + 1 == 0x7c00) continue;
    const float next = static_cast<float>(c10::Half(static_cast<uint16_t>(bits + 1), c10::Half::from_bits()));
    ASSERT_EQ(round_to_f16(value + (next - value) * 0.5f), bits % 2 == 0 ? value : next) << bits;
  }
}

TEST(RoundHalfEven, EqualsNearbyintInTheRangeOfCodes) {
  for (int i = -4096; i <= 4096; ++i) {
    const float x = static_cast<float>(i) * 0.125f;
    ASSERT_EQ(round_half_even(x), std::nearbyint(x)) << x;
  }
}

}  // namespace
}  // namespace lathe::device
