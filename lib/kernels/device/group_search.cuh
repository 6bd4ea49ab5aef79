// The search for a group's range, for g++ and nvcc: as group_quant.cuh, single IEEE operations in a fixed
// order. Errors are summed in kSearchLanes lanes, element i in lane i % kSearchLanes, and the lanes pairwise
// by halves: what a warp does by shuffles and a CPU by vectors.
#pragma once

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::device {

constexpr int kSearchLanes = 32;

/// Step i's factor of both ends of a range, i = 0 .. steps.
LATHE_HOST_DEVICE float shrink_factor(int64_t step, int64_t steps, double max_shrink) {
  return static_cast<float>(1.0 - max_shrink * static_cast<double>(step) / static_cast<double>(steps));
}

/// One weight's squared rounding error, weighted.
LATHE_HOST_DEVICE float weighted_error(float weight, float importance, ScaleZero group, float qmin,
                                       float qmax) {
  const float delta = decode_value(encode_value(weight, group, qmin, qmax), group) - weight;
  return delta * delta * importance;
}

}  // namespace lathe::device
