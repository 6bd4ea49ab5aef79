// KVQuant's cache (lib/numeric/kvquant.h) for all tokens of a layer at once.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/numeric/kv_cache.h"

namespace lathe::kernels {

/// x [b, s, kv_heads, head_dim], keys before rotation or values, of any float dtype and device -> what its
/// numbers come back as, FP16 values in FP32; the cache is of type kvquant. Equal to round_kvquant_key() and
/// round_kvquant_token(), bit for bit. Keys and values are finite.
at::Tensor kvquant_keys(const at::Tensor& x, const KvCacheQuantizer& cache);
at::Tensor kvquant_values(const at::Tensor& x, const KvCacheQuantizer& cache);

/// Numbers [tokens, channels], FP16 values in FP32, scaled to [-1, 1] by their channel's range (lower and
/// upper: Float [channels]) or their token's, as the caches above do before they look for a level.
struct KvQuantScaled {
  at::Tensor scaled;         // Float [tokens, channels]
  at::Tensor middle, width;  // Float, of a channel or a token: scaled * width + middle
  at::Tensor outliers;       // Bool [tokens, channels]: kept beside the levels
};
KvQuantScaled kvquant_by_channel(const at::Tensor& numbers, const at::Tensor& lower, const at::Tensor& upper);
KvQuantScaled kvquant_by_token(const at::Tensor& numbers, double outliers);
/// The place of the level (Float [levels], ascending) that each scaled number is nearest to, Long.
at::Tensor kvquant_nearest(const at::Tensor& scaled, const at::Tensor& levels);

}  // namespace lathe::kernels
