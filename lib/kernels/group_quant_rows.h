// The raw-pointer face of the group-quantisation kernels, the same for CPU and CUDA: no tensor type, no
// allocation. Groups lie one after the other: `groups` of them with `length` FP32 values each (all rows of a
// matrix, in order).
#pragma once

#include <cstdint>

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::kernels {

struct GroupLayout {
  int64_t groups = 0;
  int64_t length = 0;
};

namespace cpu {
/// lo, hi [groups]; both NaN for a group that holds a NaN or an infinity; a zero end is +0.
void min_max(GroupLayout layout, const float* weight, float* lo, float* hi);
/// scales [groups]; zeros [groups], or null where the grid is symmetric.
void params(GroupLayout layout, device::Grid grid, const float* lo, const float* hi, float* scales,
            int8_t* zeros);
/// Both under grid.global, where there is one: scales are multiplied by it first.
void encode(GroupLayout layout, device::Grid grid, const float* weight, const float* scales,
            const int8_t* zeros, int8_t* codes);
void fake_quantize(GroupLayout layout, device::Grid grid, const float* weight, const float* scales,
                   const int8_t* zeros, float* result);
}  // namespace cpu

}  // namespace lathe::kernels
