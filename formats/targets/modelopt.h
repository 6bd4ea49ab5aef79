// NVIDIA TensorRT Model Optimizer's "unified" Hugging Face checkpoints, as TensorRT-LLM, vLLM and SGLang read
// them. For a linear m with W[out, in]:
//
//   FP8                        m.weight F8_E4M3 [out, in], m.weight_scale F32 [], m.input_scale F32 []
//   FP8_PER_CHANNEL_PER_TOKEN  m.weight F8_E4M3 [out, in], m.weight_scale F32 [out]
//   fp8_pb_wo                  m.weight F8_E4M3 [out, in], m.weight_scale F32 [ceil(out/128), 1, in/128, 1]
//   NVFP4, W4A16_NVFP4         m.weight U8 [out, in/2] (float_codes.h), m.weight_scale F8_E4M3 [out, in/16],
//                              m.weight_scale_2 F32 []; NVFP4: m.input_scale F32 []
//   W4A16_AWQ                  m.weight U8 [out/2, in]: codes & 15 of row 2r, those of row 2r + 1 above;
//                              m.weight_scale scale_dtype [out, in/g]; m.pre_quant_scale [in] where the
//                              linear is not fused
//   W4A8_AWQ                   the same in groups of 128, m.weight_scale_2 F32 [], m.input_scale F32 []
//   W4A8_MXFP4_FP8             m.weight U8 [out, in/2], m.weight_scale U8 (E8M0) [out, in/32], m.input_scale
//                              F32 []; read alone
//   MXFP8                      m.weight F8_E4M3 [out, in], m.weight_scale U8 (E8M0) [out, in/32]; read alone
// Scales are what codes are multiplied by; NVFP4's group has weight_scale * weight_scale_2.
//
// W4A8_AWQ's weight_scale_2 is no part of a weight's value: TensorRT-LLM's GEMM (W4A8_AWQ_LinearMethod) takes
// codes times weight_scale / weight_scale_2, and puts input_scale * weight_scale_2 on the result, so that
// what it multiplies stays within E4M3. It is the largest magnitude of the weights over 448, of all linears
// that are stacked (the loader insists on one value for q/k/v and gate/up).
//
// pre_quant_scale is what inputs are multiplied by. Lathe's AWQ has folded it into what comes before, so it
// is 1; but TensorRT-LLM's loader (linear.py, W4A16_AWQ_LinearMethod.load_weights_vanilla) asks for it on
// o_proj and down_proj, which modelopt can't fold.
//
// Several of them in one model are MIXED_PRECISION, with "quantized_layers": {module: {quant_algo,
// group_size,
// ...}} in either configuration; servers stack q/k/v, gate/up and experts, which have one algorithm (the plan
// sees to that).
//
// Sources: modelopt 0.47, torch/export/{quant_utils,convert_hf_config}.py; vllm 0.32,
// quantization/modelopt.py; TensorRT-LLM, _torch/modules/linear.py and llmapi/llm_utils.py.
#pragma once

#include <string_view>

#include "formats/targets/target.h"

namespace lathe {

/// The row of the registry named "modelopt".
Target modelopt_target();

/// The algorithm that a linear is stored by; null for one that modelopt has not, or that is read alone.
const char* modelopt_algorithm(const Scheme& scheme, const std::optional<ActivationScheme>& activations);
/// Scheme and activations of an algorithm, in any case of letters; nothing for an unknown one. group_size: of
/// W4A16_AWQ.
struct ModeloptGrid {
  Scheme scheme;
  std::optional<ActivationScheme> activations;
};
std::optional<ModeloptGrid> modelopt_grid(std::string_view algorithm, int64_t group_size);
bool equal_ignoring_case(std::string_view a, std::string_view b);
/// The algorithms' names, for errors.
std::vector<std::string> modelopt_algorithms();

/// The tensors of a linear whose algorithm there is.
std::vector<PlannedTensor> modelopt_layout(const PlannedLinear& linear);

/// INT4 codes (Char [out, in], -8 to 7), two neighbouring rows in a byte: Byte [out / 2, in]. And back.
at::Tensor pack_row_pairs(const at::Tensor& codes);
at::Tensor unpack_row_pairs(const at::Tensor& bytes);

}  // namespace lathe
