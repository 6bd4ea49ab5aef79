#include "formats/layouts/machete.h"

#include <ATen/ATen.h>

#include "formats/layouts/columns.h"
#include "lib/kernels/code_layout.h"

namespace lathe::layouts {
namespace {

const KernelGrids& grids() {
  // vllm 0.32, machete_utils.py: query_machete_supported_quant_types, query_machete_supported_group_sizes.
  static const KernelGrids rows = {"Machete", {4, 8}, {4, 8}, {-1, 64, 128}};
  return rows;
}

std::optional<std::string> refuses(const PlannedLinear& linear) {
  constexpr const char* kRule = "vLLM, machete_utils.py: MACHETE_PREPACKED_BLOCK_SHAPE";
  if (auto reason = grid_problem(linear, grids())) return reason;
  if (auto reason = scaled_zeros_problem("Machete", linear)) return reason;
  if (auto reason = shape_problem("Machete", "input", linear.in, 64, kRule)) return reason;
  return shape_problem("Machete", "output", linear.out, 128, kRule);
}

device::CodeLayout stored_codes(const PlannedLinear& linear) {
  return {device::CodeOrder::machete, linear.scheme.bits, linear.in, linear.out};
}

std::vector<PlannedTensor> tensors(const PlannedLinear& linear) {
  const int64_t groups = linear.scheme.groups(linear.in);
  std::vector<PlannedTensor> list = {
      {linear.name + ".weight_packed", {DType::I32, {linear.out, linear.in * linear.scheme.bits / 32}}},
      {linear.name + ".weight_scale", {linear.scale_dtype, {groups, linear.out}}}};
  if (!linear.scheme.symmetric)
    list.push_back({linear.name + ".weight_zero_point", {linear.scale_dtype, {groups, linear.out}}});
  if (linear.group_index) list.push_back(order_tensor(linear));
  return list;
}

std::vector<at::Tensor> pack(const PlannedLinear& linear, const QuantizedTensor& tensor) {
  const at::Tensor scales = scales_by_group(linear, tensor);
  std::vector<at::Tensor> contents = {
      kernels::pack_codes(ordered_codes(tensor), stored_codes(linear)).view({linear.out, -1}), scales};
  if (!linear.scheme.symmetric) contents.push_back(scaled_zeros(scales, zeros_by_group(tensor), 0));
  if (linear.group_index) contents.push_back(column_order(tensor).to(at::kInt));
  return contents;
}

QuantizedTensor unpack(const PlannedLinear& linear, const std::vector<at::Tensor>& contents) {
  QuantizedTensor tensor{linear.scheme, linear.scale_dtype, {}, {}, {}};
  tensor.scales = scales_from_groups(contents[1]);
  if (!linear.scheme.symmetric)
    tensor.zero_points = zeros_from_groups(linear.scheme, zeros_of_scaled(contents[1], contents[2], 0));
  restore_columns(tensor,
                  kernels::unpack_codes(contents[0].flatten(), stored_codes(linear), linear.out, linear.in),
                  linear.group_index ? contents.back() : at::Tensor());
  return tensor;
}

nlohmann::json notes(const PlannedLinear& linear) {
  nlohmann::json notes = common_notes(linear, linear.out, linear.in);
  const std::string bits = std::to_string(linear.scheme.bits);
  notes["quant_type"] = linear.scheme.symmetric
                            ? "uint" + bits + "b" + std::to_string(1 << (linear.scheme.bits - 1))
                            : "uint" + bits;
  return notes;
}

}  // namespace

KernelLayout machete_layout() {
  return {.name = "machete",
          .summary = "Machete (vLLM on Hopper): 4 and 8 bits, with or without zero points",
          .kernel = "vLLM's machete_mm, 16-bit activations; weight_packed is given transposed",
          .gpus = "NVIDIA, compute capability 9.0 (Hopper)",
          .permutation =
              "blocks of 128 output by 64 input features, each by wgmma register fragment of two "
              "warp groups",
          .source =
              "vllm 0.11: csrc/quantization/machete/machete_prepacked_layout.cuh; vllm 0.32: "
              "kernels/linear/mixed_precision/machete.py",
          .refuses = refuses,
          .tensors = tensors,
          .pack = pack,
          .unpack = unpack,
          .notes = notes};
}

}  // namespace lathe::layouts
