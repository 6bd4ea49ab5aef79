#include "lib/numeric/quantized_tensor.h"

#include <ATen/ATen.h>

#include <vector>

#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

/// Codes with the columns of each group side by side, in the groups' order; [out, in].
at::Tensor grouped_codes(const QuantizedTensor& tensor) {
  if (!tensor.group_index.defined()) return tensor.codes;
  return tensor.codes.index_select(1, at::argsort(tensor.group_index, /*stable=*/true, 0));
}

/// The format's numbers in order of its codes, Float [codes].
at::Tensor number_table(const FloatFormat& format) {
  std::vector<float> numbers;
  for (int code = 0; code < format.codes(); ++code)
    numbers.push_back(static_cast<float>(decode_float(format, static_cast<uint8_t>(code))));
  return at::tensor(numbers, at::kFloat);
}

/// Float, as `codes` (Char, contiguous or not).
at::Tensor numbers_of(const FloatFormat& format, const at::Tensor& codes) {
  const at::Tensor bits = codes.contiguous().view(at::kByte);
  if (format.name == kE4M3.name) return bits.view(at::kFloat8_e4m3fn).to(at::kFloat);
  if (format.name == kE5M2.name) return bits.view(at::kFloat8_e5m2).to(at::kFloat);
  const at::Tensor table = number_table(format).to(codes.device());
  return table.index_select(0, bits.view({-1}).to(at::kInt)).view(codes.sizes());
}

/// The scale of each weight in rows [begin, end), Float [end - begin, in].
at::Tensor spread_scales(const QuantizedTensor& tensor, int64_t begin, int64_t end) {
  at::Tensor scales = tensor.scales;
  if (tensor.global_scale.defined()) scales = scales * tensor.global_scale;
  const int64_t in = tensor.cols();
  if (tensor.scheme.per_tensor()) return scales.expand({end - begin, in});
  const auto places = [&](int64_t from, int64_t to, int64_t step) {
    return at::arange(from, to, scales.options().dtype(at::kLong)).div(step, "floor");
  };
  const at::Tensor rows = tensor.scheme.shares_rows()
                              ? scales.index_select(0, places(begin, end, tensor.scheme.rows))
                              : scales.slice(0, begin, end);
  return scales.size(1) == 1 ? rows.expand({end - begin, in})
                             : rows.index_select(1, places(0, in, tensor.scheme.group_length(in)));
}

/// Codes relative to their zero point, grouped, FP32 [out, groups, length]; exact. Axis 1.
at::Tensor centred_codes(const QuantizedTensor& tensor) {
  const int64_t groups = tensor.scales.size(1);
  if (const FloatGridType* const grid = tensor.scheme.float_grid())
    return numbers_of(grid->number, tensor.codes).view({tensor.rows(), groups, -1});
  at::Tensor values = grouped_codes(tensor).to(at::kFloat).view({tensor.rows(), groups, -1});
  if (tensor.zero_points.defined()) values.sub_(tensor.zero_points.to(at::kFloat).unsqueeze(-1));
  return values;
}

/// Columns back where grouped_codes() took them from.
at::Tensor ungrouped(const QuantizedTensor& tensor, const at::Tensor& values) {
  if (!tensor.group_index.defined()) return values;
  const at::Tensor source = at::argsort(tensor.group_index, /*stable=*/true, 0);
  return at::empty_like(values).index_copy_(1, source, values);
}

/// Groups whose codes all stand for zero: any scale is right for them.
at::Tensor empty_groups(const QuantizedTensor& tensor) { return centred_codes(tensor).eq(0).all(-1); }

[[noreturn]] void refuse_scale(const QuantizedTensor& tensor, const at::Tensor& exact,
                               const at::Tensor& bad) {
  const at::Tensor first = bad.nonzero()[0].cpu();
  const int64_t row = first[0].item<int64_t>(), group = first[1].item<int64_t>();
  user_error(
      "row {}, group {}: the scale would become {:g}, which {} can't hold; use a wider scale type or no fold "
      "here",
      row, group, exact[row][group].item<float>(), name_of(tensor.scale_dtype));
}

}  // namespace

QuantizedTensor QuantizedTensor::cpu() const {
  QuantizedTensor result = *this;
  for (at::Tensor* part : {&result.codes, &result.scales, &result.zero_points, &result.group_index,
                           &result.global_scale, &result.values}) {
    if (part->defined()) *part = part->cpu();
  }
  if (second_level) result.second_level = second_level->cpu();
  if (outliers) result.outliers = outliers->cpu();
  return result;
}

at::Tensor QuantizedTensor::dequantize() const { return dequantize_rows(0, rows()); }

double QuantizedTensor::bits_per_weight() const {
  double beside = group_index.defined() ? 16 * static_cast<double>(cols()) : 0;
  if (outliers) beside += 8 * static_cast<double>(outliers->bytes());
  return scheme.bits_per_weight(rows(), cols()) + beside / static_cast<double>(rows() * cols());
}

at::Tensor QuantizedTensor::dequantize_rows(int64_t begin, int64_t end) const {
  if (scheme.has_values()) return values.slice(0, begin, end);
  if (const FloatGridType* const grid = scheme.float_grid())
    return numbers_of(grid->number, codes.slice(0, begin, end)).mul_(spread_scales(*this, begin, end));
  const auto part = [&](const at::Tensor& all) { return all.defined() ? all.slice(0, begin, end) : all; };
  QuantizedTensor some{scheme, scale_dtype, part(codes), part(scales), part(zero_points), group_index};
  if (scheme.axis == 0) {  // every row has its parameters' own row
    const at::Tensor row =
        at::arange(begin, end, scales.options().dtype(at::kLong)).remainder(scales.size(0));
    at::Tensor values = some.codes.to(at::kFloat);
    if (zero_points.defined()) values.sub_(zero_points.index_select(0, row).to(at::kFloat));
    return values.mul_(scales.index_select(0, row));
  }
  at::Tensor values = centred_codes(some).mul_(some.scales.unsqueeze(-1)).view({some.rows(), some.cols()});
  values = ungrouped(some, values);
  if (outliers) outliers->rows(begin, end).add_to(values);
  return values;
}

bool QuantizedTensor::can_scale_rows() const {
  const FloatGridType* const grid = scheme.float_grid();
  const bool coded = grid != nullptr && grid->scales != FloatGridType::Scales::plain;
  return !second_level.has_value() && scheme.axis == 1 && !scheme.shares_rows() && !coded;
}

void QuantizedTensor::scale_rows(const at::Tensor& factors) {
  LATHE_ASSERT(can_scale_rows(), "scale_rows: rows share scales");
  LATHE_ASSERT(factors.dim() == 1 && factors.size(0) == rows(), "scale_rows: {} factors for {} rows",
               factors.numel(), rows());
  if (scheme.has_values()) {
    values = values * factors.to(values.options()).unsqueeze(1);
    return;
  }
  const at::Tensor exact = scales * factors.to(scales.options()).unsqueeze(1);
  at::Tensor rounded = round_to(exact, scale_dtype);
  at::Tensor bad = at::isfinite(rounded).logical_and_(rounded > 0).logical_not_();
  if (bad.any().item<bool>()) {
    // A group without values (codes all zero) carries a scale that means nothing: it keeps the one it has.
    const at::Tensor empty = empty_groups(*this);
    rounded = at::where(bad.logical_and(empty), scales, rounded);
    bad.logical_and_(empty.logical_not());
    if (bad.any().item<bool>()) refuse_scale(*this, exact, bad);
  }
  scales = rounded;
}

at::Tensor round_to(const at::Tensor& values, DType dtype) {
  LATHE_ASSERT(values.scalar_type() == at::kFloat, "round_to: expected FP32 values");
  LATHE_ASSERT(dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F32, "round_to: scale type {}",
               name_of(dtype));
  return dtype == DType::F32 ? values.clone() : values.to(to_scalar_type(dtype)).to(at::kFloat);
}

}  // namespace lathe
