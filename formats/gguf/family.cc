#include "formats/gguf/family.h"

#include <algorithm>
#include <array>

namespace lathe {
namespace {

constexpr GgufFamily kGemma3 = {.model_type = "gemma3_text",
                                .architecture = "gemma3",
                                .activation = "gelu_pytorch_tanh",
                                .windows = true,
                                .window_period = 6,
                                .widest_scale_layers = 62};

/// The language model of one that sees images, too.
constexpr GgufFamily named(GgufFamily family, std::string_view model_type) {
  family.model_type = model_type;
  return family;
}

constexpr std::array<GgufFamily, 12> kFamilies = {{
    {.model_type = "llama",
     .architecture = "llama",
     .interleaved = true,
     .attention_bias = true,
     .other_bias = true},
    {.model_type = "mistral", .architecture = "llama", .interleaved = true},
    {.model_type = "mixtral", .architecture = "llama", .interleaved = true, .normalises = true},
    {.model_type = "qwen2", .architecture = "qwen2", .attention_bias = true, .square_attention = true},
    {.model_type = "qwen2_moe",
     .architecture = "qwen2moe",
     .attention_bias = true,
     .square_attention = true,
     .normalises = false},
    {.model_type = "qwen3", .architecture = "qwen3"},
    {.model_type = "qwen3_moe", .architecture = "qwen3moe", .normalises = true},
    {.model_type = "olmoe", .architecture = "olmoe", .square_attention = true, .normalises = false},
    {.model_type = "phi3", .architecture = "phi3", .square_attention = true, .rope_factors = true},
    {.model_type = "gemma2",
     .architecture = "gemma2",
     .activation = "gelu_pytorch_tanh",
     .windows = true,
     .window_period = 2,
     .widest_scale_layers = 46},
    kGemma3,
    named(kGemma3, "gemma3"),
}};

}  // namespace

std::span<const GgufFamily> gguf_families() { return kFamilies; }

const GgufFamily* find_gguf_family(std::string_view model_type) {
  const auto row = std::ranges::find(kFamilies, model_type, &GgufFamily::model_type);
  return row == kFamilies.end() ? nullptr : &*row;
}

std::optional<std::string_view> gguf_architecture(const std::string& model_type) {
  const GgufFamily* family = find_gguf_family(model_type);
  return family == nullptr ? std::nullopt : std::optional(family->architecture);
}

std::optional<std::string_view> model_type_of_architecture(const std::string& architecture, bool experts) {
  const auto row = std::ranges::find_if(kFamilies, [&](const GgufFamily& family) {
    return family.architecture == architecture && family.normalises.has_value() == experts;
  });
  return row == kFamilies.end() ? std::nullopt : std::optional(row->model_type);
}

}  // namespace lathe
