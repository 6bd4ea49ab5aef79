// Rounding of activations on CUDA, four values a thread (map_groups.cuh). The arithmetic is
// device/input_quant.cuh, compiled with --fmad=false so that results equal the CPU's bit for bit.
#include "lib/kernels/cuda/input_quant_cuda.h"

#include "lib/kernels/cuda/map_groups.cuh"

namespace {

using lathe::device::NativeFormat;
using lathe::device::ScaleZero;
using lathe::kernels::InputRows;

struct RoundIntegers {
  float qmin, qmax;
  __device__ float operator()(float x, ScaleZero grid) const {
    return lathe::device::decode_value(lathe::device::encode_input(x, grid, qmin, qmax), grid);
  }
};

template <NativeFormat format>
struct RoundNumbers {
  lathe::device::Minifloat number;
  __device__ float operator()(float x, ScaleZero grid) const {
    return lathe::device::round_to_fp8<format>(x, grid.scale, number);
  }
};

}  // namespace

extern "C" int lathe_cuda_fake_quantize_input(LatheCudaQueue queue, InputRows layout, const float* x,
                                              float* y) {
  const lathe::kernels::GroupLayout rows{layout.rows, layout.width};
  const lathe::device::GroupScales scales{layout.scales, layout.zeros, layout.shared};
  if (layout.number.mantissa == 0)
    return lathe::device::map_values(queue, rows, x, y, scales, RoundIntegers{layout.qmin, layout.qmax});
  return lathe::device::with_native_format(layout.number, [&](auto format) {
    return lathe::device::map_values(queue, rows, x, y, scales, RoundNumbers<format()>{layout.number});
  });
}
