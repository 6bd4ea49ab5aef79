// Which values of a linear's input a static scale can't hold. The same operations on a CPU and on a GPU.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/numeric/activation_scheme.h"

namespace lathe::kernels {

/// What a static grid holds: values from `lowest` to `largest`.
struct InputReach {
  float lowest = 0, largest = 0;
};

/// Up to half a step behind the grid's last number on either side (of E4M3: 464 scales, of INT8 127.5): what
/// lies there is rounded to that number as it would be to any other; what lies beyond loses more than
/// rounding takes. InternalError for a dynamic scheme.
InputReach input_reach(const InputQuantizer& quantizer);

/// Long scalar on x's device: how many values of x [..., width] lie beyond the quantiser's reach, rotated
/// first where it rotates them. A NaN isn't counted, an infinity is.
at::Tensor count_overflow(const at::Tensor& x, const InputQuantizer& quantizer);

}  // namespace lathe::kernels
