#include "formats/targets/compressed_tensors_config.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "formats/targets/compressed_tensors.h"
#include "formats/targets/int_quantized.h"
#include "formats/targets/kv_cache_format.h"
#include "formats/targets/strict_object.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;

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
  scheme.bits = weights.integer("num_bits", 2, 8);
  scheme.symmetric = weights.truth("symmetric");
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

ActivationScheme parse_activations(const json& value, const std::string& where) {
  StrictObject activations(value, where);
  ActivationScheme scheme;
  scheme.type = activations.word("type", {"int"});
  scheme.bits = activations.integer("num_bits", 8, 8);
  scheme.symmetric = activations.truth("symmetric");
  scheme.dynamic = activations.truth("dynamic");
  using Per = ActivationScheme::Per;
  scheme.per = activations.word("strategy", {"token", "tensor"}) == "token" ? Per::token : Per::tensor;
  if (const auto problem = scheme.problem()) user_error("{}: {}", where, *problem);
  activations.optional_word("zp_dtype", {"torch.int8"});
  activations.optional_word("actorder", {});
  activations.unused("group_size", "activations in groups");
  activations.unused("scale_dtype", "a scale type of its own");
  activations.unused("block_structure", "quantisation in blocks");
  activations.informational({"observer", "observer_kwargs"});
  activations.no_other_keys();
  return scheme;
}

/// INT8 rows beside INT8 activations: what the format holds in every engine.
void check_int_quantized(const CompressedTensorsConfig::Group& group, const std::string& where) {
  if (!group.activations) {
    user_error("{}.input_activations: expected an object ({} is for quantised activations), found none",
               where, kIntQuantized);
  }
  const Scheme expected{.type = "int", .bits = 8, .group_size = -1, .symmetric = true};
  if (group.scheme != expected) {
    user_error("{}.weights: expected {} beside quantised activations, found {}", where, expected.describe(),
               group.scheme.describe());
  }
}

/// `format`: the whole file's, where the group names none.
CompressedTensorsConfig::Group parse_group(const std::string& name, const json& value,
                                           const std::string& where, const std::string& format) {
  StrictObject group(value, where);
  CompressedTensorsConfig::Group result{
      name, NamePatterns(group.words("targets", true), where + ".targets"), {}, std::nullopt};
  const std::string own = group.optional_word("format", {kPackQuantized, kIntQuantized});
  if (own.empty() && format == kMixedPrecision)
    user_error("{}: missing key 'format': in a mixed-precision model each group has its own", where);
  if (!own.empty() && format != kMixedPrecision && own != format) group.refuse("format", format);
  const bool int_quantized = (own.empty() ? format : own) == kIntQuantized;
  const json* activations = group.find("input_activations");
  if (activations != nullptr && !activations->is_null()) {
    if (!int_quantized)
      group.refuse("input_activations", "null (activations are not quantised in this format)");
    result.activations = parse_activations(*activations, where + ".input_activations");
  }
  group.unused("output_activations", "quantising outputs");
  result.scheme = parse_weights(group.need("weights", "an object"), where + ".weights");
  group.no_other_keys();
  if (int_quantized) check_int_quantized(result, where);
  return result;
}

}  // namespace

const CompressedTensorsConfig::Group* CompressedTensorsConfig::group_of(const std::string& linear) const {
  if (ignore.match(linear) != MatchKind::none) return nullptr;
  const Group* best = nullptr;
  MatchKind best_kind = MatchKind::none;
  for (const Group& group : groups) {
    const MatchKind kind = group.targets.match(linear);
    if (kind < best_kind) {
      best = &group;
      best_kind = kind;
    }
  }
  return best;
}

CompressedTensorsConfig parse_compressed_tensors_config(const json& config, const std::string& where) {
  StrictObject top(config, where);
  top.word("quant_method", {"compressed-tensors"});
  const std::string format = top.word("format", {kPackQuantized, kIntQuantized, kMixedPrecision});
  top.optional_word("quantization_status", {"compressed"});
  top.unused("sparsity_config", "sparsity");
  top.unused("moe_sparsity_config", "sparsity");
  top.unused("transform_config", "an online transform");
  top.informational({"version", "global_compression_ratio"});
  CompressedTensorsConfig result{.groups = {}, .ignore = {top.words("ignore", false), where + ".ignore"}};
  if (const json* cache = top.find("kv_cache_scheme"); cache != nullptr)
    result.kv_cache = parse_kv_cache_scheme(*cache, where + ".kv_cache_scheme");
  const json& groups = top.need("config_groups", "an object");
  if (!groups.is_object()) top.refuse("config_groups", "an object");
  for (const auto& [name, group] : groups.items()) {
    result.groups.push_back(parse_group(name, group, where + ".config_groups." + name, format));
  }
  top.no_other_keys();
  return result;
}

}  // namespace lathe
