// The C interface of liblathe_cuda.so's group-quantisation kernels. All pointers but the layout's are device
// pointers of device `device`; work is queued on `stream` (a cudaStream_t). Each returns a cudaError_t, 0 for
// success.
#pragma once

#include <cstdint>

#include "lib/kernels/group_quant_rows.h"

extern "C" {
struct LatheCudaQueue {
  int32_t device;
  void* stream;
};

int lathe_cuda_group_min_max(LatheCudaQueue queue, lathe::kernels::GroupLayout layout, const float* weight,
                             float* lo, float* hi);
int lathe_cuda_group_params(LatheCudaQueue queue, lathe::kernels::GroupLayout layout,
                            lathe::device::Grid grid, const float* lo, const float* hi, float* scales,
                            int8_t* zeros);
int lathe_cuda_group_encode(LatheCudaQueue queue, lathe::kernels::GroupLayout layout,
                            lathe::device::Grid grid, const float* weight, const float* scales,
                            const int8_t* zeros, int8_t* codes);
int lathe_cuda_group_fake_quantize(LatheCudaQueue queue, lathe::kernels::GroupLayout layout,
                                   lathe::device::Grid grid, const float* weight, const float* scales,
                                   const int8_t* zeros, float* result);
/// The text of an error code; static storage.
const char* lathe_cuda_error_text(int code);
}
