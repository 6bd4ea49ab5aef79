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

/// Largest |key| and |value| of the tokens that count, in a plain forward pass of `source`'s blocks on the
/// hidden states of `stream`'s.
std::vector<std::pair<float, float>> largest_of(const CacheRun& run, const WeightSource& source,
                                                const WeightSource& stream) {
  const auto& lengths = run.job.lengths;
  std::vector<std::pair<float, float>> result;
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
    result.emplace_back(keys.abs().max().item<float>(), values.abs().max().item<float>());
    hidden = BlockForward(run.graph.config, block, others, rope).run(hidden);
  }
  return result;
}

void expect_scales(const CacheRun& run, const std::vector<std::pair<float, float>>& largest) {
  ASSERT_EQ(run.outcomes.size(), largest.size());
  for (size_t b = 0; b < largest.size(); ++b) {
    const auto& found = run.outcomes[b].kv_cache;
    ASSERT_TRUE(found.has_value());
    EXPECT_NEAR(found->k_scale, largest[b].first / 448, 2e-3 * largest[b].first / 448) << b;
    EXPECT_NEAR(found->v_scale, largest[b].second / 448, 2e-3 * largest[b].second / 448) << b;
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
    EXPECT_GT(std::abs(before[0].second / expected[0].second - 1), 0.05);
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
    EXPECT_EQ(run.outcomes[b].kv_cache->k_scale, other.outcomes[b].kv_cache->k_scale);
    EXPECT_EQ(run.outcomes[b].kv_cache->v_scale, other.outcomes[b].kv_cache->v_scale);
  }
}

TEST(KvCacheScales, OfTheArtefactsWeightsWhateverIsPropagated) {
  CacheRun run(testing::tiny_graph());
  run.job.propagate = Propagate::reference;
  run.go();
  expect_scales(run, largest_of(run, testing::finished_model(run.weights, run.outcomes), run.weights));
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
  KvCacheQuantizer quantizer{{"int", 8}, 100, 1e-3f};
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
  weights.quantizer.v_scale = 0.5f;
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
