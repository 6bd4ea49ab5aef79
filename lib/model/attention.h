// Causal attention over whole rows, in the variants that the families use.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace lathe {

struct AttentionRule {
  double scale = 1.0;             // q k^T is multiplied by it
  std::optional<int64_t> window;  // token i sees tokens i - window + 1 .. i; nothing: all up to i
  std::optional<double> softcap;  // scores become cap * tanh(score / cap) before the softmax
};

/// q [b, heads, s, d], k and v [b, kv_heads, s, d] -> [b, heads, s, d]; heads is a multiple of kv_heads,
/// query heads g * repeat .. read KV head g. Any float dtype. Memory beyond the result is O(s) where there is
/// no soft cap, and b * heads * 256 * s scores otherwise.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionRule& rule);

}  // namespace lathe
