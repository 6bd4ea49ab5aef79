// KVQuant's caches as a whole against its numbers and tokens one by one, and against its own code.
#include "lib/kernels/kvquant.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/numeric/kv_cache_methods.h"
#include "lib/numeric/kvquant.h"
#include "tests/unit/kernels/cache_golden.h"

namespace lathe::kernels {
namespace {

using test::same_bits;

KvCacheQuantizer cache_of(double outliers, const at::Tensor& lower, const at::Tensor& upper,
                          const at::Tensor& levels, bool q_norm) {
  KvCacheQuantizer cache{find_kv_cache_method("kvquant")->defaults};
  cache.scheme.outliers = outliers;
  cache.parameters = {
      {"key_lower", lower}, {"key_upper", upper}, {"key_levels", levels}, {"value_levels", levels}};
  if (q_norm) cache.parameters["key_norm"] = cache.parameters["value_norm"] = at::tensor({1.03f, -0.01f});
  return cache;
}

KvQuantLevels levels_of(const at::Tensor& levels, bool q_norm) {
  const float* const first = levels.const_data_ptr<float>();
  KvQuantLevels result{{first, first + levels.numel()}};
  if (q_norm) result.factor = 1.03f, result.offset = -0.01f;
  return result;
}

TEST(KvQuantCache, IsItsNumbersAndTokens) {
  at::manual_seed(4);
  at::Tensor x = at::randn({2, 9, 3, 20});
  x.select(3, 7).mul_(30);
  x[1][4].fill_(0.7);                // a token of one number
  x[0][2].slice(1, 0, 19).fill_(2);  // and one with other outliers alone
  const at::Tensor levels = std::get<0>(at::rand({8}).mul(2).sub(1).sort());
  const at::Tensor flat = x.view({18, 60}).to(at::kHalf).to(at::kFloat);
  at::Tensor lower = std::get<0>(flat.kthvalue(3, 0)), upper = std::get<0>(flat.kthvalue(15, 0));
  upper[11] = lower[11];  // a channel of one number
  for (const bool q_norm : {false, true}) {
    for (const double outliers : {0.0, 0.01, 0.07}) {
      const KvCacheQuantizer cache = cache_of(outliers, lower, upper, levels, q_norm);
      const KvQuantLevels grid = levels_of(levels, q_norm);
      at::Tensor keys = flat.clone(), values = flat.clone();
      for (int64_t t = 0; t < 18; ++t) {
        for (int64_t c = 0; c < 60; ++c)
          keys[t][c] = round_kvquant_key(x.view({18, 60})[t][c].item<float>(), lower[c].item<float>(),
                                         upper[c].item<float>(), grid);
        const std::span<float> token(values[t].data_ptr<float>(), 60);
        round_kvquant_token(token, grid, outliers, token);
      }
      EXPECT_TRUE(same_bits(kvquant_keys(x, cache), keys.view(x.sizes()))) << outliers;
      EXPECT_TRUE(same_bits(kvquant_values(x, cache), values.view(x.sizes()))) << outliers;
      EXPECT_TRUE(same_bits(kvquant_values(x.to(at::kHalf), cache), values.view(x.sizes())));
    }
  }
}

TEST(KvQuantCache, IsTheReferences) {
  const nlohmann::json golden = test::cache_golden("kvquant");
  const auto floats = [&](const char* name) { return at::tensor(golden.at(name).get<std::vector<float>>()); };
  const int64_t tokens = golden.at("tokens"), channels = golden.at("channels");
  const auto numbers = [&](const nlohmann::json& bits) {
    return test::half_numbers(bits, {1, tokens, 1, channels});
  };
  for (const bool q_norm : {false, true}) {
    const KvCacheQuantizer cache =
        cache_of(golden.at("outliers"), floats("lower"), floats("upper"), floats("levels"), q_norm);
    const nlohmann::json& rounded = golden.at("rounded").at(q_norm ? "q_norm" : "plain");
    EXPECT_TRUE(same_bits(kvquant_keys(numbers(golden.at("keys")), cache), numbers(rounded.at("keys"))));
    EXPECT_TRUE(
        same_bits(kvquant_values(numbers(golden.at("values")), cache), numbers(rounded.at("values"))));
  }
}

TEST(KvQuantCache, AsManyOutliersAsTheBitsCount) {
  at::manual_seed(6);
  for (const int64_t channels : {64, 192, 1024}) {
    for (const double outliers : {0.0, 0.01, 0.05, 0.1}) {
      const at::Tensor beyond = kvquant_by_token(at::randn({5, channels}), outliers).outliers;
      EXPECT_TRUE(beyond.sum(1)
                      .eq(static_cast<int64_t>(kvquant_outliers(outliers, static_cast<size_t>(channels))))
                      .all()
                      .item<bool>())
          << channels << " " << outliers;
    }
  }
}

}  // namespace
}  // namespace lathe::kernels
