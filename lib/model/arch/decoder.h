// What the supported families share: a pre-norm decoder with rotary attention and a gated MLP. A family is
// one row of plain data; build_decoder() turns a row and a config into the graph.
//
// Where other families will need more: fused weights (Phi-3's qkv_proj and gate_up_proj) become a row range
// beside Linear::name; extra norms (Gemma's pre/post feed-forward norms, its 1 + weight) become further Norm
// fields of Block with names here; experts become further linears of one Block that read Slot::mlp_in through
// a router.
#pragma once

#include <cstdint>
#include <string_view>

#include "lib/model/graph.h"

namespace lathe {

/// Where a linear's bias comes from: the family has none, always has one, or a key of config.json decides.
enum class BiasRule : uint8_t { never, always, configured };

/// Which keys of config.json limit attention to a sliding window.
enum class WindowRule : uint8_t {
  never,       // llama: such keys are ignored, as in transformers
  all_layers,  // mistral: sliding_window alone; 4096 where the key is absent, none where it is null
  per_layer,   // qwen: use_sliding_window, sliding_window, and layer_types or max_window_layers
};

/// Tensor names, relative to the block's prefix unless they are global.
struct DecoderNames {
  std::string_view embedding = "model.embed_tokens", blocks = "model.layers", final_norm = "model.norm",
                   lm_head = "lm_head";
  std::string_view attention_norm = "input_layernorm", mlp_norm = "post_attention_layernorm";
  std::string_view attention = "self_attn", mlp = "mlp";  // linears are part + "." + the role's name
  std::string_view q_norm = "self_attn.q_norm", k_norm = "self_attn.k_norm";
};

/// One family: a row.
struct DecoderFamily {
  std::string_view model_type, description;
  BiasRule qkv_bias = BiasRule::never;  // configured: attention_bias
  BiasRule o_bias = BiasRule::never;    // configured: attention_bias
  BiasRule mlp_bias = BiasRule::never;  // configured: mlp_bias
  bool qk_norm = false;                 // RMSNorm over head_dim on q and k, before the rotary embedding
  WindowRule window = WindowRule::never;
  int64_t default_head_dim = 0;  // where config.json has no head_dim; 0: hidden_size / num_attention_heads
  DecoderNames names = {};
};

/// True where the rule, together with the config's flag, gives a bias.
constexpr bool has_bias(BiasRule rule, bool configured) {
  return rule == BiasRule::always || (rule == BiasRule::configured && configured);
}

/// The graph of a validated config.
ModelGraph build_decoder(const DecoderFamily& family, const ModelConfig& config);

}  // namespace lathe
