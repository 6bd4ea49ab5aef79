#include "algorithms/rounding_loss.h"

#include <ATen/ATen.h>

#include "lib/base/cancel.h"
#include "lib/kernels/group_quant.h"

namespace lathe {

double RoundingLoss::up_to(double limit, const at::Tensor& scales) const {
  double loss = 0;
  for (const LinearProblem& linear : linears_) {
    const int64_t step = rows_per_chunk(linear.weight);
    for (int64_t row = 0; row < linear.weight.size(0); row += step) {
      loss += of_rows(linear, row, step, scales).item<double>();
      if (!(loss <= limit)) return loss;
    }
  }
  return loss;
}

at::Tensor RoundingLoss::on_device(const at::Tensor& scales) const {
  at::Tensor loss = at::zeros({}, linears_.front().weight.options().dtype(at::kDouble));
  for (const LinearProblem& linear : linears_) {
    const int64_t step = rows_per_chunk(linear.weight);
    for (int64_t row = 0; row < linear.weight.size(0); row += step) {
      loss += of_rows(linear, row, step, scales);
    }
  }
  return loss;
}

at::Tensor RoundingLoss::of_rows(const LinearProblem& linear, int64_t row, int64_t count,
                                 const at::Tensor& scales) const {
  throw_if_cancelled();
  const at::Tensor original = linear.weight.slice(0, row, row + count);
  const at::Tensor scaled = scales.defined() ? original * scales : original;
  const GroupRange range = kernels::group_min_max(scaled, linear.scheme);
  const kernels::GroupParams params = kernels::group_params(range, linear.scheme, linear.scale_dtype);
  at::Tensor delta = kernels::group_fake_quantize(scaled, params, linear.scheme);
  if (scales.defined()) delta.div_(scales);
  return form_.on_device(delta.sub_(original));
}

}  // namespace lathe
