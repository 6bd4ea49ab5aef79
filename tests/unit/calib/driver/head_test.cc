// The head is calibrated on what the quantised blocks and the final norm put out, and nothing of it leaks
// into them.
#include <gtest/gtest.h>

#include "lib/model/forward.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

using testing::product_of;
using testing::RecordingSolver;

struct HeadRun {
  explicit HeadRun(bool pair = false, ModelGraph of = testing::tiny_graph())
      : graph(std::move(of)), weights(testing::random_weights(graph, 11)), solver(pair) {
    job.graph = &graph;
    job.weights = &weights;
    for (const Block& block : graph.blocks) job.tasks.emplace_back(block.linears.size(), task());
    job.tasks.push_back({task()});
    at::manual_seed(3);
    job.ids = at::randint(0, 50, {20, 16}, at::kLong);
  }
  LinearTask task() const {
    return {&solver, {.type = "int", .bits = 4, .group_size = 32, .symmetric = true}};
  }
  std::vector<BlockOutcome> go(const StartAt& start = {}) {
    std::vector<BlockOutcome> outcomes;
    calibrate(job,
              {.block_done = [&](BlockOutcome&& o) { outcomes.push_back(std::move(o)); },
               .progress = {},
               .boundary =
                   [&](size_t next, const auto& hand_over) {
                     hand_over([&](const at::Tensor& piece) { states[next].push_back(piece.clone()); });
                   }},
              start);
    return outcomes;
  }

  ModelGraph graph;
  testing::MemoryWeights weights;
  RecordingSolver solver;
  CalibrationJob job;
  std::map<size_t, std::vector<at::Tensor>> states;  // by the part that begins with them
};

/// What the head reads in a plain forward pass, Double [tokens, hidden].
at::Tensor normed_states(const HeadRun& run, const WeightSource& source) {
  at::Tensor hidden = embed(run.graph, source.load("model.embed_tokens.weight"), run.job.ids);
  const RopeTables rope = rope_tables(run.graph.config, run.job.ids.size(1), c10::Device(c10::kCPU));
  for (const Block& block : run.graph.blocks)
    hidden = BlockForward(run.graph.config, block, {block, source, c10::Device(c10::kCPU)}, rope).run(hidden);
  const at::Tensor x = hidden.to(at::kDouble).flatten(0, 1);
  const at::Tensor scale = (x.square().mean(-1, true) + run.graph.config.rms_norm_eps).rsqrt();
  return x * scale * source.load("model.norm.weight").to(at::kDouble);
}

TEST(Head, ReadsTheFinalNormOfTheQuantisedBlocks) {
  HeadRun run;
  const std::vector<BlockOutcome> outcomes = run.go();
  ASSERT_EQ(outcomes.size(), 3u);
  EXPECT_EQ(outcomes[2].index, 2u);
  ASSERT_EQ(outcomes[2].linears.size(), 1u);
  const LinearOutcome& head = outcomes[2].linears.front();
  EXPECT_EQ(head.linear->name, "lm_head");
  EXPECT_EQ(head.tokens, 20 * 16);
  const at::Tensor x = normed_states(run, testing::finished_model(run.weights, outcomes));
  const at::Tensor expected = product_of(x, x);
  const at::Tensor& found = run.solver.seen.at("lm_head").gram;
  EXPECT_LT(((found - expected).norm() / expected.norm()).item<double>(), 1e-5);
  // tr(dW H dW^T) / tr(W H W^T), from the weights that came out.
  const at::Tensor weight = run.weights.load("lm_head.weight").to(at::kDouble);
  const at::Tensor lost =
      x.matmul((kernels::dequantized_weight(head.quantized).to(at::kDouble) - weight).t());
  const double relative = (lost.square().sum() / x.matmul(weight.t()).square().sum()).item<double>();
  EXPECT_NEAR(*head.distortion.output_relative_error, relative, 1e-4 * relative);
}

TEST(Head, OfAMixtureOfExpertsReadsTheSame) {
  HeadRun run(false, testing::family_graph("qwen3_moe", 64));
  const std::vector<BlockOutcome> outcomes = run.go();
  ASSERT_EQ(outcomes.size(), 3u);
  const at::Tensor x = normed_states(run, testing::finished_model(run.weights, outcomes));
  const at::Tensor expected = product_of(x, x);
  const at::Tensor& found = run.solver.seen.at("lm_head").gram;
  EXPECT_LT(((found - expected).norm() / expected.norm()).item<double>(), 1e-5);
}

TEST(Head, ChangesNothingBeforeIt) {
  HeadRun with, without;
  without.job.tasks.pop_back();
  const std::vector<BlockOutcome> blocks = without.go(), all = with.go();
  ASSERT_EQ(blocks.size(), 2u);
  for (size_t b = 0; b < blocks.size(); ++b) {
    for (size_t i = 0; i < blocks[b].linears.size(); ++i)
      EXPECT_TRUE(at::equal(blocks[b].linears[i].quantized.codes, all[b].linears[i].quantized.codes));
  }
}

TEST(Head, ARunGoesOnWithItAlone) {
  for (const bool pair : {false, true}) {
    HeadRun run(pair);
    const std::vector<BlockOutcome> whole = run.go();
    ASSERT_TRUE(run.states.contains(2)) << "the head begins with the states behind the last block";
    const auto pieces = run.states.at(2);
    size_t next = 0;
    const std::vector<BlockOutcome> rest =
        run.go({2, [&](at::Tensor& piece) { piece.copy_(pieces.at(next++)); }});
    ASSERT_EQ(rest.size(), 1u);
    EXPECT_TRUE(at::equal(rest[0].linears[0].quantized.codes, whole[2].linears[0].quantized.codes));
    EXPECT_TRUE(run.go({3, nullptr}).empty());
  }
}

TEST(Head, UnderTwoStreamsItComparesWithTheUnquantisedModel) {
  HeadRun run(true);
  const std::vector<BlockOutcome> outcomes = run.go();
  const at::Tensor x = normed_states(run, testing::finished_model(run.weights, outcomes));
  const at::Tensor expected = product_of(normed_states(run, run.weights), x);
  const at::Tensor& found = run.solver.seen.at("lm_head").cross_gram;
  EXPECT_LT(((found - expected).norm() / expected.norm()).item<double>(), 1e-4);
}

}  // namespace
}  // namespace lathe
