#include "formats/gguf/tensor_map.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "lib/base/error.h"

namespace lathe {
namespace {

struct Family {
  std::string_view model_type, architecture;
  bool interleaved = false;  // rows of q and k
  bool attention_bias = false, other_bias = false;
  std::string_view activation = "silu";
  bool windows = false;             // the architecture has a sliding window
  int64_t window_period = 0;        // layers n - 1, 2 n - 1, ... see all tokens
  int64_t widest_scale_layers = 0;  // with so many layers, the scale of q k^T is that of hidden / heads
};

constexpr std::array<Family, 6> kFamilies = {{
    {.model_type = "llama",
     .architecture = "llama",
     .interleaved = true,
     .attention_bias = true,
     .other_bias = true},
    {.model_type = "mistral", .architecture = "llama", .interleaved = true},
    {.model_type = "qwen2", .architecture = "qwen2", .attention_bias = true},
    {.model_type = "qwen3", .architecture = "qwen3"},
    {.model_type = "gemma2",
     .architecture = "gemma2",
     .activation = "gelu_pytorch_tanh",
     .windows = true,
     .window_period = 2,
     .widest_scale_layers = 46},
    {.model_type = "gemma3_text",
     .architecture = "gemma3",
     .activation = "gelu_pytorch_tanh",
     .windows = true,
     .window_period = 6,
     .widest_scale_layers = 62},
}};

const Family* find(const std::string& model_type) {
  const auto row = std::ranges::find(kFamilies, model_type, &Family::model_type);
  return row == kFamilies.end() ? nullptr : &*row;
}

std::string_view block_name(LinearRole role) {
  switch (role) {
    case LinearRole::q_proj:
      return "attn_q";
    case LinearRole::k_proj:
      return "attn_k";
    case LinearRole::v_proj:
      return "attn_v";
    case LinearRole::o_proj:
      return "attn_output";
    case LinearRole::gate_proj:
      return "ffn_gate";
    case LinearRole::up_proj:
      return "ffn_up";
    case LinearRole::down_proj:
      return "ffn_down";
    default:
      internal_error("GGUF: no name for {}", name_of(role));
  }
}

void add_norm(const Norm& norm, const std::string& name, int64_t layer, std::vector<GgufTensorRule>& rules) {
  if (norm.name.empty()) return;
  rules.push_back({.hf = norm.name + ".weight",
                   .gguf = name + ".weight",
                   .shape = {norm.width},
                   .layer = layer,
                   .plus_one = norm.one_plus});
}

/// Heads whose rows are interleaved; 0: none.
int64_t heads_of(const Family& family, const ModelConfig& config, LinearRole role) {
  if (!family.interleaved) return 0;
  if (role == LinearRole::q_proj) return config.num_heads;
  return role == LinearRole::k_proj ? config.num_kv_heads : 0;
}

void add_block(const Family& family, const ModelConfig& config, const Block& block,
               std::vector<GgufTensorRule>& rules) {
  const std::string prefix = fmt::format("blk.{}.", block.index);
  // Gemma's norm after attention has a place of its own; the others call the one before the MLP so.
  add_norm(block.attention_norm, prefix + "attn_norm", block.index, rules);
  add_norm(block.mlp_norm, prefix + "ffn_norm", block.index, rules);
  add_norm(block.attention_out_norm, prefix + "post_attention_norm", block.index, rules);
  add_norm(block.mlp_out_norm, prefix + "post_ffw_norm", block.index, rules);
  add_norm(block.q_norm, prefix + "attn_q_norm", block.index, rules);
  add_norm(block.k_norm, prefix + "attn_k_norm", block.index, rules);
  for (const Linear& linear : block.linears) {
    const std::string name = prefix + std::string(block_name(linear.role));
    const int64_t heads = heads_of(family, config, linear.role);
    rules.push_back({.hf = linear.name + ".weight",
                     .gguf = name + ".weight",
                     .shape = {linear.out, linear.in},
                     .layer = block.index,
                     .heads = heads,
                     .linear = linear.name});
    if (!linear.bias) continue;
    rules.push_back({.hf = linear.name + ".bias",
                     .gguf = name + ".bias",
                     .shape = {linear.out},
                     .layer = block.index,
                     .heads = heads});
  }
}

std::optional<std::string> bias_problem(const Family& family, const Block& block) {
  for (const Linear& linear : block.linears) {
    const bool attention = linear.input.slot == Slot::attention_in;
    if (linear.bias && !(attention ? family.attention_bias : family.other_bias))
      return fmt::format("{} has a bias, which llama.cpp's {} has no place for", linear.name,
                         family.architecture);
  }
  return std::nullopt;
}

/// llama.cpp has the scale of scores as a rule by family, not as a key.
std::optional<std::string> scale_problem(const Family& family, const ModelConfig& config) {
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
std::optional<std::string> window_problem(const Family& family, const ModelGraph& graph) {
  if (family.window_period == 0) return std::nullopt;
  for (const Block& block : graph.blocks) {
    const bool slides = block.index % family.window_period < family.window_period - 1;
    if (slides == block.sliding_window.has_value()) continue;
    return fmt::format("layer {} {} a sliding window, but llama.cpp's {} lets every {}. layer see all tokens",
                       block.index, slides ? "has no" : "has", family.architecture, family.window_period);
  }
  return std::nullopt;
}

std::optional<std::string> rope_problem(const RopeConfig& rope, bool local) {
  using Type = RopeConfig::Type;
  const bool plain = rope.type == Type::default_;
  if (local && !plain) return "layers with a sliding window scale their rotary embedding, which has no key";
  if (plain || rope.type == Type::linear || rope.type == Type::llama3) return std::nullopt;
  if (rope.type == Type::yarn) {
    if (rope.mscale || rope.mscale_all_dim || rope.attention_factor || !rope.truncate)
      return "yarn with mscale, mscale_all_dim, attention_factor or truncate: false, which has no key";
    return std::nullopt;
  }
  return rope.type == Type::dynamic ? "dynamic rope scaling, which llama.cpp doesn't have"
                                    : "longrope, which llama.cpp has for phi3 only";
}

}  // namespace

std::optional<std::string_view> gguf_architecture(const std::string& model_type) {
  const Family* family = find(model_type);
  return family == nullptr ? std::nullopt : std::optional(family->architecture);
}

std::optional<std::string_view> model_type_of_architecture(const std::string& architecture) {
  const auto row = std::ranges::find(kFamilies, architecture, &Family::architecture);
  return row == kFamilies.end() ? std::nullopt : std::optional(row->model_type);
}

std::vector<GgufTensorRule> gguf_tensors(const ModelGraph& graph) {
  const ModelConfig& config = graph.config;
  const Family* family = find(config.model_type);
  LATHE_ASSERT(family != nullptr, "GGUF: family {}", config.model_type);
  std::vector<GgufTensorRule> rules;
  rules.push_back({.hf = graph.embedding + ".weight",
                   .gguf = "token_embd.weight",
                   .shape = {config.vocab_size, config.hidden_size}});
  add_norm(graph.final_norm, "output_norm", -1, rules);
  if (config.rope.type == RopeConfig::Type::llama3)
    rules.push_back({.hf = "", .gguf = "rope_freqs.weight", .shape = {config.rope.rotary_dim / 2}});
  if (!config.tie_word_embeddings) {
    rules.push_back({.hf = graph.lm_head.name + ".weight",
                     .gguf = "output.weight",
                     .shape = {graph.lm_head.out, graph.lm_head.in}});
  }
  for (const Block& block : graph.blocks) add_block(*family, config, block, rules);
  return rules;
}

at::Tensor halved_rows(int64_t rows, int64_t heads) {
  // Row h of half, k: stands in the file at 2 k + h.
  return at::arange(rows).view({heads, -1, 2}).transpose(1, 2).reshape(-1);
}

at::Tensor interleaved_rows(int64_t rows, int64_t heads) {
  return at::arange(rows).view({heads, 2, -1}).transpose(1, 2).reshape(-1);
}

at::Tensor rope_divisors(const RopeConfig& rope) {
  if (rope.type != RopeConfig::Type::llama3) return {};
  const double length = static_cast<double>(rope.original_max_position);
  at::Tensor divisors = at::ones({rope.rotary_dim / 2}, at::kFloat);
  for (int64_t i = 0; i < rope.rotary_dim / 2; ++i) {
    // As the converter: FP32 powers and frequencies, the rest in double precision.
    const auto exponent = static_cast<float>(2 * i) / static_cast<float>(rope.rotary_dim);
    const auto frequency = 1.0f / std::pow(static_cast<float>(rope.theta), exponent);
    const double wavelength = 2 * std::numbers::pi / static_cast<double>(frequency);
    double divisor = 1;
    if (wavelength > length / rope.low_freq_factor) {
      divisor = rope.factor;
    } else if (wavelength >= length / rope.high_freq_factor) {
      const double smooth =
          (length / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      divisor = 1 / ((1 - smooth) / rope.factor + smooth);
    }
    divisors.data_ptr<float>()[i] = static_cast<float>(divisor);
  }
  return divisors;
}

std::optional<std::string> gguf_refuses(const ModelGraph& graph) {
  const ModelConfig& config = graph.config;
  const Family* family = find(config.model_type);
  if (family == nullptr) {
    return fmt::format(
        "model_type {} has no GGUF map in Lathe yet; it has llama, mistral, qwen2, qwen3, gemma2 and "
        "gemma3_text",
        config.model_type);
  }
  if (config.activation != family->activation)
    return fmt::format("activation {}: llama.cpp's {} has {}", config.activation, family->architecture,
                       family->activation);
  if (family->architecture == "gemma2" && !config.tie_word_embeddings)
    return "a head of its own, which llama.cpp's gemma2 has no place for";
  if (config.rope.rotary_dim != config.head_dim)
    return "only a part of a head's channels turns, which this architecture has no key for";
  for (const auto& problem : {rope_problem(config.rope, false),
                              config.local_rope ? rope_problem(*config.local_rope, true) : std::nullopt,
                              scale_problem(*family, config), window_problem(*family, graph),
                              bias_problem(*family, graph.blocks.front())}) {
    if (problem) return problem;
  }
  return std::nullopt;
}

std::vector<std::string> gguf_warnings(const ModelGraph& graph) {
  const Family* family = find(graph.config.model_type);
  LATHE_ASSERT(family != nullptr, "GGUF: family {}", graph.config.model_type);
  std::vector<std::string> warnings;
  if (graph.config.sliding_window && !family->windows) {
    warnings.push_back(
        fmt::format("llama.cpp runs {} without its sliding window: what it computes differs beyond {} tokens",
                    graph.config.model_type, *graph.config.sliding_window));
  }
  return warnings;
}

}  // namespace lathe
