// SKVQ's caches as a whole against its groups one by one, and against its own code.
#include "lib/kernels/skvq.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/numeric/kv_cache_methods.h"
#include "lib/numeric/skvq.h"
#include "tests/unit/kernels/cache_golden.h"

namespace lathe::kernels {
namespace {

using test::same_bits;

KvCacheQuantizer cache_of(const std::vector<int>& order, const std::vector<int>& begins,
                          const std::vector<float>& clip, bool fp8) {
  KvCacheQuantizer cache{find_kv_cache_method("skvq")->defaults};
  cache.scheme.fp8_scales = fp8;
  for (const std::string side : {"key", "value"}) {
    cache.parameters[side + "_order"] = at::tensor(order, at::kInt);
    cache.parameters[side + "_begins"] = at::tensor(begins, at::kInt);
    cache.parameters[side + "_clip"] = at::tensor(clip);
  }
  return cache;
}

TEST(SkvqCache, IsItsGroups) {
  at::manual_seed(4);
  at::Tensor x = at::randn({2, 9, 2, 16});
  x.select(3, 7).mul_(900);  // beyond FP8
  x[1][4].fill_(0.7);
  const at::Tensor permutation = at::randperm(32, at::kInt);
  const int* const first = permutation.const_data_ptr<int>();
  const std::vector<int> order(first, first + 32), begins = {0, 1, 14, 32};
  const std::vector<float> clip = {1, 0.81f, 0.66f};
  for (const auto& [fp8, value_levels] : {std::pair(false, 16), {true, 16}, {false, 3}, {true, 3}}) {
    KvCacheQuantizer cache = cache_of(order, begins, clip, fp8);
    cache.scheme.value_bits = value_levels == 3 ? kTernaryBits : 4;
    for (const bool keys : {true, false}) {
      at::Tensor expected = x.view({18, 32}).clone();
      for (int64_t t = 0; t < 18; ++t) {
        for (size_t g = 0; g < clip.size(); ++g) {
          std::vector<float> group;
          for (int i = begins[g]; i < begins[g + 1]; ++i)
            group.push_back(expected[t][order[static_cast<size_t>(i)]].item<float>());
          round_skvq_group(group, clip[g], keys ? 4 : value_levels, fp8, group);
          for (int i = begins[g]; i < begins[g + 1]; ++i)
            expected[t][order[static_cast<size_t>(i)]] = group[static_cast<size_t>(i - begins[g])];
        }
      }
      EXPECT_TRUE(same_bits(keys ? skvq_keys(x, cache) : skvq_values(x, cache), expected.view(x.sizes())));
    }
  }
}

TEST(SkvqCache, IsTheReferences) {
  const nlohmann::json golden = test::cache_golden("skvq");
  const auto shape = golden.at("shape").get<std::vector<int64_t>>();  // rows, heads, tokens, channels
  const auto numbers = [&](const nlohmann::json& bits) {
    return test::half_numbers(bits, shape).transpose(1, 2);
  };
  for (const double bits : {2.0, kTernaryBits}) {
    for (const bool fp8 : {false, true}) {
      KvCacheQuantizer cache =
          cache_of(golden.at("order"), golden.at("begins"), std::vector<float>(3, golden.at("clip")), fp8);
      cache.scheme.bits = bits;
      const auto& rounded = golden.at(bits == 2 ? "rounded" : "ternary");
      const at::Tensor expected = numbers(rounded.at(fp8 ? "fp8" : "fp16"));
      EXPECT_TRUE(same_bits(skvq_keys(numbers(golden.at("numbers")), cache), expected)) << bits << fp8;
    }
  }
}

}  // namespace
}  // namespace lathe::kernels
