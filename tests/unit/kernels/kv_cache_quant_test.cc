#include "lib/kernels/kv_cache_quant.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/numeric/level_grid.h"

namespace lathe::kernels {
namespace {

const KvCacheScheme kFp8{}, kInt8{"int", 8};

/// Any shape, by one scale.
at::Tensor rounded(const at::Tensor& x, const KvCacheScheme& scheme, float scale) {
  return fake_quantize_cache(x.reshape({1, 1, 1, -1}), scheme, {scale}).view(x.sizes());
}

/// The nearest level, of two the one whose index in the grid, which is its code, is even.
double nearest_level(double x, const std::vector<double>& levels) {
  size_t best = 0;
  for (size_t i = 1; i < levels.size(); ++i) {
    const double was = std::abs(levels[best] - std::abs(x)), is = std::abs(levels[i] - std::abs(x));
    if (is < was || (is == was && i % 2 == 0)) best = i;
  }
  return std::copysign(levels[best], x);
}

TEST(FakeQuantizeCache, Fp8IsTheNearestLevelOfE4m3) {
  const std::vector<double> levels = fp8_e4m3_levels().levels;
  at::manual_seed(1);
  // Levels, the middles between them, what is beyond, and numbers of all sizes.
  std::vector<float> values = {448.5f, 1e6f, std::numeric_limits<float>::infinity(), 1e-9f};
  for (size_t i = 0; i < levels.size(); ++i) {
    values.push_back(static_cast<float>(levels[i]));
    if (i > 0) values.push_back(static_cast<float>((levels[i] + levels[i - 1]) / 2));
  }
  at::Tensor x = at::cat({at::tensor(values, at::kFloat), at::randn({2000}).mul(2).exp()});
  x = at::cat({x, -x});
  const at::Tensor y = rounded(x, kFp8, 1);
  for (int64_t i = 0; i < x.numel(); ++i)
    ASSERT_EQ(y[i].item<float>(), nearest_level(x[i].item<float>(), levels)) << x[i].item<float>();
}

TEST(FakeQuantizeCache, TheScaleStretchesTheGrid) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({2, 3, 5, 8}).mul(7).transpose(1, 2);
  for (const KvCacheScheme& scheme : {kFp8, kInt8}) {
    const float largest = x.abs().max().item<float>(), scale = kv_cache_scale(scheme, largest);
    const at::Tensor y = rounded(x, scheme, scale);
    EXPECT_EQ(y.sizes(), x.sizes());
    EXPECT_FALSE(y.equal(x));
    // Nothing is clipped by more than a rounding; the step is the grid's.
    EXPECT_NEAR(y.abs().max().item<float>(), largest, scheme.floating() ? 1e-5 * largest : scale * 0.51);
    const at::Tensor bound =
        scheme.floating() ? (x.abs() / 16).clamp_min(scale * 0x1p-10) : at::full({}, scale / 2);
    EXPECT_TRUE((y - x).abs().le(bound * 1.0001).all().item<bool>()) << scheme.describe();
    EXPECT_TRUE(rounded(y, scheme, scale).sub(y).abs().max().item<float>() <= 1e-6 * largest);
  }
}

TEST(FakeQuantizeCache, IntegersAreClampedAndTiesAreEven) {
  const at::Tensor x = at::tensor({-1000.f, -129.f, -0.5f, 0.5f, 1.5f, 2.5f, 127.4f, 500.f});
  const at::Tensor expected = at::tensor({-128.f, -128.f, 0.f, 0.f, 2.f, 2.f, 127.f, 127.f});
  EXPECT_TRUE(rounded(x, kInt8, 1).equal(expected));
}

TEST(FakeQuantizeCache, KeepsTheDtypeAndWhatIsNoNumber) {
  const at::Tensor x = at::tensor({0.3f, std::numeric_limits<float>::quiet_NaN(), -2.0f}).to(at::kBFloat16);
  const at::Tensor y = rounded(x, kFp8, 0.01f);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(std::isnan(y[1].item<float>()));
  EXPECT_TRUE(y[0].equal(rounded(x[0].to(at::kFloat), kFp8, 0.01f).to(at::kBFloat16)));
}

/// As compressed-tensors and vLLM spell it, operation by operation.
at::Tensor by_operations(const at::Tensor& x, const KvCacheScheme& scheme, const std::vector<float>& scales) {
  const at::Tensor step = at::tensor(scales, at::kFloat).view({-1, 1, 1});
  const at::Tensor codes = x.to(at::kFloat) / step;
  const at::Tensor numbers = scheme.floating() ? codes.clamp(-448, 448).to(at::kFloat8_e4m3fn).to(at::kFloat)
                                               : codes.round().clamp(-128, 127);
  return (numbers * step).to(x.scalar_type());
}

TEST(FakeQuantizeCache, IsTheLibrariesArithmeticInAnyLayout) {
  at::manual_seed(4);
  at::Tensor dense = at::randn({2, 37, 3, 16}).mul(3).exp();
  dense.select(3, 5).mul_(-1);
  dense[1][2][0][3] = std::numeric_limits<float>::infinity();
  dense[0][0][0][0] = 0;
  for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const at::Tensor x = dense.to(type);
    for (const at::Tensor& values :
         {x.transpose(1, 2), x.transpose(1, 2).contiguous(), x.transpose(1, 2).slice(3, 0, 8)})
      for (const KvCacheScheme& scheme : {kFp8, kInt8})
        for (const std::vector<float>& scales : {std::vector<float>{0.37f}, {0.37f, 1.9f, 0.011f}}) {
          const at::Tensor found = fake_quantize_cache(values, scheme, scales);
          EXPECT_EQ(found.scalar_type(), type);
          EXPECT_TRUE(found.equal(by_operations(values, scheme, scales)))
              << scheme.describe() << scales.size();
        }
  }
}

TEST(FakeQuantizeCache, EveryHeadHasItsScale) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({2, 3, 5, 8});
  const std::vector<float> scales = {0.5f, 0.01f, 2.0f};
  for (const KvCacheScheme& scheme : {kFp8, kInt8}) {
    const at::Tensor y = fake_quantize_cache(x, scheme, scales);
    for (int64_t head = 0; head < 3; ++head) {
      const at::Tensor alone = x.slice(1, head, head + 1);
      EXPECT_TRUE(y.slice(1, head, head + 1)
                      .equal(fake_quantize_cache(alone, scheme, {scales[static_cast<size_t>(head)]})));
    }
  }
}

TEST(KvCacheScale, CoversTheLargestAndIsNeverZero) {
  EXPECT_EQ(kv_cache_scale(kFp8, 448), 1);
  EXPECT_EQ(kv_cache_scale(kInt8, 255), 2);
  EXPECT_EQ(kv_cache_scale(kFp8, 0), 1);
  EXPECT_GT(kv_cache_scale(kFp8, std::numeric_limits<float>::denorm_min()), 0);
}

}  // namespace
}  // namespace lathe::kernels
