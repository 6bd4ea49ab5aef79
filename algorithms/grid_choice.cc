#include "algorithms/grid_choice.h"

#include <algorithm>

#include "algorithms/shared_range.h"

namespace lathe {

GridChoice::GridChoice(const std::vector<LinearProblem>& linears, const RangeChoice& choice,
                       at::Tensor importance)
    : linears_(linears), choice_(choice), importance_(std::move(importance)), magnitude_(linears) {}

/// The magnitude that the largest number of a per-tensor scheme stands for, the largest magnitude where
/// NVFP4's global scale is over groups' own; undefined where the scheme has no scale of the tensor.
at::Tensor GridChoice::end_of(const Scheme& scheme) {
  const at::Tensor largest = magnitude_.of(scheme, {});
  if (!scheme.per_tensor()) return largest;
  const auto known = std::ranges::find(ends_, scheme, &std::pair<Scheme, at::Tensor>::first);
  if (known != ends_.end()) return known->second;
  ends_.emplace_back(scheme, tensor_range(linears_, scheme, choice_, importance_, largest));
  return ends_.back().second;
}

GroupGrids GridChoice::of(const LinearProblem& linear) {
  const Scheme& scheme = linear.scheme;
  const at::Tensor end = end_of(scheme);
  if (linear.range) return grids_of(linear, offered_range(linear), end);
  if (scheme.per_tensor() || choice_.method == RangeMethod::minmax)
    return grids_of(linear, kernels::group_min_max(linear.weight, scheme), end);
  if (scheme.shares_rows()) {
    const GroupRange range =
        block_range(linear.weight, scheme, linear.scale_dtype, choice_, linear.name, importance_);
    return grids_of(linear, range, end);
  }
  const GroupRange range = weight_range(linear.weight, scheme, linear.scale_dtype, choice_, linear.name,
                                        importance_, global_for(scheme, end));
  return grids_of(linear, range, end);
}

}  // namespace lathe
