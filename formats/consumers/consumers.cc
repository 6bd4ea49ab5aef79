#include "formats/consumers/consumers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>

namespace lathe {
namespace {

constexpr int kDegrees[] = {1, 2, 4, 8};

/// How a linear is cut between GPUs (Megatron's scheme, as all servers here do it).
enum class Split { columns, rows, none };
Split split_of(LinearRole role) {
  switch (role) {
    case LinearRole::q_proj:
    case LinearRole::k_proj:
    case LinearRole::v_proj:
    case LinearRole::qkv_proj:
    case LinearRole::gate_up_proj:
    case LinearRole::gate_proj:
    case LinearRole::up_proj:
      return Split::columns;
    case LinearRole::o_proj:
    case LinearRole::down_proj:
      return Split::rows;
    default:
      return Split::none;
  }
}

/// Output features of one GPU: heads of keys and values are repeated where there are fewer than GPUs.
int64_t part_out(const PlannedLinear& linear, int degree, const HeadCounts& heads) {
  const bool key_or_value = linear.role == LinearRole::k_proj || linear.role == LinearRole::v_proj;
  if (key_or_value && heads.kv_heads > 0 && heads.kv_heads < degree) return heads.head_dim;
  return linear.out / degree;
}

/// Linears that servers stack into one: q/k/v, gate/up.
std::string fused_name(const PlannedLinear& linear) {
  const std::string module = linear.name.substr(0, linear.name.rfind('.'));
  return split_of(linear.role) == Split::columns ? module + " (fused)" : linear.name;
}

bool among(const std::vector<int>& values, int value) {
  return std::ranges::find(values, value) != values.end();
}

/// Why the kernel takes no linear of this scheme at all.
std::optional<std::string> scheme_problem(const KernelRule& rule, const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  if (!rule.schemes.empty()) {
    const std::string found = with_input(scheme.describe(), linear.activations);
    if (std::ranges::find(rule.schemes, found) != rule.schemes.end()) return std::nullopt;
    return fmt::format("{}: {} has no kernel for {}", linear.name, rule.kernel, found);
  }
  const bool plain = scheme.type == "int" && scheme.axis == 1 && !scheme.real_zero && !scheme.scale_grid;
  if (!plain || linear.activations.has_value() != rule.quantised_input ||
      !among(scheme.symmetric ? rule.symmetric_bits : rule.asymmetric_bits, scheme.bits))
    return fmt::format("{}: {} has no kernel for {}", linear.name, rule.kernel,
                       with_input(scheme.describe(), linear.activations));
  if (std::ranges::find(rule.group_sizes, scheme.group_size) == rule.group_sizes.end()) {
    return fmt::format("{}: {} takes group_size {}, not {}", linear.name, rule.kernel,
                       fmt::join(rule.group_sizes, ", "), scheme.group_size);
  }
  if (linear.group_index) return fmt::format("{}: {} takes no activation order", linear.name, rule.kernel);
  return std::nullopt;
}

std::string not_multiple(const std::string& name, int64_t size, int degree, int64_t multiple,
                         const char* what) {
  const std::string share = degree == 1 ? fmt::format("{}", size) : fmt::format("{} / {}", size, degree);
  return fmt::format("{}: {} is not a multiple of {} ({})", name, share, multiple, what);
}

/// Why a degree doesn't work; nothing if it does.
std::optional<std::string> degree_problem(const KernelRule& rule, const std::vector<PlannedLinear>& linears,
                                          int degree, const HeadCounts& heads) {
  if (heads.heads % degree != 0) return fmt::format("{} heads / {}", heads.heads, degree);
  if (heads.kv_heads % degree != 0 && degree % std::max<int64_t>(1, heads.kv_heads) != 0)
    return fmt::format("{} key-value heads / {}", heads.kv_heads, degree);
  std::map<std::string, std::pair<int64_t, int64_t>> stacked;  // output features: of one GPU, of all
  for (const PlannedLinear& linear : linears) {
    const Split split = split_of(linear.role);
    const int64_t parts_in = split == Split::rows ? degree : 1, group = linear.scheme.group_size;
    if (linear.in % (parts_in * rule.in_multiple) != 0)
      return not_multiple(linear.name, linear.in, parts_in, rule.in_multiple, "input features");
    if (group != -1 && group < linear.in && linear.in % (parts_in * group) != 0)
      return not_multiple(linear.name, linear.in, parts_in, group, "group_size");
    if (split == Split::columns && linear.out % degree != 0 &&
        part_out(linear, degree, heads) != heads.head_dim)
      return not_multiple(linear.name, linear.out, degree, 1, "output features");
    auto& [part, all] = stacked[fused_name(linear)];
    part += split == Split::columns ? part_out(linear, degree, heads) : linear.out;
    all += linear.out;
  }
  for (const auto& [name, sizes] : stacked) {
    if (sizes.first % rule.out_multiple != 0)
      return not_multiple(name, sizes.second, sizes.first == sizes.second ? 1 : degree, rule.out_multiple,
                          "output features");
  }
  return std::nullopt;
}

ConsumerVerdict judge(const KernelRule& rule, const std::vector<PlannedLinear>& linears,
                      const HeadCounts& heads) {
  ConsumerVerdict verdict{rule.consumer, rule.kernel, {}, "", rule.source};
  for (const PlannedLinear& linear : linears) {
    if (const auto problem = scheme_problem(rule, linear)) {
      verdict.problem = *problem;
      return verdict;
    }
  }
  for (const int degree : kDegrees) {
    if (const auto problem = degree_problem(rule, linears, degree, heads)) {
      if (verdict.problem.empty()) verdict.problem = fmt::format("TP {} fails: {}", degree, *problem);
    } else {
      verdict.tensor_parallel.push_back(degree);
    }
  }
  return verdict;
}

/// Readers without rules of their own on schemes and shapes.
struct Reader {
  const char *consumer, *method, *through, *source;  // through: null where it doesn't read the method
};
constexpr Reader kReaders[] = {
    {"transformers", "compressed-tensors", "compressed-tensors",
     "transformers 5.23: quantizer_compressed_tensors.py"},
    {"transformers", "gptq", "GPTQModel", "transformers 5.23: quantizer_gptq.py"},
    {"transformers", "awq", "GPTQModel", "transformers 5.23: quantizer_awq.py"},
    {"transformers", "spqr", "spqr_quant, with create_placeholder renamed",
     "transformers 5.23: quantizer_spqr.py"},
    {"hqq", "hqq", "HQQLinear", "hqq 0.2.8: core/quantize.py"},
    {"TensorRT-LLM", "modelopt", "its own loader",
     "TensorRT-LLM: llmapi/llm_utils.py, _torch/modules/linear.py"},
    {"transformers", "modelopt", nullptr, "transformers 5.23: quantizers/auto.py has no such method"},
    {"TensorRT-LLM", "gptq", nullptr, "TensorRT-LLM: llmapi/llm_utils.py takes no such quant_method"},
    {"TensorRT-LLM", "awq", nullptr, "TensorRT-LLM: llmapi/llm_utils.py takes no such quant_method"},
    {"llama.cpp", "gguf", "its CPU and GPU kernels", "llama.cpp: src/llama-model.cpp"},
    {"transformers", "gguf", "gguf_file (with accelerate), dequantised",
     "transformers 5.17: modeling_gguf_pytorch_utils.py"},
    {"vLLM", "hqq", nullptr, "vllm 0.32: layers/quantization holds no such method"},
    {"vLLM", "spqr", nullptr, "vllm 0.32: layers/quantization holds no such method"},
};

KernelRule float_rule(const char* kernel, std::vector<std::string> methods, int64_t in_multiple,
                      int64_t out_multiple, bool quantised_input, const char* source,
                      std::vector<std::string> schemes) {
  return {"vLLM",          kernel, std::move(methods), {}, {}, {}, in_multiple, out_multiple,
          quantised_input, source, std::move(schemes)};
}

/// Has the rule anything to say about these linears? Those of integers and of floating-point grids keep to
/// their own, and of the latter those that name a linear's scheme, or all where none does.
bool concerns(const KernelRule& rule, const std::vector<PlannedLinear>& linears) {
  const bool floats =
      std::ranges::any_of(linears, [](const auto& l) { return l.scheme.float_grid() != nullptr; });
  if (rule.schemes.empty()) return !floats;
  return std::ranges::any_of(linears, [&](const auto& l) {
    return std::ranges::find(rule.schemes, with_input(l.scheme.describe(), l.activations)) !=
           rule.schemes.end();
  });
}

}  // namespace

const std::vector<KernelRule>& kernel_rules() {
  constexpr const char* kMachete = "vllm 0.32: utils/machete_utils.py, check_machete_supports_shape";
  constexpr const char* kPadded =
      "vllm 0.32: utils/marlin_utils.py, check_marlin_supports_layer (tiles are padded)";
  constexpr const char* kTiles =
      "vllm 0.11: utils/marlin_utils.py, verify_marlin_supports_shape (min_thread_k, min_thread_n)";
  // --- floating-point grids: what vLLM's scheme tables and its kernels' shape checks say.
  constexpr const char* kFp8 = "vllm 0.32: csrc/quantization/w8a8/cutlass/scaled_mm_entry.cu (strides % 16)";
  constexpr const char* kFp8Blocks = "vllm 0.32: utils/fp8_utils.py, validate_fp8_block_shape";
  constexpr const char* kNvfp4 = "vllm 0.32: quantization/modelopt.py, KNvfp4Static (in features % 16)";
  constexpr const char* kMxfp4 = "vllm 0.32: compressed_tensors.py, _is_mxfp4";
  const std::vector<std::string> with_floats = {"compressed-tensors", "modelopt"};
  const std::vector<std::string> with_zeros = {"compressed-tensors", "awq"}, gptq = {"gptq"};
  static const std::vector<KernelRule> rules = {
      {"vLLM on Hopper",
       "Machete",
       {"compressed-tensors"},
       {4, 8},
       {4, 8},
       {-1, 64, 128},
       64,
       128,
       false,
       kMachete},
      {"vLLM on Hopper", "Machete", gptq, {4, 8}, {}, {-1, 64, 128}, 64, 128, false, kMachete},
      {"vLLM", "Marlin", with_zeros, {4, 8}, {4}, {-1, 32, 64, 128}, 1, 1, false, kPadded},
      {"vLLM", "gptq_marlin", gptq, {4, 8}, {}, {-1, 32, 64, 128}, 1, 1, false, kPadded},
      {"vLLM 0.11 and before", "Marlin", with_zeros, {4, 8}, {4}, {-1, 32, 64, 128}, 128, 64, false, kTiles},
      {"vLLM 0.11 and before", "gptq_marlin", gptq, {4, 8}, {}, {-1, 32, 64, 128}, 128, 64, false, kTiles},
      {"vLLM",
       "CUTLASS int8",
       {"compressed-tensors"},
       {8},
       {},
       {-1},
       16,
       16,
       true,
       "vllm: csrc/quantization/w8a8/cutlass/scaled_mm_entry.cu (strides % 16)"},
      float_rule("CUTLASS FP8 (Ada and newer)", with_floats, 16, 16, true, kFp8,
                 {"fp8_e4m3 tensor, input fp8_e4m3 static per tensor",
                  "fp8_e4m3 tensor, input fp8_e4m3 dynamic per token",
                  "fp8_e4m3 channel, input fp8_e4m3 static per tensor",
                  "fp8_e4m3 channel, input fp8_e4m3 dynamic per token"}),
      float_rule("block FP8 (DeepGEMM, CUTLASS)", with_floats, 128, 1, true, kFp8Blocks,
                 {"fp8_e4m3 block 128x128, input fp8_e4m3 dynamic per group of 128"}),
      float_rule("Marlin FP8", {"compressed-tensors"}, 1, 1, false, kPadded,
                 {"fp8_e4m3 tensor", "fp8_e4m3 channel"}),
      float_rule("CUTLASS NVFP4 (Blackwell)", with_floats, 16, 1, true, kNvfp4,
                 {"nvfp4 g16, input nvfp4 dynamic per group of 16"}),
      float_rule("Marlin NVFP4", with_floats, 16, 1, false, kNvfp4, {"nvfp4 g16"}),
      float_rule("Marlin MXFP4", {"compressed-tensors"}, 32, 1, false, kMxfp4, {"mxfp4 g32"}),
  };
  return rules;
}

std::string ConsumerVerdict::describe() const {
  if (kernel.empty()) return fmt::format("{}: does not read it ({})", consumer, source);
  if (tensor_parallel.empty() && !problem.empty())
    return fmt::format("{}: not with {}: {} ({})", consumer, kernel, problem, source);
  if (tensor_parallel.empty()) return fmt::format("{}: reads it through {} ({})", consumer, kernel, source);
  return fmt::format("{}: {}, ok for TP {}{}{} ({})", consumer, kernel, fmt::join(tensor_parallel, ", "),
                     problem.empty() ? "" : "; ", problem, source);
}

std::vector<ConsumerVerdict> judge_consumers(const std::string& method,
                                             const std::vector<PlannedLinear>& linears,
                                             const HeadCounts& heads) {
  std::vector<ConsumerVerdict> verdicts;
  if (linears.empty()) return verdicts;
  // Kernels are for weights alone or for quantised inputs: the others have nothing to say.
  const bool quantised_input =
      std::ranges::any_of(linears, [](const auto& l) { return l.activations.has_value(); });
  for (const KernelRule& rule : kernel_rules()) {
    if (std::ranges::find(rule.methods, method) != rule.methods.end() &&
        rule.quantised_input == quantised_input && concerns(rule, linears))
      verdicts.push_back(judge(rule, linears, heads));
  }
  for (const Reader& reader : kReaders) {
    if (method == reader.method)
      verdicts.push_back(
          {reader.consumer, reader.through == nullptr ? "" : reader.through, {}, "", reader.source});
  }
  return verdicts;
}

}  // namespace lathe
