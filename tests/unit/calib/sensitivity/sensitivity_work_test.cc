// What measuring computes, counted by hand: tiny_graph() has two blocks, each with q and o 64 x 64, k and v
// 32 x 64, gate and up 96 x 64, down 64 x 96. The held-out text has 30 tokens.
#include "calib/sensitivity/sensitivity_work.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

constexpr double kWeights = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96;
constexpr double kQkv = 128 * 64, kO = 64 * 64;

std::unique_ptr<Solver> rtn() {
  for (const SolverEntry& entry : solvers()) {
    if (entry.name == "rtn") return entry.make(Options(entry.options));
  }
  return nullptr;
}

/// q/k/v of the first block under two trials, o of the second under one of them.
struct Problem {
  Problem() {
    job.calibration.graph = &graph;
    job.calibration.ids = at::zeros({4, 25}, at::kLong);
    job.held_out = at::zeros({3, 10}, at::kLong);
    const Scheme scheme{.bits = 4, .group_size = 32, .symmetric = false};
    job.trials = {{.name = "a", .solver = solver.get(), .scheme = scheme},
                  {.name = "b", .solver = solver.get(), .scheme = scheme}};
    job.groups = {{0, {0, 1, 2}, {0, 1}}, {1, {3}, {1}}};
  }
  ModelGraph graph = testing::tiny_graph();
  std::unique_ptr<Solver> solver = rtn();
  SensitivityJob job;
};

TEST(SensitivityWork, VariantsPassFromTheirBlockOn) {
  Problem problem;
  problem.job.estimate = false;
  const SensitivityWork work = sensitivity_work(problem.job);
  // The model and two variants in the first block, one more in the second.
  EXPECT_EQ(work.held_out.products, (3 + 4) * 2 * 30 * kWeights);
  const double vocabulary = static_cast<double>(problem.graph.config.vocab_size);
  EXPECT_EQ(work.head, 4 * 2 * 30 * 64 * vocabulary);
  EXPECT_EQ(work.probabilities, 4 * 30 * vocabulary);
}

TEST(SensitivityWork, AnEstimateTakesThreePassesAndOneForEachTrial) {
  Problem problem;
  problem.job.measure_kl = false;
  EXPECT_EQ(sensitivity_work(problem.job).held_out.products, 2 * (1 + 3 + 2) * 2 * 30 * kWeights);
}

// Its rows are four of them at most: here all three.
TEST(SensitivityWork, WhatChecksTheEstimateIsCounted) {
  Problem problem;
  problem.job.measure_kl = false;
  const SensitivityWork without = sensitivity_work(problem.job);
  problem.job.checked = {1};
  const SensitivityWork work = sensitivity_work(problem.job);
  // The model in both blocks, one variant in the second.
  EXPECT_EQ(work.held_out.products, without.held_out.products + (1 + 2) * 2 * 30 * kWeights);
  const double vocabulary = static_cast<double>(problem.graph.config.vocab_size);
  EXPECT_EQ(work.head, without.head + 2 * 2 * 30 * 64 * vocabulary);
  EXPECT_EQ(work.probabilities, without.probabilities + 2 * 30 * vocabulary);
}

TEST(SensitivityWork, LinearsByThemselvesAreVariants) {
  Problem problem;
  problem.job.estimate = false;
  problem.job.linear_kl = true;
  // Under two trials q/k/v and each of them, 8 variants; o, which is its group, once.
  EXPECT_EQ(variant_states(problem.job), 3 * (1 + 8 + 1));
  EXPECT_EQ(sensitivity_work(problem.job).held_out.products, (9 + 10) * 2 * 30 * kWeights);
  problem.job.measure_kl = false;
  EXPECT_EQ(variant_states(problem.job), 3);
}

TEST(SensitivityWork, EachTrialSolvesItsGroups) {
  const Problem problem;
  const SensitivityWork work = sensitivity_work(problem.job);
  EXPECT_EQ(work.pass.forward.products, 2 * 2 * 100 * kWeights) << "once through the calibration text";
  ASSERT_EQ(work.trials.size(), 2u);
  EXPECT_EQ(work.trials[0], (Work{.roundings = kQkv}));
  EXPECT_EQ(work.trials[1], (Work{.roundings = kQkv + kO}));
  EXPECT_EQ(work.errors, (Work{.products = 2 * 64 * (2 * kQkv + kO), .roundings = 2 * (2 * kQkv + kO)}));
  EXPECT_EQ(work.flops(), work.pass.flops() + work.errors.flops() + work.trials[0].flops() +
                              work.trials[1].flops() + work.held_out.flops() + work.head);
}

}  // namespace
}  // namespace lathe
