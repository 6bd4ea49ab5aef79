#include "recipes/served_model.h"

#include <algorithm>
#include <cmath>

namespace lathe {
namespace {

constexpr double kMostPositions = 0x1p52;

uint64_t beside_weights(const ServedModel& model, int64_t context, int64_t batch, double cache_bits) {
  return kv_cache_bytes(model, context, batch, cache_bits) + activation_bytes(model, context, batch);
}

/// As vLLM counts them (config/model.py, _get_and_verify_max_len): these scalings' factor comes on top of
/// what config.json says, but for Gemma 3, whose number has it.
int64_t positions_of(const ModelConfig& config) {
  using Type = RopeConfig::Type;
  const RopeConfig& rope = config.rope;
  const bool scaled = rope.type == Type::linear || rope.type == Type::dynamic || rope.type == Type::yarn;
  if (!scaled || config.model_type.starts_with("gemma3")) return config.max_position;
  const bool given = rope.type == Type::yarn && rope.original_max_position > 0;
  const auto reached =
      static_cast<double>(given ? rope.original_max_position : config.max_position) * rope.factor;
  return std::max(config.max_position, static_cast<int64_t>(std::min(reached, kMostPositions)));
}

/// What the linear is when a server divides it.
ServedModel::Matrix matrix_of(const Linear& linear, int64_t kv) {
  ServedModel::Matrix matrix{.out = linear.out, .in = linear.in, .expert = linear.input.expert.has_value()};
  matrix.cut_input = linear.role == LinearRole::o_proj || linear.role == LinearRole::down_proj;
  if (linear.role == LinearRole::k_proj || linear.role == LinearRole::v_proj) matrix.kv_rows = linear.out;
  if (linear.role == LinearRole::qkv_proj) matrix.kv_rows = 2 * kv;
  return matrix;
}

/// Of all MLPs that a token goes through in a block.
int64_t mlp_width(const Block& block, int64_t experts_per_token) {
  int64_t dense = 0, expert = 0;
  for (const Linear& linear : block.linears)
    if (linear.role == LinearRole::down_proj) {
      if (linear.input.expert) {
        expert = linear.in;
      } else {
        dense += linear.in;
      }
    }
  return dense + experts_per_token * expert;
}

}  // namespace

ServedModel served_model(const ModelGraph& graph, const std::map<std::string, TensorInfo>& tensors) {
  const ModelConfig& config = graph.config;
  ServedModel model;
  model.family = config.model_type;
  for (const auto& [name, info] : tensors) model.parameters += info.numel();
  model.hidden = config.hidden_size;
  model.intermediate = config.intermediate_size;
  model.vocabulary = config.vocab_size;
  model.positions = positions_of(config);
  model.heads = config.num_heads;
  model.kv_heads = config.num_kv_heads;
  model.attention = config.num_heads * config.head_dim;
  model.kv = config.num_kv_heads * config.head_dim;
  if (config.experts) {
    model.experts = config.experts->count;
    model.experts_per_token = config.experts->per_token;
    model.intermediate = 0;
  }
  model.floating = model.parameters;
  for (const Block& block : graph.blocks) {
    model.cache.push_back({2 * model.kv, block.sliding_window.value_or(0)});
    model.intermediate = std::max(model.intermediate, mlp_width(block, model.experts_per_token));
    for (const Linear& linear : block.linears) {
      if (linear.role == LinearRole::router || linear.role == LinearRole::shared_expert_gate) continue;
      model.linears.push_back(matrix_of(linear, model.kv));
      model.floating -= linear.out * linear.in;
    }
  }
  return model;
}

int64_t room_for_weights(const ServedModel& model, uint64_t memory, int64_t context, int64_t batch,
                         double cache_bits) {
  return static_cast<int64_t>(kServerShare * static_cast<double>(memory)) -
         static_cast<int64_t>(beside_weights(model, context, batch, cache_bits));
}

uint64_t least_memory(const ServedModel& model, uint64_t weights, int64_t context, int64_t batch,
                      double cache_bits) {
  const auto sum = static_cast<double>(weights + beside_weights(model, context, batch, cache_bits));
  auto memory = static_cast<uint64_t>(std::ceil(sum / kServerShare));
  while (room_for_weights(model, memory, context, batch, cache_bits) < static_cast<int64_t>(weights))
    ++memory;
  return memory;
}

}  // namespace lathe
