// Counting values on CUDA. Whole-tensor counts go to global memory with atomics, after lanes of a warp that
// hit one bin have joined theirs (activations crowd into few bins); a channel's go without joining. Integer
// sums have no order, so the counts are the CPU's.
#include <cuda_runtime.h>

#include "lib/kernels/cuda/load.cuh"
#include "lib/kernels/cuda/statistics_cuda.h"

namespace {

using lathe::kernels::MatrixLayout;

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int64_t kMaxBlocks = 2048;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int32_t kBins = lathe::device::bin_count(lathe::device::kValueBins);
constexpr int32_t kPerChannel = lathe::device::bin_count(lathe::device::kChannelBins);

template <class T>
__global__ void count_values(int64_t total, const T* x, unsigned long long* counts) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += stride) {
    const uint32_t bits = lathe::device::float_bits(lathe::device::load_float(x[i]));
    const int32_t bin = lathe::device::bin_of(bits & 0x7fffffffu, lathe::device::kValueBins) +
                        static_cast<int32_t>(bits >> 31) * kBins;
    const unsigned active = __activemask();
    const unsigned same = __match_any_sync(active, bin);
    if (__ffs(same) - 1 == static_cast<int>(threadIdx.x % kWarp))
      atomicAdd(counts + bin, static_cast<unsigned long long>(__popc(same)));
  }
}

template <class T>
__global__ void count_channel_values(int64_t total, int64_t width, const T* x, int32_t* counts) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += stride) {
    const uint32_t bits = lathe::device::magnitude_bits(lathe::device::load_float(x[i]));
    atomicAdd(counts + (i % width) * kPerChannel + lathe::device::bin_of(bits, lathe::device::kChannelBins),
              1);
  }
}

template <class T>
__global__ void extent_of_rows(MatrixLayout layout, const T* x, float* low_out, float* high_out) {
  const int lane = threadIdx.x % kWarp;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x / kWarp;
  for (int64_t row = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp; row < layout.rows;
       row += stride) {
    float low = lathe::device::load_float(x[row * layout.width]), high = low;
    for (int64_t i = lane; i < layout.width; i += kWarp) {
      const float value = lathe::device::load_float(x[row * layout.width + i]);
      low = value < low ? value : low;
      high = value > high ? value : high;
    }
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      const float other_low = __shfl_down_sync(kAllLanes, low, offset);
      const float other_high = __shfl_down_sync(kAllLanes, high, offset);
      low = other_low < low ? other_low : low;
      high = other_high > high ? other_high : high;
    }
    if (lane == 0) {
      low_out[row] = low + 0.0f;
      high_out[row] = high + 0.0f;
    }
  }
}

int blocks_for(int64_t threads) {
  const int64_t wanted = (threads + kThreads - 1) / kThreads;
  return static_cast<int>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
}

/// launch(values, stream) for the matrix's element type, unless it is empty.
template <class Launch>
int on_queue(LatheCudaQueue queue, MatrixLayout layout, const void* x, Launch launch) {
  if (layout.rows == 0 || layout.width == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  return lathe::device::with_input_type(layout.type, x, [&](const auto* values) -> int {
    launch(values, static_cast<cudaStream_t>(queue.stream));
    return cudaGetLastError();
  });
}

}  // namespace

extern "C" {

int lathe_cuda_value_counts(LatheCudaQueue queue, MatrixLayout layout, const void* x, int64_t* counts) {
  const int64_t total = layout.rows * layout.width;
  return on_queue(queue, layout, x, [&](const auto* values, cudaStream_t stream) {
    count_values<<<blocks_for(total), kThreads, 0, stream>>>(total, values,
                                                             reinterpret_cast<unsigned long long*>(counts));
  });
}

int lathe_cuda_channel_value_counts(LatheCudaQueue queue, MatrixLayout layout, const void* x,
                                    int32_t* counts) {
  const int64_t total = layout.rows * layout.width;
  return on_queue(queue, layout, x, [&](const auto* values, cudaStream_t stream) {
    count_channel_values<<<blocks_for(total), kThreads, 0, stream>>>(total, layout.width, values, counts);
  });
}

int lathe_cuda_row_extent(LatheCudaQueue queue, MatrixLayout layout, const void* x, float* low, float* high) {
  return on_queue(queue, layout, x, [&](const auto* values, cudaStream_t stream) {
    extent_of_rows<<<blocks_for(layout.rows * kWarp), kThreads, 0, stream>>>(layout, values, low, high);
  });
}
}
