// compressed-tensors, format int-quantized: integer weights beside INT8 activations, as transformers, vLLM
// and (W8A8) SGLang read it. INT8 weights (W8A8), and INT4 ones (W4A8), which the library stores a code a
// byte, too: so its presets are, and so vLLM's CompressedTensorsW4A8Int loads them.
//
// For a linear m with W[out, in] and G groups in a row:
//   m.weight            I8 [out, in]          codes, not packed
//   m.weight_scale      scale_dtype [out, G]
//   m.input_scale       scale_dtype [1]       static activations only
//   m.input_zero_point  I8 [1]                static and asymmetric only
// INT4 weights beside FP8 activations (W4AFP8) are packed as those without: vLLM's CompressedTensorsW4A8Fp8
// loads pack-quantized alone, and transformers either.
// Source: compressed_tensors/compressors/naive_quantized and quantization/lifecycle/initialize.py (0.19);
// vllm 0.32: compressed_tensors/schemes/compressed_tensors_w4a8_int.py and _w4a8_fp8.py.
#pragma once

#include "formats/targets/target.h"

namespace lathe {

/// Name of the on-disk format, as in config.json.
inline constexpr const char* kIntQuantized = "int-quantized";

/// Are its integers stored so? Else they are packed (compressed_tensors.h).
bool is_int_quantized(const Scheme& scheme, const std::optional<ActivationScheme>& activations);
/// Why integers beside quantised activations can't be stored, in either format; nothing if they can. The
/// library would store others, too, but no engine multiplies them: vLLM has INT8 rows with INT8 activations,
/// INT4 rows or groups with INT8 or FP8 activations of each token (compressed_tensors.py,
/// _is_static_tensor_w8a8, _is_dynamic_token_w8a8, _is_dynamic_token_w4a8_int, _is_fp8_w4a8), all symmetric.
std::optional<std::string> int_quantized_refuses(const PlannedLinear& linear);
std::vector<PlannedTensor> int_quantized_layout(const PlannedLinear& linear);
/// tensor.input is there.
std::vector<std::pair<std::string, at::Tensor>> int_quantized_pack(const std::string& name,
                                                                   const QuantizedTensor& tensor);
/// config_groups.*.input_activations.
nlohmann::json input_activations_json(const ActivationScheme& scheme);

}  // namespace lathe
