#include "algorithms/golden_section.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace lathe {
namespace {

TEST(GoldenSection, ClosesInOnTheMinimum) {
  for (const double centre : {0.0, 0.13, 0.5, 0.99}) {
    const Minimum found = golden_section(0, 1, 25, [&](double x) { return (x - centre) * (x - centre); });
    EXPECT_NEAR(found.x, centre, std::pow(0.618, 23)) << centre;
  }
}

TEST(GoldenSection, LooksAsOftenAsItIsToldAndGivesTheBestItSaw) {
  for (int64_t count = 0; count < 12; ++count) {
    std::vector<double> seen;
    const Minimum found = golden_section(2, 3, count, [&](double x) {
      seen.push_back(std::cos(20 * x));
      return seen.back();
    });
    EXPECT_EQ(static_cast<int64_t>(seen.size()), count);
    seen.push_back(std::numeric_limits<double>::infinity());
    EXPECT_EQ(found.value, *std::min_element(seen.begin(), seen.end()));
  }
}

TEST(GoldenSection, ANaNIsWorseThanAnything) {
  const Minimum found = golden_section(0, 1, 10, [](double x) { return x < 0.5 ? std::nan("") : 1 - x; });
  EXPECT_GT(found.x, 0.6);
  EXPECT_TRUE(std::isfinite(found.value));
}

}  // namespace
}  // namespace lathe
