// From a scheme to the grid that the group kernels compute with.
#pragma once

#include "lib/kernels/device/group_quant.cuh"
#include "lib/numeric/scheme.h"

namespace lathe::kernels {

/// InternalError for a type that no scale has.
device::Grid grid_of(const Scheme& scheme, DType scale_dtype);

}  // namespace lathe::kernels
