// The C interface of liblathe_cuda.so's half-quadratic kernel. Conventions as in group_quant_cuda.h.
#pragma once

#include "lib/kernels/cuda/group_quant_cuda.h"
#include "lib/kernels/hqq_rows.h"

extern "C" {
int lathe_cuda_hqq(LatheCudaQueue queue, lathe::kernels::GroupLayout layout,
                   const lathe::device::HqqSettings& settings, lathe::kernels::HqqArrays arrays);
}
