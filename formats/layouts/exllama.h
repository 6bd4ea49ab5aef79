// ExLlama's layout: GPTQ's words with their fields shuffled, as ExLlamaV2 makes them at load (4 bits) and
// vLLM's gptq_shuffle does (2, 3, 4 and 8). For a linear m with W[out, in]:
//   m.qweight  I32 [in * bits / 32, out]      fields of a word: the even ones of its codes, then the odd
//   ones;
//                                             8 bits: as they come; 3 bits: 32 codes in three words (see
//                                             device/code_layout.cuh)
//   m.qzeros   I32 [groups, out * bits / 32]  a dense stream of bits; without zero points they are stored
//   less
//                                             1, as the kernel adds 1 (GPTQ v1); with zero points as they are
//                                             (v2), since a 0 has no predecessor
//   m.scales   F16 [groups, out]
//   m.g_idx_sort_indices  I32 [in]            with an order of columns
// Sources: exllamav2, cuda/quant/qdq_{2,3,4,8}.cuh, q_matrix.cu; vllm 0.32,
// kernels/linear/mixed_precision/exllama.py (its rules), csrc/quantization/gptq/q_gemm.cu.
#pragma once

#include "formats/layouts/layout.h"

namespace lathe::layouts {

KernelLayout exllama_layout();

}  // namespace lathe::layouts
