// Ranges of weights whose rows share a scale, chosen by the methods of weight_range.h from all weights under
// that scale together.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "algorithms/algorithm.h"
#include "algorithms/weight_range.h"

namespace lathe {

/// weight_range() of a scheme whose scales span blocks of rows (Scheme::rows > 1): the weights of a block are
/// the group. FP32 [out, groups], equal in a block's rows but for one that holds a NaN or an infinity: the
/// rows where these stand have a NaN range.
GroupRange block_range(const at::Tensor& weight, const Scheme& scheme, DType scale_dtype,
                       const RangeChoice& choice, const std::string& name, const at::Tensor& importance);

/// The magnitude that the largest number of a per-tensor scheme stands for, of all `linears` of that scheme
/// together: a Float scalar on their device, `largest` at most. largest: TensorMagnitude::of(), which minmax
/// gives, as does one that is not finite.
///   percentile: of |w|, by the observer of static activations (calib/stats/distribution.h);
///   kl: the entropy clip of their histogram;
///   mse, weighted: of the shrink factors of weight_range(), the one with the least sum of squared errors,
///     importance: Float [in] as there. The sums are FP64 over rows; 41 passes over the weights.
/// percentile and kl wait for the device.
at::Tensor tensor_range(const std::vector<LinearProblem>& linears, const Scheme& scheme,
                        const RangeChoice& choice, const at::Tensor& importance, const at::Tensor& largest);

}  // namespace lathe
