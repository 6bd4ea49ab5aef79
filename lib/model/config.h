// config.json of a Hugging Face checkpoint, as far as the forward pass needs it; spellings of transformers 4
// and 5.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/tensor/dtype.h"

namespace lathe {

/// Rotary position embedding (arXiv 2104.09864) with the frequency scalings of transformers'
/// modeling_rope_utils.
struct RopeConfig {
  enum class Type { default_, linear, dynamic, yarn, llama3, longrope };
  Type type = Type::default_;
  double theta = 10000.0;
  double factor = 1.0;
  int64_t rotary_dim = 0;                                // channels of a head that turn, even
  int64_t original_max_position = 0;                     // 0: not given
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  std::optional<double> attention_factor;                // yarn, longrope
  std::optional<double> mscale, mscale_all_dim;          // yarn
  bool truncate = true;                                  // yarn
  std::vector<double> short_factor, long_factor;         // longrope, [rotary_dim / 2]
};

/// The sparse MLPs (mixtures of experts) of a model.
struct ExpertsConfig {
  int64_t count = 0;         // experts of a block
  int64_t per_token = 0;     // of which each token passes through so many
  int64_t width = 0;         // an expert's intermediate size
  int64_t shared_width = 0;  // that of the expert that all tokens pass through; 0: there is none
  bool normalise = false;    // the chosen experts' probabilities are divided by their sum
  std::vector<bool> layers;  // per layer: sparse, or a dense MLP of intermediate_size
};

struct ModelConfig {
  std::string model_type;
  std::vector<std::string> architectures;
  DType dtype = DType::F16;     // the checkpoint's float type, F16, BF16 or F32
  bool dtype_declared = false;  // false: config.json has neither dtype nor torch_dtype, F16 is a guess
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, num_layers = 0;
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0, max_position = 0;
  double rms_norm_eps = 1e-6;
  std::string activation = "silu";
  bool tie_word_embeddings = false;
  bool attention_bias = false;  // config.json's flag (qkv_bias of some families); see Linear::bias
  bool mlp_bias = false;
  RopeConfig rope;
  std::optional<RopeConfig> local_rope;  // of layers with a sliding window, where theirs differs (Gemma 3)
  double attention_scale = 0;            // of q k^T: 1 / sqrt(head_dim), or 1 / sqrt(query_pre_attn_scalar)
  std::optional<double> attention_softcap, final_softcap;  // of attention scores and of logits (Gemma 2)
  std::optional<double> qkv_clip;                          // bound of |q|, |k| and |v| (OLMoE)
  double embedding_scale = 1.0;  // of embeddings; rounded to `dtype`, as inference in that type does (Gemma)
  std::optional<ExpertsConfig> experts;
  std::optional<int64_t> sliding_window;  // tokens; nothing where attention is full
  std::vector<bool> layer_slides;         // per layer; empty: all layers alike
};

/// Reads and validates. `file` is named in errors. UserError for a missing or contradictory key, an unknown
/// rope type or activation, and for a model_type that no family supports (listing those that are). `null`
/// counts as absent. Precedence among spellings is transformers 5.17's: rope_scaling before rope_parameters,
/// a theta inside either before the top-level rope_theta, dtype before torch_dtype.
ModelConfig parse_model_config(const nlohmann::json& json, const std::string& file);

}  // namespace lathe
