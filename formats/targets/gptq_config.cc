#include "formats/targets/gptq_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "formats/safetensors/json_text.h"
#include "formats/targets/dynamic_rules.h"
#include "formats/targets/strict_object.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;

/// Linears of one scheme, in order of first appearance.
struct Group {
  Scheme scheme;
  std::vector<std::string> names;
};

std::vector<Group> groups_of(const std::vector<PlannedLinear>& linears) {
  std::vector<Group> groups;
  for (const PlannedLinear& linear : linears) {
    auto group = std::ranges::find(groups, linear.scheme, &Group::scheme);
    if (group == groups.end()) group = groups.insert(group, {linear.scheme, {}});
    group->names.push_back(linear.name);
  }
  return groups;
}

json scheme_json(const Scheme& scheme) {
  return {{"bits", scheme.bits}, {"group_size", scheme.group_size}, {"sym", scheme.symmetric}};
}

/// Those that consumers would look for: the head is theirs only where `lm_head` is true.
std::vector<std::string> without_head(const std::vector<std::string>& names) {
  std::vector<std::string> rest;
  std::ranges::copy_if(names, std::back_inserter(rest), [](const auto& name) { return name != "lm_head"; });
  return rest;
}

bool quantises_head(const std::vector<PlannedLinear>& linears) {
  return std::ranges::find(linears, LinearRole::lm_head, &PlannedLinear::role) != linears.end();
}

bool is_one_of(int64_t value, std::initializer_list<int64_t> choices) {
  return std::ranges::find(choices, value) != choices.end();
}

/// Why vLLM refuses the linear (quantization/auto_gptq.py and utils/marlin_utils.py of 0.32); empty where it
/// does not.
std::string vllm_refuses(const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  if (!scheme.symmetric || !is_one_of(scheme.bits, {4, 8}))
    return "it reads symmetric weights of 4 and 8 bits only";
  if (!is_one_of(scheme.group_size, {-1, 32, 64, 128}))
    return "it reads groups of 32, 64 and 128 and whole rows only";
  if (linear.group_index && scheme.group_size != -1) {
    return "it reads no groups in an order of their own (desc_act); the solver's static_groups: true, or "
           "act_order: gar or none, leave none";
  }
  return {};
}

/// The keys that override a scheme.
Scheme parse_scheme(StrictObject& object, const Scheme& fallback, bool required) {
  Scheme scheme = fallback;
  const auto wanted = [&](const char* key) { return required || object.find(key) != nullptr; };
  if (wanted("bits")) {
    scheme.bits = object.integer("bits", 2, 8);
    if (!is_one_of(scheme.bits, {2, 3, 4, 8})) object.refuse("bits", "2, 3, 4 or 8");
  }
  if (wanted("group_size")) {
    scheme.group_size = object.integer("group_size", -1, 1 << 30);
    if (scheme.group_size == 0) object.refuse("group_size", "a positive number, or -1");
  }
  if (wanted("sym")) scheme.symmetric = object.truth("sym");
  if (wanted("desc_act")) object.truth("desc_act");  // g_idx says it
  return scheme;
}

GptqVersion parse_version(StrictObject& config) {
  const std::vector<std::string> choices = {"gptq", "gptq_v2"};
  const std::string format = config.optional_word("format", choices);
  const std::string checkpoint = config.optional_word("checkpoint_format", choices);
  if (!format.empty() && !checkpoint.empty() && format != checkpoint)
    config.refuse("checkpoint_format", fmt::format("{} as `format` says", format));
  return (format.empty() ? checkpoint : format) == "gptq_v2" ? GptqVersion::v2 : GptqVersion::v1;
}

/// Did GPTQModel write the file? Its zero points of version 1 borrow from their neighbours.
bool by_gptqmodel(StrictObject& config) {
  const json* meta = config.find("meta");
  if (meta == nullptr || !meta->is_object()) return false;
  const json quantizer = meta->value("quantizer", json());
  const json first = quantizer.is_array() && !quantizer.empty() ? quantizer.front() : quantizer;
  return first.is_string() && first.get_ref<const std::string&>().starts_with("gptqmodel:");
}

std::vector<GptqConfig::Rule> parse_rules(StrictObject& config, const Scheme& scheme) {
  std::vector<GptqConfig::Rule> rules;
  const json* dynamic = config.find("dynamic");
  if (dynamic == nullptr || dynamic->is_null()) return rules;
  if (!dynamic->is_object()) config.refuse("dynamic", "an object");
  for (const auto& [key, value] : dynamic->items()) {
    const bool prefixed = key.starts_with("-:") || key.starts_with("+:");
    const std::string where = fmt::format("{}.dynamic.{}", config.where(), quote_text(key));
    StrictObject change(value, where);
    GptqConfig::Rule rule{key, NamePatterns({"re:" + key.substr(prefixed ? 2 : 0)}, where),
                          key.starts_with("-:"), scheme};
    if (!rule.skip) rule.scheme = parse_scheme(change, scheme, false);
    rules.push_back(std::move(rule));
  }
  return rules;
}

}  // namespace

json gptq_quantization_config(const std::vector<PlannedLinear>& linears,
                              const std::vector<std::string>& ignored, GptqVersion version) {
  const std::vector<Group> groups = groups_of(linears);
  const auto size = [](const Group& group) { return group.names.size(); };
  const Group& main = *std::ranges::max_element(groups, {}, size);
  json config = scheme_json(main.scheme);
  const char* format = checkpoint_format_of(version);
  config.update({{"quant_method", "gptq"},
                 {"checkpoint_format", format},
                 {"format", format},
                 {"pack_dtype", "int32"},
                 {"lm_head", quantises_head(linears)},
                 {"desc_act", std::ranges::any_of(linears, &PlannedLinear::group_index)},
                 {"meta", {{"quantizer", {"lathe:" LATHE_VERSION}}}}});
  json dynamic = json::object();
  for (const Group& group : groups) {
    if (&group != &main) add_dynamic_rules(dynamic, group.names, scheme_json(group.scheme));
  }
  const std::vector<std::string> kept = without_head(ignored);
  add_dynamic_rules(dynamic, kept);
  if (!dynamic.empty()) config["dynamic"] = std::move(dynamic);
  if (!kept.empty()) {  // for transformers, which knows no `dynamic`
    json names = json::array();
    for (const PlannedLinear& linear : linears) names.push_back(linear.name);
    config["modules_in_block_to_quantize"] = json::array({std::move(names)});
  }
  return config;
}

std::vector<std::pair<std::string, json>> gptq_side_files(const json& config) {
  return {{"quantize_config.json", config}};
}

std::vector<std::string> gptq_warnings(const std::vector<PlannedLinear>& linears, GptqVersion version) {
  std::vector<std::string> warnings;
  const auto with_zeros =
      std::ranges::find_if(linears, [](const PlannedLinear& linear) { return !linear.scheme.symmetric; });
  const bool foreign = version == GptqVersion::v1 && with_zeros != linears.end();
  for (const PlannedLinear& linear : linears) {
    const std::string reason = vllm_refuses(linear);
    if (reason.empty()) continue;
    warnings.push_back(fmt::format("vLLM (0.32) won't load '{}', {}: {}; {} reads it", linear.name,
                                   linear.scheme.describe(), reason, foreign ? "transformers" : "GPTQModel"));
    break;
  }
  if (foreign) {
    warnings.push_back(fmt::format(
        "GPTQModel (7.7) won't load '{}', {}: its loader takes zero points of version 1 only from files that "
        "it wrote itself; output format gptq-v2 it reads",
        with_zeros->name, with_zeros->scheme.describe()));
  }
  if (groups_of(linears).size() > 1) {
    warnings.push_back(
        "several schemes in one GPTQ folder: GPTQModel and vLLM read them (`dynamic`), but transformers "
        "(optimum 2.3) reads one scheme for all");
  }
  if (quantises_head(linears)) {
    warnings.push_back(
        "a quantised lm_head in GPTQ: GPTQModel and vLLM read it, but transformers (optimum 2.3) looks for "
        "quantised linears in blocks alone");
  }
  const auto expert = std::ranges::find_if(linears, &PlannedLinear::expert);
  if (expert != linears.end()) {
    // Mixtral's own names; GPTQModel 7.7 knows those of transformers 5 only (mlp.experts.0.gate_proj).
    const bool mixtral = expert->name.find(".block_sparse_moe.") != std::string::npos;
    warnings.push_back(fmt::format(
        "quantised experts in GPTQ: {}, but transformers 5 stacks experts and looks for floating-point ones",
        mixtral ? "vLLM reads them, GPTQModel (7.7) looks for Mixtral's under other names"
                : "GPTQModel and vLLM read them"));
  }
  return warnings;
}

std::optional<Scheme> GptqConfig::scheme_of(const std::string& linear, const std::string& where) const {
  const Rule* found = nullptr;
  for (const Rule& rule : rules) {
    if (rule.pattern.match(linear) == MatchKind::none) continue;
    if (rule.skip) return std::nullopt;
    if (found != nullptr && found->scheme != rule.scheme) {
      user_error("{}.dynamic: {} and {} both match '{}' and differ; keep one of them", where,
                 quote_text(found->key), quote_text(rule.key), linear);
    }
    found = &rule;
  }
  return found != nullptr ? found->scheme : scheme;
}

GptqConfig parse_gptq_config(const json& value, const std::string& where) {
  StrictObject config(value, where);
  config.word("quant_method", {"gptq"});
  GptqConfig result;
  result.scheme = parse_scheme(config, {}, true);
  result.version = parse_version(config);
  if (by_gptqmodel(config)) result.borrow = GptqBorrow::whole_words;
  config.optional_word("pack_dtype", {"int32"});
  if (config.find("lm_head") != nullptr) result.lm_head = config.truth("lm_head");
  const json* marlin = config.find("is_marlin_format");  // AutoGPTQ's word before checkpoint_format
  if (marlin != nullptr && *marlin != false) config.refuse("is_marlin_format", "false");
  config.unused("rotation", "rotated weights");
  config.unused("adapter", "an adapter");
  result.rules = parse_rules(config, result.scheme);
  return result;  // other keys tell how the file was made
}

}  // namespace lathe
