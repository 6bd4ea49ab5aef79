#include "lib/kernels/causal_attention.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/tensor/openblas.h"

namespace lathe::kernels {
namespace {

class CausalAttention : public testing::Test {
 protected:
  void SetUp() override {
    if (OpenBlas::instance() == nullptr) GTEST_SKIP() << "this machine's products are libtorch's";
    at::manual_seed(1);
  }
};

at::Tensor heads(int64_t batch, int64_t count, int64_t seq, int64_t width) {
  return at::randn({batch, seq, count, width}).transpose(1, 2);  // as they lie after the projections
}

/// The definition, in FP64.
at::Tensor expected(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const AttentionRule& rule) {
  const int64_t seq = q.size(2), repeat = q.size(1) / k.size(1);
  const at::Tensor keys = k.to(at::kDouble).repeat_interleave(repeat, 1),
                   values = v.to(at::kDouble).repeat_interleave(repeat, 1);
  at::Tensor scores = at::matmul(q.to(at::kDouble), keys.transpose(2, 3)) * rule.scale;
  if (rule.softcap) scores = (scores / *rule.softcap).tanh() * *rule.softcap;
  const at::Tensor back = at::arange(seq).unsqueeze(1) - at::arange(seq);
  at::Tensor hidden = back < 0;
  if (rule.window) hidden = hidden.logical_or(back >= *rule.window);
  scores.masked_fill_(hidden, -std::numeric_limits<double>::infinity());
  return at::matmul(at::softmax(scores, -1), values);
}

double largest_error(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b).abs().max().item<double>();
}

TEST_F(CausalAttention, IsTheDefinitionForEveryRuleAndLength) {
  for (const int64_t seq : {1, 2, 63, 128, 129, 300}) {
    for (const AttentionRule& rule :
         {AttentionRule{0.125, {}, {}}, AttentionRule{0.125, 7, {}}, AttentionRule{0.125, 200, {}},
          AttentionRule{0.3, {}, 5.0}, AttentionRule{0.3, 50, 5.0}}) {
      for (const auto& [q_heads, kv_heads, width] : {std::tuple{6, 2, 64}, {3, 3, 20}, {4, 1, 1}}) {
        const at::Tensor q = heads(2, q_heads, seq, width), k = heads(2, kv_heads, seq, width),
                         v = heads(2, kv_heads, seq, width);
        const auto found = causal_attention(q, k, v, rule);
        ASSERT_TRUE(found.has_value());
        EXPECT_LT(largest_error(*found, expected(q, k, v, rule)), 3e-6)
            << seq << " tokens, window " << rule.window.value_or(0) << ", cap " << rule.softcap.value_or(0);
      }
    }
  }
}

TEST_F(CausalAttention, TakesScoresOfAnySizeAndKeepsNan) {
  at::Tensor q = heads(1, 2, 140, 16) * 100, k = heads(1, 2, 140, 16) * 100;
  const at::Tensor v = heads(1, 2, 140, 16);
  const at::Tensor found = *causal_attention(q, k, v, {});
  EXPECT_LT(largest_error(found, expected(q, k, v, {})), 0.05);  // FP32 scores of 1e5 are 0.01 apart
  k[0][1][130][3] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor broken = *causal_attention(q, k, v, {});
  EXPECT_TRUE(broken[0][1].slice(0, 130).isnan().all().item<bool>());
  EXPECT_TRUE(broken[0][0].equal(found[0][0]));
  EXPECT_TRUE(broken[0][1].slice(0, 0, 128).equal(found[0][1].slice(0, 0, 128)));
}

TEST_F(CausalAttention, BatchAndThreadsChangeNoBit) {
  const at::Tensor q = heads(3, 6, 200, 64), k = heads(3, 2, 200, 64), v = heads(3, 2, 200, 64);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor all = *causal_attention(q, k, v, {0.125, {}, {}});
  at::set_num_threads(3);
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(
        causal_attention(q.slice(0, i, i + 1), k.slice(0, i, i + 1), v.slice(0, i, i + 1), {0.125, {}, {}})
            ->equal(all.slice(0, i, i + 1)));
  }
  at::set_num_threads(before);
}

TEST_F(CausalAttention, LeavesOtherTypesToATen) {
  const at::Tensor q = heads(1, 2, 8, 16);
  EXPECT_FALSE(causal_attention(q.to(at::kHalf), q.to(at::kHalf), q.to(at::kHalf), {}).has_value());
  EXPECT_FALSE(causal_attention(q, q, at::randn({1, 2, 16, 8}).transpose(2, 3), {}).has_value());
}

}  // namespace
}  // namespace lathe::kernels
