#include "calib/stats/mean_abs.h"

#include <ATen/ATen.h>

namespace lathe {

MeanAbsCollector::MeanAbsCollector(int64_t width, c10::Device device)
    : sum_(at::zeros({width}, at::TensorOptions().dtype(at::kDouble).device(device))) {}

bool MeanAbsCollector::observe(const at::Tensor& x) {
  const at::Tensor sums = x.abs().sum(0);
  sum_ += sums;
  return at::isfinite(sums.sum(at::kDouble)).item<bool>();
}

void MeanAbsCollector::merge(const MeanAbsCollector& other) { sum_ += other.sum_.to(sum_.device()); }

at::Tensor MeanAbsCollector::finish(double factor) const { return (sum_ * factor).to(at::kFloat); }

}  // namespace lathe
