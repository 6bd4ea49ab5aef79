// Histograms of scales: bins by hand, and GGUF's scales against the values that the blocks stand for.
#include "lib/numeric/scale_counts.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/numeric/ggml_block.h"

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

TEST(ScaleCounts, APowerOfTwoBeginsABinAndAnOctaveHasFour) {
  // 2^(1/4) = 1.189..., 2^(1/2) = 1.414..., 2^(3/4) = 1.681...
  const ScaleCounts found = count_scales(at::tensor({1.0, 1.18, 1.2, 1.5, 1.99, 2.0, -0.5}));
  EXPECT_EQ(found.first, -4);
  EXPECT_THAT(found.counts, ElementsAre(1, 0, 0, 0, 2, 1, 1, 1, 1));
  EXPECT_EQ(found.zeros, 0);
  EXPECT_EQ(found.total(), 7);
  EXPECT_EQ(found.least, 0.5);
  EXPECT_EQ(found.largest, 2.0);
  EXPECT_NEAR(found.median(), std::exp2(1.5 / 4), 1e-12);  // the fourth of seven: 1.2
}

TEST(ScaleCounts, OfAllOfFp32sRangeAreTheBinsThatTheHeaderSays) {
  const ScaleCounts found = count_scales(at::tensor({0x1p-149, 0x1.fffffep127}));
  EXPECT_EQ(found.first, -149 * 4);
  EXPECT_EQ(found.counts.size(), 1108u);
}

TEST(ScaleCounts, ZeroAndWhatIsNoNumberIsInNoBin) {
  const ScaleCounts found = count_scales(at::tensor({0.0f, 1.0f, kNaN, kInf}));
  EXPECT_THAT(found.counts, ElementsAre(1));
  EXPECT_EQ(found.zeros, 3);
  const ScaleCounts none = count_scales(at::zeros({2, 2}));
  EXPECT_THAT(none.counts, IsEmpty());
  EXPECT_EQ(none.zeros, 4);
  EXPECT_EQ(none.median(), 0);
}

TEST(ScaleCounts, AddUpToThoseOfAll) {
  at::manual_seed(3);
  const at::Tensor scales = at::randn({200}).exp();
  ScaleCounts sum;
  for (const at::Tensor& part : scales.split(37)) sum.add(count_scales(part));
  const ScaleCounts all = count_scales(scales);
  EXPECT_EQ(sum.first, all.first);
  EXPECT_EQ(sum.counts, all.counts);
  EXPECT_EQ(sum.least, all.least);
  EXPECT_EQ(sum.largest, all.largest);
  sum.add(count_scales(at::zeros({3})));
  EXPECT_EQ(sum.counts, all.counts);
  EXPECT_EQ(sum.zeros, 3);
}

TEST(ScaleCounts, OfAQuantisedMatrixAreItsScalesTimesTheGlobalOneOfASample) {
  QuantizedTensor tensor;
  EXPECT_FALSE(count_scales(tensor));
  tensor.scales = at::full({512, 256}, 2.0);  // twice as many as are looked at
  tensor.global_scale = at::full({1}, 0.25);
  const auto found = count_scales(tensor);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->first, -4);
  EXPECT_THAT(found->counts, ElementsAre(ScaleCounts::kSampled));
}

/// A row of blocks with codes that reach both ends of the type's levels in every group.
void expect_scales_explain_values(GgmlType type) {
  const GgmlTraits& format = traits(type);
  SCOPED_TRACE(std::string(format.name));
  const int64_t columns = 2 * format.length;
  at::Tensor blocks = at::zeros({3, row_bytes(type, columns)}, at::kByte);
  std::vector<float> expected;
  for (int64_t b = 0; b < 6; ++b) {
    GgmlBlock block;
    block.d =
        type == GgmlType::MXFP4 ? static_cast<uint16_t>(120 + b) : to_half(0.01f * static_cast<float>(b + 1));
    block.dmin = 0;
    for (int64_t g = 0; g < format.length / format.group; ++g) {
      if (format.scale_levels > 0)
        block.scales[static_cast<size_t>(g)] =
            static_cast<uint8_t>((5 * b + 3 * g + 1) % format.scale_levels);
      block.codes[static_cast<size_t>(g * format.group)] = static_cast<uint8_t>(format.levels - 1);
    }
    pack(type, block, blocks.data_ptr<uint8_t>() + b * format.bytes);
    std::vector<float> made(static_cast<size_t>(format.length));
    values(type, block, made.data());
    const int8_t* const table = ggml_levels(type);
    const int top = table != nullptr ? table[format.levels - 1] : format.levels - 1 - format.offset;
    // E2M1's values are half of MXFP4's levels.
    const float level = static_cast<float>(top) / (type == GgmlType::MXFP4 ? 2.0f : 1.0f);
    for (int64_t g = 0; g < format.length / format.group; ++g)
      expected.push_back(made[static_cast<size_t>(g * format.group)] / level);
  }
  const at::Tensor found = ggml_scales(blocks, type, columns);
  ASSERT_EQ(found.sizes(), (at::IntArrayRef{3, columns / format.group}));
  EXPECT_TRUE(found.flatten().allclose(at::tensor(expected), 1e-6, 0)) << found << at::tensor(expected);
}

TEST(ScaleCounts, OfGgmlBlocksAreWhatTheirLevelsAreMultipliedBy) {
  int types = 0;
  for (const GgmlTraits& format : ggml_types()) {
    if (!format.made || format.length == 1) continue;
    expect_scales_explain_values(format.type);
    ++types;
  }
  EXPECT_GE(types, 14);
}

}  // namespace
}  // namespace lathe
