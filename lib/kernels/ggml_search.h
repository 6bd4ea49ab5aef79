// What the searches of ggml's block types have in common; one file for each kind of block.
#pragma once

#include <algorithm>

#include "lib/kernels/ggml_fit.h"
#include "lib/numeric/ggml_block.h"

namespace lathe::kernels::ggml {

/// Searches 16 sub-blocks: of 16 blocks, or of one or two super-blocks.
using Search = void (*)(const SubBlocks& from, GgmlBlock* blocks);

// ggml_flat_cpu.cc: one scale.
void search_q8_0(const SubBlocks&, GgmlBlock*);
void search_q4_0(const SubBlocks&, GgmlBlock*);
void search_q5_0(const SubBlocks&, GgmlBlock*);
void search_iq4_nl(const SubBlocks&, GgmlBlock*);
void search_ternary(const SubBlocks&, GgmlBlock*);
void search_mxfp4(const SubBlocks&, GgmlBlock*);
// ggml_affine_cpu.cc: one scale and one minimum.
void search_q4_1(const SubBlocks&, GgmlBlock*);
void search_q5_1(const SubBlocks&, GgmlBlock*);
// ggml_scaled_cpu.cc: super-blocks of sub-blocks with scales.
void search_q3_k(const SubBlocks&, GgmlBlock*);
void search_q6_k(const SubBlocks&, GgmlBlock*);
void search_iq4_xs(const SubBlocks&, GgmlBlock*);
// ggml_minima_cpu.cc: super-blocks of sub-blocks with scales and minima.
void search_q2_k(const SubBlocks&, GgmlBlock*);
void search_q4_k(const SubBlocks&, GgmlBlock*);
void search_q5_k(const SubBlocks&, GgmlBlock*);

inline constexpr int kLargestHalf = 0x7bff;  // 65504

/// Never an infinity, never -0.
inline uint16_t stored_half(float value) {
  constexpr float kLargest = 65504;
  const uint16_t bits = to_half(std::clamp(value, -kLargest, kLargest));
  return bits == 0x8000 ? 0 : bits;
}

/// Codes of the nearest levels; sub-block b's go to block b / groups.
template <int n, class Grid>
LATHE_INLINE void assign(const Batch<n>& v, const Grid& grid, const Lanes& scale, const Lanes& minimum,
                         int groups, GgmlBlock* blocks) {
  const Lanes inverse = inverse_of(scale);
  for (int i = 0; i < n; ++i) {
    float places[kLanes];
    store(grid.place((v.x[i] + minimum) * inverse), places);
    for (int b = 0; b < kLanes; ++b)
      blocks[b / groups].codes[static_cast<size_t>(b % groups * n + i)] =
          grid.code(static_cast<int>(places[b]));
  }
}

}  // namespace lathe::kernels::ggml
