// The C interface of liblathe_cuda.so's kernel that rounds activations. Conventions as in group_quant_cuda.h;
// the layout's pointers are device pointers, too.
#pragma once

#include "lib/kernels/cuda/group_quant_cuda.h"
#include "lib/kernels/input_quant_rows.h"

extern "C" {
int lathe_cuda_fake_quantize_input(LatheCudaQueue queue, lathe::kernels::InputRows layout, const float* x,
                                   float* y);
}
