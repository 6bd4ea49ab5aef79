// The grids of linears that read one input, whatever their schemes share: what a solver that rounds to static
// grids starts with.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "algorithms/group_grids.h"
#include "algorithms/tensor_scale.h"
#include "algorithms/weight_range.h"

namespace lathe {

class GridChoice {
 public:
  /// `linears` read one input and have contiguous weights; kept by reference, as is `choice`. importance: as
  /// in weight_range().
  GridChoice(const std::vector<LinearProblem>& linears, const RangeChoice& choice, at::Tensor importance);

  /// Of one of the linears: the grids of the range that a transform offered it, else of the chosen one, a
  /// group's, a block of rows' or (chosen once, from all linears of the scheme) the tensor's. NVFP4's global
  /// scale comes first, from the largest magnitude of these, and groups' scales are chosen under it.
  GroupGrids of(const LinearProblem& linear);

 private:
  at::Tensor end_of(const Scheme& scheme);

  const std::vector<LinearProblem>& linears_;
  const RangeChoice& choice_;
  at::Tensor importance_;
  TensorMagnitude magnitude_;
  std::vector<std::pair<Scheme, at::Tensor>> ends_;  // of each per-tensor scheme
};

}  // namespace lathe
