// Marlin's layout (IST-DASLab's mixed-precision kernel, as vLLM carries it: gptq_marlin_gemm), for 16-bit
// activations. For a linear m with W[out, in], groups along `in`:
//   m.qweight  I32 [in / 16, out * bits / 2]  16 x 64 tiles, a tile's words by thread
//   (device/code_layout.cuh) m.scales   T [groups, out]                each run of 64 as an 8 x 8 matrix
//   transposed; where a row has
//                                             one group, each run of 32 by 2 i + {0, 1, 8, 9, 16, 17, 24, 25}
//   m.qzeros   I32 [groups, out * bits / 32]  with zero points: transposed as the scales of several groups,
//                                             then shuffled as the codes of a word
//   m.g_idx, m.g_idx_sort_indices  I32 [in]   with an order of columns: the sorted groups, and which column
//                                             stands at each place
// Codes and zero points count from the grid's lowest code. A shape that is neither (64, 128) nor (128, 64) in
// its multiples of (out, in) is padded with zeros, codes and scales, to the smaller of the two.
// Sources: vllm 0.32, utils/marlin_utils.py (marlin_padded_nk, marlin_permute_scales, marlin_zero_points),
// utils/marlin_utils_test.py (marlin_weights, get_weight_perm); IST-DASLab/marlin, Layer.pack.
#pragma once

#include "formats/layouts/layout.h"

namespace lathe::layouts {

KernelLayout marlin_layout();

struct MarlinShape {
  int64_t out = 0, in = 0;
};
/// With what vLLM's loader pads.
MarlinShape marlin_padded(int64_t out, int64_t in, int64_t group_size);

}  // namespace lathe::layouts
