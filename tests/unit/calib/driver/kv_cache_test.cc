// Scales of a KV cache are those of the finished block's keys and values, whatever was folded, kept or
// propagated.
#include <gtest/gtest.h>

#include "calib/driver/driver.h"
#include "lib/base/error.h"
#include "lib/model/forward.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

struct CacheRun {
  ModelGraph graph;
  testing::MemoryWeights weights;
  testing::RecordingSolver solver;
  testing::FixedScales folds;
  std::vector<BlockOutcome> outcomes;
  CalibrationJob job;

  explicit CacheRun(ModelGraph made) : graph(std::move(made)), weights(testing::random_weights(graph, 5)) {
    job.graph = &graph;
    job.weights = &weights;
    job.transforms = {&folds};
    const Scheme scheme{.type = "int", .bits = 4, .group_size = 16, .symmetric = true};
    for (const Block& block : graph.blocks)
      job.tasks.emplace_back(block.linears.size(), LinearTask{&solver, scheme});
    at::manual_seed(3);
    job.ids = at::randint(0, 50, {150, 16}, at::kLong);  // several chunks
    job.kv_cache = KvCacheScheme{};
  }
  void go() {
    calibrate(job,
              {.block_done = [&](BlockOutcome&& o) { outcomes.push_back(std::move(o)); }, .progress = {}});
  }
};

/// Largest |key| and |value| of the tokens that count, of each head, in a plain forward pass of `source`'s
/// blocks on the hidden states of `stream`'s.
struct Largest {
  at::Tensor keys, values;  // [kv_heads]
};
std::vector<Largest> largest_of(const CacheRun& run, const WeightSource& source, const WeightSource& stream) {
  const auto& lengths = run.job.lengths;
  std::vector<Largest> result;
  at::Tensor hidden = embed(run.graph, source.load("model.embed_tokens.weight"), run.job.ids);
  const RopeTables rope = rope_tables(run.graph.config, run.job.ids.size(1), c10::Device(c10::kCPU));
  for (const Block& block : run.graph.blocks) {
    const BlockWeights weights(block, source, c10::Device(c10::kCPU)),
        others(block, stream, c10::Device(c10::kCPU));
    const BlockForward forward(run.graph.config, block, weights, rope);
    auto [keys, values] = forward.keys_and_values(forward.attention_in(hidden));
    for (size_t row = 0; row < lengths.size(); ++row) {
      for (const at::Tensor& made : {keys, values})
        made[static_cast<int64_t>(row)].slice(1, lengths[row]).zero_();  // [heads, s, d]
    }
    result.push_back({keys.abs().amax({0, 2, 3}), values.abs().amax({0, 2, 3})});
    hidden = BlockForward(run.graph.config, block, others, rope).run(hidden);
  }
  return result;
}

void expect_side(const std::vector<float>& found, const at::Tensor& largest, bool per_head) {
  const at::Tensor expected = (per_head ? largest : largest.max().reshape({1})) / 448;
  EXPECT_TRUE(at::allclose(at::tensor(found), expected, 2e-3, 0)) << at::tensor(found) << expected;
}

void expect_scales(const CacheRun& run, const std::vector<Largest>& largest) {
  ASSERT_EQ(run.outcomes.size(), largest.size());
  for (size_t b = 0; b < largest.size(); ++b) {
    SCOPED_TRACE(b);
    const auto& found = run.outcomes[b].kv_cache;
    ASSERT_TRUE(found.has_value());
    expect_side(found->k_scales, largest[b].keys, run.job.kv_cache->per_head);
    expect_side(found->v_scales, largest[b].values, run.job.kv_cache->per_head);
  }
}

TEST(KvCacheScales, AreThoseOfTheFinishedModel) {
  for (const char* family : {"llama", "qwen3", "phi3", "qwen2_moe"}) {
    SCOPED_TRACE(family);
    CacheRun run(testing::family_graph(family, 64));
    run.go();
    const auto finished = testing::finished_model(run.weights, run.outcomes);
    const auto expected = largest_of(run, finished, finished);
    expect_scales(run, expected);
    // The unfolded values are far from that: this test would see scales taken before the folds.
    if (std::string_view(family) != "llama") continue;
    const auto before = largest_of(run, run.weights, run.weights);
    EXPECT_GT((before[0].values.max() / expected[0].values.max() - 1).abs().item<float>(), 0.05);
  }
}

TEST(KvCacheScales, PaddingDoesNotCount) {
  CacheRun run(testing::tiny_graph());
  run.job.transforms.clear();
  run.job.lengths.assign(150, 16);
  run.job.lengths[40] = 3;
  run.go();
  const auto finished = testing::finished_model(run.weights, run.outcomes);
  expect_scales(run, largest_of(run, finished, finished));
  // Nor does what the padding is.
  CacheRun other(testing::tiny_graph());
  other.job.transforms.clear();
  other.job.lengths = run.job.lengths;
  other.job.ids = run.job.ids.clone();
  other.job.ids[40].slice(0, 3).fill_(7);
  other.go();
  for (size_t b = 0; b < run.outcomes.size(); ++b) {
    EXPECT_EQ(run.outcomes[b].kv_cache->k_scales, other.outcomes[b].kv_cache->k_scales);
    EXPECT_EQ(run.outcomes[b].kv_cache->v_scales, other.outcomes[b].kv_cache->v_scales);
  }
}

TEST(KvCacheScales, OfTheArtefactsWeightsWhateverIsPropagated) {
  CacheRun run(testing::tiny_graph());
  run.job.propagate = Propagate::reference;
  run.go();
  expect_scales(run, largest_of(run, testing::finished_model(run.weights, run.outcomes), run.weights));
}

TEST(KvCacheScales, OfEachHead) {
  CacheRun run(testing::family_graph("llama", 64));
  run.job.kv_cache->per_head = true;
  run.job.lengths.assign(150, 16);
  run.job.lengths[40] = 3;
  run.go();
  const auto finished = testing::finished_model(run.weights, run.outcomes);
  const auto expected = largest_of(run, finished, finished);
  ASSERT_GT(expected[0].keys.numel(), 1);
  EXPECT_NE(expected[0].keys[0].item<float>(), expected[0].keys[1].item<float>());
  expect_scales(run, expected);
}

TEST(KvCacheScales, NotAskedForNotMade) {
  CacheRun run(testing::tiny_graph());
  run.job.kv_cache.reset();
  run.go();
  EXPECT_FALSE(run.outcomes[0].kv_cache.has_value());
}

/// Weights with a KV cache, as an artefact's.
class CachedWeights : public testing::MemoryWeights {
 public:
  explicit CachedWeights(const MemoryWeights& weights) : MemoryWeights(weights) {}
  std::optional<KvCacheQuantizer> kv_cache(const std::string& attention) const override {
    asked.push_back(attention);
    return quantizer;
  }
  mutable std::vector<std::string> asked;
  KvCacheQuantizer quantizer{{"int", 8}, {100}, {1e-3f}};
};

TEST(KvCacheForward, RoundsKeysAndValuesByTheirOwnScale) {
  const ModelGraph graph = testing::tiny_graph();
  CachedWeights weights(testing::random_weights(graph, 2));
  const Block& block = graph.blocks[1];
  const RopeTables rope = rope_tables(graph.config, 6, c10::Device(c10::kCPU));
  const at::Tensor x = at::randn({2, 6, 64});
  const auto attention = [&] {
    return BlockForward(graph.config, block, BlockWeights(block, weights, c10::Device(c10::kCPU)), rope)
        .attention_out(x);
  };
  // Keys below half a step of 100 are all 0, so attention is the mean of the values so far.
  weights.quantizer.v_scales = {0.5f};
  const at::Tensor found = attention();
  EXPECT_EQ(weights.asked.back(), "model.layers.1.self_attn");
  const BlockWeights loaded(block, weights, c10::Device(c10::kCPU));
  const at::Tensor values = BlockForward(graph.config, block, loaded, rope).keys_and_values(x).second;
  const at::Tensor rounded = (values * 2).round().div(2).repeat_interleave(2, 1);
  const at::Tensor mean = rounded.cumsum(2) / at::arange(1, 7, at::kFloat).view({1, 1, 6, 1});
  EXPECT_TRUE(at::allclose(found, mean.transpose(1, 2).reshape({2, 6, -1}), 1e-5, 1e-5));
  EXPECT_FALSE(at::allclose(found,
                            values.repeat_interleave(2, 1)
                                .cumsum(2)
                                .div(at::arange(1, 7, at::kFloat).view({1, 1, 6, 1}))
                                .transpose(1, 2)
                                .reshape({2, 6, -1}),
                            1e-3, 1e-3));
}

}  // namespace
}  // namespace lathe
