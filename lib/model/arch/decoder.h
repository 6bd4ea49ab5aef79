// What the supported families share: a decoder with RMSNorm, rotary attention and a gated MLP, dense or of
// experts. A family is one row of plain data; build_decoder() turns a row and a config into the graph.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "lib/model/graph.h"

namespace lathe {

/// Where a linear's bias comes from: the family has none, always has one, or a key of config.json decides.
enum class BiasRule : uint8_t { never, always, configured };

/// Which keys of config.json limit attention to a sliding window.
enum class WindowRule : uint8_t {
  never,           // llama: such keys are ignored, as in transformers
  all_layers,      // mistral, mixtral, phi3: sliding_window alone
  all_if_used,     // qwen3_moe: sliding_window where use_sliding_window
  from_layer,      // qwen2, qwen3: the same, in layer_types, else in layers from max_window_layers on
  even_below,      // qwen2_moe: the same, in layer_types, else in even layers below max_window_layers
  all_but_every_n  // gemma: sliding_window in layer_types, else in all layers but every n-th
};

/// RMSNorm on q and k before the rotary embedding: none, on each head, or on all heads' channels at once.
enum class QkNorm : uint8_t { none, per_head, all_heads };

/// Sizes of a config.json that leaves out its class's defaults, as a nested one does; 0: the key is required.
struct DefaultSizes {
  int64_t vocab = 0, hidden = 0, intermediate = 0, layers = 0, heads = 0, kv_heads = 0, max_position = 0;
};

/// Of a model that is more than its language model (it sees images): where the language model is in it. What
/// else there is stays as it is.
struct NestingRule {
  std::string_view config_key = "";               // config.json's object about it; empty: there is no nesting
  std::string_view head = "ForCausalLM";          // how the architecture's name ends
  std::span<const SpellingChange> spellings{};    // of tensor names in older checkpoints
  std::span<const std::string_view> untouched{};  // ModelGraph::untouched
};

/// Tensor names, relative to the block's prefix unless they are global.
struct DecoderNames {
  std::string_view embedding = "model.embed_tokens", blocks = "model.layers", final_norm = "model.norm",
                   lm_head = "lm_head";
  std::string_view attention_norm = "input_layernorm", mlp_norm = "post_attention_layernorm";
  std::string_view attention_out_norm = "", mlp_out_norm = "";
  std::string_view attention = "self_attn", mlp = "mlp";  // linears are part + "." + the role's name
  std::string_view q_norm = "self_attn.q_norm", k_norm = "self_attn.k_norm";
};

/// How config.json spells the rotary embedding, and its defaults.
struct RopeRule {
  double theta = 10000.0;
  double local_theta = 0;             // above 0: layers with a window have parameters of their own
  bool partial = false;               // partial_rotary_factor may be below 1
  bool longrope_only = false;         // beside default; "su" and "yarn" are old names of longrope
  int64_t original_max_position = 0;  // where config.json has none; 0: max_position_embeddings
};

/// The sparse MLPs of a family. Experts are part + "." + number + "." + leaf; a checkpoint may hold them
/// stacked instead, as <stacked>.gate_up_proj and <stacked>.down_proj, with the router at `stacked_router`.
struct ExpertsRule {
  bool used = false;
  std::string_view width_key = "moe_intermediate_size";
  bool always_normalise = false;  // else: norm_topk_prob
  bool some_layers = false;       // mlp_only_layers and decoder_sparse_step leave layers dense
  bool shared = false;            // shared_expert_intermediate_size
  std::string_view router = "mlp.gate", part = "mlp.experts", gate = "gate_proj", up = "up_proj",
                   down = "down_proj";
  std::string_view shared_part = "mlp.shared_expert", shared_gate = "mlp.shared_expert_gate";
  std::string_view stacked = "mlp.experts", stacked_router = "mlp.gate";
};

/// One family: a row.
struct DecoderFamily {
  std::string_view model_type, description;
  BiasRule qkv_bias = BiasRule::never;  // configured: the key bias_key
  BiasRule o_bias = BiasRule::never;    // configured: the same
  BiasRule mlp_bias = BiasRule::never;  // configured: mlp_bias
  std::string_view bias_key = "attention_bias";
  bool bias_by_default = false;  // where config.json lacks bias_key
  bool fused = false;            // qkv_proj and gate_up_proj
  QkNorm qk_norm = QkNorm::none;
  bool norms_one_plus = false;                            // all norms multiply by 1 + weight
  bool scaled_embedding = false;                          // by sqrt(hidden_size)
  bool query_scalar = false;                              // query_pre_attn_scalar in place of head_dim
  bool attention_softcap = false, final_softcap = false;  // attn_ and final_logit_softcapping
  double default_attention_softcap = 0,
         default_final_softcap = 0;  // where config.json lacks the key; 0: none
  bool qkv_clip = false;             // clip_qkv
  WindowRule window = WindowRule::never;
  int64_t default_window = 0;               // where config.json lacks sliding_window; 0: none
  int64_t default_window_period = 0;        // n of all_but_every_n
  std::string_view window_period_key = "";  // where config.json gives n
  int64_t default_head_dim = 0;  // where config.json has no head_dim; 0: hidden_size / num_attention_heads
  double default_eps = 1e-6;
  std::string_view activation_key = "hidden_act", default_activation = "silu";
  bool tied_by_default = false;
  DefaultSizes sizes = {};
  NestingRule nesting = {};
  RopeRule rope = {};
  ExpertsRule experts = {};
  DecoderNames names = {};
};

/// True where the rule, together with the config's flag, gives a bias.
constexpr bool has_bias(BiasRule rule, bool configured) {
  return rule == BiasRule::always || (rule == BiasRule::configured && configured);
}

/// The linears of one block's MLP, dense or sparse, in the order of the forward pass.
std::vector<Linear> mlp_linears(const DecoderFamily& family, const ModelConfig& config, const Block& block);

/// The places of a block (its linears and norms are there) where a scale moves without changing the function.
std::vector<ScaleEdge> decoder_edges(const ModelConfig& config, const Block& block);

/// The graph of a validated config.
ModelGraph build_decoder(const DecoderFamily& family, const ModelConfig& config);

}  // namespace lathe
