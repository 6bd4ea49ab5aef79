// compressed-tensors, format int-quantized: INT8 weights beside INT8 activations (W8A8), as transformers,
// vLLM and SGLang read it.
//
// For a linear m with W[out, in]:
//   m.weight            I8 [out, in]          codes, not packed
//   m.weight_scale      scale_dtype [out, 1]
//   m.input_scale       scale_dtype [1]       static activations only
//   m.input_zero_point  I8 [1]                static and asymmetric only
// Source: compressed_tensors/compressors/naive_quantized and quantization/lifecycle/initialize.py (0.19).
#pragma once

#include "formats/targets/target.h"

namespace lathe {

/// Name of the on-disk format, as in config.json.
inline constexpr const char* kIntQuantized = "int-quantized";

/// Why the format can't hold a linear whose activations are quantised; nothing if it can. The library would
/// store other weights than symmetric 8-bit rows, too, but no engine multiplies them with INT8 activations.
std::optional<std::string> int_quantized_refuses(const PlannedLinear& linear);
std::vector<PlannedTensor> int_quantized_layout(const PlannedLinear& linear);
/// tensor.input is there.
std::vector<std::pair<std::string, at::Tensor>> int_quantized_pack(const std::string& name,
                                                                   const QuantizedTensor& tensor);
/// config_groups.*.input_activations.
nlohmann::json input_activations_json(const ActivationScheme& scheme);

}  // namespace lathe
