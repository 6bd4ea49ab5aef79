// Inputs that are rotated in Hadamard blocks (Scheme::hadamard): statistics, weights and grids are of the
// rotated ones, and the model that comes of it takes inputs as they are.
#include <gtest/gtest.h>

#include "calib/driver/driver.h"
#include "lib/kernels/dequantize.h"
#include "lib/model/forward.h"
#include "lib/numeric/hadamard.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

using testing::expect_near;
using testing::RecordingSolver;

constexpr int64_t kBlock = 16;

/// Hands weights on as they are.
class Untouched : public Solver {
 public:
  StatSet needs() const override { return {}; }
  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    std::vector<SolveResult> results;
    for (const LinearProblem& linear : problem.linears) {
      QuantizedTensor result{linear.scheme, DType::F32, {}, {}, {}};
      result.values = linear.weight.clone();
      results.push_back({std::move(result), {}});
    }
    return results;
  }
};

struct TinyRun {
  ModelGraph graph;
  testing::MemoryWeights weights;
  std::vector<BlockOutcome> outcomes;
  CalibrationJob job;

  TinyRun(ModelGraph graph_, const LinearTask& task)
      : graph(std::move(graph_)), weights(testing::random_weights(graph, 11)) {
    job.graph = &graph;
    job.weights = &weights;
    for (const Block& block : graph.blocks) {
      auto& tasks = job.tasks.emplace_back();
      for (const Linear& linear : block.linears)
        tasks.push_back(word_matches(linear, "linear") ? task : LinearTask{});
    }
    at::manual_seed(3);
    job.ids = at::randint(0, 50, {24, 16}, at::kLong);
    job.experts.min_tokens = 1;
  }
  void go() {
    calibrate(job,
              {.block_done = [&](BlockOutcome&& o) { outcomes.push_back(std::move(o)); }, .progress = {}});
  }
};

Scheme rotated(Scheme scheme) {
  scheme.hadamard = kBlock;
  return scheme;
}

const Scheme kInt8{.type = "int", .bits = 8, .group_size = -1, .symmetric = true};

at::Tensor last_hidden(const TinyRun& run, const WeightSource& source) {
  at::Tensor hidden = embed(run.graph, source.load("model.embed_tokens.weight"), run.job.ids);
  const RopeTables rope = rope_tables(run.graph.config, run.job.ids.size(1), c10::Device(c10::kCPU));
  for (const Block& block : run.graph.blocks) {
    const BlockWeights weights(block, source, c10::Device(c10::kCPU));
    hidden = BlockForward(run.graph.config, block, weights, rope).run(hidden);
  }
  return hidden;
}

/// H G H in blocks.
at::Tensor turned(const at::Tensor& gram) {
  return hadamard_blocks(hadamard_blocks(gram, kBlock).t(), kBlock).t().contiguous();
}

/// What solvers saw of the unquantised model, with and without the rotation.
std::pair<RecordingSolver, RecordingSolver> seen_both_ways(const ModelGraph& graph) {
  std::pair<RecordingSolver, RecordingSolver> solvers;
  for (const bool rotates : {false, true}) {
    RecordingSolver& solver = rotates ? solvers.second : solvers.first;
    TinyRun run(graph, {&solver, rotates ? rotated(kInt8) : kInt8});
    run.job.propagate = Propagate::reference;
    run.go();
  }
  return solvers;
}

TEST(Rotation, OfAModelThatNobodyRoundsKeepsItsFunction) {
  const Untouched solver;
  TinyRun run(testing::tiny_graph(), {&solver, rotated(Scheme::as_they_are())});
  run.go();
  const auto finished = testing::finished_model(run.weights, run.outcomes);
  for (const BlockOutcome& block : run.outcomes) {
    for (const LinearOutcome& linear : block.linears) {
      const at::Tensor weight = run.weights.tensors.at(linear.linear->name + ".weight");
      expect_near(linear.quantized.values, hadamard_blocks(weight, kBlock), 1e-6, linear.linear->name);
      expect_near(kernels::dequantized_weight(linear.quantized), weight, 1e-6, linear.linear->name);
    }
  }
  expect_near(last_hidden(run, finished), last_hidden(run, run.weights), 1e-5, "hidden states");
}

TEST(Rotation, GivesSolversStatisticsOfTheRotatedInput) {
  for (const char* family : {"qwen2", "qwen3_moe"}) {
    const ModelGraph graph =
        family == std::string("qwen2") ? testing::tiny_graph() : testing::family_graph(family, 32);
    const auto [plain, rotating] = seen_both_ways(graph);
    ASSERT_FALSE(plain.seen.empty());
    ASSERT_EQ(plain.seen.size(), rotating.seen.size());
    for (const auto& [name, stats] : plain.seen) {
      const InputStats& found = rotating.seen.at(name);
      expect_near(found.gram, turned(stats.gram), 1e-5, name);
      EXPECT_EQ(found.gram_tokens, stats.gram_tokens) << name;
      EXPECT_FALSE(at::allclose(found.mean_abs, stats.mean_abs, 1e-2)) << name;
    }
  }
}

TEST(Rotation, OfBothStreamsIsSeenByWhoComparesThem) {
  for (const bool rotates : {false, true}) {
    const RecordingSolver solver(/*pair=*/true);
    TinyRun run(testing::tiny_graph(), {&solver, rotates ? rotated(kInt8) : kInt8});
    run.go();
    // INT8 hardly moves the first block's input, and the reference's is the same.
    for (const auto& [name, stats] : solver.seen)
      if (name.find("layers.0.self_attn.q_proj") != std::string::npos)
        expect_near(stats.cross_gram, stats.gram, 1e-5, name);
  }
}

TEST(Rotation, PassesIntoInputsThatAreRounded) {
  const RecordingSolver solver;
  const ActivationTask fixed{{"int", 8, false, ActivationScheme::Per::tensor, true},
                             {ActivationObserver::minmax, 99}};
  TinyRun run(testing::tiny_graph(), {&solver, rotated(kInt8), fixed});
  run.go();
  const auto finished = testing::finished_model(run.weights, run.outcomes);
  for (const auto& [name, input] : finished.inputs) EXPECT_EQ(input.hadamard, kBlock) << name;
  EXPECT_EQ(finished.inputs.size(), 14u);
  // The range of the first input is that of its rotated values.
  const at::Tensor hidden = embed(run.graph, run.weights.load("model.embed_tokens.weight"), run.job.ids);
  const RopeTables rope = rope_tables(run.graph.config, run.job.ids.size(1), c10::Device(c10::kCPU));
  const Block& block = run.graph.blocks.front();
  const BlockWeights loaded(block, run.weights, c10::Device(c10::kCPU));
  const at::Tensor x = BlockForward(run.graph.config, block, loaded, rope).attention_in(hidden);
  const float largest = hadamard_blocks(x, kBlock).abs().max().item<float>();
  EXPECT_NEAR(finished.inputs.at("model.layers.0.self_attn.q_proj").scale, 2 * largest / 255, 1e-3 * largest);
  // Eight bits lose little.
  expect_near(last_hidden(run, finished), last_hidden(run, run.weights), 0.05, "hidden states");
}

}  // namespace
}  // namespace lathe
