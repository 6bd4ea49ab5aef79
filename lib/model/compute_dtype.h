// The dtype that the forward pass multiplies in: --compute-dtype auto|f32|bf16|f16.
#pragma once

#include <c10/core/Device.h>

#include <string_view>

#include "lib/tensor/dtype.h"

namespace lathe {

/// `auto` is FP32 on the CPU, whose half-precision products are the slower ones, and the checkpoint's own
/// dtype on a GPU, as inference engines run it. FP32 can be asked for on both, to compare them. UserError for
/// another word.
DType resolve_compute_dtype(std::string_view text, c10::Device device, DType checkpoint);

}  // namespace lathe
