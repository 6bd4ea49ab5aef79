#include "formats/layouts/columns.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "formats/targets/stored_scales.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe::layouts {
namespace {

template <class Value>
bool among(const std::vector<Value>& values, const Value& value) {
  return std::ranges::find(values, value) != values.end();
}

std::string or_words(const std::vector<int>& bits) {
  return bits.empty() ? "no" : fmt::format("{}", fmt::join(bits, " or "));
}

}  // namespace

std::optional<std::string> grid_problem(const PlannedLinear& linear, const KernelGrids& grids) {
  const Scheme& scheme = linear.scheme;
  if (scheme.type != "int" || scheme.real_zero || scheme.axis != 1 || scheme.scale_grid) {
    return fmt::format(
        "{}: {} can't be stored: the kernel takes integers with integer zero points and groups "
        "along rows",
        grids.kernel, scheme.describe());
  }
  if (linear.activations) {
    return fmt::format("{}: the kernel multiplies by 16-bit activations, but this linear's are quantised",
                       grids.kernel);
  }
  if (!among(scheme.symmetric ? grids.symmetric_bits : grids.asymmetric_bits, scheme.bits)) {
    return fmt::format("{}: {} can't be stored: the kernel takes {} bits without zero points, {} with them",
                       grids.kernel, scheme.describe(), or_words(grids.symmetric_bits),
                       or_words(grids.asymmetric_bits));
  }
  if (!grids.group_sizes.empty() && !among(grids.group_sizes, scheme.group_size)) {
    return fmt::format("{}: group_size {}: the kernel takes {} (-1: one group a row)", grids.kernel,
                       scheme.group_size, fmt::join(grids.group_sizes, ", "));
  }
  if (!among(grids.scale_types, linear.scale_dtype)) {
    return fmt::format("{}: scales of type {}, the model's: the kernel has {} only", grids.kernel,
                       name_of(linear.scale_dtype), name_of(grids.scale_types.front()));
  }
  if (linear.group_index && !grids.act_order) {
    return fmt::format("{}: the kernel takes no activation order; use `static_groups: true`", grids.kernel);
  }
  return std::nullopt;
}

std::optional<std::string> shape_problem(const char* kernel, const char* side, int64_t size, int64_t multiple,
                                         const char* rule) {
  if (size % multiple == 0) return std::nullopt;
  return fmt::format("{}: {} {} features are not a multiple of {} ({}); leave this linear out with `ignore`",
                     kernel, size, side, multiple, rule);
}

at::Tensor column_order(const QuantizedTensor& tensor) {
  if (!tensor.group_index.defined()) return at::arange(tensor.cols(), at::kLong);
  return at::argsort(tensor.group_index, /*stable=*/true, 0);
}

at::Tensor ordered_codes(const QuantizedTensor& tensor) {
  if (!tensor.group_index.defined()) return tensor.codes.contiguous();
  return tensor.codes.index_select(1, column_order(tensor)).contiguous();
}

void restore_columns(QuantizedTensor& tensor, const at::Tensor& ordered, const at::Tensor& order) {
  if (!order.defined()) {
    tensor.codes = ordered;
    return;
  }
  const int64_t in = ordered.size(1);
  const at::Tensor source = order.to(at::kLong);
  LATHE_ASSERT(std::get<0>(source.sort()).equal(at::arange(in, at::kLong)), "column order: no permutation");
  tensor.codes = at::empty_like(ordered).index_copy_(1, source, ordered);
  const at::Tensor groups =
      at::arange(in, at::kInt).div(tensor.scheme.group_length(in), "floor").to(at::kInt);
  tensor.group_index = at::empty_like(groups).index_copy_(0, source, groups);
}

at::Tensor scales_by_group(const PlannedLinear& linear, const QuantizedTensor& tensor) {
  return stored_scales(linear.name, tensor.scales, linear.scale_dtype).t().contiguous();
}

at::Tensor zeros_by_group(const QuantizedTensor& tensor) {
  const int64_t lowest = tensor.scheme.qmin();
  if (!tensor.zero_points.defined())
    return at::full({tensor.scales.size(1), tensor.rows()}, -lowest, at::kByte);
  return (tensor.zero_points.to(at::kShort) - lowest).to(at::kByte).t().contiguous();
}

at::Tensor scales_from_groups(const at::Tensor& scales) { return scales.to(at::kFloat).t().contiguous(); }

at::Tensor zeros_from_groups(const Scheme& scheme, const at::Tensor& zeros) {
  if (scheme.symmetric) return {};
  return (zeros.to(at::kShort) + scheme.qmin()).to(at::kChar).t().contiguous();
}

at::Tensor scaled_zeros(const at::Tensor& scales, const at::Tensor& zeros, int64_t offset) {
  // The product of an 11-bit and a 9-bit number is exact in FP32, so this rounds once.
  const at::Tensor exact = -scales.to(at::kFloat) * (zeros.to(at::kFloat) + static_cast<double>(offset));
  const at::Tensor stored = exact.to(scales.scalar_type());
  if (!at::isfinite(stored).all().item<bool>()) {
    user_error(
        "a kernel layout holds scale times zero point in {}, and one is beyond it; use a layout without",
        name_of(to_dtype(scales.scalar_type())));
  }
  return stored;
}

at::Tensor zeros_of_scaled(const at::Tensor& scales, const at::Tensor& scaled, int64_t offset) {
  // Rounding moved the product by less than half a scale: see scaled_zeros_problem().
  const at::Tensor real = -scaled.to(at::kFloat) / scales.to(at::kFloat) - static_cast<double>(offset);
  return real.round().clamp(0, 255).to(at::kByte);
}

std::optional<std::string> scaled_zeros_problem(const char* kernel, const PlannedLinear& linear) {
  if (linear.scheme.symmetric || linear.scheme.bits <= 4 || linear.scale_dtype != DType::BF16)
    return std::nullopt;
  return fmt::format(
      "{}: the kernel takes scale times zero point in the scales' type, and BF16 has 8 bits: zero "
      "points of {} bits would move; use `symmetric: true`",
      kernel, linear.scheme.bits);
}

PlannedTensor order_tensor(const PlannedLinear& linear) {
  return {linear.name + ".g_idx_sort_indices", {DType::I32, {linear.in}}};
}

nlohmann::json common_notes(const PlannedLinear& linear, int64_t stored_out, int64_t stored_in) {
  nlohmann::json notes = {{"stored_shape", {stored_out, stored_in}}};
  if (linear.group_index) {
    notes["columns"] = "input feature g_idx_sort_indices[j] stands at place j: gather the activations by it";
  }
  return notes;
}

}  // namespace lathe::layouts
