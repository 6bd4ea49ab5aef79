// Block scales of NVFP4 (E4M3, one for 16 numbers) and MX formats (E8M0, one for 32) in the 128 x 4 tiles
// that Blackwell's tensor cores read: kernels::swizzle_scales() and back. Sources: PTX ISA (tcgen05, scale
// factors), cuBLASLt's VEC16_UE4M3 and VEC32_UE8M0 modes, CUTLASS's SfAtom; vllm 0.32, nvfp4_utils.py
// (swizzle_blockscale).
#pragma once

#include "formats/layouts/layout.h"

namespace lathe::layouts {

/// For a linear m with W[out, in], blocks of b:
///   m.weight          U8 [out, in / 2] (two E2M1 numbers, the even column's in the low half), or F8_E4M3
///   [out, in] m.weight_scale    F8_E4M3 (NVFP4) or U8 (E8M0) [128 ceil(out / 128), 4 ceil(in / b / 4)], in
///   tiles, 0 beyond the matrix m.weight_scale_2  F32 [], NVFP4: what all scales are multiplied by;
///   m.input_scale likewise, of its activations
KernelLayout scale_tiles_layout();

}  // namespace lathe::layouts
