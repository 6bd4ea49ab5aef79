// Mixtures of experts: each expert's statistics come from the rows that the router sends to it, and an expert
// with too few of them takes the fall-back that the job names.
#include <ATen/record_function.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "calib/driver/driver.h"
#include "lib/base/error.h"
#include "lib/model/forward.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

constexpr int64_t kSamples = 90, kLength = 16;  // more tokens than one chunk holds
/// The expert that no token reaches: its logit is 0, and the others' are a, -a, b and -b.
constexpr int64_t kIdle = 4;

using testing::expect_near;
using testing::FixedScales;
using testing::product_of;
using testing::RecordingSolver;

struct ExpertsRun {
  ModelGraph graph;
  testing::MemoryWeights weights;
  RecordingSolver solver;
  std::vector<BlockOutcome> outcomes;
  CalibrationJob job;

  explicit ExpertsRun(const std::string& family, const Transform* transform = nullptr, bool pair = false)
      : graph(testing::family_graph(family, 32)), weights(testing::random_weights(graph, 11)), solver(pair) {
    job.graph = &graph;
    job.weights = &weights;
    if (transform != nullptr) job.transforms = {transform};
    const Scheme scheme{.type = "int", .bits = 4, .group_size = 32, .symmetric = true};
    for (const Block& block : graph.blocks) {
      auto& tasks = job.tasks.emplace_back();
      for (const Linear& linear : block.linears) {
        tasks.push_back(word_matches(linear, "linear") ? LinearTask{&solver, scheme} : LinearTask{});
      }
      at::Tensor& router = weights.tensors.at(block.find(LinearRole::router)->name + ".weight");
      router[1].copy_(-router[0]);
      router[3].copy_(-router[2]);
      router[kIdle].zero_();
    }
    at::manual_seed(3);
    job.ids = at::randint(0, 50, {kSamples, kLength}, at::kLong);
    job.experts.min_tokens = 1;
  }

  void go() {
    calibrate(job,
              {.block_done = [&](BlockOutcome&& o) { outcomes.push_back(std::move(o)); }, .progress = {}});
  }

  testing::MemoryWeights finished() const { return testing::finished_model(weights, outcomes); }

  const LinearOutcome& outcome_of(const std::string& name) const {
    for (const BlockOutcome& block : outcomes) {
      for (const LinearOutcome& linear : block.linears) {
        if (linear.linear->name == name) return linear;
      }
    }
    throw std::logic_error("no outcome of " + name);
  }
};

using Values = std::map<std::string, at::Tensor>;  // by linear name: what it reads, Double [tokens, in]
using Routes = std::vector<Routing>;               // by block

/// What every linear of an MLP reads in a plain forward pass; experts read the rows that `routes` sends them,
/// which is filled from this pass where it is empty.
Values mlp_values(const ExpertsRun& run, const WeightSource& source, Routes& routes) {
  const bool own_routes = routes.empty();
  Values values;
  at::Tensor hidden = embed(run.graph, source.load("model.embed_tokens.weight"), run.job.ids);
  const RopeTables rope = rope_tables(run.graph.config, kLength, c10::Device(c10::kCPU));
  for (const Block& block : run.graph.blocks) {
    const BlockWeights weights(block, source, c10::Device(c10::kCPU));
    const BlockForward forward(run.graph.config, block, weights, rope);
    const auto record = [&](const Input& input, const at::Tensor& x) {
      for (const Linear* linear : block.reading(input)) values[linear->name] = x.to(at::kDouble);
    };
    const at::Tensor h = forward.add_attention(hidden, forward.attention_out(forward.attention_in(hidden)));
    const at::Tensor y = forward.mlp_in(h).flatten(0, 1);
    record({Slot::mlp_in, std::nullopt}, y);
    if (block.has_shared_expert()) record({Slot::mlp_mid, std::nullopt}, forward.mlp_mid(y));
    if (own_routes) routes.push_back(forward.route(y));
    for (int64_t expert = 0; expert < block.experts->count; ++expert) {
      const at::Tensor rows = y.index_select(0, routes[block.index].rows_of(expert).tokens);
      record({Slot::mlp_in, expert}, rows);
      record({Slot::mlp_mid, expert}, forward.expert_mid(expert, rows));
    }
    hidden = forward.run(hidden);
  }
  return values;
}

/// `slack`: tokens that rounding may send to another expert.
void expect_sequential(const ExpertsRun& run, double bound, int64_t slack = 0) {
  Routes routes;
  for (const auto& [name, x] : mlp_values(run, run.finished(), routes)) {
    const auto seen = run.solver.seen.find(name);
    if (x.size(0) == 0 || seen == run.solver.seen.end()) continue;  // no token came; the router is not solved
    expect_near(seen->second.gram, product_of(x, x), bound, name);
    EXPECT_NEAR(static_cast<double>(seen->second.tokens), static_cast<double>(x.size(0)),
                static_cast<double>(slack))
        << name;
  }
}

std::string expert_name(const ExpertsRun& run, int64_t expert, LinearRole role) {
  return run.graph.blocks[0].find(role, expert)->name;
}

TEST(Experts, StatisticsComeFromTheRowsThatTheRouterSends) {
  for (const char* family : {"mixtral", "qwen2_moe", "qwen3_moe", "olmoe"}) {
    ExpertsRun run(family);
    run.go();
    const size_t shared = run.graph.blocks[0].has_shared_expert() ? 3 : 0;
    ASSERT_EQ(run.outcomes[0].linears.size(), 4 + 5 * 3 + shared) << family;
    expect_sequential(run, 1e-5);
  }
}

TEST(Experts, FoldedStatisticsAreThoseOfTheFoldedModel) {
  const FixedScales transform;
  ExpertsRun run("qwen2_moe", &transform);
  run.go();
  EXPECT_EQ(run.outcomes[1].folds.size(), 3u + 1 + 5);
  // Folds into solved producers round their F16 scales, which can move a token whose experts are nearly tied.
  expect_sequential(run, 1e-2, 2);
  // The router's columns followed the norm: the same tokens go to the same experts.
  EXPECT_TRUE(run.outcomes[0].changed.contains("model.layers.0.mlp.gate.weight"));
}

TEST(Experts, TokensAreCounted) {
  ExpertsRun run("qwen3_moe");
  run.go();
  for (const BlockOutcome& outcome : run.outcomes) {
    ASSERT_EQ(outcome.expert_tokens.size(), 5u);
    int64_t all = 0;
    for (const int64_t tokens : outcome.expert_tokens) all += tokens;
    EXPECT_EQ(all, kSamples * kLength * 2);
    EXPECT_EQ(outcome.expert_tokens[kIdle], 0);
    EXPECT_GT(outcome.expert_tokens[0], 0);
  }
  for (const LinearOutcome& linear : run.outcomes[0].linears) {
    const bool idle = linear.linear->input.expert == kIdle;
    EXPECT_EQ(linear.events.size(), idle ? 1u : 0u) << linear.linear->name;
  }
}

TEST(Experts, AnIdleExpertFallsBackToAllTokens) {
  const FixedScales fold;
  for (const Transform* transform :
       {static_cast<const Transform*>(nullptr), static_cast<const Transform*>(&fold)}) {
    ExpertsRun run("qwen3_moe", transform);
    run.go();
    const testing::MemoryWeights finished = run.finished();
    Routes routes;
    const Values values = mlp_values(run, finished, routes);
    const std::string gate = expert_name(run, kIdle, LinearRole::gate_proj);
    const std::string down = expert_name(run, kIdle, LinearRole::down_proj);
    const at::Tensor y = values.at(run.graph.blocks[0].find(LinearRole::router)->name);
    const double bound = transform == nullptr ? 1e-5 : 3e-3;
    expect_near(run.solver.seen.at(gate).gram, product_of(y, y), bound, gate);
    const BlockWeights weights(run.graph.blocks[0], finished, c10::Device(c10::kCPU));
    const BlockForward forward(run.graph.config, run.graph.blocks[0], weights, {});
    const at::Tensor z = forward.expert_mid(kIdle, y.to(at::kFloat)).to(at::kDouble);
    expect_near(run.solver.seen.at(down).gram, product_of(z, z), bound, down);
    for (const std::string& name : {gate, down}) {
      ASSERT_EQ(run.outcome_of(name).events.size(), 1u);
      EXPECT_EQ(run.outcome_of(name).events[0],
                "expert 4 got 0 tokens, min_tokens is 1: statistics of all tokens passed through it");
    }
  }
}

TEST(Experts, OrToTheWeightsAlone) {
  const FixedScales fold;
  ExpertsRun run("qwen3_moe", &fold);
  run.job.experts.fallback = ExpertFallback::weight_only;
  run.go();
  for (const LinearRole role : {LinearRole::gate_proj, LinearRole::down_proj}) {
    const std::string name = expert_name(run, kIdle, role);
    const at::Tensor gram = run.solver.seen.at(name).gram;
    EXPECT_TRUE(at::allclose(gram, at::eye(32) / 32.0)) << name;
    EXPECT_EQ(run.outcome_of(name).events[0],
              "expert 4 got 0 tokens, min_tokens is 1: weight-only statistics");
    EXPECT_NEAR(run.outcome_of(name).distortion.output_relative_error.value(),
                run.outcome_of(name).distortion.weight_relative_mse, 1e-6);
  }
  // No scale is chosen for it, and the outcome says why; the others' edges are folded.
  int64_t left = 0;
  for (const FoldOutcome& outcome : run.outcomes[0].folds) {
    if (outcome.applied) continue;
    ++left;
    EXPECT_EQ(outcome.edge->input, (Input{Slot::mlp_mid, kIdle}));
    EXPECT_NE(outcome.note.find("expert 4 got 0 tokens"), std::string::npos);
  }
  EXPECT_EQ(left, 1);
}

/// Asks for ranges, as static activation schemes do.
class WantsRanges : public RecordingSolver {
 public:
  StatSet needs() const override { return {.gram = true, .mean_square = true, .min_max = true}; }
};

TEST(Experts, NoRangeIsInventedForAnExpertWithoutActivations) {
  const WantsRanges solver;
  ExpertsRun run("qwen3_moe");
  for (auto& block : run.job.tasks) {
    for (LinearTask& task : block) {
      if (task.solver != nullptr) task.solver = &solver;
    }
  }
  run.job.experts.fallback = ExpertFallback::weight_only;
  try {
    run.go();
    FAIL() << "the idle expert's inputs were given a range";
  } catch (const UserError& error) {
    for (const char* part : {"model.layers.0", "experts.0", "calibration.experts.fallback", "all_tokens"}) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << " in " << error.what();
    }
  }
  EXPECT_TRUE(solver.seen.empty()) << "refused before anything is computed";
}

TEST(Experts, ATransformThatLooksAtRangesLeavesSuchAnExpertAlone) {
  class RangedScales : public FixedScales {
   public:
    StatSet needs() const override { return {.min_max = true}; }
  };
  const RangedScales fold;
  ExpertsRun run("qwen3_moe", &fold);
  run.job.experts.fallback = ExpertFallback::weight_only;
  run.go();
  const std::string name = expert_name(run, kIdle, LinearRole::down_proj);
  EXPECT_TRUE(at::allclose(run.solver.seen.at(name).gram, at::eye(32) / 32.0));
}

/// Codes and scales of every linear.
void expect_same_codes(const ExpertsRun& found, const ExpertsRun& expected) {
  ASSERT_EQ(found.outcomes.size(), expected.outcomes.size());
  for (size_t b = 0; b < expected.outcomes.size(); ++b) {
    const auto &of = found.outcomes[b].linears, &as = expected.outcomes[b].linears;
    ASSERT_EQ(of.size(), as.size());
    for (size_t i = 0; i < of.size(); ++i) {
      EXPECT_TRUE(at::equal(of[i].quantized.codes, as[i].quantized.codes)) << of[i].linear->name;
      EXPECT_TRUE(at::equal(of[i].quantized.scales, as[i].quantized.scales)) << of[i].linear->name;
    }
  }
}

TEST(Experts, TheirStatisticsAreCollectedInTheMemoryTheyAreGiven) {
  const FixedScales fold;
  ExpertsRun together("qwen2_moe", &fold), one("qwen2_moe", &fold);
  one.job.storage.expert_statistics = 1;
  const auto sweeps = [](ExpertsRun& run) {
    int64_t count = 0;
    calibrate(run.job, {.block_done = [&](BlockOutcome&& o) { run.outcomes.push_back(std::move(o)); },
                        .progress =
                            [&](int64_t, std::string_view stage) {
                              count += stage.find("of experts") != std::string_view::npos ? 1 : 0;
                            }});
    return count;
  };
  const auto blocks = static_cast<int64_t>(together.graph.blocks.size());
  EXPECT_EQ(sweeps(together), blocks * 2);
  EXPECT_EQ(sweeps(one), blocks * 2 * 5);
  expect_same_codes(one, together);
}

TEST(Experts, TheRouterIsAskedOnceForEachChunkOfAStream) {
  for (const bool pair : {false, true}) {
    ExpertsRun run("qwen2_moe", nullptr, pair);
    run.job.storage.micro_batch = 30;
    static std::atomic<int64_t> asked;
    asked = 0;
    const auto handle =
        at::addThreadLocalCallback(at::RecordFunctionCallback([](const at::RecordFunction& function)
                                                                  -> std::unique_ptr<at::ObserverContext> {
                                     if (std::string_view(function.name()) == "aten::topk") ++asked;
                                     return nullptr;
                                   }).scopes({at::RecordScope::FUNCTION}));
    run.go();
    at::removeCallback(handle);
    const auto blocks = static_cast<int64_t>(run.graph.blocks.size());
    EXPECT_EQ(asked, blocks * 3 * (pair ? 2 : 1)) << "90 samples, 30 at a time";
  }
}

/// An expert's rows are multiplied together, those of all samples at hand: the last bits may follow
/// (micro_batch_rounds), who is sent where may not.
TEST(Experts, HoweverManySamplesAreComputedTogetherOnlyRoundingDiffers) {
  for (const std::string family : {"mixtral", "qwen3_moe"}) {
    ExpertsRun all(family);
    all.go();
    for (const int64_t together : {1, 7, 30}) {
      ExpertsRun run(family);
      run.job.storage.micro_batch = together;
      run.go();
      int64_t codes = 0, other = 0;
      for (size_t b = 0; b < run.outcomes.size(); ++b) {
        EXPECT_EQ(run.outcomes[b].expert_tokens, all.outcomes[b].expert_tokens) << family << " " << together;
        ASSERT_EQ(run.outcomes[b].linears.size(), all.outcomes[b].linears.size());
        for (size_t i = 0; i < run.outcomes[b].linears.size(); ++i) {
          const LinearOutcome &found = run.outcomes[b].linears[i], &expected = all.outcomes[b].linears[i];
          EXPECT_EQ(found.linear->name, expected.linear->name);
          EXPECT_EQ(found.tokens, expected.tokens);
          codes += found.quantized.codes.numel();
          other += found.quantized.codes.ne(expected.quantized.codes).sum().item<int64_t>();
        }
      }
      EXPECT_EQ(other, 0) << family << ": of " << codes << " codes, which follow from the weights alone";
      for (const auto& [name, stats] : all.solver.seen) {
        const InputStats& found = run.solver.seen.at(name);
        EXPECT_EQ(found.tokens, stats.tokens) << name;
        expect_near(found.gram, stats.gram.to(at::kDouble), 1e-5, name);
      }
    }
  }
}

TEST(Experts, TheFloorDecidesWhoFallsBack) {
  ExpertsRun run("mixtral");
  run.go();
  const int64_t floor = run.outcomes[0].expert_tokens[2] + 1;
  ExpertsRun raised("mixtral");
  raised.job.experts.min_tokens = floor;
  raised.go();
  for (int64_t expert = 0; expert < 5; ++expert) {
    const auto& events = raised.outcome_of(expert_name(raised, expert, LinearRole::up_proj)).events;
    EXPECT_EQ(events.empty(), raised.outcomes[0].expert_tokens[expert] >= floor) << expert;
  }
}

TEST(Experts, BothStreamsSeeTheSameTokens) {
  const FixedScales fold;
  for (const bool folds : {false, true}) {
    ExpertsRun run("qwen2_moe", folds ? &fold : nullptr, /*pair=*/true);
    run.go();
    Routes routes;
    const Values values = mlp_values(run, run.finished(), routes);
    const Values reference = mlp_values(run, run.weights, routes);
    for (const auto& [name, x] : values) {
      const auto seen = run.solver.seen.find(name);
      if (x.size(0) == 0 || seen == run.solver.seen.end()) continue;
      expect_near(seen->second.gram, product_of(x, x), folds ? 1e-2 : 1e-5, name);
      if (!folds) expect_near(seen->second.cross_gram, product_of(reference.at(name), x), 1e-5, name);
      if (folds && name.find("down") == std::string::npos) {  // the reference's rows are divided, too
        const at::Tensor scales = testing::fixed_scales(x.size(1)).to(at::kDouble);
        expect_near(seen->second.cross_gram, product_of(reference.at(name) / scales, x), 1e-2, name);
      }
    }
  }
}

TEST(Experts, ReferencePropagationLooksAtTheUnquantisedModel) {
  const FixedScales fold;
  ExpertsRun run("qwen3_moe", &fold);
  run.job.propagate = Propagate::reference;
  run.go();
  Routes routes;
  for (const auto& [name, x] : mlp_values(run, run.weights, routes)) {
    const auto seen = run.solver.seen.find(name);
    if (x.size(0) == 0 || seen == run.solver.seen.end()) continue;
    const at::Tensor divided = x / testing::fixed_scales(x.size(1)).to(at::kDouble);
    expect_near(seen->second.gram, product_of(divided, divided), 1e-4, name);
  }
}

TEST(Experts, PaddingIsNeitherCountedNorObserved) {
  ExpertsRun run("olmoe"), other("olmoe");
  int64_t valid = 0;
  for (int64_t i = 0; i < kSamples; ++i) {
    run.job.lengths.push_back(1 + i % kLength);
    valid += run.job.lengths.back();
    other.job.ids[i].slice(0, run.job.lengths.back()).random_(0, 50);
  }
  other.job.lengths = run.job.lengths;
  run.go();
  other.go();
  int64_t counted = 0;
  for (const int64_t tokens : run.outcomes[0].expert_tokens) counted += tokens;
  EXPECT_EQ(counted, 2 * valid);
  for (const auto& [name, stats] : run.solver.seen) {
    expect_near(other.solver.seen.at(name).gram, stats.gram, 1e-5, name);
    EXPECT_EQ(other.solver.seen.at(name).tokens, stats.tokens) << name;
  }
}

TEST(Experts, WeightsFollowTheTokensToTheirExperts) {
  // Tokens without a weight: the statistics of the others.
  ExpertsRun run("qwen2_moe"), valid("qwen2_moe");
  run.job.token_weights = at::ones(run.job.ids.sizes());
  for (int64_t i = 0; i < run.job.ids.size(0); ++i) {
    valid.job.lengths.push_back(1 + i % run.job.ids.size(1));
    run.job.token_weights[i].slice(0, valid.job.lengths.back()).fill_(0);
  }
  run.job.experts.min_tokens = valid.job.experts.min_tokens = 1;
  run.go();
  valid.go();
  int64_t compared = 0;
  for (const auto& [name, stats] : valid.solver.seen) {
    if (stats.tokens == run.job.ids.numel() || stats.tokens < 20) continue;
    expect_near(run.solver.seen.at(name).gram, stats.gram, 1e-4, name);
    EXPECT_EQ(run.solver.seen.at(name).tokens, stats.tokens) << name;
    ++compared;
  }
  EXPECT_GT(compared, 10);
}

TEST(Experts, TheSameBitsWhereverActivationsStand) {
  const FixedScales fold;
  ExpertsRun memory("qwen2_moe", &fold);
  memory.go();
  for (const std::optional<Placement> inner : {std::optional<Placement>{}, std::optional(Placement::disk)}) {
    ExpertsRun disk("qwen2_moe", &fold);
    disk.job.storage = {.hidden = {.placement = Placement::disk,
                                   .transfer_rows = 64,
                                   .work = std::filesystem::temp_directory_path()},
                        .micro_batch = 0,
                        .inner = inner};
    disk.go();
    expect_same_codes(disk, memory);
  }
}

TEST(Experts, ANaNNamesTheExpertSampleAndToken) {
  ExpertsRun run("qwen3_moe");
  const std::string up = expert_name(run, 0, LinearRole::up_proj);
  run.job.tasks[0][0] = {};
  for (LinearTask& task : run.job.tasks[0]) task = {};
  for (size_t i = 0; i < run.job.tasks[0].size(); ++i) {
    if (run.graph.blocks[0].linears[i].role == LinearRole::down_proj) {
      run.job.tasks[0][i] = {&run.solver,
                             Scheme{.type = "int", .bits = 4, .group_size = 32, .symmetric = true}};
    }
  }
  run.weights.tensors.at(up + ".weight").fill_(1e38);
  Routes routes;
  mlp_values(run, run.weights, routes);
  const auto first = routes[0].rows_of(0).tokens[0].item<int64_t>();
  const std::string place = fmt::format("sample {}, token {}", first / kLength, first % kLength);
  try {
    run.go();
    FAIL() << "an overflow went unnoticed";
  } catch (const UserError& error) {
    for (const char* part : {"model.layers.0", "mlp_mid of expert 0", place.c_str()}) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << " in " << error.what();
    }
  }
}

}  // namespace
}  // namespace lathe
