// Codes of floating-point grids and their scales as bytes: what compressed-tensors and modelopt have in
// common.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "lib/numeric/activation_scheme.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// E4M3 for a linear's inputs.
ActivationScheme fp8_inputs(bool dynamic, ActivationScheme::Per per, int64_t group_size = 0);

/// FP8 codes (Char [out, in]) in the type that safetensors calls F8_E4M3: the same bytes, shared.
at::Tensor fp8_of_codes(const at::Tensor& codes);
/// And back: Char, a copy, CPU. UserError naming `where` for a code that is NaN.
at::Tensor codes_of_fp8(const at::Tensor& stored, const std::string& where);

/// E2M1 codes (Char [out, in], 0 to 15), two in a byte, the even column's in the low half: Byte [out, in /
/// 2].
at::Tensor pack_fp4(const at::Tensor& codes);
at::Tensor unpack_fp4(const at::Tensor& bytes);
/// E2M3 codes (Char [out, in], 0 to 63), four in three bytes, the first in the lowest six bits: Byte [out, 3
/// in / 4].
at::Tensor pack_fp6(const at::Tensor& codes);
at::Tensor unpack_fp6(const at::Tensor& bytes);

/// Scales that are codes: Float -> F8_E4M3 (NVFP4) or Byte (E8M0), CPU. InternalError naming `linear` where
/// one is none of the type's numbers.
at::Tensor block_scale_codes(const std::string& linear, const QuantizedTensor& tensor);
/// And back, Float. UserError naming `where` for a scale that is NaN, negative or zero.
at::Tensor block_scales_of(const at::Tensor& stored, const std::string& where);

/// Float, as stored. UserError naming `where` for one that is not finite and positive.
at::Tensor positive(at::Tensor scales, const std::string& where);

}  // namespace lathe
