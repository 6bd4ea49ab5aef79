#include "algorithms/rounding_loss.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/cancel.h"
#include "lib/kernels/group_quant.h"

namespace lathe {
namespace {

/// Rows at a time: whole blocks where rows share scales.
int64_t rows_at_a_time(const LinearProblem& linear) {
  const int64_t rows = rows_per_chunk(linear.weight), block = std::max<int64_t>(1, linear.scheme.rows);
  return (rows + block - 1) / block * block;
}

}  // namespace

double RoundingLoss::up_to(double limit, const at::Tensor& scales) const {
  double loss = 0;
  for (const LinearProblem& linear : linears_) {
    const int64_t step = rows_at_a_time(linear);
    const at::Tensor largest = magnitude_.of(linear.scheme, scales);
    for (int64_t row = 0; row < linear.weight.size(0); row += step) {
      loss += of_rows(linear, row, step, scales, largest).item<double>();
      if (!(loss <= limit)) return loss;
    }
  }
  return loss;
}

at::Tensor RoundingLoss::on_device(const at::Tensor& scales) const {
  at::Tensor loss = at::zeros({}, linears_.front().weight.options().dtype(at::kDouble));
  for (const LinearProblem& linear : linears_) {
    const int64_t step = rows_at_a_time(linear);
    const at::Tensor largest = magnitude_.of(linear.scheme, scales);
    for (int64_t row = 0; row < linear.weight.size(0); row += step) {
      loss += of_rows(linear, row, step, scales, largest);
    }
  }
  return loss;
}

at::Tensor RoundingLoss::of_rows(const LinearProblem& linear, int64_t row, int64_t count,
                                 const at::Tensor& scales, const at::Tensor& largest) const {
  throw_if_cancelled();
  const at::Tensor original = linear.weight.slice(0, row, row + count);
  const at::Tensor scaled = scales.defined() ? original * scales : original;
  const GroupRange range = kernels::group_min_max(scaled, linear.scheme);
  const kernels::GroupParams params = grids_for(range, linear.scheme, linear.scale_dtype, largest);
  at::Tensor delta = kernels::group_fake_quantize(scaled, params, linear.scheme);
  if (scales.defined()) delta.div_(scales);
  return form_.on_device(delta.sub_(original));
}

}  // namespace lathe
