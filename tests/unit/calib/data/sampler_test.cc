// The sampler's fixed choices, and shares of a mix.
#include "calib/data/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace lathe {
namespace {

using ::testing::ElementsAre;

TEST(ChooseSamples, SeedZeroTakesTheFirst) {
  EXPECT_THAT(choose_samples(100, 4, 0), ElementsAre(0, 1, 2, 3));
}

// From an independent SplitMix64 and Fisher-Yates in Python.
TEST(ChooseSamples, OtherSeedsDrawFixedSamplesInOrder) {
  EXPECT_THAT(choose_samples(100, 8, 1), ElementsAre(18, 40, 43, 53, 56, 61, 65, 66));
  EXPECT_THAT(choose_samples(100, 8, 2), ElementsAre(10, 18, 24, 33, 59, 60, 65, 77));
  EXPECT_THAT(choose_samples(3, 3, 7), ElementsAre(0, 1, 2));
  EXPECT_TRUE(choose_samples(3, 0, 7).empty());
}

TEST(ChooseSamples, EverySampleIsDrawnAboutEquallyOften) {
  std::vector<int> hits(10);
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    for (const int64_t row : choose_samples(10, 3, seed)) ++hits[static_cast<size_t>(row)];
  }
  for (const int count : hits) EXPECT_NEAR(count, 600, 100);  // 5 standard deviations
}

TEST(SeedOfSource, TheFirstKeepsItsSeed) {
  EXPECT_EQ(seed_of_source(7, 0), 7u);
  EXPECT_EQ(seed_of_source(0, 5), 0u) << "the first samples, of every source";
  // SplitMix64's published outputs for seed 1234567 (Vigna's reference implementation).
  EXPECT_EQ(seed_of_source(1234567, 1), 6457827717110365317u);
  EXPECT_EQ(seed_of_source(1234567, 2), 3203168211198807973u);
  EXPECT_EQ(seed_of_source(1234567, 3), 9817491932198370423u);
}

TEST(SplitByWeight, GivesLargestRemaindersFirst) {
  EXPECT_THAT(split_by_weight(10, {1, 1, 1}), ElementsAre(4, 3, 3)) << "the earlier one among equals";
  EXPECT_THAT(split_by_weight(128, {0.5, 0.3, 0.2}), ElementsAre(64, 38, 26));  // 38.4, 25.6
  EXPECT_THAT(split_by_weight(100, {3, 1}), ElementsAre(75, 25));
  EXPECT_THAT(split_by_weight(0, {1, 2}), ElementsAre(0, 0));
  EXPECT_THAT(split_by_weight(1, {1e-6, 1e6}), ElementsAre(0, 1));
  EXPECT_THAT(split_by_weight(5, {7}), ElementsAre(5));
}

TEST(SplitByWeight, KeepsTheQuotaRule) {
  for (int64_t total = 0; total <= 200; ++total) {
    const std::vector<double> weights = {0.07, 1.3, 2.9, 0.41, 5.5};
    const auto parts = split_by_weight(total, weights);
    EXPECT_EQ(std::accumulate(parts.begin(), parts.end(), int64_t{0}), total);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (size_t i = 0; i < parts.size(); ++i)
      EXPECT_LT(std::abs(static_cast<double>(parts[i]) - static_cast<double>(total) * weights[i] / sum), 1);
  }
}

}  // namespace
}  // namespace lathe
