// Activations as a quantised linear sees them: rounded to their grid, as floating-point values. What stands
// for an integer or FP8/FP4 GEMM where a model is simulated.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/numeric/activation_scheme.h"

namespace lathe::kernels {

/// x [..., width] rounded and decoded again, of x's dtype, on its device. Computed in FP32 as
/// compressed-tensors does in it, bit for bit: dynamic scales are those of each row's own values, 2 max|x| /
/// (qmax - qmin) where symmetric, else (max - min) / (qmax - qmin) with 0 among the values. (vLLM's kernels
/// take max|x| / 127 for the former: their step is 0.4 % wider.) Floating-point grids: largest magnitude
/// / largest number of each token or group, x / scale clamped and rounded; NVFP4's group scales are E4M3
/// codes under the quantiser's scale. Where the quantiser has Hadamard blocks, x is rotated before it is
/// rounded, and what comes of that rotated back: it meets weights that are rotated back, too
/// (dequantized_weight()). A row (or group) that holds a NaN or an infinity becomes NaN under a dynamic
/// scheme; under a static one a NaN stays NaN and an infinity is clipped. InternalError for a scheme that has
/// a problem().
at::Tensor fake_quantize_input(const at::Tensor& x, const InputQuantizer& quantizer);

}  // namespace lathe::kernels
