// SpQR as spqr_quant (0.2.0) and transformers (quant_method "spqr") read it: tiles of 16 x 16 codes of 3
// bits, with scales and zeros of 3 bits, and outliers as compressed rows. For a linear m with W[out, in]:
//   m.dense_weights  I64 [out/16 * in/16 * 16]  tile by tile (rows of tiles first), 16 words each
//   m.row_offsets    I32 [out + 1]
//   m.col_vals       I32 [outliers]             column in the low 16 bits, FP16 value in the high ones
//   m.in_perm        I32 [in / 2]               pairs of 16-bit numbers, the first in the low bits
// Word k of a tile is its row k. Its bits, least significant first:
//   0..2 code of the scale s, 3..5 code of the zero z, 6 + 3l .. 8 + 3l code of the tile's column l,
//   54..61 byte k / 2 of the tile's second level, 62..63 nothing.
// The second level is four FP16 numbers, little-endian: scale of s, scale of z, zero of s, zero of z. Then
// value = s * (code - z), each of s, z being scale * (code - zero), all in FP16, plus the outlier. Columns
// are those of the permuted input: column j is x[in_perm[j]]. Source: spqr_quant's inference.py,
// inference_kernels/{common.cuh,spqr_cuda.cpp}.
//
// An outlier's value is what its code lacks, because the consumer adds it to the code's value. (The paper's
// own code stores the weight itself: its code is then the one nearest to 0, which a zero that is no integer
// puts up to half a step off.)
#pragma once

#include "formats/targets/target.h"

namespace lathe {

/// The row of the registry named "spqr".
Target spqr_target();

/// What the layout can hold, and nothing else.
inline constexpr int kSpqrBits = 3;
inline constexpr int64_t kSpqrTile = 16;
inline constexpr int64_t kSpqrMaxColumns = 32768;  // columns of outliers are signed 16-bit numbers

}  // namespace lathe
