// Counting values on CUDA. A block counts in shared memory what lies in a window of octaves below about the
// largest value that it sees first, which is nearly everything, and hands its table over at the end; the rest
// goes to global memory at once. Integer sums have no order, and the window decides only where a count is
// kept meanwhile: the counts are the CPU's.
#include <cuda_runtime.h>

#include <type_traits>

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

constexpr int32_t kWindow = lathe::device::kWindowBins;
constexpr int kWindowBytes = 2 * kWindow * static_cast<int>(sizeof(uint32_t));  // both signs, 96 KiB
constexpr int kWindowThreads = 1024;
constexpr int kAhead = 8;  // values that a thread loads before it counts them
/// Below this a table costs more to hand over than it saves.
constexpr int64_t kWindowWorthwhile = int64_t{1} << 18;

struct SignedBin {
  int32_t sign, bin;
};

template <class T>
__device__ SignedBin signed_bin(T x) {
  const uint32_t bits = lathe::device::float_bits(lathe::device::load_float(x));
  return {static_cast<int32_t>(bits >> 31),
          lathe::device::bin_of(bits & 0x7fffffffu, lathe::device::kValueBins)};
}

/// One atomic for all lanes of the warp that are here with the same bin.
__device__ void count_global(SignedBin at, unsigned long long* counts) {
  const int32_t place = at.sign * kBins + at.bin;
  const unsigned same = __match_any_sync(__activemask(), place);
  if (__ffs(same) - 1 == static_cast<int>(threadIdx.x % kWarp))
    atomicAdd(counts + place, static_cast<unsigned long long>(__popc(same)));
}

template <class T>
__global__ void count_values(int64_t total, const T* x, unsigned long long* counts) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += stride)
    count_global(signed_bin(x[i]), counts);
}

template <class T>
__global__ void count_values_in_window(int64_t total, const T* x, unsigned long long* counts) {
  extern __shared__ uint32_t table[];  // [2, kWindow]
  __shared__ int32_t top;
  if (threadIdx.x == 0) top = 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < 2 * kWindow; i += kWindowThreads) table[i] = 0;
  __syncthreads();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (first < total) atomicMax(&top, signed_bin(x[first]).bin);
  __syncthreads();
  const int32_t begin = lathe::device::window_begin(top);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = first; i < total; i += kAhead * stride) {
    T values[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (i + k * stride < total) values[k] = x[i + k * stride];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      if (i + k * stride >= total) break;
      const SignedBin at = signed_bin(values[k]);
      const int32_t place = at.bin - begin;
      if (place >= 0 && place < kWindow) {
        atomicAdd(table + at.sign * kWindow + place, 1u);
      } else {
        count_global(at, counts);
      }
    }
  }
  __syncthreads();
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < 2 * kWindow; i += kWindowThreads) {
    if (table[i] == 0) continue;
    const int32_t sign = i / kWindow;
    atomicAdd(counts + sign * kBins + begin + i % kWindow, static_cast<unsigned long long>(table[i]));
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

struct Extent {
  float low, high;
};

__device__ Extent extended(Extent extent, float low, float high) {
  return {low < extent.low ? low : extent.low, high > extent.high ? high : extent.high};
}

__device__ Extent extent_of_warp(Extent extent) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const float low = __shfl_down_sync(kAllLanes, extent.low, offset);
    const float high = __shfl_down_sync(kAllLanes, extent.high, offset);
    extent = extended(extent, low, high);
  }
  return extent;
}

/// A block a row.
template <class T>
__global__ void extent_of_rows(MatrixLayout layout, const T* x, float* low_out, float* high_out) {
  __shared__ Extent of_warps[kThreads / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int64_t row = blockIdx.x; row < layout.rows; row += gridDim.x) {
    const T* const values = x + row * layout.width;
    const float start = lathe::device::load_float(values[0]);
    Extent extent{start, start};
    for (int64_t i = threadIdx.x; i < layout.width; i += kThreads) {
      const float value = lathe::device::load_float(values[i]);
      extent = extended(extent, value, value);
    }
    extent = extent_of_warp(extent);
    if (lane == 0) of_warps[warp] = extent;
    __syncthreads();
    if (warp == 0) {
      extent = extent_of_warp(of_warps[lane < kThreads / kWarp ? lane : 0]);
      if (lane == 0) {
        low_out[row] = extent.low + 0.0f;
        high_out[row] = extent.high + 0.0f;
      }
    }
    __syncthreads();  // before the next row's extents take the place
  }
}

int blocks_for(int64_t threads) {
  const int64_t wanted = (threads + kThreads - 1) / kThreads;
  return static_cast<int>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
}

/// As many blocks as the device runs at once; 0 where it has too little shared memory for a window (before
/// compute capability 8).
template <class Kernel>
int blocks_of_windows(int device, Kernel kernel) {
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kWindowBytes) !=
      cudaSuccess) {
    cudaGetLastError();  // it is no failure of the launch to come
    return 0;
  }
  int blocks = 0, multiprocessors = 0;
  if (cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kWindowThreads, kWindowBytes) !=
          cudaSuccess ||
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
    return 0;
  return blocks * multiprocessors;
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
  auto* const table = reinterpret_cast<unsigned long long*>(counts);
  return on_queue(queue, layout, x, [&](const auto* values, cudaStream_t stream) {
    const auto kernel = count_values_in_window<std::decay_t<decltype(*values)>>;
    const int blocks = total < kWindowWorthwhile ? 0 : blocks_of_windows(queue.device, kernel);
    if (blocks > 0) {
      kernel<<<blocks, kWindowThreads, kWindowBytes, stream>>>(total, values, table);
    } else {
      count_values<<<blocks_for(total), kThreads, 0, stream>>>(total, values, table);
    }
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
    extent_of_rows<<<blocks_for(layout.rows * kThreads), kThreads, 0, stream>>>(layout, values, low, high);
  });
}
}
