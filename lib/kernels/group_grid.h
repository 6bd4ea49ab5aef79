// From a scheme to the grid that the group kernels compute with.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/kernels/device/group_quant.cuh"
#include "lib/numeric/scheme.h"

namespace lathe::kernels {

device::Minifloat minifloat_of(const FloatFormat& format);

/// Without a global scale. InternalError for a type that no scale has.
device::Grid grid_of(const Scheme& scheme, DType scale_dtype);
/// With it: a Float scalar where Scheme::has_global_scale(), else undefined. It has to outlive the grid.
device::Grid grid_under(const Scheme& scheme, DType scale_dtype, const at::Tensor& global);

}  // namespace lathe::kernels
