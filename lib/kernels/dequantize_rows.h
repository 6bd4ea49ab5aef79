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
  /// One number by which scales are multiplied first, where the scales are; or null.
  const float* global = nullptr;

  LATHE_HOST_DEVICE device::ScaleZero of(int64_t group) const {
    return {global == nullptr ? scales[group] : scales[group] * *global,
            zeros == nullptr ? 0.0f : zeros[group]};
  }
};

namespace cpu {
/// values[i] = scale * (codes[i] - zero), or scale * the number that the code stands for.
void dequantize(GroupLayout layout, CodeParams params, const int8_t* codes, float* values);
}  // namespace cpu

}  // namespace lathe::kernels
