// compressed-tensors, floating-point formats, as transformers, vLLM and SGLang read them. For a linear m with
// W[out, in]:
//
// float-quantized (FP8), mxfp8-quantized:
//   m.weight               F8_E4M3 [out, in]
//   m.weight_scale         scale_dtype [1], [out, 1], or [ceil(out/128), ceil(in/128)] with blocks; what is
//   multiplied by
//                          mxfp8: U8 (E8M0) [out, in / 32]
//   m.input_scale          scale_dtype [1]            static activations only
// nvfp4-pack-quantized, mxfp4-pack-quantized, mxfp6-pack-quantized (E2M3):
//   m.weight_packed        U8 [out, in / 2]; mxfp6: [out, 3 in / 4]    float_codes.h
//   m.weight_scale         F8_E4M3 [out, in / 16]; mxfp4, mxfp6: U8 (E8M0) [out, in / 32]
//   m.weight_global_scale  F32 [1]                    nvfp4: what E4M3's scales are *divided* by
//   m.input_global_scale   F32 [1]                    nvfp4 activations: likewise
// Source: compressed_tensors/compressors/{naive_quantized,nvfp4,mxfp4,mxfp6,mxfp8} and quantization/lifecycle
// (0.19, 0.20).
#pragma once

#include "formats/targets/target.h"

namespace lathe {

inline constexpr const char* kFloatQuantized = "float-quantized";
inline constexpr const char* kNvfp4Packed = "nvfp4-pack-quantized";
inline constexpr const char* kMxfp4Packed = "mxfp4-pack-quantized";
inline constexpr const char* kMxfp6Packed = "mxfp6-pack-quantized";
inline constexpr const char* kMxfp8Quantized = "mxfp8-quantized";

/// Of a scheme on a floating-point grid that the library has; "" for another.
const char* float_format_of(const Scheme& scheme);

/// Why no engine reads the linear so; nothing if one does. linear.scheme is a floating-point grid.
std::optional<std::string> float_quantized_refuses(const PlannedLinear& linear);
std::vector<PlannedTensor> float_quantized_layout(const PlannedLinear& linear);
std::vector<std::pair<std::string, at::Tensor>> float_quantized_pack(const std::string& name,
                                                                     const QuantizedTensor& tensor);
/// Char [out, in] of a weight_packed.
at::Tensor unpack_float_codes(const at::Tensor& packed, const Scheme& scheme);
/// Are the codes of the scheme packed, or do they take a byte each?
bool packs_float_codes(const Scheme& scheme);
/// config_groups.*.weights and input_activations.
nlohmann::json float_weights_json(const Scheme& scheme);
nlohmann::json float_activations_json(const ActivationScheme& scheme);

/// The schemes that these stand for; nothing for what isn't among them.
std::optional<Scheme> float_weights_scheme(int bits, const std::string& strategy, int64_t group_size,
                                           bool e8m0);
/// dynamic: "local" counts as true.
std::optional<ActivationScheme> float_activations_scheme(int bits, const std::string& strategy,
                                                         int64_t group_size, bool dynamic, bool e8m0);

}  // namespace lathe
