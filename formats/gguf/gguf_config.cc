#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <type_traits>

#include "formats/gguf/model_keys.h"
#include "formats/gguf/tensor_map.h"
#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"

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
  const at::Tensor made = rope_divisors(rope);
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

std::string class_of(const std::string& model_type) {
  if (model_type == "qwen2") return "Qwen2ForCausalLM";
  if (model_type == "qwen3") return "Qwen3ForCausalLM";
  if (model_type == "gemma2") return "Gemma2ForCausalLM";
  return model_type == "gemma3_text" ? "Gemma3ForCausalLM" : "LlamaForCausalLM";
}

void add_token_ids(const GgufFile& file, json& config) {
  for (const char* kind : {"bos", "eos"}) {
    const GgufValue* value = file.find(fmt::format("tokenizer.ggml.{}_token_id", kind));
    if (value == nullptr) continue;
    if (const auto* id = std::get_if<uint32_t>(value)) config[fmt::format("{}_token_id", kind)] = *id;
  }
}

}  // namespace

json config_of_gguf(const GgufFile& file) {
  const Reader reader(file);
  const auto model_type = model_type_of_architecture(reader.architecture());
  if (!model_type) {
    user_error("{}: general.architecture: expected llama, qwen2, qwen3, gemma2 or gemma3, found {}",
               file.path().string(), quote_text(reader.architecture()));
  }
  if (reader.count("expert_count"))
    user_error("{}: {}.expert_count: mixtures of experts are not read from GGUF files", file.path().string(),
               reader.architecture());
  const std::string family(*model_type);
  json config = {{"architectures", {class_of(family)}},
                 {"model_type", family},
                 {"dtype", dtype_of(file)},
                 {"tie_word_embeddings", !reader.has("output.weight")},
                 {"attention_bias", reader.has("blk.0.attn_q.bias")},
                 {"mlp_bias", reader.has("blk.0.ffn_gate.bias")}};
  if (!family.starts_with("gemma")) config["hidden_act"] = "silu";
  add_sizes(reader, config);
  add_rope(reader, config);
  if (family.starts_with("gemma")) add_gemma(reader, config);
  add_token_ids(file, config);
  return config;
}

}  // namespace lathe
