// config.json of a small model of one of the families that GGUF knows.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace lathe::test {

inline nlohmann::json small_config(const std::string& family, int vocab, int intermediate, int layers) {
  nlohmann::json config = {{"model_type", family},
                           {"architectures", {"XForCausalLM"}},
                           {"vocab_size", vocab},
                           {"hidden_size", 32},
                           {"intermediate_size", intermediate},
                           {"num_hidden_layers", layers},
                           {"num_attention_heads", 4},
                           {"num_key_value_heads", 2},
                           {"head_dim", 8},
                           {"max_position_embeddings", 128},
                           {"rms_norm_eps", 1e-5},
                           {"tie_word_embeddings", family.starts_with("gemma")},
                           {"dtype", "float16"}};
  if (family.starts_with("gemma")) config["query_pre_attn_scalar"] = 8;
  return config;
}

}  // namespace lathe::test
