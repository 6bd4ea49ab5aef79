// The raw-pointer face of the counting kernels, the same for CPU and CUDA.
#pragma once

#include <cstdint>

#include "lib/kernels/channel_moments_rows.h"
#include "lib/kernels/device/value_bins.cuh"

namespace lathe::kernels::cpu {

/// counts [2, bins] += values by sign (0: not negative) and bin.
void value_counts(MatrixLayout layout, const float* x, int64_t* counts);
/// counts [width, channel bins] += magnitudes by channel and bin.
void channel_value_counts(MatrixLayout layout, const float* x, int32_t* counts);
/// low, high [rows]: each row's minimum and maximum.
void row_extent(MatrixLayout layout, const float* x, float* low, float* high);

}  // namespace lathe::kernels::cpu
