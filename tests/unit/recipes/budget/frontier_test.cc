#include "recipes/budget/frontier.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

#include "lib/base/cancel.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using Groups = std::vector<std::vector<BudgetOption>>;

/// Of a choice; losses here are multiples of 2^-53 below 64, of which a long double's sum is exact.
struct Sum {
  uint64_t bytes = 0;
  long double loss = 0;
};

Sum sum_of(const Groups& groups, const std::vector<size_t>& choices) {
  Sum sum;
  for (size_t g = 0; g < groups.size(); ++g) {
    sum.bytes += groups[g][choices[g]].bytes;
    sum.loss += groups[g][choices[g]].loss;
  }
  return sum;
}

/// Every choice there is, by counting.
std::vector<Sum> all_sums(const Groups& groups) {
  std::vector<Sum> sums;
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

/// The best of `sums` by `better` that `fits`.
template <class Fits, class Better>
std::optional<Sum> best_of(const std::vector<Sum>& sums, const Fits& fits, const Better& better) {
  std::optional<Sum> best;
  for (const Sum& sum : sums) {
    if (fits(sum) && (!best || better(sum) < better(*best))) best = sum;
  }
  return best;
}

/// What was chosen is what should be, to the byte and the last bit.
void expect_same(const Groups& groups, const std::optional<std::vector<size_t>>& chosen,
                 const std::optional<Sum>& best, const std::string& where) {
  ASSERT_EQ(chosen.has_value(), best.has_value()) << where;
  if (!chosen) return;
  const Sum sum = sum_of(groups, *chosen);
  ASSERT_EQ(sum.bytes, best->bytes) << where;
  ASSERT_EQ(sum.loss, best->loss) << where;
}

std::optional<Sum> within(const std::vector<Sum>& sums, uint64_t bytes) {
  return best_of(
      sums, [&](const Sum& s) { return s.bytes <= bytes; },
      [](const Sum& s) { return std::pair(s.loss, s.bytes); });
}

TEST(BudgetFrontier, EqualsBruteForceForEveryBudget) {
  std::mt19937_64 random(17);
  for (int round = 0; round < 400; ++round) {
    const Groups groups = random_groups(random, round % 2 == 0 ? 1 : 50);
    const BudgetFrontier frontier(groups);
    const std::vector<Sum> sums = all_sums(groups);
    for (uint64_t budget = 0; budget <= 6000; budget += 37)
      expect_same(groups, frontier.within(budget), within(sums, budget),
                  fmt::format("round {}, budget {}", round, budget));
    for (const double most : {0.1, 0.7, 1.5, 3.0}) {
      const auto best = best_of(
          sums, [&](const Sum& s) { return s.loss <= most; },
          [](const Sum& s) { return std::pair(s.bytes, s.loss); });
      expect_same(groups, frontier.reaching(most), best, fmt::format("round {}, loss {}", round, most));
    }
  }
}

/// All undominated sums by lists that grow group by group (Nemhauser and Ullmann), without bounds.
std::vector<Sum> undominated(const Groups& groups) {
  std::vector<Sum> list = {{}};
  for (const auto& options : groups) {
    std::vector<Sum> all;
    for (const Sum& sum : list) {
      for (const BudgetOption& option : options)
        all.push_back({sum.bytes + option.bytes, sum.loss + option.loss});
    }
    std::ranges::sort(all, {}, [](const Sum& s) { return std::pair(s.bytes, s.loss); });
    list.clear();
    for (const Sum& sum : all) {
      if (list.empty() || sum.loss < list.back().loss) list.push_back(sum);
    }
  }
  return list;
}

/// Types of GGUF or bits, and what they lose of a group: a power of its bits, the group's own weight, noise.
Groups model_groups(size_t blocks, const std::vector<uint64_t>& weights, const std::vector<double>& bits,
                    std::mt19937_64& random) {
  std::lognormal_distribution<> sensitivity(0, 1), noise(0, 0.1);
  Groups groups;
  for (size_t block = 0; block < blocks; ++block) {
    for (const uint64_t count : weights) {
      auto& options = groups.emplace_back();
      const double own = sensitivity(random);
      for (const double b : bits) {
        const double loss = own * noise(random) * std::exp2(-2 * b);
        options.push_back({static_cast<uint64_t>(static_cast<double>(count) * b / 8),
                           std::ldexp(std::round(std::ldexp(loss, 50)), -50)});
      }
    }
  }
  return groups;
}

TEST(BudgetFrontier, EqualsTheWholeFrontierOfManyGroups) {
  std::mt19937_64 random(29);
  for (const bool even : {false, true}) {
    Groups groups =
        model_groups(12, {64 * 64, 64 * 16, 64 * 16, 64 * 256}, {2.625, 3.4375, 4.5, 5.5, 6.5625}, random);
    if (even) {  // losses that follow from bytes: no group is a better place than another
      for (auto& options : groups)
        for (BudgetOption& option : options) option.loss = 16 - static_cast<double>(option.bytes) / 1024;
    }
    const BudgetFrontier frontier(groups);
    const std::vector<Sum> sums = undominated(groups);
    const uint64_t least = sums.front().bytes, most = sums.back().bytes;
    for (uint64_t budget = least; budget <= most + 1000; budget += (most - least) / 61) {
      expect_same(groups, frontier.within(budget), within(sums, budget), fmt::format("budget {}", budget));
      const auto loss = static_cast<double>(within(sums, budget)->loss);
      const auto reaching = frontier.reaching(loss);
      ASSERT_TRUE(reaching);
      ASSERT_LE(sum_of(groups, *reaching).bytes, budget);
    }
  }
}

TEST(BudgetFrontier, PointsAreParetoAndMadeByTheirChoices) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 100; ++round) {
    const Groups groups = random_groups(random, 10);
    const BudgetFrontier frontier(groups);
    const std::vector<Sum> sums = all_sums(groups);
    for (size_t p = 0; p < frontier.points().size(); ++p) {
      const BudgetOption& point = frontier.points()[p];
      const Sum sum = sum_of(groups, frontier.choices(p));
      EXPECT_EQ(sum.bytes, point.bytes);
      EXPECT_EQ(static_cast<double>(sum.loss), point.loss);
      EXPECT_EQ(sum.loss, within(sums, point.bytes)->loss);
      if (p == 0) continue;
      EXPECT_GT(point.bytes, frontier.points()[p - 1].bytes);
      EXPECT_LT(point.loss, frontier.points()[p - 1].loss);
    }
    EXPECT_EQ(frontier.points().front().bytes,
              best_of(
                  sums, [](const Sum&) { return true; }, [](const Sum& s) { return s.bytes; })
                  ->bytes);
    EXPECT_EQ(frontier.points().back().loss, static_cast<double>(within(sums, 1 << 20)->loss));
  }
}

// Taking the best ratio of loss to bytes first, as greedy choosers do, can't find this.
TEST(BudgetFrontier, FindsWhatGreedyMisses) {
  const Groups groups = {{{0, 10}, {6, 0}}, {{0, 8}, {5, 0}}, {{0, 8}, {5, 0}}};
  const BudgetFrontier frontier(groups);
  EXPECT_EQ(frontier.within(10), (std::vector<size_t>{0, 1, 1}));
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
  const Groups infinite = {{{1, 1.7e308}}, {{1, 1.7e308}}};
  EXPECT_THROW(BudgetFrontier{infinite}, InternalError);
}

// Llama 3 70B: its tensors in blocks of GGUF (embedding and head left out), and stacks of linears in groups
// of mixed sizes. States are what time and memory go into.
TEST(BudgetFrontier, LargeModelsAreSmallProblems) {
  std::mt19937_64 random(5);
  const std::vector<Groups> models = {
      model_groups(80,
                   {8192UL * 8192, 1024UL * 8192, 1024UL * 8192, 8192UL * 8192, 28672UL * 8192,
                    28672UL * 8192, 8192UL * 28672},
                   {2.625, 3.4375, 4.5, 5.5, 6.5625, 8.5}, random),
      model_groups(
          80, {10240UL * 8192, 8192UL * 8192, 57344UL * 8192, 8192UL * 28672},
          {3 + 19 / 128.0, 4 + 20 / 128.0, 4 + 20 / 64.0, 4 + 20 / 32.0, 5 + 21 / 128.0, 6 + 22 / 64.0},
          random)};
  for (const Groups& groups : models) {
    const BudgetFrontier frontier(groups, 1 << 20);
    const uint64_t least = frontier.points().front().bytes, most = frontier.points().back().bytes;
    for (int part = 1; part < 8; ++part) {
      const uint64_t budget = least + (most - least) / 8 * static_cast<uint64_t>(part) + 12345;
      const auto chosen = frontier.within(budget);
      ASSERT_TRUE(chosen);
      const Sum sum = sum_of(groups, *chosen);
      EXPECT_LE(sum.bytes, budget);
      const auto reaching = frontier.reaching(static_cast<double>(sum.loss));
      ASSERT_TRUE(reaching);
      EXPECT_LE(sum_of(groups, *reaching).bytes, sum.bytes);
    }
  }
}

// Sums that only a long list can tell apart: refused instead of filling the memory.
TEST(BudgetFrontier, RefusesWhatTakesTooManyStates) {
  std::mt19937_64 random(7);
  const Groups groups =
      model_groups(12, {64 * 64, 64 * 16, 64 * 256}, {2.625, 3.4375, 4.5, 5.5, 6.5625}, random);
  const uint64_t least = BudgetFrontier(groups).points().front().bytes;
  EXPECT_THAT([&] { BudgetFrontier(groups, 3).within(least + 40000); },
              testing::ThrowsMessage<UserError>(testing::HasSubstr("expected fewer candidates")));
}

// A request to cancel can't be taken back, so it is made in a child process.
[[noreturn]] void cancel_a_choice() {
  std::mt19937_64 random(7);
  const Groups groups =
      model_groups(12, {64 * 64, 64 * 16, 64 * 256}, {2.625, 3.4375, 4.5, 5.5, 6.5625}, random);
  const BudgetFrontier frontier(groups);
  request_cancel();
  try {
    frontier.within(frontier.points().front().bytes + 40000);
  } catch (const Interrupted&) {
    std::_Exit(130);
  }
  std::_Exit(1);
}

TEST(BudgetFrontierDeathTest, ARequestToCancelEndsTheChoice) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(cancel_a_choice(), testing::ExitedWithCode(130), "");
}

}  // namespace
}  // namespace lathe
