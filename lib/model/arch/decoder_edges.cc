// The places where a scale moves without changing the function. Attention mixes tokens, not channels, so that
// v's channel scales pass through it (a clip on v would not let them); the gated MLP is linear in up's
// output, not in gate's; an expert's output is weighted token by token, which no channel scale notices.
#include "lib/base/error.h"
#include "lib/model/arch/decoder.h"

namespace lathe {
namespace {

using Producer = ScaleEdge::Producer;

ScaleEdge norm_edge(const Norm& norm, Slot slot) {
  return {.producer_kind = Producer::norm, .producer = norm.name, .input = {slot, std::nullopt}};
}

/// From v's rows to o's columns.
ScaleEdge value_edge(const ModelConfig& config, const Block& block) {
  const int64_t repeat = config.num_heads / config.num_kv_heads;
  const Linear* fused = block.find(LinearRole::qkv_proj);
  return {
      .producer_kind = Producer::linear,
      .producer = fused != nullptr ? fused->name : block.find(LinearRole::v_proj)->name,
      .input = {Slot::attention_out, std::nullopt},
      .repeat = repeat,
      .head_dim = repeat > 1 ? config.head_dim : 0,
      .first_row = fused != nullptr ? (config.num_heads + config.num_kv_heads) * config.head_dim : 0,
      .closed = block.qkv_clip ? "clip_qkv clamps the values, and would clamp scaled ones elsewhere" : ""};
}

/// From up's rows to down's columns, of the dense MLP, the shared expert or a routed one.
ScaleEdge mid_edge(const Block& block, const Linear& down) {
  const Linear* fused = block.find(LinearRole::gate_up_proj, down.input.expert);
  const Linear* up = fused != nullptr ? fused : block.find(LinearRole::up_proj, down.input.expert);
  LATHE_ASSERT(up != nullptr, "{} has no up_proj before {}", block.prefix, down.name);
  return {.producer_kind = Producer::linear,
          .producer = up->name,
          .input = down.input,
          .first_row = fused != nullptr ? down.in : 0};
}

}  // namespace

std::vector<ScaleEdge> decoder_edges(const ModelConfig& config, const Block& block) {
  std::vector<ScaleEdge> edges = {norm_edge(block.attention_norm, Slot::attention_in),
                                  value_edge(config, block), norm_edge(block.mlp_norm, Slot::mlp_in)};
  for (const Linear& linear : block.linears) {
    if (linear.role == LinearRole::down_proj) edges.push_back(mid_edge(block, linear));
  }
  return edges;
}

}  // namespace lathe
