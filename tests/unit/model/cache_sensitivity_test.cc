// The weights of cached numbers against derivatives by differences.
#include "lib/model/cache_sensitivity.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

namespace lathe {
namespace {

constexpr int64_t kTokens = 7, kHeadDim = 6, kTurned = 4;

at::Tensor turn(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {  // [s, heads, d]
  const int64_t half = kTurned / 2;
  const at::Tensor a = x.slice(2, 0, half), b = x.slice(2, half, kTurned);
  const at::Tensor c = cos.slice(1, 0, half).unsqueeze(1), s = sin.slice(1, 0, half).unsqueeze(1);
  return at::cat({a * c - b * s, b * c + a * s, x.slice(2, kTurned)}, 2);
}

/// One row's attention in FP64: q, k (before rotation) and v [s, heads, d] -> [s, heads, d].
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& cos,
                     const at::Tensor& sin, const AttentionRule& rule) {
  const int64_t repeat = q.size(1) / k.size(1);
  const at::Tensor keys = turn(k, cos, sin).repeat_interleave(repeat, 1).transpose(0, 1);
  const at::Tensor values = v.repeat_interleave(repeat, 1).transpose(0, 1);
  at::Tensor scores = at::matmul(q.transpose(0, 1), keys.transpose(1, 2)) * rule.scale;
  if (rule.softcap) scores = (scores / *rule.softcap).tanh() * *rule.softcap;
  const at::Tensor place = at::arange(q.size(0));
  const at::Tensor back = place.unsqueeze(1) - place;
  at::Tensor hidden = back < 0;
  if (rule.window) hidden = hidden.logical_or(back >= *rule.window);
  scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  return at::matmul(at::softmax(scores, -1), values).transpose(0, 1);
}

void expect_derivatives(const AttentionRule& rule) {
  at::manual_seed(8);
  const auto make = [](int64_t heads) { return at::randn({kTokens, heads, kHeadDim}, at::kDouble); };
  const at::Tensor q = make(4).mul(1.5), k = make(2), v = make(2);
  const at::Tensor angles = at::rand({kTokens, kTurned / 2}, at::kDouble).mul(6);
  const at::Tensor cos = angles.cos().mul(1.2).repeat({1, 2}), sin = angles.sin().mul(1.2).repeat({1, 2});
  const auto batched = [](const at::Tensor& x) { return x.transpose(0, 1).unsqueeze(0).to(at::kFloat); };
  const CacheSensitivity found =
      cache_sensitivity({batched(q), batched(turn(k, cos, sin)), batched(v), k.unsqueeze(0).to(at::kFloat)},
                        cos.to(at::kFloat), sin.to(at::kFloat), rule);
  constexpr double kStep = 1e-5;
  const auto squared_slope = [&](const at::Tensor& numbers, int64_t t, int64_t h, int64_t c) {
    const double before = numbers[t][h][c].item<double>();
    numbers[t][h][c] = before + kStep;
    const at::Tensor above = attention(q, k, v, cos, sin, rule);
    numbers[t][h][c] = before - kStep;
    const at::Tensor below = attention(q, k, v, cos, sin, rule);
    numbers[t][h][c] = before;
    return ((above - below) / (2 * kStep)).square().sum().item<double>();
  };
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t h = 0; h < 2; ++h) {
      for (int64_t c = 0; c < kHeadDim; ++c) {
        const double key = squared_slope(k, t, h, c), value = squared_slope(v, t, h, c);
        EXPECT_NEAR(found.keys[0][t][h][c].item<double>(), key, 1e-4 * key + 1e-6)
            << t << " " << h << " " << c;
        EXPECT_NEAR(found.values[0][t][h].item<double>(), value, 1e-4 * value + 1e-6) << t << " " << h;
      }
    }
  }
}

TEST(CacheSensitivity, IsTheSquaredDerivativeOfAttention) {
  expect_derivatives({0.4, std::nullopt, std::nullopt});
}

TEST(CacheSensitivity, ThroughWindowsAndCaps) {
  expect_derivatives({0.4, 3, std::nullopt});
  expect_derivatives({0.6, std::nullopt, 1.2});
}

}  // namespace
}  // namespace lathe
