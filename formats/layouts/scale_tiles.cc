#include "formats/layouts/scale_tiles.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "formats/layouts/columns.h"
#include "formats/targets/float_codes.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/kernels/code_layout.h"

namespace lathe::layouts {
namespace {

constexpr int64_t kTileRows = 128, kTileColumns = 4;

/// Has the scheme scales that are codes?
bool has_block_scales(const Scheme& scheme) { return scheme.scale_type(DType::F32) != DType::F32; }

bool stores_input_scale(const PlannedLinear& linear) {
  return linear.activations && linear.activations->calibrated();
}

std::optional<std::string> refuses(const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  if (!has_block_scales(scheme) || scheme.bits == 6) {
    return fmt::format(
        "NVFP4 and MX scale tiles hold E4M3 or E8M0 scales of 16 or 32 numbers of 4 or 8 bits, which {} has "
        "none of; "
        "use `marlin`, `machete` or `trtllm` for integers, schemes nvfp4, mxfp4 or mxfp8 for this",
        scheme.describe());
  }
  if (linear.activations && linear.activations->type != scheme.type) {
    return fmt::format("the kernel multiplies {} by activations of the same kind, not {}", scheme.type,
                       linear.activations->describe());
  }
  return shape_problem("block-scaled GEMM", "input", linear.in, scheme.group_size, "whole blocks");
}

std::vector<PlannedTensor> tensors(const PlannedLinear& linear) {
  const bool packed = linear.scheme.bits == 4, global = linear.scheme.has_global_scale();
  const auto [rows, groups] = linear.scheme.parameter_shape(linear.out, linear.in);
  std::vector<PlannedTensor> result = {
      {linear.name + ".weight",
       {packed ? DType::U8 : DType::F8_E4M3, {linear.out, packed ? linear.in / 2 : linear.in}}},
      {linear.name + ".weight_scale",
       {global ? DType::F8_E4M3 : DType::U8,
        {ceil_div(rows, kTileRows) * kTileRows, ceil_div(groups, kTileColumns) * kTileColumns}}}};
  if (global) result.push_back({linear.name + ".weight_scale_2", {DType::F32, {}}});
  if (stores_input_scale(linear)) result.push_back({linear.name + ".input_scale", {DType::F32, {}}});
  return result;
}

std::vector<at::Tensor> pack(const PlannedLinear& linear, const QuantizedTensor& tensor) {
  const at::Tensor codes = block_scale_codes(linear.name, tensor);
  const at::Tensor tiles = kernels::swizzle_scales(codes.view(at::kByte));
  std::vector<at::Tensor> result = {
      linear.scheme.bits == 4 ? pack_fp4(tensor.codes) : fp8_of_codes(tensor.codes),
      tiles.view(codes.scalar_type())};
  if (linear.scheme.has_global_scale()) result.push_back(tensor.global_scale.reshape({}));
  if (stores_input_scale(linear)) result.push_back(at::full({}, tensor.input->scale, at::kFloat));
  return result;
}

QuantizedTensor unpack(const PlannedLinear& linear, const std::vector<at::Tensor>& contents) {
  const auto [rows, groups] = linear.scheme.parameter_shape(linear.out, linear.in);
  const at::Tensor codes = kernels::unswizzle_scales(contents[1].view(at::kByte).contiguous(), rows, groups);
  QuantizedTensor tensor{linear.scheme, linear.scheme.scale_type(linear.scale_dtype), {}, {}, {}};
  tensor.codes = linear.scheme.bits == 4 ? unpack_fp4(contents[0]) : codes_of_fp8(contents[0], linear.name);
  tensor.scales = block_scales_of(codes.view(contents[1].scalar_type()), linear.name);
  if (linear.scheme.has_global_scale()) tensor.global_scale = contents[2].clone();
  if (linear.activations) tensor.input = InputQuantizer{.scheme = *linear.activations};
  if (stores_input_scale(linear)) tensor.input->scale = contents.back().item<float>();
  return tensor;
}

nlohmann::json notes(const PlannedLinear& linear) {
  nlohmann::json result = common_notes(linear, linear.out, linear.in);
  result["codes"] = "two FP4 numbers in a byte, the even input feature's in the low half";
  if (linear.scheme.bits == 8) result["codes"] = "FP8 numbers as they are";
  return result;
}

}  // namespace

KernelLayout scale_tiles_layout() {
  return {
      .name = "nvfp4-swizzled",
      .summary = "block scales of NVFP4, MXFP4 and MXFP8 in 128 x 4 tiles",
      .kernel = "cuBLASLt and CUTLASS block-scaled GEMM",
      .gpus = "NVIDIA, compute capability 10.0 and higher (Blackwell)",
      .permutation = "tiles of 128 rows by 4 columns: 32 rows of 16 bytes, four rows 32 apart side by side",
      .source = "CUTLASS SfAtom; vllm 0.32: nvfp4_utils.py (swizzle_blockscale)",
      .refuses = refuses,
      .tensors = tensors,
      .pack = pack,
      .unpack = unpack,
      .notes = notes};
}

}  // namespace lathe::layouts
