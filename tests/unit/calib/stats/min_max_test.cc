#include "calib/stats/min_max.h"

#include <cmath>

#include "lib/base/error.h"
#include "tests/unit/calib/stats/collect.h"

namespace lathe {
namespace {

constexpr int64_t kChunk = StatsCollector::kChunkTokens;

TEST(MinMax, GroupsAndTheTensorFollowFromTheChannels) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({40, 24});
  const MinMax channels = collect(x, 40, {.min_max = true}).min_max;
  const MinMax groups = grouped(channels, 8), all = grouped(channels, -1);
  EXPECT_TRUE(at::equal(groups.low, x.view({40, 3, 8}).amin(2).amin(0)));
  EXPECT_TRUE(at::equal(groups.high, x.view({40, 3, 8}).amax(2).amax(0)));
  EXPECT_EQ(all.low.item<float>(), x.min().item<float>());
  EXPECT_EQ(all.high.item<float>(), x.max().item<float>());
  EXPECT_TRUE(at::equal(largest_magnitudes(channels), x.abs().amax(0)));
  EXPECT_TRUE(at::equal(largest_magnitudes(groups), x.abs().amax(0).view({3, 8}).amax(1)));
  EXPECT_THROW(grouped(channels, 7), InternalError);
}

TEST(MinMax, AZeroHasOneSign) {
  for (const auto& values : {std::vector<float>{-0.0f, 0.0f}, {0.0f, -0.0f}}) {
    const at::Tensor x = at::tensor(values).view({2, 1});
    const MinMax range = collect(x, 1, {.min_max = true}).min_max;
    EXPECT_FALSE(std::signbit(range.low.item<float>()) || std::signbit(range.high.item<float>()));
  }
}

/// torch.ao.quantization.MovingAverageMinMaxObserver.forward over steps of a chunk, with averaging_constant
/// c.
MinMax pytorchs(const at::Tensor& x, double c) {
  double low = 0, high = 0;
  for (int64_t begin = 0; begin < x.size(0); begin += kChunk) {
    const at::Tensor chunk = x.slice(0, begin, begin + kChunk);
    const double chunk_low = chunk.min().item<float>(), chunk_high = chunk.max().item<float>();
    low = begin == 0 ? chunk_low : low + c * (chunk_low - low);
    high = begin == 0 ? chunk_high : high + c * (chunk_high - high);
  }
  return {at::scalar_tensor(low, at::kFloat), at::scalar_tensor(high, at::kFloat)};
}

void expect_near(const MinMax& found, int64_t index, const MinMax& expected) {
  EXPECT_NEAR(found.low[index].item<float>(), expected.low.item<float>(), 1e-5) << index;
  EXPECT_NEAR(found.high[index].item<float>(), expected.high.item<float>(), 1e-5) << index;
}

TEST(EmaMinMax, IsTheRecursionOfPyTorchsObserver) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({5 * kChunk + 10, 6});
  expect_near(collect(x, 777, {.ema_min_max = true}).ema_min_max, 2, pytorchs(x.select(1, 2), 0.01));
}

/// The largest value moves from channel to channel; more steps than are grouped together.
at::Tensor wandering(int64_t steps, int64_t width) {
  at::Tensor x = at::randn({steps * kChunk - 100, width});
  for (int64_t step = 0; step < steps; ++step) x[step * kChunk + 17][step % width] = 50.0f + 3.0f * step;
  return x;
}

TEST(StepMinMax, GivesTheAverageOfEachGroupAndOfTheTensorForAnyConstant) {
  at::manual_seed(4);
  const at::Tensor x = wandering(19, 96);
  const MinMax steps = collect(x, 999, {.step_min_max = true}).step_min_max;
  ASSERT_EQ(steps.low.sizes(), (std::vector<int64_t>{19, 6}));
  for (const double constant : {0.01, 0.3, 1.0}) {
    for (const int64_t group : {16, 32, 96}) {
      const MinMax average = averaged(steps, group / step_group(96), constant);
      ASSERT_EQ(average.low.numel(), 96 / group);
      for (int64_t g = 0; g < 96 / group; ++g)
        expect_near(average, g, pytorchs(x.slice(1, g * group, (g + 1) * group), constant));
    }
    expect_near(averaged(steps, -1, constant), 0, pytorchs(x, constant));
  }
  EXPECT_EQ(step_group(20), 4) << "groups divide the width";
  EXPECT_EQ(step_group(7), 1);
  EXPECT_EQ(collect(x.slice(1, 0, 20), 999, {.step_min_max = true}).step_min_max.low.size(1), 5);
  EXPECT_THROW(averaged(steps, 4, 0.01), InternalError) << "6 columns";
  EXPECT_THROW(averaged(steps, -1, 0), InternalError);
}

TEST(StepMinMax, IsNotTheExtremeOfTheChannelsAverages) {
  at::manual_seed(4);
  const InputStats stats = collect(wandering(4, 5), 999, {.ema_min_max = true, .step_min_max = true});
  const MinMax all = averaged(stats.step_min_max, -1, kAveragingConstant);
  const MinMax of_channels = grouped(stats.ema_min_max, -1);
  EXPECT_GE(of_channels.low.item<float>(), all.low.item<float>());
  EXPECT_LT(of_channels.high.item<float>(), all.high.item<float>() - 0.5) << "then one average would do";
}

TEST(EmaMinMax, ComposesAsAMonoid) {
  at::manual_seed(3);
  const auto part = [](int64_t chunks) {
    return at::randn({chunks * kChunk, 3}) * static_cast<double>(chunks);
  };
  const at::Tensor parts[] = {part(1), part(3), part(2)};
  const auto stats = [](const at::Tensor& x) {
    StatsCollector result = collector(3, {.ema_min_max = true, .step_min_max = true});
    result.observe(x);
    return result;
  };
  StatsCollector a = stats(parts[0]), b = stats(parts[1]), c = stats(parts[2]);
  b.merge(c);  // (a (b c))
  a.merge(b);
  const InputStats merged = a.finish();
  const InputStats whole =
      collect(at::cat({parts[0], parts[1], parts[2]}), 5000, {.ema_min_max = true, .step_min_max = true});
  EXPECT_LT(relative_error(merged.ema_min_max.low, whole.ema_min_max.low), 1.2e-7);
  EXPECT_LT(relative_error(merged.ema_min_max.high, whole.ema_min_max.high), 1.2e-7);
  EXPECT_TRUE(same_bits(merged.step_min_max.low, whole.step_min_max.low));
  EXPECT_TRUE(same_bits(merged.step_min_max.high, whole.step_min_max.high));
}

}  // namespace
}  // namespace lathe
