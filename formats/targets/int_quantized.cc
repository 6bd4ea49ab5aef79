#include "formats/targets/int_quantized.h"

#include <ATen/ATen.h>

#include "formats/targets/stored_scales.h"
#include "lib/base/error.h"

namespace lathe {

std::optional<std::string> int_quantized_refuses(const PlannedLinear& linear) {
  if (const auto reason = linear.activations->problem()) return reason;
  if (linear.activations->float_grid() != nullptr) {
    return fmt::format(
        "integer weights beside {} activations can't be stored: use weights on a floating-point grid, or "
        "type: int for the activations",
        linear.activations->type);
  }
  if (linear.expert && !linear.activations->dynamic) {
    return "neither transformers nor vLLM reads experts with static activations; use dynamic: true for them, "
           "in "
           "a rule of their own (target `expert`) before this one";
  }
  Scheme scheme = linear.scheme;
  scheme.hadamard = 0;  // transform_config says it
  const Scheme rows{.type = "int", .bits = 8, .group_size = -1, .symmetric = true};
  if (scheme == rows) return std::nullopt;
  return fmt::format(
      "weights {} can't be multiplied with {}-bit activations: int-quantized needs bits: 8, group_size: -1 "
      "and "
      "symmetric: true; or leave out `activations`",
      scheme.describe(), linear.activations->bits);
}

std::vector<PlannedTensor> int_quantized_layout(const PlannedLinear& linear) {
  std::vector<PlannedTensor> tensors = {
      {linear.name + ".weight", {DType::I8, {linear.out, linear.in}}},
      {linear.name + ".weight_scale", {linear.scale_dtype, {linear.out, 1}}}};
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
