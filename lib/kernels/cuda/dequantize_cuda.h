// The C interface of liblathe_cuda.so's kernel that makes values out of codes; rules as in
// group_quant_cuda.h. All pointers, those in params too, are device pointers.
#pragma once

#include "lib/kernels/cuda/group_quant_cuda.h"
#include "lib/kernels/dequantize_rows.h"

extern "C" int lathe_cuda_dequantize(LatheCudaQueue queue, lathe::kernels::GroupLayout layout,
                                     lathe::kernels::CodeParams params, const int8_t* codes, float* values);
