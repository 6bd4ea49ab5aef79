#include "formats/targets/compressed_tensors_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/safetensors/json_text.h"
#include "formats/targets/compressed_tensors.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::json;

/// A value for a message: strings without their JSON quotes.
std::string describe(const json& value) {
  return quote_text(value.is_string() ? value.get_ref<const std::string&>() : value.dump());
}

std::string join_choices(const std::vector<std::string>& choices) {
  return fmt::format("{}", fmt::join(choices, " or "));
}

/// One object of the config: typed reads, and an error for each key nobody asked about.
class StrictObject {
 public:
  StrictObject(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) user_error("{}: expected an object, found {}", where_, describe(object));
  }

  const std::string& where() const { return where_; }

  const json* find(const std::string& key) {
    known_.push_back(key);
    const auto it = object_.find(key);
    return it == object_.end() ? nullptr : &*it;
  }

  const json& need(const std::string& key, const char* expected) {
    const json* value = find(key);
    if (value == nullptr) user_error("{}: missing key '{}': expected {}", where_, key, expected);
    return *value;
  }

  [[noreturn]] void refuse(const std::string& key, const std::string& expected) const {
    user_error("{}.{}: expected {}, found {}", where_, key, expected, describe(object_.at(key)));
  }

  std::string word(const std::string& key, const std::vector<std::string>& choices) {
    const std::string expected = join_choices(choices);
    const json& value = need(key, expected.c_str());
    if (!value.is_string() || std::find(choices.begin(), choices.end(), value) == choices.end())
      refuse(key, expected);
    return value;
  }

  /// Absent, null, or one of `choices`.
  void optional_word(const std::string& key, const std::vector<std::string>& choices) {
    const json* value = find(key);
    if (value != nullptr && !value->is_null()) word(key, choices);
  }

  std::vector<std::string> words(const std::string& key, bool required) {
    const json* value = find(key);
    if (value == nullptr || value->is_null()) {
      if (required) user_error("{}: missing key '{}': expected a list of names", where_, key);
      return {};
    }
    const bool strings = value->is_array() && std::all_of(value->begin(), value->end(),
                                                          [](const json& item) { return item.is_string(); });
    if (!strings) refuse(key, "a list of names");
    return *value;
  }

  /// Absent, null, or an empty object or list: a feature that is not used.
  void unused(const std::string& key, const std::string& feature) {
    const json* value = find(key);
    if (value == nullptr || value->is_null()) return;
    if (!value->is_structured() || !value->empty())
      refuse(key, fmt::format("null ({} is not supported)", feature));
  }

  /// Keys that change nothing about what the tensors mean.
  void informational(std::initializer_list<const char*> keys) {
    known_.insert(known_.end(), keys.begin(), keys.end());
  }

  void no_other_keys() const {
    for (const auto& [key, value] : object_.items()) {
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      user_error("{}: unknown key {}{}", where_, quote_text(key), did_you_mean(key, known_));
    }
  }

 private:
  const json& object_;
  std::string where_;
  std::vector<std::string> known_;
};

int64_t parse_group_size(StrictObject& weights, const std::string& strategy) {
  const json* value = weights.find("group_size");
  const bool absent = value == nullptr || value->is_null();
  if (strategy == "channel") {
    if (!absent && *value != -1) weights.refuse("group_size", "none, with strategy channel");
    return -1;
  }
  if (absent) user_error("{}: missing key 'group_size': strategy group needs one", weights.where());
  if (!value->is_number_integer() || *value < 1 || *value > int64_t{1} << 32) {
    weights.refuse("group_size", "a positive number");
  }
  return *value;
}

Scheme parse_weights(const json& value, const std::string& where) {
  StrictObject weights(value, where);
  Scheme scheme;
  scheme.type = weights.word("type", {"int"});
  const json& bits = weights.need("num_bits", "2 to 8");
  if (!bits.is_number_integer() || bits < 2 || bits > 8) weights.refuse("num_bits", "2 to 8");
  scheme.bits = bits;
  const json& symmetric = weights.need("symmetric", "true or false");
  if (!symmetric.is_boolean()) weights.refuse("symmetric", "true or false");
  scheme.symmetric = symmetric;
  scheme.group_size = parse_group_size(weights, weights.word("strategy", {"group", "channel"}));
  const json* dynamic = weights.find("dynamic");
  if (dynamic != nullptr && *dynamic != false)
    weights.refuse("dynamic", "false (weights are quantised once)");
  weights.optional_word("actorder", {"static", "weight"});  // both: columns stored in their natural order
  weights.optional_word("zp_dtype", {"torch.int8"});        // of the unpacked zero points
  weights.unused("scale_dtype", "a scale type of its own");
  weights.unused("block_structure", "quantisation in blocks");
  weights.informational({"observer", "observer_kwargs"});
  weights.no_other_keys();
  return scheme;
}

CompressedTensorsConfig::Group parse_group(const std::string& name, const json& value,
                                           const std::string& where) {
  StrictObject group(value, where);
  NamePatterns targets(group.words("targets", true), where + ".targets");
  group.optional_word("format", {kPackQuantized});
  group.unused("input_activations", "quantising activations");
  group.unused("output_activations", "quantising activations");
  const Scheme scheme = parse_weights(group.need("weights", "an object"), where + ".weights");
  group.no_other_keys();
  return {name, std::move(targets), scheme};
}

}  // namespace

std::optional<Scheme> CompressedTensorsConfig::scheme_of(const std::string& linear) const {
  if (ignore.match(linear) != MatchKind::none) return std::nullopt;
  const Group* best = nullptr;
  MatchKind best_kind = MatchKind::none;
  for (const Group& group : groups) {
    const MatchKind kind = group.targets.match(linear);
    if (kind < best_kind) {
      best = &group;
      best_kind = kind;
    }
  }
  return best == nullptr ? std::nullopt : std::optional(best->scheme);
}

CompressedTensorsConfig parse_compressed_tensors_config(const json& config, const std::string& where) {
  StrictObject top(config, where);
  top.word("quant_method", {"compressed-tensors"});
  top.word("format", {kPackQuantized});
  top.optional_word("quantization_status", {"compressed"});
  top.unused("kv_cache_scheme", "a quantised KV cache");
  top.unused("sparsity_config", "sparsity");
  top.unused("moe_sparsity_config", "sparsity");
  top.unused("transform_config", "an online transform");
  top.informational({"version", "global_compression_ratio"});
  CompressedTensorsConfig result{.groups = {}, .ignore = {top.words("ignore", false), where + ".ignore"}};
  const json& groups = top.need("config_groups", "an object");
  if (!groups.is_object()) top.refuse("config_groups", "an object");
  for (const auto& [name, group] : groups.items()) {
    result.groups.push_back(parse_group(name, group, where + ".config_groups." + name));
  }
  top.no_other_keys();
  return result;
}

}  // namespace lathe
