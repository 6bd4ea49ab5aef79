// Group quantisation on CUDA. Values are mapped four a thread (map_groups.cuh), ranges found by as many lanes
// of a warp as a group has fours, by a warp where it has more. The arithmetic is device/group_quant.cuh;
// compiled with --fmad=false so that results equal the CPU's bit for bit. cudart is linked statically, so
// this library keeps its own idea of the current device: every entry sets it.
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

/// The extent of some values; `spoiled` is NaN where they hold a NaN or an infinity, else +0.
struct Extent {
  float lo, hi, spoiled;
  // fminf and fmaxf forget a NaN, which `spoiled` remembers.
  __device__ void add(float x) {
    lo = fminf(lo, x);
    hi = fmaxf(hi, x);
    spoiled = fmaf(x, 0.0f, spoiled);
  }
  __device__ void add(const Four<float>& four) {
#pragma unroll
    for (int i = 0; i < 4; ++i) add(four.values[i]);
  }
};

__device__ Extent extent_from(float x) { return {x, x, x * 0.0f + 0.0f}; }
__device__ Extent extent_from(const Four<float>& four) {
  Extent extent = extent_from(four.values[0]);
#pragma unroll
  for (int i = 1; i < 4; ++i) extent.add(four.values[i]);
  return extent;
}

/// The whole group's, in the first of its `lanes` neighbours of a warp; all lanes of the warp are here. What
/// is spoiled costs one vote instead of as many shuffles as an end.
template <int lanes>
__device__ Extent fold_lanes(Extent extent) {
  const unsigned spoiled = __ballot_sync(kAllLanes, extent.spoiled != 0);
#pragma unroll
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    extent.lo = fminf(extent.lo, __shfl_down_sync(kAllLanes, extent.lo, offset, lanes));
    extent.hi = fmaxf(extent.hi, __shfl_down_sync(kAllLanes, extent.hi, offset, lanes));
  }
  const unsigned own = (kAllLanes >> (kWarp - lanes)) << (threadIdx.x % kWarp / lanes * lanes);
  extent.spoiled = (spoiled & own) != 0 ? NAN : 0.0f;
  return extent;
}

__device__ void write_ends(const Extent& extent, int64_t group, float* lo_out, float* hi_out) {
  lo_out[group] = extent.lo + extent.spoiled;  // -0 + +0 is +0
  hi_out[group] = extent.hi + extent.spoiled;
}

/// Values of a group that one thread reads before it folds: as many groups at once, so that their loads don't
/// wait for one another.
constexpr int kGroupsAhead = 4;

/// T: float, or Four<float> where they lie so, of which layout.length are a group: as many as lanes share it.
template <int lanes, class T>
__global__ void min_max_short(GroupLayout layout, const T* __restrict__ weight, float* lo_out,
                              float* hi_out) {
  constexpr int kGroups = kMapThreads / lanes;  // of a block, each time
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kGroupsAhead * kGroups + threadIdx.x / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  T values[kGroupsAhead];
#pragma unroll
  for (int k = 0; k < kGroupsAhead; ++k) {
    const int64_t group = first + k * kGroups;
    values[k] = weight[(group < layout.groups ? group : layout.groups - 1) * lanes + lane];
  }
#pragma unroll
  for (int k = 0; k < kGroupsAhead; ++k) {
    const Extent extent = fold_lanes<lanes>(extent_from(values[k]));
    const int64_t group = first + k * kGroups;
    if (lane == 0 && group < layout.groups) write_ends(extent, group, lo_out, hi_out);
  }
}

/// Groups of any length, a warp each.
template <class T>
__global__ void min_max(GroupLayout layout, const T* __restrict__ weight, float* lo_out, float* hi_out) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x / kWarp;
  for (int64_t group = first; group < layout.groups; group += stride) {
    const T* const values = weight + group * layout.length;
    Extent extent = extent_from(values[lane < layout.length ? lane : 0]);
    for (int64_t i = lane + kWarp; i < layout.length; i += kWarp) extent.add(values[i]);
    extent = fold_lanes<kWarp>(extent);
    if (lane == 0) write_ends(extent, group, lo_out, hi_out);
  }
}

template <int lanes, class T>
void launch_short(cudaStream_t stream, GroupLayout layout, const T* weight, float* lo, float* hi) {
  constexpr int64_t kGroups = int64_t{kMapThreads} / lanes * kGroupsAhead;
  const auto blocks = static_cast<unsigned>((layout.groups + kGroups - 1) / kGroups);
  min_max_short<lanes><<<blocks, kMapThreads, 0, stream>>>(layout, weight, lo, hi);
}

template <class T>
int launch_min_max(LatheCudaQueue queue, GroupLayout layout, const T* weight, float* lo, float* hi) {
  if (layout.groups == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  if (layout.length == 4) {
    launch_short<4>(stream, layout, weight, lo, hi);
  } else if (layout.length == 8) {
    launch_short<8>(stream, layout, weight, lo, hi);
  } else if (layout.length == 16) {
    launch_short<16>(stream, layout, weight, lo, hi);
  } else if (layout.length == kWarp) {
    launch_short<kWarp>(stream, layout, weight, lo, hi);
  } else {
    min_max<<<map_blocks(layout.groups * kWarp), kMapThreads, 0, stream>>>(layout, weight, lo, hi);
  }
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
  const GroupScales groups{scales, zeros, false, grid.global};
  if (!grid.floats()) return map_values(queue, layout, weight, codes, groups, EncodeIntegers{grid});
  return lathe::device::with_native_format(grid.number, [&](auto format) {
    return map_values(queue, layout, weight, codes, groups, EncodeNumbers<format()>{grid});
  });
}

int lathe_cuda_group_fake_quantize(LatheCudaQueue queue, GroupLayout layout, Grid grid, const float* weight,
                                   const float* scales, const int8_t* zeros, float* result) {
  const GroupScales groups{scales, zeros, false, grid.global};
  if (!grid.floats()) return map_values(queue, layout, weight, result, groups, FakeQuantizeIntegers{grid});
  return lathe::device::with_native_format(grid.number, [&](auto format) {
    return map_values(queue, layout, weight, result, groups, RoundNumbers<format()>{grid});
  });
}

const char* lathe_cuda_error_text(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
}
