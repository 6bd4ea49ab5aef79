#include "calib/stats/clip_range.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "calib/stats/clip.h"
#include "tests/unit/calib/stats/collect.h"

namespace lathe {
namespace {

Histogram histogram_of(const at::Tensor& x) {
  return signed_histogram(*collect(x.view({-1, 1}), 5000, {.distribution = true}).distribution);
}

/// What rounding the values themselves to `levels` points from low to high loses.
double squared_error(const at::Tensor& x, double low, double high, int64_t levels) {
  const double step = (high - low) / static_cast<double>(levels - 1);
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor code = ((wide - low) / step).round().clamp(0, static_cast<double>(levels - 1));
  return (code * step + low - wide).square().mean().item<double>();
}

/// Lopsided values such as inputs behind an activation function have.
std::map<std::string, at::Tensor> lopsided() {
  at::manual_seed(7);
  const at::Tensor normal = at::randn({60000});
  at::Tensor rare = normal.clone();
  rare.slice(0, 0, 6).copy_(at::tensor({90.f, -40.f, 70.f, 60.f, 55.f, 88.f}));
  return {{"silu", at::silu(4 * normal)},
          {"shifted", normal + 3},
          {"rare", rare},
          {"cubed", normal.pow(3) - 0.5}};
}

TEST(MseClipRange, IsNearTheBestOfAllRangesAndItsScoreIsTheError) {
  for (const auto& [name, x] : lopsided()) {
    for (const int64_t levels : {16, 256}) {
      const Histogram histogram = histogram_of(x);
      const ClipRange found = mse_clip_range(histogram, levels);
      EXPECT_LE(found.low, 0) << name;
      EXPECT_GE(found.high, 0) << name;
      EXPECT_NEAR(squared_error(x, found.low, found.high, levels) / found.score, 1, 0.08)
          << name << " " << levels;
      const double low = std::min(0.0, x.min().item<double>()), high = std::max(0.0, x.max().item<double>());
      double best = squared_error(x, low, high, levels);
      EXPECT_LE(found.score, best * 1.01) << name << ": no worse than the whole range";
      for (int i = 1; i <= 24; ++i) {
        for (int j = 1; j <= 24; ++j)
          best = std::min(best, squared_error(x, low * i / 24, high * j / 24 + 1e-9, levels));
      }
      EXPECT_LE(squared_error(x, found.low, found.high, levels), best * 1.05) << name << " " << levels;
    }
  }
}

TEST(MseClipRange, ClipsWhatIsRareAndOneSidedOnItsSide) {
  const at::Tensor x = lopsided().at("rare");
  const ClipRange coarse = mse_clip_range(histogram_of(x), 16);
  EXPECT_LT(coarse.high, 30);
  EXPECT_GT(coarse.low, -30);
  const ClipRange silu = mse_clip_range(histogram_of(lopsided().at("silu")), 256);
  EXPECT_NEAR(silu.low, -0.2785, 0.05) << "SiLU's least value";
}

/// The definition, bin by bin.
double divergence_of(const Histogram& histogram, int64_t first, int64_t end, int64_t levels) {
  std::vector<double> p(histogram.counts.begin() + first, histogram.counts.begin() + end), q = p;
  for (int64_t bin = 0; bin < first; ++bin)
    p.front() += static_cast<double>(histogram.counts[static_cast<size_t>(bin)]);
  for (int64_t bin = end; bin < kHistogramBins; ++bin)
    p.back() += static_cast<double>(histogram.counts[static_cast<size_t>(bin)]);
  const auto bins = static_cast<int64_t>(p.size());
  std::vector<double> merged(p.size(), 0);
  for (int64_t level = 0; level < levels; ++level) {
    double mass = 0;
    int64_t occupied = 0;
    std::vector<size_t> members;
    for (int64_t bin = 0; bin < bins; ++bin) {
      if (bin * levels / bins == level) members.push_back(static_cast<size_t>(bin));
    }
    for (const size_t bin : members) mass += q[bin], occupied += p[bin] > 0 ? 1 : 0;
    for (const size_t bin : members) merged[bin] = p[bin] > 0 ? mass / static_cast<double>(occupied) : 0;
  }
  double p_sum = 0, q_sum = 0, sum = 0;
  for (size_t bin = 0; bin < p.size(); ++bin) p_sum += p[bin], q_sum += merged[bin];
  for (size_t bin = 0; bin < p.size(); ++bin) {
    if (p[bin] > 0) sum += p[bin] / p_sum * std::log((p[bin] / p_sum) / (merged[bin] / q_sum));
  }
  return sum;
}

TEST(EntropyClipRange, ItsScoreIsTheDivergenceAndNoNeighbourIsBetter) {
  for (const auto& [name, x] : lopsided()) {
    Histogram histogram = histogram_of(x);
    const ClipRange found = entropy_clip_range(histogram, 256);
    for (const auto& [bin, neighbour] : {std::pair<size_t, size_t>{1024, 1025}, {1023, 1022}}) {
      if (histogram.counts[neighbour] == 0) continue;
      histogram.total += histogram.counts[neighbour] - histogram.counts[bin];
      histogram.counts[bin] = histogram.counts[neighbour];
    }
    const auto first = static_cast<int64_t>(std::llround(found.low / histogram.width)) + 1024;
    const auto end = static_cast<int64_t>(std::llround(found.high / histogram.width)) + 1024;
    EXPECT_NEAR(divergence_of(histogram, first, end, 256), found.score, 1e-9) << name;
    for (const int64_t by : {-16, -3, -1, 1, 3, 16}) {
      if (first + by <= 1024 && first + by >= 0 && end - first - by >= 256 &&
          histogram.counts[static_cast<size_t>(first + by)] > 0) {
        EXPECT_GE(divergence_of(histogram, first + by, end, 256), found.score - 1e-9)
            << name << " low by " << by;
      }
      if (end + by >= 1024 && end + by <= 2048 && end + by - first >= 256 &&
          histogram.counts[static_cast<size_t>(end + by - 1)] > 0) {
        EXPECT_GE(divergence_of(histogram, first, end + by, 256), found.score - 1e-9)
            << name << " high by " << by;
      }
    }
  }
  at::manual_seed(11);
  at::Tensor x = at::randn({60000});
  x.slice(0, 0, 5).copy_(at::tensor({12.f, -9.f, 11.f, 10.f, 14.f}));
  const ClipRange found = entropy_clip_range(histogram_of(x), 256);
  EXPECT_LT(found.high, 9) << "rare values are clipped";
  EXPECT_GT(found.low, -7);
}

TEST(ClipRange, OfZerosConstantsAndOneSide) {
  for (const auto search : {mse_clip_range, entropy_clip_range}) {
    const ClipRange zeros = search(histogram_of(at::zeros({100})), 256);
    EXPECT_EQ(zeros.low, 0);
    EXPECT_EQ(zeros.high, 0);
    const ClipRange constant = search(histogram_of(at::full({100}, -2.5f)), 256);
    EXPECT_LE(constant.low, -2.49);
    EXPECT_EQ(constant.high, 0);
    at::manual_seed(8);
    const ClipRange positive = search(histogram_of(at::rand({5000}) + 1), 256);
    EXPECT_EQ(positive.low, 0);
    EXPECT_NEAR(positive.high, 2, 0.1);
  }
}

}  // namespace
}  // namespace lathe
