// Rounding of activations on CUDA: a thread a value. The arithmetic is device/input_quant.cuh, compiled with
// --fmad=false so that results equal the CPU's bit for bit.
#include "lib/kernels/cuda/input_quant_cuda.h"

#include <cuda_runtime.h>

namespace {

using lathe::device::ScaleZero;
using lathe::kernels::InputRows;

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;

__global__ void round_values(InputRows layout, const float* x, float* y) {
  const int64_t values = layout.rows * layout.width;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t n = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < values; n += step) {
    const int64_t row = layout.shared ? 0 : n / layout.width;
    if (layout.number.mantissa != 0) {
      y[n] = lathe::device::round_on_grid(x[n], layout.scales[row], layout.number);
      continue;
    }
    ScaleZero grid;
    grid.scale = layout.scales[row];
    grid.zero = layout.zeros == nullptr ? 0.0f : static_cast<float>(layout.zeros[row]);
    y[n] =
        lathe::device::decode_value(lathe::device::encode_input(x[n], grid, layout.qmin, layout.qmax), grid);
  }
}

}  // namespace

extern "C" int lathe_cuda_fake_quantize_input(LatheCudaQueue queue, InputRows layout, const float* x,
                                              float* y) {
  const int64_t values = layout.rows * layout.width;
  if (values == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const int64_t wanted = (values + kThreads - 1) / kThreads;
  const int blocks = static_cast<int>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
  round_values<<<blocks, kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(layout, x, y);
  return cudaGetLastError();
}
