// The arithmetic of one quantised activation, for g++ and nvcc. compressed-tensors' order of operations
// (quantization/lifecycle/forward_helpers.py): the zero point is added before the clamp and the rounding, so
// that ties fall as there. Rules as in group_quant.cuh.
#pragma once

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::device {

/// clamp(x / scale + zero, qmin, qmax) rounded to the nearest integer, ties to even. A NaN stays one: unlike
/// a weight's it has not been looked for.
LATHE_HOST_DEVICE float encode_input(float x, ScaleZero grid, float qmin, float qmax) {
  const float code = x / grid.scale + grid.zero;
  return round_half_even(code < qmin ? qmin : (code > qmax ? qmax : code));
}

}  // namespace lathe::device
