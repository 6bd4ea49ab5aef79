#include "formats/layouts/awq_gemv.h"

#include <ATen/ATen.h>

#include "formats/layouts/columns.h"
#include "formats/targets/bitpack.h"
#include "lib/base/checked.h"
#include "lib/kernels/code_layout.h"

namespace lathe::layouts {
namespace {

constexpr int64_t kFields = 8;  // of a word
constexpr int64_t kFastRun = 64, kFastRows = 4;

std::optional<std::string> refuses(const PlannedLinear& linear, const char* kernel, int64_t in_multiple) {
  // gemv.py: w_bit 4; calculate_zeros_width knows groups of 32, 64 and 128 or more.
  const KernelGrids grids{kernel, {}, {4}, {-1, 32, 64, 128}, {DType::F16}, /*act_order=*/false};
  if (auto reason = grid_problem(linear, grids)) return reason;
  constexpr const char* kRule = "AutoAWQ, awq/modules/linear: whole words, out_features % 8";
  if (auto reason = shape_problem(kernel, "input", linear.in, in_multiple, kRule)) return reason;
  return shape_problem(kernel, "output", linear.out, kFields, kRule);
}

/// Words of zero points of one row.
int64_t zeros_width(const PlannedLinear& linear) {
  const int64_t length = linear.scheme.group_length(linear.in);
  const int64_t multiple = length >= 128 ? 1 : length >= 64 ? 2 : 4;
  return ceil_div(ceil_div(linear.in / length, kFields), multiple) * multiple;
}

/// [out, groups] or [groups, out] with zeros up to 8 zw groups.
at::Tensor padded(const at::Tensor& parameters, int64_t dim, int64_t groups) {
  const int64_t missing = groups - parameters.size(dim);
  return dim == 1 ? at::constant_pad_nd(parameters, {0, missing})
                  : at::constant_pad_nd(parameters, {0, 0, 0, missing});
}

namespace gemv {

device::CodeLayout stored_codes(const PlannedLinear& linear) {
  return {device::CodeOrder::rows, 4, linear.in, linear.out};
}

std::vector<PlannedTensor> tensors(const PlannedLinear& linear) {
  const int64_t width = zeros_width(linear);
  return {{linear.name + ".qweight", {DType::I32, {linear.out, linear.in / kFields}}},
          {linear.name + ".qzeros", {DType::I32, {linear.out, width}}},
          {linear.name + ".scales", {DType::F16, {linear.out, width * kFields}}}};
}

std::vector<at::Tensor> pack(const PlannedLinear& linear, const QuantizedTensor& tensor) {
  const int64_t groups = zeros_width(linear) * kFields;
  return {kernels::pack_codes(tensor.codes.contiguous(), stored_codes(linear)).view({linear.out, -1}),
          pack_rows(padded(zeros_by_group(tensor).t().contiguous(), 1, groups), 4),
          padded(scales_by_group(linear, tensor).t().contiguous(), 1, groups)};
}

QuantizedTensor unpack(const PlannedLinear& linear, const std::vector<at::Tensor>& contents) {
  const int64_t groups = linear.scheme.groups(linear.in);
  QuantizedTensor tensor{linear.scheme, linear.scale_dtype, {}, {}, {}};
  tensor.codes = kernels::unpack_codes(contents[0].flatten(), stored_codes(linear), linear.out, linear.in);
  tensor.scales = contents[2].slice(1, 0, groups).to(at::kFloat).contiguous();
  tensor.zero_points = zeros_from_groups(
      linear.scheme, unpack_rows(contents[1], 4, zeros_width(linear) * kFields).slice(1, 0, groups).t());
  return tensor;
}

}  // namespace gemv

namespace fast {

device::CodeLayout stored_codes(const PlannedLinear& linear) {
  return {device::CodeOrder::gemv_fast, 4, linear.in, linear.out};
}

std::vector<PlannedTensor> tensors(const PlannedLinear& linear) {
  const int64_t groups = zeros_width(linear) * kFields;
  return {{linear.name + ".qweight", {DType::I16, {linear.out / kFastRows, linear.in}}},
          {linear.name + ".scales", {DType::F16, {groups, linear.out}}},
          {linear.name + ".qzeros", {DType::F16, {groups, linear.out}}}};
}

std::vector<at::Tensor> pack(const PlannedLinear& linear, const QuantizedTensor& tensor) {
  const int64_t groups = zeros_width(linear) * kFields;
  const at::Tensor scales = scales_by_group(linear, tensor);
  return {kernels::pack_codes(tensor.codes.contiguous(), stored_codes(linear))
              .view(at::kShort)
              .view({linear.out / kFastRows, linear.in}),
          padded(scales, 0, groups), padded(scaled_zeros(scales, zeros_by_group(tensor), 0), 0, groups)};
}

QuantizedTensor unpack(const PlannedLinear& linear, const std::vector<at::Tensor>& contents) {
  const int64_t groups = linear.scheme.groups(linear.in);
  const at::Tensor scales = contents[1].slice(0, 0, groups);
  QuantizedTensor tensor{linear.scheme, linear.scale_dtype, {}, {}, {}};
  tensor.codes = kernels::unpack_codes(contents[0].flatten().view(at::kInt), stored_codes(linear), linear.out,
                                       linear.in);
  tensor.scales = scales_from_groups(scales);
  tensor.zero_points =
      zeros_from_groups(linear.scheme, zeros_of_scaled(scales, contents[2].slice(0, 0, groups), 0));
  return tensor;
}

}  // namespace fast

nlohmann::json notes(const PlannedLinear& linear) { return common_notes(linear, linear.out, linear.in); }

}  // namespace

KernelLayout awq_gemv_layout() {
  return {.name = "awq-gemv-layout",
          .summary = "AutoAWQ's GEMV kernel: 4 bits with zero points",
          .kernel = "AutoAWQ's gemv_forward_cuda",
          .gpus = "NVIDIA, compute capability 7.5 and higher",
          .permutation = "none: codes along the input features, zero points and scales padded to whole words",
          .source = "AutoAWQ 0.2.9: awq/modules/linear/gemv.py",
          .refuses = [](const PlannedLinear& linear) { return refuses(linear, "AWQ-GEMV", kFields); },
          .tensors = gemv::tensors,
          .pack = gemv::pack,
          .unpack = gemv::unpack,
          .notes = notes};
}

KernelLayout awq_gemv_fast_layout() {
  return {.name = "awq-gemv-fast-layout",
          .summary = "AutoAWQ's GEMV-fast kernel (llm-awq's second): 4 bits with zero points",
          .kernel = "AutoAWQ's awq_v2_ext.gemv_forward_cuda_decode and gemm_forward_cuda_prefill",
          .gpus = "NVIDIA, compute capability 8.0 and higher",
          .permutation = "four output by 64 input features, pairs transposed in runs of 32, fields shuffled",
          .source = "AutoAWQ 0.2.9: awq/modules/linear/gemv_fast.py (pack_intweight)",
          .refuses = [](const PlannedLinear& linear) { return refuses(linear, "AWQ-GEMV-fast", kFastRun); },
          .tensors = fast::tensors,
          .pack = fast::pack,
          .unpack = fast::unpack,
          .notes = notes};
}

}  // namespace lathe::layouts
