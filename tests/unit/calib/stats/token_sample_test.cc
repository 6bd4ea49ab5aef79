#include "calib/stats/token_sample.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "calib/stats/input_histogram.h"
#include "tests/unit/calib/stats/collect.h"

namespace lathe {
namespace {

constexpr int64_t kWidth = 16384;  // four tokens are kept
at::Tensor tokens(int64_t first, int64_t end) {
  return at::arange(first, end, at::kFloat).unsqueeze(1).expand({end - first, kWidth});
}
std::vector<float> kept(const TokenSample& sample) {
  const at::Tensor column = sample.finish().select(1, 0).contiguous();
  return {column.const_data_ptr<float>(), column.const_data_ptr<float>() + column.numel()};
}

TEST(TokenSample, IsEvenlySpreadWhateverTheNumber) {
  ASSERT_EQ(TokenSample::rows_of(kWidth), 4);
  const std::vector<std::pair<int64_t, std::vector<float>>> cases = {
      {1, {0}},       {4, {0, 1, 2, 3}},   {5, {0, 2, 4}},   {8, {0, 2, 4, 6}},
      {9, {0, 4, 8}}, {16, {0, 4, 8, 12}}, {17, {0, 8, 16}}, {100, {0, 32, 64, 96}}};
  for (const auto& [count, expected] : cases) {
    TokenSample whole(kWidth), parts(kWidth);
    whole.observe(tokens(0, count));
    for (int64_t at = 0; at < count; at += 3) parts.observe(tokens(at, std::min(at + 3, count)));
    EXPECT_EQ(kept(whole), expected) << count;
    EXPECT_EQ(kept(parts), expected) << count << " in parts";
  }
  EXPECT_FALSE(TokenSample(kWidth).finish().defined());
}

TEST(TokenSample, KeepsAtLeastTwoTokensAndNoMoreThanItsValues) {
  EXPECT_EQ(TokenSample::rows_of(1 << 20), 2);
  EXPECT_EQ(TokenSample::rows_of(64), 1024);
}

TEST(TokenSample, MergesToAnEvenSample) {
  TokenSample first(kWidth), second(kWidth);
  first.observe(tokens(0, 16));
  second.observe(tokens(16, 20));
  first.merge(second);
  EXPECT_EQ(kept(first), (std::vector<float>{0, 8, 16})) << "0, 4, 8, 12 and 16, thinned";
  first.observe(tokens(20, 33));
  EXPECT_EQ(kept(first), (std::vector<float>{0, 16, 32})) << "24 and 32, and thinned once more";
}

TEST(TokenSample, IsCollectedAndFollowsAFold) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({3000, 64});
  const InputStats stats = collect(x, 700, {.sample = true});
  // Every fourth token: 3000 / 4 = 750 of 1024 at most.
  EXPECT_TRUE(stats.sample.equal(x.slice(0, 0, 3000, 4)));
  const at::Tensor scales = at::linspace(0.5, 2, 64);
  const InputStats folded = stats.with_inputs_divided(scales);
  EXPECT_TRUE(folded.sample.allclose(stats.sample / scales, 1e-6, 0));
  EXPECT_TRUE(folded.held().sample && folded.lost == StatSet{});
}

TEST(InputHistogram, CountsEveryValueInItsBin) {
  const at::Tensor x = at::tensor({-4.0, -3.9, -0.01, 0.01, 1.0, 3.99, 4.0, 0.1}).view({2, 4});
  const InputHistogram histogram = count_inputs(x).read();
  EXPECT_EQ(histogram.limit, 4);
  std::vector<int64_t> expected(InputHistogram::kBins);  // an eighth each
  expected[0] = 2;
  expected[31] = 1;
  expected[32] = 2;
  expected[40] = 1;
  expected[63] = 2;
  EXPECT_EQ(histogram.counts, expected);
  const InputHistogram zeros = count_inputs(at::zeros({2, 3})).read();
  EXPECT_EQ(zeros.limit, 0);
  EXPECT_EQ(zeros.counts[32], 6);
}

}  // namespace
}  // namespace lathe
