#include "formats/targets/modelopt_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "formats/safetensors/json_text.h"
#include "formats/targets/strict_object.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::json;

/// Consumers know the format by this name (vLLM looks for it in hf_quant_config.json); the version is that of
/// the layout.
const json kProducer = {{"name", "modelopt"}, {"version", "0.47.0"}};

constexpr const char* kMixed = "MIXED_PRECISION";

std::string algorithm_of(const PlannedLinear& linear) {
  const char* name = modelopt_algorithm(linear.scheme, linear.activations);
  LATHE_ASSERT(name != nullptr, "{}: no algorithm", linear.name);
  return name;
}

/// vLLM 0.32, modelopt.py: LINEAR_ALGOS.
bool vllm_reads(const std::string& algorithm) { return algorithm != "W4A16_AWQ" && algorithm != "W4A8_AWQ"; }

/// One of a mixed model's. TensorRT-LLM reads a layer's algorithm as a QuantAlgo, which knows fp8_pb_wo by
/// another name (_torch/model_config.py, _build_modelopt_quant_config; the model's own is translated).
bool tensorrt_reads_layer(const std::string& algorithm) { return algorithm != "fp8_pb_wo"; }

bool is_awq(const std::string& algorithm) { return algorithm == "W4A16_AWQ" || algorithm == "W4A8_AWQ"; }

bool has_groups(const Scheme& scheme) { return scheme.group_size > 0 && !scheme.shares_rows(); }

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

/// A linear's part of quantized_layers (modelopt 0.47, quant_utils.py, process_layer_quant_config).
json layer_entry(const PlannedLinear& linear) {
  const std::string algorithm = algorithm_of(linear);
  json entry = {{"quant_algo", algorithm}};
  if (has_groups(linear.scheme)) entry["group_size"] = linear.scheme.group_size;
  if (is_awq(algorithm)) entry.update({{"has_zero_point", false}, {"pre_quant_scale", true}});
  return entry;
}

/// convert_hf_config.py, _quant_algo_to_group_config.
json mixed_group(const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  const std::string algorithm = algorithm_of(linear);
  if (algorithm == "fp8_pb_wo") return {{"quant_algo", algorithm}};  // modelopt knows no numbers of it
  json weights = group_part(scheme.bits, scheme.group_size);
  if (algorithm == "W4A16_AWQ") weights["type"] = "int";
  if (algorithm == "FP8_PER_CHANNEL_PER_TOKEN") weights["strategy"] = "channel";
  json group = {{"weights", std::move(weights)}};
  if (!linear.activations) return group;
  group["input_activations"] = group_part(linear.activations->bits, linear.activations->group_size);
  if (algorithm == "W4A8_AWQ") group["input_activations"]["group_size"] = scheme.group_size;
  return group;
}

/// What each linear is, and the groups of those that are the same, in order of first appearance.
void describe_layers(const std::vector<PlannedLinear>& linears, json& config) {
  json layers = json::object(), groups = json::object();
  std::vector<json> known;
  for (const PlannedLinear& linear : linears) {
    const json entry = layer_entry(linear);
    const auto found = std::ranges::find(known, entry);
    const std::string name = fmt::format("group_{}", found - known.begin());
    if (found == known.end()) {
      known.push_back(entry);
      groups[name] = mixed_group(linear);
    }
    groups[name]["targets"].push_back(linear.name);
    layers[linear.name] = entry;
  }
  for (json& group : groups) std::sort(group["targets"].begin(), group["targets"].end());
  config["config_groups"] = std::move(groups);
  config["quantized_layers"] = std::move(layers);
}

bool is_mixed(const std::vector<PlannedLinear>& linears) {
  const json first = layer_entry(linears.front());
  return std::ranges::any_of(linears, [&](const auto& linear) { return layer_entry(linear) != first; });
}

/// The first linear whose algorithm is such a one; null where there is none.
const PlannedLinear* first_where(const std::vector<PlannedLinear>& linears,
                                 bool (*holds)(const std::string& algorithm)) {
  const auto found =
      std::ranges::find_if(linears, [&](const PlannedLinear& linear) { return holds(algorithm_of(linear)); });
  return found == linears.end() ? nullptr : &*found;
}

/// Each consumer lacks one of the algorithms.
std::optional<std::string> refuses_mix(const std::vector<PlannedLinear>& linears) {
  if (!is_mixed(linears)) return std::nullopt;
  const PlannedLinear* not_vllm =
      first_where(linears, [](const std::string& name) { return !vllm_reads(name); });
  const PlannedLinear* not_tensorrt =
      first_where(linears, [](const std::string& name) { return !tensorrt_reads_layer(name); });
  if (not_vllm == nullptr || not_tensorrt == nullptr) return std::nullopt;
  return fmt::format(
      "'{}' is {}, which vLLM doesn't read, and '{}' {}, which TensorRT-LLM doesn't read beside others: no "
      "consumer loads both; use one of them for all, or output format compressed-tensors",
      not_vllm->name, algorithm_of(*not_vllm), not_tensorrt->name, algorithm_of(*not_tensorrt));
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

/// Empty where it is no text.
std::string parse_algorithm(StrictObject& object) {
  const json& algorithm = object.need("quant_algo", "an algorithm");
  return algorithm.is_string() ? algorithm.get<std::string>() : std::string();
}

/// Lathe holds no integers with zero points here; whether there is a pre_quant_scale, the tensors say.
void parse_awq_extras(StrictObject& object) {
  object.informational({"pre_quant_scale"});
  const json* zeros = object.find("has_zero_point");
  if (zeros != nullptr && *zeros != false) object.refuse("has_zero_point", "false");
}

ModeloptGrid parse_grid(StrictObject& object) {
  const std::string name = parse_algorithm(object);
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

/// The grids of either kind of configuration.
void parse_grids(StrictObject& object, ModeloptConfig& config) {
  if (!equal_ignoring_case(parse_algorithm(object), kMixed)) {
    config.grid = parse_grid(object);
    return;
  }
  object.informational({"config_groups"});  // the same once more, as its writer sees it
  parse_group_size(object);
  const json& layers = object.need("quantized_layers", "an object with each layer's algorithm");
  if (!layers.is_object() || layers.empty())
    object.refuse("quantized_layers", "an object with each layer's algorithm");
  for (const auto& [name, value] : layers.items()) {
    StrictObject layer(value, fmt::format("{}.quantized_layers.{}", object.where(), quote_text(name)));
    config.layers.emplace(name, parse_grid(layer));
    parse_awq_extras(layer);
    layer.no_other_keys();
  }
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
                 {"quant_algo", algorithm_of(linear)},
                 {"producer", kProducer},
                 {"ignore", ignored}};
  if (is_mixed(linears)) {
    config["quant_algo"] = kMixed;
    describe_layers(linears, config);
    return config;
  }
  if (has_groups(linear.scheme)) config["group_size"] = linear.scheme.group_size;
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
  if (config.contains("quantized_layers")) quantization["quantized_layers"] = config.at("quantized_layers");
  if (is_awq(config.at("quant_algo"))) {
    quantization["has_zero_point"] = false;
    quantization["pre_quant_scale"] = true;
  }
  return {{"hf_quant_config.json", {{"producer", kProducer}, {"quantization", std::move(quantization)}}}};
}

std::optional<std::string> modelopt_refuses_model(const std::vector<PlannedLinear>& linears,
                                                  const std::vector<std::string>& ignored) {
  if (const auto reason = refuses_mix(linears)) return reason;
  std::set<std::string> quantized;
  for (const PlannedLinear& linear : linears) {
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
  if (const PlannedLinear* linear = first_where(linears, [](const auto& name) { return !vllm_reads(name); }))
    return {fmt::format("format modelopt: vLLM (0.32) won't load it: it reads no {} ({}); TensorRT-LLM does",
                        algorithm_of(*linear), linear->name)};
  const auto unread = [](const auto& name) { return !tensorrt_reads_layer(name); };
  const PlannedLinear* linear = is_mixed(linears) ? first_where(linears, unread) : nullptr;
  if (linear == nullptr) return {};
  return {fmt::format(
      "format modelopt: TensorRT-LLM won't load it: beside other algorithms it reads no {} ({}); vLLM does",
      algorithm_of(*linear), linear->name)};
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

const ModeloptGrid* ModeloptConfig::grid_of(const std::string& linear) const {
  if (excludes(linear)) return nullptr;
  if (grid) return &*grid;
  auto found = layers.find(linear);
  constexpr std::string_view kExperts = ".experts";
  const size_t inside = linear.find(std::string(kExperts) + ".");
  if (found == layers.end() && inside != std::string::npos)
    found = layers.find(linear.substr(0, inside + kExperts.size()));
  return found == layers.end() ? nullptr : &found->second;
}

ModeloptConfig parse_modelopt_config(const json& config, const std::string& where) {
  StrictObject top(config, where);
  top.informational({"quant_method", "producer", "version"});
  const json* nested = top.find("quantization");
  if (nested != nullptr && nested->is_object()) {
    StrictObject inner(*nested, where + ": quantization");
    ModeloptConfig result{.excluded = inner.words("exclude_modules", false),
                          .kv_cache = parse_kv_cache(inner)};
    parse_grids(inner, result);
    parse_awq_extras(inner);
    inner.no_other_keys();
    top.no_other_keys();
    return result;
  }
  ModeloptConfig result{.excluded = top.words("ignore", false), .kv_cache = parse_kv_cache(top)};
  parse_grids(top, result);
  top.no_other_keys();
  return result;
}

}  // namespace lathe
