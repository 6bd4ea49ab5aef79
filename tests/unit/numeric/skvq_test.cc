// SKVQ's grid, one group at a time; the clusters that order its channels.
#include "lib/numeric/skvq.h"

#include <gtest/gtest.h>

#include <set>

#include "lib/numeric/point_clusters.h"

namespace lathe {
namespace {

std::vector<float> rounded(std::vector<float> values, float clip, int levels, bool fp8 = false) {
  round_skvq_group(values, clip, levels, fp8, values);
  return values;
}

TEST(SkvqGroup, ClipsItsRange) {
  EXPECT_EQ(rounded({-3, -1.2f, 0.9f, 3}, 1, 4), (std::vector<float>{-3, -1, 1, 3}));
  EXPECT_EQ(rounded({-3, -0.6f, 0.6f, 3}, 0.5f, 4), (std::vector<float>{-1.5f, -0.5f, 0.5f, 1.5f}));
}

TEST(SkvqGroup, ThreeLevelsAreTheEndsAndTheMiddle) {
  EXPECT_EQ(rounded({-3, -1.6f, -1.4f, 1.4f, 1.6f, 3}, 1, 3), (std::vector<float>{-3, -3, 0, 0, 3, 3}));
  EXPECT_EQ(rounded({-1, 0, 3}, 1, 3), (std::vector<float>{-1, -1, 3}));  // a tie goes to the even code
}

TEST(SkvqGroup, RangesInFp8) {
  // A step of 0.9 is 0.875 in FP8, a least number of -1.35 is -1.375; codes are those of the others.
  EXPECT_EQ(rounded({-1.35f, 1.35f, 0.4f}, 1, 4, true), (std::vector<float>{-1.375f, 1.25f, 0.375f}));
  EXPECT_EQ(rounded({600, 600}, 1, 4, true)[0], 448);
}

TEST(SkvqGroup, OneNumberHasTheLeastStep) {
  EXPECT_EQ(rounded({0.5f, 0.5f}, 1, 4), (std::vector<float>{0.5f, 0.5f}));
}

TEST(PointClusters, FindsWhatLiesTogether) {
  std::vector<std::array<double, 2>> points;
  for (int i = 0; i < 60; ++i)
    points.push_back({10.0 * (i % 3) + 0.1 * (i % 7), -5.0 * (i % 3) + 0.1 * (i % 5)});
  const std::vector<int> of = cluster_points(points, 3);
  for (size_t i = 0; i < points.size(); ++i) {
    EXPECT_EQ(of[i], of[i % 3]) << i;
    EXPECT_EQ(of[i] == of[0], i % 3 == 0) << i;
  }
  EXPECT_EQ(cluster_points(points, 3), of);
}

TEST(PointClusters, NoneIsEmpty) {
  const std::vector<std::array<double, 2>> points(7, {1, 1});
  const std::vector<int> of = cluster_points(points, 5);
  EXPECT_EQ(std::set<int>(of.begin(), of.end()).size(), 5u);
  EXPECT_EQ(cluster_points(points, 1), std::vector<int>(7, 0));
}

}  // namespace
}  // namespace lathe
