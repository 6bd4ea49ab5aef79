// The search for groups' ranges on the CPU: threads over groups; a group stays in the first-level cache while
// all its candidates are tried. Compiled like group_quant_cpu.cc.
#include <ATen/Parallel.h>

#include <algorithm>

#include "lib/kernels/group_search_rows.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::cpu {
namespace {

using device::kSearchLanes;
using device::ScaleZero;

constexpr int64_t kGrainElements = 1 << 12;

/// The sum over a group of weighted squared errors; importance null: 1.
template <bool weighted>
inline __attribute__((always_inline)) float error_sum(const float* weight, const float* importance,
                                                      int64_t length, ScaleZero group, float qmin,
                                                      float qmax) {
  float sum[kSearchLanes] = {};
  int64_t i = 0;
  for (; i + kSearchLanes <= length; i += kSearchLanes) {
    for (int lane = 0; lane < kSearchLanes; ++lane) {
      const float share = weighted ? importance[i + lane] : 1.0f;
      sum[lane] += device::weighted_error(weight[i + lane], share, group, qmin, qmax);
    }
  }
  for (int lane = 0; i < length; ++i, ++lane) {
    sum[lane] += device::weighted_error(weight[i], weighted ? importance[i] : 1.0f, group, qmin, qmax);
  }
  for (int half = kSearchLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
  }
  return sum[0];
}

LATHE_CLONES float group_error(const float* weight, const float* importance, int64_t length, ScaleZero group,
                               float qmin, float qmax) {
  return importance == nullptr ? error_sum<false>(weight, importance, length, group, qmin, qmax)
                               : error_sum<true>(weight, importance, length, group, qmin, qmax);
}

void search_group(const GroupSearch& search, int64_t index) {
  const int64_t length = search.layout.length;
  const float* const weight = search.weight + index * length;
  const float* const importance =
      search.importance == nullptr ? nullptr : search.importance + index % search.groups_per_row * length;
  const float lo = search.lo[index], hi = search.hi[index];
  float best = 0, best_factor = 1;
  for (int64_t step = 0; step <= search.steps; ++step) {
    const float factor = device::shrink_factor(step, search.steps, search.max_shrink);
    const ScaleZero group = device::choose_scale_zero(lo * factor, hi * factor, search.grid);
    const float error = group_error(weight, importance, length, group, search.grid.qmin, search.grid.qmax);
    if (step > 0 && !(error < best)) continue;
    best = error;
    best_factor = factor;
  }
  search.lo[index] = lo * best_factor;
  search.hi[index] = hi * best_factor;
}

}  // namespace

void search_ranges(const GroupSearch& search) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, search.layout.length));
  at::parallel_for(0, search.layout.groups, grain, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) search_group(search, index);
  });
}

}  // namespace lathe::kernels::cpu
