// What lies between a transformer block's matrix products, each in one pass over memory: RMS norm, rotary
// embedding, the gated activation. (The residual sum needs no kernel of its own: ATen's add_ is one pass.)
// FP32 on the CPU takes the loops of transformer_ops_cpu.cc, whose results depend neither on the number of
// threads nor on what other rows there are; other dtypes and devices take ATen's operators. Arguments that
// break these rules are InternalErrors.
#pragma once

#include <ATen/core/Tensor.h>

namespace lathe::kernels {

/// x / sqrt(mean(x^2) + eps) * weight over the last dimension (arXiv 1910.07467), or * (1 + weight) where
/// `unit_offset` (Gemma). x: [..., width] of any float dtype; weight [width]. Computed in FP32; the result is
/// FP32 and contiguous.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool unit_offset = false);

/// Rotary embedding (arXiv 2104.09864) in place, rotate-half pairing: channel i of the first `rotary` turns
/// with channel i + rotary / 2; the others stay. x [batch, seq, heads, head_dim], a view whose heads lie one
/// after the other; tables FP32 [seq, rotary], contiguous, rotary even and at most head_dim. Computed in
/// FP32.
void rotate_heads_(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines);

/// The activation functions that gates use. gelu is the exact one, with erf.
enum class Activation { silu, gelu, gelu_tanh, quick_gelu, relu, relu2 };

/// activation(gate) * up, [..., width], contiguous. `gate` is used up: where it is contiguous, the result is
/// written over it.
at::Tensor gated_product(Activation activation, at::Tensor gate, const at::Tensor& up);

}  // namespace lathe::kernels
