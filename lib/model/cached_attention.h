// Attention to a KV cache of fewer than 8 bits (KvCacheScheme::low_bit()), whose older tokens are rounded and
// whose latest and first ones are not.
//
// Exact for each query: the one at position t sees what an engine that decodes token by token has in its
// cache at that step, keys and values that have left the window by then as their codes come back, all others
// in FP16 (rounded_keys(), rounded_values()). That is affordable because a token is rounded once and for all
// (with its group or by itself, from the unrounded numbers, as the methods do): a row of tokens has one
// rounded and one FP16 form of each key and value, and a query chooses among them by position. Queries go in
// chunks; only the tokens between the window's end of a chunk's first query and that of its last one are
// looked at in both forms. Scores, softmax and sums are FP32. What it isn't: an engine's prefill attends to
// the prompt before rounding it; here every position is decoded.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/model/attention.h"
#include "lib/model/config.h"
#include "lib/numeric/kv_cache.h"

namespace lathe {

/// Of the model's layers, which are alike.
inline KvCacheShape kv_cache_shape(const ModelConfig& config) {
  return {config.num_kv_heads, config.head_dim};
}

/// Both forms of the keys or values of all tokens, FP32 [b, kv_heads, s, head_dim]. Rows that no query sees
/// rounded may hold anything finite.
struct CachedSide {
  at::Tensor kept, rounded;
};

/// q FP32 [b, heads, s, head_dim] -> FP32 of the same shape. As attend() otherwise.
at::Tensor attend_cached(const at::Tensor& q, const CachedSide& keys, const CachedSide& values,
                         const KvCacheScheme& scheme, const AttentionRule& rule);

/// What it takes at a time beside q and the result, for rows of `length` tokens, `tokens` of them together,
/// with both forms of keys and values and what they are made from.
uint64_t cached_attention_bytes(const KvCacheShape& shape, int64_t heads, int64_t tokens, int64_t length);

}  // namespace lathe
