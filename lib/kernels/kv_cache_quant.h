// Keys and values as an engine with a quantised cache reads them back: what stands for its cache where a
// model is simulated.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/numeric/kv_cache.h"

namespace lathe::kernels {

/// x [b, kv_heads, s, head_dim] rounded to the scheme's grid times its scales (one, or one for each head:
/// finite, > 0) and back, of x's shape and dtype, on its device: x / scale in FP32, clamped to the grid's
/// range (E4M3: +-448, so nothing becomes NaN; integers: -128 to 127), rounded to nearest even, times the
/// scale. As compressed-tensors (fake_quantize) and vLLM (scaled_fp8_conversion) do. A NaN stays one.
at::Tensor fake_quantize_cache(const at::Tensor& x, const KvCacheScheme& scheme,
                               const std::vector<float>& scales);

/// Of low_bit() schemes: x [b, s, kv_heads, head_dim] of any float dtype as its numbers come back, FP32, on
/// its device, all tokens as if they had left the window. Keys are those after their rotation where
/// rounds_rotated_keys() says so, else before it.
bool rounds_rotated_keys(const KvCacheScheme& scheme);
at::Tensor round_cached_keys(const at::Tensor& x, const KvCacheQuantizer& cache);
at::Tensor round_cached_values(const at::Tensor& x, const KvCacheQuantizer& cache);

}  // namespace lathe::kernels
