#include "formats/targets/fp8_reader.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "formats/targets/float_codes.h"
#include "formats/targets/float_reader.h"
#include "formats/targets/strict_object.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using Per = ActivationScheme::Per;

constexpr int64_t kMostBlock = int64_t{1} << 20;
constexpr const char* kWeightScales[] = {".weight_scale", ".weight_scale_inv"};
/// AutoFP8's first name, what it and vLLM call it, and what transformers does.
constexpr const char* kInputScales[] = {".input_scale", ".activation_scale", ".act_scale"};

std::optional<std::array<int64_t, 2>> parse_block(StrictObject& config) {
  const nlohmann::json* const value = config.find("weight_block_size");
  if (value == nullptr || value->is_null()) return std::nullopt;
  const auto is_size = [](const nlohmann::json& size) {
    return size.is_number_integer() && size >= 1 && size <= kMostBlock;
  };
  if (!value->is_array() || value->size() != 2 || !is_size((*value)[0]) || !is_size((*value)[1]))
    config.refuse("weight_block_size", "two positive numbers, such as [128, 128], or null");
  return std::array<int64_t, 2>{(*value)[0], (*value)[1]};
}

bool is_plain(DType type) { return type == DType::F16 || type == DType::BF16 || type == DType::F32; }

}  // namespace

Fp8Reader::Config Fp8Reader::parse_config(const nlohmann::json& value, const std::string& where) {
  StrictObject object(value, where);
  object.word("quant_method", {"fp8"});
  object.optional_word("fmt", {"e4m3"});
  Config config{.block = parse_block(object)};
  config.dynamic = object.word("activation_scheme", {"dynamic", "static"}) == "dynamic";
  if (config.block && !config.dynamic)
    object.refuse("activation_scheme", "dynamic (no engine has static inputs with weights in blocks)");
  for (const char* key : {"modules_to_not_convert", "ignored_layers"}) {
    const std::vector<std::string> names = object.words(key, false);
    config.not_converted.insert(config.not_converted.end(), names.begin(), names.end());
  }
  object.unused("modules_to_convert", "FP8 embeddings");
  object.unused("kv_cache_scheme", "the KV cache's scales in this format");
  object.optional_word("scale_fmt", {"float", "ue8m0"});                 // the tensors say it
  object.informational({"dequantize", "is_checkpoint_fp8_serialized"});  // of whoever loads it
  object.no_other_keys();
  return config;
}

Fp8Reader::Fp8Reader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : LayoutReader(checkpoint, graph),
      config_(parse_config(checkpoint->config().at("quantization_config"), where())) {
  for (const Linear& linear : graph.linears()) {
    const auto weight = checkpoint->tensors().find(linear.name + ".weight");
    if (weight == checkpoint->tensors().end()) continue;  // which is the graph's to say
    if (weight->second.dtype == DType::F8_E4M3) {
      add_linear(linear);
    } else {
      check_no_scales(linear, weight->second);
    }
  }
}

/// As the libraries match it: the module, what it stands in, or its last names.
bool Fp8Reader::leaves_out(const std::string& linear) const {
  return std::ranges::any_of(config_.not_converted, [&](const std::string& name) {
    return linear == name || linear.starts_with(name + ".") || linear.ends_with("." + name);
  });
}

Scheme Fp8Reader::scheme() const {
  return config_.block ? Scheme::of_floats("fp8_e4m3", (*config_.block)[0], (*config_.block)[1])
                       : Scheme::of_floats("fp8_e4m3", -1, -1);
}

std::optional<ActivationScheme> Fp8Reader::input_scheme(int64_t in) const {
  if (!config_.block) return fp8_inputs(config_.dynamic, config_.dynamic ? Per::token : Per::tensor);
  const int64_t group = (*config_.block)[1];
  if (in % group != 0) return std::nullopt;
  return fp8_inputs(true, Per::group, group);
}

std::string Fp8Reader::scale_name(const std::string& linear) const {
  if (config_.block) return linear + ".weight_scale_inv";
  for (const char* suffix : kWeightScales)
    if (checkpoint().contains(linear + suffix)) return linear + suffix;
  return linear + ".weight_scale";
}

std::string Fp8Reader::input_scale_name(const std::string& linear) const {
  for (const char* suffix : kInputScales)
    if (checkpoint().contains(linear + suffix)) return linear + suffix;
  return linear + ".input_scale";
}

/// [] or [1], as it stands there.
PlannedTensor Fp8Reader::stored_scalar(const std::string& name) const {
  PlannedTensor scale{name, {DType::F32, {}}};
  const auto found = checkpoint().tensors().find(name);
  if (found == checkpoint().tensors().end()) return scale;
  if (is_plain(found->second.dtype)) scale.info.dtype = found->second.dtype;
  if (found->second.shape == std::vector<int64_t>{1}) scale.info.shape = {1};
  return scale;
}

PlannedTensor Fp8Reader::stored_scales(const Linear& linear) const {
  const std::string name = scale_name(linear.name);
  if (!config_.block) return stored_scalar(name);
  const auto [rows, groups] = scheme().parameter_shape(linear.out, linear.in);
  PlannedTensor scales{name, {DType::F32, {rows, groups}}};
  const auto found = checkpoint().tensors().find(name);
  if (found == checkpoint().tensors().end()) return scales;
  const DType type = found->second.dtype;
  if (is_plain(type) || type == DType::F8_E8M0) scales.info.dtype = type;
  return scales;
}

void Fp8Reader::add_linear(const Linear& linear) {
  const std::string weight = linear.name + ".weight";
  if (leaves_out(linear.name))
    user_error("{}: is F8_E4M3, but {} leaves '{}' in floating point", describe_tensor(checkpoint(), weight),
               where(), linear.name);
  const PlannedTensor scales = stored_scales(linear);
  if (linear.stored && !checkpoint().contains(scales.name))
    user_error(
        "{}: tensor '{}' is missing: expected {} (FP8 weights of several linears in one tensor are not read)",
        checkpoint().folder().string(), scales.name, scales.info.describe());
  PlannedLinear found = planned(linear, scheme());
  found.scale_dtype = is_plain(scales.info.dtype) ? scales.info.dtype : DType::F32;
  found.activations = input_scheme(linear.in);
  std::vector<PlannedTensor> tensors = {{weight, {DType::F8_E4M3, {linear.out, linear.in}}}, scales};
  if (!config_.dynamic) tensors.push_back(stored_scalar(input_scale_name(linear.name)));
  add(found, tensors);
}

void Fp8Reader::check_no_scales(const Linear& linear, const TensorInfo& weight) const {
  const auto check = [&](const std::string& name) {
    if (!checkpoint().contains(name)) return;
    user_error("{}: stands beside '{}.weight', which is {}: expected an F8_E4M3 weight, or no scale",
               describe_tensor(checkpoint(), name), linear.name, name_of(weight.dtype));
  };
  for (const char* suffix : kWeightScales) check(linear.name + suffix);
  for (const char* suffix : kInputScales) check(linear.name + suffix);
}

std::map<std::string, ActivationScheme> Fp8Reader::activations() const {
  std::map<std::string, ActivationScheme> result;
  for (const auto& [name, scheme] : schemes()) {
    if (const auto& activations = linear(name).activations) result.emplace(name, *activations);
  }
  return result;
}

std::optional<InputQuantizer> Fp8Reader::input_quantizer(const std::string& name) const {
  if (!schemes().contains(name) || !linear(name).activations) return std::nullopt;
  InputQuantizer quantizer{.scheme = *linear(name).activations};
  if (quantizer.scheme.calibrated()) quantizer.scale = positive_scales(input_scale_name(name)).item<float>();
  return quantizer;
}

QuantizedTensor Fp8Reader::read(const std::string& name) const {
  const PlannedLinear& linear = this->linear(name);
  const std::string weight = name + ".weight", scale = scale_name(name);
  QuantizedTensor tensor{.scheme = linear.scheme,
                         .scale_dtype = linear.scale_dtype,
                         .codes = codes_of_fp8(words(weight), describe_tensor(checkpoint(), weight)),
                         .scales = {},
                         .zero_points = {}};
  release(weight);
  if (checkpoint().tensors().at(scale).dtype == DType::F8_E8M0) {
    tensor.scales = block_scales_of(words(scale).view(at::kByte), describe_tensor(checkpoint(), scale));
    release(scale);
  } else {
    tensor.scales = positive_scales(scale);
  }
  const auto [rows, groups] = linear.scheme.parameter_shape(linear.out, linear.in);
  tensor.scales = tensor.scales.view({rows, groups});
  tensor.input = input_quantizer(name);
  return tensor;
}

}  // namespace lathe
