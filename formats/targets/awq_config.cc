#include "formats/targets/awq_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/targets/dynamic_rules.h"
#include "formats/targets/strict_object.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr const char* kSkipped = "modules_to_not_convert";

/// One of two names for a key.
const char* spelling(StrictObject& config, const char* today, const char* autoawq) {
  return config.find(today) == nullptr && config.find(autoawq) != nullptr ? autoawq : today;
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

AwqVersion parse_version(StrictObject& config) {
  const std::vector<std::string> choices = {"gemm", "GEMM", "gemv", "GEMV"};
  const std::string version = lower(config.optional_word("version", choices));
  const std::string format = lower(config.optional_word("format", choices));
  if (!version.empty() && !format.empty() && version != format)
    config.refuse("format", fmt::format("{} as `version` says", version));
  return (version.empty() ? format : version) == "gemv" ? AwqVersion::gemv : AwqVersion::gemm;
}

/// Lathe's own mark: all zero points are those of symmetric weights.
bool parse_symmetric(StrictObject& config) {
  const json* meta = config.find("meta");
  return meta != nullptr && meta->is_object() && meta->value("symmetric", json()) == true;
}

}  // namespace

json awq_quantization_config(const std::vector<PlannedLinear>& linears,
                             const std::vector<std::string>& ignored, AwqVersion version) {
  const Scheme& scheme = linears.front().scheme;
  json config = {{"quant_method", "awq"},
                 {"bits", scheme.bits},
                 {"group_size", scheme.group_size},
                 {"zero_point", true},
                 {"version", name_of(version)},
                 {"format", name_of(version)},
                 {"lm_head", false},
                 {"desc_act", false},
                 {kSkipped, module_texts(ignored)},
                 {"meta", {{"quantizer", {"lathe:" LATHE_VERSION}}, {"symmetric", scheme.symmetric}}}};
  json dynamic = json::object();
  std::vector<std::string> inside = ignored;
  std::erase(inside, "lm_head");
  add_dynamic_rules(dynamic, inside);
  if (!dynamic.empty()) config["dynamic"] = std::move(dynamic);
  return config;
}

std::vector<std::pair<std::string, json>> awq_side_files(const json& config) {
  const json legacy = {{"quant_method", "awq"},
                       {"zero_point", true},
                       {"q_group_size", config.at("group_size")},
                       {"w_bit", config.at("bits")},
                       {"version", config.at("version")},
                       {kSkipped, config.at(kSkipped)}};
  return {{"quantize_config.json", config}, {"quant_config.json", legacy}};
}

std::optional<std::string> awq_refuses_model(const std::vector<PlannedLinear>& linears,
                                             const std::vector<std::string>& ignored) {
  const PlannedLinear& first = linears.front();
  for (const PlannedLinear& linear : linears) {
    if (linear.scheme == first.scheme) continue;
    return fmt::format(
        "'{}' is {} but '{}' {}: an AWQ configuration has one scheme for all linears; give them one, or use "
        "output format gptq or compressed-tensors",
        first.name, first.scheme.describe(), linear.name, linear.scheme.describe());
  }
  for (const std::string& name : module_texts(ignored)) {
    const auto found = std::ranges::find_if(
        linears, [&](const PlannedLinear& linear) { return linear.name.find(name) != std::string::npos; });
    if (found == linears.end()) continue;
    return fmt::format(
        "'{}' stays in floating point, but its name is part of '{}', which consumers of AWQ would leave in "
        "floating point, too (modules_to_not_convert)",
        name, found->name);
  }
  return std::nullopt;
}

std::vector<std::string> awq_warnings(const std::vector<PlannedLinear>& linears,
                                      const std::vector<std::string>&) {
  if (std::ranges::none_of(linears, &PlannedLinear::expert)) return {};
  return {
      "quantised experts in AWQ: vLLM reads them, but transformers 5 stacks experts and looks for "
      "floating-point ones"};
}

bool AwqConfig::skips(const std::string& linear) const {
  return std::ranges::any_of(skipped,
                             [&](const std::string& part) { return linear.find(part) != std::string::npos; });
}

AwqConfig parse_awq_config(const json& value, const std::string& where) {
  StrictObject config(value, where);
  config.word("quant_method", {"awq"});
  AwqConfig result;
  result.scheme.bits = config.integer(spelling(config, "bits", "w_bit"), kAwqBits, kAwqBits);
  const char* size = spelling(config, "group_size", "q_group_size");
  result.scheme.group_size = config.integer(size, -1, 1 << 30);
  if (result.scheme.group_size == 0) config.refuse(size, "a positive number, or -1");
  const bool zero_points = config.truth("zero_point");
  result.version = parse_version(config);
  result.scheme.symmetric = !zero_points || parse_symmetric(config);
  result.skipped = config.words(kSkipped, false);
  return result;  // other keys tell how the file was made
}

}  // namespace lathe
