// The table of what kernels take, and of readers without such rules. Each row says where it was read.
#include "formats/consumers/kernel_rules.h"

namespace lathe {
namespace {

// --- integers, weights alone
constexpr const char* kMachete = "vllm 0.32: utils/machete_utils.py, check_machete_supports_shape";
constexpr const char* kPadded =
    "vllm 0.32: utils/marlin_utils.py, check_marlin_supports_layer (tiles are padded)";
constexpr const char* kTiles =
    "vllm 0.11: utils/marlin_utils.py, verify_marlin_supports_shape (min_thread_k, min_thread_n)";
constexpr const char* kSglang =
    "sglang 0.5.23: srt/layers/quantization/marlin_utils.py, verify_marlin_supports_shape (min_thread_k, "
    "min_thread_n)";
constexpr const char* kSglangExperts =
    "sglang 0.5.23: srt/layers/quantization/marlin_utils.py, check_moe_marlin_supports_layer";
constexpr const char* kSglangGptq =
    "sglang 0.5.23: srt/layers/quantization/gptq/gptq.py, GPTQConfig (2, 3, 4, 8 bits)";
constexpr const char* kHumming =
    "vllm 0.32: kernels/linear/mixed_precision/humming.py (where humming is installed)";
constexpr const char* kExperts =
    "vllm 0.32: utils/marlin_utils.py, check_moe_marlin_supports_config (else moe_wna16.py)";
constexpr const char* kTensorRt =
    "TensorRT-LLM: fpA_intB_gemm_template.h, generic_mixed_gemm_kernelLauncher (group_size, ThreadblockK)";
constexpr const char* kTensorRtCompressed =
    "TensorRT-LLM (2026): models/quant_config_utils.py, _quant_config_from_config_group";
constexpr const char* kGemv = "gptqmodel 7.7: nn_modules/qlinear/gemv_awq.py (SUPPORTS_...)";
constexpr const char* kAwqTorch = "gptqmodel 7.7: nn_modules/qlinear/torch_awq.py (SUPPORTS_...)";
// --- integers with quantised inputs
constexpr const char* kInt8 = "vllm 0.32: csrc/quantization/w8a8/cutlass/scaled_mm_entry.cu (strides % 16)";
constexpr const char* kInt8Experts = "vllm 0.32: compressed_tensors_moe.py, get_moe_method";
constexpr const char* kW4a8 = "vllm 0.32: kernels/linear/mixed_precision/cutlass.py, can_implement";
constexpr const char* kW4a8Experts =
    "vllm 0.32: compressed_tensors_moe_w4a8_fp8.py, create_weights (multiples of 256)";
constexpr const char* kW4a8Cpu =
    "vllm 0.32: kernels/linear/mixed_precision/dynamic_4bit.py "
    "(torch's _dyn_quant_pack_4bit_weight: groups % 32)";
constexpr const char* kW4a8CpuExperts =
    "vllm 0.32: fused_moe/experts/cpu_int4_moe.py, is_supported_config (Arm alone)";
// --- floating-point grids: what vLLM's scheme tables and its kernels' shape checks say
constexpr const char* kFp8 = kInt8;
constexpr const char* kFp8Blocks =
    "vllm 0.32: utils/fp8_utils.py, validate_fp8_block_shape and ..._moe (block_n, block_k)";
constexpr const char* kNvfp4 = "vllm 0.32: quantization/modelopt.py, KNvfp4Static (in features % 16)";
constexpr const char* kMxfp4 = "vllm 0.32: compressed_tensors.py, _is_mxfp4";
constexpr const char* kMxfp8 = "vllm 0.32: compressed_tensors.py, _is_mxfp8";
constexpr const char* kModeloptMxfp8 = "vllm 0.32: quantization/modelopt.py, LINEAR_ALGOS (MXFP8)";
constexpr const char* kSglangInt8 =
    "sglang: sgl-kernel/csrc/gemm/int8_gemm_kernel.cu, int8_scaled_mm (multiples of 16 and 8)";
constexpr const char* kSglangFp8 =
    "sglang 0.5.23: srt/layers/quantization/fp8_utils.py, cutlass_compatible_b (multiples of 16)";
constexpr const char* kSglangBlocks =
    "sglang 0.5.23: srt/layers/quantization/fp8_utils.py, validate_fp8_block_shape";
constexpr const char* kSglangSchemes =
    "sglang 0.5.23: srt/layers/quantization/compressed_tensors.py, _get_scheme_from_parts and get_moe_scheme";
constexpr const char* kSglangModelopt =
    "sglang 0.5.23: srt/layers/quantization/modelopt_quant.py (in features % 16)";

const std::vector<std::string> kWithZeros = {"compressed-tensors", "awq"}, kGptq = {"gptq"},
                               kCompressed = {"compressed-tensors"}, kModelopt = {"modelopt"},
                               kWithFloats = {"compressed-tensors", "modelopt"},
                               kWithFp8 = {"compressed-tensors", "modelopt", "fp8"};
/// What kernels with INT8 weights take beside them.
const std::vector<std::string> kInt8Inputs = {"int8 sym dynamic per token", "int8 sym static per tensor",
                                              "int8 asym static per tensor", "int8 asym dynamic per token"};

/// INT4 weights with 8-bit inputs of each token.
std::vector<KernelRule> w4a8_rules() {
  const std::vector<std::string> fp8 = {"fp8_e4m3 dynamic per token"},
                                 int8 = {"int8 sym dynamic per token", "int8 asym dynamic per token"};
  const std::vector<int64_t> groups = {-1, 32, 64, 128, 256};
  return {{.consumer = "vLLM on Hopper",
           .kernel = "CUTLASS W4A8 (bfloat16 models)",
           .methods = kCompressed,
           .symmetric_bits = {4},
           .group_sizes = {128},
           .in_multiple = 128,
           .out_multiple = 128,
           .inputs = fp8,
           .source = kW4a8},
          {.consumer = "vLLM on Hopper",
           .kernel = "fused MoE W4A8 (bfloat16 models)",
           .methods = kCompressed,
           .symmetric_bits = {4},
           .group_sizes = {128},
           .in_multiple = 256,
           .inputs = fp8,
           .experts = true,
           .source = kW4a8Experts},
          {.consumer = "vLLM on CPUs",
           .kernel = "dynamic 4-bit (torch's; KleidiAI's on Arm)",
           .methods = kCompressed,
           .symmetric_bits = {4},
           .group_sizes = groups,
           .inputs = int8,
           .source = kW4a8Cpu},
          {.consumer = "vLLM on Arm CPUs",
           .kernel = "dynamic 4-bit MoE (KleidiAI)",
           .methods = kCompressed,
           .symmetric_bits = {4},
           .group_sizes = groups,
           .inputs = int8,
           .experts = true,
           .source = kW4a8CpuExperts}};
}

std::vector<KernelRule> integer_rules() {
  const std::vector<int64_t> marlin = {-1, 32, 64, 128}, machete = {-1, 64, 128};
  return {{.consumer = "vLLM on Hopper",
           .kernel = "Machete",
           .methods = kCompressed,
           .symmetric_bits = {4, 8},
           .asymmetric_bits = {4, 8},
           .group_sizes = machete,
           .in_multiple = 64,
           .out_multiple = 128,
           .source = kMachete},
          {.consumer = "vLLM on Hopper",
           .kernel = "Machete",
           .methods = kGptq,
           .symmetric_bits = {4, 8},
           .group_sizes = machete,
           .in_multiple = 64,
           .out_multiple = 128,
           .source = kMachete},
          {.consumer = "vLLM",
           .kernel = "Marlin",
           .methods = kWithZeros,
           .symmetric_bits = {4, 8},
           .asymmetric_bits = {4},
           .group_sizes = marlin,
           .source = kPadded},
          {.consumer = "vLLM",
           .kernel = "gptq_marlin",
           .methods = kGptq,
           .symmetric_bits = {4, 8},
           .group_sizes = marlin,
           .source = kPadded},
          {.consumer = "vLLM 0.11 and before",
           .kernel = "Marlin",
           .methods = kWithZeros,
           .symmetric_bits = {4, 8},
           .asymmetric_bits = {4},
           .group_sizes = marlin,
           .in_multiple = 128,
           .out_multiple = 64,
           .source = kTiles},
          {.consumer = "vLLM 0.11 and before",
           .kernel = "gptq_marlin",
           .methods = kGptq,
           .symmetric_bits = {4, 8},
           .group_sizes = marlin,
           .in_multiple = 128,
           .out_multiple = 64,
           .group_index = true,
           .source = kTiles},
          {.consumer = "SGLang",
           .kernel = "Marlin",
           .methods = kWithZeros,
           .symmetric_bits = {4, 8},
           .asymmetric_bits = {4},
           .group_sizes = marlin,
           .in_multiple = 128,
           .out_multiple = 64,
           .source = kSglang},
          {.consumer = "SGLang",
           .kernel = "GPTQ (ExLlama's kernels)",
           .methods = kGptq,
           .symmetric_bits = {2, 3},
           .asymmetric_bits = {2, 3, 4, 8},
           .group_sizes = {-1, 16, 32, 64, 128},
           .group_index = true,
           .source = kSglangGptq},
          {.consumer = "SGLang",
           .kernel = "gptq_marlin",
           .methods = kGptq,
           .symmetric_bits = {4, 8},
           .group_sizes = marlin,
           .in_multiple = 128,
           .out_multiple = 64,
           .group_index = true,
           .source = kSglang},
          {.consumer = "SGLang",
           .kernel = "Marlin MoE",
           .methods = {"awq"},
           .symmetric_bits = {4},
           .asymmetric_bits = {4},
           .group_sizes = marlin,
           .in_multiple = 64,
           .out_multiple = 128,
           .experts = true,
           .source = kSglangExperts},
          {.consumer = "SGLang",
           .kernel = "Marlin MoE",
           .methods = {"compressed-tensors", "gptq"},
           .symmetric_bits = {4, 8},
           .group_sizes = marlin,
           .in_multiple = 64,
           .out_multiple = 128,
           .experts = true,
           .source = kSglangExperts},
          {.consumer = "SGLang",
           .kernel = "CUTLASS int8",
           .methods = kCompressed,
           .symmetric_bits = {8},
           .group_sizes = {-1},
           .in_multiple = 16,
           .out_multiple = 8,
           .inputs = kInt8Inputs,
           .source = kSglangInt8},
          {.consumer = "vLLM with humming",
           .kernel = "Humming",
           .methods = kCompressed,
           .symmetric_bits = {2, 3, 5, 6, 7},
           .asymmetric_bits = {2, 3, 5, 6, 7, 8},
           .group_sizes = marlin,
           .source = kHumming},
          {.consumer = "vLLM",
           .kernel = "Marlin MoE, or Triton where hidden size % 128 is not 0",
           .methods = kWithZeros,
           .symmetric_bits = {4, 8},
           .asymmetric_bits = {4},
           .group_sizes = marlin,
           .experts = true,
           .source = kExperts},
          {.consumer = "vLLM",
           .kernel = "Marlin MoE, or Triton where hidden size % 128 is not 0",
           .methods = kGptq,
           .symmetric_bits = {4, 8},
           .group_sizes = marlin,
           .experts = true,
           .source = kExperts},
          {.consumer = "TensorRT-LLM",
           .kernel = "CUTLASS mixed GEMM",
           .methods = kModelopt,
           .symmetric_bits = {4},
           .group_sizes = {64, 128},
           .in_multiple = 64,
           .source = kTensorRt},
          {.consumer = "TensorRT-LLM",
           .kernel = "CUTLASS mixed GEMM (Ada and newer)",
           .methods = kModelopt,
           .symmetric_bits = {4},
           .group_sizes = {128},
           .in_multiple = 128,
           .inputs = {"fp8_e4m3 static per tensor"},
           .source = kTensorRt},
          {.consumer = "GPTQModel",
           .kernel = "AwqGEMVLinear (CUDA)",
           .methods = {"awq-gemv"},
           .symmetric_bits = {4},
           .asymmetric_bits = {4},
           .group_sizes = {64, 128},
           .out_multiple = 64,
           .parallel = false,
           .source = kGemv},
          {.consumer = "vLLM",
           .kernel = "CUTLASS int8",
           .methods = kCompressed,
           .symmetric_bits = {8},
           .group_sizes = {-1},
           .in_multiple = 16,
           .out_multiple = 16,
           .inputs = kInt8Inputs,
           .source = kInt8},
          {.consumer = "vLLM",
           .kernel = "fused MoE int8",
           .methods = kCompressed,
           .symmetric_bits = {8},
           .group_sizes = {-1},
           .inputs = {"int8 sym dynamic per token"},
           .experts = true,
           .source = kInt8Experts}};
}

std::vector<KernelRule> float_rules() {
  const std::vector<std::string> fp8 = {"fp8_e4m3 tensor, input fp8_e4m3 static per tensor",
                                        "fp8_e4m3 tensor, input fp8_e4m3 dynamic per token",
                                        "fp8_e4m3 channel, input fp8_e4m3 static per tensor",
                                        "fp8_e4m3 channel, input fp8_e4m3 dynamic per token"};
  const std::vector<std::string> blocks = {"fp8_e4m3 block 128x128, input fp8_e4m3 dynamic per group of 128"};
  const std::string nvfp4 = "nvfp4 g16, input nvfp4 dynamic per group of 16";
  return {{.consumer = "vLLM",
           .kernel = "CUTLASS FP8 (Ada and newer)",
           .methods = kWithFp8,
           .in_multiple = 16,
           .out_multiple = 16,
           .schemes = fp8,
           .source = kFp8},
          {.consumer = "vLLM",
           .kernel = "fused MoE FP8",
           .methods = kWithFp8,
           .schemes = fp8,
           .experts = true,
           .source = kInt8Experts},
          {.consumer = "vLLM",
           .kernel = "block FP8 (DeepGEMM, CUTLASS)",
           .methods = kWithFp8,
           .in_multiple = 128,
           .part_multiple = 128,
           .schemes = blocks,
           .source = kFp8Blocks},
          {.consumer = "vLLM",
           .kernel = "fused MoE block FP8",
           .methods = kWithFp8,
           .in_multiple = 128,
           .part_multiple = 128,
           .schemes = blocks,
           .experts = true,
           .source = kFp8Blocks},
          {.consumer = "vLLM",
           .kernel = "Marlin FP8",
           .methods = kCompressed,
           .schemes = {"fp8_e4m3 tensor", "fp8_e4m3 channel"},
           .source = kPadded},
          {.consumer = "vLLM",
           .kernel = "CUTLASS NVFP4 (Blackwell)",
           .methods = kWithFloats,
           .in_multiple = 16,
           .schemes = {nvfp4},
           .source = kNvfp4},
          {.consumer = "vLLM",
           .kernel = "Marlin NVFP4",
           .methods = kWithFloats,
           .in_multiple = 16,
           .schemes = {"nvfp4 g16"},
           .source = kNvfp4},
          {.consumer = "vLLM",
           .kernel = "fused MoE NVFP4",
           .methods = kWithFloats,
           .in_multiple = 16,
           .schemes = {nvfp4, "nvfp4 g16"},
           .experts = true,
           .source = kInt8Experts},
          {.consumer = "vLLM",
           .kernel = "MXFP4 (Marlin; Blackwell's own)",
           .methods = kCompressed,
           .in_multiple = 32,
           .schemes = {"mxfp4 g32", "mxfp4 g32, input mxfp4 dynamic per group of 32"},
           .source = kMxfp4},
          {.consumer = "vLLM",
           .kernel = "fused MoE MXFP4",
           .methods = kCompressed,
           .in_multiple = 32,
           .schemes = {"mxfp4 g32", "mxfp4 g32, input mxfp4 dynamic per group of 32"},
           .experts = true,
           .source = kInt8Experts},
          {.consumer = "vLLM",
           .kernel = "MXFP8 (Marlin; Blackwell's own)",
           .methods = kCompressed,
           .in_multiple = 32,
           .schemes = {"mxfp8 g32", "mxfp8 g32, input mxfp8 dynamic per group of 32"},
           .source = kMxfp8},
          {.consumer = "vLLM",
           .kernel = "MXFP8 (Marlin; Blackwell's own)",
           .methods = kModelopt,
           .in_multiple = 32,
           .schemes = {"mxfp8 g32, input mxfp8 dynamic per group of 32"},
           .source = kModeloptMxfp8}};
}

std::vector<KernelRule> sglang_float_rules() {
  const std::string tensors = "fp8_e4m3 tensor, input fp8_e4m3 static per tensor",
                    nvfp4 = "nvfp4 g16, input nvfp4 dynamic per group of 16";
  const std::vector<std::string> dynamic = {"fp8_e4m3 tensor, input fp8_e4m3 dynamic per token",
                                            "fp8_e4m3 channel, input fp8_e4m3 dynamic per token",
                                            "fp8_e4m3 channel, input fp8_e4m3 static per tensor"};
  const std::vector<std::string> blocks = {"fp8_e4m3 block 128x128, input fp8_e4m3 dynamic per group of 128"};
  std::vector<std::string> fp8 = dynamic;
  fp8.push_back(tensors);
  return {{.consumer = "SGLang",
           .kernel = "CUTLASS FP8 (Ada and newer)",
           .methods = kCompressed,
           .in_multiple = 16,
           .out_multiple = 16,
           .schemes = fp8,
           .source = kSglangFp8},
          {.consumer = "SGLang",
           .kernel = "CUTLASS FP8 (Ada and newer)",
           .methods = kModelopt,
           .in_multiple = 16,
           .out_multiple = 16,
           .schemes = {tensors},
           .source = kSglangFp8},
          {.consumer = "SGLang",
           .kernel = "block FP8",
           .methods = kCompressed,
           .in_multiple = 128,
           .part_multiple = 128,
           .schemes = blocks,
           .source = kSglangBlocks},
          {.consumer = "SGLang",
           .kernel = "Marlin FP8",
           .methods = kCompressed,
           .in_multiple = 128,
           .out_multiple = 64,
           .schemes = {"fp8_e4m3 tensor", "fp8_e4m3 channel"},
           .source = kSglang},
          {.consumer = "SGLang",
           .kernel = "fused MoE FP8",
           .methods = kCompressed,
           .schemes = {"fp8_e4m3 channel, input fp8_e4m3 dynamic per token", tensors},
           .experts = true,
           .source = kSglangSchemes},
          {.consumer = "SGLang",
           .kernel = "fused MoE FP8",
           .methods = kModelopt,
           .schemes = {tensors},
           .experts = true,
           .source = kSglangModelopt},
          {.consumer = "SGLang",
           .kernel = "fused MoE block FP8",
           .methods = kCompressed,
           .in_multiple = 128,
           .part_multiple = 128,
           .schemes = blocks,
           .experts = true,
           .source = kSglangBlocks},
          {.consumer = "SGLang",
           .kernel = "NVFP4 (Blackwell; Marlin before, with inputs as they are)",
           .methods = kWithFloats,
           .in_multiple = 16,
           .schemes = {nvfp4, "nvfp4 g16"},
           .source = kSglangModelopt},
          {.consumer = "SGLang",
           .kernel = "fused MoE NVFP4",
           .methods = kWithFloats,
           .in_multiple = 16,
           .schemes = {nvfp4, "nvfp4 g16"},
           .experts = true,
           .source = kSglangSchemes},
          {.consumer = "SGLang",
           .kernel = "fused MoE MXFP4",
           .methods = kCompressed,
           .in_multiple = 32,
           .schemes = {"mxfp4 g32"},
           .experts = true,
           .source = kSglangSchemes}};
}

/// AWQ in GPTQModel, experts and the rest alike.
std::vector<KernelRule> gptqmodel_rules() {
  std::vector<KernelRule> rules;
  for (const bool experts : {false, true}) {
    rules.push_back({.consumer = "GPTQModel",
                     .kernel = "AwqTorchLinear (others on GPUs)",
                     .methods = {"awq"},
                     .symmetric_bits = {4},
                     .asymmetric_bits = {4},
                     .group_sizes = {-1, 16, 32, 64, 128},
                     .out_multiple = 8,
                     .experts = experts,
                     .parallel = false,
                     .source = kAwqTorch});
  }
  return rules;
}

/// What TensorRT-LLM makes of llm-compressor's exports; it names no rules on shapes there.
std::vector<KernelRule> tensorrt_float_rules() {
  const std::vector<std::pair<const char*, const char*>> algorithms = {
      {"FP8_PER_CHANNEL_PER_TOKEN", "fp8_e4m3 channel, input fp8_e4m3 dynamic per token"},
      {"FP8_BLOCK_SCALES", "fp8_e4m3 block 128x128, input fp8_e4m3 dynamic per group of 128"},
      {"NVFP4 (Blackwell)", "nvfp4 g16, input nvfp4 dynamic per group of 16"},
      {"W4A16_MXFP4", "mxfp4 g32"}};
  std::vector<KernelRule> rules;
  for (const auto& [algorithm, scheme] : algorithms) {
    for (const bool experts : {false, true}) {
      rules.push_back({.consumer = "TensorRT-LLM",
                       .kernel = algorithm,
                       .methods = kCompressed,
                       .schemes = {scheme},
                       .experts = experts,
                       .source = kTensorRtCompressed});
    }
  }
  return rules;
}

}  // namespace

const std::vector<KernelRule>& kernel_rules() {
  static const std::vector<KernelRule> rules = [] {
    std::vector<KernelRule> all = integer_rules();
    for (const auto& more :
         {w4a8_rules(), gptqmodel_rules(), float_rules(), sglang_float_rules(), tensorrt_float_rules()})
      all.insert(all.end(), more.begin(), more.end());
    return all;
  }();
  return rules;
}

const std::vector<Reader>& readers() {
  constexpr const char* kNoExperts =
      "transformers 5.17 stacks experts, and only compressed-tensors' are unpacked for that";
  constexpr const char* kNotInVllm = "vllm 0.32: layers/quantization holds no such method";
  constexpr const char* kNotInSglang =
      "sglang 0.5.23: srt/layers/quantization/__init__.py names no such method";
  constexpr const char* kNotInTensorRt = "TensorRT-LLM: llmapi/llm_utils.py takes no such quant_method";
  static const std::vector<Reader> rows = {
      {"transformers", "compressed-tensors", "compressed-tensors",
       "transformers 5.17: quantizer_compressed_tensors.py", nullptr, nullptr,
       "transformers 5.17 stacks experts, and unpacks packed ones and FP8 alone (DecompressExperts)"},
      {"transformers", "gptq", "GPTQModel", "transformers 5.17: quantizer_gptq.py", kNoExperts},
      {"GPTQModel", "gptq", "its own loader", "gptqmodel 7.7: models/loader.py", nullptr,
       "it takes zero points of version 1 only from files that it wrote itself; gptq-v2 it reads"},
      {"transformers", "awq", "GPTQModel", "transformers 5.17: quantizer_awq.py", kNoExperts},
      {"transformers", "awq-gemv", "GPTQModel (CUDA)", "transformers 5.17: quantizer_awq.py", kNoExperts},
      {"SGLang", "awq-gemv", nullptr, "sglang 0.5.23: srt/layers/quantization/awq takes GEMM's order alone"},
      {"AutoAWQ", "awq-gemv", "WQLinear_GEMV", "autoawq 0.2.9: modules/linear/gemv.py"},
      {"vLLM", "awq-gemv", nullptr, "vllm 0.32: auto_awq.py takes every artefact's order for GEMM's"},
      {"TensorRT-LLM", "awq-gemv", nullptr, kNotInTensorRt},
      {"spqr_quant", "spqr", "QuantizedLinear", "spqr_quant 0.2.0: inference.py"},
      {"transformers", "spqr", nullptr,
       "transformers 5.17: integrations/spqr.py calls a create_placeholder that spqr_quant 0.2.0 lacks"},
      {"hqq", "hqq", "HQQLinear", "hqq 0.2.8: core/quantize.py"},
      {"transformers", "hqq", nullptr,
       "transformers 5.17: quantizers/quantizer_hqq.py makes no HQQLinear of a stored one"},
      {"transformers", "fp8", "its own FP8Linear", "transformers 5.17: quantizer_finegrained_fp8.py"},
      {"transformers", "bitnet", "its own BitLinear", "transformers 5.17: quantizer_bitnet.py"},
      {"transformers", "aqlm", "aqlm", "transformers 5.17: quantizer_aqlm.py"},
      {"transformers", "vptq", "vptq", "transformers 5.17: quantizer_vptq.py"},
      {"transformers", "bitsandbytes", "bitsandbytes", "transformers 5.17: quantizer_bnb_4bit.py"},
      {"TensorRT-LLM", "modelopt", "its own loader",
       "TensorRT-LLM: llmapi/llm_utils.py, _torch/modules/linear.py"},
      {"transformers", "modelopt", nullptr, "transformers 5.17: quantizers/auto.py has no such method"},
      {"TensorRT-LLM", "gptq", nullptr, kNotInTensorRt},
      {"TensorRT-LLM", "awq", nullptr, kNotInTensorRt},
      {"vLLM", "hqq", nullptr, kNotInVllm},
      {"vLLM", "spqr", nullptr, kNotInVllm},
      {"SGLang", "hqq", nullptr, kNotInSglang},
      {"SGLang", "spqr", nullptr, kNotInSglang},
      {"TensorRT-LLM", "hqq", nullptr, kNotInTensorRt},
      {"TensorRT-LLM", "spqr", nullptr, kNotInTensorRt},
  };
  return rows;
}

}  // namespace lathe
