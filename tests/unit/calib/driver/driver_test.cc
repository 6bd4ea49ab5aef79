// The one pass is truly sequential: each linear's statistics come from the already quantised part before it.
#include "calib/driver/driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>

#include "lib/base/error.h"
#include "lib/model/forward.h"
#include "lib/tensor/aten.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

using testing::expect_near;
using testing::FixedScales;
using testing::product_of;
using testing::RecordingSolver;

struct TinyRun {
  ModelGraph graph = testing::tiny_graph();
  testing::MemoryWeights weights = testing::random_weights(graph, 11);
  RecordingSolver solver;
  std::vector<BlockOutcome> outcomes;
  CalibrationJob job;

  explicit TinyRun(std::vector<const Transform*> transforms, bool pair = false) : solver(pair) {
    job.graph = &graph;
    job.weights = &weights;
    job.transforms = std::move(transforms);
    const Scheme scheme{.type = "int", .bits = 4, .group_size = 32, .symmetric = true};
    for (const Block& block : graph.blocks)
      job.tasks.emplace_back(block.linears.size(), LinearTask{&solver, scheme});
    at::manual_seed(3);
    job.ids = at::randint(0, 50, {200, 16}, at::kLong);  // more tokens than one micro-batch holds
  }
  void go() {
    calibrate(job,
              {.block_done = [&](BlockOutcome&& o) { outcomes.push_back(std::move(o)); }, .progress = {}});
  }
  testing::MemoryWeights finished() const { return testing::finished_model(weights, outcomes); }
  const at::Tensor& gram(const std::string& name) const { return solver.seen.at(name).gram; }
  const at::Tensor& cross_gram(const std::string& name) const { return solver.seen.at(name).cross_gram; }
};

using Values = std::map<std::string, at::Tensor>;  // by linear name: what it reads, Double [tokens, in]

/// What every linear reads in a plain forward pass of a model.
Values values_of(const TinyRun& run, const WeightSource& source) {
  Values values;
  at::Tensor hidden = embed(run.graph, source.load("model.embed_tokens.weight"), run.job.ids);
  const RopeTables rope = rope_tables(run.graph.config, run.job.ids.size(1), c10::Device(c10::kCPU));
  for (const Block& block : run.graph.blocks) {
    const BlockWeights weights(block, source, c10::Device(c10::kCPU));
    const BlockForward forward(run.graph.config, block, weights, rope);
    const auto record = [&](Slot slot, const at::Tensor& x) {
      for (const Linear* linear : block.reading(slot))
        values[linear->name] = x.reshape({-1, x.size(-1)}).to(at::kDouble);
    };
    const at::Tensor x = forward.attention_in(hidden);
    const at::Tensor a = forward.attention_out(x);
    const at::Tensor h = forward.add_attention(hidden, a);
    const at::Tensor y = forward.mlp_in(h);
    const at::Tensor z = forward.mlp_mid(y);
    record(Slot::attention_in, x);
    record(Slot::attention_out, a);
    record(Slot::mlp_in, y);
    record(Slot::mlp_mid, z);
    hidden = forward.add_mlp(h, z);
  }
  return values;
}

/// The Gram matrices that a plain forward pass of the finished model gives, by linear.
std::map<std::string, at::Tensor> grams_of_result(const TinyRun& run) {
  std::map<std::string, at::Tensor> grams;
  for (const auto& [name, x] : values_of(run, run.finished())) grams[name] = product_of(x, x);
  return grams;
}

void expect_sequential(const TinyRun& run, double bound) {
  const auto expected = grams_of_result(run);
  ASSERT_EQ(expected.size(), 14u);
  for (const auto& [name, gram] : expected) {
    const double difference = ((run.gram(name) - gram).norm() / gram.norm()).item<double>();
    EXPECT_LT(difference, bound) << name;
  }
}

TEST(Driver, StatisticsComeFromTheQuantisedPartBefore) {
  TinyRun run({});
  run.go();
  ASSERT_EQ(run.outcomes.size(), 2u);
  EXPECT_EQ(run.outcomes[0].linears.size(), 7u);
  expect_sequential(run, 1e-5);
}

TEST(Driver, FoldedStatisticsAreThoseOfTheFoldedModel) {
  const FixedScales transform;
  TinyRun run({&transform});
  run.go();
  EXPECT_EQ(run.outcomes[1].folds.size(), 4u);
  expect_sequential(run, 3e-3);  // folds into solved producers round their F16 scales
}

// What formats that round by themselves lose is measured with the Gram matrix that the solver had. Folds into
// rows that are solved by then make other weights of those that were rounded, which their storage tells.
TEST(Driver, FormatsLossesAreOfTheInputsThatTheLinearsReallyGet) {
  const FixedScales transform;
  for (const bool folds : {false, true}) {
    TinyRun run(folds ? std::vector<const Transform*>{&transform} : std::vector<const Transform*>{});
    std::map<std::string, at::Tensor> given;
    run.job.hand_over_weights = true;
    run.job.round_for_formats = [&](const Linear& linear, const GivenWeight& weight) {
      EXPECT_TRUE(weight.mean_square.defined() && weight.tokens > 0) << linear.name;
      given[linear.name] = weight.weight;
      at::Tensor lost = weight.weight.clone();
      lost.select(1, 0).zero_();  // an input channel
      const auto rows = [lost](int64_t begin, int64_t end) { return lost.slice(0, begin, end); };
      return std::vector<FormatRounding>{{"a format", rows}};
    };
    run.go();
    int changed = 0;
    for (const BlockOutcome& outcome : run.outcomes) {
      for (const LinearOutcome& linear : outcome.linears) {
        const std::string& name = linear.linear->name;
        ASSERT_EQ(linear.format_losses.size(), 1u) << name;
        EXPECT_EQ(linear.format_losses[0].format, "a format");
        const at::Tensor w = given.at(name).to(at::kDouble), h = run.gram(name).to(at::kDouble);
        const at::Tensor lost = h[0][0] * w.select(1, 0).square().sum(), all = w.mm(h).mul(w).sum();
        const double expected = (lost / all).item<double>();
        EXPECT_NEAR(linear.format_losses[0].output_relative_error, expected, 1e-4 * expected) << name;
        const bool same = linear.given->weight.is_alias_of(given.at(name));
        EXPECT_EQ(same, linear.given->weight.equal(given.at(name))) << name;
        changed += same ? 0 : 1;
      }
    }
    EXPECT_EQ(changed, folds ? 4 : 0);  // v and up of both blocks
  }
}

/// Offers half of each row's range, and counts how often it is asked.
class HalfRanges : public FixedScales {
 public:
  std::optional<GroupRange> range(const LinearProblem& linear, const InputStats&) const override {
    ++asked;
    const at::Tensor half = linear.weight.abs().view({linear.weight.size(0), -1, 32}).amax(-1) / 2;
    return GroupRange{-half, half};
  }
  bool offers_ranges() const override { return true; }
  mutable int asked = 0;
};

/// Rounds to nearest, whatever is offered.
class OwnRanges : public RecordingSolver {
 public:
  RangeOffers range_offers() const override { return RangeOffers::unused; }
};

TEST(Driver, RangesAreSearchedForSolversThatTakeThem) {
  const HalfRanges transform;
  const OwnRanges own;
  TinyRun run({&transform});
  for (LinearTask& task : run.job.tasks[1]) task.solver = &own;
  run.go();
  EXPECT_EQ(transform.asked, 7);
  for (const LinearOutcome& linear : run.outcomes[0].linears) EXPECT_TRUE(linear.clipped);
  for (const LinearOutcome& linear : run.outcomes[1].linears) EXPECT_FALSE(linear.clipped);
}

TEST(Driver, KeptLinearsAreNotTouchedWithoutFolds) {
  TinyRun run({});
  for (auto& block : run.job.tasks) {
    for (LinearTask& task : block) task.solver = nullptr;
  }
  run.job.tasks[1][6] = {&run.solver, Scheme{.type = "int", .bits = 8, .group_size = -1, .symmetric = true}};
  run.go();
  EXPECT_TRUE(run.outcomes[0].linears.empty());
  EXPECT_TRUE(run.outcomes[0].changed.empty());
  ASSERT_EQ(run.outcomes[1].linears.size(), 1u);
  EXPECT_EQ(run.outcomes[1].linears[0].linear->role, LinearRole::down_proj);
  EXPECT_LT(run.outcomes[1].linears[0].distortion.output_relative_error.value(), 1e-3);
  EXPECT_GT(run.outcomes[1].linears[0].distortion.output_relative_error.value(), 0);
}

TEST(Driver, ReferencePropagationLooksAtTheUnquantisedModel) {
  const FixedScales fold;
  for (const bool folds : {false, true}) {
    TinyRun run(folds ? std::vector<const Transform*>{&fold} : std::vector<const Transform*>{});
    run.job.propagate = Propagate::reference;
    run.go();
    for (const auto& [name, x] : values_of(run, run.weights)) {
      at::Tensor expected = x;
      if (folds) {  // the input of a folded linear is divided by the scales, in the unquantised model too
        const int64_t repeat = name.ends_with("o_proj") ? 2 : 1;
        expected = x / testing::fixed_scales(x.size(1), repeat, run.graph.config.head_dim).to(at::kDouble);
      }
      expect_near(run.gram(name), product_of(expected, expected), 1e-5, name);
    }
  }
}

TEST(Driver, BothStreamsForAlgorithmsThatCompareThem) {
  TinyRun run({}, /*pair=*/true);
  EXPECT_TRUE(carries_two_streams(run.job));
  run.go();
  const Values values = values_of(run, run.finished()), reference = values_of(run, run.weights);
  for (const auto& [name, x] : values) {
    expect_near(run.gram(name), product_of(x, x), 1e-5, name);
    expect_near(run.cross_gram(name), product_of(reference.at(name), x), 1e-5, name);
  }
  // They differ, or the comparison would show nothing.
  const std::string last = "model.layers.1.mlp.down_proj";
  EXPECT_GT((run.cross_gram(last) - run.gram(last)).norm().item<double>(),
            0.01 * run.gram(last).norm().item<double>());
}

TEST(Driver, TheReferenceIsItsOwnPair) {
  TinyRun run({}, /*pair=*/true);
  run.job.propagate = Propagate::reference;
  EXPECT_FALSE(carries_two_streams(run.job));
  run.go();
  for (const auto& [name, x] : values_of(run, run.weights)) {
    expect_near(run.cross_gram(name), run.gram(name), 1e-6, name);
  }
}

TEST(Driver, PaddingCountsInNoStatistic) {
  TinyRun run({});
  for (int64_t i = 0; i < run.job.ids.size(0); ++i) run.job.lengths.push_back(1 + i % run.job.ids.size(1));
  TinyRun other({});
  other.job.lengths = run.job.lengths;
  for (size_t i = 0; i < run.job.lengths.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    other.job.ids[row].narrow(0, run.job.lengths[i], 16 - run.job.lengths[i]).random_(0, 50);
  }
  run.go();
  other.go();
  const Values values = values_of(run, run.finished());
  for (const auto& [name, x] : values) {
    std::vector<at::Tensor> valid;
    for (size_t i = 0; i < run.job.lengths.size(); ++i) {
      valid.push_back(x.narrow(0, static_cast<int64_t>(i) * 16, run.job.lengths[i]));
    }
    const at::Tensor counted = at::cat(valid);
    expect_near(run.gram(name), product_of(counted, counted), 1e-5, name);
    EXPECT_TRUE(at::equal(run.gram(name), other.gram(name))) << name << ": other padding, other bits";
  }
}

TEST(Driver, TokensCountInGramMatricesAsOftenAsTheirWeights) {
  for (const bool pair : {false, true}) {
    TinyRun run({}, pair);
    at::manual_seed(12);
    run.job.token_weights = at::rand(run.job.ids.sizes()) * 3 + 0.1;
    run.go();
    const at::Tensor weights = run.job.token_weights.view({-1, 1}).to(at::kDouble);
    for (const auto& [name, x] : values_of(run, run.finished())) {
      const at::Tensor gram =
          ((x.to(at::kDouble) * weights).t().mm(x.to(at::kDouble)) / weights.sum()).to(at::kFloat);
      expect_near(run.gram(name), gram, 1e-5, name);
      EXPECT_GT(((product_of(x, x) - gram).norm() / gram.norm()).item<double>(), 1e-3)
          << "no test without weights";
      expect_near(run.solver.seen.at(name).mean_abs, x.abs().mean(0).to(at::kFloat), 1e-5, name);
    }
  }
}

// They are context: the others' values are as they were, and statistics are of those alone.
TEST(Driver, TokensOfWeight0CountInNoStatistic) {
  for (const bool pair : {false, true}) {
    TinyRun run({}, pair);
    run.job.token_weights = at::ones(run.job.ids.sizes());
    run.job.token_weights.slice(0, 0, 50).fill_(0);                 // whole samples, more than a micro-batch
    run.job.token_weights.slice(0, 50).slice(1, 2, 9).fill_(0);     // between others
    run.job.token_weights.slice(0, 190).slice(1, 12, 16).fill_(0);  // at the end
    run.go();
    const at::Tensor counted = run.job.token_weights.flatten().nonzero().flatten();
    for (const auto& [name, x] : values_of(run, run.finished())) {
      const at::Tensor seen = x.index_select(0, counted);
      EXPECT_GT(((product_of(x, x) - product_of(seen, seen)).norm() / product_of(x, x).norm()).item<double>(),
                1e-4)
          << "no test without weights";
      expect_near(run.gram(name), product_of(seen, seen), 1e-5, name);
      const InputStats& stats = run.solver.seen.at(name);
      expect_near(stats.mean_abs, seen.abs().mean(0).to(at::kFloat), 1e-5, name);
      EXPECT_EQ(stats.tokens, counted.numel()) << name;
    }
  }
}

// What stands behind a sample's last counted token is context for none that counts: as if it were padding.
TEST(Driver, Weight0AtTheEndGivesTheBitsOfPadding) {
  TinyRun weighted({}), padded({});
  weighted.job.token_weights = at::ones(weighted.job.ids.sizes());
  for (int64_t i = 0; i < padded.job.ids.size(0); ++i) {
    padded.job.lengths.push_back(1 + i % padded.job.ids.size(1));
    weighted.job.token_weights[i].slice(0, padded.job.lengths.back()).fill_(0);
  }
  weighted.go();
  padded.go();
  for (const auto& [name, stats] : padded.solver.seen) {
    EXPECT_TRUE(at::equal(weighted.gram(name), stats.gram)) << name;
    EXPECT_EQ(weighted.solver.seen.at(name).tokens, stats.tokens) << name;
  }
}

TEST(Driver, SamplesOfWhichNoTokenCountsAreRefused) {
  TinyRun run({});
  run.job.token_weights = at::zeros(run.job.ids.sizes());
  EXPECT_THROW(run.go(), UserError);
}

TEST(Driver, ANaNNamesBlockInputSampleAndToken) {
  TinyRun run({});
  run.job.ids.masked_fill_(run.job.ids.eq(7), 8);
  run.job.ids[12][3] = 7;
  run.weights.tensors["model.embed_tokens.weight"][7][0] = INFINITY;
  try {
    run.go();
    FAIL() << "a NaN went unnoticed";
  } catch (const UserError& error) {
    for (const char* part : {"model.layers.0, attention_in (q_proj, k_proj, v_proj)", "sample 12, token 3"}) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << " in " << error.what();
    }
  }
}

/// A kind of run, wherever its activations stand.
struct RunKind {
  const Transform* transform = nullptr;
  DType compute = DType::F32;
  bool pair = false;
  Propagate propagate = Propagate::quantised;
};

/// Everything that a run hands over, as one list of tensors.
std::vector<at::Tensor> results_of(const StreamStorage& storage, const RunKind& kind) {
  TinyRun run(kind.transform == nullptr ? std::vector<const Transform*>{} : std::vector{kind.transform},
              kind.pair);
  run.job.storage = storage;
  run.job.storage.hidden.work = std::filesystem::temp_directory_path();
  run.job.compute = kind.compute;
  run.job.propagate = kind.propagate;
  EXPECT_EQ(carries_two_streams(run.job), kind.pair);
  run.go();
  std::vector<at::Tensor> results;
  for (const BlockOutcome& outcome : run.outcomes) {
    for (const LinearOutcome& linear : outcome.linears) {
      results.push_back(linear.quantized.codes);
      results.push_back(linear.quantized.scales);
      results.push_back(at::tensor(linear.distortion.output_relative_error.value(), at::kDouble));
    }
    for (const auto& [name, values] : outcome.changed) results.push_back(values);
  }
  for (const auto& [name, stats] : run.solver.seen) {
    results.push_back(stats.gram);
    if (kind.pair) results.push_back(stats.cross_gram);
  }
  return results;
}

void expect_same_bits(const StreamStorage& storage, const RunKind& kind,
                      const std::vector<at::Tensor>& expected) {
  const std::vector<at::Tensor> found = results_of(storage, kind);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_TRUE(at::equal(found[i], expected[i]))
        << "tensor " << i << ", hidden on " << name_of(storage.hidden.placement) << ", inner "
        << (storage.inner ? name_of(*storage.inner) : "made twice") << ", " << storage.hidden.transfer_rows
        << " rows moved at a time, " << storage.micro_batch << " computed";
  }
}

constexpr std::array<std::optional<Placement>, 3> kInner = {std::nullopt, Placement::device, Placement::disk};

TEST(Driver, TheSameBitsWhereverActivationsStand) {
  const FixedScales fold;
  for (const RunKind& kind : {RunKind{}, RunKind{.transform = &fold}}) {
    const std::vector<at::Tensor> expected = results_of({}, kind);
    for (const Placement hidden : {Placement::device, Placement::disk}) {
      for (const std::optional<Placement> inner : kInner) {
        for (const int64_t transfer : {0, 64, 1000}) {
          expect_same_bits({.hidden = {.placement = hidden, .transfer_rows = transfer, .work = {}},
                            .micro_batch = transfer == 64     ? 8
                                           : transfer == 1000 ? 1
                                                              : 0,
                            .inner = inner},
                           kind, expected);
        }
      }
    }
  }
}

TEST(Driver, TheSameBitsForTwoStreamsAndForTheReferenceWhereverTheyStand) {
  const FixedScales fold;
  for (const RunKind& kind : {RunKind{.transform = &fold, .pair = true},
                              RunKind{.transform = &fold, .propagate = Propagate::reference}}) {
    const std::vector<at::Tensor> expected = results_of({}, kind);
    for (const std::optional<Placement> inner : kInner) {
      expect_same_bits({.hidden = {.placement = Placement::disk, .transfer_rows = 64, .work = {}},
                        .micro_batch = 16,
                        .inner = inner},
                       kind, expected);
    }
  }
}

TEST(Driver, TheSameBitsWhereMemoryIsSpared) {
  const FixedScales fold;
  for (const RunKind& kind :
       {RunKind{}, RunKind{.transform = &fold}, RunKind{.transform = &fold, .pair = true},
        RunKind{.transform = &fold, .propagate = Propagate::reference}}) {
    const std::vector<at::Tensor> expected = results_of({}, kind);
    for (const std::optional<Placement> inner : kInner)
      expect_same_bits({.hidden = {}, .micro_batch = 8, .inner = inner, .sparing = true}, kind, expected);
  }
}

/// What the solver is given of each input.
class LendingSolver final : public testing::RecordingSolver {
 public:
  LendingSolver() : RecordingSolver(/*pair=*/false) {}
  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    lent.push_back(problem.lent && problem.lent->gram == &problem.stats->gram &&
                   sole_owner(problem.stats->gram) && !problem.lent->work.empty());
    return RecordingSolver::solve(problem);
  }
  mutable std::vector<bool> lent;
};

TEST(Driver, AGramMatrixIsLentWhereMemoryIsSpared) {
  for (const bool sparing : {false, true}) {
    const LendingSolver solver;
    TinyRun run({}, /*pair=*/false);
    for (auto& block : run.job.tasks) {
      for (LinearTask& task : block) task.solver = &solver;
    }
    run.job.storage.sparing = sparing;
    run.job.storage.hidden.work = std::filesystem::temp_directory_path();
    run.go();
    EXPECT_THAT(solver.lent,
                ::testing::AllOf(::testing::Not(::testing::IsEmpty()), ::testing::Each(sparing)));
  }
}

TEST(Driver, HalfPrecisionProductsGiveTheSameBitsWhereverActivationsStand) {
  const FixedScales fold;
  const RunKind kind{.transform = &fold, .compute = DType::BF16};
  const std::vector<at::Tensor> expected = results_of({}, kind);
  for (const std::optional<Placement> inner : {std::optional<Placement>{}, std::optional(Placement::disk)}) {
    expect_same_bits({.hidden = {.placement = Placement::disk, .transfer_rows = 64, .work = {}},
                      .micro_batch = inner ? 2 : 0,
                      .inner = inner},
                     kind, expected);
  }
}

TEST(Driver, HalfPrecisionProductsGiveNearlyTheSameStatistics) {
  TinyRun exact({}), half({});
  half.job.compute = DType::BF16;
  exact.go();
  half.go();
  ASSERT_EQ(half.solver.seen.size(), exact.solver.seen.size());
  for (const auto& [name, stats] : exact.solver.seen) {
    const double difference = ((half.gram(name) - stats.gram).norm() / stats.gram.norm()).item<double>();
    EXPECT_LT(difference, 0.02) << name;  // BF16 has 8 bits of mantissa; a Gram matrix averages over tokens
    EXPECT_GT(difference, 0) << name;
  }
}

TEST(Driver, ActivationsThatAreNotFiniteNameTheirPlace) {
  TinyRun run({});
  run.weights.tensors["model.layers.1.post_attention_layernorm.weight"].fill_(3e38f);
  run.weights.tensors["model.layers.1.mlp.up_proj.weight"].fill_(3e38f);
  try {
    run.go();
    FAIL() << "an infinite activation went unnoticed";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("model.layers.1"), std::string::npos) << error.what();
  }
}

/// Each block's, for the next one's norm may hide what overflowed; no linear reads the last one's.
TEST(Driver, AnOutputThatIsNotFiniteNamesItsOwnBlock) {
  for (const size_t place : {0, 1}) {
    TinyRun run({});
    const Block& block = run.graph.blocks[place];
    for (size_t i = 0; i < block.linears.size(); ++i) {
      if (block.linears[i].role == LinearRole::down_proj) run.job.tasks[place][i] = {};  // no scale to refuse
    }
    run.weights.tensors[block.prefix + ".mlp.down_proj.weight"].fill_(3e38f);
    try {
      run.go();
      FAIL() << "an infinite output went unnoticed";
    } catch (const UserError& error) {
      for (const std::string& part : {block.prefix + ", output", std::string("sample 0, token 0")}) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << " in " << error.what();
      }
    }
  }
}

/// Asks for percentiles, which a fold leaves unknown.
class WantsPercentiles : public RecordingSolver {
 public:
  using RecordingSolver::RecordingSolver;
  StatSet needs() const override { return {.gram = true, .distribution = true}; }
};

TEST(Driver, WhatAFoldLeavesUnknownIsObservedAgain) {
  const FixedScales scales;
  for (const bool folds : {false, true}) {
    TinyRun run(folds ? std::vector<const Transform*>{&scales} : std::vector<const Transform*>{});
    const WantsPercentiles solver;
    for (auto& block : run.job.tasks) {
      for (LinearTask& task : block) task.solver = &solver;
    }
    run.go();
    const Values values = values_of(run, run.finished());
    EXPECT_EQ(solver.seen.size(), 14u);
    for (const auto& [name, stats] : solver.seen) {
      ASSERT_TRUE(stats.distribution != nullptr) << name;
      EXPECT_EQ(stats.lost & solver.needs(), StatSet{}) << name;
      const double largest = values.at(name).abs().max().item<double>();
      EXPECT_NEAR(stats.distribution->largest_magnitude() / largest, 1, 5e-3) << name;
    }
  }
}

}  // namespace
}  // namespace lathe
