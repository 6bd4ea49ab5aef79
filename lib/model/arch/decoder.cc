#include "lib/model/arch/decoder.h"

#include <fmt/format.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

std::string joined(std::string_view prefix, std::string_view name) {
  return fmt::format("{}.{}", prefix, name);
}

std::vector<Linear> decoder_linears(const DecoderFamily& family, const ModelConfig& config,
                                    const std::string& prefix) {
  const int64_t hidden = config.hidden_size, ffn = config.intermediate_size;
  const int64_t q = config.num_heads * config.head_dim, kv = config.num_kv_heads * config.head_dim;
  const bool qkv_bias = has_bias(family.qkv_bias, config.attention_bias);
  const bool o_bias = has_bias(family.o_bias, config.attention_bias);
  const bool mlp_bias = has_bias(family.mlp_bias, config.mlp_bias);
  const auto linear = [&](std::string_view part, LinearRole role, Slot slot, int64_t out, int64_t in,
                          bool bias) {
    return Linear{joined(joined(prefix, part), name_of(role)), role, slot, out, in, bias};
  };
  const std::string_view attention = family.names.attention, mlp = family.names.mlp;
  return {
      linear(attention, LinearRole::q_proj, Slot::attention_in, q, hidden, qkv_bias),
      linear(attention, LinearRole::k_proj, Slot::attention_in, kv, hidden, qkv_bias),
      linear(attention, LinearRole::v_proj, Slot::attention_in, kv, hidden, qkv_bias),
      linear(attention, LinearRole::o_proj, Slot::attention_out, hidden, q, o_bias),
      linear(mlp, LinearRole::gate_proj, Slot::mlp_in, ffn, hidden, mlp_bias),
      linear(mlp, LinearRole::up_proj, Slot::mlp_in, ffn, hidden, mlp_bias),
      linear(mlp, LinearRole::down_proj, Slot::mlp_mid, hidden, ffn, mlp_bias),
  };
}

// The four places where a scale moves without changing the function. Attention mixes tokens, not channels, so
// that v's channel scales pass through it; the gated MLP is linear in up's output, not in gate's.
std::vector<ScaleEdge> decoder_edges(const ModelConfig& config, const Block& block) {
  using Producer = ScaleEdge::Producer;
  const int64_t repeat = config.num_heads / config.num_kv_heads;
  return {
      {Producer::norm, block.attention_norm.name, Slot::attention_in},
      {Producer::linear, block.find(LinearRole::v_proj)->name, Slot::attention_out, repeat,
       repeat > 1 ? config.head_dim : 0},
      {Producer::norm, block.mlp_norm.name, Slot::mlp_in},
      {Producer::linear, block.find(LinearRole::up_proj)->name, Slot::mlp_mid},
  };
}

Block decoder_block(const DecoderFamily& family, const ModelConfig& config, int64_t index) {
  const DecoderNames& names = family.names;
  Block block;
  block.index = index;
  block.prefix = fmt::format("{}.{}", names.blocks, index);
  block.attention_norm = {joined(block.prefix, names.attention_norm), config.hidden_size};
  block.mlp_norm = {joined(block.prefix, names.mlp_norm), config.hidden_size};
  if (family.qk_norm) {
    block.q_norm = {joined(block.prefix, names.q_norm), config.head_dim};
    block.k_norm = {joined(block.prefix, names.k_norm), config.head_dim};
  }
  const bool slides = config.layer_slides.empty() || config.layer_slides.at(index);
  if (slides) block.sliding_window = config.sliding_window;
  block.linears = decoder_linears(family, config, block.prefix);
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
  graph.final_norm = {std::string(family.names.final_norm), config.hidden_size};
  graph.lm_head = {std::string(family.names.lm_head),
                   LinearRole::lm_head,
                   Slot::attention_in,
                   config.vocab_size,
                   config.hidden_size,
                   false};
  graph.blocks.reserve(config.num_layers);
  for (int64_t i = 0; i < config.num_layers; ++i) graph.blocks.push_back(decoder_block(family, config, i));
  return graph;
}

}  // namespace lathe
