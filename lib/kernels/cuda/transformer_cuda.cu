// The transformer kernels on CUDA. The arithmetic is device/transformer.cuh and sums are taken in the CPU's
// order, so with --fmad=false results equal the CPU's bit for bit.
#include "lib/kernels/cuda/transformer_cuda.h"

#include <cuda_runtime.h>

#include "lib/kernels/cuda/load.cuh"

namespace {

using lathe::device::load_float;
using lathe::kernels::GateFunction;
using lathe::kernels::HeadLayout;
using lathe::kernels::InputType;
using lathe::kernels::RowLayout;

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kLanes = 64;  // of the CPU's sum of squares
constexpr int kRowsPerBlock = kThreads / kLanes;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int64_t kMaxBlocks = 1 << 20;

__device__ void store_float(float value, float* out) { *out = value; }
__device__ void store_float(float value, __half* out) { *out = __float2half_rn(value); }
__device__ void store_float(float value, __nv_bfloat16* out) { *out = __float2bfloat16_rn(value); }

int blocks_for(int64_t items, int64_t items_per_block) {
  const int64_t wanted = (items + items_per_block - 1) / items_per_block;
  return static_cast<int>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
}

/// The sum over a row's 64 lanes in their tree order, in lane 0 of the row. `upper`: 32 floats of this row.
__device__ float sum_of_lanes(float sum, int lane, float* upper) {
  if (lane >= kWarp) upper[lane - kWarp] = sum;
  __syncthreads();
  if (lane < kWarp) {
    sum += upper[lane];
    for (int half = kWarp / 2; half > 0; half /= 2) sum += __shfl_down_sync(kAllLanes, sum, half);
  }
  return sum;
}

/// 64 threads a row.
template <class T, class Result>
__global__ void rms_norm_rows(RowLayout layout, const T* x, const float* weight, float offset, float eps,
                              Result* y) {
  __shared__ float upper[kRowsPerBlock][kWarp], factors[kRowsPerBlock];
  const int lane = threadIdx.x % kLanes, slot = threadIdx.x / kLanes;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kRowsPerBlock;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock; first < layout.rows; first += step) {
    const int64_t row = first + slot, width = row < layout.rows ? layout.width : 0;
    const T* values = x + row * layout.stride;
    float sum = 0;
    for (int64_t i = lane; i < width; i += kLanes) sum += load_float(values[i]) * load_float(values[i]);
    sum = sum_of_lanes(sum, lane, upper[slot]);
    if (lane == 0) factors[slot] = 1.0f / sqrtf(sum / static_cast<float>(layout.width) + eps);
    __syncthreads();
    const float factor = factors[slot];
    for (int64_t i = lane; i < width; i += kLanes)
      store_float((load_float(values[i]) * factor) * (offset + weight[i]), y + row * layout.width + i);
  }
}

/// One thread a pair of channels.
template <class T>
__global__ void rotate_pairs(HeadLayout layout, const float* cosines, const float* sines, T* x) {
  const int64_t half = layout.rotary / 2, pairs = layout.tokens * layout.heads * half;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t n = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < pairs; n += step) {
    const int64_t i = n % half, head = n / half % layout.heads, token = n / half / layout.heads;
    const int64_t table = token % layout.positions * layout.rotary + i;
    T* a = x + token * layout.stride + head * layout.head_dim + i;
    T* b = a + half;
    const lathe::device::Pair turned =
        lathe::device::rotate_pair({load_float(*a), load_float(*b)}, {cosines[table], cosines[table + half]},
                                   {sines[table], sines[table + half]});
    store_float(turned.a, a);
    store_float(turned.b, b);
  }
}

__device__ float gate_value(GateFunction function, float x) {
  switch (function.kind) {
    case GateFunction::Kind::scaled_silu:
      return lathe::device::scaled_silu_value(x, function.slope);
    case GateFunction::Kind::gelu_tanh:
      return lathe::device::gelu_tanh_value(x);
    case GateFunction::Kind::relu:
      return lathe::device::relu_value(x);
    default:
      return lathe::device::relu_value(x) * lathe::device::relu_value(x);
  }
}

/// One thread a value. out may be gate.
template <class T>
__global__ void gate_values(RowLayout layout, GateFunction function, const T* gate, const T* up, T* out) {
  const int64_t values = layout.rows * layout.width;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t n = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < values; n += step) {
    const int64_t at = n / layout.width * layout.stride + n % layout.width;
    store_float(gate_value(function, load_float(gate[at])) * load_float(up[at]), out + n);
  }
}

}  // namespace

extern "C" int lathe_cuda_rms_norm(LatheCudaQueue queue, RowLayout layout, InputType type, const void* x,
                                   const float* weight, float offset, float eps, InputType result_type,
                                   void* y) {
  if (layout.rows == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  return lathe::device::with_input_type(type, x, [&](const auto* in) {
    return lathe::device::with_input_type(result_type, y, [&](const auto* typed) {
      using Result = std::remove_const_t<std::remove_pointer_t<decltype(typed)>>;
      rms_norm_rows<<<blocks_for(layout.rows, kRowsPerBlock), kThreads, 0,
                      static_cast<cudaStream_t>(queue.stream)>>>(layout, in, weight, offset, eps,
                                                                 static_cast<Result*>(y));
      return cudaGetLastError();
    });
  });
}

extern "C" int lathe_cuda_rotate_heads(LatheCudaQueue queue, HeadLayout layout, InputType type,
                                       const float* cosines, const float* sines, void* x) {
  const int64_t pairs = layout.tokens * layout.heads * (layout.rotary / 2);
  if (pairs == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  return lathe::device::with_input_type(type, x, [&](const auto* typed) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(typed)>>;
    rotate_pairs<<<blocks_for(pairs, kThreads), kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(
        layout, cosines, sines, static_cast<T*>(x));
    return cudaGetLastError();
  });
}

extern "C" int lathe_cuda_gated_product(LatheCudaQueue queue, RowLayout layout, GateFunction function,
                                        InputType type, const void* gate, const void* up, void* out) {
  const int64_t values = layout.rows * layout.width;
  if (values == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  return lathe::device::with_input_type(type, gate, [&](const auto* typed) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(typed)>>;
    gate_values<<<blocks_for(values, kThreads), kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(
        layout, function, typed, static_cast<const T*>(up), static_cast<T*>(out));
    return cudaGetLastError();
  });
}
