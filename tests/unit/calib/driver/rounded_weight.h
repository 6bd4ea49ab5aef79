// A weight rounded to nearest, for tests of what happens after a linear is solved.
#pragma once

#include "lib/kernels/group_quant.h"
#include "lib/model/forward.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe::testing {

/// Rounds the linear's weight with F16 scales, as RTN does, and leaves the rounded values in its place.
inline QuantizedTensor round_weight(BlockWeights& weights, const Linear& linear, const Scheme& scheme) {
  const at::Tensor w = weights.weight(linear);
  const auto params = kernels::group_params(kernels::group_min_max(w, scheme), scheme, DType::F16);
  QuantizedTensor q{.scheme = scheme,
                    .scale_dtype = DType::F16,
                    .codes = kernels::group_encode(w, params, scheme),
                    .scales = params.scales,
                    .zero_points = params.zero_points};
  weights.set_weight(linear, q.dequantize());
  return q;
}

}  // namespace lathe::testing
