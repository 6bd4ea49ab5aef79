// Fisher's information of cached keys and values: the gradients it is the squares of, and what a cache is
// fitted to where it weighs errors.
#include "calib/driver/cache_gradients.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "calib/driver/kv_cache_fit.h"
#include "lib/eval/drawn_labels.h"
#include "lib/model/block_gradient.h"
#include "lib/model/cached_attention.h"
#include "lib/numeric/kv_cache_methods.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

class CacheGradientsOf : public ::testing::Test {
 protected:
  CacheGradientsOf() : graph_(testing::tiny_graph()), weights_(testing::random_weights(graph_, 5)) {
    job_.graph = &graph_;
    job_.weights = &weights_;
    for (const Block& block : graph_.blocks)
      job_.tasks.emplace_back(block.linears.size(), LinearTask{&solver_, Scheme{"int", 4, 16, true}});
    at::manual_seed(3);
    job_.ids = at::randint(0, 50, {6, 16}, at::kLong);
    job_.kv_cache = find_kv_cache_method("kvquant")->defaults;
    job_.kv_cache->weights = KvCacheWeights::fisher;
  }

  std::vector<KvCacheQuantizer> fitted() const {
    std::vector<KvCacheQuantizer> caches;
    calibrate(job_, {.block_done = [&](BlockOutcome&& outcome) { caches.push_back(*outcome.kv_cache); },
                     .progress = {}});
    return caches;
  }

  /// The same gradient without stores: rows by themselves, forward, then back from the labels.
  CacheSensitivity by_hand(size_t wanted, int64_t row, const at::Tensor& uniform) const {
    const RopeTables rope = rope_tables(graph_.config, job_.ids.size(1), at::kCPU);
    std::vector<at::Tensor> into;
    std::vector<BlockWeights> weights;
    at::Tensor hidden =
        weights_.tensors.at("model.embed_tokens.weight").index_select(0, job_.ids[row]).unsqueeze(0);
    for (const Block& block : graph_.blocks) {
      weights.emplace_back(block, weights_, at::kCPU, DType::F32);
      into.push_back(hidden);
      hidden = BlockForward(graph_.config, block, weights.back(), rope).run(hidden);
    }
    at::Tensor after = drawn_label_gradient({&graph_, &weights_}, hidden, uniform, at::kCPU);
    for (size_t b = graph_.blocks.size(); b-- > 0;) {
      const BlockGradient found =
          block_gradient(graph_.config, graph_.blocks[b], weights[b], rope, into[b], after, true);
      if (b == wanted) return {found.keys.square(), found.values.square()};
      after = found.hidden;
    }
    return {};
  }

  testing::RecordingSolver solver_;
  ModelGraph graph_;
  testing::MemoryWeights weights_;
  CalibrationJob job_;
};

TEST_F(CacheGradientsOf, AreThoseOfTheModelsLikelihood) {
  CacheGradients gradients(job_);
  at::Generator random = at::detail::createCPUGenerator(0x5eed);
  for (int64_t row = 0; row < 3; ++row) {
    const at::Tensor uniform = at::rand({16}, random, at::kDouble);
    for (const size_t block : {size_t{0}, size_t{1}}) {
      const CacheSensitivity expected = by_hand(block, row, uniform);
      const CacheSensitivity found = gradients.of(block, {row, 1});
      EXPECT_GT(expected.keys.max().item<float>(), 0);
      EXPECT_TRUE(at::allclose(found.keys, expected.keys, 1e-4, 1e-9)) << row << " " << block;
      EXPECT_TRUE(at::allclose(found.values, expected.values, 1e-4, 1e-9)) << row << " " << block;
    }
  }
}

TEST_F(CacheGradientsOf, RowsTogetherAreTheRows) {
  CacheGradients gradients(job_);
  const CacheSensitivity all = gradients.of(1, {2, 3});
  EXPECT_EQ(all.keys.sizes(), (std::vector<int64_t>{3, 16, 2, 16}));
  for (int64_t row = 0; row < 3; ++row)
    EXPECT_TRUE(all.values[row].equal(gradients.of(1, {2 + row, 1}).values[0]));
}

TEST_F(CacheGradientsOf, NoLossIsTakenOfPadding) {
  const CacheSensitivity whole = CacheGradients(job_).of(0, {0, 2});
  job_.lengths = {16, 9, 16, 16, 16, 16};
  const CacheSensitivity part = CacheGradients(job_).of(0, {0, 2});
  EXPECT_TRUE(part.keys[0].equal(whole.keys[0]));
  EXPECT_EQ(part.values[1].slice(0, 9).max().item<float>(), 0);
  EXPECT_GT(part.values[1].slice(0, 0, 9).max().item<float>(), 0);
}

TEST_F(CacheGradientsOf, WeighTheLevels) {
  const std::vector<KvCacheQuantizer> caches = fitted(), again = fitted();
  const KvCacheShape shape = kv_cache_shape(graph_.config);
  for (size_t b = 0; b < caches.size(); ++b) {
    EXPECT_EQ(kv_cache_problem(caches[b], shape), std::nullopt);
    EXPECT_TRUE(same_quantizer(caches[b], again[b]));
  }
  job_.kv_cache->weights = KvCacheWeights::attention;
  const std::vector<KvCacheQuantizer> other = fitted();
  for (size_t b = 0; b < caches.size(); ++b) {
    EXPECT_FALSE(caches[b].parameters.at("key_levels").equal(other[b].parameters.at("key_levels")));
    EXPECT_FALSE(caches[b].parameters.at("value_levels").equal(other[b].parameters.at("value_levels")));
    EXPECT_TRUE(caches[b].parameters.at("key_lower").equal(other[b].parameters.at("key_lower")));
  }
}

TEST_F(CacheGradientsOf, OfTheSamplesThatAreFittedTo) {
  EXPECT_EQ(cache_sample_rows(job_), 6);
  job_.ids = at::zeros({64, 513}, at::kLong);
  EXPECT_EQ(cache_sample_rows(job_), 32);  // 512 behind the sink
  job_.lengths.assign(64, 513);
  job_.lengths[0] = 1;  // nothing behind the sink
  EXPECT_EQ(cache_sample_rows(job_), 33);
  EXPECT_EQ(cache_gradient_room(job_).kept, 2 * 33);
}

}  // namespace
}  // namespace lathe
