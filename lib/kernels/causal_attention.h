// Causal attention in FP32 on the CPU, its products by OpenBLAS (lib/tensor/openblas.h): what ATen's kernel
// does, which gets its products from MKL.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace lathe::kernels {

struct AttentionRule {
  double scale = 1.0;             // q k^T is multiplied by it
  std::optional<int64_t> window;  // token i sees tokens i - window + 1 .. i; nothing: all up to i
  std::optional<double> softcap;  // scores become cap * tanh(score / cap) before the softmax
};

/// q [b, heads, s, d], k and v [b, kv_heads, s, d], each channel beside the next -> [b, heads, s, d], a view
/// of [b, s, heads, d]; nothing where the tensors aren't FP32 on a CPU whose products are OpenBLAS's. heads
/// is a multiple of kv_heads, query heads g * repeat .. read KV head g. The same bits for any batch and
/// number of threads. A NaN or an infinity gives NaN wherever it is seen, and to tokens shortly before it,
/// whose weight for it is 0.
std::optional<at::Tensor> causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                           const AttentionRule& rule);

/// Memory for the scores of rows of at most `length` tokens, on all threads together.
uint64_t causal_attention_bytes(int64_t length, int64_t threads);

}  // namespace lathe::kernels
