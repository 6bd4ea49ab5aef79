// The search for groups' ranges on CUDA: a warp a group, lanes striding through its values once a candidate
// (they stay in the first-level cache), sums by shuffles in the CPU's order.
#include <cuda_runtime.h>

#include "lib/kernels/cuda/group_search_cuda.h"

namespace {

using lathe::device::ScaleZero;
using lathe::kernels::GroupSearch;

constexpr int kWarp = lathe::device::kSearchLanes;
static_assert(kWarp == 32, "a lane of the sum is a lane of the warp");
constexpr int kThreads = 256;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int64_t kMaxBlocks = 1 << 20;

/// The same value in all lanes.
__device__ float group_error(const GroupSearch& search, const float* weight, const float* importance,
                             ScaleZero group, int lane) {
  float sum = 0;
  for (int64_t i = lane; i < search.layout.length; i += kWarp) {
    sum += lathe::device::weighted_error(weight[i], importance == nullptr ? 1.0f : importance[i], group,
                                         search.grid.qmin, search.grid.qmax);
  }
  for (int half = kWarp / 2; half > 0; half /= 2) sum += __shfl_down_sync(kAllLanes, sum, half);
  return __shfl_sync(kAllLanes, sum, 0);
}

__global__ void search_groups(GroupSearch search) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x / kWarp;
  for (int64_t index = first; index < search.layout.groups; index += stride) {
    const float* const weight = search.weight + index * search.layout.length;
    const float* const importance =
        search.importance == nullptr
            ? nullptr
            : search.importance + index % search.groups_per_row * search.layout.length;
    const float lo = search.lo[index], hi = search.hi[index];
    float best = 0, best_factor = 1;
    for (int64_t step = 0; step <= search.steps; ++step) {
      const float factor = lathe::device::shrink_factor(step, search.steps, search.max_shrink);
      const ScaleZero group = lathe::device::choose_scale_zero(lo * factor, hi * factor, search.grid);
      const float error = group_error(search, weight, importance, group, lane);
      if (step > 0 && !(error < best)) continue;
      best = error;
      best_factor = factor;
    }
    __syncwarp();  // all lanes have read the ends
    if (lane != 0) continue;
    search.lo[index] = lo * best_factor;
    search.hi[index] = hi * best_factor;
  }
}

}  // namespace

extern "C" {

int lathe_cuda_search_ranges(LatheCudaQueue queue, const GroupSearch* search) {
  if (search->layout.groups == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const int64_t wanted = (search->layout.groups * kWarp + kThreads - 1) / kThreads;
  const int blocks = static_cast<int>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
  search_groups<<<blocks, kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(*search);
  return cudaGetLastError();
}
}
