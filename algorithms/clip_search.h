// Weight ranges that trade clipping for resolution, chosen by the error they cause on the calibration data.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "lib/base/work.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// The factors 1 - max_shrink * i / steps, i = 0 .. steps, of both ends of a range, and those above 1 that
/// symmetric integer grids have a use for (kernels::search_range()).
struct ClipGrid {
  int64_t steps;
  double max_shrink;  // the largest part of a range that may be given up
};

/// For every row and group the factor of its [min, max] with the smallest d_g H_gg d_g^T, where d_g is
/// the group's quantisation error and H_gg the diagonal block of the Gram matrix (AWQ's objective: each
/// group's own contribution to the output; products between groups are left out). The full range is a
/// candidate and wins ties, so no group gets worse by this objective. Cost: out * in * group FMAs a step; for
/// one group a row (-1) that is a full GEMM.
///
/// weight FP32 [out, in]; gram FP32 [in, in]. Groups with a NaN keep their (NaN) range: the solver refuses
/// them by name.
GroupRange search_clip(const at::Tensor& weight, const Scheme& scheme, DType scale_dtype,
                       const at::Tensor& gram, const ClipGrid& grid);
/// What it takes for a weight [out, in].
Work clip_work(const Scheme& scheme, int64_t out, int64_t in, const ClipGrid& grid);

}  // namespace lathe
