// The half-quadratic iteration of one group of weights (algorithms/hqq.cc explains it), for g++ and nvcc. A
// group's values are summed in kHqqLanes lanes, value i in lane i % kHqqLanes, and the lanes are added as a
// tree: so CPU and CUDA get the same bits, as in device/group_quant.cuh.
#pragma once

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::device {

constexpr int kHqqLanes = 16;
constexpr int kHqqMaxIterations = 200;

struct HqqSettings {
  float qmin = -8, qmax = 7;
  ScaleType type = ScaleType::f16;  // in which scale and zero point (less qmin) are stored
  bool real_zero = true;            // else an integer in [qmin + zero_margin, qmax]
  bool optimise_scale = false;
  bool round_start = false;  // real zero points start from an integer
  bool early_stop = true;
  int32_t iterations = 20;
  float exponent = -0.3f;  // p - 1
  float zero_margin = 0;   // as Grid has it
  /// Of iteration t: 1 / beta_t, and the error up to which the shrinkage gives 0, beta_t^(1 / (p - 2)).
  float inverse_beta[kHqqMaxIterations + 1] = {};
  float threshold[kHqqMaxIterations + 1] = {};
};

/// Sums over a group, in units of the scale: x = w / scale, c = q - zero, d = x - c the error, e = d less its
/// shrunk part, which is what a step fits.
struct HqqSums {
  float error = 0;          // sum |d|, or where scales are fitted sum d^2
  float e = 0, ce = 0;      // sum e, sum c e
  float c = 0, cc = 0;      // sum c, sum c c
  float largest_error = 0;  // max |d|
};

/// a^y for normal a > 0, relative error below 5e-6 for a from 1e-6 to 1e6; in a fixed order of operations.
LATHE_HOST_DEVICE float hqq_power(float a, float y) {
  uint32_t bits = float_bits(a);
  const uint32_t shifted = bits - 0x3f3504f3u;  // the mantissa falls into [sqrt(1/2), sqrt(2))
  const float exponent = static_cast<float>(static_cast<int32_t>(shifted) >> 23);
  const float m = bits_float((shifted & 0x007fffffu) + 0x3f3504f3u);
  const float f = (m - 1.0f) / (m + 1.0f), g = f * f;  // log2 m = 2 / ln 2 * (f + f^3 / 3 + f^5 / 5 + ...)
  const float series = 1.0f + g * (0.33333333f + g * (0.2f + g * (0.14285715f + g * 0.11111111f)));
  float power = y * (exponent + 2.8853901f * f * series);
  power = clamp_value(power, -126.0f, 126.0f);
  const float whole = round_half_even(power),
              r = (power - whole) * 0.69314718f;  // |r| <= 0.35: Taylor of e^r
  const float value =
      1.0f + r * (1.0f + r * (0.5f + r * (0.16666667f +
                                          r * (0.041666668f + r * (0.008333334f + r * 0.0013888889f)))));
  return value * bits_float(static_cast<uint32_t>(static_cast<int32_t>(whole) + 127) << 23);
}

/// The shrinkage operator of the l_p norm (p <= 1), sign(d) relu(|d| - |d|^(p-1) / beta); 0 up to the
/// threshold.
LATHE_HOST_DEVICE float hqq_shrink(float d, float exponent, float inverse_beta, float threshold) {
  const float a = fabsf(d);
  const float kept = a - inverse_beta * hqq_power(a > threshold ? a : 1.0f, exponent);
  const float shrunk = a > threshold && kept > 0 ? kept : 0.0f;
  return d < 0 ? -shrunk : shrunk;
}

LATHE_HOST_DEVICE float hqq_code(float w, float inverse_scale, float zero, const HqqSettings& settings) {
  return round_half_even(clamp_value(w * inverse_scale + zero, settings.qmin, settings.qmax));
}

/// What files hold: zero points are counted from code 0.
LATHE_HOST_DEVICE float hqq_stored_zero(float zero, const HqqSettings& settings) {
  return round_scale(zero - settings.qmin, settings.type) + settings.qmin;
}

/// What an error adds to HqqSums::error: a step that fits the scale, too, is a regression, which lowers
/// squares.
LATHE_HOST_DEVICE float hqq_error_term(float d, const HqqSettings& settings) {
  return settings.optimise_scale ? d * d : fabsf(d);
}

/// A scale whose inverse is finite, too: 0 becomes the smallest normal, and in the wide types subnormals do.
LATHE_HOST_DEVICE float hqq_usable_scale(float scale, ScaleType type) {
  const float smallest = smallest_normal(type);
  if (scale == 0 || (type != ScaleType::f16 && scale < smallest)) return smallest;
  return scale;
}

LATHE_HOST_DEVICE float hqq_stored_scale(float scale, const HqqSettings& settings) {
  return hqq_usable_scale(round_scale(scale, settings.type), settings.type);
}

LATHE_HOST_DEVICE bool hqq_finite(float x) { return x * 0.0f == 0.0f; }

/// The rounding of a type, relative to the value, doubled: a zero point of up to the inverse is right to half
/// a step.
LATHE_HOST_DEVICE float hqq_rounding(ScaleType type) {
  if (type == ScaleType::f32) return 1.0f / 4194304.0f;
  return type == ScaleType::f16 ? 1.0f / 2048.0f : 1.0f / 256.0f;
}

/// Where the iteration starts with real zero points: the grid's ends at the group's ends. A group of one
/// value has that value as its scale. Steps are no finer than the zero point can be told.
LATHE_HOST_DEVICE ScaleZero hqq_start(float lo, float hi, const HqqSettings& settings) {
  ScaleZero start;
  const float largest = fabsf(lo) > fabsf(hi) ? fabsf(lo) : fabsf(hi);
  if (hi == lo) {
    start.scale = lo == 0 ? 1.0f : hqq_stored_scale(largest, settings);
    start.zero = settings.qmin + (lo == 0 ? 0.0f : lo > 0 ? -1.0f : 1.0f);
    return start;
  }
  const float finest = largest * hqq_rounding(settings.type);
  const float spanning = (hi - lo) / (settings.qmax - settings.qmin);
  start.scale = hqq_stored_scale(spanning > finest ? spanning : finest, settings);
  const float zero = settings.qmin - lo / start.scale;
  start.zero = hqq_stored_zero(settings.round_start ? round_half_even(zero) : zero, settings);
  return start;
}

/// The grid of plain rounding, which holds 0 and has an integer zero point.
LATHE_HOST_DEVICE ScaleZero hqq_plain_start(float lo, float hi, const HqqSettings& settings) {
  Grid integers{settings.qmin, settings.qmax, false, settings.type};
  integers.zero_margin = settings.zero_margin;
  ScaleZero grid = choose_scale_zero(lo, hi, integers);
  grid.scale = hqq_usable_scale(grid.scale, settings.type);
  return grid;
}

/// The half-quadratic step for given codes: the zero point, or scale and zero point together, that fit what
/// the shrinkage leaves in the least-squares sense. x - s' = b c + a is the regression of c + e on c.
LATHE_HOST_DEVICE ScaleZero hqq_step(ScaleZero at, const HqqSums& sums, float count,
                                     const HqqSettings& settings, bool fixed_zero) {
  float b = 1;
  if (settings.optimise_scale) {
    const float spread = fixed_zero ? sums.cc : sums.cc - sums.c * sums.c / count;
    const float common = fixed_zero ? sums.ce : sums.ce - sums.e * sums.c / count;
    if (spread > 0.25f && hqq_finite(common)) b = 1.0f + common / spread;  // less: all codes are one
    if (!(b > 0.1f)) b = 0.1f;                                             // a scale stays positive
  }
  ScaleZero next = at;
  if (b != 1) {
    next.scale = hqq_stored_scale(at.scale * b, settings);
    b = next.scale / at.scale;
  }
  if (!fixed_zero) next.zero = at.zero - (sums.c + sums.e - b * sums.c) / (count * b);
  return next;
}

/// Improves a grid until its error (hqq_error_term) falls no more (early_stop) or the iterations are over;
/// returns the best that was seen, which may be the start. `measure(grid, t)` gives HqqSums.
template <class Measure>
LATHE_HOST_DEVICE ScaleZero hqq_improve(ScaleZero start, float count, const HqqSettings& settings,
                                        bool fixed_zero, const Measure& measure, float& best_error) {
  ScaleZero grid = start, best = start;
  best_error = -1;
  for (int t = 0; t <= settings.iterations; ++t) {
    if (!hqq_finite(grid.scale) || !hqq_finite(grid.zero)) break;
    const HqqSums sums = measure(grid, t);
    const float error = grid.scale * (settings.optimise_scale ? sqrtf(sums.error) : sums.error);
    if (!hqq_finite(error)) break;
    if (best_error < 0 || error < best_error) {
      best = grid;
      best_error = error;
    } else if (settings.early_stop) {
      break;
    }
    grid = hqq_step(grid, sums, count, settings, fixed_zero);
    if (!fixed_zero) grid.zero = hqq_stored_zero(grid.zero, settings);
  }
  return best;
}

/// `best` is what of the two has the smaller error; an error below 0 is none.
LATHE_HOST_DEVICE void hqq_keep(ScaleZero found, float error, ScaleZero& best, float& best_error) {
  if (error < 0 || (best_error >= 0 && !(error < best_error))) return;
  best = found;
  best_error = error;
}

/// One group from its range to its grid.
template <class Measure>
LATHE_HOST_DEVICE ScaleZero hqq_solve(float lo, float hi, float count, const HqqSettings& settings,
                                      const Measure& measure) {
  const ScaleZero plain = hqq_plain_start(lo, hi, settings);
  ScaleZero best = plain;
  float best_error = -1, error = -1;
  if (settings.real_zero) {
    const ScaleZero found = hqq_improve(hqq_start(lo, hi, settings), count, settings, false, measure, error);
    hqq_keep(found, error, best, best_error);
    if (best_error >= 0 && lo <= 0 && hi >= 0) return best;  // the plain grid is the same but for rounding
    const ScaleZero other = hqq_improve(plain, count, settings, false, measure, error);
    hqq_keep(other, error, best, best_error);
    return best;
  }
  // Integers: the neighbours of the real optimum, and the start, each with the scale that fits it.
  ScaleZero real = hqq_improve(plain, count, settings, false, measure, error);
  for (int candidate = 0; candidate < 3; ++candidate) {
    ScaleZero grid = candidate == 0 ? plain : real;
    if (candidate > 0) {
      const float lowest = settings.qmin + settings.zero_margin;
      const float nearest = round_half_even(clamp_value(real.zero, lowest, settings.qmax));
      const float below = nearest > real.zero ? nearest - 1.0f : nearest;
      grid.zero = clamp_value(below + static_cast<float>(candidate - 1), lowest, settings.qmax);
    }
    const ScaleZero found = hqq_improve(grid, count, settings, true, measure, error);
    hqq_keep(found, error, best, best_error);
  }
  return best;
}

}  // namespace lathe::device
