// TensorRT-LLM's layout for its mixed-input GEMM (fpA_intB, CUTLASS) with 16-bit activations:
// preprocess_weights_for_mixed_gemm. It differs by GPU generation; for a linear m with W[out, in]:
//   m.weight                  I8 [in, out * bits / 8]  the bytes, in the shape that the plugin expects:
//     sm80 (Turing to Ada; consumer Blackwell, 12.x): rows of 128 / bits input features permuted, 16 / bits
//          output features interleaved in runs of 64 input features, unsigned, shuffled within 32 bits
//     sm90 (Hopper): as sm80, not interleaved
//     sm100 (data-centre Blackwell): out after out, two's complement, nothing else
//   m.weights_scaling_factor  T [groups, out]          m.per_channel_scale T [out] where a row has one group
//   m.zero                    T [groups, out]          with zero points: -scale * (zero - 2^(bits-1)),
//   rounded
//                                                      to T
// Sources: TensorRT-LLM (2026), preprocess_weights_for_mixed_gemm; cutlass_preprocessors.cpp (its rule of
// 64); layers of weight-only groupwise quantisation for names and zero points.
#pragma once

#include "formats/layouts/layout.h"

namespace lathe::layouts {

/// generation: 80, 90 or 100; the first is named "trtllm", the others "trtllm-sm90" and "trtllm-sm100".
KernelLayout trtllm_layout(int generation);

}  // namespace lathe::layouts
