#include "lib/model/arch/decoder.h"

#include <fmt/format.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

std::string joined(std::string_view prefix, std::string_view name) {
  return fmt::format("{}.{}", prefix, name);
}

std::vector<Linear> attention_linears(const DecoderFamily& family, const ModelConfig& config,
                                      const std::string& prefix) {
  const int64_t hidden = config.hidden_size;
  const int64_t q = config.num_heads * config.head_dim, kv = config.num_kv_heads * config.head_dim;
  const bool qkv_bias = has_bias(family.qkv_bias, config.attention_bias);
  const bool o_bias = has_bias(family.o_bias, config.attention_bias);
  const auto linear = [&](LinearRole role, Slot slot, int64_t out, int64_t in, bool bias) {
    return Linear{.name = joined(joined(prefix, family.names.attention), name_of(role)),
                  .role = role,
                  .input = {slot, std::nullopt},
                  .out = out,
                  .in = in,
                  .bias = bias};
  };
  const Linear o = linear(LinearRole::o_proj, Slot::attention_out, hidden, q, o_bias);
  if (family.fused) {
    return {linear(LinearRole::qkv_proj, Slot::attention_in, q + 2 * kv, hidden, qkv_bias), o};
  }
  return {linear(LinearRole::q_proj, Slot::attention_in, q, hidden, qkv_bias),
          linear(LinearRole::k_proj, Slot::attention_in, kv, hidden, qkv_bias),
          linear(LinearRole::v_proj, Slot::attention_in, kv, hidden, qkv_bias), o};
}

void add_norms(const DecoderFamily& family, const ModelConfig& config, Block& block) {
  const DecoderNames& names = family.names;
  const auto norm = [&](std::string_view name, int64_t width) {
    return name.empty() ? Norm{} : Norm{joined(block.prefix, name), width, family.norms_one_plus};
  };
  block.attention_norm = norm(names.attention_norm, config.hidden_size);
  block.mlp_norm = norm(names.mlp_norm, config.hidden_size);
  block.attention_out_norm = norm(names.attention_out_norm, config.hidden_size);
  block.mlp_out_norm = norm(names.mlp_out_norm, config.hidden_size);
  if (family.qk_norm == QkNorm::none) return;
  const bool all = family.qk_norm == QkNorm::all_heads;
  block.q_norm = norm(names.q_norm, config.head_dim * (all ? config.num_heads : 1));
  block.k_norm = norm(names.k_norm, config.head_dim * (all ? config.num_kv_heads : 1));
}

void add_experts(const ModelConfig& config, Block& block) {
  if (!config.experts || !config.experts->layers.at(block.index)) return;
  const ExpertsConfig& experts = *config.experts;
  block.experts = {experts.count, experts.per_token, experts.normalise};
}

Block decoder_block(const DecoderFamily& family, const ModelConfig& config, int64_t index) {
  Block block;
  block.index = index;
  block.prefix = fmt::format("{}.{}", family.names.blocks, index);
  add_norms(family, config, block);
  add_experts(config, block);
  block.attention_scale = config.attention_scale;
  block.attention_softcap = config.attention_softcap;
  block.qkv_clip = config.qkv_clip;
  const bool slides = config.layer_slides.empty() || config.layer_slides.at(index);
  if (slides) block.sliding_window = config.sliding_window;
  block.local_rope = slides && config.local_rope.has_value();
  block.linears = attention_linears(family, config, block.prefix);
  for (Linear& linear : mlp_linears(family, config, block)) block.linears.push_back(std::move(linear));
  block.edges = decoder_edges(config, block);
  return block;
}

}  // namespace

ModelGraph build_decoder(const DecoderFamily& family, const ModelConfig& config) {
  LATHE_ASSERT(config.layer_slides.empty() || std::ssize(config.layer_slides) == config.num_layers,
               "{} window flags for {} layers", config.layer_slides.size(), config.num_layers);
  ModelGraph graph;
  graph.config = config;
  graph.embedding = family.names.embedding;
  graph.head.index = config.num_layers;
  graph.head.prefix = std::string(family.names.lm_head);
  graph.head.attention_norm = {std::string(family.names.final_norm), config.hidden_size,
                               family.norms_one_plus};
  graph.head.linears = {{.name = graph.head.prefix,
                         .role = LinearRole::lm_head,
                         .input = {Slot::head_in, std::nullopt},
                         .out = config.vocab_size,
                         .in = config.hidden_size}};
  graph.spellings = family.nesting.spellings;
  graph.untouched.assign(family.nesting.untouched.begin(), family.nesting.untouched.end());
  graph.blocks.reserve(config.num_layers);
  for (int64_t i = 0; i < config.num_layers; ++i) graph.blocks.push_back(decoder_block(family, config, i));
  return graph;
}

}  // namespace lathe
