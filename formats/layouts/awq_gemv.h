// What AutoAWQ's GEMV kernels read (4 bits, with zero points, FP16). Width zw of the zero points, in words of
// eight: ceil(groups / 8), rounded up to a multiple of 1, 2 or 4 for groups of >= 128, 64 or 32. For a linear
// m with W[out, in]:
//   gemv        m.qweight I32 [out, in / 8]   codes as they come
//               m.qzeros  I32 [out, zw]       as they come, then 0
//               m.scales  F16 [out, 8 zw]     then 0
//   gemv-fast   m.qweight I16 [out / 4, in]   four rows of 64, see device/code_layout.cuh
//               m.scales  F16 [8 zw, out]     then 0
//               m.qzeros  F16 [8 zw, out]     -scale * zero, rounded to FP16; then 0
// Sources: AutoAWQ 0.2.9, awq/modules/linear/{gemv,gemv_fast}.py.
#pragma once

#include "formats/layouts/layout.h"

namespace lathe::layouts {

KernelLayout awq_gemv_layout();
KernelLayout awq_gemv_fast_layout();

}  // namespace lathe::layouts
