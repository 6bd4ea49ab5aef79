#include "formats/targets/compressed_tensors_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/targets/compressed_tensors.h"
#include "formats/targets/float_quantized.h"
#include "formats/targets/int_quantized.h"
#include "formats/targets/kv_cache_format.h"
#include "formats/targets/rotation_format.h"
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

/// Absent, null, or a size: of groups; of blocks the second side.
int64_t float_group_size(StrictObject& object, const std::string& strategy) {
  if (strategy == "block") {
    if (object.need("block_structure", "[128, 128]") != json({128, 128}))
      object.refuse("block_structure", "[128, 128]");
    object.unused("group_size", "groups");
    return 128;
  }
  object.unused("block_structure", "quantisation in blocks");
  if (strategy == "group" || strategy == "tensor_group") return object.integer("group_size", 1, 1 << 20);
  const json* value = object.find("group_size");
  if (value != nullptr && !value->is_null()) object.refuse("group_size", "none, with strategy " + strategy);
  return -1;
}

/// E8M0 is stored as torch.uint8.
bool has_e8m0_scales(StrictObject& object) {
  return object.optional_word("scale_dtype", {"torch.uint8", "torch.float8_e4m3fn"}) == "torch.uint8";
}

Scheme parse_float_weights(StrictObject& weights) {
  const int bits = weights.integer("num_bits", 4, 8);
  if (!weights.truth("symmetric"))
    weights.refuse("symmetric", "true (floating-point grids have no zero points)");
  const std::string strategy =
      weights.word("strategy", {"tensor", "channel", "block", "group", "tensor_group"});
  const int64_t group_size = float_group_size(weights, strategy);
  const bool e8m0 = has_e8m0_scales(weights);
  const json* dynamic = weights.find("dynamic");
  if (dynamic != nullptr && *dynamic != false)
    weights.refuse("dynamic", "false (weights are quantised once)");
  weights.optional_word("actorder", {"static", "weight"});
  weights.informational({"observer", "observer_kwargs", "zp_dtype"});
  weights.no_other_keys();
  const auto scheme = float_weights_scheme(bits, strategy, group_size, e8m0);
  if (!scheme) {
    user_error(
        "{}: {}-bit floating-point weights with strategy {}{}: expected FP8 per tensor, channel or 128x128 "
        "block, "
        "NVFP4 (tensor_group of 16), MXFP4, MXFP6 or MXFP8 (groups of 32, scale_dtype torch.uint8)",
        weights.where(), bits, strategy, group_size > 0 ? fmt::format(" of {}", group_size) : "");
  }
  return *scheme;
}

Scheme parse_weights(const json& value, const std::string& where) {
  StrictObject weights(value, where);
  Scheme scheme;
  scheme.type = weights.word("type", {"int", "float"});
  if (scheme.type == "float") return parse_float_weights(weights);
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

ActivationScheme parse_float_activations(StrictObject& activations) {
  const int bits = activations.integer("num_bits", 4, 8);
  if (!activations.truth("symmetric"))
    activations.refuse("symmetric", "true (floating-point grids have no zero points)");
  const std::string strategy = activations.word("strategy", {"tensor", "token", "group", "tensor_group"});
  const int64_t group_size = std::max<int64_t>(0, float_group_size(activations, strategy));
  const bool e8m0 = has_e8m0_scales(activations);
  const json& dynamic = activations.need("dynamic", "true, false or local");
  if (!dynamic.is_boolean() && dynamic != "local") activations.refuse("dynamic", "true, false or local");
  activations.optional_word("actorder", {});
  activations.informational({"observer", "observer_kwargs", "zp_dtype"});
  activations.no_other_keys();
  const auto scheme = float_activations_scheme(bits, strategy, group_size, dynamic != false, e8m0);
  if (!scheme) {
    user_error(
        "{}: {}-bit floating-point activations, {} {}: expected FP8 (static per tensor, dynamic per token or "
        "group of 128), NVFP4 (tensor_group of 16, local), MXFP4 or MXFP8 (dynamic groups of 32)",
        activations.where(), bits, strategy, dynamic.dump());
  }
  return *scheme;
}

ActivationScheme parse_activations(const json& value, const std::string& where) {
  StrictObject activations(value, where);
  ActivationScheme scheme;
  scheme.type = activations.word("type", {"int", "float"});
  if (scheme.type == "float") return parse_float_activations(activations);
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

/// What engines multiply: the target's own rules.
void check_float_quantized(const CompressedTensorsConfig::Group& group, const std::string& format,
                           const std::string& where) {
  const std::string own = float_format_of(group.scheme);
  if (own != format) {
    user_error("{}.weights: {} is stored as {}, but the format is {}", where, group.scheme.describe(), own,
               format);
  }
  const int64_t size = 128;  // any that blocks and groups divide
  const PlannedLinear linear{
      .name = "", .out = size, .in = size, .scheme = group.scheme, .activations = group.activations};
  if (const auto reason = float_quantized_refuses(linear)) user_error("{}: {}", where, *reason);
}

/// Symmetric integers, a byte each, beside quantised activations: the presets W8A8, W4A8, W4AFP8 and their
/// like.
void check_int_quantized(const CompressedTensorsConfig::Group& group, const std::string& where) {
  if (!group.activations) {
    user_error("{}.input_activations: expected an object ({} is for quantised activations), found none",
               where, kIntQuantized);
  }
  if (group.scheme.type == "int" && group.scheme.symmetric) return;
  user_error("{}.weights: expected symmetric integers beside quantised activations, found {}", where,
             group.scheme.describe());
}

/// Words of integers beside FP8 activations: W4AFP8 as vLLM loads it, whatever the weights are.
void check_packed_inputs(const CompressedTensorsConfig::Group& group, const std::string& where) {
  if (!group.activations) return;
  const ActivationScheme& inputs = *group.activations;
  if (inputs.type == kE4M3.name && inputs.dynamic && inputs.per == ActivationScheme::Per::token) return;
  user_error(
      "{}.input_activations: expected none, or fp8_e4m3 dynamic per token, beside {}, found {} (integer "
      "ones stand beside {})",
      where, kPackQuantized, inputs.describe(), kIntQuantized);
}

const std::vector<std::string> kFormats = {kPackQuantized, kIntQuantized, kFloatQuantized, kNvfp4Packed,
                                           kMxfp4Packed,   kMxfp6Packed,  kMxfp8Quantized};

/// `format`: the whole file's, where the group names none.
CompressedTensorsConfig::Group parse_group(const std::string& name, const json& value,
                                           const std::string& where, const std::string& format) {
  StrictObject group(value, where);
  CompressedTensorsConfig::Group result{
      name, NamePatterns(group.words("targets", true), where + ".targets"), {}, std::nullopt, false};
  const std::string own = group.optional_word("format", kFormats);
  if (own.empty() && format == kMixedPrecision)
    user_error("{}: missing key 'format': in a mixed-precision model each group has its own", where);
  if (!own.empty() && format != kMixedPrecision && own != format) group.refuse("format", format);
  const std::string& stored = own.empty() ? format : own;
  result.packed = stored == kPackQuantized;
  const json* activations = group.find("input_activations");
  if (activations != nullptr && !activations->is_null()) {
    result.activations = parse_activations(*activations, where + ".input_activations");
  }
  group.unused("output_activations", "quantising outputs");
  result.scheme = parse_weights(group.need("weights", "an object"), where + ".weights");
  group.no_other_keys();
  if (stored == kIntQuantized) {
    check_int_quantized(result, where);
  } else if (result.scheme.float_grid() != nullptr || stored != kPackQuantized) {
    check_float_quantized(result, stored, where);
  } else {
    check_packed_inputs(result, where);
  }
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

int64_t CompressedTensorsConfig::rotation_of(const std::string& linear) const {
  const bool rotated = rotation && rotation->targets.match(linear) != MatchKind::none &&
                       rotation->ignore.match(linear) == MatchKind::none;
  return rotated ? rotation->block : 0;
}

namespace {

std::vector<std::string> whole_formats() {
  std::vector<std::string> formats = kFormats;
  formats.emplace_back(kMixedPrecision);
  return formats;
}

}  // namespace

CompressedTensorsConfig parse_compressed_tensors_config(const json& config, const std::string& where) {
  StrictObject top(config, where);
  top.word("quant_method", {"compressed-tensors"});
  const std::string format = top.word("format", whole_formats());
  top.optional_word("quantization_status", {"compressed"});
  top.unused("sparsity_config", "sparsity");
  top.unused("moe_sparsity_config", "sparsity");
  top.informational({"version", "global_compression_ratio"});
  CompressedTensorsConfig result{.groups = {}, .ignore = {top.words("ignore", false), where + ".ignore"}};
  if (const json* cache = top.find("kv_cache_scheme"); cache != nullptr)
    result.kv_cache = parse_kv_cache_scheme(*cache, where + ".kv_cache_scheme");
  if (const json* transform = top.find("transform_config"); transform != nullptr)
    result.rotation = parse_rotation(*transform, where + ".transform_config");
  const json& groups = top.need("config_groups", "an object");
  if (!groups.is_object()) top.refuse("config_groups", "an object");
  for (const auto& [name, group] : groups.items()) {
    result.groups.push_back(parse_group(name, group, where + ".config_groups." + name, format));
  }
  top.no_other_keys();
  return result;
}

}  // namespace lathe
