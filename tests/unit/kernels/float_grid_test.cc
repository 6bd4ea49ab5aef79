// The fast rounding to floating-point formats, held against the reference code by code, and against ATen's
// own types.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "lib/kernels/device/float_grid.cuh"
#include "lib/kernels/device/group_search.cuh"
#include "lib/kernels/group_grid.h"
#include "lib/numeric/float_format.h"

namespace lathe::kernels {
namespace {

/// Numbers of all magnitudes around the format's, every number of it, every middle and its neighbours.
std::vector<float> probes(const FloatFormat& format) {
  std::vector<float> numbers = {0.0f, -0.0f, 1e-38f, 1e-45f, 3e38f, std::numeric_limits<float>::infinity()};
  for (int code = 0; code + 1 < format.sign(); ++code) {
    const double low = decode_float(format, static_cast<uint8_t>(code));
    const double high = decode_float(format, static_cast<uint8_t>(code + 1));
    if (!std::isfinite(high)) break;
    const auto middle = static_cast<float>((low + high) / 2);
    for (const float x : {static_cast<float>(low), middle, std::nextafterf(middle, 0.0f),
                          std::nextafterf(middle, std::numeric_limits<float>::infinity())})
      numbers.push_back(x);
  }
  std::mt19937 random(3);
  std::uniform_real_distribution<float> exponent(-30, 20);
  for (int i = 0; i < 2000; ++i) numbers.push_back(std::exp2f(exponent(random)));
  const size_t positive = numbers.size();
  for (size_t i = 0; i < positive; ++i) numbers.push_back(-numbers[i]);
  return numbers;
}

TEST(FloatGrid, FastRoundingIsTheReferences) {
  for (const FloatFormat& format : float_formats()) {
    SCOPED_TRACE(format.name);
    const device::Minifloat fast = minifloat_of(format);
    for (const float x : probes(format)) {
      const uint8_t expected = encode_float(format, x);
      const float rounded = device::nearest_number(x, fast);
      ASSERT_EQ(device::number_code(rounded, fast), expected) << x;
      ASSERT_EQ(device::nearest_code(x, fast), expected) << x;
      ASSERT_EQ(device::float_bits(rounded),
                device::float_bits(static_cast<float>(decode_float(format, expected))))
          << x;
    }
  }
}

/// By a look at every number, in FP64; ties to the even code.
double nearest_of_all(const FloatFormat& format, double x) {
  double nearest = 0;
  const double wanted = std::min(std::abs(x), format.largest);
  for (int code = 1; code < format.sign(); ++code) {
    const double number = decode_float(format, static_cast<uint8_t>(code));
    if (!std::isfinite(number)) break;
    const double own = std::abs(number - wanted), best = std::abs(nearest - wanted);
    if (own < best || (own == best && code % 2 == 0)) nearest = number;
  }
  return std::signbit(x) ? -nearest : nearest;
}

// Next to a middle FP32 would make a tie of it.
TEST(FloatGrid, Fp64IsNotRoundedTwice) {
  for (const FloatFormat& format : float_formats()) {
    SCOPED_TRACE(format.name);
    const device::Minifloat fast = minifloat_of(format);
    for (const float x : probes(format)) {
      for (const double near : {double(x), x * (1 + 1e-12), x * (1 - 1e-12)}) {
        const double rounded = device::nearest_number(near, fast);
        ASSERT_EQ(rounded, nearest_of_all(format, near)) << near;
        ASSERT_EQ(std::signbit(rounded), std::signbit(near)) << near;
      }
    }
    EXPECT_TRUE(std::isnan(device::nearest_number(std::nan(""), fast)));
  }
}

TEST(FloatGrid, EveryFiniteCodeIsDecoded) {
  for (const FloatFormat& format : float_formats()) {
    SCOPED_TRACE(format.name);
    const device::Minifloat fast = minifloat_of(format);
    for (int code = 0; code < format.codes(); ++code) {
      const double expected = decode_float(format, static_cast<uint8_t>(code));
      if (!std::isfinite(expected)) continue;
      const float found = device::code_number(static_cast<uint8_t>(code), fast);
      EXPECT_EQ(device::float_bits(found), device::float_bits(static_cast<float>(expected))) << code;
    }
  }
}

TEST(FloatGrid, NanStaysNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const FloatFormat& format : float_formats())
    EXPECT_TRUE(std::isnan(device::nearest_number(nan, minifloat_of(format))));
  EXPECT_TRUE(std::isnan(device::block_scale_e4m3(nan, 6, 1)));
  EXPECT_TRUE(std::isnan(device::block_scale_e8m0(nan, minifloat_of(kE2M1))));
}

TEST(FloatGrid, Fp8RoundsAsAtenDoes) {
  for (const auto& [format, type] :
       {std::pair{kE4M3, at::kFloat8_e4m3fn}, std::pair{kE5M2, at::kFloat8_e5m2}}) {
    const std::vector<float> numbers = probes(format);
    const at::Tensor x = at::tensor(numbers).clamp(-format.largest, format.largest);
    const at::Tensor expected = x.to(type).view(at::kByte);
    for (size_t i = 0; i < numbers.size(); ++i) {
      const float rounded = device::nearest_number(numbers[i], minifloat_of(format));
      ASSERT_EQ(device::number_code(rounded, minifloat_of(format)), expected.const_data_ptr<uint8_t>()[i])
          << numbers[i];
    }
  }
}

TEST(FloatGrid, BlockScalesAreTheReferences) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> exponent(-40, 40);
  for (int i = 0; i < 3000; ++i) {
    const float largest = std::exp2f(exponent(random));
    for (const FloatFormat& format : float_formats()) {
      EXPECT_EQ(device::block_scale_e8m0(largest, minifloat_of(format)),
                decode_e8m0(encode_e8m0_scale(format, largest)));
    }
    const float scale = device::block_scale_e4m3(largest, 6, 0.01f);
    const float wanted = largest / (6 * 0.01f);
    EXPECT_EQ(scale, decode_float(kE4M3, encode_float(kE4M3, std::max(wanted, device::kSmallestE4M3))))
        << largest;
    EXPECT_GT(scale, 0);
  }
  EXPECT_EQ(device::block_scale_e4m3(0, 6, 0.01f), 1);
  EXPECT_EQ(device::block_scale_e8m0(0, minifloat_of(kE2M1)), 1);
}

TEST(FloatGrid, SteppedScalesAreTheNeighbouringCodes) {
  const auto e4m3 = device::ScaleType::e4m3, e8m0 = device::ScaleType::e8m0;
  for (int code = 1; code < 126; ++code) {
    const auto scale = static_cast<float>(decode_float(kE4M3, static_cast<uint8_t>(code)));
    EXPECT_EQ(device::stepped_scale(scale, 1, e4m3), decode_float(kE4M3, static_cast<uint8_t>(code + 1)));
    EXPECT_EQ(device::stepped_scale(scale, 0, e4m3), scale);
  }
  EXPECT_EQ(device::stepped_scale(device::kSmallestE4M3, -3, e4m3), device::kSmallestE4M3);
  EXPECT_EQ(device::stepped_scale(448, 3, e4m3), 448);
  EXPECT_EQ(device::stepped_scale(0.5f, 2, e8m0), 2);
}

TEST(FloatGrid, AScalesMagnitudeGetsThatScaleAgain) {
  const float global = 0.0123f;
  for (const FloatFormat& format : {kE2M1, kE4M3}) {
    device::Grid grid{.number = minifloat_of(format), .global = &global};
    grid.scale_type = device::ScaleType::e4m3;
    for (int code = 1; code < 127; ++code) {
      const auto scale = static_cast<float>(decode_float(kE4M3, static_cast<uint8_t>(code)));
      const float end = device::magnitude_of_scale(scale, grid);
      EXPECT_EQ(device::choose_float_scale(-end, end, grid), scale);
    }
    grid.scale_type = device::ScaleType::e8m0;
    for (int power = -100; power < 100; ++power) {
      const float end = device::magnitude_of_scale(std::ldexp(1.0f, power), grid);
      EXPECT_EQ(device::choose_float_scale(-end, end, grid), std::ldexp(1.0f, power));
    }
  }
}

}  // namespace
}  // namespace lathe::kernels
