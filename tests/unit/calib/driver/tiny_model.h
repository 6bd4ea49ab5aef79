// A random model in memory, for tests of the driver: no files.
#pragma once

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "lib/model/graph.h"
#include "lib/model/weight_source.h"

namespace lathe::testing {

class MemoryWeights : public WeightSource {
 public:
  bool contains(const std::string& name) const override { return tensors.contains(name); }
  at::Tensor load(const std::string& name) const override { return tensors.at(name).clone(); }
  std::map<std::string, at::Tensor> tensors;
};

/// GQA 4/2, biases on q/k/v, F32, so that rounding of folded norms doesn't hide errors of the fold itself.
inline ModelGraph tiny_graph(const std::string& dtype = "float32") {
  const nlohmann::json config = {{"model_type", "qwen2"},
                                 {"hidden_size", 64},
                                 {"intermediate_size", 96},
                                 {"num_hidden_layers", 2},
                                 {"num_attention_heads", 4},
                                 {"num_key_value_heads", 2},
                                 {"vocab_size", 50},
                                 {"rms_norm_eps", 1e-5},
                                 {"max_position_embeddings", 64},
                                 {"tie_word_embeddings", false},
                                 {"hidden_act", "silu"},
                                 {"torch_dtype", dtype},
                                 {"rope_theta", 10000.0}};
  return build_graph(parse_model_config(config, "config.json"));
}

inline MemoryWeights random_weights(const ModelGraph& graph, uint64_t seed) {
  at::manual_seed(seed);
  MemoryWeights weights;
  for (const auto& [name, shape] : graph.expected_tensors()) {
    at::Tensor values = at::randn(shape);
    if (shape.size() == 2) values /= std::sqrt(static_cast<double>(shape[1]));
    if (name.find("norm") != std::string::npos) values = values.abs() + 0.5;
    weights.tensors[name] = values.to(at::kHalf).to(at::kFloat);
  }
  return weights;
}

}  // namespace lathe::testing
