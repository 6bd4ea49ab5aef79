#include "lib/numeric/sampled_rows.h"

#include <gtest/gtest.h>

namespace lathe {
namespace {

using Runs = std::vector<std::pair<int64_t, int64_t>>;

TEST(SampledRows, AreAllOfThemWhereTheyFit) {
  EXPECT_EQ(sampled_rows(10, 100, 1000), (Runs{{0, 10}}));
  EXPECT_EQ(sampled_rows(10, 100, 1 << 20), (Runs{{0, 10}}));
}

TEST(SampledRows, AreEightEvenRunsFromTheFirstToTheLast) {
  const Runs runs = sampled_rows(1000, 10, 1600);  // 160 rows
  ASSERT_EQ(runs.size(), 8u);
  for (size_t i = 0; i < runs.size(); ++i) {
    EXPECT_EQ(runs[i].second - runs[i].first, 20);
    EXPECT_EQ(runs[i].first, static_cast<int64_t>(i) * 140);
  }
  EXPECT_EQ(runs.back().second, 1000);
}

TEST(SampledRows, AreOneAtLeast) {
  EXPECT_EQ(sampled_rows(1000, 1 << 20, 5), (Runs{{0, 1}}));
  EXPECT_EQ(sampled_rows(7, 0, 100), (Runs{{0, 7}}));
  EXPECT_EQ(sampled_rows(1000, 10, 35), (Runs{{0, 1}, {499, 500}, {999, 1000}}));
}

}  // namespace
}  // namespace lathe
