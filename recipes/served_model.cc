#include "recipes/served_model.h"

#include <cmath>

namespace lathe {
namespace {

uint64_t beside_weights(const ServedModel& model, int64_t context, int64_t batch, int cache_bits) {
  return kv_cache_bytes(model, context, batch, cache_bits) + activation_bytes(model, context, batch);
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
  model.attention = config.num_heads * config.head_dim;
  model.kv = config.num_kv_heads * config.head_dim;
  model.floating = model.parameters;
  for (const Block& block : graph.blocks) {
    model.cache.push_back({2 * model.kv, block.sliding_window.value_or(0)});
    for (const Linear& linear : block.linears) {
      if (linear.role == LinearRole::router || linear.role == LinearRole::shared_expert_gate) continue;
      model.linears.push_back({linear.out, linear.in});
      model.floating -= linear.out * linear.in;
    }
  }
  return model;
}

int64_t room_for_weights(const ServedModel& model, uint64_t memory, int64_t context, int64_t batch,
                         int cache_bits) {
  return static_cast<int64_t>(kServerShare * static_cast<double>(memory)) -
         static_cast<int64_t>(beside_weights(model, context, batch, cache_bits));
}

uint64_t least_memory(const ServedModel& model, uint64_t weights, int64_t context, int64_t batch,
                      int cache_bits) {
  const auto sum = static_cast<double>(weights + beside_weights(model, context, batch, cache_bits));
  auto memory = static_cast<uint64_t>(std::ceil(sum / kServerShare));
  while (room_for_weights(model, memory, context, batch, cache_bits) < static_cast<int64_t>(weights))
    ++memory;
  return memory;
}

}  // namespace lathe
