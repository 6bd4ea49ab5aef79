// KIVI's caches as a whole against its groups one by one, and against its own code.
#include "lib/kernels/kivi.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/numeric/kivi.h"
#include "tests/unit/kernels/cache_golden.h"

namespace lathe::kernels {
namespace {

using test::same_bits;

/// By round_kivi_group(): x [b, s, h, d].
at::Tensor by_group(const at::Tensor& x, int bits, int64_t group, bool keys) {
  at::Tensor out = x.to(at::kHalf).to(at::kFloat).contiguous();
  const int64_t rows = keys ? x.size(1) / group : x.size(3) / group;
  for (int64_t b = 0; b < x.size(0); ++b) {
    for (int64_t h = 0; h < x.size(2); ++h) {
      for (int64_t other = 0; other < (keys ? x.size(3) : x.size(1)); ++other) {
        for (int64_t g = 0; g < rows; ++g) {
          const at::Tensor head = out[b].select(1, h);  // [s, d]
          const at::Tensor place =
              (keys ? head.select(1, other) : head[other]).slice(0, g * group, (g + 1) * group);
          std::vector<float> values(static_cast<size_t>(group));
          for (int64_t i = 0; i < group; ++i) values[static_cast<size_t>(i)] = place[i].item<float>();
          round_kivi_group(values, bits, values);
          place.copy_(at::tensor(values));
        }
      }
    }
  }
  return out;
}

TEST(KiviCache, IsItsGroups) {
  at::manual_seed(3);
  at::Tensor x = at::randn({2, 43, 3, 32});
  x.select(3, 7).mul_(30);
  x.select(1, 9).mul_(1e-4);
  x.select(2, 1).slice(1, 0, 16).fill_(0.7);  // ranges of 0
  x[1][20][2][3] = std::numeric_limits<float>::quiet_NaN();
  for (const int bits : {2, 4}) {
    EXPECT_TRUE(same_bits(kivi_keys(x, bits, 16).nan_to_num(99), by_group(x, bits, 16, true).nan_to_num(99)));
    EXPECT_TRUE(
        same_bits(kivi_values(x, bits, 16).nan_to_num(99), by_group(x, bits, 16, false).nan_to_num(99)));
  }
}

TEST(KiviCache, TokensBehindTheLastGroupAreAsTheyAre) {
  const at::Tensor x = at::randn({1, 21, 2, 16});
  const at::Tensor keys = kivi_keys(x, 2, 16), half = x.to(at::kHalf).to(at::kFloat);
  EXPECT_TRUE(keys.slice(1, 16).equal(half.slice(1, 16)));
  EXPECT_FALSE(keys.slice(1, 0, 16).equal(half.slice(1, 0, 16)));
  EXPECT_TRUE(kivi_keys(x.slice(1, 0, 5), 2, 16).equal(half.slice(1, 0, 5)));
}

TEST(KiviCache, ReadsStridesAndOtherTypes) {
  const at::Tensor x = at::randn({2, 3, 32, 16}).transpose(1, 2);
  EXPECT_TRUE(same_bits(kivi_keys(x, 2, 16), kivi_keys(x.contiguous(), 2, 16)));
  EXPECT_TRUE(same_bits(kivi_values(x, 2, 16), kivi_values(x.contiguous(), 2, 16)));
  const at::Tensor brain = x.to(at::kBFloat16);
  EXPECT_TRUE(same_bits(kivi_values(brain, 4, 16), kivi_values(brain.to(at::kFloat), 4, 16)));
}

TEST(KiviCache, IsTheReferences) {
  const nlohmann::json golden = test::cache_golden("kivi");
  const auto shape = golden.at("shape").get<std::vector<int64_t>>();  // rows, heads, tokens, channels
  const auto numbers = [&](const nlohmann::json& bits) {
    return test::half_numbers(bits, shape).transpose(1, 2);
  };
  for (const auto& [name, rounded] : golden.at("rounded").items()) {
    const int bits = std::stoi(name);
    EXPECT_TRUE(same_bits(kivi_keys(numbers(golden.at("keys")), bits, 32), numbers(rounded.at("keys"))))
        << bits;
    EXPECT_TRUE(same_bits(kivi_values(numbers(golden.at("values")), bits, 32), numbers(rounded.at("values"))))
        << bits;
  }
}

}  // namespace
}  // namespace lathe::kernels
