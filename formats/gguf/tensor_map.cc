#include "formats/gguf/tensor_map.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr const char *kLongFactors = "rope_factors_long.weight", *kShortFactors = "rope_factors_short.weight";

std::string_view part_name(LinearRole role) {
  switch (role) {
    case LinearRole::q_proj:
      return "attn_q";
    case LinearRole::k_proj:
      return "attn_k";
    case LinearRole::v_proj:
      return "attn_v";
    case LinearRole::qkv_proj:
      return "attn_qkv";
    case LinearRole::o_proj:
      return "attn_output";
    case LinearRole::gate_proj:
      return "ffn_gate";
    case LinearRole::up_proj:
    case LinearRole::gate_up_proj:
      return "ffn_up";  // with gate's rows first where it is both
    case LinearRole::down_proj:
      return "ffn_down";
    case LinearRole::router:
      return "ffn_gate_inp";
    case LinearRole::shared_expert_gate:
      return "ffn_gate_inp_shexp";
    default:
      internal_error("GGUF: no name for {}", name_of(role));
  }
}

std::string block_name(const Linear& linear) {
  std::string name(part_name(linear.role));
  if (linear.input.expert) return name + "_exps";
  return linear.shared_expert ? name + "_shexp" : name;
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
int64_t heads_of(const GgufFamily& family, const ModelConfig& config, LinearRole role) {
  if (!family.interleaved) return 0;
  if (role == LinearRole::q_proj) return config.num_heads;
  return role == LinearRole::k_proj ? config.num_kv_heads : 0;
}

void add_linear(const GgufFamily& family, const ModelConfig& config, const Block& block, const Linear& linear,
                std::vector<GgufTensorRule>& rules) {
  const std::string name = fmt::format("blk.{}.{}", block.index, block_name(linear));
  const int64_t heads = heads_of(family, config, linear.role);
  const bool shared_gate = linear.role == LinearRole::shared_expert_gate;
  rules.push_back({.hf = linear.name + ".weight",
                   .gguf = name + ".weight",
                   .shape = {linear.out, linear.in},
                   .layer = block.index,
                   .heads = heads,
                   .linear = linear.name,
                   .expert = linear.input.expert.value_or(0),
                   .experts = linear.input.expert ? block.experts->count : 0,
                   .plain = shared_gate || linear.role == LinearRole::router,
                   .vector_in_file = shared_gate});
  if (!linear.bias) return;
  rules.push_back({.hf = linear.name + ".bias",
                   .gguf = name + ".bias",
                   .shape = {linear.out},
                   .layer = block.index,
                   .heads = heads});
}

void add_block(const GgufFamily& family, const ModelConfig& config, const Block& block,
               std::vector<GgufTensorRule>& rules) {
  const std::string prefix = fmt::format("blk.{}.", block.index);
  // Gemma's norm after attention has a place of its own; the others call the one before the MLP so.
  add_norm(block.attention_norm, prefix + "attn_norm", block.index, rules);
  add_norm(block.mlp_norm, prefix + "ffn_norm", block.index, rules);
  add_norm(block.attention_out_norm, prefix + "post_attention_norm", block.index, rules);
  add_norm(block.mlp_out_norm, prefix + "post_ffw_norm", block.index, rules);
  add_norm(block.q_norm, prefix + "attn_q_norm", block.index, rules);
  add_norm(block.k_norm, prefix + "attn_k_norm", block.index, rules);
  for (const Linear& linear : block.linears) add_linear(family, config, block, linear, rules);
}

/// The tensors that say how frequencies are stretched.
void add_rope(const RopeConfig& rope, std::vector<GgufTensorRule>& rules) {
  std::vector<const char*> names;
  if (rope.type == RopeConfig::Type::llama3) names = {"rope_freqs.weight"};
  if (rope.type == RopeConfig::Type::longrope) names = {kLongFactors, kShortFactors};
  for (const char* name : names) rules.push_back({.hf = "", .gguf = name, .shape = {rope.rotary_dim / 2}});
}

at::Tensor llama3_divisors(const RopeConfig& rope) {
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

}  // namespace

std::vector<int64_t> GgufTensorRule::file_shape() const {
  if (vector_in_file) return {shape.back()};
  std::vector<int64_t> sizes = shape;
  if (experts > 0) sizes.insert(sizes.begin(), experts);
  return sizes;
}

std::vector<GgufTensorRule> gguf_tensors(const ModelGraph& graph) {
  const ModelConfig& config = graph.config;
  const GgufFamily* family = find_gguf_family(config.model_type);
  LATHE_ASSERT(family != nullptr, "GGUF: family {}", config.model_type);
  std::vector<GgufTensorRule> rules;
  rules.push_back({.hf = graph.embedding + ".weight",
                   .gguf = "token_embd.weight",
                   .shape = {config.vocab_size, config.hidden_size}});
  add_norm(graph.final_norm(), "output_norm", -1, rules);
  add_rope(config.rope, rules);
  if (!config.tie_word_embeddings) {
    rules.push_back({.hf = graph.lm_head().name + ".weight",
                     .gguf = "output.weight",
                     .shape = {graph.lm_head().out, graph.lm_head().in}});
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

at::Tensor rope_divisors(const RopeConfig& rope, std::string_view tensor) {
  if (rope.type == RopeConfig::Type::llama3) return llama3_divisors(rope);
  LATHE_ASSERT(rope.type == RopeConfig::Type::longrope, "GGUF: {} of another rope type", tensor);
  const std::vector<double>& list = tensor == kLongFactors ? rope.long_factor : rope.short_factor;
  return at::tensor(at::ArrayRef<double>(list)).to(at::kFloat);
}

}  // namespace lathe
