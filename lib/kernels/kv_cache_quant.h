// Keys and values as an engine with a quantised cache reads them back: what stands for its cache where a
// model is simulated.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/numeric/kv_cache.h"

namespace lathe::kernels {

/// x rounded to the scheme's grid times `scale` (finite, > 0) and back, of x's shape and dtype, on its
/// device: x / scale in FP32, clamped to the grid's range (E4M3: +-448, so nothing becomes NaN; integers:
/// -128 to 127), rounded to nearest even, times the scale. As compressed-tensors (fake_quantize) and vLLM
/// (scaled_fp8_conversion) do. A NaN stays one.
at::Tensor fake_quantize_cache(const at::Tensor& x, const KvCacheScheme& scheme, float scale);

}  // namespace lathe::kernels
