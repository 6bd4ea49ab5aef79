#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "formats/gguf/gguf_keys.h"
#include "formats/gguf/model_keys.h"
#include "formats/gguf/tensor_map.h"
#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/model/size_limits.h"

namespace lathe {
namespace {

using nlohmann::json;

/// What matrices are, or become where they are cut into blocks.
const char* dtype_of(const GgufFile& file) {
  bool all_f32 = true;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.shape.size() != 2) continue;
    if (tensor.type == GgmlType::BF16) return "bfloat16";
    all_f32 = all_f32 && tensor.type == GgmlType::F32;
  }
  return all_f32 ? "float32" : "float16";
}

/// Where the family has them.
void add_gemma(const GgufKeys& keys, json& config) {
  const int64_t layers = config["num_hidden_layers"], heads = config["num_attention_heads"];
  const bool gemma2 = keys.architecture() == "gemma2";
  config["hidden_activation"] = "gelu_pytorch_tanh";
  const bool wide = layers == (gemma2 ? 46 : 62);
  config["query_pre_attn_scalar"] =
      wide ? config["hidden_size"].get<int64_t>() / heads : config["head_dim"].get<int64_t>();
  if (const auto window = keys.count("attention.sliding_window")) {
    config["sliding_window"] = *window;
  } else if (gemma2) {
    config["sliding_window"] = 4096;
  } else {
    config["layer_types"] = std::vector<std::string>(static_cast<size_t>(layers), "full_attention");
  }
  if (gemma2) config["attn_logit_softcapping"] = keys.real("attn_logit_softcapping").value_or(50.0);
  const auto cap = keys.real("final_logit_softcapping");
  config["final_logit_softcapping"] = cap || gemma2 ? json(cap.value_or(30.0)) : json(nullptr);
}

/// Where the file has them. llama.cpp's architectures decide whether probabilities are divided by their sum.
void add_experts(const GgufKeys& keys, const GgufFamily& family, json& config) {
  if (!family.normalises) return;
  config["num_experts"] = keys.required_count("expert_count");
  config["num_experts_per_tok"] = keys.required_count("expert_used_count");
  config["norm_topk_prob"] = *family.normalises;
  const auto width = keys.count("expert_feed_forward_length");
  if (family.architecture == "qwen2moe" || family.architecture == "qwen3moe") {
    const int64_t shared_out = config["intermediate_size"];
    config["moe_intermediate_size"] =
        width.value_or(shared_out / config["num_experts_per_tok"].get<int64_t>());
    config["shared_expert_intermediate_size"] =
        keys.count("expert_shared_feed_forward_length").value_or(shared_out);
  } else if (width && *width != config["intermediate_size"]) {
    user_error("{}: {}.expert_feed_forward_length: expected feed_forward_length ({}), found {}",
               keys.file().path().string(), keys.architecture(), config["intermediate_size"].dump(), *width);
  }
}

/// Phi-3's, where 0 is none.
void add_window(const GgufKeys& keys, json& config) {
  if (keys.architecture() != "phi3") return;
  const GgufValue* value = keys.file().find("phi3.attention.sliding_window");
  if (value == nullptr || (std::holds_alternative<uint32_t>(*value) && std::get<uint32_t>(*value) == 0))
    return;
  config["sliding_window"] = keys.required_count("attention.sliding_window");
}

void add_sizes(const GgufKeys& keys, json& config) {
  const GgufTensor* embedding = keys.file().tensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    user_error("{}: tensor 'token_embd.weight': expected a matrix, found {}", keys.file().path().string(),
               embedding == nullptr ? "none" : "one of another shape");
  }
  const int64_t hidden = keys.required_count("embedding_length");
  const int64_t heads = keys.required_count("attention.head_count");
  const int64_t layers = keys.required_count("block_count");
  if (layers > kMostLayers)
    user_error("{}: {}.block_count: expected at most {}, found {}", keys.file().path().string(),
               keys.architecture(), kMostLayers, layers);
  const auto head_dim = keys.count("attention.key_length");
  if (!head_dim && hidden % heads != 0)
    user_error("{}: {}.embedding_length: expected a multiple of {} heads, or attention.key_length; found {}",
               keys.file().path().string(), keys.architecture(), heads, hidden);
  config["vocab_size"] = embedding->shape[0];
  config["hidden_size"] = hidden;
  config["intermediate_size"] = keys.required_count("feed_forward_length");
  config["num_hidden_layers"] = layers;
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = keys.count("attention.head_count_kv").value_or(heads);
  config["head_dim"] = head_dim.value_or(hidden / heads);
  config["max_position_embeddings"] = keys.required_count("context_length");
  config["rms_norm_eps"] = keys.required_real("attention.layer_norm_rms_epsilon");
}

/// transformers' class.
std::string class_of(std::string_view model_type) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kClasses = {
      {{"qwen2", "Qwen2ForCausalLM"},
       {"qwen3", "Qwen3ForCausalLM"},
       {"gemma2", "Gemma2ForCausalLM"},
       {"gemma3_text", "Gemma3ForCausalLM"},
       {"mixtral", "MixtralForCausalLM"},
       {"qwen2_moe", "Qwen2MoeForCausalLM"},
       {"qwen3_moe", "Qwen3MoeForCausalLM"},
       {"olmoe", "OlmoeForCausalLM"},
       {"phi3", "Phi3ForCausalLM"}}};
  const auto* row = std::ranges::find(kClasses, model_type, [](const auto& pair) { return pair.first; });
  return std::string(row == kClasses.end() ? "LlamaForCausalLM" : row->second);
}

void add_token_ids(const GgufFile& file, json& config) {
  for (const char* kind : {"bos", "eos"}) {
    const GgufValue* value = file.find(fmt::format("tokenizer.ggml.{}_token_id", kind));
    if (value == nullptr) continue;
    if (const auto* id = std::get_if<uint32_t>(value)) config[fmt::format("{}_token_id", kind)] = *id;
  }
}

[[noreturn]] void refuse_architecture(const GgufKeys& keys, bool experts) {
  std::vector<std::string> known;
  for (const GgufFamily& family : gguf_families()) {
    const std::string name(family.architecture);
    if (std::ranges::find(known, name) == known.end()) known.push_back(name);
  }
  const std::string& name = keys.architecture();
  if (std::ranges::find(known, name) == known.end()) {
    user_error("{}: general.architecture: expected {}, found {}", keys.file().path().string(),
               join_words(known), quote_text(name));
  }
  keys.refuse(name + ".expert_count",
              experts ? "none: the architecture has no experts" : "the number of a block's experts",
              keys.file().find(name + ".expert_count"));
}

}  // namespace

json config_of_gguf(const GgufFile& file) {
  const GgufKeys keys(file);
  const bool experts = keys.count("expert_count").has_value();
  const auto model_type = model_type_of_architecture(keys.architecture(), experts);
  if (!model_type) refuse_architecture(keys, experts);
  const std::string family(*model_type);
  json config = {{"architectures", {class_of(family)}},
                 {"model_type", family},
                 {"dtype", dtype_of(file)},
                 {"tie_word_embeddings", !keys.has("output.weight")},
                 {"attention_bias", keys.has("blk.0.attn_q.bias")},
                 {"qkv_bias", keys.has("blk.0.attn_q.bias")},
                 {"mlp_bias", keys.has("blk.0.ffn_gate.bias")}};
  if (!family.starts_with("gemma")) config["hidden_act"] = "silu";
  add_sizes(keys, config);
  add_experts(keys, *find_gguf_family(family), config);
  add_window(keys, config);
  add_rope_config(keys, config);
  if (family.starts_with("gemma")) add_gemma(keys, config);
  add_token_ids(file, config);
  return config;
}

}  // namespace lathe
