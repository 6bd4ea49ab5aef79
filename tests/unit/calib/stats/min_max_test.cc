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

TEST(EmaMinMax, IsTheRecursionOfPyTorchsObserver) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({5 * kChunk + 10, 6});
  double low = 0, high = 0;
  for (int64_t step = 0; step < 6; ++step) {  // torch.ao.quantization.MovingAverageMinMaxObserver.forward
    const at::Tensor chunk = x.slice(0, step * kChunk, (step + 1) * kChunk).select(1, 2);
    const double chunk_low = chunk.min().item<float>(), chunk_high = chunk.max().item<float>();
    low = step == 0 ? chunk_low : low + 0.01 * (chunk_low - low);
    high = step == 0 ? chunk_high : high + 0.01 * (chunk_high - high);
  }
  const MinMax average = collect(x, 777, {.ema_min_max = true}).ema_min_max;
  EXPECT_NEAR(average.low[2].item<float>(), low, 1e-6);
  EXPECT_NEAR(average.high[2].item<float>(), high, 1e-6);
}

TEST(EmaMinMax, OfTheTensorIsTheAverageOfItsExtremesNotTheExtremeOfAverages) {
  at::manual_seed(4);
  // The largest value moves from channel to channel.
  at::Tensor x = at::randn({4 * kChunk, 5});
  for (int64_t step = 0; step < 4; ++step) x[step * kChunk + 17][step] = 50.0f;
  double low = 0, high = 0;
  for (int64_t step = 0; step < 4; ++step) {  // torch.ao.quantization.MovingAverageMinMaxObserver.forward
    const at::Tensor chunk = x.slice(0, step * kChunk, (step + 1) * kChunk);
    const double chunk_low = chunk.min().item<float>(), chunk_high = chunk.max().item<float>();
    low = step == 0 ? chunk_low : low + 0.01 * (chunk_low - low);
    high = step == 0 ? chunk_high : high + 0.01 * (chunk_high - high);
  }
  const InputStats stats = collect(x, 999, {.ema_min_max = true, .ema_tensor = true});
  ASSERT_EQ(stats.ema_tensor.high.numel(), 1);
  EXPECT_NEAR(stats.ema_tensor.low.item<float>(), low, 1e-6);
  EXPECT_NEAR(stats.ema_tensor.high.item<float>(), high, 1e-5);
  const MinMax of_channels = grouped(stats.ema_min_max, -1);
  EXPECT_LE(of_channels.high.item<float>(), stats.ema_tensor.high.item<float>());
  EXPECT_GE(of_channels.low.item<float>(), stats.ema_tensor.low.item<float>());
  EXPECT_LT(of_channels.high.item<float>(), high - 0.5) << "then one average would do";
}

TEST(EmaMinMax, ComposesAsAMonoid) {
  at::manual_seed(3);
  const auto part = [](int64_t chunks) {
    return at::randn({chunks * kChunk, 3}) * static_cast<double>(chunks);
  };
  const at::Tensor parts[] = {part(1), part(3), part(2)};
  const auto stats = [](const at::Tensor& x) {
    StatsCollector result = collector(3, {.ema_min_max = true, .ema_tensor = true});
    result.observe(x);
    return result;
  };
  StatsCollector a = stats(parts[0]), b = stats(parts[1]), c = stats(parts[2]);
  b.merge(c);  // (a (b c))
  a.merge(b);
  const InputStats merged = a.finish();
  const InputStats whole =
      collect(at::cat({parts[0], parts[1], parts[2]}), 5000, {.ema_min_max = true, .ema_tensor = true});
  for (const auto range : {&InputStats::ema_min_max, &InputStats::ema_tensor}) {
    EXPECT_LT(relative_error((merged.*range).low, (whole.*range).low), 1.2e-7);
    EXPECT_LT(relative_error((merged.*range).high, (whole.*range).high), 1.2e-7);
  }
}

}  // namespace
}  // namespace lathe
