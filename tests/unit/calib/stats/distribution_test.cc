#include "calib/stats/distribution.h"

#include <cmath>

#include "calib/stats/histogram.h"
#include "calib/stats/rank.h"
#include "lib/base/error.h"
#include "lib/kernels/value_counts.h"
#include "tests/unit/calib/stats/collect.h"

namespace lathe {
namespace {

constexpr double kQuantiles[] = {0, 0.001, 0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1};

Distribution distribution_of(const at::Tensor& x) {
  return *collect(x, 1000, {.distribution = true}).distribution;
}

at::Tensor sorted(const at::Tensor& values) { return std::get<0>(values.flatten().sort()); }

/// The value of rank ceil(q n).
double sorted_quantile(const at::Tensor& sorted, double q) {
  const auto rank = static_cast<int64_t>(std::ceil(q * static_cast<double>(sorted.numel())));
  return sorted[std::max<int64_t>(rank, 1) - 1].item<float>();
}

TEST(Distribution, SmallDataGivesExactPercentiles) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({1024, 256});  // as many values as are kept
  const Distribution distribution = distribution_of(x);
  const at::Tensor values = sorted(x), magnitudes = sorted(x.abs());
  ASSERT_TRUE(distribution.exact());
  for (const double q : kQuantiles) {
    EXPECT_EQ(distribution.quantile(q), sorted_quantile(values, q)) << q;
    EXPECT_EQ(distribution.magnitude_quantile(q), sorted_quantile(magnitudes, q)) << q;
  }
}

TEST(Distribution, TheDefinitionIsNumpysInvertedCdf) {
  // np.quantile([3, 1, 4, 1, 5, 9, 2, 6, 5, 3], q, method="inverted_cdf")
  const Distribution distribution =
      distribution_of(at::tensor({3., 1., 4., 1., 5., 9., 2., 6., 5., 3.}, at::kFloat).view({1, 10}));
  for (const auto& [q, expected] : std::vector<std::pair<double, double>>{
           {0, 1}, {0.2, 1}, {0.25, 2}, {0.5, 3}, {0.55, 4}, {0.9, 6}, {0.95, 9}, {1, 9}})
    EXPECT_EQ(distribution.quantile(q), expected) << q;
  EXPECT_THROW(distribution.quantile(1.5), InternalError);
}

TEST(Distribution, TheSketchKeepsItsErrorBound) {
  at::manual_seed(2);
  const at::Tensor normal = at::randn({3000, 128});
  for (const at::Tensor& x : {normal, normal.exp(), at::randn({3000, 128}).pow(5) * 1e-3 - 1e-4,
                              at::rand({3000, 128}) * 1e6, -normal.abs()}) {
    const Distribution distribution = distribution_of(x);
    const at::Tensor values = sorted(x), magnitudes = sorted(x.abs());
    ASSERT_FALSE(distribution.exact());
    for (const double q : kQuantiles) {
      const double exact = sorted_quantile(values, q), magnitude = sorted_quantile(magnitudes, q);
      EXPECT_LE(std::abs(distribution.quantile(q) - exact), std::ldexp(std::abs(exact), -11) + 0x1p-30) << q;
      EXPECT_LE(std::abs(distribution.magnitude_quantile(q) - magnitude),
                std::ldexp(magnitude, -11) + 0x1p-30)
          << q;
    }
    EXPECT_EQ(distribution.quantile(0), x.min().item<float>()) << "the ends are exact";
    EXPECT_EQ(distribution.quantile(1), x.max().item<float>());
  }
}

TEST(Distribution, ExactOrNotDependsOnTheWholeOnly) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({1500, 256});
  StatsCollector first = collector(256, {.distribution = true}),
                 second = collector(256, {.distribution = true});
  first.observe(x.slice(0, 0, 700));
  second.observe(x.slice(0, 700));
  first.merge(second);
  const InputStats merged = first.finish();
  EXPECT_FALSE(merged.distribution->exact());
  expect_same_bits(merged, collect(x, 64, {.distribution = true}));
}

TEST(ChannelDistribution, KeepsItsErrorBoundInEveryChannel) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({2500, 70}) * (at::randn({70}) * 3).exp();
  const ChannelDistribution channels = collect(x, 100, {.channel_distribution = true}).channel_distribution;
  for (int64_t channel = 0; channel < 70; ++channel) {
    const at::Tensor magnitudes = sorted(x.select(1, channel).abs());
    for (const double q : {0.01, 0.5, 0.99, 0.999, 1.0}) {
      const at::Tensor found = channels.magnitude_quantile(q);
      const double exact = sorted_quantile(magnitudes, q);
      EXPECT_LE(std::abs(found[channel].item<float>() - exact), std::ldexp(exact, -6) + 0x1p-20) << q;
    }
  }
}

TEST(ChannelDistribution, KnowsTheLargestAndWhereTheSketchEnds) {
  at::manual_seed(8);
  at::Tensor x = at::randn({2000, 4});
  x.select(1, 1).mul_(1e7);       // beyond the sketch
  x.select(1, 2).fill_(0.3f);     // one value
  x.select(1, 3).mul_(60000.0f);  // part of it beyond
  const ChannelDistribution channels = collect(x, 300, {.channel_distribution = true}).channel_distribution;
  const at::Tensor largest = x.abs().amax(0);
  EXPECT_TRUE(at::equal(channels.largest, largest));
  EXPECT_TRUE(at::equal(channels.magnitude_quantile(1), largest)) << "quantile 1 is the maximum";
  for (const double q : {0.5, 0.9, 0.999}) {
    const at::Tensor found = channels.magnitude_quantile(q);
    EXPECT_TRUE((found <= largest).all().item<bool>()) << q;
    EXPECT_EQ(found[1].item<float>(), largest[1].item<float>())
        << "an upper bound, never less than the value";
    for (const int64_t channel : {0, 3}) {
      const double exact = sorted_quantile(sorted(x.select(1, channel).abs()), q);
      EXPECT_GE(found[channel].item<float>(), exact * (1 - 0x1p-6)) << q;
    }
  }
}

TEST(Rank, IsNotMovedByTheRoundingOfTheQuantile) {
  EXPECT_EQ(rank_of(99.9 / 100, 1000), 999);
  EXPECT_EQ(rank_of(0.07, 100), 7);  // 0.07 * 100 is a little above 7
  EXPECT_EQ(rank_of(0.07 + 1e-9, 100), 8);
  EXPECT_EQ(rank_of(0, 5), 1);
  EXPECT_EQ(rank_of(1, int64_t{1} << 40), int64_t{1} << 40);
  EXPECT_THROW(rank_of(0.5, 0), InternalError);
}

/// What the sketch's histogram should be: counting the values.
Histogram counted(const at::Tensor& x) {
  const at::Tensor flat = x.flatten();
  return magnitude_histogram(flat.const_data_ptr<float>(), flat.numel());
}

TEST(Histogram, FromTheSketchEqualsCountingTheValues) {
  at::manual_seed(5);
  for (const double scale : {1.0, 1e-5, 3e4, 1e-12}) {
    const at::Tensor x = at::randn({500, 64}) * scale;
    const Histogram sketch = magnitude_histogram(distribution_of(x)), direct = counted(x);
    EXPECT_EQ(sketch.width, direct.width);
    EXPECT_EQ(sketch.counts, direct.counts);
    EXPECT_EQ(sketch.total, 32000);
  }
}

TEST(Histogram, TheWidthIsTheSmallestPowerOfTwoThatHoldsAll) {
  for (const float largest : {1.0f, 0.99999994f, 1.5f, 2.0f, 1e-3f}) {
    const Histogram histogram = magnitude_histogram(&largest, 1);
    EXPECT_LT(largest, 2048 * histogram.width);
    EXPECT_GE(largest, 1024 * histogram.width) << "half the bins are empty";
    EXPECT_EQ(std::exp2(std::round(std::log2(histogram.width))), histogram.width);
    EXPECT_EQ(histogram.counts[static_cast<size_t>(largest / histogram.width)], 1);
  }
}

TEST(Histogram, WideningIsMergingPairs) {
  at::manual_seed(6);
  const at::Tensor x = at::rand({100, 64});
  const Histogram narrow = magnitude_histogram(distribution_of(x));
  const at::Tensor wider = at::cat({x, at::full({1, 64}, 1.5f)});
  const Histogram wide = magnitude_histogram(distribution_of(wider));
  ASSERT_EQ(wide.width, 2 * narrow.width);
  for (size_t k = 0; k < 1024; ++k)
    EXPECT_EQ(wide.counts[k], narrow.counts[2 * k] + narrow.counts[2 * k + 1]);
}

TEST(Histogram, SignedHalvesAreTheSignsMirrored) {
  at::manual_seed(7);
  const at::Tensor x = at::randn({300, 20}) + 0.4;
  const Histogram both = signed_histogram(distribution_of(x));
  std::array<int64_t, kHistogramBins> expected{};
  const at::Tensor flat = x.flatten();
  for (int64_t i = 0; i < flat.numel(); ++i) {
    const double value = flat[i].item<float>();
    const auto bin = static_cast<int64_t>(std::abs(value) / both.width);
    ++expected[static_cast<size_t>(std::signbit(value) ? 1023 - bin : 1024 + bin)];
  }
  EXPECT_EQ(both.counts, expected);
}

}  // namespace
}  // namespace lathe
