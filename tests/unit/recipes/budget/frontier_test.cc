#include "recipes/budget/frontier.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "lib/base/error.h"

namespace lathe {
namespace {

using Groups = std::vector<std::vector<BudgetOption>>;

BudgetOption sum_of(const Groups& groups, const std::vector<size_t>& choices) {
  BudgetOption sum;
  for (size_t g = 0; g < groups.size(); ++g) {
    sum.bytes += groups[g][choices[g]].bytes;
    sum.loss += groups[g][choices[g]].loss;
  }
  return sum;
}

/// Every choice there is, by counting.
std::vector<BudgetOption> all_sums(const Groups& groups) {
  std::vector<BudgetOption> sums;
  std::vector<size_t> choices(groups.size(), 0);
  for (;;) {
    sums.push_back(sum_of(groups, choices));
    size_t g = 0;
    while (g < groups.size() && ++choices[g] == groups[g].size()) choices[g++] = 0;
    if (g == groups.size()) return sums;
  }
}

/// `step`: bytes are its multiples, so that sums coincide where it is large.
Groups random_groups(std::mt19937_64& random, uint64_t step) {
  Groups groups(1 + random() % 6);
  for (auto& options : groups) {
    options.resize(1 + random() % 4);
    for (BudgetOption& option : options) {
      option.bytes = random() % 1000 / step * step;
      option.loss = std::uniform_real_distribution<>(0, 1)(random);
      if (random() % 8 == 0) option.loss = 0.25;  // ties
    }
  }
  return groups;
}

TEST(BudgetFrontier, EqualsBruteForceForEveryBudget) {
  std::mt19937_64 random(17);
  for (int round = 0; round < 400; ++round) {
    const Groups groups = random_groups(random, round % 2 == 0 ? 1 : 50);
    const BudgetFrontier frontier(groups);
    const std::vector<BudgetOption> sums = all_sums(groups);
    for (uint64_t budget = 0; budget <= 6000; budget += 37) {
      double best = std::numeric_limits<double>::infinity();
      for (const BudgetOption& sum : sums) {
        if (sum.bytes <= budget) best = std::min(best, sum.loss);
      }
      const auto point = frontier.within(budget);
      ASSERT_EQ(point.has_value(), std::isfinite(best)) << "round " << round << ", budget " << budget;
      if (!point) continue;
      ASSERT_EQ(frontier.points()[*point].loss, best) << "round " << round << ", budget " << budget;
    }
    for (const double most : {0.1, 0.7, 1.5, 3.0}) {
      uint64_t least = std::numeric_limits<uint64_t>::max();
      for (const BudgetOption& sum : sums) {
        if (sum.loss <= most) least = std::min(least, sum.bytes);
      }
      const auto point = frontier.reaching(most);
      ASSERT_EQ(point.has_value(), least != std::numeric_limits<uint64_t>::max());
      if (!point) continue;
      ASSERT_EQ(frontier.points()[*point].bytes, least);
    }
  }
}

TEST(BudgetFrontier, PointsAreParetoAndMadeByTheirChoices) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 100; ++round) {
    const Groups groups = random_groups(random, 10);
    const BudgetFrontier frontier(groups);
    for (size_t p = 0; p < frontier.points().size(); ++p) {
      const BudgetOption sum = sum_of(groups, frontier.choices(p));
      EXPECT_EQ(sum.bytes, frontier.points()[p].bytes);
      EXPECT_EQ(sum.loss, frontier.points()[p].loss);
      if (p == 0) continue;
      EXPECT_GT(frontier.points()[p].bytes, frontier.points()[p - 1].bytes);
      EXPECT_LT(frontier.points()[p].loss, frontier.points()[p - 1].loss);
    }
  }
}

// Taking the best ratio of loss to bytes first, as greedy choosers do, can't find this.
TEST(BudgetFrontier, FindsWhatGreedyMisses) {
  const Groups groups = {{{0, 10}, {6, 0}}, {{0, 8}, {5, 0}}, {{0, 8}, {5, 0}}};
  const BudgetFrontier frontier(groups);
  EXPECT_EQ(frontier.choices(*frontier.within(10)), (std::vector<size_t>{0, 1, 1}));
}

TEST(BudgetFrontier, SaysWhatIsImpossible) {
  const Groups groups = {{{5, 1}, {9, 0.5}}, {{7, 2}}};
  const BudgetFrontier frontier(groups);
  EXPECT_FALSE(frontier.within(11));
  EXPECT_TRUE(frontier.within(12));
  EXPECT_FALSE(frontier.reaching(2.4));
  EXPECT_THROW(BudgetFrontier(Groups(1)), InternalError);
  const Groups unknown = {{{1, std::numeric_limits<double>::quiet_NaN()}}};
  EXPECT_THROW(BudgetFrontier{unknown}, InternalError);
}

// A model of 80 blocks with five candidates: the list of states stays as short as its sums are few.
TEST(BudgetFrontier, LargeModelsAreSmallProblems) {
  std::mt19937_64 random(5);
  Groups groups;
  for (int block = 0; block < 80; ++block) {
    for (const uint64_t weights : {8192UL * 10240, 8192UL * 8192, 8192UL * 57344, 28672UL * 8192}) {
      auto& options = groups.emplace_back();
      for (const uint64_t bits : {3, 4, 5, 6, 8})
        options.push_back({weights * bits / 8, std::uniform_real_distribution<>(0, 1)(random) / (1 << bits)});
    }
  }
  const BudgetFrontier frontier(groups);
  EXPECT_GT(frontier.points().size(), 1000u);
  EXPECT_LT(frontier.points().size(), 60000u);
}

}  // namespace
}  // namespace lathe
