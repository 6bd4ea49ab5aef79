#include "formats/gguf/model_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "formats/gguf/family.h"
#include "lib/base/error.h"
#include "lib/model/rope_config.h"

namespace lathe {
namespace {

uint32_t count(int64_t value) { return static_cast<uint32_t>(value); }
float real(double value) { return static_cast<float>(value); }

class Keys {
 public:
  explicit Keys(std::string architecture) : architecture_(std::move(architecture)) {}
  void general(const std::string& key, GgufValue value) {
    keys_.emplace_back("general." + key, std::move(value));
  }
  void model(const std::string& key, GgufValue value) {
    keys_.emplace_back(architecture_ + "." + key, std::move(value));
  }
  GgufMetadata take() { return std::move(keys_); }

 private:
  std::string architecture_;
  GgufMetadata keys_;
};

void add_rope(const ModelConfig& config, Keys& keys) {
  const RopeConfig& rope = config.rope;
  using Type = RopeConfig::Type;
  if (rope.type == Type::linear || rope.type == Type::yarn) {
    keys.model("rope.scaling.type", std::string(rope.type == Type::linear ? "linear" : "yarn"));
    keys.model("rope.scaling.factor", real(rope.factor));
  }
  if (rope.type == Type::yarn) {
    keys.model("rope.scaling.original_context_length", count(rope.original_max_position));
    keys.model("rope.scaling.yarn_beta_fast", real(rope.beta_fast));
    keys.model("rope.scaling.yarn_beta_slow", real(rope.beta_slow));
  }
  if (rope.type == Type::longrope) {
    keys.model("rope.scaling.original_context_length", count(rope.original_max_position));
    keys.model("rope.scaling.attn_factor", real(rope_attention_factor(rope)));
  }
  keys.model("rope.freq_base", real(rope.theta));
  if (config.local_rope) keys.model("rope.freq_base_swa", real(config.local_rope->theta));
  keys.model("rope.dimension_count", count(rope.rotary_dim));
}

void add_attention(const ModelConfig& config, Keys& keys) {
  keys.model("attention.head_count", count(config.num_heads));
  keys.model("attention.head_count_kv", count(config.num_kv_heads));
  keys.model("attention.layer_norm_rms_epsilon", real(config.rms_norm_eps));
  keys.model("attention.key_length", count(config.head_dim));
  keys.model("attention.value_length", count(config.head_dim));
  if (config.attention_softcap) keys.model("attn_logit_softcapping", real(*config.attention_softcap));
  if (config.final_softcap) keys.model("final_logit_softcapping", real(*config.final_softcap));
  const bool windows = config.model_type.starts_with("gemma");
  if (windows && config.sliding_window) keys.model("attention.sliding_window", count(*config.sliding_window));
  // Older readers guess one for a phi3 without this key.
  if (config.model_type == "phi3")
    keys.model("attention.sliding_window", count(config.sliding_window.value_or(0)));
}

void add_experts(const ModelConfig& config, Keys& keys) {
  if (!config.experts) return;
  const ExpertsConfig& experts = *config.experts;
  keys.model("expert_count", count(experts.count));
  keys.model("expert_used_count", count(experts.per_token));
  // mixtral's and olmoe's experts have the width of feed_forward_length.
  if (experts.width != config.intermediate_size || config.model_type.starts_with("qwen"))
    keys.model("expert_feed_forward_length", count(experts.width));
  if (experts.shared_width > 0) keys.model("expert_shared_feed_forward_length", count(experts.shared_width));
}

}  // namespace

std::string size_label(int64_t parameters) {
  const auto n = static_cast<double>(parameters);
  struct Unit {
    double size;
    char suffix;
  };
  Unit unit{1e3, 'K'};
  for (const Unit larger : {Unit{1e12, 'T'}, Unit{1e9, 'B'}, Unit{1e6, 'M'}}) {
    if (n <= larger.size) continue;
    unit = larger;
    break;
  }
  const double scaled = n / unit.size;
  const double rounded = std::nearbyint(scaled);
  const int digits = rounded == 0 ? 0 : static_cast<int>(fmt::format("{:.0f}", rounded).size());
  return fmt::format("{:.{}f}{}", scaled, std::max(2 - digits, 0), unit.suffix);
}

GgufMetadata model_keys(const ModelGraph& graph, const std::string& name, const GgufMix& mix,
                        int64_t parameters) {
  const ModelConfig& config = graph.config;
  const std::string architecture(*gguf_architecture(config.model_type));
  Keys keys(architecture);
  keys.general("architecture", architecture);
  keys.general("type", std::string("model"));
  keys.general("name", name);
  keys.general("size_label", size_label(parameters));
  keys.model("block_count", count(config.num_layers));
  keys.model("context_length", count(config.max_position));
  keys.model("embedding_length", count(config.hidden_size));
  keys.model("feed_forward_length", count(config.intermediate_size));
  keys.model("vocab_size", count(config.vocab_size));
  add_attention(config, keys);
  add_experts(config, keys);
  add_rope(config, keys);
  keys.general("file_type", mix.file_type);
  keys.general("quantization_version", kGgmlQuantVersion);
  return keys.take();
}

}  // namespace lathe
