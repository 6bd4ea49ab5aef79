#include "lib/numeric/grid_reach.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace lathe {
namespace {

/// Of each group, in its scales: qmax - z or z - qmin, whichever is larger.
at::Tensor steps(const QuantizedTensor& tensor) {
  const Scheme& scheme = tensor.scheme;
  if (const FloatGridType* const grid = scheme.float_grid())
    return at::scalar_tensor(grid->number.largest, at::kDouble);
  if (!tensor.zero_points.defined())
    return at::scalar_tensor(std::max(scheme.qmax(), -scheme.qmin()), at::kDouble);
  const at::Tensor zeros = tensor.zero_points.to(at::kDouble);
  return at::maximum(scheme.qmax() - zeros, zeros - scheme.qmin());
}

}  // namespace

std::optional<GridReach> grid_reach(const QuantizedTensor& tensor) {
  if (tensor.scheme.has_values() || tensor.scales.numel() == 0) return std::nullopt;
  at::Tensor scales = tensor.scales.to(at::kDouble);
  if (tensor.global_scale.defined()) scales = scales * tensor.global_scale.to(at::kDouble);
  const at::Tensor reach = scales * steps(tensor).to(scales.device());
  const auto [least, largest] = at::aminmax(reach);
  return GridReach{least.item<double>(), reach.median().item<double>(), largest.item<double>()};
}

}  // namespace lathe
