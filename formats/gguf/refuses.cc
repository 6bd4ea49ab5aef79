// What llama.cpp would compute otherwise than the model does, family by family.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "formats/gguf/tensor_map.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

std::optional<std::string> bias_problem(const GgufFamily& family, const Block& block) {
  for (const Linear& linear : block.linears) {
    const bool attention = linear.input.slot == Slot::attention_in;
    if (linear.bias && !(attention ? family.attention_bias : family.other_bias))
      return fmt::format("{} has a bias, which llama.cpp's {} has no place for", linear.name,
                         family.architecture);
  }
  return std::nullopt;
}

/// llama.cpp has the scale of scores as a rule by family, not as a key.
std::optional<std::string> scale_problem(const GgufFamily& family, const ModelConfig& config) {
  double width = static_cast<double>(config.head_dim);
  if (family.widest_scale_layers == config.num_layers)
    width = static_cast<double>(config.hidden_size / config.num_heads);
  const double wanted = 1.0 / std::sqrt(width);
  if (std::abs(config.attention_scale - wanted) <= 1e-6 * wanted) return std::nullopt;
  return fmt::format(
      "scores are multiplied by {:g}, which llama.cpp's {} with {} layers has no key for: it takes {:g} "
      "(query_pre_attn_scalar {:g})",
      config.attention_scale, family.architecture, config.num_layers, wanted, width);
}

/// Layers with a window must be those that llama.cpp takes.
std::optional<std::string> window_problem(const GgufFamily& family, const ModelGraph& graph) {
  if (family.window_period == 0) return std::nullopt;
  for (const Block& block : graph.blocks) {
    const bool slides = block.index % family.window_period < family.window_period - 1;
    if (slides == block.sliding_window.has_value()) continue;
    return fmt::format("layer {} {} a sliding window, but llama.cpp's {} lets every {}. layer see all tokens",
                       block.index, slides ? "has no" : "has", family.architecture, family.window_period);
  }
  return std::nullopt;
}

std::optional<std::string> rope_problem(const GgufFamily& family, const RopeConfig& rope, bool local) {
  using Type = RopeConfig::Type;
  const bool plain = rope.type == Type::default_;
  if (local && !plain) return "layers with a sliding window scale their rotary embedding, which has no key";
  if (plain || rope.type == Type::linear || rope.type == Type::llama3) return std::nullopt;
  if (rope.type == Type::longrope && family.rope_factors) return std::nullopt;
  if (rope.type == Type::yarn) {
    if (rope.mscale || rope.mscale_all_dim || rope.attention_factor || !rope.truncate)
      return "yarn with mscale, mscale_all_dim, attention_factor or truncate: false, which has no key";
    return std::nullopt;
  }
  return rope.type == Type::dynamic ? "dynamic rope scaling, which llama.cpp doesn't have"
                                    : "longrope, which llama.cpp has for phi3 only";
}

/// The router's arithmetic is the architecture's.
std::optional<std::string> experts_problem(const GgufFamily& family, const ModelGraph& graph) {
  if (!family.normalises) return std::nullopt;
  for (const Block& block : graph.blocks) {
    if (!block.experts)
      return fmt::format("layer {} has no experts, but llama.cpp's {} has them in every layer", block.index,
                         family.architecture);
    if (block.experts->normalise == *family.normalises) continue;
    return fmt::format("norm_topk_prob {}: llama.cpp's {} {} the chosen experts' probabilities by their sum",
                       block.experts->normalise, family.architecture,
                       *family.normalises ? "divides" : "does not divide");
  }
  return std::nullopt;
}

std::optional<std::string> shape_problem(const GgufFamily& family, const ModelGraph& graph) {
  const ModelConfig& config = graph.config;
  if (family.square_attention && config.num_heads * config.head_dim != config.hidden_size) {
    return fmt::format("{} heads of {} channels, which llama.cpp's {} has only as many as hidden_size ({})",
                       config.num_heads, config.head_dim, family.architecture, config.hidden_size);
  }
  const int64_t width = graph.blocks.front().k_norm.width;
  if (width > config.head_dim && width != config.hidden_size) {
    return fmt::format(
        "the norm of k has {} channels ({} of {} heads hold keys), which llama.cpp's {} has only as many as "
        "hidden_size ({})",
        width, config.num_kv_heads, config.num_heads, family.architecture, config.hidden_size);
  }
  if (config.qkv_clip)
    return fmt::format("clip_qkv {:g}, which llama.cpp's {} has no key for", *config.qkv_clip,
                       family.architecture);
  if (config.rope.rotary_dim != config.head_dim && !family.rope_factors)
    return "only a part of a head's channels turns, which this architecture has no key for";
  return std::nullopt;
}

}  // namespace

std::optional<std::string> gguf_refuses(const ModelGraph& graph) {
  const ModelConfig& config = graph.config;
  const GgufFamily* family = find_gguf_family(config.model_type);
  if (family == nullptr) {
    std::vector<std::string_view> known;
    for (const GgufFamily& row : gguf_families()) known.push_back(row.model_type);
    return fmt::format("model_type {} has no GGUF map in Lathe yet; known: {}", config.model_type,
                       fmt::join(known, ", "));
  }
  if (config.activation != family->activation)
    return fmt::format("activation {}: llama.cpp's {} has {}", config.activation, family->architecture,
                       family->activation);
  if (family->architecture == "gemma2" && !config.tie_word_embeddings)
    return "a head of its own, which llama.cpp's gemma2 has no place for";
  for (const auto& problem :
       {rope_problem(*family, config.rope, false),
        config.local_rope ? rope_problem(*family, *config.local_rope, true) : std::nullopt,
        shape_problem(*family, graph), experts_problem(*family, graph), scale_problem(*family, config),
        window_problem(*family, graph), bias_problem(*family, graph.blocks.front())}) {
    if (problem) return problem;
  }
  return std::nullopt;
}

std::vector<std::string> gguf_warnings(const ModelGraph& graph) {
  const GgufFamily* family = find_gguf_family(graph.config.model_type);
  LATHE_ASSERT(family != nullptr, "GGUF: family {}", graph.config.model_type);
  std::vector<std::string> warnings;
  if (graph.config.sliding_window && !family->windows) {
    warnings.push_back(
        fmt::format("llama.cpp runs {} without its sliding window: what it computes differs beyond {} tokens",
                    graph.config.model_type, *graph.config.sliding_window));
  }
  if (graph.config.rope.type == RopeConfig::Type::longrope) {
    warnings.push_back(fmt::format(
        "llama.cpp takes LongRoPE's long_factor wherever the context it was asked for is above {} "
        "tokens, transformers where the text is",
        graph.config.rope.original_max_position));
  }
  return warnings;
}

}  // namespace lathe
