#include "formats/layouts/trtllm.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "formats/layouts/columns.h"
#include "lib/base/error.h"
#include "lib/kernels/code_layout.h"

namespace lathe::layouts {
namespace {

const KernelGrids& grids() {
  // weight_only_groupwise_quant_matmul: groups of 64 or 128; weight_only_quant_matmul: one a channel.
  static const KernelGrids rows = {
      "TensorRT-LLM", {4, 8}, {4, 8}, {-1, 64, 128}, {DType::F16, DType::BF16}, /*act_order=*/false};
  return rows;
}

bool by_channel(const PlannedLinear& linear) { return linear.scheme.groups(linear.in) == 1; }

std::optional<std::string> refuses(const PlannedLinear& linear) {
  constexpr const char* kRule =
      "TensorRT-LLM, cutlass_preprocessors.cpp: weight-only kernels take multiples of 64";
  if (auto reason = grid_problem(linear, grids())) return reason;
  if (auto reason = scaled_zeros_problem("TensorRT-LLM", linear)) return reason;
  if (!linear.scheme.symmetric && by_channel(linear))
    return "TensorRT-LLM: zero points need groups: weight_only_quant_matmul has scales only";
  if (auto reason = shape_problem("TensorRT-LLM", "input", linear.in, 64, kRule)) return reason;
  return shape_problem("TensorRT-LLM", "output", linear.out, 64, kRule);
}

device::CodeLayout stored_codes(const PlannedLinear& linear, int generation) {
  device::CodeLayout layout{device::CodeOrder::trtllm, linear.scheme.bits, linear.in, linear.out};
  layout.columns = generation == 80 ? 16 / linear.scheme.bits : 1;
  layout.shuffled = generation < 100;
  layout.twos_complement = generation >= 100;
  return layout;
}

std::vector<PlannedTensor> tensors(const PlannedLinear& linear) {
  const int64_t groups = linear.scheme.groups(linear.in);
  std::vector<PlannedTensor> list = {
      {linear.name + ".weight", {DType::I8, {linear.in, linear.out * linear.scheme.bits / 8}}}};
  if (by_channel(linear)) {
    list.push_back({linear.name + ".per_channel_scale", {linear.scale_dtype, {linear.out}}});
  } else {
    list.push_back({linear.name + ".weights_scaling_factor", {linear.scale_dtype, {groups, linear.out}}});
  }
  if (!linear.scheme.symmetric)
    list.push_back({linear.name + ".zero", {linear.scale_dtype, {groups, linear.out}}});
  return list;
}

std::vector<at::Tensor> pack(const PlannedLinear& linear, const QuantizedTensor& tensor, int generation) {
  const at::Tensor words = kernels::pack_codes(tensor.codes.contiguous(), stored_codes(linear, generation));
  const at::Tensor scales = scales_by_group(linear, tensor);
  std::vector<at::Tensor> contents = {words.view(at::kChar).view({linear.in, -1}),
                                      by_channel(linear) ? scales.flatten() : scales};
  if (!linear.scheme.symmetric)
    contents.push_back(scaled_zeros(scales, zeros_by_group(tensor), linear.scheme.qmin()));
  return contents;
}

QuantizedTensor unpack(const PlannedLinear& linear, const std::vector<at::Tensor>& contents, int generation) {
  QuantizedTensor tensor{linear.scheme, linear.scale_dtype, {}, {}, {}};
  const at::Tensor words = contents[0].flatten().view(at::kInt);
  tensor.codes = kernels::unpack_codes(words, stored_codes(linear, generation), linear.out, linear.in);
  const at::Tensor scales = contents[1].view({-1, linear.out});
  tensor.scales = scales_from_groups(scales);
  if (!linear.scheme.symmetric) {
    tensor.zero_points =
        zeros_from_groups(linear.scheme, zeros_of_scaled(scales, contents[2], linear.scheme.qmin()));
  }
  return tensor;
}

struct Generation {
  const char *name, *gpus, *permutation;
};
Generation generation_of(int generation) {
  switch (generation) {
    case 80:
      return {"trtllm", "NVIDIA, compute capability 7.5 to 8.9 and 12.x",
              "rows permuted for LDSM, output features interleaved in runs of 64 input features, fields "
              "shuffled, unsigned"};
    case 90:
      return {"trtllm-sm90", "NVIDIA, compute capability 9.0 (Hopper)",
              "column-major, rows permuted, fields shuffled, unsigned; not interleaved"};
    default:
      LATHE_ASSERT(generation == 100, "TensorRT-LLM's layout for generation {}", generation);
      return {"trtllm-sm100", "NVIDIA, compute capability 10.0 and 10.3 (data-centre Blackwell)",
              "column-major, two's complement"};
  }
}

}  // namespace

KernelLayout trtllm_layout(int generation) {
  const auto [name, gpus, permutation] = generation_of(generation);
  return {.name = name,
          .summary = fmt::format("TensorRT-LLM's mixed-input GEMM, weights for {}", gpus),
          .kernel =
              "TensorRT-LLM's weight_only_quant_matmul and weight_only_groupwise_quant_matmul "
              "(fpA_intB), 16-bit activations",
          .gpus = gpus,
          .permutation = permutation,
          .source = "TensorRT-LLM (2026): preprocess_weights_for_mixed_gemm, cutlass_preprocessors.cpp",
          .refuses = refuses,
          .tensors = tensors,
          .pack = [generation](const PlannedLinear& linear,
                               const QuantizedTensor& tensor) { return pack(linear, tensor, generation); },
          .unpack =
              [generation](const PlannedLinear& linear, const std::vector<at::Tensor>& contents) {
                return unpack(linear, contents, generation);
              },
          .notes = [](const PlannedLinear& linear) { return common_notes(linear, linear.out, linear.in); }};
}

}  // namespace lathe::layouts
