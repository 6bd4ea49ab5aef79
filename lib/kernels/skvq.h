// SKVQ's cache (lib/numeric/skvq.h) for all tokens of a layer at once.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/numeric/kv_cache.h"

namespace lathe::kernels {

/// x [b, s, kv_heads, head_dim], keys before rotation or values, of any float dtype and device -> what its
/// numbers come back as, FP16 values in FP32: a token's channels of all heads in the cache's order, in its
/// groups, each by round_skvq_group(), bit for bit, and back in their places. Finite. The cache is of type
/// skvq.
at::Tensor skvq_keys(const at::Tensor& x, const KvCacheQuantizer& cache);
at::Tensor skvq_values(const at::Tensor& x, const KvCacheQuantizer& cache);

/// One group: numbers [tokens, channels of it] in FP16 -> [tokens, channels] in FP16.
at::Tensor skvq_group(const at::Tensor& numbers, float clip, int levels, bool fp8_scales);

}  // namespace lathe::kernels
