#include "algorithms/tensor_scale.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace lathe {
namespace {

using Row = std::pair<Scheme, at::Tensor>;

}  // namespace

bool has_tensor_scale(const Scheme& scheme) { return scheme.per_tensor() || scheme.has_global_scale(); }

TensorMagnitude::TensorMagnitude(const std::vector<LinearProblem>& linears) {
  for (const LinearProblem& linear : linears) {
    if (!has_tensor_scale(linear.scheme)) continue;
    const auto [low, high] = at::aminmax(linear.weight, 0);
    const at::Tensor own = at::maximum(-low, high);
    const auto same = std::ranges::find(columns_, linear.scheme, &Row::first);
    if (same == columns_.end()) {
      columns_.emplace_back(linear.scheme, own);
    } else {
      same->second = at::maximum(same->second, own);
    }
  }
}

at::Tensor TensorMagnitude::of(const Scheme& scheme, const at::Tensor& scales) const {
  const auto row = std::ranges::find(columns_, scheme, &Row::first);
  if (row == columns_.end()) return {};
  return (scales.defined() ? row->second * scales : row->second).max();
}

at::Tensor global_for(const Scheme& scheme, const at::Tensor& largest) {
  return scheme.has_global_scale() ? kernels::global_scale(largest) : at::Tensor();
}

kernels::GroupParams grids_for(const GroupRange& range, const Scheme& scheme, DType scale_dtype,
                               const at::Tensor& largest) {
  if (!scheme.shares_rows())
    return kernels::group_params(range, scheme, scale_dtype, global_for(scheme, largest));
  if (!scheme.per_tensor())
    return kernels::group_params(kernels::shared_range(range, scheme), scheme, scale_dtype);
  const at::Tensor end = largest.expand_as(range.hi).contiguous();
  return kernels::group_params({-end, end}, scheme, scale_dtype);
}

}  // namespace lathe
