// Small models for these tests: a config as JSON, random weights of its shapes, and one block ready to run.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "lib/base/error.h"
#include "lib/model/forward.h"

namespace lathe {

/// A valid config: 4 query heads on 2 KV heads of 8 channels, 2 layers.
inline nlohmann::json small_config(const std::string& model_type = "llama") {
  return {{"model_type", model_type},
          {"vocab_size", 40},
          {"hidden_size", 32},
          {"intermediate_size", 48},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 8},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"torch_dtype", "float16"},
          {"rope_theta", 10000.0},
          {"attention_bias", false},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", false}};
}

/// small_config() with keys replaced or (null) set to null.
inline nlohmann::json with(nlohmann::json config, const nlohmann::json& changes) {
  config.update(changes);
  return config;
}

/// A small model of any family. What is special about the family is on: windows, soft caps, a partial
/// rotation, experts (4, of which 2 a token, 24 channels wide) and dense layers between them.
inline nlohmann::json family_config(const std::string& model_type) {
  if (model_type == "gemma3") {
    return {{"model_type", model_type},
            {"torch_dtype", "float16"},
            {"tie_word_embeddings", false},
            {"text_config", family_config("gemma3_text")}};
  }
  const nlohmann::json experts = {
      {"num_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 24}};
  const std::map<std::string, nlohmann::json> special = {
      {"mistral", {{"sliding_window", 3}}},
      {"gemma2",
       {{"sliding_window", 3},
        {"query_pre_attn_scalar", 12},
        {"attn_logit_softcapping", 2.0},
        {"final_logit_softcapping", 3.0}}},
      {"gemma3_text",
       {{"sliding_window", 3},
        {"sliding_window_pattern", 2},
        {"query_pre_attn_scalar", 12},
        {"rope_local_base_freq", 100.0}}},
      {"phi3", {{"partial_rotary_factor", 0.5}, {"sliding_window", 5}}},
      {"mixtral", {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"sliding_window", 6}}},
      {"qwen2_moe", with(experts, {{"shared_expert_intermediate_size", 40}})},
      {"qwen3_moe", with(experts, {{"norm_topk_prob", true}})},
      {"olmoe", with(experts, {{"norm_topk_prob", true}})},
  };
  const auto found = special.find(model_type);
  return found == special.end() ? small_config(model_type) : with(small_config(model_type), found->second);
}

/// Every family that there is.
inline std::vector<std::string> all_families() {
  std::vector<std::string> names;
  for (const FamilyInfo& info : supported_families()) names.push_back(info.model_type);
  return names;
}

inline ModelGraph graph_of(const nlohmann::json& config) {
  return build_graph(parse_model_config(config, "config.json"));
}

/// The message of the UserError that `call` throws.
template <class Call>
std::string user_error_of(Call&& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no UserError";
  return "";
}

/// Random weights of a graph: norms around one, biases not zero, linears that keep their input's scale.
class RandomWeights : public WeightSource {
 public:
  explicit RandomWeights(const ModelGraph& graph, uint64_t seed = 0) {
    at::manual_seed(seed);
    for (const auto& [name, shape] : graph.expected_tensors()) {
      const at::Tensor noise = at::randn(shape, at::kFloat);
      const bool norm = name.find("norm") != std::string::npos;
      const double centre = graph.final_norm().one_plus ? 0.0 : 1.0;
      if (shape.size() == 2) {
        tensors_[name] = noise / std::sqrt(static_cast<double>(shape[1]));
      } else {
        tensors_[name] = norm ? centre + 0.3 * noise : 0.5 * noise;
      }
    }
  }
  bool contains(const std::string& name) const override { return tensors_.contains(name); }
  at::Tensor load(const std::string& name) const override { return tensors_.at(name).clone(); }

 private:
  std::map<std::string, at::Tensor> tensors_;
};

/// A graph and the weights of its first block, which tests may change.
struct SmallModel {
  explicit SmallModel(const nlohmann::json& config)
      : graph(graph_of(config)), source(graph), weights(block(), source, at::kCPU) {}

  const Block& block() const { return graph.blocks[0]; }
  at::Tensor run(const at::Tensor& hidden) const {
    const RopeTables rope = rope_tables(graph.config, hidden.size(1), at::kCPU);
    return BlockForward(graph.config, block(), weights, rope).run(hidden);
  }

  ModelGraph graph;
  RandomWeights source;
  BlockWeights weights;
};

inline at::Tensor random_hidden(int64_t batch, int64_t seq, int64_t hidden = 32) {
  at::manual_seed(7);
  return at::randn({batch, seq, hidden}, at::kFloat);
}

/// max |a - b| / max |b|
inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

}  // namespace lathe
