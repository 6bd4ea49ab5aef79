// How much attention's output changes with each number that is cached: the weight of its rounding error where
// a cache's grids are fitted.
//
// KVQuant (arXiv 2401.18079, section 3.2) weights errors by the diagonal of the Fisher information, squared
// gradients of the model's loss, which takes a backward pass through the whole model: see
// calib/driver/cache_gradients.h. This is a surrogate of one layer, from its forward pass alone: the squared
// derivative of what attention puts out (before o_proj), summed over its channels and over all queries that
// see the token,
//   value j, channel c:  sum_t p_tj^2
//   key j, channel c:    sum_t p_tj^2 |v_j - o_t|^2 (d s_tj / d k_jc)^2
// with the softmax's weights p, outputs o and scores s; over the query heads of the KV head. That is the
// diagonal of the Gauss-Newton matrix of the squared error of attention's output. What later layers make of
// that error is left out.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/model/attention.h"
#include "lib/model/forward.h"

namespace lathe {

struct CacheSensitivity {
  at::Tensor keys;    // FP32 [b, s, kv_heads, head_dim], of keys before their rotation
  at::Tensor values;  // FP32 [b, s, kv_heads], of each channel, or [b, s, kv_heads, head_dim]
};

/// cos, sin: FP32 [s, rotary_dim], the tables that turned the keys.
CacheSensitivity cache_sensitivity(const AttentionInputs& inputs, const at::Tensor& cos,
                                   const at::Tensor& sin, const AttentionRule& rule);

/// FLOPs for a token of a row of `length` at the most: scores, outputs, their products with the values, and
/// squares and half as many products of queries, each over all tokens of the row.
double cache_sensitivity_flops(int64_t heads, int64_t head_dim, int64_t length);

}  // namespace lathe
