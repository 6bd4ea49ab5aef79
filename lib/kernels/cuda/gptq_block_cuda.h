// The C interface of liblathe_cuda.so's GPTQ kernels: as group_quant_cuda.h's. The struct lies in host
// memory, its pointers point to the device's.
#pragma once

#include "lib/kernels/cuda/group_quant_cuda.h"
#include "lib/kernels/gptq_block_rows.h"

extern "C" {
int lathe_cuda_gptq_block_f32(LatheCudaQueue queue, const lathe::kernels::GptqBlock<float>* block);
int lathe_cuda_gptq_block_f64(LatheCudaQueue queue, const lathe::kernels::GptqBlock<double>* block);
}
