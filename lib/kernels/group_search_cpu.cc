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

/// The sum over a group of error(weight, share), shares being importances or 1.
template <bool weighted, class Error>
inline __attribute__((always_inline)) float error_sum(const float* weight, const float* importance,
                                                      int64_t length, const Error& error) {
  float sum[kSearchLanes] = {};
  int64_t i = 0;
  for (; i + kSearchLanes <= length; i += kSearchLanes) {
    for (int lane = 0; lane < kSearchLanes; ++lane) {
      const float share = weighted ? importance[i + lane] : 1.0f;
      sum[lane] += error(weight[i + lane], share);
    }
  }
  for (int lane = 0; i < length; ++i, ++lane) sum[lane] += error(weight[i], weighted ? importance[i] : 1.0f);
  for (int half = kSearchLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
  }
  return sum[0];
}

LATHE_CLONES float group_error(const float* weight, const float* importance, int64_t length, ScaleZero group,
                               float qmin, float qmax) {
  const auto error = [=](float w, float share) __attribute__((always_inline)) {
    return device::weighted_error(w, share, group, qmin, qmax);
  };
  return importance == nullptr ? error_sum<false>(weight, importance, length, error)
                               : error_sum<true>(weight, importance, length, error);
}

LATHE_CLONES float number_error(const float* weight, const float* importance, int64_t length, float scale,
                                device::Minifloat number) {
  const auto error = [=](float w, float share) __attribute__((always_inline)) {
    return device::weighted_error(w, share, scale, number);
  };
  return importance == nullptr ? error_sum<false>(weight, importance, length, error)
                               : error_sum<true>(weight, importance, length, error);
}

/// The best of the codes around the one that spans the group, and the magnitude that gets it.
float best_magnitude(const GroupSearch& search, const float* weight, const float* importance, float lo,
                     float hi) {
  const device::Grid& grid = search.grid;
  const float global = grid.global == nullptr ? 1.0f : *grid.global;
  const auto error = [&](float scale) {
    return number_error(weight, importance, search.layout.length, scale * global, grid.number);
  };
  const float spanning = device::choose_scale_zero(lo, hi, grid).scale;
  float best_scale = spanning, best = error(spanning);
  const int down = device::code_steps_down(grid.scale_type, search.max_shrink);
  for (int step = device::code_steps_up(grid.scale_type); step >= -down; --step) {
    const float scale = device::stepped_scale(spanning, step, grid.scale_type);
    const float found = error(scale);
    if (!(found < best)) continue;
    best = found;
    best_scale = scale;
  }
  return device::magnitude_of_scale(best_scale, grid);
}

void search_group(const GroupSearch& search, int64_t index) {
  const int64_t length = search.layout.length;
  const float* const weight = search.weight + index * length;
  const float* const importance =
      search.importance == nullptr ? nullptr : search.importance + index % search.groups_per_row * length;
  const float lo = search.lo[index], hi = search.hi[index];
  if (search.codes()) {
    if (!(lo == lo && hi == hi)) return;  // NaN: the caller's to refuse
    search.hi[index] = best_magnitude(search, weight, importance, lo, hi);
    search.lo[index] = -search.hi[index];
    return;
  }
  const auto error = [&](float factor) {
    const ScaleZero group = device::choose_scale_zero(lo * factor, hi * factor, search.grid);
    return search.grid.floats()
               ? number_error(weight, importance, length, group.scale, search.grid.number)
               : group_error(weight, importance, length, group, search.grid.qmin, search.grid.qmax);
  };
  const double widest = device::widest_factor(search.grid);
  float best = error(1), best_factor = 1;
  for (int64_t step = -device::steps_up(widest, search.steps, search.max_shrink); step <= search.steps;
       ++step) {
    const float factor = device::range_factor(step, search.steps, search.max_shrink, widest);
    const float found = error(factor);
    if (!(found < best)) continue;
    best = found;
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
