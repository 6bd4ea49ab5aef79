// Group quantisation on CUDA. Values are mapped four a thread (map_groups.cuh), ranges found by as many lanes
// of a warp as a group has fours. The arithmetic is device/group_quant.cuh; compiled with --fmad=false so
// that results equal the CPU's bit for bit. cudart is linked statically, so this library keeps its own idea
// of the current device: every entry sets it.
#include "lib/kernels/cuda/group_quant_cuda.h"

#include <cuda_runtime.h>

#include "lib/kernels/cuda/map_groups.cuh"

namespace {

using lathe::device::Four;
using lathe::device::Grid;
using lathe::device::GroupScales;
using lathe::device::kMapThreads;
using lathe::device::kWarp;
using lathe::device::map_blocks;
using lathe::device::map_values;
using lathe::device::NativeFormat;
using lathe::device::ScaleZero;
using lathe::kernels::GroupLayout;

constexpr unsigned kAllLanes = 0xffffffffu;

/// The extent of one group; `spoiled` is NaN where it holds a NaN or an infinity.
struct Extent {
  float lo, hi, spoiled;
  __device__ void add(float x) {
    lo = x < lo ? x : lo;
    hi = x > hi ? x : hi;
    spoiled += x * 0.0f;
  }
  __device__ void add(const Four<float>& four) {
#pragma unroll
    for (int i = 0; i < 4; ++i) add(four.values[i]);
  }
  __device__ void add(const Extent& other) {
    lo = other.lo < lo ? other.lo : lo;
    hi = other.hi > hi ? other.hi : hi;
    spoiled += other.spoiled;
  }
};

/// T: float, or Four<float> where they lie so, of which layout.length are a group. `lanes` neighbours of a
/// warp, a power of two, share a group.
template <class T>
__global__ void min_max(GroupLayout layout, int lanes, const T* __restrict__ weight, float* lo_out,
                        float* hi_out) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / lanes;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x / lanes;
  // All lanes of a warp go round as often, for they all shuffle.
  for (int64_t start = first - first % (kWarp / lanes); start < layout.groups; start += stride) {
    const int64_t group = start + first % (kWarp / lanes);
    const bool here = group < layout.groups;
    const T* const values = weight + (here ? group : start) * layout.length;
    const float initial = *reinterpret_cast<const float*>(values);
    Extent extent{initial, initial, 0};
    for (int64_t i = lane; i < layout.length; i += lanes) extent.add(values[i]);
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      extent.add(Extent{__shfl_down_sync(kAllLanes, extent.lo, offset, lanes),
                        __shfl_down_sync(kAllLanes, extent.hi, offset, lanes),
                        __shfl_down_sync(kAllLanes, extent.spoiled, offset, lanes)});
    }
    if (lane != 0 || !here) continue;
    lo_out[group] = extent.lo + extent.spoiled;
    hi_out[group] = extent.hi + extent.spoiled;
  }
}

template <class T>
int launch_min_max(LatheCudaQueue queue, GroupLayout layout, const T* weight, float* lo, float* hi) {
  if (layout.groups == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  int lanes = 1;
  while (lanes < kWarp && 2 * lanes <= layout.length) lanes *= 2;
  min_max<<<map_blocks(layout.groups * lanes), kMapThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(
      layout, lanes, weight, lo, hi);
  return cudaGetLastError();
}

__global__ void choose_params(int64_t groups, Grid grid, const float* lo, const float* hi, float* scales,
                              int8_t* zeros) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t group = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; group < groups;
       group += step) {
    const ScaleZero chosen = lathe::device::choose_scale_zero(lo[group], hi[group], grid);
    scales[group] = chosen.scale;
    if (zeros != nullptr) zeros[group] = static_cast<int8_t>(static_cast<int32_t>(chosen.zero));
  }
}

struct EncodeIntegers {
  Grid grid;
  __device__ int8_t operator()(float weight, ScaleZero group) const {
    return static_cast<int8_t>(
        static_cast<int32_t>(lathe::device::encode_value(weight, group, grid.qmin, grid.qmax)));
  }
};

template <NativeFormat format>
struct EncodeNumbers {
  Grid grid;
  __device__ int8_t operator()(float weight, ScaleZero group) const {
    return static_cast<int8_t>(lathe::device::encode_fp8<format>(weight, group.scale, grid.number));
  }
};

struct FakeQuantizeIntegers {
  Grid grid;
  __device__ float operator()(float weight, ScaleZero group) const {
    return lathe::device::decode_value(lathe::device::encode_value(weight, group, grid.qmin, grid.qmax),
                                       group);
  }
};

template <NativeFormat format>
struct RoundNumbers {
  Grid grid;
  __device__ float operator()(float weight, ScaleZero group) const {
    return lathe::device::round_to_fp8<format>(weight, group.scale, grid.number);
  }
};

}  // namespace

extern "C" {

int lathe_cuda_group_min_max(LatheCudaQueue queue, GroupLayout layout, const float* weight, float* lo,
                             float* hi) {
  if (lathe::device::lies_in_fours(layout, weight)) {
    layout.length /= 4;
    return launch_min_max(queue, layout, reinterpret_cast<const Four<float>*>(weight), lo, hi);
  }
  return launch_min_max(queue, layout, weight, lo, hi);
}

int lathe_cuda_group_params(LatheCudaQueue queue, GroupLayout layout, Grid grid, const float* lo,
                            const float* hi, float* scales, int8_t* zeros) {
  if (layout.groups == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  choose_params<<<map_blocks(layout.groups), kMapThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(
      layout.groups, grid, lo, hi, scales, zeros);
  return cudaGetLastError();
}

int lathe_cuda_group_encode(LatheCudaQueue queue, GroupLayout layout, Grid grid, const float* weight,
                            const float* scales, const int8_t* zeros, int8_t* codes) {
  const GroupScales groups{scales, zeros};
  if (!grid.floats()) return map_values(queue, layout, weight, codes, groups, EncodeIntegers{grid});
  return lathe::device::with_native_format(grid.number, [&](auto format) {
    return map_values(queue, layout, weight, codes, groups, EncodeNumbers<format()>{grid});
  });
}

int lathe_cuda_group_fake_quantize(LatheCudaQueue queue, GroupLayout layout, Grid grid, const float* weight,
                                   const float* scales, const int8_t* zeros, float* result) {
  const GroupScales groups{scales, zeros};
  if (!grid.floats()) return map_values(queue, layout, weight, result, groups, FakeQuantizeIntegers{grid});
  return lathe::device::with_native_format(grid.number, [&](auto format) {
    return map_values(queue, layout, weight, result, groups, RoundNumbers<format()>{grid});
  });
}

const char* lathe_cuda_error_text(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
}
