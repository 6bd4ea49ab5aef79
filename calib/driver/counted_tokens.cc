#include "calib/driver/counted_tokens.h"

#include <ATen/ATen.h>

namespace lathe {

at::Tensor counted_tokens(const CalibrationJob& job) {
  at::Tensor counted;
  if (!job.lengths.empty()) {
    const at::Tensor lengths = at::tensor(job.lengths, at::kLong).unsqueeze(1);
    counted = at::arange(job.ids.size(1), at::kLong).unsqueeze(0).lt(lengths);
  }
  if (job.token_weights.defined()) {
    const at::Tensor weighed = job.token_weights != 0;
    if (!weighed.all().item<bool>()) counted = counted.defined() ? counted.logical_and_(weighed) : weighed;
  }
  return counted;
}

int64_t number_of_counted_tokens(const CalibrationJob& job) {
  const at::Tensor counted = counted_tokens(job);
  return counted.defined() ? counted.sum().item<int64_t>() : job.ids.numel();
}

}  // namespace lathe
