// Causal attention over whole rows, in the variants that the families use.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "lib/kernels/causal_attention.h"

namespace lathe {

using kernels::AttentionRule;

/// q [b, heads, s, d], k and v [b, kv_heads, s, d] -> [b, heads, s, d]; heads is a multiple of kv_heads,
/// query heads g * repeat .. read KV head g. Any float dtype. Memory beyond the result is O(s) copies of q
/// and the result, and attention_scratch_bytes().
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionRule& rule);

/// What masks and scores that are spelt out take for rows of at most `length` tokens, however many there are.
uint64_t attention_scratch_bytes(const AttentionRule& rule, int64_t length);

}  // namespace lathe
