#include "formats/targets/modelopt.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cctype>

#include "formats/targets/float_codes.h"
#include "formats/targets/kv_cache_format.h"
#include "formats/targets/modelopt_config.h"
#include "formats/targets/stored_scales.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

using Per = ActivationScheme::Per;

constexpr int64_t kBlock = 128;
constexpr const char* kModeloptRangeScale = ".weight_scale_2";

struct Algorithm {
  const char* name;
  Scheme scheme;
  std::optional<ActivationScheme> activations;
  bool any_group = false;  // of whatever size
  bool written = true;     // else read alone
};

const std::vector<Algorithm>& algorithms() {
  static const std::vector<Algorithm> rows = {
      {"FP8", Scheme::of_floats("fp8_e4m3", -1, -1), fp8_inputs(false, Per::tensor)},
      {"FP8_PER_CHANNEL_PER_TOKEN", Scheme::of_floats("fp8_e4m3"), fp8_inputs(true, Per::token)},
      {"fp8_pb_wo", Scheme::of_floats("fp8_e4m3", kBlock, kBlock), fp8_inputs(true, Per::group, kBlock)},
      {"NVFP4", Scheme::of_floats("nvfp4"), ActivationScheme::of_floats("nvfp4")},
      {"W4A16_NVFP4", Scheme::of_floats("nvfp4"), std::nullopt},
      {"W4A16_AWQ", {.type = "int", .bits = 4, .group_size = 128, .symmetric = true}, std::nullopt, true},
      {"W4A8_AWQ",
       {.type = "int", .bits = 4, .group_size = kBlock, .symmetric = true},
       fp8_inputs(false, Per::tensor)},
      {"W4A8_MXFP4_FP8", Scheme::of_floats("mxfp4"), fp8_inputs(false, Per::tensor), false, false},
      {"MXFP8", Scheme::of_floats("mxfp8"), ActivationScheme::of_floats("mxfp8"), false, false},
  };
  return rows;
}

const Algorithm* find(const Scheme& scheme, const std::optional<ActivationScheme>& activations) {
  const auto row = std::ranges::find_if(algorithms(), [&](const Algorithm& algorithm) {
    Scheme expected = algorithm.scheme;
    if (algorithm.any_group && scheme.group_size > 0) expected.group_size = scheme.group_size;
    return algorithm.written && expected == scheme && algorithm.activations == activations;
  });
  return row == algorithms().end() ? nullptr : &*row;
}

bool is_int4(const Scheme& scheme) { return scheme.type == "int"; }

/// Does it have a weight_scale_2 that its codes know nothing of?
bool is_w4a8(const Scheme& scheme, bool quantised_input) { return is_int4(scheme) && quantised_input; }

/// Those that TensorRT-LLM doesn't stack with others.
bool stands_alone(LinearRole role) { return role == LinearRole::o_proj || role == LinearRole::down_proj; }

std::optional<std::string> refuses_role(const PlannedLinear& linear) {
  if (linear.role == LinearRole::router || linear.role == LinearRole::shared_expert_gate) {
    return fmt::format("no consumer reads a quantised {}; add '{}' to `ignore`", name_of(linear.role),
                       name_of(linear.role));
  }
  if (linear.expert && is_int4(linear.scheme))
    return "no consumer reads experts of W4A16_AWQ and W4A8_AWQ; use nvfp4 or fp8_e4m3";
  return std::nullopt;
}

std::optional<std::string> refuses_shape(const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  if (linear.out < 1 || linear.in < 1) return fmt::format("shape [{}, {}] is empty", linear.out, linear.in);
  if (!scheme.divides(linear.in)) {
    return fmt::format(
        "{}: groups of {} do not divide the {} input features; leave this linear out with `ignore`",
        scheme.describe(), scheme.group_size, linear.in);
  }
  if (is_int4(scheme) && linear.out % 2 != 0)
    return fmt::format("{} output features: two rows share a byte; leave this linear out with `ignore`",
                       linear.out);
  return std::nullopt;
}

/// TensorRT-LLM, the only reader: fpA_intB_gemm_template.h, generic_mixed_gemm_kernelLauncher.
std::optional<std::string> refuses_group(const Scheme& scheme) {
  if (!is_int4(scheme) || scheme.group_size == 64 || scheme.group_size == kBlock) return std::nullopt;
  return fmt::format(
      "group_size {}: TensorRT-LLM's kernels for int4 take groups of 64 and 128 (fpA_intB_gemm_template.h)",
      scheme.group_size);
}

std::optional<std::string> refuses(const PlannedLinear& linear) {
  if (find(linear.scheme, linear.activations) == nullptr) {
    return fmt::format(
        "{} can't be stored: modelopt has fp8_e4m3 per tensor with static activations, per channel with "
        "dynamic ones per "
        "token, or in blocks with dynamic ones per group; nvfp4 with nvfp4 activations or none; symmetric "
        "int4 in groups; and symmetric int4 in groups of 128 with static fp8_e4m3 activations",
        with_input(linear.scheme.describe(), linear.activations));
  }
  if (linear.group_index) {
    return "it has no place for the indices of reordered groups; set the solver's static_groups: true, or "
           "act_order: gar "
           "or none";
  }
  if (const auto reason = refuses_role(linear)) return reason;
  if (const auto reason = refuses_group(linear.scheme)) return reason;
  return refuses_shape(linear);
}

bool has_e8m0_scales(const Scheme& scheme) { return scheme.scale_type(DType::F32) == DType::F8_E8M0; }

/// weight_scale's.
TensorInfo scale_info(const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  const auto [rows, groups] = scheme.parameter_shape(linear.out, linear.in);
  if (is_int4(scheme)) return {linear.scale_dtype, {rows, groups}};
  if (scheme.has_global_scale()) return {DType::F8_E4M3, {rows, groups}};
  if (has_e8m0_scales(scheme)) return {DType::U8, {rows, groups}};
  if (scheme.per_tensor()) return {DType::F32, {}};
  if (scheme.shares_rows()) return {DType::F32, {rows, 1, groups, 1}};
  return {DType::F32, {rows}};
}

TensorInfo weight_info(const PlannedLinear& linear) {
  if (is_int4(linear.scheme)) return {DType::U8, {linear.out / 2, linear.in}};
  if (linear.scheme.bits == 4) return {DType::U8, {linear.out, linear.in / 2}};
  return {DType::F8_E4M3, {linear.out, linear.in}};
}

at::Tensor stored_weight(const QuantizedTensor& tensor) {
  if (is_int4(tensor.scheme)) return pack_row_pairs(tensor.codes);
  return tensor.scheme.has_global_scale() ? pack_fp4(tensor.codes) : fp8_of_codes(tensor.codes);
}

at::Tensor stored_weight_scale(const std::string& name, const QuantizedTensor& tensor) {
  if (is_int4(tensor.scheme)) return stored_scales(name, tensor.scales, tensor.scale_dtype);
  if (tensor.scheme.has_global_scale()) return block_scale_codes(name, tensor);
  const at::Tensor scales = tensor.scales.cpu().contiguous();
  if (tensor.scheme.per_tensor()) return scales.reshape({});
  if (tensor.scheme.shares_rows()) return scales.view({scales.size(0), 1, scales.size(1), 1});
  return scales.view({-1});
}

/// What TensorRT-LLM divides W4A8_AWQ's scales by; 1 for a linear of zeros.
at::Tensor range_scale(const QuantizedTensor& tensor) {
  const at::Tensor scales = tensor.scales.cpu();
  const at::Tensor largest = tensor.codes.cpu()
                                 .to(at::kFloat)
                                 .abs()
                                 .view({scales.size(0), scales.size(1), -1})
                                 .amax(2)
                                 .mul(scales)
                                 .max();
  return at::where(largest > 0, largest / kE4M3.largest, at::ones({}));
}

std::vector<std::pair<std::string, at::Tensor>> pack(const std::string& name, const QuantizedTensor& tensor) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  if (tensor.global_scale.defined())
    tensors.emplace_back(name + ".weight_scale_2", tensor.global_scale.cpu().reshape({}));
  if (is_w4a8(tensor.scheme, tensor.input.has_value()))
    tensors.emplace_back(name + kModeloptRangeScale, range_scale(tensor));
  if (tensor.input && tensor.input->scheme.calibrated())
    tensors.emplace_back(name + ".input_scale", at::full({}, tensor.input->scale, at::kFloat));
  tensors.emplace_back(name + ".weight_scale", stored_weight_scale(name, tensor));
  if (is_int4(tensor.scheme) && (name.ends_with(".o_proj") || name.ends_with(".down_proj"))) {
    tensors.emplace_back(name + ".pre_quant_scale",
                         at::ones({tensor.cols()}, at::TensorOptions(to_scalar_type(tensor.scale_dtype))));
  }
  tensors.emplace_back(name + ".weight", stored_weight(tensor));
  return tensors;
}

constexpr const char* kHowToLoad = R"(With TensorRT-LLM:

    from tensorrt_llm import LLM
    LLM("this/folder")

With vLLM, which finds the method in config.json:

    vllm serve this/folder

With SGLang:

    python -m sglang.launch_server --model-path this/folder --quantization modelopt
)";

}  // namespace

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  });
}

const char* modelopt_algorithm(const Scheme& scheme, const std::optional<ActivationScheme>& activations) {
  const Algorithm* const row = find(scheme, activations);
  return row == nullptr ? nullptr : row->name;
}

std::optional<ModeloptGrid> modelopt_grid(std::string_view name, int64_t group_size) {
  for (const Algorithm& row : algorithms()) {
    if (!equal_ignoring_case(row.name, name)) continue;
    ModeloptGrid grid{row.scheme, row.activations};
    if (row.any_group && group_size > 0) grid.scheme.group_size = group_size;
    return grid;
  }
  return std::nullopt;
}

std::vector<std::string> modelopt_algorithms() {
  std::vector<std::string> names;
  for (const Algorithm& row : algorithms()) names.emplace_back(row.name);
  return names;
}

std::vector<PlannedTensor> modelopt_layout(const PlannedLinear& linear) {
  std::vector<PlannedTensor> tensors;
  if (linear.scheme.has_global_scale() || is_w4a8(linear.scheme, linear.activations.has_value()))
    tensors.push_back({linear.name + kModeloptRangeScale, {DType::F32, {}}});
  if (linear.activations && linear.activations->calibrated())
    tensors.push_back({linear.name + ".input_scale", {DType::F32, {}}});
  tensors.push_back({linear.name + ".weight_scale", scale_info(linear)});
  if (is_int4(linear.scheme) && stands_alone(linear.role))
    tensors.push_back({linear.name + ".pre_quant_scale", {linear.scale_dtype, {linear.in}}});
  tensors.push_back({linear.name + ".weight", weight_info(linear)});
  return tensors;
}

at::Tensor pack_row_pairs(const at::Tensor& codes) {
  LATHE_ASSERT(codes.size(0) % 2 == 0 && codes.ge(-8).logical_and(codes.le(7)).all().item<bool>(),
               "INT4 codes in pairs of rows");
  const at::Tensor halves =
      codes.cpu().contiguous().view(at::kByte).bitwise_and(15).view({-1, 2, codes.size(1)});
  return halves.select(1, 0).bitwise_or(halves.select(1, 1).bitwise_left_shift(4)).contiguous();
}

at::Tensor unpack_row_pairs(const at::Tensor& bytes) {
  const at::Tensor halves = at::stack({bytes.bitwise_and(15), bytes.bitwise_right_shift(4)}, 1);
  return halves.view({-1, bytes.size(1)}).bitwise_xor(8).view(at::kChar).sub(8);  // sign of a nibble
}

Target modelopt_target() {
  return {
      .name = "modelopt",
      .summary =
          "safetensors as NVIDIA modelopt exports them: FP8, NVFP4, INT4-AWQ, W4A8-AWQ (TensorRT-LLM, vLLM, "
          "SGLang)",
      .how_to_load = kHowToLoad,
      .refuses = refuses,
      .layout = modelopt_layout,
      .pack = pack,
      .quantization_config = modelopt_quantization_config,
      .side_files = modelopt_side_files,
      .refuses_model = modelopt_refuses_model,
      .warnings = modelopt_warnings,
      .kv_cache = &modelopt_kv_cache(),
      .full_scales = true,
      .shared_maximum = kModeloptRangeScale};
}

}  // namespace lathe
