// The C interface of liblathe_cuda.so's statistic kernels. Conventions as in group_quant_cuda.h.
#pragma once

#include "lib/kernels/channel_moments_rows.h"
#include "lib/kernels/cuda/group_quant_cuda.h"
#include "lib/kernels/value_counts_rows.h"

extern "C" {
/// Chunks of kMomentChunk rows are added to the running sums in `out`; *out.bad is lowered to the first bad
/// element. parts: places for sums of each chunk, [chunks, width], where there is more than one.
int lathe_cuda_channel_moments(LatheCudaQueue queue, lathe::kernels::MatrixLayout layout, const void* x,
                               int64_t first_row, lathe::kernels::MomentOutputs out,
                               lathe::kernels::MomentOutputs parts);
/// counts [2, bins] is added to.
int lathe_cuda_value_counts(LatheCudaQueue queue, lathe::kernels::MatrixLayout layout, const void* x,
                            int64_t* counts);
/// counts [width, channel bins] is added to.
int lathe_cuda_channel_value_counts(LatheCudaQueue queue, lathe::kernels::MatrixLayout layout, const void* x,
                                    int32_t* counts);
/// low, high [rows].
int lathe_cuda_row_extent(LatheCudaQueue queue, lathe::kernels::MatrixLayout layout, const void* x,
                          float* low, float* high);
}
