// The search for a group's range, for g++ and nvcc: as group_quant.cuh, single IEEE operations in a fixed
// order. Errors are summed in kSearchLanes lanes, element i in lane i % kSearchLanes, and the lanes pairwise
// by halves: what a warp does by shuffles and a CPU by vectors.
#pragma once

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::device {

constexpr int kSearchLanes = 32;

/// What the range is multiplied by so that the shorter side of a symmetric integer grid reaches its largest
/// magnitude: 7.5 / 7 with codes from -8 to 7, whose full range is 7.5 steps to each side. 1 for other grids.
LATHE_HOST_DEVICE double widest_factor(const Grid& grid) {
  if (grid.floats() || !grid.symmetric) return 1;
  return 0.5 * (static_cast<double>(grid.qmax) - grid.qmin) / grid.qmax;
}

/// Steps above the full range: as far apart as those below it, the last one at widest_factor().
LATHE_HOST_DEVICE int64_t steps_up(double widest, int64_t steps, double max_shrink) {
  if (max_shrink == 0) return 0;
  return static_cast<int64_t>(ceil((widest - 1) * static_cast<double>(steps) / max_shrink));
}

/// Step i's factor of both ends of a range, i = -steps_up() .. steps; 1 at 0.
LATHE_HOST_DEVICE float range_factor(int64_t step, int64_t steps, double max_shrink, double widest = 1) {
  const double factor = 1.0 - max_shrink * static_cast<double>(step) / static_cast<double>(steps);
  return static_cast<float>(factor < widest ? factor : widest);
}

/// One weight's squared rounding error, weighted.
LATHE_HOST_DEVICE float weighted_error(float weight, float importance, ScaleZero group, float qmin,
                                       float qmax) {
  const float delta = decode_value(encode_value(weight, group, qmin, qmax), group) - weight;
  return delta * delta * importance;
}
LATHE_HOST_DEVICE float weighted_error(float weight, float importance, float scale, Minifloat number) {
  const float delta = round_on_grid(weight, scale, number) - weight;
  return delta * delta * importance;
}

/// Scales that are codes: the candidates are the codes around the one that spans the group. Below it, as far
/// as max_shrink reaches; above, an octave: E2M1's 4 in place of 6 for the largest magnitude, for then the
/// numbers around it are closer, MX's exponent rounded up in place of down, and what lies between. Beyond, a
/// grid has no number below the largest magnitude that the one an octave below hasn't.
LATHE_HOST_DEVICE int code_steps_down(ScaleType type, double max_shrink) {
  const double octaves = -log2(1 - max_shrink);
  return static_cast<int>(ceil((type == ScaleType::e8m0 ? 1 : 8) * octaves));
}
LATHE_HOST_DEVICE int code_steps_up(ScaleType type) { return type == ScaleType::e8m0 ? 1 : 8; }

/// The scale `step` codes above `scale`, within the type's positive numbers.
LATHE_HOST_DEVICE float stepped_scale(float scale, int step, ScaleType type) {
  if (type == ScaleType::e8m0) {
    const int32_t field = static_cast<int32_t>(float_bits(scale) >> 23) + step;
    return bits_float(static_cast<uint32_t>(field < 1 ? 1 : (field > 254 ? 254 : field)) << 23);
  }
  const int code = static_cast<int>(number_code(scale, kScaleE4M3)) + step;
  return code_number(static_cast<uint8_t>(code < 1 ? 1 : (code > 126 ? 126 : code)), kScaleE4M3);
}

/// A magnitude whose group would get this scale: choose_float_scale()'s inverse.
LATHE_HOST_DEVICE float magnitude_of_scale(float scale, const Grid& grid) {
  if (grid.scale_type == ScaleType::e4m3) return scale * (grid.number.largest * *grid.global);
  return scale * bits_float(float_bits(grid.number.largest) & 0x7f800000u);
}

}  // namespace lathe::device
