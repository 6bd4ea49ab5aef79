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

/// The same value in all lanes. On a floating-point grid the scale is that of the weights, global one
/// included.
__device__ float group_error(const GroupSearch& search, const float* weight, const float* importance,
                             ScaleZero group, int lane) {
  float sum = 0;
  for (int64_t i = lane; i < search.layout.length; i += kWarp) {
    const float share = importance == nullptr ? 1.0f : importance[i];
    sum += search.grid.floats()
               ? lathe::device::weighted_error(weight[i], share, group.scale, search.grid.number)
               : lathe::device::weighted_error(weight[i], share, group, search.grid.qmin, search.grid.qmax);
  }
  for (int half = kWarp / 2; half > 0; half /= 2) sum += __shfl_down_sync(kAllLanes, sum, half);
  return __shfl_sync(kAllLanes, sum, 0);
}

/// The best of the codes around the one that spans the group, and the magnitude that gets it.
__device__ float best_magnitude(const GroupSearch& search, const float* weight, const float* importance,
                                float lo, float hi, int lane) {
  const lathe::device::Grid& grid = search.grid;
  const float spanning = lathe::device::choose_scale_zero(lo, hi, grid).scale;
  const float global = grid.global == nullptr ? 1.0f : *grid.global;
  const int up = lathe::device::code_steps_up(grid.scale_type);
  const int down = lathe::device::code_steps_down(grid.scale_type, search.max_shrink);
  float best_scale = spanning;
  float best = group_error(search, weight, importance, {spanning * global, 0}, lane);
  for (int step = up; step >= -down; --step) {
    const float scale = lathe::device::stepped_scale(spanning, step, grid.scale_type);
    const float error = group_error(search, weight, importance, {scale * global, 0}, lane);
    if (!(error < best)) continue;
    best = error;
    best_scale = scale;
  }
  return lathe::device::magnitude_of_scale(best_scale, grid);
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
    if (search.codes()) {
      const float magnitude = best_magnitude(search, weight, importance, lo, hi, lane);
      __syncwarp();
      if (lane != 0) continue;
      search.lo[index] = lo == lo ? -magnitude : lo;
      search.hi[index] = hi == hi ? magnitude : hi;
      continue;
    }
    const auto error = [&](float factor) {
      const ScaleZero group = lathe::device::choose_scale_zero(lo * factor, hi * factor, search.grid);
      return group_error(search, weight, importance, group, lane);
    };
    const double widest = lathe::device::widest_factor(search.grid);
    float best = error(1), best_factor = 1;
    for (int64_t step = -lathe::device::steps_up(widest, search.steps, search.max_shrink);
         step <= search.steps; ++step) {
      const float factor = lathe::device::range_factor(step, search.steps, search.max_shrink, widest);
      const float found = error(factor);
      if (!(found < best)) continue;
      best = found;
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
