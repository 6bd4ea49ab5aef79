#include "recipes/budget/choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

ChoiceGroup group(const std::string& name, std::vector<size_t> candidates, std::vector<uint64_t> bytes,
                  const std::string& tied = "") {
  ChoiceGroup result;
  result.name = name;
  result.weights = 80;
  result.candidates = std::move(candidates);
  result.bytes = std::move(bytes);
  result.tied = tied;
  return result;
}

/// Two groups that go their own ways, and two that can't.
ChoicePlan plan_of_four() {
  ChoicePlan plan;
  plan.groups = {group("a", {0, 1}, {30, 40}), group("b", {1}, {40}), group("c", {0, 1}, {30, 40}, "experts"),
                 group("d", {0, 1}, {30, 40}, "experts")};
  plan.fixed_bytes = 1000;
  return plan;
}
const ChoiceLosses kLosses = {{0.5, 0.1}, {0.2}, {0.3, 0.1}, {0.4, 0.2}};

Budget size_of(uint64_t bytes) { return {.size = bytes, .where = "my.yaml:9:9"}; }

TEST(BudgetChoice, TiedGroupsTakeOneCandidate) {
  const ChoicePlan plan = plan_of_four();
  const BudgetChoice choice(plan, kLosses);
  const std::vector<Mixture> all = choice.some(20, choice.least());
  ASSERT_EQ(all.size(), 3u);  // both finer experts cost more and save no more than a's: 0.4 each
  for (const Mixture& mixture : all) {
    EXPECT_EQ(mixture.choice[2], mixture.choice[3]);
    EXPECT_EQ(mixture.bytes, 1000 + plan.bytes(mixture.choice));
  }
  EXPECT_THAT(choice.pick(size_of(1149)).choice, testing::ElementsAre(1, 0, 0, 0));
  EXPECT_THAT(choice.pick(size_of(1160)).choice, testing::ElementsAre(1, 0, 1, 1));
  EXPECT_DOUBLE_EQ(choice.pick(size_of(1160)).kl, 0.6);
}

TEST(BudgetChoice, BitsAreOfTheWeightsThatAreChosenFor) {
  const ChoicePlan plan = plan_of_four();
  const BudgetChoice choice(plan, kLosses);
  EXPECT_DOUBLE_EQ(choice.least().bits_per_weight, 8 * 130 / 320.0);
  const Mixture mixture = choice.pick({.bits_per_weight = 3.5});
  EXPECT_DOUBLE_EQ(mixture.bits_per_weight, 3.5);
  EXPECT_THAT(mixture.choice, testing::ElementsAre(1, 0, 0, 0));
}

TEST(BudgetChoice, ABudgetOfLossTakesTheSmallest) {
  const ChoicePlan plan = plan_of_four();
  const BudgetChoice choice(plan, kLosses);
  EXPECT_EQ(choice.pick({.kl = 1.0}).bytes, 1140u);
  EXPECT_EQ(choice.pick({.kl = 0.999}).bytes, 1160u);
}

TEST(BudgetChoice, SaysWhatIsPossible) {
  const ChoicePlan plan = plan_of_four();
  const BudgetChoice choice(plan, kLosses);
  const auto refusal = [&](const Budget& budget) -> std::string {
    try {
      choice.pick(budget);
    } catch (const UserError& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_THAT(refusal(size_of(1129)),
              testing::AllOf(testing::StartsWith("my.yaml:9:9: "), testing::HasSubstr("(1130 bytes)")));
  EXPECT_THAT(refusal(size_of(500)), testing::HasSubstr("(1130 bytes)"));
  EXPECT_EQ(refusal(size_of(1130)), "none");
  EXPECT_THAT(refusal({.bits_per_weight = 3.2}),
              testing::HasSubstr("the least possible with these candidates is 3.25"));
  EXPECT_THROW(choice.check(size_of(1129)), UserError);
  EXPECT_NO_THROW(choice.check({.kl = 0.59}));
  EXPECT_THAT(refusal({.kl = 0.59}), testing::HasSubstr("the least that these candidates lose is 0.6"));
}

TEST(BudgetChoice, UniformIsForCandidatesThatAllGroupsCanHave) {
  const ChoicePlan plan = plan_of_four();
  const BudgetChoice choice(plan, kLosses);
  EXPECT_FALSE(choice.uniform(0));
  EXPECT_EQ(choice.uniform(1)->bytes, 1160u);
}

}  // namespace
}  // namespace lathe
