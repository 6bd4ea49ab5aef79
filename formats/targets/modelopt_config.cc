#include "formats/targets/modelopt_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "formats/targets/strict_object.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::json;

/// Consumers know the format by this name (vLLM looks for it in hf_quant_config.json); the version is that of
/// the layout.
const json kProducer = {{"name", "modelopt"}, {"version", "0.47.0"}};

/// vLLM 0.32, modelopt.py: LINEAR_ALGOS.
bool vllm_reads(const std::string& algorithm) { return algorithm != "W4A16_AWQ" && algorithm != "W4A8_AWQ"; }

json group_part(int bits, int64_t group_size) {
  json part = {{"dynamic", false}, {"num_bits", bits}, {"type", "float"}};
  if (group_size > 0) part["group_size"] = group_size;
  return part;
}

/// modelopt writes these for the algorithms that vLLM looks them up for.
json config_groups(const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  if (!scheme.per_tensor() && !scheme.has_global_scale()) return {};
  json group = {{"weights", group_part(scheme.bits, scheme.group_size)}, {"targets", {"Linear"}}};
  if (linear.activations)
    group["input_activations"] = group_part(linear.activations->bits, linear.activations->group_size);
  return {{"group_0", std::move(group)}};
}

/// The modules under which servers stack q/k/v and gate/up.
std::string fused_module(const PlannedLinear& linear) {
  const std::string parent = linear.name.substr(0, linear.name.rfind('.') + 1);
  switch (linear.role) {
    case LinearRole::q_proj:
    case LinearRole::k_proj:
    case LinearRole::v_proj:
      return parent + "qkv_proj";
    case LinearRole::gate_proj:
    case LinearRole::up_proj:
      return parent + "gate_up_proj";
    default:
      return linear.name;
  }
}

/// Of W4A16_AWQ; 0 where it is not said.
int64_t parse_group_size(StrictObject& object) {
  const json* value = object.find("group_size");
  if (value == nullptr || value->is_null()) return 0;
  if (!value->is_number_integer() || *value < 1 || *value > int64_t{1} << 20)
    object.refuse("group_size", "a positive number");
  return *value;
}

/// NVFP4 whose groups name no activations has none (vLLM 0.32, ModelOptNvFp4Config._from_config).
bool weights_alone(const json* groups) {
  if (groups == nullptr || !groups->is_object() || groups->empty()) return false;
  return std::ranges::all_of(*groups, [](const json& group) {
    return group.is_object() &&
           (!group.contains("input_activations") || group.at("input_activations").is_null());
  });
}

/// What a group says of numbers is what the algorithm means; its other keys are for other readers.
void check_numbers(StrictObject& group, const char* key, int bits, int64_t group_size) {
  const json* part = group.find(key);
  if (part == nullptr || part->is_null()) return;
  StrictObject numbers(*part, group.where() + "." + key);
  numbers.integer("num_bits", bits, bits);
  const json* size = numbers.find("group_size");
  if (size == nullptr || size->is_null()) return;
  const int64_t expected = group_size > 0 ? group_size : -1;
  if (!size->is_number_integer() || *size != expected) numbers.refuse("group_size", std::to_string(expected));
}

void check_groups(const json* groups, const ModeloptGrid& grid, const std::string& where) {
  if (groups == nullptr || groups->is_null()) return;
  StrictObject(*groups, where);
  for (const auto& [name, value] : groups->items()) {
    StrictObject group(value, where + "." + name);
    check_numbers(group, "weights", grid.scheme.bits, grid.scheme.group_size);
    if (grid.activations)
      check_numbers(group, "input_activations", grid.activations->bits, grid.activations->group_size);
  }
}

ModeloptGrid parse_grid(StrictObject& object) {
  const std::string name = object.need("quant_algo", "an algorithm").is_string()
                               ? object.need("quant_algo", "an algorithm").get<std::string>()
                               : std::string();
  const int64_t group_size = parse_group_size(object);
  const json* groups = object.find("config_groups");
  auto grid = modelopt_grid(name, group_size);
  if (!grid) object.refuse("quant_algo", "one of " + join_words(modelopt_algorithms()));
  if (grid->scheme.has_global_scale() && weights_alone(groups)) grid->activations.reset();
  if (group_size > 0 && grid->scheme.group_size > 0 && grid->scheme.group_size != group_size)
    object.refuse("group_size", fmt::format("{}", grid->scheme.group_size));
  check_groups(groups, *grid, object.where() + ".config_groups");
  return *grid;
}

/// As either file says it.
std::optional<KvCacheScheme> parse_kv_cache(StrictObject& object) {
  std::optional<KvCacheScheme> cache;
  const json* algorithm = object.find("kv_cache_quant_algo");
  if (algorithm != nullptr && !algorithm->is_null() && *algorithm != "none") {
    if (*algorithm != "FP8") object.refuse("kv_cache_quant_algo", "FP8 or null");
    cache.emplace();
  }
  const json* scheme = object.find("kv_cache_scheme");
  if (scheme == nullptr || scheme->is_null()) return cache;
  const json expected = {{"num_bits", 8}, {"type", "float"}, {"dynamic", false}};
  if (*scheme != expected) object.refuse("kv_cache_scheme", expected.dump() + " or null");
  return KvCacheScheme{};
}

}  // namespace

json modelopt_quantization_config(const std::vector<PlannedLinear>& linears,
                                  const std::vector<std::string>& ignored) {
  const PlannedLinear& linear = linears.front();
  json config = {{"quant_method", "modelopt"},
                 {"quant_algo", modelopt_algorithm(linear.scheme, linear.activations)},
                 {"producer", kProducer},
                 {"ignore", ignored}};
  const bool groups = linear.scheme.group_size > 0 && !linear.scheme.shares_rows();
  if (groups) config["group_size"] = linear.scheme.group_size;
  json described = config_groups(linear);
  if (!described.is_null()) config["config_groups"] = std::move(described);
  return config;
}

std::vector<std::pair<std::string, json>> modelopt_side_files(const json& config) {
  // vLLM wants all of group_size, kv_cache_quant_algo and exclude_modules for NVFP4.
  json quantization = {{"quant_algo", config.at("quant_algo")},
                       {"kv_cache_quant_algo", config.contains("kv_cache_scheme") ? json("FP8") : json()},
                       {"exclude_modules", config.at("ignore")}};
  if (config.contains("group_size")) quantization["group_size"] = config.at("group_size");
  if (config.at("quant_algo") == "W4A16_AWQ" || config.at("quant_algo") == "W4A8_AWQ") {
    quantization["has_zero_point"] = false;
    quantization["pre_quant_scale"] = true;
  }
  return {{"hf_quant_config.json", {{"producer", kProducer}, {"quantization", std::move(quantization)}}}};
}

std::optional<std::string> modelopt_refuses_model(const std::vector<PlannedLinear>& linears,
                                                  const std::vector<std::string>& ignored) {
  std::set<std::string> quantized;
  for (const PlannedLinear& linear : linears) {
    const PlannedLinear& first = linears.front();
    if (linear.scheme != first.scheme || linear.activations != first.activations) {
      return fmt::format(
          "modelopt holds one algorithm here, but '{}' is {} and '{}' {}; use one rule, or output format "
          "compressed-tensors",
          first.name, with_input(first.scheme.describe(), first.activations), linear.name,
          with_input(linear.scheme.describe(), linear.activations));
    }
    quantized.insert(linear.name);
    quantized.insert(fused_module(linear));
  }
  for (const std::string& name : ignored) {
    for (const std::string& other : quantized) {
      if (other.find(name) == std::string::npos) continue;
      return fmt::format(
          "'{}' stays in floating point, and vLLM leaves out every module whose name it is a part of, so "
          "'{}', too; quantise both or neither, or use output format compressed-tensors",
          name, other);
    }
  }
  return std::nullopt;
}

std::vector<std::string> modelopt_warnings(const std::vector<PlannedLinear>& linears,
                                           const std::vector<std::string>&) {
  const std::string algorithm = modelopt_algorithm(linears.front().scheme, linears.front().activations);
  if (vllm_reads(algorithm)) return {};
  return {fmt::format("format modelopt: vLLM (0.32) won't load it: it reads no {} ({}); TensorRT-LLM does",
                      algorithm, linears.front().name)};
}

bool wildcard_match(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, from = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {  // the last star takes one more
      p = star + 1;
      n = ++from;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool ModeloptConfig::excludes(const std::string& linear) const {
  return std::ranges::any_of(excluded,
                             [&](const std::string& pattern) { return wildcard_match(pattern, linear); });
}

ModeloptConfig parse_modelopt_config(const json& config, const std::string& where) {
  StrictObject top(config, where);
  top.informational({"quant_method", "producer", "version"});
  const json* nested = top.find("quantization");
  if (nested != nullptr && nested->is_object()) {
    StrictObject inner(*nested, where + ": quantization");
    ModeloptConfig result{parse_grid(inner), inner.words("exclude_modules", false), parse_kv_cache(inner)};
    inner.informational({"pre_quant_scale"});  // the tensors say it
    const json* zeros = inner.find("has_zero_point");
    if (zeros != nullptr && *zeros != false) inner.refuse("has_zero_point", "false");
    inner.no_other_keys();
    top.no_other_keys();
    return result;
  }
  ModeloptConfig result{parse_grid(top), top.words("ignore", false), parse_kv_cache(top)};
  top.no_other_keys();
  return result;
}

}  // namespace lathe
