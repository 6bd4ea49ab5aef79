// The range of each group with the least squared rounding error among shrunk ones.
#pragma once

#include "lib/kernels/group_quant.h"

namespace lathe::kernels {

/// Both ends of each group's [min, max] times the factor 1 - max_shrink * i / steps, i = 0 .. steps, whose
/// grid gives the least sum of importance * (w - rounded w)^2, the scale rounded to its type. Symmetric
/// integer grids: factors above 1 too, up to the one that holds the largest weight on either side
/// (device::widest_factor()). The full range wins ties, then wider ones; a group that holds a NaN or an
/// infinity keeps a NaN range. One pass over the weights. Equal bits on CPU and CUDA.
///
/// Where scales are codes themselves (NVFP4, MX) the candidates are these, around the one that spans the
/// group: see device/group_search.cuh; `steps` plays no part. Not for rows that share scales.
///
/// weight: FP32 [out, in] contiguous; global: as in group_params(); importance: Float [in] >= 0, or undefined
/// for 1.
GroupRange search_range(const at::Tensor& weight, const at::Tensor& importance, const Scheme& scheme,
                        DType scale_dtype, int64_t steps, double max_shrink, const at::Tensor& global = {});

/// How many ranges search_range() tries of each group of an integer grid, the full one included.
int64_t searched_ranges(const Scheme& scheme, int64_t steps, double max_shrink);

}  // namespace lathe::kernels
