// The half-quadratic iteration on the CPU: threads over groups, vectorised lanes within one. The results are
// the same with every instruction set and thread count (device/hqq.cuh). Compiled as group_quant_cpu.cc is.
#include <ATen/Parallel.h>

#include <algorithm>

#include "lib/kernels/hqq_rows.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::cpu {
namespace {

using device::HqqSettings;
using device::HqqSums;
using device::kHqqLanes;
using device::ScaleZero;

constexpr int64_t kGrainElements = 1 << 13;

struct Lanes {
  float value[kHqqLanes] = {};
  LATHE_HOST_DEVICE float sum() const {
    float part[kHqqLanes];
    for (int lane = 0; lane < kHqqLanes; ++lane) part[lane] = value[lane];
    for (int offset = kHqqLanes / 2; offset > 0; offset /= 2) {
      for (int lane = 0; lane < offset; ++lane) part[lane] += part[lane + offset];
    }
    return part[0];
  }
};

struct Measure {
  const float* w;
  int64_t length;
  const HqqSettings& settings;

  /// One value of each lane from `first` on, `count` of them.
  LATHE_HOST_DEVICE void add(int64_t first, int count, float inverse, float zero, Lanes& error, Lanes& e,
                             Lanes& ce, Lanes& c, Lanes& cc, Lanes& largest) const {
    for (int lane = 0; lane < count; ++lane) {
      const float x = w[first + lane] * inverse;
      const float code = device::hqq_code(w[first + lane], inverse, zero, settings);
      const float centred = code - zero, d = x - centred, a = fabsf(d);
      error.value[lane] += device::hqq_error_term(d, settings);
      e.value[lane] += d;
      largest.value[lane] = a > largest.value[lane] ? a : largest.value[lane];
      if (settings.optimise_scale) {
        ce.value[lane] += centred * d;
        c.value[lane] += centred;
        cc.value[lane] += centred * centred;
      }
    }
  }

  /// Takes the shrunk part of the errors away again.
  LATHE_HOST_DEVICE void subtract_shrunk(int64_t first, int count, ScaleZero grid, float inverse, int t,
                                         Lanes& e, Lanes& ce) const {
    for (int lane = 0; lane < count; ++lane) {
      const float x = w[first + lane] * inverse;
      const float code = device::hqq_code(w[first + lane], inverse, grid.zero, settings);
      const float centred = code - grid.zero;
      const float shrunk = device::hqq_shrink((x - centred) * grid.scale, settings.exponent,
                                              settings.inverse_beta[t], settings.threshold[t]) *
                           inverse;
      e.value[lane] += shrunk;
      ce.value[lane] += centred * shrunk;
    }
  }

  LATHE_HOST_DEVICE HqqSums operator()(ScaleZero grid, int t) const {
    Lanes error, e, ce, c, cc, largest;
    const float inverse = 1.0f / grid.scale;
    int64_t i = 0;
    for (; i + kHqqLanes <= length; i += kHqqLanes)
      add(i, kHqqLanes, inverse, grid.zero, error, e, ce, c, cc, largest);
    add(i, static_cast<int>(length - i), inverse, grid.zero, error, e, ce, c, cc, largest);
    HqqSums sums{error.sum(), e.sum(), ce.sum(), c.sum(), cc.sum(), 0};
    for (int lane = 0; lane < kHqqLanes; ++lane)
      sums.largest_error =
          largest.value[lane] > sums.largest_error ? largest.value[lane] : sums.largest_error;
    if (sums.largest_error * grid.scale <= settings.threshold[t])
      return sums;  // nothing is shrunk to more than 0
    Lanes shrunk, c_shrunk;
    for (i = 0; i + kHqqLanes <= length; i += kHqqLanes)
      subtract_shrunk(i, kHqqLanes, grid, inverse, t, shrunk, c_shrunk);
    subtract_shrunk(i, static_cast<int>(length - i), grid, inverse, t, shrunk, c_shrunk);
    sums.e -= shrunk.sum();
    sums.ce -= c_shrunk.sum();
    return sums;
  }
};

LATHE_CLONES void solve_group(int64_t group, int64_t length, const HqqSettings& settings,
                              const HqqArrays& arrays) {
  const float* w = arrays.weight + group * length;
  const ScaleZero grid = device::hqq_solve(arrays.lo[group], arrays.hi[group], static_cast<float>(length),
                                           settings, Measure{w, length, settings});
  arrays.scales[group] = grid.scale;
  arrays.zeros[group] = grid.zero;
  const float inverse = 1.0f / grid.scale;
  int8_t* codes = arrays.codes + group * length;
  for (int64_t i = 0; i < length; ++i) {
    codes[i] =
        static_cast<int8_t>(static_cast<int32_t>(device::hqq_code(w[i], inverse, grid.zero, settings)));
  }
}

}  // namespace

void hqq(GroupLayout layout, const device::HqqSettings& settings, HqqArrays arrays) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, layout.length));
  at::parallel_for(0, layout.groups, grain, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) solve_group(group, layout.length, settings, arrays);
  });
}

}  // namespace lathe::kernels::cpu
