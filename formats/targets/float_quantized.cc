#include "formats/targets/float_quantized.h"

#include <ATen/ATen.h>

#include <array>

#include "formats/targets/float_codes.h"
#include "formats/targets/stored_scales.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using Per = ActivationScheme::Per;

constexpr int64_t kBlock = 128;

/// A weights' scheme, its format, and the activations that engines multiply it with.
struct Combination {
  Scheme scheme;
  const char *format, *strategy;
  bool weights_alone;
  std::vector<ActivationScheme> activations;
};

/// vLLM 0.32, compressed_tensors.py: _is_fp8_w8a8, _is_fp8_w8a16, _is_nvfp4_format, _is_mxfp4, _is_mxfp8.
/// MXFP6: compressed-tensors 0.20's presets MXFP6A16 and MXFP6A8, which transformers reads; MXFP8 alone:
/// 0.19's MXFP8A16.
const std::array<Combination, 7>& combinations() {
  static const std::array<Combination, 7> rows = {{
      {Scheme::of_floats("fp8_e4m3", -1, -1),
       kFloatQuantized,
       "tensor",
       true,
       {fp8_inputs(false, Per::tensor), fp8_inputs(true, Per::token)}},
      {Scheme::of_floats("fp8_e4m3"),
       kFloatQuantized,
       "channel",
       true,
       {fp8_inputs(true, Per::token), fp8_inputs(false, Per::tensor)}},
      {Scheme::of_floats("fp8_e4m3", kBlock, kBlock),
       kFloatQuantized,
       "block",
       false,
       {fp8_inputs(true, Per::group, kBlock)}},
      {Scheme::of_floats("nvfp4"),
       kNvfp4Packed,
       "tensor_group",
       true,
       {ActivationScheme::of_floats("nvfp4")}},
      {Scheme::of_floats("mxfp4"), kMxfp4Packed, "group", true, {ActivationScheme::of_floats("mxfp4")}},
      {Scheme::of_floats("mxfp6_e2m3"), kMxfp6Packed, "group", true, {ActivationScheme::of_floats("mxfp8")}},
      {Scheme::of_floats("mxfp8"), kMxfp8Quantized, "group", true, {ActivationScheme::of_floats("mxfp8")}},
  }};
  return rows;
}

/// Rotated inputs are said elsewhere (transform_config), of any grid.
const Combination* find(Scheme scheme) {
  scheme.hadamard = 0;
  const auto row = std::ranges::find(combinations(), scheme, &Combination::scheme);
  return row == combinations().end() ? nullptr : &*row;
}

std::optional<std::string> refuses_activations(const PlannedLinear& linear, const Combination& row) {
  if (!linear.activations) {
    if (row.weights_alone) return std::nullopt;
    return fmt::format("{} without `activations` has no kernel in any engine; add activations: {}",
                       linear.scheme.describe(), row.activations.front().describe());
  }
  if (linear.expert && linear.activations->calibrated()) {
    return "transformers reads no experts with static activations; use dynamic ones for them, in a rule of "
           "their own "
           "(target `expert`) before this one";
  }
  std::string known;
  for (const ActivationScheme& scheme : row.activations) {
    if (scheme == *linear.activations) return std::nullopt;
    known += (known.empty() ? "" : " or ") + scheme.describe();
  }
  return fmt::format("weights {} can't be multiplied with activations {}: engines take {}",
                     linear.scheme.describe(), linear.activations->describe(), known);
}

std::optional<std::string> refuses_shape(const PlannedLinear& linear) {
  if (linear.out < 1 || linear.in < 1) return fmt::format("shape [{}, {}] is empty", linear.out, linear.in);
  if (linear.scheme.divides(linear.in)) return std::nullopt;
  return fmt::format(
      "{}: groups of {} do not divide the {} input features; leave this linear out with `ignore`",
      linear.scheme.describe(), linear.scheme.group_size, linear.in);
}

std::vector<int64_t> scale_shape(const PlannedLinear& linear) {
  if (linear.scheme.per_tensor()) return {1};
  const auto [rows, groups] = linear.scheme.parameter_shape(linear.out, linear.in);
  return {rows, groups};
}

/// The type of the scales' bytes: E8M0's are U8 here.
DType stored_scale_type(const PlannedLinear& linear) {
  const DType type = linear.scheme.scale_type(linear.scale_dtype);
  return type == DType::F8_E8M0 ? DType::U8 : type;
}

/// 1 / scale, F32 [1]. UserError where the scale is no FP32 number's reciprocal: Lathe's own are
/// (kernels::global_scale()).
at::Tensor stored_global(const std::string& name, const at::Tensor& scale) {
  const at::Tensor value = scale.cpu().view({1}), inverse = value.reciprocal();
  if (inverse.reciprocal().equal(value)) return inverse;
  user_error(
      "{}: the global scale {:.9g} is no reciprocal of an FP32 number, which compressed-tensors stores in "
      "its place: "
      "every weight would change in its last bit",
      name, value.item<float>());
}

at::Tensor stored_weight_scale(const std::string& name, const QuantizedTensor& tensor) {
  const DType type = tensor.scale_dtype;
  if (type == DType::F8_E4M3 || type == DType::F8_E8M0) return block_scale_codes(name, tensor);
  const at::Tensor scales = stored_scales(name, tensor.scales, type);
  return tensor.scheme.per_tensor() ? scales.view({1}) : scales;
}

}  // namespace

const char* float_format_of(const Scheme& scheme) {
  const Combination* const row = find(scheme);
  return row == nullptr ? "" : row->format;
}

std::optional<std::string> float_quantized_refuses(const PlannedLinear& linear) {
  const Combination* const row = find(linear.scheme);
  if (row == nullptr) {
    return fmt::format(
        "weights {} can't be stored: compressed-tensors has fp8_e4m3 per tensor, channel or block, nvfp4, "
        "mxfp4, mxfp6_e2m3 and mxfp8",
        linear.scheme.describe());
  }
  if (linear.group_index) return "its readers refuse the group indices (weight_g_idx) of reordered groups";
  if (const auto reason = refuses_shape(linear)) return reason;
  return refuses_activations(linear, *row);
}

std::vector<PlannedTensor> float_quantized_layout(const PlannedLinear& linear) {
  const bool packed = packs_float_codes(linear.scheme), global = linear.scheme.has_global_scale();
  std::vector<PlannedTensor> tensors;
  if (global) tensors.push_back({linear.name + ".weight_global_scale", {DType::F32, {1}}});
  if (global && linear.activations)
    tensors.push_back({linear.name + ".input_global_scale", {DType::F32, {1}}});
  if (packed) {
    tensors.push_back(
        {linear.name + ".weight_packed", {DType::U8, {linear.out, linear.in * linear.scheme.bits / 8}}});
  } else {
    tensors.push_back({linear.name + ".weight", {DType::F8_E4M3, {linear.out, linear.in}}});
  }
  tensors.push_back({linear.name + ".weight_scale", {stored_scale_type(linear), scale_shape(linear)}});
  if (!global && linear.activations && linear.activations->calibrated())
    tensors.push_back({linear.name + ".input_scale", {linear.scale_dtype, {1}}});
  return tensors;
}

std::vector<std::pair<std::string, at::Tensor>> float_quantized_pack(const std::string& name,
                                                                     const QuantizedTensor& tensor) {
  const bool packed = packs_float_codes(tensor.scheme), global = tensor.scheme.has_global_scale();
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  if (global) tensors.emplace_back(name + ".weight_global_scale", stored_global(name, tensor.global_scale));
  if (global && tensor.input)
    tensors.emplace_back(name + ".input_global_scale",
                         stored_global(name, at::full({1}, tensor.input->scale, at::kFloat)));
  if (packed) {
    tensors.emplace_back(name + ".weight_packed",
                         tensor.scheme.bits == 4 ? pack_fp4(tensor.codes) : pack_fp6(tensor.codes));
  } else {
    tensors.emplace_back(name + ".weight", fp8_of_codes(tensor.codes));
  }
  tensors.emplace_back(name + ".weight_scale", stored_weight_scale(name, tensor));
  if (!global && tensor.input && tensor.input->scheme.calibrated()) {
    tensors.emplace_back(name + ".input_scale",
                         stored_input_scale(name, tensor.input->scale, tensor.scale_dtype));
  }
  return tensors;
}

bool packs_float_codes(const Scheme& scheme) { return scheme.bits < 8; }

at::Tensor unpack_float_codes(const at::Tensor& packed, const Scheme& scheme) {
  return scheme.bits == 4 ? unpack_fp4(packed) : unpack_fp6(packed);
}

nlohmann::json float_weights_json(const Scheme& scheme) {
  const Combination* const row = find(scheme);
  LATHE_ASSERT(row != nullptr, "compressed-tensors has no {}", scheme.describe());
  nlohmann::json weights = {{"num_bits", scheme.bits},
                            {"type", "float"},
                            {"symmetric", true},
                            {"strategy", row->strategy},
                            {"dynamic", false}};
  const DType scales = scheme.scale_type(DType::F32);
  if (scales == DType::F8_E4M3) weights["scale_dtype"] = "torch.float8_e4m3fn";
  if (scales == DType::F8_E8M0) weights["scale_dtype"] = "torch.uint8";
  if (scales != DType::F32) weights["group_size"] = scheme.group_size;
  if (scheme.shares_rows() && !scheme.per_tensor())
    weights["block_structure"] = {scheme.rows, scheme.group_size};
  return weights;
}

nlohmann::json float_activations_json(const ActivationScheme& scheme) {
  nlohmann::json activations = {{"num_bits", scheme.bits},
                                {"type", "float"},
                                {"symmetric", true},
                                {"strategy", name_of(scheme.per)},
                                {"dynamic", scheme.dynamic}};
  if (scheme.per == Per::group) activations["group_size"] = scheme.group_size;
  const DType scales = scheme.as_rows().scale_type(DType::F32);
  if (scales == DType::F8_E8M0) activations["scale_dtype"] = "torch.uint8";
  if (scales != DType::F8_E4M3) return activations;
  activations["scale_dtype"] = "torch.float8_e4m3fn";
  activations["strategy"] = "tensor_group";
  activations["dynamic"] = "local";
  return activations;
}

std::optional<Scheme> float_weights_scheme(int bits, const std::string& strategy, int64_t group_size,
                                           bool e8m0) {
  for (const Combination& row : combinations()) {
    const bool coded_e8m0 = row.scheme.scale_type(DType::F32) == DType::F8_E8M0;
    if (row.scheme.bits == bits && row.strategy == strategy && row.scheme.group_size == group_size &&
        coded_e8m0 == e8m0)
      return row.scheme;
  }
  return std::nullopt;
}

std::optional<ActivationScheme> float_activations_scheme(int bits, const std::string& strategy,
                                                         int64_t group_size, bool dynamic, bool e8m0) {
  for (const Combination& row : combinations()) {
    for (const ActivationScheme& scheme : row.activations) {
      const bool local = scheme.calibrated() && scheme.dynamic;
      const bool coded_e8m0 = scheme.as_rows().scale_type(DType::F32) == DType::F8_E8M0;
      const std::string own = local ? "tensor_group" : name_of(scheme.per);
      if (scheme.bits == bits && own == strategy && scheme.group_size == group_size &&
          scheme.dynamic == dynamic && coded_e8m0 == e8m0)
        return scheme;
    }
  }
  return std::nullopt;
}

}  // namespace lathe
