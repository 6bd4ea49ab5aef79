#include "calib/sensitivity/sensitivity.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "calib/sensitivity/checked_groups.h"
#include "lib/base/error.h"
#include "lib/eval/evaluate.h"
#include "lib/model/forward.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

using namespace lathe::testing;

std::unique_ptr<Solver> solver_named(const std::string& name) {
  for (const SolverEntry& entry : solvers()) {
    if (entry.name == name) return entry.make(Options(entry.options));
  }
  return nullptr;
}

Scheme int_scheme(int bits) { return {.bits = bits, .group_size = 16, .symmetric = false}; }

/// A model, its groups (q/k/v, o, gate/up, down of each block; all experts' together; with `head`, the head)
/// and two trials.
struct Problem {
  explicit Problem(ModelGraph graph_, uint64_t seed = 1, bool head = false)
      : graph(std::move(graph_)), weights(random_weights(graph, seed)) {
    at::manual_seed(9);
    job.calibration.graph = &graph;
    job.calibration.weights = &weights;
    job.calibration.ids = at::randint(50, {6, 24}, at::kLong);
    job.held_out = at::randint(50, {3, 20}, at::kLong);
    job.trials = {{.name = "coarse", .solver = rtn.get(), .scheme = int_scheme(2)},
                  {.name = "fine", .solver = gptq.get(), .scheme = int_scheme(4)}};
    for (size_t b = 0; b < graph.blocks.size(); ++b) {
      std::map<std::pair<Slot, bool>, TrialGroup> groups;
      const auto& linears = graph.blocks[b].linears;
      for (size_t i = 0; i < linears.size(); ++i) {
        if (!word_matches(linears[i], "linear")) continue;
        TrialGroup& group = groups[{linears[i].input.slot, linears[i].input.expert.has_value()}];
        group.block = b;
        group.linears.push_back(i);
        group.trials = {0, 1};
      }
      for (auto& [slot, group] : groups) job.groups.push_back(group);
    }
    if (head) job.groups.push_back({graph.blocks.size(), {0}, {0, 1}});
  }

  /// The model with one group rounded as the trial's own solver rounds it in a run of its own.
  MemoryWeights with_group_rounded(const TrialGroup& group, const Trial& trial) const {
    CalibrationJob run = job.calibration;
    run.propagate = Propagate::reference;
    for (const Block& block : graph.blocks) run.tasks.emplace_back(block.linears.size());
    if (is_head(job, group)) run.tasks.emplace_back(1);
    for (const size_t i : group.linears)
      run.tasks[group.block][i] = {trial.solver, trial.scheme, trial.activations};
    std::vector<BlockOutcome> outcomes;
    calibrate(run, {.block_done = [&](BlockOutcome&& outcome) { outcomes.push_back(std::move(outcome)); },
                    .progress = {}});
    return finished_model(weights, outcomes);
  }

  EvalResult::Divergence divergence_of(const MemoryWeights& changed) const {
    return *evaluate({&graph, &changed}, EvalInput{&graph, &weights}, job.held_out, at::kCPU, {}).divergence;
  }

  ModelGraph graph;
  MemoryWeights weights;
  std::unique_ptr<Solver> rtn = solver_named("rtn"), gptq = solver_named("gptq");
  SensitivityJob job;
};

void expect_same_kl_as_evaluation(const Problem& problem) {
  const SensitivityResult result = measure_sensitivity(problem.job, {});
  ASSERT_EQ(result.groups.size(), problem.job.groups.size());
  for (size_t g = 0; g < result.groups.size(); ++g) {
    const TrialGroup& group = problem.job.groups[g];
    for (size_t k = 0; k < group.trials.size(); ++k) {
      const Trial& trial = problem.job.trials[group.trials[k]];
      const double expected = problem.divergence_of(problem.with_group_rounded(group, trial)).mean;
      EXPECT_GT(expected, 0);
      EXPECT_NEAR(*result.groups[g][k].kl, expected, 1e-3 * expected + 1e-9)
          << "group " << g << ", " << trial.name;
    }
  }
}

// What evaluate() says of a model in which that group alone is quantised.
TEST(Sensitivity, KlIsThatOfTheModelWithOneGroupQuantised) {
  expect_same_kl_as_evaluation(Problem(tiny_graph(), 1, /*head=*/true));
}

TEST(Sensitivity, KlOfExpertsIsThatOfAllOfThemQuantised) {
  expect_same_kl_as_evaluation(Problem(family_graph("qwen2_moe", 64)));
}

TEST(Sensitivity, InputsThatATrialQuantisesCount) {
  Problem problem(tiny_graph(), 1, /*head=*/true);
  for (Trial& trial : problem.job.trials)
    trial.activations = ActivationTask{
        .scheme = {.bits = 8, .dynamic = false, .per = ActivationScheme::Per::tensor}, .observer = {}};
  expect_same_kl_as_evaluation(problem);
}

std::unique_ptr<Transform> transform_named(const std::string& name) {
  for (const TransformEntry& entry : transforms()) {
    if (entry.name == name) return entry.make(Options(entry.options));
  }
  return nullptr;
}

/// The folded model with one group of it as its trial's solver leaves it, or none.
MemoryWeights folded_with_group_rounded(const Problem& problem, const TrialGroup* group) {
  CalibrationJob run = problem.job.calibration;
  run.propagate = Propagate::reference;
  run.hand_over_weights = true;
  for (const Block& block : problem.graph.blocks) run.tasks.emplace_back(block.linears.size());
  run.tasks.emplace_back(1);
  for (const TrialGroup& one : problem.job.groups) {
    const Trial& trial = problem.job.trials[one.trials.front()];
    for (const size_t i : one.linears)
      run.tasks[one.block][i] = {trial.solver, trial.scheme, trial.activations};
  }
  std::set<const Linear*> rounded;
  if (group != nullptr)
    for (const size_t i : group->linears) rounded.insert(&problem.graph.part(group->block).linears[i]);
  std::vector<BlockOutcome> outcomes;
  const auto keep = [&](BlockOutcome&& outcome) {
    for (LinearOutcome& linear : outcome.linears) {
      if (rounded.contains(linear.linear)) continue;
      linear.quantized = {};
      linear.quantized.scheme = Scheme::as_they_are();
      linear.quantized.values = linear.given->weight;
    }
    outcomes.push_back(std::move(outcome));
  };
  calibrate(run, {.block_done = keep, .progress = {}});
  return finished_model(problem.weights, outcomes);
}

/// `folded`: groups whose inputs the transform scales or whose ranges it offers.
void expect_folded_models_kl(const std::string& transform, size_t folded,
                             std::optional<ActivationTask> activations) {
  Problem problem(tiny_graph(), 1, /*head=*/true);
  const auto folds = transform_named(transform);
  problem.job.trials = {{"coarse", problem.rtn.get(), int_scheme(3), std::move(activations)}};
  for (TrialGroup& group : problem.job.groups) group.trials = {0};
  const SensitivityResult plain = measure_sensitivity(problem.job, {});
  problem.job.calibration.transforms = {folds.get()};
  const SensitivityResult result = measure_sensitivity(problem.job, {});
  // Rounding alone: up to 5e-9 on one processor, below 1e-9 on another; a group that is rounded to 3 bits has
  // 1e-4 and more.
  EXPECT_LT(problem.divergence_of(folded_with_group_rounded(problem, nullptr)).mean, 1e-7);
  size_t changed = 0;
  for (size_t g = 0; g < result.groups.size(); ++g) {
    const GroupLoss& loss = result.groups[g].front();
    const double kl = problem.divergence_of(folded_with_group_rounded(problem, &problem.job.groups[g])).mean;
    EXPECT_NEAR(*loss.kl, kl, 1e-3 * kl + 1e-9) << transform << ", group " << g;
    changed += *loss.output_error != *plain.groups[g].front().output_error;
    if (is_head(problem.job, problem.job.groups[g])) {
      EXPECT_FALSE(loss.fisher) << "the head's KL is measured in any case";
      continue;
    }
    EXPECT_GT(*loss.fisher, 0.2 * kl) << transform << ", group " << g;
    EXPECT_LT(*loss.fisher, 5 * kl) << transform << ", group " << g;
  }
  EXPECT_EQ(changed, folded) << transform;
}

// Folds into norms and, AWQ's, into rows that are solved by then (v before o, up before down); AWQ's clips,
// the head's, too.
TEST(Sensitivity, WithTransformsItIsTheFoldedModelsGroup) {
  expect_folded_models_kl("awq", 9, std::nullopt);
  expect_folded_models_kl(
      "smoothquant", 4,
      ActivationTask{.scheme = {.bits = 8, .dynamic = false, .per = ActivationScheme::Per::tensor},
                     .observer = {}});
}

TEST(Sensitivity, ErrorsAreThoseOfTheGroupsMatrices) {
  const Problem problem(tiny_graph());
  const SensitivityResult result = measure_sensitivity(problem.job, {});
  const TrialGroup& group = problem.job.groups.front();  // q, k, v of block 0
  ASSERT_EQ(group.linears.size(), 3u);
  const Block& block = problem.graph.blocks.front();
  const BlockWeights weights(block, problem.weights, at::kCPU);
  const RopeTables rope = rope_tables(problem.graph.config, 24, at::kCPU);
  const at::Tensor hidden =
      embed(problem.graph, problem.weights.load("model.embed_tokens.weight"), problem.job.calibration.ids);
  const at::Tensor x = BlockForward(problem.graph.config, block, weights, rope)
                           .attention_in(hidden)
                           .flatten(0, 1)
                           .to(at::kDouble);
  const MemoryWeights changed = problem.with_group_rounded(group, problem.job.trials[1]);
  const GroupLoss& found = result.groups[0][1];
  ASSERT_EQ(found.linears.size(), 3u);
  double error = 0, whole = 0, output = 0, outputs = 0, count = 0;
  size_t k = 0;
  for (const size_t i : group.linears) {
    const std::string name = block.linears[i].name + ".weight";
    const at::Tensor w = problem.weights.load(name).to(at::kDouble);
    const at::Tensor d = changed.load(name).to(at::kDouble) - w;
    error += d.square().sum().item<double>();
    whole += w.square().sum().item<double>();
    output += x.mm(d.t()).square().sum().item<double>() / static_cast<double>(x.size(0));
    outputs += x.mm(w.t()).square().sum().item<double>() / static_cast<double>(x.size(0));
    count += static_cast<double>(w.numel());
    const double mse = d.square().mean().item<double>();
    const double one = x.mm(d.t()).square().sum().item<double>() / static_cast<double>(x.size(0));
    const double all = x.mm(w.t()).square().sum().item<double>() / static_cast<double>(x.size(0));
    EXPECT_NEAR(found.linears[k].weight_mse, mse, 1e-5 * mse) << name;
    EXPECT_NEAR(found.linears[k].output_error, one, 1e-4 * one) << name;
    EXPECT_NEAR(found.linears[k].output_relative_error, one / all, 1e-4 * one / all) << name;
    ++k;
  }
  EXPECT_NEAR(found.weight_mse, error / count, 1e-5 * error / count);
  EXPECT_NEAR(found.weight_relative_mse, error / whole, 1e-5 * error / whole);
  EXPECT_NEAR(*found.output_error, output, 1e-4 * output);
  EXPECT_NEAR(*found.output_relative_error, output / outputs, 1e-4 * output / outputs);
}

// An expert's error counts as often as the router sends tokens to it.
TEST(Sensitivity, AnExpertCountsByItsTokens) {
  Problem problem(family_graph("qwen2_moe", 64));
  const SensitivityResult all = measure_sensitivity(problem.job, {});
  // Each expert by itself, one after the other.
  for (size_t g = 0; g < problem.job.groups.size(); ++g) {
    const TrialGroup group = problem.job.groups[g];
    const Linear& first = part_of(problem.job, group).linears[group.linears.front()];
    if (!first.input.expert) continue;
    SensitivityJob apart = problem.job;
    apart.groups.clear();
    for (const size_t linear : group.linears) apart.groups.push_back({group.block, {linear}, group.trials});
    double sum = 0;
    for (const auto& losses : measure_sensitivity(apart, {}).groups) sum += *losses[0].output_error;
    EXPECT_NEAR(*all.groups[g][0].output_error, sum, 1e-6 * sum);
  }
}

TEST(Sensitivity, TablesThatAreRoundedCount) {
  for (const bool tied : {false, true}) {
    ModelGraph graph = tiny_graph();
    graph.config.tie_word_embeddings = tied;
    Problem problem(std::move(graph));
    const auto rough = [](const at::Tensor& rows) { return (rows * 8).round() / 8; };
    problem.job.tables.push_back({"model.embed_tokens.weight", {rough}});
    if (!tied) problem.job.tables.push_back({"lm_head.weight", {rough}});
    const SensitivityResult result = measure_sensitivity(problem.job, {});
    for (size_t t = 0; t < problem.job.tables.size(); ++t) {
      MemoryWeights changed = problem.weights;
      const std::string& name = problem.job.tables[t].tensor;
      changed.tensors[name] = rough(changed.tensors[name]);
      const double expected = problem.divergence_of(changed).mean;
      EXPECT_GT(expected, 0);
      EXPECT_NEAR(*result.tables[t][0].kl, expected, 1e-3 * expected) << name << ", tied " << tied;
      const at::Tensor d = changed.tensors[name] - problem.weights.tensors[name];
      EXPECT_NEAR(result.tables[t][0].weight_mse, d.square().mean().item<double>(), 1e-6);
      EXPECT_FALSE(result.tables[t][0].output_error);
    }
  }
}

/// Sums over all groups and candidates of 8 bits, whose errors move the distribution to second order.
struct Sums {
  double estimated = 0, measured = 0;
};

Sums sums_of(Problem& problem, double least, double most) {
  for (Trial& trial : problem.job.trials) trial.scheme.bits = 8;
  problem.job.held_out = at::randint(50, {40, 20}, at::kLong);
  const SensitivityResult result = measure_sensitivity(problem.job, {});
  Sums sums;
  for (const auto& losses : result.groups) {
    for (const GroupLoss& loss : losses) {
      EXPECT_GT(loss.fisher.value(), least * loss.kl.value());
      EXPECT_LT(loss.fisher.value(), most * loss.kl.value());
      sums.estimated += *loss.fisher;
      sums.measured += *loss.kl;
    }
  }
  return sums;
}

// One draw of labels a token, so that the estimate lies around what is measured.
TEST(Sensitivity, TheEstimateIsNearTheMeasuredDivergence) {
  Problem problem(tiny_graph());
  const Sums sums = sums_of(problem, 0.4, 2.5);
  EXPECT_NEAR(sums.estimated / sums.measured, 1, 0.25);
}

// That an error sends a token to other experts shows in no gradient.
TEST(Sensitivity, TheEstimateLeavesOutWhereTokensAreSent) {
  Problem problem(family_graph("qwen2_moe", 64));
  const Sums sums = sums_of(problem, 0, 2.5);
  EXPECT_LT(sums.estimated, sums.measured);
}

TEST(Sensitivity, WithoutKlTheEstimateIsTheSameAndTablesAreStillMeasured) {
  Problem problem(tiny_graph());
  problem.job.tables.push_back(
      {"lm_head.weight", {[](const at::Tensor& rows) { return (rows * 8).round() / 8; }}});
  const SensitivityResult both = measure_sensitivity(problem.job, {});
  problem.job.measure_kl = false;
  EXPECT_EQ(variant_states(problem.job), 2 * problem.job.held_out.size(0));
  const SensitivityResult alone = measure_sensitivity(problem.job, {});
  for (size_t g = 0; g < both.groups.size(); ++g) {
    for (size_t k = 0; k < both.groups[g].size(); ++k) {
      EXPECT_FALSE(alone.groups[g][k].kl);
      EXPECT_DOUBLE_EQ(*alone.groups[g][k].fisher, *both.groups[g][k].fisher);
    }
  }
  EXPECT_DOUBLE_EQ(*alone.tables[0][0].kl, *both.tables[0][0].kl);
  problem.job.measure_kl = true;
  problem.job.estimate = false;
  EXPECT_EQ(gradient_states(problem.job), 0);
  EXPECT_FALSE(measure_sensitivity(problem.job, {}).groups[0][0].fisher);
}

// Of groups that check the estimate: what measuring them on those rows gives; of others nothing but it.
TEST(Sensitivity, TheHeadsKlIsMeasuredBesideTheEstimate) {
  Problem problem(tiny_graph(), 1, /*head=*/true);
  const auto measured = measure_sensitivity(problem.job, {}).groups.back();
  problem.job.measure_kl = false;
  problem.job.checked = spread_groups(problem.job, 100);
  EXPECT_EQ(problem.job.checked.size(), problem.job.groups.size() - 1) << "all but the head";
  const auto alone = measure_sensitivity(problem.job, {}).groups.back();
  for (size_t k = 0; k < 2; ++k) {
    EXPECT_EQ(alone[k].kl, measured[k].kl);
    EXPECT_FALSE(alone[k].fisher);
  }
}

TEST(Sensitivity, CheckedGroupsHaveKlBesideTheEstimate) {
  Problem problem(tiny_graph());
  problem.job.tables.push_back({"lm_head.weight", {[](const at::Tensor& rows) { return rows * 1.01; }}});
  problem.job.held_out = at::randint(50, {8, 20}, at::kLong);
  problem.job.measure_kl = false;
  const SensitivityResult alone = measure_sensitivity(problem.job, {});
  EXPECT_EQ(alone.checked_tokens, 0);
  problem.job.checked = {1, 6};
  const SensitivityResult result = measure_sensitivity(problem.job, {});
  EXPECT_EQ(result.tokens, 160);
  EXPECT_EQ(result.checked_tokens, 80);
  EXPECT_DOUBLE_EQ(*result.tables[0][0].kl, *alone.tables[0][0].kl);
  Problem some(tiny_graph());
  some.job.held_out = problem.job.held_out.index_select(0, at::tensor({1, 3, 5, 7}, at::kLong));
  const SensitivityResult expected = measure_sensitivity(some.job, {});
  for (size_t g = 0; g < result.groups.size(); ++g) {
    for (size_t k = 0; k < result.groups[g].size(); ++k) {
      EXPECT_DOUBLE_EQ(*result.groups[g][k].fisher, *alone.groups[g][k].fisher);
      ASSERT_EQ(result.groups[g][k].kl.has_value(), g == 1 || g == 6) << "group " << g;
      if (!result.groups[g][k].kl) continue;
      EXPECT_NEAR(*result.groups[g][k].kl, *expected.groups[g][k].kl, 1e-4 * *expected.groups[g][k].kl);
    }
  }
}

// What it is when each linear is a group by itself; the groups' own are as without.
TEST(Sensitivity, SingleLinearsAreMeasuredBesideTheirGroups) {
  Problem problem(tiny_graph());
  problem.job.tables.push_back({"lm_head.weight", {[](const at::Tensor& rows) { return rows * 1.01; }}});
  const SensitivityResult groups = measure_sensitivity(problem.job, {});
  EXPECT_FALSE(groups.groups[0][0].linears[0].kl);
  problem.job.linear_kl = true;
  const SensitivityResult result = measure_sensitivity(problem.job, {});
  SensitivityJob apart = problem.job;
  apart.groups.clear();
  for (const TrialGroup& group : problem.job.groups)
    for (const size_t linear : group.linears) apart.groups.push_back({group.block, {linear}, group.trials});
  const SensitivityResult alone = measure_sensitivity(apart, {});
  size_t next = 0;
  for (size_t g = 0; g < result.groups.size(); ++g) {
    for (size_t i = 0; i < problem.job.groups[g].linears.size(); ++i, ++next) {
      for (size_t k = 0; k < result.groups[g].size(); ++k) {
        const double kl = *alone.groups[next][k].kl;
        EXPECT_NEAR(*result.groups[g][k].linears[i].kl, kl, 1e-4 * kl) << "group " << g << ", linear " << i;
        EXPECT_NEAR(*result.groups[g][k].kl, *groups.groups[g][k].kl, 1e-4 * *groups.groups[g][k].kl);
      }
    }
  }
  EXPECT_DOUBLE_EQ(*result.tables[0][0].kl, *groups.tables[0][0].kl);
  // Beside the estimate: of the groups that check it.
  problem.job.measure_kl = false;
  problem.job.checked = {0};
  const SensitivityResult checked = measure_sensitivity(problem.job, {});
  EXPECT_NEAR(*checked.groups[0][1].linears[2].kl, *result.groups[0][1].linears[2].kl,
              1e-4 * *result.groups[0][1].linears[2].kl);
  EXPECT_FALSE(checked.groups[1][0].linears[0].kl);
}

// Padding is no token.
TEST(Sensitivity, PaddingDoesNotCount) {
  Problem problem(tiny_graph());
  problem.job.held_out_lengths = {20, 11, 7};
  const SensitivityResult padded = measure_sensitivity(problem.job, {});
  EXPECT_EQ(padded.tokens, 38);
  problem.job.held_out.narrow(0, 1, 1).narrow(1, 11, 9).fill_(3);
  problem.job.held_out.narrow(0, 2, 1).narrow(1, 7, 13).fill_(4);
  const SensitivityResult other = measure_sensitivity(problem.job, {});
  EXPECT_DOUBLE_EQ(*padded.groups[0][0].kl, *other.groups[0][0].kl);
  EXPECT_DOUBLE_EQ(*padded.groups[0][0].fisher, *other.groups[0][0].fisher);
}

TEST(Sensitivity, PlacesOfHiddenStatesChangeNothing) {
  Problem problem(tiny_graph());
  // So many streams of a sample that they lie across the pieces in which a file is read.
  problem.job.tables.push_back({"lm_head.weight", {[](const at::Tensor& rows) { return rows * 1.01; }}});
  problem.job.held_out = at::randint(50, {8, 20}, at::kLong);
  ASSERT_GT(variant_states(problem.job), 2 * chunk_rows(20, at::kCPU));
  ASSERT_NE(chunk_rows(20, at::kCPU) % (variant_states(problem.job) / 8), 0);
  const SensitivityResult here = measure_sensitivity(problem.job, {});
  problem.job.variants = {.placement = Placement::disk, .transfer_rows = 2, .work = ::testing::TempDir()};
  problem.job.gradients = problem.job.variants;
  const SensitivityResult there = measure_sensitivity(problem.job, {});
  for (size_t g = 0; g < here.groups.size(); ++g) {
    for (size_t k = 0; k < here.groups[g].size(); ++k) {
      EXPECT_EQ(here.groups[g][k].kl, there.groups[g][k].kl);
      EXPECT_EQ(here.groups[g][k].fisher, there.groups[g][k].fisher);
    }
  }
}

}  // namespace
}  // namespace lathe
