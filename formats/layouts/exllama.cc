#include "formats/layouts/exllama.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "formats/layouts/columns.h"
#include "formats/targets/bitpack.h"
#include "lib/kernels/code_layout.h"

namespace lathe::layouts {
namespace {

const KernelGrids& grids() {
  // exllama.py: no channelwise scales, FP16 activations only.
  static const KernelGrids rows = {"ExLlama", {2, 3, 4, 8}, {2, 3, 4, 8}, {}, {DType::F16}};
  return rows;
}

std::optional<std::string> refuses(const PlannedLinear& linear) {
  if (auto reason = grid_problem(linear, grids())) return reason;
  if (linear.scheme.group_size == -1)
    return "ExLlama: group_size -1: the kernel takes groups only (vLLM, exllama.py: can_implement)";
  // 32 fields of 3 bits fill words; those of the other widths do sooner.
  const int64_t fields = linear.scheme.bits == 3 ? 32 : 32 / linear.scheme.bits;
  constexpr const char* kRule =
      "whole 32-bit words of codes and of zero points; vLLM, exllama.py: can_implement";
  if (auto reason = shape_problem("ExLlama", "input", linear.in, fields, kRule)) return reason;
  return shape_problem("ExLlama", "output", linear.out, fields, kRule);
}

int64_t words_along(int64_t fields, int bits) { return fields * bits / 32; }

device::CodeLayout stored_codes(const PlannedLinear& linear) {
  return {device::CodeOrder::exllama, linear.scheme.bits, linear.in, linear.out};
}

std::vector<PlannedTensor> tensors(const PlannedLinear& linear) {
  const int64_t groups = linear.scheme.groups(linear.in);
  const int bits = linear.scheme.bits;
  std::vector<PlannedTensor> list = {
      {linear.name + ".qweight", {DType::I32, {words_along(linear.in, bits), linear.out}}},
      {linear.name + ".qzeros", {DType::I32, {groups, words_along(linear.out, bits)}}},
      {linear.name + ".scales", {linear.scale_dtype, {groups, linear.out}}}};
  if (linear.group_index) list.push_back(order_tensor(linear));
  return list;
}

std::vector<at::Tensor> pack(const PlannedLinear& linear, const QuantizedTensor& tensor) {
  const at::Tensor codes = ordered_codes(tensor);
  const at::Tensor zeros = zeros_by_group(tensor);
  std::vector<at::Tensor> contents = {
      linear.scheme.bits == 3 ? kernels::pack_exllama3(codes)
                              : kernels::pack_codes(codes, stored_codes(linear)).view({-1, linear.out}),
      pack_rows(linear.scheme.symmetric ? zeros - 1 : zeros, linear.scheme.bits),
      scales_by_group(linear, tensor)};
  if (linear.group_index) contents.push_back(column_order(tensor).to(at::kInt));
  return contents;
}

QuantizedTensor unpack(const PlannedLinear& linear, const std::vector<at::Tensor>& contents) {
  QuantizedTensor tensor{linear.scheme, linear.scale_dtype, {}, {}, {}};
  tensor.scales = scales_from_groups(contents[2]);
  tensor.zero_points =
      zeros_from_groups(linear.scheme, unpack_rows(contents[1], linear.scheme.bits, linear.out));
  const at::Tensor codes =
      linear.scheme.bits == 3
          ? kernels::unpack_exllama3(contents[0])
          : kernels::unpack_codes(contents[0].flatten(), stored_codes(linear), linear.out, linear.in);
  restore_columns(tensor, codes, linear.group_index ? contents.back() : at::Tensor());
  return tensor;
}

nlohmann::json notes(const PlannedLinear& linear) {
  nlohmann::json notes = common_notes(linear, linear.out, linear.in);
  notes["use_v2_format"] = !linear.scheme.symmetric;  // gptq_gemm's argument
  return notes;
}

}  // namespace

KernelLayout exllama_layout() {
  return {.name = "exllama",
          .summary = "ExLlama's shuffled GPTQ words (vLLM: 2, 3, 4 and 8 bits; ExLlamaV2: 4)",
          .kernel =
              "vLLM's gptq_gemm with use_exllama, after gptq_shuffle; ExLlamaV2's after its shuffle_kernel "
              "(4 bits, without zero points)",
          .gpus = "NVIDIA, compute capability 6.0 and higher",
          .permutation = "GPTQ's words along the input features, in each the even codes, then the odd ones",
          .source =
              "exllamav2: exllamav2_ext/cuda/quant/qdq_{2,3,4,8}.cuh; vllm 0.32: "
              "kernels/linear/mixed_precision/exllama.py",
          .refuses = refuses,
          .tensors = tensors,
          .pack = pack,
          .unpack = unpack,
          .notes = notes};
}

}  // namespace lathe::layouts
