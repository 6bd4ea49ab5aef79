// The statistic kernels on CUDA against the CPU, bit for bit. Needs a GPU; elsewhere it says why it is
// skipped.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/kernels/channel_moments.h"
#include "lib/kernels/value_counts.h"
#include "lib/tensor/device.h"

namespace lathe::kernels {
namespace {

constexpr MomentsWanted kAll{.magnitude = true, .square = true, .powers = true, .outliers = true};

ChannelMoments channel_moments(const at::Tensor& x, MomentsWanted wanted) {
  ChannelMoments moments = no_moments(x.size(1), wanted, x.device());
  add_channel_moments(x, moments, 0);
  add_channel_moments(x, moments, x.size(0));
  return moments;
}

void expect_same_moments(const ChannelMoments& cpu, const ChannelMoments& cuda) {
  for (const auto member : {&ChannelMoments::low, &ChannelMoments::high, &ChannelMoments::magnitude,
                            &ChannelMoments::square, &ChannelMoments::first, &ChannelMoments::third,
                            &ChannelMoments::fourth, &ChannelMoments::outliers, &ChannelMoments::bad}) {
    ASSERT_EQ((cpu.*member).defined(), (cuda.*member).defined());
    if (!(cpu.*member).defined()) continue;
    EXPECT_TRUE(at::equal(cpu.*member, (cuda.*member).cpu()));
  }
}

TEST(StatisticsGpu, EqualTheCpuBitForBit) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::manual_seed(11);
  for (const auto& [rows, width] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {63, 33}, {2048, 576}, {777, 4096}, {2047, 577}}) {
    for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kBFloat16}) {
      SCOPED_TRACE(fmt::format("{}x{} {}", rows, width, c10::toString(type)));
      // Without the first row: where rows are of an odd width, halves then begin between two words.
      const at::Tensor moved = (at::randn({rows + 1, width}) * 3 + 0.3).to(type).to(device).slice(0, 1);
      const at::Tensor x = moved.cpu().to(at::kFloat);
      for (const MomentsWanted wanted : {MomentsWanted{}, MomentsWanted{.magnitude = true},
                                         MomentsWanted{.square = true, .outliers = true}, kAll})
        expect_same_moments(channel_moments(x, wanted), channel_moments(moved, wanted));
      const StepExtrema step{at::empty({width}), at::empty({width})},
          other_step{step.low.to(device), step.high.to(device)};
      add_channel_moments(x, no_moments(width, {}, x.device()), 0, step);
      add_channel_moments(moved, no_moments(width, {}, device), 0, other_step);
      EXPECT_TRUE(at::equal(step.low, other_step.low.cpu()) && at::equal(step.high, other_step.high.cpu()));
      at::Tensor counts = at::zeros({2, value_bin_count()}, at::kLong), other = counts.to(device);
      add_value_counts(x, counts);
      add_value_counts(moved, other);
      EXPECT_TRUE(at::equal(counts, other.cpu()));
      at::Tensor channels = at::zeros({width, channel_bin_count()}, at::kInt), others = channels.to(device);
      add_channel_value_counts(x, channels);
      add_channel_value_counts(moved, others);
      EXPECT_TRUE(at::equal(channels, others.cpu()));
      EXPECT_TRUE(at::equal(row_extent(x).low, row_extent(moved).low.cpu()));
      EXPECT_TRUE(at::equal(row_extent(x).high, row_extent(moved).high.cpu()));
    }
  }
}

TEST(StatisticsGpu, ChunksAtOnceAreChunksInTheirOrder) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::manual_seed(13);
  for (const int64_t rows :
       {kMomentChunkRows + 1, 3 * kMomentChunkRows, kMaxMomentChunks * kMomentChunkRows}) {
    const int64_t width = 130, chunks = (rows + kMomentChunkRows - 1) / kMomentChunkRows;
    const at::Tensor moved = (at::randn({rows, width}) * 3 - 0.3).to(at::kBFloat16).to(device);
    const at::Tensor x = moved.cpu().to(at::kFloat);
    for (const MomentsWanted wanted : {MomentsWanted{}, MomentsWanted{.magnitude = true}, kAll})
      expect_same_moments(channel_moments(x, wanted), channel_moments(moved, wanted));
    const StepExtrema step{at::empty({chunks, width}), at::empty({chunks, width})},
        other{step.low.to(device), step.high.to(device)};
    add_channel_moments(x, no_moments(width, {}, x.device()), 0, step);
    add_channel_moments(moved, no_moments(width, {}, device), 0, other);
    EXPECT_TRUE(at::equal(step.low, other.low.cpu()) && at::equal(step.high, other.high.cpu()));
    EXPECT_FALSE(at::equal(step.low[0], step.low[1]));
  }
}

TEST(StatisticsGpu, FindsTheFirstBadElement) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::Tensor x = at::randn({500, 200});
  x[321][170] = NAN;
  x[322][3] = INFINITY;
  for (const at::ScalarType type : {at::kFloat, at::kHalf}) {
    for (const MomentsWanted wanted : {MomentsWanted{}, MomentsWanted{.square = true}, kAll})
      EXPECT_EQ(channel_moments(x.to(device, type), wanted).bad.item<int64_t>(), 321 * 200 + 170);
  }
}

}  // namespace
}  // namespace lathe::kernels
