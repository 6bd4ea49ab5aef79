// Which of ATen's attention kernels the CPU forward gets: the one in tiles, not the one that writes out every
// score ([heads, s, s], hundreds of megabytes for 2,048 tokens).
#include <ATen/ATen.h>
#include <ATen/SDPBackend.h>
#include <gtest/gtest.h>

namespace lathe {
namespace {

constexpr auto kFlash = static_cast<int64_t>(at::SDPBackend::flash_attention);

at::Tensor heads(int64_t count, int64_t seq, int64_t head_dim) {
  return at::randn({2, seq, count, head_dim}).transpose(1, 2);  // as they lie after the projections
}

TEST(AttentionKernel, IsFlashWithSharedKvHeadsReadInPlace) {
  for (const auto& [q_heads, kv_heads] : {std::pair{9, 3}, {4, 4}, {8, 1}}) {
    const at::Tensor q = heads(q_heads, 40, 64), k = heads(kv_heads, 40, 64), v = heads(kv_heads, 40, 64);
    EXPECT_EQ(at::_fused_sdp_choice(q, k, v, std::nullopt, 0.0, /*is_causal=*/true, std::nullopt,
                                    /*enable_gqa=*/q_heads != kv_heads),
              kFlash)
        << q_heads << " on " << kv_heads;
  }
}

TEST(AttentionKernel, IsFlashWithTheMaskOfASlidingWindow) {
  const at::Tensor q = heads(9, 40, 64), k = heads(3, 47, 64), v = heads(3, 47, 64);
  const at::Tensor mask = at::ones({50, 57}, at::kBool).triu().tril(7).slice(0, 0, 40).slice(1, 0, 47);
  EXPECT_EQ(at::_fused_sdp_choice(q, k, v, mask, 0.0, /*is_causal=*/false, std::nullopt, /*enable_gqa=*/true),
            kFlash);
}

}  // namespace
}  // namespace lathe
