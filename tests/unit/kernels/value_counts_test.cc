#include "lib/kernels/value_counts.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/kernels/device/value_bins.cuh"

namespace lathe::kernels {
namespace {

using device::bin_edge;
using device::bin_of;
using device::BinScale;
using device::float_bits;
using device::kChannelBins;
using device::kValueBins;

TEST(ValueBins, EveryValueLiesInItsBinAndNearItsMiddle) {
  for (const BinScale scale : {kValueBins, kChannelBins}) {
    const double bound = std::ldexp(1.0, -scale.mantissa_bits - 1);
    for (int32_t bin = 1; bin < device::bin_count(scale); bin += 7) {
      const float low = bin_edge(bin, scale), high = bin_edge(bin + 1, scale);
      const double middle = (static_cast<double>(low) + high) / 2;
      for (const float value : {low, std::nextafterf(low, high), std::nextafterf(high, 0)}) {
        ASSERT_EQ(bin_of(float_bits(value), scale), bin) << value;
        ASSERT_LE(std::abs(middle - value), bound * value) << value;
      }
    }
  }
}

TEST(ValueBins, EndsTakeWhatLiesBeyond) {
  for (const BinScale scale : {kValueBins, kChannelBins}) {
    const int32_t last = device::bin_count(scale) - 1;
    EXPECT_EQ(bin_of(0, scale), 0);
    EXPECT_EQ(bin_of(float_bits(1e-45f), scale), 0);
    EXPECT_EQ(bin_of(float_bits(std::nextafterf(bin_edge(1, scale), 0)), scale), 0);
    EXPECT_EQ(bin_of(float_bits(bin_edge(1, scale)), scale), 1);
    EXPECT_EQ(bin_of(float_bits(3e38f), scale), last);
    EXPECT_EQ(bin_of(0x7f800000u, scale), last);
  }
  EXPECT_EQ(bin_edge(1, kValueBins), std::ldexp(1.0f, -30));
  EXPECT_GT(bin_edge(device::bin_count(kValueBins), kValueBins), std::ldexp(1.0f, 58));
}

TEST(ValueBins, AWindowHoldsItsTopAndTheOctaveAboveAndLiesWithinTheSketch) {
  const int32_t bins = device::bin_count(kValueBins);
  for (int32_t top = 0; top < bins; ++top) {
    const int32_t begin = device::window_begin(top), end = begin + device::kWindowBins;
    ASSERT_GE(begin, 1);
    ASSERT_LE(end, bins);
    ASSERT_TRUE(top == 0 || (top >= begin && top < end)) << top;
    ASSERT_TRUE(end == bins || end > top + device::kOctaveBins) << top;
  }
}

/// The counts by hand, from std::frexp instead of bits.
at::Tensor counts_by_hand(const at::Tensor& x) {
  at::Tensor counts = at::zeros({2, value_bin_count()}, at::kLong);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double value = x.view({-1})[i].item<float>();
    int exponent = 0;
    const double mantissa = std::frexp(std::abs(value), &exponent) * 2;  // [1, 2)
    const int64_t octave = exponent - 1 - kValueBins.lowest;
    const bool tiny = value == 0 || octave < 0;
    const int64_t bin = tiny ? 0 : 1 + octave * 1024 + static_cast<int64_t>((mantissa - 1) * 1024);
    counts[std::signbit(value) ? 1 : 0][bin] += 1;
  }
  return counts;
}

TEST(ValueCounts, EqualCountsByHandAndAddUp) {
  at::manual_seed(2);
  at::Tensor x = at::randn({30, 41}) * at::randn({41}).exp();
  x[0][0] = 0.0f;
  x[0][1] = -0.0f;
  x[0][2] = 1e-30f;
  at::Tensor counts = at::zeros({2, value_bin_count()}, at::kLong);
  add_value_counts(x, counts);
  EXPECT_TRUE(at::equal(counts, counts_by_hand(x)));
  add_value_counts(x.slice(0, 0, 10), counts);
  EXPECT_TRUE(at::equal(counts, counts_by_hand(x) + counts_by_hand(x.slice(0, 0, 10))));
}

TEST(ValueCounts, LargeMatricesAreCountedByManyThreadsExactly) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({1000, 300});
  at::Tensor counts = at::zeros({2, value_bin_count()}, at::kLong), parts = at::zeros_like(counts);
  add_value_counts(x, counts);
  for (const at::Tensor& row : x.split(1)) add_value_counts(row, parts);
  EXPECT_TRUE(at::equal(counts, parts));
  EXPECT_EQ(counts.sum().item<int64_t>(), 300000);
}

TEST(ChannelValueCounts, CountEachChannelsMagnitudes) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({50, 130}) * 3;
  at::Tensor counts = at::zeros({130, channel_bin_count()}, at::kInt), expected = at::zeros_like(counts);
  add_channel_value_counts(x, counts);
  for (int64_t row = 0; row < 50; ++row) {
    for (int64_t channel = 0; channel < 130; ++channel) {
      const float magnitude = std::abs(x[row][channel].item<float>());
      expected[channel][bin_of(float_bits(magnitude), kChannelBins)] += 1;
    }
  }
  EXPECT_TRUE(at::equal(counts, expected));
}

TEST(RowExtent, IsEachRowsMinimumAndMaximum) {
  at::manual_seed(5);
  for (const int64_t width : {1, 15, 16, 17, 1000}) {
    const at::Tensor x = at::randn({40, width});
    const RowExtent extent = row_extent(x);
    EXPECT_TRUE(at::equal(extent.low, x.amin(1)));
    EXPECT_TRUE(at::equal(extent.high, x.amax(1)));
  }
  EXPECT_FALSE(std::signbit(row_extent(at::full({1, 40}, -0.0f)).low[0].item<float>()));
}

TEST(ValueCounts, TablesOfAnotherShapeAreInternalErrors) {
  at::Tensor counts = at::zeros({2, 100}, at::kLong);
  EXPECT_THROW(add_value_counts(at::ones({2, 2}), counts), InternalError);
  at::Tensor channels = at::zeros({3, channel_bin_count()}, at::kInt);
  EXPECT_THROW(add_channel_value_counts(at::ones({2, 2}), channels), InternalError);
}

}  // namespace
}  // namespace lathe::kernels
