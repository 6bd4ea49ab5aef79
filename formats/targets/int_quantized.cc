#include "formats/targets/int_quantized.h"

#include <ATen/ATen.h>

#include "formats/targets/stored_scales.h"
#include "lib/base/error.h"

namespace lathe {

namespace {

/// Symmetric rows or groups of integers, and inputs that an engine multiplies them with.
bool multiplied(Scheme scheme, const ActivationScheme& activations) {
  scheme.hadamard = 0;  // transform_config says it
  const Scheme plain{.type = "int", .bits = scheme.bits, .group_size = scheme.group_size, .symmetric = true};
  if (scheme != plain) return false;
  const bool each_token = activations.dynamic && activations.per == ActivationScheme::Per::token;
  if (activations.float_grid() != nullptr)
    return scheme.bits == 4 && each_token && activations.type == kE4M3.name;
  return scheme.bits == 4 ? each_token : scheme.bits == 8 && scheme.group_size == -1;
}

}  // namespace

bool is_int_quantized(const Scheme& scheme, const std::optional<ActivationScheme>& activations) {
  return scheme.type == "int" && activations && activations->float_grid() == nullptr;
}

std::optional<std::string> int_quantized_refuses(const PlannedLinear& linear) {
  if (const auto reason = linear.activations->problem()) return reason;
  if (linear.expert && !linear.activations->dynamic) {
    return "neither transformers nor vLLM reads experts with static activations; use dynamic: true for them, "
           "in a rule of their own (target `expert`) before this one";
  }
  if (multiplied(linear.scheme, *linear.activations)) return std::nullopt;
  return fmt::format(
      "weights {} can't be multiplied with activations {}: engines take int8 activations with bits: 8, "
      "group_size: -1 and symmetric: true, and int8 or fp8_e4m3 ones, dynamic per token, with bits: 4 and "
      "symmetric: true; or leave out `activations`",
      linear.scheme.describe(), linear.activations->describe());
}

std::vector<PlannedTensor> int_quantized_layout(const PlannedLinear& linear) {
  std::vector<PlannedTensor> tensors = {
      {linear.name + ".weight", {DType::I8, {linear.out, linear.in}}},
      {linear.name + ".weight_scale", {linear.scale_dtype, {linear.out, linear.scheme.groups(linear.in)}}}};
  if (linear.activations->dynamic) return tensors;
  tensors.push_back({linear.name + ".input_scale", {linear.scale_dtype, {1}}});
  if (!linear.activations->symmetric)
    tensors.push_back({linear.name + ".input_zero_point", {DType::I8, {1}}});
  return tensors;
}

std::vector<std::pair<std::string, at::Tensor>> int_quantized_pack(const std::string& name,
                                                                   const QuantizedTensor& tensor) {
  LATHE_ASSERT(tensor.codes.scalar_type() == at::kChar && tensor.scheme.symmetric,
               "{}: codes against the scheme", name);
  const InputQuantizer& input = *tensor.input;
  std::vector<std::pair<std::string, at::Tensor>> tensors = {
      {name + ".weight", tensor.codes.cpu().contiguous()},
      {name + ".weight_scale", stored_scales(name, tensor.scales, tensor.scale_dtype)}};
  if (input.scheme.dynamic) return tensors;
  tensors.emplace_back(name + ".input_scale", stored_input_scale(name, input.scale, tensor.scale_dtype));
  if (!input.scheme.symmetric)
    tensors.emplace_back(name + ".input_zero_point", at::full({1}, input.zero_point, at::kChar));
  return tensors;
}

nlohmann::json input_activations_json(const ActivationScheme& scheme) {
  return {{"num_bits", scheme.bits},
          {"type", scheme.type},
          {"symmetric", scheme.symmetric},
          {"strategy", name_of(scheme.per)},
          {"dynamic", scheme.dynamic}};
}

}  // namespace lathe
