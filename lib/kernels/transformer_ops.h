// What lies between a transformer block's matrix products, each in one pass over memory: RMS norm, rotary
// embedding, the gated activation. (The residual sum needs no kernel of its own: ATen's add_ is one pass.)
// Values are Float, Half or BFloat16, on the CPU or on CUDA; computed in FP32 and rounded once. The CPU's
// loops are in transformer_ops_cpu.cc (halves are converted first), CUDA's in cuda/transformer_cuda.cu, with
// the same bits. Results depend neither on the number of threads nor on what other rows there are. Arguments
// that break these rules are InternalErrors.
#pragma once

#include <ATen/core/Tensor.h>

namespace lathe::kernels {

/// x / sqrt(mean(x^2) + eps) * weight over the last dimension (arXiv 1910.07467), or * (1 + weight) where
/// `unit_offset` (Gemma). x: [..., width]; weight [width], any float dtype. The result is contiguous, of
/// dtype `result`.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool unit_offset = false,
                    at::ScalarType result = at::kFloat);

/// Rotary embedding (arXiv 2104.09864) in place, rotate-half pairing: channel i of the first `rotary` turns
/// with channel i + rotary / 2; the others stay. x [batch, seq, heads, head_dim], a view whose heads lie one
/// after the other; tables FP32 [seq, rotary], contiguous, rotary even and at most head_dim. Computed in
/// FP32.
void rotate_heads_(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines);

/// The activation functions that gates use. gelu is the exact one, with erf.
enum class Activation { silu, gelu, gelu_tanh, quick_gelu, relu, relu2 };

/// activation(gate) * up, [..., width], contiguous, of their dtype. `gate` is used up: the result may be
/// written over it.
at::Tensor gated_product(Activation activation, at::Tensor gate, const at::Tensor& up);

}  // namespace lathe::kernels
