// The C interface of liblathe_cuda.so's range search: as group_quant_cuda.h's. The struct lies in host
// memory, its pointers point to the device's.
#pragma once

#include "lib/kernels/cuda/group_quant_cuda.h"
#include "lib/kernels/group_search_rows.h"

extern "C" {
int lathe_cuda_search_ranges(LatheCudaQueue queue, const lathe::kernels::GroupSearch* search);
}
