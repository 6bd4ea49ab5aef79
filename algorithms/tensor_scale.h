// Scales that span a whole tensor (one for all of FP8's weights; the global scale over NVFP4's groups).
// Consumers stack linears that read one input (q/k/v, gate/up) and know one such scale for all of them, so
// these share it.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "algorithms/algorithm.h"
#include "lib/kernels/group_quant.h"

namespace lathe {

/// The largest magnitude of linears that share a tensor's scale, also of their weights with columns scaled.
class TensorMagnitude {
 public:
  /// `linears` read one input. Those of one scheme share.
  explicit TensorMagnitude(const std::vector<LinearProblem>& linears);

  /// max |W s| over the linears of that scheme, a Float scalar on their device, which is not waited for;
  /// undefined where the scheme has no scale of the tensor. scales: FP32 [in], or undefined for 1.
  at::Tensor of(const Scheme& scheme, const at::Tensor& scales) const;

 private:
  std::vector<std::pair<Scheme, at::Tensor>> columns_;  // Float [in], max |W_j|
};

/// Does it have a scale of the whole tensor?
bool has_tensor_scale(const Scheme& scheme);

/// The grids of a linear's rows from their groups' ranges, whatever they share. range: [rows, groups]; rows
/// begin a block where the scheme has them; largest: TensorMagnitude::of().
kernels::GroupParams grids_for(const GroupRange& range, const Scheme& scheme, DType scale_dtype,
                               const at::Tensor& largest);
/// kernels::global_scale() of it where the scheme has one; else undefined.
at::Tensor global_for(const Scheme& scheme, const at::Tensor& largest);

}  // namespace lathe
