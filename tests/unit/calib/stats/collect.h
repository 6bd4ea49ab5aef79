// What the tests of statistics share.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "calib/stats/stats_collector.h"

namespace lathe {

/// All that one stream gives.
constexpr StatSet kEverything{.gram = true,
                              .mean_abs = true,
                              .mean_square = true,
                              .min_max = true,
                              .ema_min_max = true,
                              .step_min_max = true,
                              .token_min_max = true,
                              .outliers = true,
                              .kurtosis = true,
                              .distribution = true,
                              .channel_distribution = true,
                              .sample = true};

inline StatsCollector collector(int64_t width, StatSet wanted = kEverything) {
  return StatsCollector(wanted, width, c10::kCPU, "model.layers.3, input attention_in");
}

inline InputStats collect(const at::Tensor& x, int64_t batch, StatSet wanted = kEverything) {
  StatsCollector stats = collector(x.size(-1), wanted);
  for (int64_t token = 0; token < x.size(0); token += batch) stats.observe(x.slice(0, token, token + batch));
  return stats.finish();
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  if (a.scalar_type() != at::kFloat) return at::equal(a, b);
  return at::equal(a.contiguous().view(at::kInt), b.contiguous().view(at::kInt));
}

/// Counts, extrema and everything else that has no rounding.
inline void expect_same_exact_parts(const InputStats& a, const InputStats& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.held(), b.held());
  for (const auto range : {&InputStats::min_max, &InputStats::token_min_max}) {
    EXPECT_TRUE(same_bits((a.*range).low, (b.*range).low));
    EXPECT_TRUE(same_bits((a.*range).high, (b.*range).high));
  }
  EXPECT_TRUE(same_bits(a.outliers, b.outliers));
  EXPECT_TRUE(same_bits(a.channel_distribution.counts, b.channel_distribution.counts));
  EXPECT_TRUE(same_bits(a.channel_distribution.largest, b.channel_distribution.largest));
  ASSERT_EQ(a.distribution == nullptr, b.distribution == nullptr);
  if (a.distribution == nullptr) return;
  EXPECT_TRUE(same_bits(a.distribution->counts, b.distribution->counts));
  EXPECT_TRUE(same_bits(a.distribution->values, b.distribution->values));
  EXPECT_EQ(a.distribution->low, b.distribution->low);
  EXPECT_EQ(a.distribution->high, b.distribution->high);
}

inline void expect_same_bits(const InputStats& a, const InputStats& b) {
  expect_same_exact_parts(a, b);
  for (const auto member :
       {&InputStats::gram, &InputStats::cross_gram, &InputStats::mean_abs, &InputStats::mean_square,
        &InputStats::kurtosis, &InputStats::kurtosis_all, &InputStats::sample}) {
    EXPECT_TRUE(same_bits(a.*member, b.*member));
  }
  for (const auto range : {&InputStats::ema_min_max, &InputStats::step_min_max}) {
    EXPECT_TRUE(same_bits((a.*range).low, (b.*range).low));
    EXPECT_TRUE(same_bits((a.*range).high, (b.*range).high));
  }
}

/// The largest |a_ij - b_ij| / sqrt(b_ii b_jj): the error in units that every entry of a Gram matrix has in
/// common.
inline double gram_error(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor exact = b.to(at::kDouble), size = exact.diagonal().sqrt().clamp_min(1e-30);
  return ((a.to(at::kDouble) - exact).abs() / (size.unsqueeze(1) * size.unsqueeze(0))).max().item<double>();
}

inline at::Tensor exact_gram(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kDouble);
  return wide.t().mm(wide) / static_cast<double>(x.size(0));
}

/// max |a / b - 1|.
inline double relative_error(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) / b.to(at::kDouble) - 1).abs().max().item<double>();
}

}  // namespace lathe
