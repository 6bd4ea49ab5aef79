// The raw-pointer face of the search for groups' ranges, the same for CPU and CUDA.
#pragma once

#include "lib/kernels/device/group_search.cuh"
#include "lib/kernels/group_quant_rows.h"

namespace lathe::kernels {

struct GroupSearch {
  GroupLayout layout;
  device::Grid grid;
  int64_t groups_per_row = 1;
  const float* weight = nullptr;      // [groups, length]
  const float* importance = nullptr;  // [groups_per_row, length], or null for 1
  int64_t steps = 1;
  double max_shrink = 0;
  float* lo = nullptr;  // [groups]: the minima, which become the ranges' lower ends
  float* hi = nullptr;  // [groups]

  /// Are scales codes, so that these are the candidates and not the steps?
  LATHE_HOST_DEVICE bool codes() const {
    return grid.scale_type == device::ScaleType::e4m3 || grid.scale_type == device::ScaleType::e8m0;
  }
};

namespace cpu {
void search_ranges(const GroupSearch& search);
}  // namespace cpu

}  // namespace lathe::kernels
