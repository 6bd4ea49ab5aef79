// Parameters of KV caches below 8 bits: fitted to what they are for, from the tokens that count.
#include "calib/driver/kv_cache_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calib/driver/driver.h"
#include "lib/base/error.h"
#include "lib/kernels/kv_cache_quant.h"
#include "lib/kernels/kvquant.h"
#include "lib/numeric/kv_cache_methods.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

constexpr KvCacheShape kShape{2, 16};

KvCacheScheme defaults(const std::string& type) {
  KvCacheScheme scheme = find_kv_cache_method(type)->defaults;
  if (type == "skvq") scheme.group_size = 8;
  return scheme;
}

struct Numbers {
  AttentionInputs inputs;
  CacheSensitivity sensitivity;
};

/// Channels of different sizes and middles; rows x tokens of them.
Numbers numbers(int64_t rows, int64_t tokens) {
  at::manual_seed(12);
  const at::Tensor sizes = at::rand({2, 16}).mul(3).exp(), middles = at::randn({2, 16}).mul(4);
  const auto make = [&] { return at::randn({rows, tokens, 2, 16}) * sizes + middles; };
  Numbers made;
  made.inputs.unrotated_keys = make();
  made.inputs.values = make().transpose(1, 2);
  made.sensitivity.keys = at::rand({rows, tokens, 2, 16}).pow(4);
  made.sensitivity.values = at::rand({rows, tokens, 2}).pow(4);
  return made;
}

KvCacheQuantizer fitted(const KvCacheScheme& scheme, const Numbers& made, const at::Tensor& counted = {}) {
  KvCacheSample sample(scheme);
  sample.add(made.inputs, made.sensitivity, counted);
  return sample.fit(kShape, "layer");
}

/// Of keys and values, weighted.
double error_of(const KvCacheQuantizer& cache, const Numbers& made) {
  const at::Tensor &keys = made.inputs.unrotated_keys, values = made.inputs.values.transpose(1, 2);
  const at::Tensor key_error =
      (kernels::round_cached_keys(keys, cache) - keys).square() * made.sensitivity.keys;
  const at::Tensor value_error =
      (kernels::round_cached_values(values, cache) - values).square() * made.sensitivity.values.unsqueeze(3);
  return (key_error.sum() + value_error.sum()).item<double>();
}

TEST(KvCacheFit, ParametersAreTheSchemes) {
  const Numbers made = numbers(3, 200);
  for (const char* type : {"kvquant", "skvq"}) {
    const KvCacheQuantizer cache = fitted(defaults(type), made);
    EXPECT_EQ(kv_cache_problem(cache, kShape), std::nullopt) << type;
    EXPECT_EQ(cache.scheme, defaults(type));
  }
  KvCacheScheme moved = defaults("kvquant");
  moved.q_norm = true;
  EXPECT_EQ(kv_cache_problem(fitted(moved, made), kShape), std::nullopt);
}

TEST(KvCacheFit, RangesHoldAllButTheOutliers) {
  const Numbers made = numbers(2, 501);
  KvCacheScheme scheme = defaults("kvquant");
  scheme.sink = 0;
  const KvCacheQuantizer cache = fitted(scheme, made);
  const at::Tensor keys = made.inputs.unrotated_keys.reshape({1002, 32}).to(at::kHalf).to(at::kFloat);
  const at::Tensor beyond =
      keys.lt(cache.parameters.at("key_lower")).logical_or(keys.gt(cache.parameters.at("key_upper")));
  // 1001 steps between the numbers, 0.5 % of them at each end.
  EXPECT_LE((beyond.sum(0) - 12).abs().max().item<int64_t>(), 4);
}

TEST(KvCacheFit, LevelsAreBetterThanEvenOnes) {
  const Numbers made = numbers(3, 200);
  const KvCacheQuantizer cache = fitted(defaults("kvquant"), made);
  KvCacheQuantizer even = cache;
  even.parameters["key_levels"] = even.parameters["value_levels"] = at::linspace(-1, 1, 16);
  EXPECT_LT(error_of(cache, made), 0.9 * error_of(even, made));
}

TEST(KvCacheFit, TernaryGroupsAreClippedForTheirLevels) {
  const Numbers made = numbers(3, 200);
  KvCacheScheme scheme = defaults("skvq");
  scheme.value_bits = kTernaryBits;
  const KvCacheQuantizer ternary = fitted(scheme, made), two = fitted(defaults("skvq"), made);
  EXPECT_EQ(kv_cache_problem(ternary, kShape), std::nullopt);
  EXPECT_TRUE(ternary.parameters.at("key_clip").equal(two.parameters.at("key_clip")));
  KvCacheQuantizer other = ternary;
  other.parameters["value_clip"] = two.parameters.at("value_clip");
  EXPECT_LT(error_of(ternary, made), error_of(other, made));
}

TEST(KvCacheFit, SensitiveNumbersDrawTheLevels) {
  const at::Tensor numbers = at::tensor({-0.9f, -0.5f, 0.5f, 0.6f, 0.7f, 0.9f});
  const at::Tensor even = fit_levels(numbers, at::ones({6}), 4);
  EXPECT_TRUE(at::allclose(even, at::tensor({-0.9f, -0.5f, 0.6f, 0.9f}), 0, 1e-3)) << even;
  const at::Tensor drawn = fit_levels(numbers, at::tensor({1e-3f, 1e-3f, 9.f, 9.f, 9.f, 1.f}), 4);
  EXPECT_TRUE(at::allclose(drawn, at::tensor({0.5f, 0.6f, 0.7f, 0.9f}), 0, 1e-3)) << drawn;
}

TEST(KvCacheFit, QNormKeepsMeanAndDeviation) {
  const Numbers made = numbers(3, 200);
  KvCacheScheme scheme = defaults("kvquant");
  scheme.bits = scheme.value_bits = 2;
  scheme.outliers = 0;
  scheme.sink = 0;
  scheme.q_norm = true;
  const KvCacheQuantizer cache = fitted(scheme, made);
  const at::Tensor keys = made.inputs.unrotated_keys.reshape({600, 32}).to(at::kHalf).to(at::kFloat);
  const auto side =
      kernels::kvquant_by_channel(keys, cache.parameters.at("key_lower"), cache.parameters.at("key_upper"));
  const at::Tensor levels = cache.parameters.at("key_levels"), norm = cache.parameters.at("key_norm");
  const at::Tensor back = levels.take(kernels::kvquant_nearest(side.scaled, levels)) * norm[0] + norm[1];
  EXPECT_NEAR(back.mean().item<float>(), side.scaled.mean().item<float>(), 1e-4);
  EXPECT_NEAR(back.std().item<float>(), side.scaled.std().item<float>(), 1e-4);
  EXPECT_GT(norm[0].item<float>(), 1.001f);
}

TEST(KvCacheFit, LikeChannelsShareAGroup) {
  const Numbers made = numbers(3, 200);
  const KvCacheQuantizer ordered = fitted(defaults("skvq"), made);
  KvCacheQuantizer as_they_are = ordered;
  for (const std::string side : {"key", "value"}) {
    as_they_are.parameters[side + "_order"] = at::arange(32, at::kInt);
    as_they_are.parameters[side + "_begins"] = at::tensor({0, 8, 16, 24, 32}, at::kInt);
    as_they_are.parameters[side + "_clip"] = at::ones({4});
  }
  EXPECT_LT(error_of(ordered, made), 0.75 * error_of(as_they_are, made));
  KvCacheQuantizer unclipped = ordered;
  unclipped.parameters["key_clip"] = unclipped.parameters["value_clip"] = at::ones({4});
  EXPECT_LT(error_of(ordered, made), 0.97 * error_of(unclipped, made));
}

TEST(KvCacheFit, SamplesThatComeInPartsAreOneSample) {
  const Numbers made = numbers(3, 60);
  at::Tensor counted = at::ones({3, 60}, at::kBool);
  counted[0].slice(0, 10, 30).fill_(false);
  const auto rows = [](const at::Tensor& x, int64_t first, int64_t count) {
    return x.narrow(0, first, count);
  };
  for (const char* type : {"kvquant", "skvq"}) {
    KvCacheSample parts(defaults(type));
    for (const auto& [first, count] : {std::pair(0, 1), {1, 2}}) {
      AttentionInputs inputs;
      inputs.unrotated_keys = rows(made.inputs.unrotated_keys, first, count);
      inputs.values = rows(made.inputs.values, first, count);
      parts.add(inputs,
                {rows(made.sensitivity.keys, first, count), rows(made.sensitivity.values, first, count)},
                rows(counted, first, count));
    }
    EXPECT_TRUE(same_quantizer(parts.fit(kShape, "layer"), fitted(defaults(type), made, counted))) << type;
  }
}

TEST(KvCacheFit, SinksAndPaddingDontCount) {
  const Numbers made = numbers(3, 60);
  at::Tensor counted = at::ones({3, 60}, at::kBool);
  counted[1].slice(0, 20).fill_(false);
  Numbers other = made;
  other.inputs.unrotated_keys = made.inputs.unrotated_keys.clone();
  other.inputs.values = made.inputs.values.clone();
  for (const at::Tensor& tokens : {other.inputs.unrotated_keys, other.inputs.values.transpose(1, 2)}) {
    tokens.slice(1, 0, 5).fill_(1000);
    tokens[1].slice(0, 20).fill_(-1000);
  }
  for (const char* type : {"kvquant", "skvq"}) {
    KvCacheScheme scheme = defaults(type);
    scheme.sink = 5;
    EXPECT_TRUE(same_quantizer(fitted(scheme, made, counted), fitted(scheme, other, counted))) << type;
    EXPECT_FALSE(same_quantizer(fitted(scheme, made), fitted(scheme, other))) << type;
  }
}

TEST(KvCacheFit, WhatCantBeFitted) {
  const auto error_with = [](const KvCacheScheme& scheme, const Numbers& made) {
    try {
      fitted(scheme, made);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  KvCacheScheme scheme = defaults("kvquant");
  scheme.sink = 50;
  EXPECT_THAT(error_with(scheme, numbers(2, 50)),
              ::testing::HasSubstr("layer: kv_cache: no calibration token behind the first 50 (sink)"));
  Numbers large = numbers(2, 50);
  large.inputs.values[1][0][30][2] = 1e5;
  EXPECT_THAT(error_with(defaults("kvquant"), large),
              ::testing::HasSubstr("layer: values are not finite in FP16"));
}

TEST(KvCacheFit, TheDriverFitsEachBlock) {
  for (const char* type : {"kivi", "kvquant", "skvq"}) {
    const ModelGraph graph = testing::tiny_graph();
    const auto weights = testing::random_weights(graph, 5);
    testing::RecordingSolver solver;
    CalibrationJob job;
    job.graph = &graph;
    job.weights = &weights;
    for (const Block& block : graph.blocks)
      job.tasks.emplace_back(block.linears.size(), LinearTask{&solver, Scheme{"int", 4, 16, true}});
    at::manual_seed(3);
    job.ids = at::randint(0, 50, {40, 16}, at::kLong);
    job.kv_cache = defaults(type);
    std::vector<BlockOutcome> outcomes;
    calibrate(job, {.block_done = [&](BlockOutcome&& outcome) { outcomes.push_back(std::move(outcome)); },
                    .progress = {}});
    const KvCacheShape shape{graph.config.num_kv_heads, graph.config.head_dim};
    for (const BlockOutcome& outcome : outcomes) {
      ASSERT_TRUE(outcome.kv_cache.has_value());
      EXPECT_EQ(kv_cache_problem(*outcome.kv_cache, shape), std::nullopt) << type;
    }
    EXPECT_EQ(same_quantizer(*outcomes[0].kv_cache, *outcomes[1].kv_cache), type == std::string("kivi"));
  }
}

}  // namespace
}  // namespace lathe
