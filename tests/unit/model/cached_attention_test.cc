// Attention to a cache of fewer than 8 bits against an engine that decodes one token after the other.
#include "lib/model/cached_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lib/kernels/kv_cache_quant.h"
#include "lib/numeric/kivi.h"
#include "lib/numeric/kv_cache_methods.h"
#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

constexpr int64_t kHeadDim = 32;

struct Tokens {
  at::Tensor q, k, v;  // [b, heads, s, d], FP16 values in FP32
};

Tokens random_tokens(int64_t length, int64_t heads, int64_t kv_heads) {
  at::manual_seed(5);
  const auto make = [&](int64_t count) {
    return at::randn({2, count, length, kHeadDim}).to(at::kHalf).to(at::kFloat);
  };
  return {make(heads).mul(1.5), make(kv_heads), make(kv_heads)};
}

/// One KV head's cache, as KIVI's decoding keeps it: numbers leave the lists of unrounded ones by the
/// reference's rules and are rounded then.
class KiviDecoder {
 public:
  explicit KiviDecoder(const KvCacheScheme& scheme) : scheme_(scheme) {}

  /// The token joins, its query attends to what is there, then numbers leave.
  at::Tensor step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionRule& rule) {
    keys_.push_back(k.clone());
    values_.push_back(v.clone());
    const at::Tensor attended = attend(q, rule);
    const int64_t tokens = static_cast<int64_t>(keys_.size());
    if (tokens - rounded_keys_ == scheme_.window) {
      for (; rounded_keys_ < tokens; rounded_keys_ += scheme_.group_size) round_keys(rounded_keys_);
    }
    if (tokens - rounded_values_ > scheme_.window) round_value(rounded_values_++);
    return attended;
  }

 private:
  at::Tensor attend(const at::Tensor& q, const AttentionRule& rule) const {
    at::Tensor scores = at::mv(at::stack(keys_).to(at::kDouble), q.to(at::kDouble)).mul(rule.scale);
    if (rule.softcap) scores = (scores / *rule.softcap).tanh() * *rule.softcap;
    const int64_t tokens = scores.numel();
    if (rule.window && tokens > *rule.window) scores.slice(0, 0, tokens - *rule.window).fill_(-INFINITY);
    return at::mv(at::stack(values_).to(at::kDouble).t(), at::softmax(scores, 0)).to(at::kFloat);
  }

  void round_keys(int64_t first) {
    std::vector<float> group(static_cast<size_t>(scheme_.group_size));
    for (int64_t c = 0; c < kHeadDim; ++c) {
      for (size_t i = 0; i < group.size(); ++i)
        group[i] = keys_[static_cast<size_t>(first) + i][c].item<float>();
      round_kivi_group(group, scheme_.bits, group);
      for (size_t i = 0; i < group.size(); ++i) keys_[static_cast<size_t>(first) + i][c] = group[i];
    }
  }

  void round_value(int64_t token) {
    float* const value = values_[static_cast<size_t>(token)].data_ptr<float>();
    for (int64_t c = 0; c < kHeadDim; c += scheme_.group_size) {
      const std::span<float> group(value + c, static_cast<size_t>(scheme_.group_size));
      round_kivi_group(group, scheme_.value_bits, group);
    }
  }

  KvCacheScheme scheme_;
  std::vector<at::Tensor> keys_, values_;
  int64_t rounded_keys_ = 0, rounded_values_ = 0;
};

at::Tensor decoded(const Tokens& tokens, const KvCacheScheme& scheme, const AttentionRule& rule) {
  at::Tensor out = at::empty_like(tokens.q);
  const int64_t repeat = tokens.q.size(1) / tokens.k.size(1);
  for (int64_t row = 0; row < tokens.q.size(0); ++row) {
    for (int64_t head = 0; head < tokens.q.size(1); ++head) {
      KiviDecoder decoder(scheme);
      for (int64_t t = 0; t < tokens.q.size(2); ++t) {
        out[row][head][t] = decoder.step(tokens.q[row][head][t], tokens.k[row][head / repeat][t],
                                         tokens.v[row][head / repeat][t], rule);
      }
    }
  }
  return out;
}

CachedSide side(const at::Tensor& x, const KvCacheQuantizer& cache, bool keys) {
  const at::Tensor by_token = x.transpose(1, 2);
  const at::Tensor rounded =
      keys ? kernels::round_cached_keys(by_token, cache) : kernels::round_cached_values(by_token, cache);
  return {x, rounded.transpose(1, 2)};
}

at::Tensor simulated(const Tokens& tokens, const KvCacheScheme& scheme, const AttentionRule& rule) {
  const KvCacheQuantizer cache{scheme};
  return attend_cached(tokens.q, side(tokens.k, cache, true), side(tokens.v, cache, false), scheme, rule);
}

KvCacheScheme kivi(int bits, int value_bits, int64_t window) {
  KvCacheScheme scheme = find_kv_cache_method("kivi")->defaults;
  scheme.bits = bits;
  scheme.value_bits = value_bits;
  scheme.group_size = 16;
  scheme.window = window;
  return scheme;
}

TEST(CachedAttention, EveryQuerySeesTheCacheOfItsStep) {
  const Tokens tokens = random_tokens(150, 4, 2);
  for (const auto& [bits, value_bits, window] : {std::tuple(2, 2, 32), {4, 2, 16}, {2, 4, 48}}) {
    const KvCacheScheme scheme = kivi(bits, value_bits, window);
    const AttentionRule rule{0.2, std::nullopt, std::nullopt};
    EXPECT_LT((simulated(tokens, scheme, rule) - decoded(tokens, scheme, rule)).abs().max().item<float>(),
              2e-5)
        << scheme.describe();
  }
}

TEST(CachedAttention, ModelsOwnWindowsAndCaps) {
  const Tokens tokens = random_tokens(120, 2, 2);
  for (const AttentionRule& rule : {AttentionRule{0.2, 40, std::nullopt}, AttentionRule{0.2, 7, std::nullopt},
                                    AttentionRule{0.3, std::nullopt, 1.5}}) {
    const KvCacheScheme scheme = kivi(2, 2, 32);
    EXPECT_LT((simulated(tokens, scheme, rule) - decoded(tokens, scheme, rule)).abs().max().item<float>(),
              2e-5);
  }
}

TEST(CachedAttention, ARoundingAtTheWrongStepWouldBeSeen) {
  const Tokens tokens = random_tokens(150, 2, 2);
  const AttentionRule rule{0.2, std::nullopt, std::nullopt};
  const at::Tensor expected = decoded(tokens, kivi(2, 2, 32), rule);
  KvCacheScheme other = kivi(2, 2, 32);
  other.window = 48;
  EXPECT_GT((simulated(tokens, other, rule) - expected).abs().max().item<float>(), 1e-2);
}

TEST(CachedAttention, InsideTheWindowItIsAttention) {
  const Tokens tokens = random_tokens(33, 4, 2);
  const AttentionRule rule{0.2, std::nullopt, std::nullopt};
  const at::Tensor plain = attend(tokens.q, tokens.k, tokens.v, rule);
  const at::Tensor found = simulated(tokens, kivi(2, 2, 32), rule);
  EXPECT_LT((found - plain).slice(2, 0, 32).abs().max().item<float>(), 1e-5);
  EXPECT_GT((found - plain).select(2, 32).abs().max().item<float>(), 1e-3);  // its keys have left
}

/// Weights whose cache is kept so.
class Cached : public WeightSource {
 public:
  Cached(const WeightSource& weights, KvCacheQuantizer cache) : weights_(weights), cache_(std::move(cache)) {}
  bool contains(const std::string& name) const override { return weights_.contains(name); }
  at::Tensor load(const std::string& name) const override { return weights_.load(name); }
  std::optional<KvCacheQuantizer> kv_cache(const std::string&) const override { return cache_; }

 private:
  const WeightSource& weights_;
  KvCacheQuantizer cache_;
};

TEST(CachedAttention, BlocksOfAllFamiliesKeepTheirCacheSo) {
  for (const std::string& family : all_families()) {
    SCOPED_TRACE(family);
    const SmallModel model(family_config(family));
    const RopeTables rope = rope_tables(model.graph.config, 24, at::kCPU);
    const at::Tensor hidden = random_hidden(2, 24);
    const auto attention = [&](const WeightSource& source) {
      const BlockWeights weights(model.block(), source, at::kCPU);
      const BlockForward forward(model.graph.config, model.block(), weights, rope);
      return forward.attention_out(forward.attention_in(hidden));
    };
    const auto kept = [&](int64_t window) {
      KvCacheScheme scheme = kivi(4, 4, window);
      scheme.group_size = 8;
      return attention(Cached(model.source, {scheme}));
    };
    const at::Tensor plain = attention(model.source);
    // FP16 keys and values.
    EXPECT_LT(relative_difference(kept(64), plain), 4e-3);
    const at::Tensor rounded = kept(8);
    EXPECT_LT(relative_difference(rounded.slice(1, 0, 8), kept(64).slice(1, 0, 8)), 1e-5);
    EXPECT_GT(relative_difference(rounded.slice(1, 16), plain.slice(1, 16)), 5e-3);
    EXPECT_LT(relative_difference(rounded, plain), 0.5);
  }
}

}  // namespace
}  // namespace lathe
