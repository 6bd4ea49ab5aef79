// Where activations go under which limits, and what counts towards them.
#include "calib/driver/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "calib/driver/block_memory.h"
#include "calib/driver/kv_cache_fit.h"
#include "lib/activations/block_size.h"
#include "lib/base/error.h"
#include "lib/model/cached_attention.h"
#include "lib/numeric/kv_cache_methods.h"
#include "lib/tensor/triangle_file.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

/// Declares needs and is never run.
class NeedyTransform : public Transform {
 public:
  explicit NeedyTransform(bool pair) : pair_(pair) {}
  StatSet needs() const override {
    StatSet set;
    set.cross_gram = pair_;
    return set;
  }
  FoldDecision fold(const ScaleEdge&, const SharedInputProblem&) const override { return {}; }
  std::optional<GroupRange> range(const LinearProblem&, const InputStats&) const override {
    return std::nullopt;
  }

 private:
  bool pair_;
};

class MemoryPlanTest : public ::testing::Test {
 protected:
  MemoryPlanTest() {
    job_.graph = &graph_;
    for (const SolverEntry& entry : solvers()) {
      if (entry.name == "rtn") rtn_ = entry.make(Options(entry.options));
    }
    for (const Block& block : graph_.blocks)
      job_.tasks.emplace_back(block.linears.size(), LinearTask{rtn_.get(), {}});
  }

  /// 20,000 x 512 tokens: 2.6 GB of hidden states, 3.9 GB of values inside a block; all else is small.
  MemoryPlan plan(MemoryLimits limits, c10::Device device = c10::Device(c10::kCPU)) {
    job_.device = device;
    MemoryRequest request{
        .job = &job_, .samples = 20'000, .length = 512, .limits = limits, .machine = {}, .base_ram = 0};
    MemoryPlan result = plan_memory(request);
    EXPECT_LE(result.peak.ram, limits.ram.value_or(UINT64_MAX));
    EXPECT_LE(result.peak.vram, limits.vram.value_or(UINT64_MAX));
    EXPECT_LE(result.peak.disk, limits.disk.value_or(UINT64_MAX));
    return result;
  }

  ModelGraph graph_ = testing::tiny_graph();
  std::unique_ptr<Solver> rtn_;
  CalibrationJob job_;
  static constexpr uint64_t kGB = 1'000'000'000;
  static constexpr uint64_t kHidden = 20'000ull * 512 * 64 * 4, kInner = 20'000ull * 512 * 96 * 4;
};

/// One that takes so many bytes; by itself more than the aim has room for, wherever the hidden states stand.
class HungrySolver final : public testing::RecordingSolver {
 public:
  explicit HungrySolver(uint64_t bytes = 4'000'000'000) : RecordingSolver(/*pair=*/false), bytes_(bytes) {}
  uint64_t scratch_bytes(int64_t, int64_t) const override { return bytes_; }

 private:
  uint64_t bytes_;
};

TEST_F(MemoryPlanTest, ASolverBeyondTheAimLeavesHiddenStatesInMemory) {
  const HungrySolver hungry;
  for (auto& block : job_.tasks) block.front().solver = &hungry;
  const MemoryPlan result = plan({});
  EXPECT_EQ(result.storage.hidden.placement, Placement::device);
  EXPECT_NE(result.storage.inner, Placement::device) << "the aim has no room for values inside a block";
}

/// One that notes how often it is asked what it takes.
class AskedSolver final : public testing::RecordingSolver {
 public:
  uint64_t scratch_bytes(int64_t, int64_t) const override { return ++asked, bytes; }
  mutable int asked = 0;
  uint64_t bytes = 1000;
};

TEST_F(MemoryPlanTest, BlocksThatAreAlikeAreLookedAtOnce) {
  const AskedSolver same;
  AskedSolver other;
  for (auto& block : job_.tasks)
    for (LinearTask& task : block) task.solver = &same;
  const BlockMemory alike = BlockMemories(job_).most({8, 64, 8, false});
  const int asked = same.asked;
  const auto tasks = job_.tasks;
  graph_.blocks.resize(1);
  job_.tasks.resize(1);
  BlockMemories(job_).most({8, 64, 8, false});
  job_.tasks = tasks;
  EXPECT_EQ(asked, same.asked - asked) << "two blocks that are alike asked more than one does";

  // A block counts that has something else done to it, or is of another shape.
  graph_ = testing::tiny_graph();
  other.bytes = 100'000'000;
  job_.tasks[1].back().solver = &other;
  EXPECT_GT(BlockMemories(job_).most({8, 64, 8, false}).scratch, alike.scratch + 90'000'000);
  job_.tasks[1].back().solver = &same;
  for (Linear& linear : graph_.blocks[1].linears)
    if (linear.role == LinearRole::up_proj) linear.out *= 1000;
  EXPECT_GT(BlockMemories(job_).most({8, 64, 8, false}).weights, 100 * alike.weights);
}

TEST_F(MemoryPlanTest, ABlockLessIsHeldBeforeAnythingElseIsGivenUp) {
  const MemoryPlan all = plan({100 * kGB, {}, {}});
  EXPECT_TRUE(all.storage.read_ahead);
  const MemoryPlan less = plan({all.peak.ram - 1, {}, {}});
  EXPECT_FALSE(less.storage.read_ahead);
  EXPECT_EQ(less.peak.ram, all.peak.ram - largest_block_bytes(graph_));
  EXPECT_EQ(less.storage.inner, all.storage.inner);
  EXPECT_EQ(less.storage.micro_batch, all.storage.micro_batch);
}

TEST_F(MemoryPlanTest, TheFastestPlacementThatFits) {
  using P = Placement;
  const struct {
    std::optional<uint64_t> ram, disk;
    P hidden;
    std::optional<P> inner;
  } cases[] = {
      {100 * kGB, std::nullopt, P::device, P::device},
      {5 * kGB, std::nullopt, P::device, P::disk},
      {5 * kGB, 0, P::device, std::nullopt},
      {2 * kGB, std::nullopt, P::disk, P::disk},
      {2 * kGB, 3 * kGB, P::disk, std::nullopt},
      // No limit: not all that is free, but what the run is promised to keep to.
      {std::nullopt, std::nullopt, P::device, P::disk},
  };
  for (const auto& c : cases) {
    const MemoryPlan found = plan({.ram = c.ram, .vram = {}, .disk = c.disk});
    EXPECT_EQ(found.storage.hidden.placement, c.hidden) << c.ram.value_or(0);
    EXPECT_EQ(found.storage.inner, c.inner) << c.ram.value_or(0);
  }
}

TEST_F(MemoryPlanTest, OnAGpuHiddenStatesGoToTheHostFirst) {
  const c10::Device gpu(c10::kCUDA, 0);
  EXPECT_EQ(plan({}, gpu).storage.hidden.placement, Placement::device);
  EXPECT_EQ(plan({.ram = {}, .vram = 5 * kGB, .disk = {}}, gpu).storage.inner, std::nullopt);
  EXPECT_EQ(plan({.ram = {}, .vram = 2 * kGB, .disk = {}}, gpu).storage.hidden.placement, Placement::host);
  EXPECT_EQ(plan({.ram = 2 * kGB, .vram = 2 * kGB, .disk = {}}, gpu).storage.hidden.placement,
            Placement::disk);
}

// Beside what the fit takes of the host's memory at the block's end: until then the sample is on the device.
TEST_F(MemoryPlanTest, WhatAKvCacheIsFittedToIsCounted) {
  const KvCacheShape shape = kv_cache_shape(graph_.config);
  for (const c10::Device device : {c10::Device(c10::kCPU), c10::Device(c10::kCUDA, 0)}) {
    job_.kv_cache = std::nullopt;
    const MemoryBytes without = plan({}, device).peak;
    job_.kv_cache = find_kv_cache_method("kvquant")->defaults;
    const MemoryBytes with = plan({}, device).peak;
    EXPECT_EQ(with.ram - without.ram, kv_cache_fit_bytes(shape, 20'000 * 512));
    EXPECT_EQ(with.vram - without.vram, device.is_cpu() ? 0 : 16384ull * shape.channels() * 12);
  }
}

TEST_F(MemoryPlanTest, TheMicroBatchFollowsTheLimits) {
  const auto planned = [&](MemoryLimits limits, c10::Device device) {
    job_.device = device;
    return plan_memory(
        {.job = &job_, .samples = 64, .length = 64, .limits = limits, .machine = {}, .base_ram = 0});
  };
  const c10::Device cpu(c10::kCPU), gpu(c10::kCUDA, 0);
  const MemoryPlan free = planned({}, cpu);
  EXPECT_EQ(free.storage.micro_batch, 16);
  const uint64_t unread = free.peak.ram - largest_block_bytes(graph_);  // no block is read ahead
  const MemoryPlan tight = planned({.ram = unread - 1, .vram = {}, .disk = {}}, cpu);
  EXPECT_EQ(tight.storage.micro_batch, 8);
  EXPECT_EQ(tight.storage.hidden.placement, free.storage.hidden.placement) << "before anything is moved";
  EXPECT_EQ(tight.storage.inner, free.storage.inner);
  EXPECT_FALSE(tight.rounds_anew);
  EXPECT_THAT(describe_memory(tight), ::testing::HasSubstr("8 samples computed together\n"));

  // On a GPU a result's last bits may follow: all else is tried before, and the plan says so.
  try {
    planned({.ram = {}, .vram = 1'000'000, .disk = {}}, gpu);
    FAIL() << "a megabyte was enough";
  } catch (const UserError& error) {
    const std::string message = error.what();
    const uint64_t least = std::stoull(message.substr(message.find("--max-vram ") + 11)) << 20;
    const MemoryPlan smallest = planned({.ram = {}, .vram = least, .disk = {}}, gpu);
    EXPECT_LT(smallest.storage.micro_batch, 128);
    EXPECT_TRUE(smallest.rounds_anew);
    EXPECT_THAT(describe_memory(smallest), ::testing::HasSubstr("the last bits may differ"));
    EXPECT_FALSE(planned({}, gpu).rounds_anew);
  }
}

TEST_F(MemoryPlanTest, BytesStandWhereTheActivationsDo) {
  const MemoryPlan memory = plan({.ram = 100 * kGB, .vram = {}, .disk = {}});
  EXPECT_GE(memory.peak.ram, kHidden + kInner);
  EXPECT_EQ(memory.peak.disk, 0u);
  const MemoryPlan spilled = plan({.ram = 2 * kGB, .vram = {}, .disk = {}});
  EXPECT_EQ(spilled.peak.disk, kHidden + kInner);
  EXPECT_EQ(memory.peak.ram - spilled.peak.ram < kHidden + kInner, true) << "windows take some memory";
}

TEST_F(MemoryPlanTest, TheNamedLimitIsTheSmallestThatWorks) {
  try {
    plan({.ram = 1'000'000, .vram = {}, .disk = {}});
    FAIL() << "a megabyte was enough";
  } catch (const UserError& error) {
    const std::string message = error.what();
    const uint64_t named = std::stoull(message.substr(message.find("--max-ram ") + 10)) << 20;
    EXPECT_NO_THROW(plan({.ram = named, .vram = {}, .disk = {}}));
    EXPECT_THROW(plan({.ram = named - kRunsDiffer - (2 << 20), .vram = {}, .disk = {}}), UserError);
  }
}

TEST_F(MemoryPlanTest, WhatIsKeptBesideCounts) {
  MemoryRequest request{
      .job = &job_, .samples = 64, .length = 64, .limits = {}, .machine = {}, .base_ram = 0};
  const MemoryPlan alone = plan_memory(request);
  request.beside = {1000, 0, 500};
  const MemoryPlan both = plan_memory(request);
  EXPECT_EQ(both.peak.ram, alone.peak.ram + 1000);
  EXPECT_EQ(both.peak.disk, alone.peak.disk + 500);
  EXPECT_EQ(both.storage.inner, alone.storage.inner);
  EXPECT_THAT(describe_memory(both), ::testing::HasSubstr("1.5 KiB  what is measured beside"));
}

TEST_F(MemoryPlanTest, ASecondStreamCountsTwice) {
  const NeedyTransform one(false), pair(true);
  job_.transforms = {&one};
  const MemoryPlan single = plan({.ram = 100 * kGB, .vram = {}, .disk = {}});
  job_.transforms = {&pair};
  const MemoryPlan both = plan({.ram = 100 * kGB, .vram = {}, .disk = {}});
  EXPECT_GE(both.peak.ram, single.peak.ram + kHidden + kInner);
}

TEST_F(MemoryPlanTest, APartForEverythingAndNoMore) {
  const MemoryPlan memory = plan({.ram = 5 * kGB, .vram = {}, .disk = {}});
  uint64_t sum = 0;
  for (const auto& [name, bytes] : memory.parts) sum += bytes;
  EXPECT_EQ(sum, memory.peak.ram + memory.peak.disk);
  const std::string text = describe_memory(memory);
  EXPECT_THAT(text, ::testing::HasSubstr("hidden states in memory"));
  EXPECT_THAT(text, ::testing::HasSubstr("values inside a block on disk"));
}

nlohmann::json llama_config(int64_t hidden, int64_t inner, int64_t blocks, int64_t heads) {
  return {{"model_type", "llama"},        {"hidden_size", hidden},        {"intermediate_size", inner},
          {"num_hidden_layers", blocks},  {"num_attention_heads", heads}, {"num_key_value_heads", 8},
          {"vocab_size", 128256},         {"rms_norm_eps", 1e-5},         {"max_position_embeddings", 8192},
          {"tie_word_embeddings", false}, {"hidden_act", "silu"},         {"torch_dtype", "bfloat16"}};
}

/// Llama 3 8B: the promise is two blocks (1745 MB), the Gram matrices of one (1023 MB), hidden states and 300
/// MB. The plan is an upper bound.
TEST_F(MemoryPlanTest, AWideBlockIsPlannedWithinAnEighthOfThePromise) {
  graph_ = build_graph(parse_model_config(llama_config(4096, 14336, 32, 32), "config.json"));
  job_.tasks.assign(32, std::vector<LinearTask>(graph_.blocks[0].linears.size(), LinearTask{rtn_.get(), {}}));
  const NeedyTransform folds(false);
  for (const bool transformed : {false, true}) {
    job_.transforms.clear();
    if (transformed) job_.transforms.push_back(&folds);
    const MemoryRequest request{
        .job = &job_, .samples = 4, .length = 512, .limits = {}, .machine = {}, .base_ram = 180'000'000};
    const uint64_t promise = lean_ram(request);
    EXPECT_EQ(promise / 1'000'000, 1745u + 1023 + 300 + 4 * 512 * 4096 * 4ull / 1'000'000);
    EXPECT_LE(plan_memory(request).peak.ram, promise + promise / 8) << transformed;
  }
}

/// Llama 3 70B: the Gram matrix of 28672 inputs is 3 GiB, its factor another.
TEST_F(MemoryPlanTest, AWholeBlockOfThe70BWidthIsSolvedIn6GB) {
  graph_ = build_graph(parse_model_config(llama_config(8192, 28672, 80, 64), "config.json"));
  std::unique_ptr<Solver> gptq;
  for (const SolverEntry& entry : solvers()) {
    if (entry.name == "gptq") gptq = entry.make(Options(entry.options));
  }
  const LinearTask task{gptq.get(), {"int", 4, 128, false}};
  job_.tasks.assign(80, std::vector<LinearTask>(graph_.blocks[0].linears.size(), task));
  const auto planned = [&](std::optional<uint64_t> ram, std::optional<uint64_t> disk = std::nullopt) {
    return plan_memory({.job = &job_,
                        .samples = 2,
                        .length = 256,
                        .limits = {.ram = ram, .vram = {}, .disk = disk},
                        .machine = {},
                        .base_ram = 180'000'000});
  };
  const MemoryPlan tight = planned(6 * kGB), free = planned(100 * kGB);
  EXPECT_TRUE(tight.storage.sparing);
  EXPECT_GE(tight.peak.disk, TriangleFile::bytes(28672));
  EXPECT_FALSE(free.storage.sparing) << "it takes longer";
  EXPECT_EQ(free.peak.disk, 0u);
  EXPECT_GT(free.peak.ram, 11 * kGB);
  EXPECT_THAT(describe_memory(tight), ::testing::HasSubstr("a Gram matrix on disk\n"));
  EXPECT_THAT(describe_memory(tight), ::testing::HasSubstr("held in turn\n"));
  EXPECT_FALSE(planned({}).storage.sparing) << "the aim has room for the faster way";
  EXPECT_THROW(planned(6 * kGB, kGB), UserError) << "the Gram matrix has no file to wait in";
}

/// 64 narrow experts: what their collectors hold at once, mostly rows that wait for their chunks, is more
/// than the promise has room for.
TEST_F(MemoryPlanTest, ExpertsStatisticsAreCutToTheLimit) {
  graph_ = build_graph(parse_model_config({{"model_type", "qwen3_moe"},
                                           {"hidden_size", 512},
                                           {"intermediate_size", 512},
                                           {"moe_intermediate_size", 512},
                                           {"num_experts", 64},
                                           {"num_experts_per_tok", 8},
                                           {"num_hidden_layers", 4},
                                           {"num_attention_heads", 8},
                                           {"num_key_value_heads", 2},
                                           {"head_dim", 64},
                                           {"vocab_size", 1000},
                                           {"rms_norm_eps", 1e-5},
                                           {"max_position_embeddings", 8192},
                                           {"tie_word_embeddings", false},
                                           {"norm_topk_prob", true},
                                           {"decoder_sparse_step", 1},
                                           {"mlp_only_layers", nlohmann::json::array()},
                                           {"hidden_act", "silu"},
                                           {"torch_dtype", "bfloat16"}},
                                          "config.json"));
  job_.tasks.clear();
  for (const Block& block : graph_.blocks) {
    auto& tasks = job_.tasks.emplace_back();
    for (const Linear& linear : block.linears)
      tasks.push_back(word_matches(linear, "linear") ? LinearTask{rtn_.get(), {}} : LinearTask{});
  }
  const auto planned = [&](MemoryLimits limits) {
    return plan_memory({.job = &job_,
                        .samples = 64,
                        .length = 512,
                        .limits = limits,
                        .machine = {},
                        .base_ram = 180'000'000});
  };
  const MemoryRequest request{.job = &job_, .samples = 64, .length = 512, .limits = {}, .machine = {}};
  const MemoryPlan free = planned({.ram = 100 * kGB, .vram = {}, .disk = {}});
  EXPECT_EQ(free.storage.expert_statistics, kMostExpertStatistics);
  EXPECT_GT(free.peak.ram, lean_ram(request)) << "no test of anything";
  const MemoryPlan lean = planned({});
  EXPECT_LE(lean.peak.ram, lean_ram(request));
  EXPECT_LT(lean.storage.expert_statistics, kMostExpertStatistics);
  EXPECT_EQ(lean.storage.hidden.placement, Placement::device) << "fewer experts at a time come first";
  EXPECT_EQ(lean.storage.inner, Placement::device);
  EXPECT_EQ(lean.storage.micro_batch, free.storage.micro_batch) << "it may change the last bits";
  try {
    planned({.ram = 200'000'000, .vram = {}, .disk = {}});
    FAIL() << "200 MB were enough";
  } catch (const UserError& error) {
    const std::string message = error.what();
    const uint64_t least = std::stoull(message.substr(message.find("--max-ram ") + 10)) << 20;
    const MemoryPlan smallest = planned({.ram = least, .vram = {}, .disk = {}});
    EXPECT_LE(smallest.peak.ram, least);
    EXPECT_LE(smallest.storage.expert_statistics, uint64_t{16} << 20) << "one at a time";
  }
}

TEST_F(MemoryPlanTest, WhereTokensGoIsPartOfThePeak) {
  graph_ = testing::family_graph("mixtral", 32);
  job_.tasks.clear();
  for (const Block& block : graph_.blocks) job_.tasks.emplace_back(block.linears.size());
  const BlockMemories blocks(job_);
  const uint64_t routed = graph_.blocks[0].experts->per_token * 8;
  const SamplePlan one{1, 512, 1, false, 1}, many{1001, 512, 1, false, 1};
  EXPECT_EQ(blocks.most(many).total() - blocks.most(one).total(), 1000 * 512 * routed);
}

TEST_F(MemoryPlanTest, WhatReadingTheDataTookIsPartOfThePeak) {
  const uint64_t reached = 30 * kGB;
  const MemoryPlan found = plan_memory(
      {.job = &job_, .samples = 10, .length = 512, .limits = {}, .machine = {}, .other_ram = reached});
  EXPECT_EQ(found.peak.ram, reached);
  EXPECT_THROW(plan_memory({.job = &job_,
                            .samples = 10,
                            .length = 512,
                            .limits = {.ram = reached - 1, .vram = {}, .disk = {}},
                            .machine = {},
                            .other_ram = reached}),
               UserError);
}

TEST_F(MemoryPlanTest, TheJournalIsPartOfTheDisk) {
  const auto plan = [&](uint64_t journal, std::optional<uint64_t> disk) {
    return plan_memory({.job = &job_,
                        .samples = 64,
                        .length = 512,
                        .limits = {.ram = {}, .vram = {}, .disk = disk},
                        .machine = {},
                        .journal = journal});
  };
  EXPECT_EQ(plan(12345, {}).peak.disk, plan(0, {}).peak.disk + 12345);
  EXPECT_THAT(describe_memory(plan(50 << 20, {})),
              ::testing::HasSubstr("50.0 MiB  journal on disk, for --resume"));
  EXPECT_EQ(plan(1000, 1000).peak.disk, 1000u) << "nothing else is placed there then";
  try {
    plan(1001, 1000);
    ADD_FAILURE() << "a journal beyond the limit";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("or pass --no-journal"));
  }
}

TEST_F(MemoryPlanTest, ABlockIsCountedInFP32) {
  // q 64x64 + 64, k and v 32x64 + 32, o 64x64, gate, up and down 64x96, two norms of 64.
  const uint64_t values = 2 * 64 * 64 + 64 + 2 * (32 * 64 + 32) + 3 * 64 * 96 + 2 * 64;
  EXPECT_EQ(block_bytes(graph_.blocks[0]), 4 * values);
  EXPECT_EQ(BlockMemories(job_).gram_bytes(), 4 * (3 * 64 * 64 + 96 * 96));
}

TEST_F(MemoryPlanTest, ASolversScratchCounts) {
  const auto gptq = [] {
    for (const SolverEntry& entry : solvers()) {
      if (entry.name == "gptq") return entry.make(Options(entry.options));
    }
    return std::unique_ptr<Solver>();
  }();
  ASSERT_NE(gptq, nullptr);
  EXPECT_GE(gptq->scratch_bytes(300, 1000), 1000ull * 1000 * 4 + 2ull * 300 * 1000 * 4)
      << "U beside the weights";
  EXPECT_GE(gptq->scratch_bytes(300'000, 1000), 2ull * 300'000 * 1000 * 4) << "W stacked and reordered";
  // One sample: what a block's solves take is most of all.
  const uint64_t plain = BlockMemories(job_).most({1, 8, 1, false}).total();
  const uint64_t scratch = 10'000'000;
  const HungrySolver hungry(scratch);
  for (auto& block : job_.tasks) {
    for (LinearTask& task : block) task.solver = &hungry;
  }
  const uint64_t more = BlockMemories(job_).most({1, 8, 1, false}).total();
  EXPECT_GT(more, std::max(plain, scratch));
  EXPECT_LE(more, plain + scratch);
}

}  // namespace
}  // namespace lathe
