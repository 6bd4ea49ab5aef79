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
constexpr int kVectorsAhead = 2;  // that a thread loads before it counts them
constexpr int kVectorsOfRow = 8;  // likewise, of a row whose extent is looked for
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
__global__ void count_values(MatrixLayout layout, const T* x, unsigned long long* counts) {
  const int64_t total = layout.rows * layout.width;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += stride)
    count_global(signed_bin(x[i]), counts);
}

/// Where the table holds a bin's count. Banks of shared memory go by the lowest five bits, of which BF16's
/// mantissa, seven of the ten bits, leaves three zero: those take the bits above. Its own inverse.
__device__ int32_t place_in_table(int32_t bin) { return bin ^ ((bin >> 5) & 7); }

template <class T>
__global__ void count_values_in_window(MatrixLayout layout, const T* __restrict__ x,
                                       unsigned long long* counts) {
  const int64_t total = layout.rows * layout.width;
  extern __shared__ uint32_t table[];  // [2, kWindow]
  __shared__ int32_t top;
  if (threadIdx.x == 0) top = 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < 2 * kWindow; i += kWindowThreads) table[i] = 0;
  __syncthreads();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  if (first < total) atomicMax(&top, signed_bin(x[first]).bin);
  __syncthreads();
  const int32_t begin = lathe::device::window_begin(top);
  lathe::device::each_value<kVectorsAhead>(x, total, first, stride, [&](T value) {
    const SignedBin at = signed_bin(value);
    const int32_t bin = at.bin - begin;
    if (bin >= 0 && bin < kWindow) {
      atomicAdd(table + at.sign * kWindow + place_in_table(bin), 1u);
    } else {
      count_global(at, counts);
    }
  });
  __syncthreads();
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < 2 * kWindow; i += kWindowThreads) {
    if (table[i] == 0) continue;
    const int32_t sign = i / kWindow, bin = place_in_table(i % kWindow);
    atomicAdd(counts + sign * kBins + begin + bin, static_cast<unsigned long long>(table[i]));
  }
}

template <class T>
__global__ void count_channel_values(MatrixLayout layout, const T* x, int32_t* counts) {
  const int64_t total = layout.rows * layout.width;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += stride) {
    const uint32_t bits = lathe::device::magnitude_bits(lathe::device::load_float(x[i]));
    atomicAdd(
        counts + (i % layout.width) * kPerChannel + lathe::device::bin_of(bits, lathe::device::kChannelBins),
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

/// The extent of what a thread has seen of a row.
template <class T, bool half = sizeof(T) == 2>
class ThreadExtent {
 public:
  __device__ explicit ThreadExtent(float start) : extent_{start, start} {}
  __device__ void add(float value) { extent_ = extended(extent_, value, value); }
  __device__ void add(const lathe::device::Vector<float>& vector) {
#pragma unroll
    for (int i = 0; i < lathe::device::Vector<float>::kCount; ++i) add(vector.value(i));
  }
  __device__ Extent get() const { return extent_; }

 private:
  Extent extent_;
};

/// Halves are compared two at a time, as they are. (What becomes of a NaN is no matter: channel moments find
/// it, and it is refused.)
template <class Half>
class ThreadExtent<Half, true> {
 public:
  __device__ explicit ThreadExtent(Half start) : low_{start, start}, high_{start, start} {}
  __device__ void add(Half value) { add(lathe::device::PairOf<Half>{value, value}); }
  __device__ void add(const lathe::device::Vector<Half>& vector) {
#pragma unroll
    for (int i = 0; i < lathe::device::Vector<Half>::kCount / 2; ++i) add(vector.pair(i));
  }
  __device__ Extent get() const {
    using lathe::device::load_float;
    return {fminf(load_float(low_.x), load_float(low_.y)), fmaxf(load_float(high_.x), load_float(high_.y))};
  }

 private:
  using Pair = lathe::device::PairOf<Half>;
  __device__ void add(Pair pair) {
    low_ = __hmin2(low_, pair);
    high_ = __hmax2(high_, pair);
  }

  Pair low_, high_;
};

template <class T>
__device__ Extent extent_of_row(const T* __restrict__ x, int64_t width, int lane) {
  ThreadExtent<T> extent(x[0]);
  const auto add = [&](const auto& loaded) { extent.add(loaded); };
  lathe::device::each_vector<kVectorsOfRow>(x, width, lane, kWarp, add, add);
  return extent.get();
}

/// A warp a row.
template <class T>
__global__ void extent_of_rows(MatrixLayout layout, const T* x, float* low_out, float* high_out) {
  const int lane = threadIdx.x % kWarp;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x / kWarp;
  for (int64_t row = first; row < layout.rows; row += stride) {
    const Extent extent = extent_of_warp(extent_of_row(x + row * layout.width, layout.width, lane));
    if (lane != 0) continue;
    low_out[row] = extent.low + 0.0f;
    high_out[row] = extent.high + 0.0f;
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
      kernel<<<blocks, kWindowThreads, kWindowBytes, stream>>>(layout, values, table);
    } else {
      count_values<<<blocks_for(total), kThreads, 0, stream>>>(layout, values, table);
    }
  });
}

int lathe_cuda_channel_value_counts(LatheCudaQueue queue, MatrixLayout layout, const void* x,
                                    int32_t* counts) {
  const int64_t total = layout.rows * layout.width;
  return on_queue(queue, layout, x, [&](const auto* values, cudaStream_t stream) {
    count_channel_values<<<blocks_for(total), kThreads, 0, stream>>>(layout, values, counts);
  });
}

int lathe_cuda_row_extent(LatheCudaQueue queue, MatrixLayout layout, const void* x, float* low, float* high) {
  return on_queue(queue, layout, x, [&](const auto* values, cudaStream_t stream) {
    extent_of_rows<<<blocks_for(layout.rows * kWarp), kThreads, 0, stream>>>(layout, values, low, high);
  });
}
}
