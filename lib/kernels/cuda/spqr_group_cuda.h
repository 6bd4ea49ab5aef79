// The C interface of liblathe_cuda.so's SpQR kernels: as group_quant_cuda.h's. The struct lies in host
// memory, its pointers point to the device's.
#pragma once

#include "lib/kernels/cuda/group_quant_cuda.h"
#include "lib/kernels/spqr_group_rows.h"

extern "C" {
int lathe_cuda_spqr_group_f32(LatheCudaQueue queue, const lathe::kernels::SpqrGroup<float>* group);
int lathe_cuda_spqr_group_f64(LatheCudaQueue queue, const lathe::kernels::SpqrGroup<double>* group);
}
