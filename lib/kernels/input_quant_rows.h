// The raw-pointer face of the kernel that rounds activations, the same for CPU and CUDA.
#pragma once

#include <cstdint>

#include "lib/kernels/device/input_quant.cuh"

namespace lathe::kernels {

/// Rows of FP32 values, one after the other, and the scale and zero point of each row, or of all of them.
struct InputRows {
  int64_t rows = 0, width = 0;
  float qmin = -128, qmax = 127;
  const float* scales = nullptr;  // [rows], or [1] where shared
  const int8_t* zeros = nullptr;  // the same; null for 0
  bool shared = false;
  device::Minifloat number = {};  // a floating-point grid's; zeros are then null
};

namespace cpu {
/// y[r, i] = scale * (encode_input(x[r, i]) - zero), or round_on_grid(x[r, i]).
void fake_quantize_input(InputRows layout, const float* x, float* y);
}  // namespace cpu

}  // namespace lathe::kernels
