#include "formats/layouts/marlin.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <numeric>
#include <tuple>

#include "formats/layouts/columns.h"
#include "formats/targets/bitpack.h"
#include "lib/base/error.h"
#include "lib/kernels/code_layout.h"

namespace lathe::layouts {
namespace {

const KernelGrids& grids() {
  // vllm 0.32, marlin_utils.py: MARLIN_SUPPORTED_GROUP_SIZES, query_marlin_supported_quant_types.
  static const KernelGrids rows = {"Marlin", {4, 8}, {4}, {-1, 32, 64, 128}};
  return rows;
}

std::optional<std::string> refuses(const PlannedLinear& linear) { return grid_problem(linear, grids()); }

device::CodeLayout stored_codes(const PlannedLinear& linear) {
  const MarlinShape shape = marlin_padded(linear.out, linear.in, linear.scheme.group_size);
  return {device::CodeOrder::marlin, linear.scheme.bits, shape.in, shape.out};
}

int64_t stored_groups(const PlannedLinear& linear, const device::CodeLayout& codes) {
  return linear.scheme.group_size == -1 ? 1 : codes.in / linear.scheme.group_size;
}

std::vector<PlannedTensor> tensors(const PlannedLinear& linear) {
  const device::CodeLayout codes = stored_codes(linear);
  const int64_t groups = stored_groups(linear, codes), fields = 32 / codes.bits;
  std::vector<PlannedTensor> list = {
      {linear.name + ".qweight", {DType::I32, {codes.in / 16, codes.out * 16 / fields}}},
      {linear.name + ".scales", {linear.scale_dtype, {groups, codes.out}}}};
  if (!linear.scheme.symmetric)
    list.push_back({linear.name + ".qzeros", {DType::I32, {groups, codes.out / fields}}});
  if (linear.group_index) {
    list.push_back({linear.name + ".g_idx", {DType::I32, {linear.in}}});
    list.push_back(order_tensor(linear));
  }
  return list;
}

/// Long [64]: an 8 x 8 matrix transposed.
at::Tensor grouped_order() { return at::arange(64, at::kLong).view({8, 8}).t().flatten(); }
/// Long [32].
at::Tensor channel_order() {
  const at::Tensor columns = at::tensor({0, 1, 8, 9, 16, 17, 24, 25}, at::kLong);
  return (2 * at::arange(4, at::kLong).unsqueeze(1) + columns).flatten();
}
/// Long [fields]: even ones, then odd ones.
at::Tensor word_order(int64_t fields) { return at::arange(fields, at::kLong).view({-1, 2}).t().flatten(); }

/// Gathers each run of order.numel() numbers of a row.
at::Tensor gather_runs(const at::Tensor& rows, const at::Tensor& order) {
  return rows.reshape({-1, order.numel()}).index_select(1, order).view(rows.sizes());
}
at::Tensor scatter_runs(const at::Tensor& rows, const at::Tensor& order) {
  return gather_runs(rows, at::argsort(order));
}

at::Tensor scale_order(const PlannedLinear& linear, const device::CodeLayout& codes) {
  const int64_t group = linear.scheme.group_size;
  return group != -1 && group < codes.in ? grouped_order() : channel_order();
}

/// [groups, out] with zeros up to the stored shape.
at::Tensor padded(const at::Tensor& parameters, int64_t groups, int64_t out) {
  return at::constant_pad_nd(parameters, {0, out - parameters.size(1), 0, groups - parameters.size(0)});
}

std::vector<at::Tensor> pack(const PlannedLinear& linear, const QuantizedTensor& tensor) {
  const device::CodeLayout codes = stored_codes(linear);
  const int64_t groups = stored_groups(linear, codes), fields = 32 / codes.bits;
  std::vector<at::Tensor> contents = {
      kernels::pack_codes(ordered_codes(tensor), codes).view({codes.in / 16, -1}),
      gather_runs(padded(scales_by_group(linear, tensor), groups, codes.out), scale_order(linear, codes))};
  if (!linear.scheme.symmetric) {
    const at::Tensor zeros = gather_runs(padded(zeros_by_group(tensor), groups, codes.out), grouped_order());
    contents.push_back(pack_rows(gather_runs(zeros, word_order(fields)).contiguous(), codes.bits));
  }
  if (linear.group_index) {
    const at::Tensor order = column_order(tensor);
    contents.push_back(tensor.group_index.index_select(0, order).to(at::kInt).contiguous());
    contents.push_back(order.to(at::kInt));
  }
  return contents;
}

QuantizedTensor unpack(const PlannedLinear& linear, const std::vector<at::Tensor>& contents) {
  const device::CodeLayout codes = stored_codes(linear);
  const int64_t fields = 32 / codes.bits, groups = linear.scheme.groups(linear.in);
  const auto inside = [&](const at::Tensor& parameters) {
    return parameters.slice(0, 0, groups).slice(1, 0, linear.out).contiguous();
  };
  QuantizedTensor tensor{linear.scheme, linear.scale_dtype, {}, {}, {}};
  tensor.scales = scales_from_groups(inside(scatter_runs(contents[1], scale_order(linear, codes))));
  if (!linear.scheme.symmetric) {
    const at::Tensor zeros =
        scatter_runs(unpack_rows(contents[2], codes.bits, codes.out), word_order(fields));
    tensor.zero_points = zeros_from_groups(linear.scheme, inside(scatter_runs(zeros, grouped_order())));
  }
  restore_columns(tensor, kernels::unpack_codes(contents[0].flatten(), codes, linear.out, linear.in),
                  linear.group_index ? contents.back() : at::Tensor());
  return tensor;
}

nlohmann::json notes(const PlannedLinear& linear) {
  const device::CodeLayout codes = stored_codes(linear);
  nlohmann::json notes = common_notes(linear, codes.out, codes.in);
  notes["scale_order"] =
      scale_order(linear, codes).numel() == 64 ? "groups: runs of 64" : "channels: runs of 32";
  notes["quant_type"] = linear.scheme.symmetric ? (codes.bits == 4 ? "uint4b8" : "uint8b128") : "uint4";
  if (linear.bias) notes["bias"] = "the checkpoint's, in runs of 32 as channel scales are";
  return notes;
}

}  // namespace

MarlinShape marlin_padded(int64_t out, int64_t in, int64_t group_size) {
  const int64_t group = group_size > 0 ? group_size : 1;
  const auto up = [](int64_t size, int64_t multiple) { return (size + multiple - 1) / multiple * multiple; };
  const MarlinShape tall{up(out, 64), up(in, std::lcm(int64_t{128}, group))};
  const MarlinShape wide{up(out, 128), up(in, std::lcm(int64_t{64}, group))};
  const auto cost = [](const MarlinShape& shape) {
    return std::make_tuple(shape.out * shape.in, shape.out + shape.in);
  };
  return cost(wide) < cost(tall) ? wide : tall;
}

KernelLayout marlin_layout() {
  return {
      .name = "marlin",
      .summary = "Marlin (vLLM, SGLang): 4 and 8 bits, 4 with zero points, padded as the loader pads",
      .kernel = "vLLM's and SGLang's gptq_marlin_gemm, 16-bit activations",
      .gpus = "NVIDIA, compute capability 7.5 and higher",
      .permutation =
          "16 x 64 tiles by tensor-core fragment; scales transposed in runs of 64 (32 where a "
          "row has one group)",
      .source = "vllm 0.32: model_executor/layers/quantization/utils/marlin_utils.py, marlin_utils_test.py",
      .refuses = refuses,
      .tensors = tensors,
      .pack = pack,
      .unpack = unpack,
      .notes = notes};
}

}  // namespace lathe::layouts
