#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <type_traits>

#include "formats/gguf/model_keys.h"
#include "formats/gguf/tensor_map.h"
#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr int64_t kMostLayers = 1 << 16;

/// The number as people wrote it: 1e-05, where a float's exact value is 9.99999974...e-06.
double shortest(float value) { return std::stod(fmt::format("{}", value)); }

class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file) {
    architecture_ = text("general.architecture").value_or("");
    if (architecture_.empty()) refuse("general.architecture", "a name, such as llama", nullptr);
  }

  const std::string& architecture() const { return architecture_; }
  bool has(const std::string& tensor) const { return file_.tensor(tensor) != nullptr; }
  const GgufFile& file() const { return file_; }

  std::optional<std::string> text(const std::string& key) const {
    const GgufValue* value = file_.find(key);
    if (value == nullptr) return std::nullopt;
    if (const auto* found = std::get_if<std::string>(value)) return *found;
    refuse(key, "a string", value);
  }

  /// Of <architecture>.<key>, in [1, 2^40].
  std::optional<int64_t> count(const std::string& key) const {
    const std::string name = architecture_ + "." + key;
    const GgufValue* value = file_.find(name);
    if (value == nullptr) return std::nullopt;
    const auto number = std::visit(
        [](const auto& v) -> std::optional<int64_t> {
          using T = std::decay_t<decltype(v)>;
          if constexpr (std::is_integral_v<T>) {
            if (v >= 1 && static_cast<uint64_t>(v) <= uint64_t{1} << 40) return static_cast<int64_t>(v);
          }
          return std::nullopt;
        },
        *value);
    if (!number) refuse(name, "a whole number above 0", value);
    return number;
  }
  int64_t required_count(const std::string& key) const {
    const auto value = count(key);
    if (!value) refuse(architecture_ + "." + key, "a whole number above 0", nullptr);
    return *value;
  }

  std::optional<double> real(const std::string& key) const {
    const std::string name = architecture_ + "." + key;
    const GgufValue* value = file_.find(name);
    if (value == nullptr) return std::nullopt;
    const auto* found = std::get_if<float>(value);
    if (found == nullptr || !std::isfinite(*found)) refuse(name, "a finite f32", value);
    return shortest(*found);
  }
  double required_real(const std::string& key) const {
    const auto value = real(key);
    if (!value) refuse(architecture_ + "." + key, "a finite f32", nullptr);
    return *value;
  }

  [[noreturn]] void refuse(const std::string& key, std::string_view expected, const GgufValue* found) const {
    user_error("{}: key {}: expected {}, found {}", file_.path().string(), quote_text(key), expected,
               found == nullptr
                   ? "none"
                   : fmt::format("{} {}", name_of(kind_of(*found)), quote_text(describe(*found))));
  }

 private:
  const GgufFile& file_;
  std::string architecture_;
};

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

std::vector<double> divisors_of(const GgufTensor& tensor, const Reader& reader) {
  if (tensor.type != GgmlType::F32)
    user_error("{}: tensor '{}': expected F32, found {}", reader.file().path().string(), tensor.name,
               traits(tensor.type).name);
  std::vector<double> divisors;
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    float value;
    std::memcpy(&value, tensor.bytes.data() + i * 4, sizeof value);
    if (!(value > 0) || !std::isfinite(value))
      user_error("{}: tensor '{}': expected numbers above 0, found {:g} at {}", reader.file().path().string(),
                 tensor.name, value, i);
    divisors.push_back(value);
  }
  return divisors;
}

/// Llama 3.1's parameters, where they give these divisors; there are no others in use.
std::optional<json> llama3_rope(const std::vector<double>& divisors, double theta) {
  RopeConfig rope;
  rope.type = RopeConfig::Type::llama3;
  rope.theta = theta;
  rope.factor = *std::ranges::max_element(divisors);
  rope.rotary_dim = 2 * std::ssize(divisors);
  rope.original_max_position = 8192;
  const at::Tensor made = rope_divisors(rope, "rope_freqs.weight");
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double value = made.const_data_ptr<float>()[i];
    if (std::abs(value - divisors[i]) > 1e-5 * divisors[i]) return std::nullopt;
  }
  return json{{"rope_type", "llama3"},
              {"factor", rope.factor},
              {"low_freq_factor", rope.low_freq_factor},
              {"high_freq_factor", rope.high_freq_factor},
              {"original_max_position_embeddings", rope.original_max_position}};
}

/// Phi-3's, where the file has its lists.
std::optional<json> longrope(const Reader& reader) {
  const GgufTensor* longer = reader.file().tensor("rope_factors_long.weight");
  const GgufTensor* shorter = reader.file().tensor("rope_factors_short.weight");
  if (longer == nullptr && shorter == nullptr) return std::nullopt;
  if (longer == nullptr || shorter == nullptr) {
    user_error("{}: expected rope_factors_long.weight and rope_factors_short.weight, found one of them",
               reader.file().path().string());
  }
  json rope = {
      {"rope_type", "longrope"},
      {"short_factor", divisors_of(*shorter, reader)},
      {"long_factor", divisors_of(*longer, reader)},
      {"original_max_position_embeddings", reader.required_count("rope.scaling.original_context_length")}};
  if (const auto factor = reader.real("rope.scaling.attn_factor")) rope["attention_factor"] = *factor;
  return rope;
}

/// Scaling of the rotary embedding; theta is not in it.
json rope_scaling(const Reader& reader, double theta) {
  if (const GgufTensor* tensor = reader.file().tensor("rope_freqs.weight")) {
    const std::vector<double> divisors = divisors_of(*tensor, reader);
    if (const auto known = llama3_rope(divisors, theta)) return *known;
    // Any other stretch can be said as a LongRoPE with one list for all lengths.
    const int64_t length = reader.required_count("context_length");
    return {{"rope_type", "longrope"}, {"short_factor", divisors},
            {"long_factor", divisors}, {"factor", 1.0},
            {"attention_factor", 1.0}, {"original_max_position_embeddings", length}};
  }
  if (auto lists = longrope(reader)) return *std::move(lists);
  const std::string type = reader.text(reader.architecture() + ".rope.scaling.type").value_or("none");
  if (type == "none") return {{"rope_type", "default"}};
  if (type == "linear")
    return {{"rope_type", "linear"}, {"factor", reader.required_real("rope.scaling.factor")}};
  if (type != "yarn")
    user_error("{}: {}.rope.scaling.type: expected none, linear or yarn, found {}",
               reader.file().path().string(), reader.architecture(), quote_text(type));
  return {{"rope_type", "yarn"},
          {"factor", reader.required_real("rope.scaling.factor")},
          {"original_max_position_embeddings", reader.required_count("rope.scaling.original_context_length")},
          {"beta_fast", reader.real("rope.scaling.yarn_beta_fast").value_or(32.0)},
          {"beta_slow", reader.real("rope.scaling.yarn_beta_slow").value_or(1.0)}};
}

void add_rope(const Reader& reader, json& config) {
  const double theta = reader.real("rope.freq_base").value_or(10000.0);
  json rope = rope_scaling(reader, theta);
  rope["rope_theta"] = theta;
  if (reader.architecture() == "phi3") {
    const int64_t head_dim = config["head_dim"];
    const int64_t turning = reader.count("rope.dimension_count").value_or(head_dim);
    rope["partial_rotary_factor"] = static_cast<double>(turning) / static_cast<double>(head_dim);
  }
  if (reader.architecture() != "gemma3") {
    config["rope_parameters"] = std::move(rope);
    return;
  }
  const json local = {{"rope_type", "default"},
                      {"rope_theta", reader.real("rope.freq_base_swa").value_or(10000.0)}};
  config["rope_parameters"] = {{"full_attention", std::move(rope)}, {"sliding_attention", local}};
}

/// Where the family has them.
void add_gemma(const Reader& reader, json& config) {
  const int64_t layers = config["num_hidden_layers"], heads = config["num_attention_heads"];
  const bool gemma2 = reader.architecture() == "gemma2";
  config["hidden_activation"] = "gelu_pytorch_tanh";
  const bool wide = layers == (gemma2 ? 46 : 62);
  config["query_pre_attn_scalar"] =
      wide ? config["hidden_size"].get<int64_t>() / heads : config["head_dim"].get<int64_t>();
  if (const auto window = reader.count("attention.sliding_window")) {
    config["sliding_window"] = *window;
  } else if (gemma2) {
    config["sliding_window"] = 4096;
  } else {
    config["layer_types"] = std::vector<std::string>(static_cast<size_t>(layers), "full_attention");
  }
  if (gemma2) config["attn_logit_softcapping"] = reader.real("attn_logit_softcapping").value_or(50.0);
  const auto cap = reader.real("final_logit_softcapping");
  config["final_logit_softcapping"] = cap || gemma2 ? json(cap.value_or(30.0)) : json(nullptr);
}

/// Where the file has them. llama.cpp's architectures decide whether probabilities are divided by their sum.
void add_experts(const Reader& reader, const GgufFamily& family, json& config) {
  if (!family.normalises) return;
  config["num_experts"] = reader.required_count("expert_count");
  config["num_experts_per_tok"] = reader.required_count("expert_used_count");
  config["norm_topk_prob"] = *family.normalises;
  const auto width = reader.count("expert_feed_forward_length");
  if (family.architecture == "qwen2moe" || family.architecture == "qwen3moe") {
    const int64_t shared_out = config["intermediate_size"];
    config["moe_intermediate_size"] =
        width.value_or(shared_out / config["num_experts_per_tok"].get<int64_t>());
    config["shared_expert_intermediate_size"] =
        reader.count("expert_shared_feed_forward_length").value_or(shared_out);
  } else if (width && *width != config["intermediate_size"]) {
    user_error("{}: {}.expert_feed_forward_length: expected feed_forward_length ({}), found {}",
               reader.file().path().string(), reader.architecture(), config["intermediate_size"].dump(),
               *width);
  }
}

/// Phi-3's, where 0 is none.
void add_window(const Reader& reader, json& config) {
  if (reader.architecture() != "phi3") return;
  const GgufValue* value = reader.file().find("phi3.attention.sliding_window");
  if (value == nullptr || (std::holds_alternative<uint32_t>(*value) && std::get<uint32_t>(*value) == 0))
    return;
  config["sliding_window"] = reader.required_count("attention.sliding_window");
}

void add_sizes(const Reader& reader, json& config) {
  const GgufTensor* embedding = reader.file().tensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    user_error("{}: tensor 'token_embd.weight': expected a matrix, found {}", reader.file().path().string(),
               embedding == nullptr ? "none" : "one of another shape");
  }
  const int64_t hidden = reader.required_count("embedding_length");
  const int64_t heads = reader.required_count("attention.head_count");
  const int64_t layers = reader.required_count("block_count");
  if (layers > kMostLayers)
    user_error("{}: {}.block_count: expected at most {}, found {}", reader.file().path().string(),
               reader.architecture(), kMostLayers, layers);
  const auto head_dim = reader.count("attention.key_length");
  if (!head_dim && hidden % heads != 0)
    user_error("{}: {}.embedding_length: expected a multiple of {} heads, or attention.key_length; found {}",
               reader.file().path().string(), reader.architecture(), heads, hidden);
  config["vocab_size"] = embedding->shape[0];
  config["hidden_size"] = hidden;
  config["intermediate_size"] = reader.required_count("feed_forward_length");
  config["num_hidden_layers"] = layers;
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = reader.count("attention.head_count_kv").value_or(heads);
  config["head_dim"] = head_dim.value_or(hidden / heads);
  config["max_position_embeddings"] = reader.required_count("context_length");
  config["rms_norm_eps"] = reader.required_real("attention.layer_norm_rms_epsilon");
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

[[noreturn]] void refuse_architecture(const Reader& reader, bool experts) {
  std::vector<std::string> known;
  for (const GgufFamily& family : gguf_families()) {
    const std::string name(family.architecture);
    if (std::ranges::find(known, name) == known.end()) known.push_back(name);
  }
  const std::string& name = reader.architecture();
  if (std::ranges::find(known, name) == known.end()) {
    user_error("{}: general.architecture: expected {}, found {}", reader.file().path().string(),
               join_words(known), quote_text(name));
  }
  reader.refuse(name + ".expert_count",
                experts ? "none: the architecture has no experts" : "the number of a block's experts",
                reader.file().find(name + ".expert_count"));
}

}  // namespace

json config_of_gguf(const GgufFile& file) {
  const Reader reader(file);
  const bool experts = reader.count("expert_count").has_value();
  const auto model_type = model_type_of_architecture(reader.architecture(), experts);
  if (!model_type) refuse_architecture(reader, experts);
  const std::string family(*model_type);
  json config = {{"architectures", {class_of(family)}},
                 {"model_type", family},
                 {"dtype", dtype_of(file)},
                 {"tie_word_embeddings", !reader.has("output.weight")},
                 {"attention_bias", reader.has("blk.0.attn_q.bias")},
                 {"qkv_bias", reader.has("blk.0.attn_q.bias")},
                 {"mlp_bias", reader.has("blk.0.ffn_gate.bias")}};
  if (!family.starts_with("gemma")) config["hidden_act"] = "silu";
  add_sizes(reader, config);
  add_experts(reader, *find_gguf_family(family), config);
  add_window(reader, config);
  add_rope(reader, config);
  if (family.starts_with("gemma")) add_gemma(reader, config);
  add_token_ids(file, config);
  return config;
}

}  // namespace lathe
