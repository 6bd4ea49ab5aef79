// KVQuant's grids, one number and one token at a time; the k-means behind them.
#include "lib/numeric/kvquant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/numeric/weighted_kmeans.h"

namespace lathe {
namespace {

const KvQuantLevels kLevels{{-1, -0.25f, 0.25f, 1}};

TEST(KvQuantLevels, TheNearestTheLowerOfTwoAsNear) {
  EXPECT_EQ(kLevels.nearest(-9), -1);
  EXPECT_EQ(kLevels.nearest(0.24f), 0.25f);
  EXPECT_EQ(kLevels.nearest(0), -0.25f);
  EXPECT_EQ((KvQuantLevels{{-1, 1}, 0.5f, 0.125f}.nearest(0.1f)), 0.625f);
}

TEST(KvQuantKey, InItsChannelsRangeOrBesideIt) {
  EXPECT_EQ(round_kvquant_key(4.5f, 2, 6, kLevels), 4.5f);  // 4 + 0.25 * 2
  EXPECT_EQ(round_kvquant_key(5.9f, 2, 6, kLevels), 6);
  EXPECT_EQ(round_kvquant_key(6, 2, 6, kLevels), 6);
  EXPECT_EQ(round_kvquant_key(6.5f, 2, 6, kLevels), 6.5f);  // an outlier
  EXPECT_EQ(round_kvquant_key(1.5f, 2, 6, kLevels), 1.5f);
  EXPECT_EQ(round_kvquant_key(2, 2, 2, kLevels), 2);
}

TEST(KvQuantToken, OutliersDontStretchItsRange) {
  std::vector<float> values = {100, -1, -0.3f, 0.2f, 0.9f, 1, -80};
  std::vector<float> out(values.size());
  round_kvquant_token(values, kLevels, 0.1, out);
  EXPECT_EQ(out, (std::vector<float>{100, -1, -0.25f, 0.25f, 1, 1, -80}));
  round_kvquant_token(values, kLevels, 0, out);
  EXPECT_EQ(out[0], 100);
  EXPECT_NE(out[3], 0.25f);
  EXPECT_EQ(kvquant_outliers(0.1, values.size()), 2u);
  EXPECT_EQ(kvquant_outliers(0, values.size()), 0u);
  EXPECT_EQ(kvquant_outliers(0.01, 192), 2u);
}

double cost_of(const std::vector<WeightedPoint>& points, const std::vector<double>& centres) {
  double sum = 0;
  for (const WeightedPoint& point : points) {
    double best = std::numeric_limits<double>::infinity();
    for (const double c : centres) best = std::min(best, (point.value - c) * (point.value - c));
    sum += point.weight * best;
  }
  return sum;
}

/// The least cost over all ways to cut the points in order.
double least_cost(const std::vector<WeightedPoint>& points, size_t begin, int k) {
  if (begin == points.size()) return 0;
  if (k == 0) return std::numeric_limits<double>::infinity();
  double best = std::numeric_limits<double>::infinity();
  for (size_t end = begin + 1; end <= points.size(); ++end) {
    double weight = 0, first = 0;
    for (size_t i = begin; i < end; ++i)
      weight += points[i].weight, first += points[i].weight * points[i].value;
    const std::vector<WeightedPoint> part(points.begin() + static_cast<long>(begin),
                                          points.begin() + static_cast<long>(end));
    best = std::min(best, cost_of(part, {first / weight}) + least_cost(points, end, k - 1));
  }
  return best;
}

TEST(WeightedKmeans, IsTheLeastOfAllCuts) {
  std::vector<WeightedPoint> points;
  for (int i = 0; i < 11; ++i)
    points.push_back({std::sin(3.7 * i) + 100, 0.1 + std::fmod(1.9 * i, 1.3) * (i % 4 == 0 ? 20 : 1)});
  std::ranges::sort(points, {}, &WeightedPoint::value);
  for (int k = 1; k <= 6; ++k) {
    const std::vector<double> centres = weighted_kmeans(points, k);
    ASSERT_EQ(centres.size(), static_cast<size_t>(k));
    EXPECT_TRUE(std::ranges::is_sorted(centres));
    EXPECT_NEAR(cost_of(points, centres), least_cost(points, 0, k), 1e-9) << k;
  }
}

TEST(WeightedKmeans, FewerPointsThanLevels) {
  const std::vector<WeightedPoint> points = {{-1, 2}, {3, 1}};
  EXPECT_EQ(weighted_kmeans(points, 4), (std::vector<double>{-1, 3, 3, 3}));
  EXPECT_NEAR(weighted_kmeans(points, 1)[0], 1.0 / 3, 1e-12);
}

}  // namespace
}  // namespace lathe
