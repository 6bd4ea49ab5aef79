// Reading activations of any input type as FP32 in CUDA kernels.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "lib/kernels/channel_moments_rows.h"

namespace lathe::device {

__device__ inline float load_float(float x) { return x; }
__device__ inline float load_float(__half x) { return __half2float(x); }
__device__ inline float load_float(__nv_bfloat16 x) { return __bfloat162float(x); }

/// body(x as a pointer to its element type).
template <class Body>
int with_input_type(kernels::InputType type, const void* x, Body body) {
  switch (type) {
    case kernels::InputType::f16:
      return body(static_cast<const __half*>(x));
    case kernels::InputType::bf16:
      return body(static_cast<const __nv_bfloat16*>(x));
    default:
      return body(static_cast<const float*>(x));
  }
}

}  // namespace lathe::device
