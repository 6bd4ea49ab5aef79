// The rotary embedding of a GGUF file, whose stretch llama.cpp keeps as keys or as divisors in a tensor.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "formats/gguf/gguf_keys.h"
#include "formats/gguf/tensor_map.h"
#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;

std::vector<double> divisors_of(const GgufTensor& tensor, const GgufKeys& keys) {
  if (tensor.type != GgmlType::F32)
    user_error("{}: tensor '{}': expected F32, found {}", keys.file().path().string(), tensor.name,
               traits(tensor.type).name);
  std::vector<double> divisors;
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    float value;
    std::memcpy(&value, tensor.bytes.data() + i * 4, sizeof value);
    if (!(value > 0) || !std::isfinite(value))
      user_error("{}: tensor '{}': expected numbers above 0, found {:g} at {}", keys.file().path().string(),
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
std::optional<json> longrope(const GgufKeys& keys) {
  const GgufTensor* longer = keys.file().tensor("rope_factors_long.weight");
  const GgufTensor* shorter = keys.file().tensor("rope_factors_short.weight");
  if (longer == nullptr && shorter == nullptr) return std::nullopt;
  if (longer == nullptr || shorter == nullptr) {
    user_error("{}: expected rope_factors_long.weight and rope_factors_short.weight, found one of them",
               keys.file().path().string());
  }
  json rope = {
      {"rope_type", "longrope"},
      {"short_factor", divisors_of(*shorter, keys)},
      {"long_factor", divisors_of(*longer, keys)},
      {"original_max_position_embeddings", keys.required_count("rope.scaling.original_context_length")}};
  if (const auto factor = keys.real("rope.scaling.attn_factor")) rope["attention_factor"] = *factor;
  return rope;
}

/// Scaling of the rotary embedding; theta is not in it.
json rope_scaling(const GgufKeys& keys, double theta) {
  if (const GgufTensor* tensor = keys.file().tensor("rope_freqs.weight")) {
    const std::vector<double> divisors = divisors_of(*tensor, keys);
    if (const auto known = llama3_rope(divisors, theta)) return *known;
    // Any other stretch can be said as a LongRoPE with one list for all lengths.
    const int64_t length = keys.required_count("context_length");
    return {{"rope_type", "longrope"}, {"short_factor", divisors},
            {"long_factor", divisors}, {"factor", 1.0},
            {"attention_factor", 1.0}, {"original_max_position_embeddings", length}};
  }
  if (auto lists = longrope(keys)) return *std::move(lists);
  const std::string type = keys.text(keys.architecture() + ".rope.scaling.type").value_or("none");
  if (type == "none") return {{"rope_type", "default"}};
  if (type == "linear")
    return {{"rope_type", "linear"}, {"factor", keys.required_real("rope.scaling.factor")}};
  if (type != "yarn")
    user_error("{}: {}.rope.scaling.type: expected none, linear or yarn, found {}",
               keys.file().path().string(), keys.architecture(), quote_text(type));
  return {{"rope_type", "yarn"},
          {"factor", keys.required_real("rope.scaling.factor")},
          {"original_max_position_embeddings", keys.required_count("rope.scaling.original_context_length")},
          {"beta_fast", keys.real("rope.scaling.yarn_beta_fast").value_or(32.0)},
          {"beta_slow", keys.real("rope.scaling.yarn_beta_slow").value_or(1.0)}};
}

}  // namespace

void add_rope_config(const GgufKeys& keys, json& config) {
  const double theta = keys.real("rope.freq_base").value_or(10000.0);
  json rope = rope_scaling(keys, theta);
  rope["rope_theta"] = theta;
  if (keys.architecture() == "phi3") {
    const int64_t head_dim = config["head_dim"];
    const int64_t turning = keys.count("rope.dimension_count").value_or(head_dim);
    rope["partial_rotary_factor"] = static_cast<double>(turning) / static_cast<double>(head_dim);
  }
  if (keys.architecture() != "gemma3") {
    config["rope_parameters"] = std::move(rope);
    return;
  }
  const json local = {{"rope_type", "default"},
                      {"rope_theta", keys.real("rope.freq_base_swa").value_or(10000.0)}};
  config["rope_parameters"] = {{"full_attention", std::move(rope)}, {"sliding_attention", local}};
}

}  // namespace lathe
