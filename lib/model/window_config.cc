#include "lib/model/window_config.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace lathe {
namespace {

constexpr int64_t kLargestWindow = int64_t{1} << 30;

/// The key's value; the family's default where the key is absent, nothing where it is null.
std::optional<int64_t> window_size(const JsonFields& fields, const nlohmann::json& json,
                                   const DecoderFamily& family) {
  if (json.contains("sliding_window")) return fields.size("sliding_window", kLargestWindow);
  return family.default_window > 0 ? std::optional(family.default_window) : std::nullopt;
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

/// layer_types where it is given, else slides(layer) for each layer.
template <class Slides>
std::vector<bool> layer_slides(const JsonFields& fields, const ModelConfig& config, Slides&& slides) {
  if (fields.contains("layer_types")) return parse_layer_types(fields, config.num_layers);
  std::vector<bool> result;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) result.push_back(slides(layer));
  return result;
}

bool any(const std::vector<bool>& flags) { return std::ranges::find(flags, true) != flags.end(); }

void refuse_layer_types(const JsonFields& fields) {
  if (!fields.contains("layer_types")) return;
  fields.fail(
      "layer_types",
      "no such key for this model_type (transformers reads a mistral checkpoint with it as 'ministral')");
}

/// The window of families with use_sliding_window: nothing where that is off.
std::optional<int64_t> window_in_use(const JsonFields& fields, const nlohmann::json& json,
                                     const DecoderFamily& family) {
  if (!fields.flag("use_sliding_window").value_or(false)) return std::nullopt;
  return window_size(fields, json, family);
}

void parse_switched_layers(const JsonFields& fields, const nlohmann::json& json, const DecoderFamily& family,
                           ModelConfig& config) {
  config.sliding_window = window_in_use(fields, json, family);
  if (!config.sliding_window && !fields.contains("layer_types")) return;
  const int64_t bound = fields.integer("max_window_layers").value_or(28);
  const bool even = family.window == WindowRule::even_below;
  config.layer_slides = layer_slides(
      fields, config, [&](int64_t layer) { return even ? layer % 2 == 0 && layer < bound : layer >= bound; });
  if (any(config.layer_slides) && !config.sliding_window) {
    fields.fail("layer_types",
                "no 'sliding_attention' while use_sliding_window is off or sliding_window is null");
  }
}

void parse_periodic_layers(const JsonFields& fields, const nlohmann::json& json, const DecoderFamily& family,
                           ModelConfig& config) {
  config.sliding_window = window_size(fields, json, family);
  int64_t period = family.default_window_period;
  const std::string key(family.window_period_key);
  if (!key.empty()) period = fields.size(key, kLargestWindow).value_or(period);
  config.layer_slides =
      layer_slides(fields, config, [&](int64_t layer) { return (layer + 1) % period != 0; });
  if (any(config.layer_slides) && !config.sliding_window) {
    fields.fail("sliding_window", "a number of tokens, since some layers slide");
  }
}

}  // namespace

void parse_window_config(const JsonFields& fields, const nlohmann::json& json, const DecoderFamily& family,
                         ModelConfig& config) {
  switch (family.window) {
    case WindowRule::never:
      return;
    case WindowRule::all_layers:
      refuse_layer_types(fields);
      config.sliding_window = window_size(fields, json, family);
      return;
    case WindowRule::all_if_used:
      config.sliding_window = window_in_use(fields, json, family);
      return;
    case WindowRule::from_layer:
    case WindowRule::even_below:
      return parse_switched_layers(fields, json, family, config);
    case WindowRule::all_but_every_n:
      return parse_periodic_layers(fields, json, family, config);
  }
}

}  // namespace lathe
