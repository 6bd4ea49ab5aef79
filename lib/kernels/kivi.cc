#include "lib/kernels/kivi.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"

namespace lathe::kernels {
namespace {

/// Rounds FP16 groups along one dimension, in FP16 arithmetic: ATen computes each step in FP32 and rounds it,
/// on any device.
at::Tensor round_groups(const at::Tensor& x, int64_t dim, int bits) {
  const int most = (1 << bits) - 1;
  const auto [least, largest] = at::aminmax(x, dim, /*keepdim=*/true);
  // By a tensor: ATen multiplies by the reciprocal of a number on some devices.
  const at::Tensor scale = (largest - least).div_(at::full({}, most, x.options()));
  const at::Tensor step =
      scale.masked_fill(scale == 0, 1);  // codes times a scale of 0 are 0, whatever they are
  at::Tensor codes = (x - least).div_(step).clamp_(0, most).round_();
  return codes.mul_(scale).add_(least);
}

}  // namespace

at::Tensor kivi_keys(const at::Tensor& x, int bits, int64_t group) {
  const int64_t tokens = x.size(1), whole = tokens / group * group;
  at::Tensor out = x.to(at::kHalf);
  if (whole == 0) return out.to(at::kFloat);
  const at::Tensor groups = out.slice(1, 0, whole).reshape({x.size(0), whole / group, group, -1});
  const at::Tensor rounded = round_groups(groups, 2, bits).view({x.size(0), whole, x.size(2), x.size(3)});
  return whole == tokens ? rounded.to(at::kFloat) : at::cat({rounded, out.slice(1, whole)}, 1).to(at::kFloat);
}

at::Tensor kivi_values(const at::Tensor& x, int bits, int64_t group) {
  LATHE_ASSERT(x.size(3) % group == 0, "values of {} channels in groups of {}", x.size(3), group);
  const at::Tensor groups = x.to(at::kHalf).reshape({x.size(0), x.size(1), -1, group});
  return round_groups(groups, 3, bits).view(x.sizes()).to(at::kFloat);
}

}  // namespace lathe::kernels
