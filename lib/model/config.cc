#include "lib/model/config.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/model/activation.h"
#include "lib/model/arch/families.h"
#include "lib/model/graph.h"
#include "lib/model/json_fields.h"
#include "lib/model/rope_config.h"

namespace lathe {
namespace {

// Bounds that keep every product of two sizes in 64 bits and a hostile file from making us build a giant
// graph.
constexpr int64_t kLargestSize = int64_t{1} << 30;
constexpr int64_t kMostLayers = 1 << 16;

const DecoderFamily& parse_family(const JsonFields& fields, ModelConfig& config) {
  const std::optional<std::string> model_type = fields.word("model_type");
  if (!model_type) fields.fail("model_type", "the name of a model family");
  config.model_type = *model_type;
  const DecoderFamily* family = find_family(config.model_type);
  if (family == nullptr) user_error("{}: {}", fields.file(), unsupported_family_message(config.model_type));
  return *family;
}

// A head that isn't a language model's would be looked for in vain later, under a less helpful message.
void parse_architectures(const JsonFields& fields, ModelConfig& config) {
  const nlohmann::json* value = fields.find("architectures");
  if (value == nullptr) return;
  if (!value->is_array()) fields.fail("architectures", "a list of strings");
  bool causal = value->empty();
  for (const nlohmann::json& item : *value) {
    if (!item.is_string()) fields.fail("architectures", "a list of strings");
    config.architectures.push_back(item.get<std::string>());
    causal = causal || config.architectures.back().ends_with("ForCausalLM");
  }
  if (!causal) fields.fail("architectures", "a causal language model (...ForCausalLM)");
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
  config.vocab_size = fields.required_size("vocab_size", kLargestSize);
  config.hidden_size = fields.required_size("hidden_size", kLargestSize);
  config.intermediate_size = fields.required_size("intermediate_size", kLargestSize);
  config.num_layers = fields.required_size("num_hidden_layers", kMostLayers);
  config.num_heads = fields.required_size("num_attention_heads", kLargestSize);
  config.num_kv_heads = fields.size("num_key_value_heads", kLargestSize).value_or(config.num_heads);
  config.max_position = fields.required_size("max_position_embeddings", int64_t{1} << 40);
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

void parse_function(const JsonFields& fields, ModelConfig& config) {
  config.rms_norm_eps = fields.number("rms_norm_eps").value_or(config.rms_norm_eps);
  if (!(config.rms_norm_eps >= 0.0 && config.rms_norm_eps < 1.0))
    fields.fail("rms_norm_eps", "a number in [0, 1)");
  config.activation = fields.word("hidden_act").value_or(config.activation);
  if (!is_activation(config.activation)) {
    fields.fail("hidden_act", fmt::format("one of {}", join_words(activation_names())));
  }
  config.tie_word_embeddings = fields.flag("tie_word_embeddings").value_or(false);
  config.attention_bias = fields.flag("attention_bias").value_or(false);
  config.mlp_bias = fields.flag("mlp_bias").value_or(false);
}

// Mistral, as in transformers: the key's default is 4096, null means full attention.
void parse_window_of_all_layers(const JsonFields& fields, const nlohmann::json& json, ModelConfig& config) {
  if (json.contains("layer_types")) {
    fields.fail("layer_types",
                "no such key for this model_type (transformers reads such a checkpoint as 'ministral')");
  }
  config.sliding_window =
      json.contains("sliding_window") ? fields.size("sliding_window", kLargestSize) : 4096;
}

std::vector<bool> parse_layer_types(const JsonFields& fields, int64_t num_layers) {
  const nlohmann::json& types = *fields.find("layer_types");
  if (!types.is_array() || std::ssize(types) != num_layers) {
    fields.fail("layer_types", fmt::format("a list of num_hidden_layers ({}) strings", num_layers));
  }
  std::vector<bool> slides;
  for (const nlohmann::json& type : types) {
    if (type != "sliding_attention" && type != "full_attention") {
      fields.fail("layer_types", "only 'full_attention' and 'sliding_attention'");
    }
    slides.push_back(type == "sliding_attention");
  }
  return slides;
}

// Qwen2 and Qwen3, as in transformers: layer_types where it is given, else all layers from max_window_layers
// on.
void parse_window_per_layer(const JsonFields& fields, const nlohmann::json& json, ModelConfig& config) {
  if (fields.flag("use_sliding_window").value_or(false)) {
    config.sliding_window =
        json.contains("sliding_window") ? fields.size("sliding_window", kLargestSize) : 4096;
  }
  if (fields.contains("layer_types")) {
    config.layer_slides = parse_layer_types(fields, config.num_layers);
    const bool any = std::ranges::find(config.layer_slides, true) != config.layer_slides.end();
    if (any && !config.sliding_window) {
      fields.fail("layer_types",
                  "no 'sliding_attention' while use_sliding_window is off or sliding_window is null");
    }
  } else if (config.sliding_window) {
    const int64_t first = fields.integer("max_window_layers").value_or(28);
    for (int64_t i = 0; i < config.num_layers; ++i) config.layer_slides.push_back(i >= first);
  }
}

}  // namespace

ModelConfig parse_model_config(const nlohmann::json& json, const std::string& file) {
  const JsonFields fields(json, file);
  ModelConfig config;
  const DecoderFamily& family = parse_family(fields, config);
  parse_architectures(fields, config);
  parse_dtype(fields, config);
  parse_sizes(fields, family, config);
  parse_function(fields, config);
  config.rope = parse_rope_config(fields, config.head_dim, config.max_position);
  if (family.window == WindowRule::all_layers) parse_window_of_all_layers(fields, json, config);
  if (family.window == WindowRule::per_layer) parse_window_per_layer(fields, json, config);
  return config;
}

}  // namespace lathe
