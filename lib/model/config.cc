#include "lib/model/config.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <nlohmann/json.hpp>

#include <array>
#include <cmath>

#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/model/activation.h"
#include "lib/model/arch/families.h"
#include "lib/model/experts_config.h"
#include "lib/model/graph.h"
#include "lib/model/json_fields.h"
#include "lib/model/rope_config.h"
#include "lib/model/size_limits.h"
#include "lib/model/window_config.h"

namespace lathe {
namespace {

const DecoderFamily& parse_family(const JsonFields& fields, ModelConfig& config) {
  const std::optional<std::string> model_type = fields.word("model_type");
  if (!model_type) fields.fail("model_type", "the name of a model family");
  config.model_type = *model_type;
  const DecoderFamily* family = find_family(config.model_type);
  if (family == nullptr) user_error("{}: {}", fields.file(), unsupported_family_message(config.model_type));
  return *family;
}

// A head that isn't a language model's would be looked for in vain later, under a less helpful message.
void parse_architectures(const JsonFields& fields, std::string_view head, ModelConfig& config) {
  const nlohmann::json* value = fields.find("architectures");
  if (value == nullptr) return;
  if (!value->is_array()) fields.fail("architectures", "a list of strings");
  bool causal = value->empty();
  for (const nlohmann::json& item : *value) {
    if (!item.is_string()) fields.fail("architectures", "a list of strings");
    config.architectures.push_back(item.get<std::string>());
    causal = causal || config.architectures.back().ends_with(head);
  }
  if (!causal) fields.fail("architectures", fmt::format("a causal language model (...{})", head));
}

/// The object that holds the language model's keys.
const nlohmann::json& text_config(const JsonFields& fields, const nlohmann::json& json,
                                  const DecoderFamily& family) {
  if (family.nesting.config_key.empty()) return json;
  const std::string key(family.nesting.config_key);
  const nlohmann::json* text = fields.find(key);
  if (text == nullptr) fields.fail(key, "an object with the keys of the language model");
  return *text;
}

std::string text_prefix(const DecoderFamily& family) { return fmt::format("{}.", family.nesting.config_key); }

bool has_dtype(const JsonFields& fields) {
  return fields.contains("dtype") || fields.contains("torch_dtype");
}

void parse_dtype(const JsonFields& fields, ModelConfig& config) {
  struct Row {
    std::string_view name;
    DType dtype;
  };
  static constexpr std::array<Row, 3> kDtypes = {
      {{"float16", DType::F16}, {"bfloat16", DType::BF16}, {"float32", DType::F32}}};
  const std::string key = fields.contains("dtype") ? "dtype" : "torch_dtype";
  const std::optional<std::string> word = fields.word(key);
  if (!word || *word == "auto") return;
  std::string_view name = *word;
  if (name.starts_with("torch.")) name.remove_prefix(6);
  for (const Row& row : kDtypes) {
    if (row.name != name) continue;
    config.dtype = row.dtype;
    config.dtype_declared = true;
    return;
  }
  fields.fail(key, "float16, bfloat16 or float32");
}

int64_t parse_head_dim(const JsonFields& fields, const DecoderFamily& family, const ModelConfig& config) {
  if (const auto given = fields.size("head_dim", kLargestSize)) return *given;
  if (family.default_head_dim > 0) return family.default_head_dim;
  if (config.hidden_size % config.num_heads != 0) {
    fields.fail("hidden_size",
                fmt::format("a multiple of num_attention_heads ({}), or a head_dim", config.num_heads));
  }
  return config.hidden_size / config.num_heads;
}

void parse_sizes(const JsonFields& fields, const DecoderFamily& family, ModelConfig& config) {
  const DefaultSizes& defaults = family.sizes;
  const auto size = [&](const char* key, int64_t fallback, int64_t maximum = kLargestSize) {
    return fallback == 0 ? fields.required_size(key, maximum) : fields.size(key, maximum).value_or(fallback);
  };
  config.vocab_size = size("vocab_size", defaults.vocab);
  config.hidden_size = size("hidden_size", defaults.hidden);
  config.intermediate_size = size("intermediate_size", defaults.intermediate);
  config.num_layers = size("num_hidden_layers", defaults.layers, kMostLayers);
  config.num_heads = size("num_attention_heads", defaults.heads);
  config.num_kv_heads =
      size("num_key_value_heads", defaults.kv_heads > 0 ? defaults.kv_heads : config.num_heads);
  config.max_position = size("max_position_embeddings", defaults.max_position, int64_t{1} << 40);
  if (config.num_heads % config.num_kv_heads != 0) {
    fields.fail("num_key_value_heads",
                fmt::format("a divisor of num_attention_heads ({})", config.num_heads));
  }
  config.head_dim = parse_head_dim(fields, family, config);
  if (config.head_dim % 2 != 0) {
    fields.fail("head_dim",
                fmt::format("an even head dimension (hidden_size / num_attention_heads by default), not {}",
                            config.head_dim));
  }
}

/// A soft cap that the family knows: a number, `fallback` where the key is absent, none where it is null.
std::optional<double> parse_softcap(const JsonFields& fields, const nlohmann::json& json,
                                    const std::string& key, bool known, double fallback) {
  const std::optional<double> cap = fields.number(key);
  if (cap && !known) fields.fail(key, "null: this model_type has no such soft cap");
  if (cap && !(*cap > 0)) fields.fail(key, "a number above 0");
  if (!cap && !json.contains(key) && fallback > 0) return fallback;
  return cap;
}

/// sqrt(hidden_size) as inference in the checkpoint's type has it: transformers rounds it to that type.
double embedding_scale(const ModelConfig& config) {
  const auto scale = static_cast<float>(std::sqrt(static_cast<double>(config.hidden_size)));
  if (config.dtype == DType::BF16) return static_cast<float>(c10::BFloat16(scale));
  if (config.dtype == DType::F16) return static_cast<float>(c10::Half(scale));
  return scale;
}

void parse_attention(const JsonFields& fields, const nlohmann::json& json, const DecoderFamily& family,
                     ModelConfig& config) {
  const std::string bias_key(family.bias_key);
  config.attention_bias = fields.flag(bias_key).value_or(family.bias_by_default);
  config.attention_softcap = parse_softcap(fields, json, "attn_logit_softcapping", family.attention_softcap,
                                           family.default_attention_softcap);
  double width = static_cast<double>(config.head_dim);
  if (family.query_scalar) width = fields.number("query_pre_attn_scalar").value_or(256.0);
  if (!(width > 0)) fields.fail("query_pre_attn_scalar", "a number above 0");
  config.attention_scale = 1.0 / std::sqrt(width);
  if (family.qkv_clip) config.qkv_clip = fields.number("clip_qkv");
  if (config.qkv_clip && !(*config.qkv_clip > 0)) fields.fail("clip_qkv", "a number above 0, or null");
  if (fields.flag("use_bidirectional_attention").value_or(false)) {
    fields.fail("use_bidirectional_attention", "false (a causal language model)");
  }
}

void parse_function(const JsonFields& fields, const nlohmann::json& json, const DecoderFamily& family,
                    ModelConfig& config) {
  config.rms_norm_eps = fields.number("rms_norm_eps").value_or(family.default_eps);
  if (!(config.rms_norm_eps >= 0.0 && config.rms_norm_eps < 1.0))
    fields.fail("rms_norm_eps", "a number in [0, 1)");
  const std::string activation_key(family.activation_key);
  config.activation = fields.word(activation_key).value_or(std::string(family.default_activation));
  if (!is_activation(config.activation)) {
    fields.fail(activation_key, fmt::format("one of {}", join_words(activation_names())));
  }
  config.mlp_bias = fields.flag("mlp_bias").value_or(false);
  config.final_softcap = parse_softcap(fields, json, "final_logit_softcapping", family.final_softcap,
                                       family.default_final_softcap);
  if (family.scaled_embedding) config.embedding_scale = embedding_scale(config);
}

}  // namespace

ModelConfig parse_model_config(const nlohmann::json& json, const std::string& file) {
  const JsonFields outer(json, file);
  ModelConfig config;
  const DecoderFamily& family = parse_family(outer, config);
  parse_architectures(outer, family.nesting.head, config);
  config.tie_word_embeddings = outer.flag("tie_word_embeddings").value_or(family.tied_by_default);

  const nlohmann::json& text = text_config(outer, json, family);
  const JsonFields fields = &text == &json ? outer : JsonFields(text, file, text_prefix(family));
  parse_dtype(has_dtype(outer) ? outer : fields, config);
  parse_sizes(fields, family, config);
  parse_function(fields, text, family, config);
  parse_attention(fields, text, family, config);
  parse_rope_config(fields, family.rope, config);
  parse_window_config(fields, text, family, config);
  if (family.experts.used) parse_experts_config(fields, family.experts, config);
  return config;
}

}  // namespace lathe
