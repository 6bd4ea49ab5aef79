// The raw-pointer face of the half-quadratic kernels, the same for CPU and CUDA (conventions:
// group_quant_rows.h).
#pragma once

#include "lib/kernels/device/hqq.cuh"
#include "lib/kernels/group_quant_rows.h"

namespace lathe::kernels {

/// What is computed with, and where it goes: lo, hi, scales, zeros [groups]; weight, codes [groups * length].
struct HqqArrays {
  const float* weight;
  const float* lo;
  const float* hi;
  float* scales;
  float* zeros;
  int8_t* codes;
};

namespace cpu {
void hqq(GroupLayout layout, const device::HqqSettings& settings, HqqArrays arrays);
}

}  // namespace lathe::kernels
