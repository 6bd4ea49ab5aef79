// Real zero points that are integers of their grid after all: (q - z) * s is then what integer formats mean
// too.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// Bool, shaped as the zero points: which are no integers in [qmin, qmax]. For a scheme with real_zero.
at::Tensor off_grid_zeros(const QuantizedTensor& tensor);

/// The same codes and scales under integer zero points, or, symmetric, under none. InternalError where one is
/// off the grid, or, symmetric, not 0. For a scheme with real_zero.
QuantizedTensor with_integer_zeros(QuantizedTensor tensor, bool symmetric);

}  // namespace lathe
