#include "algorithms/spqr_fit.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// [rows, 1] each, lo <= 0 <= hi.
struct Span {
  at::Tensor lo, hi;
};

at::Tensor scale_of(const Span& span, int bits) { return (span.hi - span.lo) / ((1 << bits) - 1); }

/// Each weight's squared error on the grid of that span, times its column's weight; 0 where the span is 0.
at::Tensor weighted_errors(const at::Tensor& group, const Span& span, const at::Tensor& column_weight,
                           int bits) {
  const at::Tensor scale = scale_of(span, bits), divisor = scale.masked_fill(scale == 0, 1);
  const at::Tensor zero = -span.lo / divisor;
  const at::Tensor code = (group / divisor + zero).round_().clamp_(0, (1 << bits) - 1);
  return ((code - zero) * scale - group).square_().mul_(column_weight);
}

/// The sum of the others' errors where one weight, `index` [rows, 1], is left out.
at::Tensor others_error(const at::Tensor& group, const Span& span, const at::Tensor& column_weight,
                        const at::Tensor& index, int bits) {
  return weighted_errors(group, span, column_weight, bits).scatter_(1, index, 0).sum(1, /*keepdim=*/true);
}

/// The values that FP16 can hold, in the tensor's own type.
at::Tensor half(const at::Tensor& values) {
  return values.to(at::kFloat).to(at::kHalf).to(values.scalar_type());
}

struct StatisticLevel {
  at::Tensor codes, scales, zeros;  // Byte [rows]; FP16 values [blocks]
  at::Tensor values;                // [rows], as the consumer computes them
};

StatisticLevel on_second_level(const at::Tensor& statistic, const ScaleGrid& scheme) {
  const at::Tensor blocks = statistic.view({-1, scheme.rows});
  const double top = (1 << scheme.bits) - 1;
  const at::Tensor lo = blocks.amin(1, /*keepdim=*/true), hi = blocks.amax(1, /*keepdim=*/true);
  at::Tensor scales = half((hi - lo) / top);
  // (Nearly) one value: it is the scale, and stands for (0 - -1) times itself.
  const at::Tensor same = scales.eq(0).logical_or_(lo.abs() > kLargestScaleZero * scales);
  scales = at::where(same, half((lo + hi) / 2), scales);
  const at::Tensor divisor = scales.masked_fill(scales == 0, 1);
  const at::Tensor zeros = at::where(same, at::full_like(lo, -1), half(-lo / divisor));
  const at::Tensor codes = (blocks / divisor + zeros).round_().clamp_(0, top).masked_fill_(same, 0);
  const at::Tensor values = half(half(codes - zeros) * scales);
  return {codes.to(at::kByte).view(-1), scales.view(-1), zeros.view(-1), values.view(-1)};
}

}  // namespace

at::Tensor spqr_leave_one_out(const at::Tensor& group, const at::Tensor& inverse_pivots, int bits) {
  const at::Tensor column_weight = inverse_pivots.square();
  const auto [least, least_at] = group.min(1, /*keepdim=*/true);
  const auto [most, most_at] = group.max(1, /*keepdim=*/true);
  const Span span{least.clamp_max(0), most.clamp_min(0)};
  at::Tensor gain = weighted_errors(group, span, column_weight, bits);
  const at::Tensor base = gain.sum(1, /*keepdim=*/true);
  // Where both are one weight, all are equal (or there is one only), and neither span differs.
  const Span without_least{group.scatter(1, least_at, 0).amin(1, /*keepdim=*/true).clamp_max(0), span.hi};
  const Span without_most{span.lo, group.scatter(1, most_at, 0).amax(1, /*keepdim=*/true).clamp_min(0)};
  gain.scatter_(1, least_at, base - others_error(group, without_least, column_weight, least_at, bits));
  gain.scatter_(1, most_at, base - others_error(group, without_most, column_weight, most_at, bits));
  return gain;
}

SpqrGrid spqr_fit(const at::Tensor& group, const at::Tensor& left_out, int bits) {
  const at::Tensor spanned = left_out.defined() ? group.masked_fill(left_out, 0) : group;
  const Span span{spanned.amin(1).clamp_max(0), spanned.amax(1).clamp_min(0)};
  const at::Tensor scale = scale_of(span, bits);
  return {scale, -span.lo / scale.masked_fill(scale == 0, 1)};
}

void spqr_second_level(SpqrGrid& grid, const ScaleGrid& scheme, int64_t column, SecondLevel& level) {
  LATHE_ASSERT(grid.scales.size(0) % scheme.rows == 0, "{} rows in blocks of {}", grid.scales.size(0),
               scheme.rows);
  StatisticLevel scales = on_second_level(grid.scales, scheme), zeros = on_second_level(grid.zeros, scheme);
  grid = {scales.values, zeros.values};
  level.scale_codes.select(1, column).copy_(scales.codes);
  level.zero_codes.select(1, column).copy_(zeros.codes);
  level.scale_scales.select(1, column).copy_(scales.scales);
  level.scale_zeros.select(1, column).copy_(scales.zeros);
  level.zero_scales.select(1, column).copy_(zeros.scales);
  level.zero_zeros.select(1, column).copy_(zeros.zeros);
}

}  // namespace lathe
