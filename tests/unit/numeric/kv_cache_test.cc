// Schemes of KV caches: which tokens are rounded when, what they take, and what heads they are for.
#include "lib/numeric/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "lib/numeric/kv_cache_methods.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;

KvCacheScheme kivi(int64_t window, int64_t group = 8) {
  KvCacheScheme scheme = find_kv_cache_method("kivi")->defaults;
  scheme.window = window;
  scheme.group_size = group;
  return scheme;
}

// The reference's decoding (KIVI, models/llama_kivi.py), by counting: a key joins the unrounded ones and is
// attended to; when there are as many as the window holds, all leave. A value joins; when there is one more
// than that, the oldest leaves, after attention.
TEST(KiviWindow, IsWhatDecodingLeaves) {
  const KvCacheScheme scheme = kivi(16);
  int64_t keys = 0, kept_keys = 0, values = 0, kept_values = 0;  // rounded, and not
  for (int64_t t = 0; t < 100; ++t) {
    ++kept_keys;
    ++kept_values;
    EXPECT_EQ(rounded_keys(scheme, t), keys) << t;
    EXPECT_EQ(rounded_values(scheme, t), values) << t;
    EXPECT_EQ(keys + kept_keys, t + 1);
    if (kept_keys == scheme.window) keys += std::exchange(kept_keys, 0);
    if (kept_values > scheme.window) ++values, --kept_values;
  }
}

TEST(KiviWindow, APromptLeavesTheSameCache) {
  const KvCacheScheme scheme = kivi(16);
  for (int64_t prompt = 1; prompt < 60; ++prompt) {  // the query after it
    EXPECT_EQ(rounded_keys(scheme, prompt), prompt - prompt % 16);
    EXPECT_EQ(rounded_values(scheme, prompt), prompt <= 16 ? 0 : prompt - 16);
  }
}

TEST(KvCacheBits, CountRangesAndTokensInFp16) {
  KvCacheScheme scheme = kivi(128, 32);
  const KvCacheShape shape{2, 64};
  EXPECT_EQ(kv_cache_bits(scheme, shape, 64), 16);  // all in the window
  // 4,096 tokens: keys 0 .. 3967, values 0 .. 3966 have left.
  const double code = 2 + 32.0 / 32;
  const double keys = (3968 * code + 128 * 16) / 4096, values = (3967 * code + 129 * 16) / 4096;
  EXPECT_DOUBLE_EQ(kv_cache_bits(scheme, shape, 4096), (keys + values) / 2);
  scheme.value_bits = 4;
  EXPECT_GT(kv_cache_bits(scheme, shape, 4096), (keys + values) / 2);
  EXPECT_EQ(kv_cache_bits({}, shape, 4096), 8);
}

TEST(KvCacheBits, FiveTernaryCodesFitAByte) {
  EXPECT_EQ(cache_levels(kTernaryBits), 3);
  EXPECT_EQ(cache_levels(2), 4);
  EXPECT_EQ(stored_code_bits(4, 128), 4);
  EXPECT_DOUBLE_EQ(stored_code_bits(kTernaryBits, 160), 1.6);
  EXPECT_DOUBLE_EQ(stored_code_bits(kTernaryBits, 128), 8 * 26 / 128.0);
  KvCacheScheme scheme = find_kv_cache_method("skvq")->defaults;
  const KvCacheShape shape{2, 64};
  const double two = kv_cache_bits(scheme, shape, 4096);
  scheme.value_bits = kTernaryBits;
  // Half of the numbers are values, of which those in FP16, 5 first and 128 latest ones, stay.
  EXPECT_NEAR(two - kv_cache_bits(scheme, shape, 4096), (2 - 1.625) / 2 * (4096 - 133) / 4096, 1e-12);
}

TEST(KvCacheRefuses, HeadsAndWindowsThatGroupsDontDivide) {
  const auto reason = [](const KvCacheScheme& scheme, int64_t head_dim) {
    return kv_cache_refuses(scheme, {2, head_dim}).value_or("");
  };
  EXPECT_EQ(reason(kivi(64, 32), 64), "");
  EXPECT_THAT(reason(kivi(64, 32), 80), HasSubstr("group_size 32 doesn't divide the head size, 80"));
  EXPECT_THAT(reason(kivi(64, 32), 63), HasSubstr("group_size 32 doesn't divide the head size, 63"));
  EXPECT_THAT(reason(kivi(16, 32), 64), HasSubstr("window 16 isn't a multiple of group_size 32"));
  EXPECT_THAT(reason(kivi(80, 32), 64), HasSubstr("window 80 isn't a multiple of group_size 32"));
  EXPECT_THAT(reason(kivi(64, 8), 64), HasSubstr("group_size 8 isn't a multiple of 16, the codes of 2 bits"));
  EXPECT_EQ(reason({}, 63), "");
}

TEST(KvCacheProblem, ParametersThatTheSchemeHasNot) {
  KvCacheQuantizer layer{kivi(64, 32)};
  EXPECT_EQ(kv_cache_problem(layer, {2, 64}), std::nullopt);
  layer.parameters["key_levels"] = at::zeros({4});
  EXPECT_THAT(kv_cache_problem(layer, {2, 64}).value_or(""), HasSubstr("key_levels: no parameter of this"));
}

TEST(SameQuantizer, LooksAtAllOfIt) {
  const KvCacheQuantizer plain, other{.scheme = {}, .k_scales = {2}}, kind{kivi(64, 32)};
  EXPECT_TRUE(same_quantizer(plain, plain));
  EXPECT_FALSE(same_quantizer(plain, other));
  EXPECT_FALSE(same_quantizer(plain, kind));
  KvCacheQuantizer a = kind, b = kind;
  a.parameters["x"] = at::zeros({2});
  EXPECT_FALSE(same_quantizer(a, b));
  b.parameters["x"] = at::ones({2});
  EXPECT_FALSE(same_quantizer(a, b));
  b.parameters["x"] = at::zeros({2});
  EXPECT_TRUE(same_quantizer(a, b));
}

TEST(KvCacheMethods, DefaultsAreAllowed) {
  for (const KvCacheMethod& method : kv_cache_methods()) {
    EXPECT_TRUE(method.defaults.low_bit());
    EXPECT_EQ(kv_cache_refuses(method.defaults, {8, 128}), std::nullopt) << method.defaults.type;
    for (const KvCacheSetting& setting : method.settings) {
      std::visit(
          [&](auto member) { EXPECT_TRUE(setting.allows(static_cast<double>(method.defaults.*member))); },
          setting.member);
    }
  }
  const KvCacheSetting& bits = find_kv_cache_method("kivi")->settings.front();
  EXPECT_EQ(bits.expected(), "2 or 4");
  EXPECT_FALSE(bits.allows(3));
  EXPECT_FALSE(bits.allows(8));
  const KvCacheSetting& ternary = find_kv_cache_method("skvq")->settings[1];
  EXPECT_EQ(ternary.expected(), "1.5, 2, 3 or 4");
  EXPECT_TRUE(ternary.allows(1.5));
  EXPECT_FALSE(ternary.allows(2.5));
}

}  // namespace
}  // namespace lathe
