// The half-quadratic iteration on CUDA: half a warp a group, lane l with the values l, l + 16, ... All lanes
// of a group hold the same sums and take the same decisions, so only the other half of the warp may be
// elsewhere. Arithmetic and the order of sums are device/hqq.cuh's; compiled with --fmad=false.
#include "lib/kernels/cuda/hqq_cuda.h"

#include <cuda_runtime.h>

namespace {

using lathe::device::HqqSettings;
using lathe::device::HqqSums;
using lathe::device::kHqqLanes;
using lathe::device::ScaleZero;
using lathe::kernels::GroupLayout;
using lathe::kernels::HqqArrays;

constexpr int kWarp = 32;
constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;

struct Measure {
  const float* w;
  int64_t length;
  const HqqSettings* settings;
  int lane;
  unsigned mask;

  /// The tree of the CPU's lanes: lane l adds what lane l + offset has; lane 0's sum is everyone's.
  __device__ float sum(float value) const {
    for (int offset = kHqqLanes / 2; offset > 0; offset /= 2)
      value += __shfl_down_sync(mask, value, offset, kHqqLanes);
    return __shfl_sync(mask, value, 0, kHqqLanes);
  }

  __device__ float largest(float value) const {
    for (int offset = kHqqLanes / 2; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(mask, value, offset, kHqqLanes);
      value = other > value ? other : value;
    }
    return value;
  }

  __device__ HqqSums operator()(ScaleZero grid, int t) const {
    const float inverse = 1.0f / grid.scale;
    HqqSums own;
    for (int64_t i = lane; i < length; i += kHqqLanes) {
      const float x = w[i] * inverse;
      const float code = lathe::device::hqq_code(w[i], inverse, grid.zero, *settings);
      const float centred = code - grid.zero, d = x - centred, a = fabsf(d);
      own.error += lathe::device::hqq_error_term(d, *settings);
      own.e += d;
      own.largest_error = a > own.largest_error ? a : own.largest_error;
      own.ce += centred * d;
      own.c += centred;
      own.cc += centred * centred;
    }
    HqqSums sums;
    sums.error = sum(own.error);
    sums.e = sum(own.e);
    if (settings->optimise_scale) {
      sums.ce = sum(own.ce);
      sums.c = sum(own.c);
      sums.cc = sum(own.cc);
    }
    sums.largest_error = largest(own.largest_error);
    if (sums.largest_error * grid.scale <= settings->threshold[t]) return sums;
    float all_shrunk = 0, c_shrunk = 0;
    for (int64_t i = lane; i < length; i += kHqqLanes) {
      const float x = w[i] * inverse;
      const float code = lathe::device::hqq_code(w[i], inverse, grid.zero, *settings);
      const float centred = code - grid.zero;
      const float shrunk = lathe::device::hqq_shrink((x - centred) * grid.scale, settings->exponent,
                                                     settings->inverse_beta[t], settings->threshold[t]) *
                           inverse;
      all_shrunk += shrunk;
      c_shrunk += centred * shrunk;
    }
    sums.e -= sum(all_shrunk);
    sums.ce -= sum(c_shrunk);
    return sums;
  }
};

__global__ void solve(GroupLayout layout, const __grid_constant__ HqqSettings settings, HqqArrays arrays) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x / kHqqLanes;
  const int lane = static_cast<int>(threadIdx.x % kHqqLanes);
  const unsigned mask = 0xffffu << (threadIdx.x % kWarp / kHqqLanes * kHqqLanes);
  for (int64_t group = thread / kHqqLanes; group < layout.groups; group += stride) {
    const float* w = arrays.weight + group * layout.length;
    const ScaleZero grid =
        lathe::device::hqq_solve(arrays.lo[group], arrays.hi[group], static_cast<float>(layout.length),
                                 settings, Measure{w, layout.length, &settings, lane, mask});
    if (lane == 0) {
      arrays.scales[group] = grid.scale;
      arrays.zeros[group] = grid.zero;
    }
    const float inverse = 1.0f / grid.scale;
    int8_t* codes = arrays.codes + group * layout.length;
    for (int64_t i = lane; i < layout.length; i += kHqqLanes) {
      const float code = lathe::device::hqq_code(w[i], inverse, grid.zero, settings);
      codes[i] = static_cast<int8_t>(static_cast<int32_t>(code));
    }
  }
}

}  // namespace

extern "C" int lathe_cuda_hqq(LatheCudaQueue queue, GroupLayout layout, const HqqSettings& settings,
                              HqqArrays arrays) {
  if (layout.groups == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const int64_t wanted = (layout.groups * kHqqLanes + kThreads - 1) / kThreads;
  const int blocks = static_cast<int>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
  solve<<<blocks, kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(layout, settings, arrays);
  return cudaGetLastError();
}
