// Machete's layout (vLLM's mixed-input GEMM for Hopper), for 16-bit activations. For a linear m with
// W[out, in]:
//   m.weight_packed      I32 [out, in * bits / 32]  blocks of 128 output by 64 input features, the blocks of
//                                                  one `in` side by side; within a block as two warp groups'
//                                                  wgmma reads it (device/code_layout.cuh). The op takes the
//                                                  transpose of this: [in * bits / 32, out], column-major.
//   m.weight_scale       T [groups, out]
//   m.weight_zero_point  T [groups, out]           with zero points: -scale * zero, rounded to T
//   m.g_idx_sort_indices I32 [in]                  with an order of columns
// Sources: vllm 0.11 csrc/quantization/machete/machete_prepacked_layout.cuh (PrepackedLayoutBTemplate with
// KernelTmaWarpSpecializedCooperative), machete_prepack_kernel.cuh; vllm 0.32 machete.py, machete_utils.py.
#pragma once

#include "formats/layouts/layout.h"

namespace lathe::layouts {

KernelLayout machete_layout();

}  // namespace lathe::layouts
