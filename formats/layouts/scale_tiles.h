// Block scales of NVFP4 (E4M3, one for 16 numbers) and MX formats (E8M0, one for 32) in the 128 x 4 tiles
// that Blackwell's tensor cores read: kernels::swizzle_scales() and back. Sources: PTX ISA (tcgen05, scale
// factors), cuBLASLt's VEC16_UE4M3 and VEC32_UE8M0 modes, CUTLASS's SfAtom; vllm 0.32, nvfp4_utils.py
// (swizzle_blockscale).
#pragma once

#include "formats/layouts/layout.h"

namespace lathe::layouts {

/// Its word is known so that it can be refused with the reason: a recipe's schemes are integers, and those
/// have no block scales.
KernelLayout scale_tiles_layout();

}  // namespace lathe::layouts
