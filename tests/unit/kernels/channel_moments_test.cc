#include "lib/kernels/channel_moments.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"

namespace lathe::kernels {
namespace {

constexpr MomentsWanted kAll{.magnitude = true, .square = true, .powers = true, .outliers = true};

ChannelMoments channel_moments(const at::Tensor& x, MomentsWanted wanted) {
  ChannelMoments moments = no_moments(x.size(1), wanted, c10::kCPU);
  add_channel_moments(x, moments, 0);
  return moments;
}

double error(const at::Tensor& sum, const at::Tensor& exact, const at::Tensor& magnitude) {
  return ((sum - exact).abs() / magnitude.clamp_min(1e-300)).max().item<double>();
}

TEST(ChannelMoments, EqualTheSumsInFp64WithinTheStatedBound) {
  at::manual_seed(1);
  for (const auto& [rows, width] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {63, 7}, {64, 128}, {65, 129}, {2048, 300}, {777, 1000}}) {
    const at::Tensor x = at::randn({rows, width}) * 4 + 1, wide = x.to(at::kDouble);
    const ChannelMoments moments = channel_moments(x, kAll);
    EXPECT_TRUE(at::equal(moments.low, x.amin(0)));
    EXPECT_TRUE(at::equal(moments.high, x.amax(0)));
    EXPECT_TRUE(at::equal(moments.outliers, (x.abs() >= 6).sum(0)));
    EXPECT_EQ(moments.bad.item<int64_t>(), kNoneBad);
    EXPECT_LT(error(moments.magnitude, wide.abs().sum(0), wide.abs().sum(0)), 3.8e-6) << rows << "x" << width;
    EXPECT_LT(error(moments.square, wide.square().sum(0), wide.square().sum(0)), 1e-13);
    EXPECT_LT(error(moments.first, wide.sum(0), wide.abs().sum(0)), 1e-13);
    EXPECT_LT(error(moments.third, wide.pow(3).sum(0), wide.abs().pow(3).sum(0)), 1e-13);
    EXPECT_LT(error(moments.fourth, wide.pow(4).sum(0), wide.pow(4).sum(0)), 1e-13);
  }
}

TEST(ChannelMoments, MakeOnlyWhatIsWanted) {
  const ChannelMoments none = channel_moments(at::ones({3, 4}), {});
  EXPECT_TRUE(none.low.defined() && none.high.defined() && none.bad.defined());
  EXPECT_FALSE(none.magnitude.defined() || none.square.defined() || none.first.defined() ||
               none.outliers.defined());
  const ChannelMoments square = channel_moments(at::full({3, 4}, 2.0f), {.square = true});
  EXPECT_EQ(square.square[3].item<double>(), 12);
  EXPECT_FALSE(square.magnitude.defined());
}

TEST(ChannelMoments, ChunksOfOneCallAreThoseOfCallsOneAfterTheOther) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({2 * kMomentChunkRows + 100, 33});
  const StepExtrema together{at::empty({3, 33}), at::empty({3, 33})};
  ChannelMoments whole = no_moments(33, kAll, c10::kCPU), parts = no_moments(33, kAll, c10::kCPU);
  add_channel_moments(x, whole, 0, together);
  for (int64_t row = 0; row < x.size(0); row += kMomentChunkRows) {
    const at::Tensor chunk = x.slice(0, row, std::min(row + kMomentChunkRows, x.size(0)));
    const StepExtrema one{at::empty({1, 33}), at::empty({1, 33})};
    add_channel_moments(chunk, parts, row, one);
    EXPECT_TRUE(one.low[0].equal(together.low[row / kMomentChunkRows]) && one.low[0].equal(chunk.amin(0)));
    EXPECT_TRUE(one.high[0].equal(together.high[row / kMomentChunkRows]));
  }
  for (const auto member : {&ChannelMoments::low, &ChannelMoments::magnitude, &ChannelMoments::square,
                            &ChannelMoments::fourth, &ChannelMoments::outliers, &ChannelMoments::bad})
    EXPECT_TRUE((whole.*member).equal(parts.*member));
}

TEST(ChannelMoments, FindTheFirstBadElement) {
  const float beyond = std::nextafterf(kLargestMagnitude, INFINITY);
  for (const float bad : {NAN, INFINITY, -INFINITY, beyond, -beyond}) {
    at::Tensor x = at::randn({500, 200});
    x[321][170] = bad;
    x[322][3] = bad;
    EXPECT_EQ(channel_moments(x, {}).bad.item<int64_t>(), 321 * 200 + 170) << bad;
  }
  at::Tensor x = at::randn({5, 20});
  x[3][4] = -kLargestMagnitude;
  EXPECT_EQ(channel_moments(x, kAll).bad.item<int64_t>(), kNoneBad);
}

TEST(ChannelMoments, AddUpOverCallsAndKeepTheFirstBadElement) {
  at::manual_seed(3);
  at::Tensor x = at::randn({300, 70}) * 3;
  ChannelMoments running = no_moments(70, kAll, c10::kCPU);
  add_channel_moments(x.slice(0, 0, 100), running, 0);
  add_channel_moments(x.slice(0, 100), running, 100);
  const ChannelMoments a = channel_moments(x.slice(0, 0, 100), kAll),
                       b = channel_moments(x.slice(0, 100), kAll);
  for (const auto member : {&ChannelMoments::magnitude, &ChannelMoments::square, &ChannelMoments::first,
                            &ChannelMoments::third, &ChannelMoments::fourth, &ChannelMoments::outliers})
    EXPECT_TRUE(at::equal(running.*member, a.*member + b.*member)) << "a call's rows are summed first";
  EXPECT_TRUE(at::equal(running.low, x.amin(0)) && at::equal(running.high, x.amax(0)));
  x[150][3] = NAN;
  x[120][69] = NAN;
  add_channel_moments(x.slice(0, 100), running, 100);
  add_channel_moments(x.slice(0, 100), running, 300);
  EXPECT_EQ(running.bad.item<int64_t>(), 120 * 70 + 69);
}

TEST(ChannelMoments, GiveACallsOwnExtremaBesideTheRunningOnes) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({200, 130});
  ChannelMoments running = no_moments(130, {}, c10::kCPU);
  const StepExtrema first{at::empty({130}), at::empty({130})}, second{at::empty({130}), at::empty({130})};
  add_channel_moments(x.slice(0, 0, 120), running, 0, first);
  add_channel_moments(x.slice(0, 120), running, 120, second);
  EXPECT_TRUE(at::equal(first.low, x.slice(0, 0, 120).amin(0)));
  EXPECT_TRUE(at::equal(first.high, x.slice(0, 0, 120).amax(0)));
  EXPECT_TRUE(at::equal(second.low, x.slice(0, 120).amin(0)));
  EXPECT_TRUE(at::equal(second.high, x.slice(0, 120).amax(0)));
  EXPECT_TRUE(at::equal(running.low, x.amin(0)) && at::equal(running.high, x.amax(0)));
}

TEST(ChannelMoments, RefuseWhatTheyCannotRead) {
  EXPECT_THROW(channel_moments(at::ones({kMaxMomentChunks * kMomentChunkRows + 1, 2}), {}), InternalError);
  EXPECT_THROW(channel_moments(at::ones({4, 6}).t(), {}), InternalError);
  EXPECT_THROW(channel_moments(at::ones({4, 6}, at::kHalf), {}), InternalError);
  ChannelMoments moments = no_moments(6, {}, c10::kCPU);
  EXPECT_THROW(add_channel_moments(at::ones({4, 5}), moments, 0), InternalError);
}

}  // namespace
}  // namespace lathe::kernels
