// Group quantisation on CUDA: one warp a group, lanes striding through its values (coalesced for every group
// length). The arithmetic is device/group_quant.cuh; compiled with --fmad=false so that results equal the
// CPU's bit for bit. cudart is linked statically, so this library keeps its own idea of the current device:
// every entry sets it.
#include "lib/kernels/cuda/group_quant_cuda.h"

#include <cuda_runtime.h>

namespace {

using lathe::device::Grid;
using lathe::device::ScaleZero;
using lathe::kernels::GroupLayout;

constexpr int kWarp = 32;
constexpr int kThreads = 256;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int64_t kMaxBlocks = 1 << 20;

/// Runs body(group, lane) for every group, a warp each.
template <class Body>
__global__ void warp_per_group(int64_t groups, Body body) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x / kWarp;
  for (int64_t group = first; group < groups; group += stride)
    body(group, static_cast<int>(threadIdx.x % kWarp));
}

template <class Body>
int launch(LatheCudaQueue queue, int64_t groups, Body body) {
  if (groups == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const int64_t wanted = (groups * kWarp + kThreads - 1) / kThreads;
  const int blocks = static_cast<int>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
  warp_per_group<<<blocks, kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(groups, body);
  return cudaGetLastError();
}

struct MinMax {
  GroupLayout layout;
  const float* weight;
  float* lo_out;
  float* hi_out;
  __device__ void operator()(int64_t group, int lane) const {
    const float* w = weight + group * layout.length;
    float lo = w[0], hi = w[0], spoiled = 0;
    for (int64_t i = lane; i < layout.length; i += kWarp) {
      const float x = w[i];
      lo = x < lo ? x : lo;
      hi = x > hi ? x : hi;
      spoiled += x * 0.0f;  // NaN for a NaN or an infinity
    }
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      const float other_lo = __shfl_down_sync(kAllLanes, lo, offset);
      const float other_hi = __shfl_down_sync(kAllLanes, hi, offset);
      lo = other_lo < lo ? other_lo : lo;
      hi = other_hi > hi ? other_hi : hi;
      spoiled += __shfl_down_sync(kAllLanes, spoiled, offset);
    }
    if (lane != 0) return;
    lo_out[group] = lo + spoiled;
    hi_out[group] = hi + spoiled;
  }
};

__device__ ScaleZero group_params(const float* scales, const int8_t* zeros, int64_t group) {
  ScaleZero params;
  params.scale = scales[group];
  params.zero = zeros == nullptr ? 0.0f : static_cast<float>(zeros[group]);
  return params;
}

struct Params {
  Grid grid;
  const float* lo;
  const float* hi;
  float* scales;
  int8_t* zeros;
  __device__ void operator()(int64_t group, int lane) const {
    if (lane != 0) return;
    const ScaleZero chosen = lathe::device::choose_scale_zero(lo[group], hi[group], grid);
    scales[group] = chosen.scale;
    if (zeros != nullptr) zeros[group] = static_cast<int8_t>(static_cast<int32_t>(chosen.zero));
  }
};

struct Encode {
  GroupLayout layout;
  Grid grid;
  const float* weight;
  const float* scales;
  const int8_t* zeros;
  int8_t* codes;
  __device__ void operator()(int64_t group, int lane) const {
    const ScaleZero params = group_params(scales, zeros, group);
    for (int64_t i = group * layout.length + lane; i < (group + 1) * layout.length; i += kWarp) {
      if (grid.floats()) {
        codes[i] = static_cast<int8_t>(lathe::device::encode_number(weight[i], params.scale, grid.number));
        continue;
      }
      const float code = lathe::device::encode_value(weight[i], params, grid.qmin, grid.qmax);
      codes[i] = static_cast<int8_t>(static_cast<int32_t>(code));
    }
  }
};

struct Decode {
  GroupLayout layout;
  const int8_t* codes;
  const float* scales;
  const int8_t* zeros;
  float* weight;
  __device__ void operator()(int64_t group, int lane) const {
    const ScaleZero params = group_params(scales, zeros, group);
    for (int64_t i = group * layout.length + lane; i < (group + 1) * layout.length; i += kWarp) {
      weight[i] = lathe::device::decode_value(static_cast<float>(codes[i]), params);
    }
  }
};

struct FakeQuantize {
  GroupLayout layout;
  Grid grid;
  const float* weight;
  const float* scales;
  const int8_t* zeros;
  float* result;
  __device__ void operator()(int64_t group, int lane) const {
    const ScaleZero params = group_params(scales, zeros, group);
    for (int64_t i = group * layout.length + lane; i < (group + 1) * layout.length; i += kWarp) {
      if (grid.floats()) {
        result[i] = lathe::device::round_on_grid(weight[i], params.scale, grid.number);
        continue;
      }
      const float code = lathe::device::encode_value(weight[i], params, grid.qmin, grid.qmax);
      result[i] = lathe::device::decode_value(code, params);
    }
  }
};

}  // namespace

extern "C" {

int lathe_cuda_group_min_max(LatheCudaQueue queue, GroupLayout layout, const float* weight, float* lo,
                             float* hi) {
  return launch(queue, layout.groups, MinMax{layout, weight, lo, hi});
}

int lathe_cuda_group_params(LatheCudaQueue queue, GroupLayout layout, Grid grid, const float* lo,
                            const float* hi, float* scales, int8_t* zeros) {
  return launch(queue, layout.groups, Params{grid, lo, hi, scales, zeros});
}

int lathe_cuda_group_encode(LatheCudaQueue queue, GroupLayout layout, Grid grid, const float* weight,
                            const float* scales, const int8_t* zeros, int8_t* codes) {
  return launch(queue, layout.groups, Encode{layout, grid, weight, scales, zeros, codes});
}

int lathe_cuda_group_decode(LatheCudaQueue queue, GroupLayout layout, const int8_t* codes,
                            const float* scales, const int8_t* zeros, float* weight) {
  return launch(queue, layout.groups, Decode{layout, codes, scales, zeros, weight});
}

int lathe_cuda_group_fake_quantize(LatheCudaQueue queue, GroupLayout layout, Grid grid, const float* weight,
                                   const float* scales, const int8_t* zeros, float* result) {
  return launch(queue, layout.groups, FakeQuantize{layout, grid, weight, scales, zeros, result});
}

const char* lathe_cuda_error_text(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
}
