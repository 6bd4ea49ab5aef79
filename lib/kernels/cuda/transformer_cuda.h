// The C interface of liblathe_cuda.so's transformer kernels. Conventions as in group_quant_cuda.h; layouts
// and functions as in transformer_rows.h. Values of every type are read as FP32, computed with as on the CPU,
// and rounded once.
#pragma once

#include "lib/kernels/channel_moments_rows.h"
#include "lib/kernels/cuda/group_quant_cuda.h"
#include "lib/kernels/transformer_rows.h"

extern "C" {
int lathe_cuda_rms_norm(LatheCudaQueue queue, lathe::kernels::RowLayout layout,
                        lathe::kernels::InputType type, const void* x, const float* weight, float offset,
                        float eps, lathe::kernels::InputType result_type, void* y);
int lathe_cuda_rotate_heads(LatheCudaQueue queue, lathe::kernels::HeadLayout layout,
                            lathe::kernels::InputType type, const float* cosines, const float* sines,
                            void* x);
int lathe_cuda_gated_product(LatheCudaQueue queue, lathe::kernels::RowLayout layout,
                             lathe::kernels::GateFunction function, lathe::kernels::InputType type,
                             const void* gate, const void* up, void* out);
}
