// From an activation tensor to the layout that the statistic kernels take.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/kernels/channel_moments_rows.h"

namespace lathe::kernels {

/// x: contiguous [rows, width], Float, or on CUDA Half or BFloat16. InternalError naming `kernel` for
/// anything else.
MatrixLayout matrix_layout(const at::Tensor& x, const char* kernel);

}  // namespace lathe::kernels
