#include "calib/sensitivity/checked_groups.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// Groups q/k/v, o, gate/up, down of each of so many blocks.
struct Problem {
  explicit Problem(int64_t blocks) : graph(testing::family_graph("llama", 64, blocks)) {
    job.calibration.graph = &graph;
    job.held_out = at::arange(9 * 5).view({9, 5});
    for (size_t b = 0; b < graph.blocks.size(); ++b) {
      std::map<Slot, TrialGroup> groups;
      for (size_t i = 0; i < graph.blocks[b].linears.size(); ++i) {
        TrialGroup& group = groups[graph.blocks[b].linears[i].input.slot];
        group.block = b;
        group.linears.push_back(i);
        group.trials = {0, 1};
      }
      for (auto& [slot, group] : groups) job.groups.push_back(group);
    }
  }
  LinearRole role(size_t group) const {
    return graph.blocks[job.groups[group].block].linears[job.groups[group].linears.front()].role;
  }
  ModelGraph graph;
  SensitivityJob job;
};

TEST(CheckedGroups, StandAtAllDepthsAndAreOfAllRoles) {
  const Problem problem(32);
  ASSERT_EQ(problem.job.groups.size(), 128u);
  const std::vector<size_t> groups = spread_groups(problem.job, 8);
  std::map<LinearRole, int> roles;
  std::vector<size_t> blocks;
  for (const size_t g : groups) {
    ++roles[problem.role(g)];
    blocks.push_back(problem.job.groups[g].block);
  }
  EXPECT_THAT(blocks, ElementsAre(2, 6, 10, 14, 18, 22, 26, 30));
  ASSERT_EQ(roles.size(), 4u);
  for (const auto& [role, count] : roles) EXPECT_EQ(count, 2);
}

TEST(CheckedGroups, AreAsManyAsAreWantedAndThere) {
  const Problem problem(3);
  EXPECT_THAT(spread_groups(problem.job, 0), IsEmpty());
  for (int64_t count = 1; count <= 14; ++count) {
    const std::vector<size_t> groups = spread_groups(problem.job, count);
    EXPECT_EQ(groups.size(), std::min<size_t>(static_cast<size_t>(count), 12)) << count;
    EXPECT_EQ(std::set<size_t>(groups.begin(), groups.end()).size(), groups.size()) << count;
    EXPECT_TRUE(std::ranges::is_sorted(groups));
  }
  // A role that few blocks have: down_proj of the last alone.
  Problem uneven(3);
  std::erase_if(uneven.job.groups, [&](const TrialGroup& group) {
    return group.block < 2 &&
           uneven.graph.blocks[group.block].linears[group.linears.front()].role == LinearRole::down_proj;
  });
  EXPECT_EQ(spread_groups(uneven.job, 9).size(), 9u);
}

TEST(CheckedGroups, AreMeasuredOnFourRows) {
  Problem problem(2);
  problem.job.measure_kl = false;
  problem.job.checked = {1, 6};
  problem.job.held_out_lengths = {1, 2, 3, 4, 5, 4, 3, 2, 1};
  const SensitivityJob checking = checking_job(problem.job);
  ASSERT_EQ(checking.groups.size(), 2u);
  EXPECT_EQ(checking.groups[0].linears, problem.job.groups[1].linears);
  EXPECT_EQ(checking.groups[1].block, 1u);
  EXPECT_TRUE(checking.measure_kl);
  EXPECT_FALSE(checking.estimate);
  EXPECT_TRUE(
      checking.held_out.equal(problem.job.held_out.index_select(0, at::tensor({1, 3, 5, 7}, at::kLong))));
  EXPECT_THAT(checking.held_out_lengths, ElementsAre(2, 4, 4, 2));
  problem.job.held_out = problem.job.held_out.narrow(0, 0, 2);
  problem.job.held_out_lengths = {};
  EXPECT_TRUE(checking_job(problem.job).held_out.equal(problem.job.held_out)) << "there are no more";
}

}  // namespace
}  // namespace lathe
