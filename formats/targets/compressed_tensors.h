// compressed-tensors: what vLLM, SGLang and transformers read. Linears on floating-point grids are stored as
// float_quantized.h says, integers with INT8 activations as int_quantized.h does, other integers in the
// format pack-quantized, beside which FP8 activations of each token may stand (W4AFP8):
//
// For a linear m with W[out, in], b bits and G groups in a row:
//   m.weight_packed      I32 [out, ceil(in * b / 32)]   row-wise bit stream (bitpack.h) of code + 2^(b-1)
//   m.weight_scale       scale_dtype [out, G]
//   m.weight_shape       I64 [2]                         out, in
//   m.weight_zero_point  I32 [ceil(out * b / 32), G]     asymmetric only: bit stream along *out* of zero +
//   2^(b-1)
// Source: compressed_tensors/compressors/pack_quantized (0.19 and 0.20 are identical here).
#pragma once

#include "formats/targets/target.h"

namespace lathe {

/// The row of the registry named "compressed-tensors".
Target compressed_tensors_target();

/// Name of the on-disk format, as in config.json.
inline constexpr const char* kPackQuantized = "pack-quantized";
/// The whole file's where its groups differ.
inline constexpr const char* kMixedPrecision = "mixed-precision";

}  // namespace lathe
