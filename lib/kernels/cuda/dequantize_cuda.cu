// Values out of codes on CUDA, four a thread (map_groups.cuh). The arithmetic is device/group_quant.cuh and
// device/float_grid.cuh, compiled with --fmad=false so that results equal the CPU's bit for bit.
#include "lib/kernels/cuda/dequantize_cuda.h"

#include "lib/kernels/cuda/map_groups.cuh"

namespace {

using lathe::device::Minifloat;
using lathe::device::NativeFormat;
using lathe::device::ScaleZero;
using lathe::kernels::CodeParams;

struct DecodeIntegers {
  __device__ float operator()(int8_t code, ScaleZero group) const {
    return lathe::device::decode_value(static_cast<float>(code), group);
  }
};

template <NativeFormat format>
struct DecodeNumbers {
  Minifloat number;
  __device__ float operator()(int8_t code, ScaleZero group) const {
    return group.scale * lathe::device::fp8_number<format>(static_cast<uint8_t>(code), number);
  }
};

}  // namespace

extern "C" int lathe_cuda_dequantize(LatheCudaQueue queue, lathe::kernels::GroupLayout layout,
                                     CodeParams params, const int8_t* codes, float* values) {
  if (params.number.mantissa == 0)
    return lathe::device::map_values(queue, layout, codes, values, params, DecodeIntegers{});
  return lathe::device::with_native_format(params.number, [&](auto format) {
    return lathe::device::map_values(queue, layout, codes, values, params,
                                     DecodeNumbers<format()>{params.number});
  });
}
