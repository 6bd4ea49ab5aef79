// The C interface of liblathe_cuda.so's kernel layouts. Conventions as in group_quant_cuda.h.
#pragma once

#include "lib/kernels/code_layout_rows.h"
#include "lib/kernels/cuda/group_quant_cuda.h"

extern "C" {
int lathe_cuda_pack_codes(LatheCudaQueue queue, lathe::device::CodeLayout layout,
                          lathe::kernels::CodeMatrix matrix);
int lathe_cuda_unpack_codes(LatheCudaQueue queue, lathe::device::CodeLayout layout,
                            lathe::kernels::CodeMatrix matrix);
int lathe_cuda_pack_exllama3(LatheCudaQueue queue, lathe::kernels::CodeMatrix matrix);
int lathe_cuda_unpack_exllama3(LatheCudaQueue queue, lathe::kernels::CodeMatrix matrix);
int lathe_cuda_swizzle_scales(LatheCudaQueue queue, lathe::kernels::ScaleMatrix matrix);
int lathe_cuda_unswizzle_scales(LatheCudaQueue queue, lathe::kernels::ScaleMatrix matrix);
}
