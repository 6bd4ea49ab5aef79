#include "lib/numeric/weight_histogram.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

namespace lathe {
namespace {

/// 2 bits, one scale for all: -2, -1, 0, 1 times it.
QuantizedTensor coarse(const at::Tensor& codes, float scale) {
  return {.scheme = {.bits = 2, .group_size = -1},
          .codes = codes.to(at::kChar),
          .scales = at::full({codes.size(0), 1}, scale),
          .zero_points = {}};
}

int64_t sum(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

TEST(WeightHistogram, CountsByHand) {
  const at::Tensor weight = at::tensor({-4.0f, -3.9f, 0.0f, 0.1f, 2.0f, 1.9f}).view({2, 3});
  const WeightHistogram found =
      count_weights(weight, coarse(at::tensor({-2, -2, 0, 0, 1, 1}).view({2, 3}), 2.0f)).read();
  EXPECT_EQ(found.limit, 4);  // a bin is 1/6 wide: bin k begins at k / 6 - 4
  std::vector<int64_t> before(WeightHistogram::kBins), after(WeightHistogram::kBins);
  before[0] = 2, before[24] = 2, before[36] = 1, before[35] = 1;
  after[0] = 2, after[24] = 2, after[36] = 2;
  EXPECT_EQ(found.before, before);
  EXPECT_EQ(found.after, after);
}

TEST(WeightHistogram, SpansWhatRoundingPushedOut) {
  const WeightHistogram found =
      count_weights(at::tensor({1.0f, -1.0f}).view({1, 2}), coarse(at::tensor({1, -2}).view({1, 2}), 1.0f))
          .read();
  EXPECT_EQ(found.limit, 2);
  EXPECT_EQ(found.after.front(), 1);
  EXPECT_EQ(found.before.back(), 0);
}

TEST(WeightHistogram, LooksAtEightRunsOfALargeMatrixFromItsFirstRowToItsLast) {
  const int64_t out = 4096, in = 256;  // 256 rows are looked at
  at::Tensor weight = at::zeros({out, in});
  weight[0].fill_(8);
  weight[out - 1].fill_(-8);
  const WeightHistogram found = count_weights(weight, coarse(at::zeros({out, in}), 1.0f)).read();
  EXPECT_EQ(sum(found.before), WeightHistogram::kSampled);
  EXPECT_EQ(sum(found.after), WeightHistogram::kSampled);
  EXPECT_EQ(found.before.front(), in);
  EXPECT_EQ(found.before.back(), in);
}

TEST(WeightHistogram, CountsEveryWeightOfZerosAndOfWhatIsNoNumber) {
  at::Tensor weight = at::zeros({3, 5});
  const QuantizedTensor zeros = coarse(at::zeros({3, 5}), 1.0f);
  EXPECT_EQ(count_weights(weight, zeros).read().before[24], 15);
  weight[1][2] = std::numeric_limits<float>::quiet_NaN();
  weight[0][0] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(sum(count_weights(weight, zeros).read().before), 15);
  EXPECT_EQ(sum(count_weights(at::zeros({2, 1 << 17}), coarse(at::zeros({2, 1 << 17}), 1.0f)).read().before),
            1 << 17);  // a whole row at least
}

}  // namespace
}  // namespace lathe
