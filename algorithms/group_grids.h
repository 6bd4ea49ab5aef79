// The grids of a linear's groups, and the refusal of weights that have none: what solvers start with.
#pragma once

#include <vector>

#include "algorithms/algorithm.h"
#include "lib/kernels/group_quant.h"

namespace lathe {

struct GroupGrids {
  GroupRange range;
  kernels::GroupParams params;
};

/// UserError naming the linear where the scheme doesn't fit its width.
void check_scheme(const LinearProblem& linear);

/// The range that a transform offered. InternalError where it doesn't fit the weight.
const GroupRange& offered_range(const LinearProblem& linear);

/// largest: TensorMagnitude::of(), where the scheme has a scale of the tensor.
GroupGrids grids_of(const LinearProblem& linear, GroupRange range, const at::Tensor& largest = {});

/// UserError naming linear, row and group where a weight is NaN or infinite, or needs a scale beyond the type
/// of the scales. Waits for the device once, for all linears. As many grids as linears.
void check_grids(const std::vector<LinearProblem>& linears, const std::vector<GroupGrids>& grids);

}  // namespace lathe
