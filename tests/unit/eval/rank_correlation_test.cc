#include "lib/eval/rank_correlation.h"

#include <gtest/gtest.h>

#include <vector>

namespace lathe {
namespace {

using Values = std::vector<double>;

TEST(Spearman, LooksAtOrderAlone) {
  EXPECT_DOUBLE_EQ(*spearman(Values{1, 2, 3, 4}, Values{1, 10, 100, 1e6}), 1);
  EXPECT_DOUBLE_EQ(*spearman(Values{1, 2, 3, 4}, Values{5, 4, 0, -7}), -1);
}

// numpy.corrcoef of the mean ranks of the same values.
TEST(Spearman, SharesTheRanksOfTies) {
  EXPECT_NEAR(*spearman(Values{1, 2, 2, 3, 5}, Values{4, 1, 5, 5, 9}), 0.7631578947368421, 1e-14);
  EXPECT_NEAR(*spearman(Values{0.3, 0.1, 0.4, 0.1, 0.5, 0.9, 0.2}, Values{2, 7, 1, 8, 2, 8, 1}),
              -0.08334762598987157, 1e-12);
}

TEST(Spearman, SaysNothingWithoutTwoValues) {
  EXPECT_FALSE(spearman(Values{1}, Values{2}));
  EXPECT_FALSE(spearman(Values{}, Values{}));
  EXPECT_FALSE(spearman(Values{1, 1, 1}, Values{1, 2, 3}));
}

}  // namespace
}  // namespace lathe
