#include "formats/consumers/gguf_readers.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "formats/consumers/consumers.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

std::vector<GgmlType> all_but(std::initializer_list<GgmlType> unread) {
  std::vector<GgmlType> types;
  for (const GgmlTraits& row : ggml_types())
    if (std::ranges::find(unread, row.type) == unread.end()) types.push_back(row.type);
  return types;
}

/// vLLM's kernels, which SGLang took over: UNQUANTIZED_TYPES and DEQUANT_TYPES (standard, K and IQ types).
/// Other types raise "Unsupported GGUF quantization type" when a layer is loaded, or used. (What follows on
/// the plugin's 0.0.5 has kernels for MXFP4, NVFP4 and Q1_0 in its source: kernel_support.py.)
std::vector<GgmlType> kernel_types() {
  return all_but({GgmlType::TQ1_0, GgmlType::TQ2_0, GgmlType::MXFP4, GgmlType::NVFP4, GgmlType::Q1_0});
}

/// What the consumer lacks, each type once with how many tensors are of it; empty where it reads all.
std::string unread_types(const GgufReader& reader, const std::vector<GgufTypeOf>& tensors) {
  std::vector<std::string> words;
  for (const GgmlTraits& row : ggml_types()) {
    if (std::ranges::find(reader.types, row.type) != reader.types.end()) continue;
    const auto is_one = [&](const GgufTypeOf& tensor) { return tensor.type == row.type; };
    const auto first = std::ranges::find_if(tensors, is_one);
    if (first == tensors.end()) continue;
    const auto more = std::ranges::count_if(tensors, is_one) - 1;
    words.push_back(fmt::format("{} ('{}'{})", row.name, first->tensor,
                                more > 0 ? fmt::format(" and {} more", more) : std::string()));
  }
  return words.empty() ? std::string() : "it has no kernel for " + join_words(words);
}

}  // namespace

const std::vector<GgufReader>& gguf_readers() {
  static const std::vector<GgufReader> rows = {
      {"llama.cpp", "its CPU and GPU kernels", "llama.cpp: ggml/src/ggml.c, type_traits", all_but({})},
      {"transformers", "gguf_file (with accelerate; one file, not parts), dequantised",
       "transformers 5.17: modeling_gguf_pytorch_utils.py; gguf 0.19: quants.py, dequantize",
       all_but({GgmlType::Q1_0})},
      {"vLLM", "vllm-gguf-plugin", "vllm-gguf-plugin 0.0.5: quantization/utils.py, DEQUANT_TYPES",
       kernel_types()},
      {"SGLang", "its own loader (one file, not parts)",
       "sglang 0.5.23: srt/layers/quantization/gguf.py, DEQUANT_TYPES", kernel_types()},
      {"TensorRT-LLM", nullptr, "TensorRT-LLM: llmapi/llm_utils.py takes no such quant_method"}};
  return rows;
}

std::vector<ConsumerVerdict> judge_gguf(const std::vector<GgufTypeOf>& tensors) {
  std::vector<ConsumerVerdict> verdicts;
  if (tensors.empty()) return verdicts;
  for (const GgufReader& reader : gguf_readers()) {
    ConsumerVerdict verdict{reader.consumer, "", "", {}, "", reader.source};
    if (reader.through != nullptr) verdict.problem = unread_types(reader, tensors);
    if (reader.through != nullptr && verdict.problem.empty()) verdict.kernel = reader.through;
    verdicts.push_back(std::move(verdict));
  }
  return verdicts;
}

}  // namespace lathe
