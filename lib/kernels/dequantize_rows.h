// The raw-pointer face of the kernel that makes values out of codes, the same for CPU and CUDA.
#pragma once

#include <cstdint>

#include "lib/kernels/group_quant_rows.h"

namespace lathe::kernels {

/// One parameter each for the groups of a GroupLayout.
struct CodeParams {
  device::Minifloat number = {};  // the grid's; mantissa 0: of integers
  const float* scales = nullptr;  // [groups]
  const float* zeros = nullptr;   // [groups], or null for 0; of integers only
  const float* global =
      nullptr;  // one number by which scales are multiplied first, where the scales are; or null
};

namespace cpu {
/// values[i] = scale * (codes[i] - zero), or scale * the number that the code stands for.
void dequantize(GroupLayout layout, CodeParams params, const int8_t* codes, float* values);
}  // namespace cpu

}  // namespace lathe::kernels
