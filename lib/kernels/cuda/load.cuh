// Reading activations of any input type as FP32 in CUDA kernels.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "lib/kernels/channel_moments_rows.h"

namespace lathe::device {

__device__ inline float load_float(float x) { return x; }
__device__ inline float load_float(__half x) { return __half2float(x); }
__device__ inline float load_float(__nv_bfloat16 x) { return __bfloat162float(x); }

/// Neighbours at once: one, or two halves at an address that is a multiple of 4.
template <class T>
__device__ void load_floats(const T* x, float (&values)[1]) {
  values[0] = load_float(*x);
}
__device__ inline void load_floats(const __half* x, float (&values)[2]) {
  const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(x));
  values[0] = pair.x;
  values[1] = pair.y;
}
__device__ inline void load_floats(const __nv_bfloat16* x, float (&values)[2]) {
  const float2 pair = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(x));
  values[0] = pair.x;
  values[1] = pair.y;
}

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
