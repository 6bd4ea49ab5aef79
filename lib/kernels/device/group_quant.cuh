// The arithmetic of one value and one group of the uniform integer grid and of the floating-point ones, for
// g++ (CPU) and nvcc (host and device). Every operation is a single IEEE-754 binary32 operation in a fixed
// order, so CPU and CUDA agree bit for bit as long as the compiler neither contracts to FMA
// (-ffp-contract=off, --fmad=false) nor approximates a division (nvcc's default -prec-div=true). C++17, no
// library calls that nvcc lacks.
#pragma once

#include "lib/kernels/device/float_grid.cuh"

namespace lathe::device {

/// The type in which a scale is stored. e4m3: under a global scale.
enum class ScaleType : int32_t { f32 = 0, f16 = 1, bf16 = 2, e4m3 = 3, e8m0 = 4 };

/// Codes are the integers in [qmin, qmax]; both ends are integers held as floats. Or the numbers of a
/// floating-point format.
struct Grid {
  float qmin = -8, qmax = 7;
  bool symmetric = true;
  ScaleType scale_type = ScaleType::f16;
  Minifloat number = {};
  const float* global = nullptr;  // e4m3: one value where the scales are
  float zero_margin = 0;          // codes that lie below every zero point: 0 or 1

  LATHE_HOST_DEVICE bool floats() const { return number.mantissa != 0; }
};

/// value = scale * (code - zero).
struct ScaleZero {
  float scale = 1, zero = 0;
};

/// A NaN becomes `lo`: codes stay defined whatever the input holds.
LATHE_HOST_DEVICE float clamp_value(float x, float lo, float hi) { return x > lo ? (x < hi ? x : hi) : lo; }

/// Nearest integer, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no room for a fraction. (rintf is
/// one instruction on the device, but a library call on a CPU without SSE4.1, and keeps g++ from vectorising
/// there.)
LATHE_HOST_DEVICE float round_half_even(float x) {
  const float magic = 12582912.0f;
  return (x + magic) - magic;
}

/// The nearest value of IEEE binary16, ties to even; overflow to infinity, gradual underflow; NaN stays NaN.
LATHE_HOST_DEVICE float round_to_f16(float x) {
  const uint32_t bits = float_bits(x);
  const uint32_t sign = bits & 0x80000000u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x7f800000u) return x;  // infinity, NaN
  if (magnitude < 0x38800000u) {  // below 2^-14: multiples of 2^-24, which is the ulp of numbers in [0.5, 1)
    const float rounded = (bits_float(magnitude) + 0.5f) - 0.5f;
    return bits_float(float_bits(rounded) | sign);
  }
  magnitude +=
      0x0fffu + ((magnitude >> 13) & 1u);  // half of the dropped 13 bits, less one unless the kept end is odd
  magnitude &= ~0x1fffu;
  if (magnitude >= 0x47800000u) magnitude = 0x7f800000u;  // 65520 and above
  return bits_float(magnitude | sign);
}

/// The nearest bfloat16 value, ties to even. The carry runs into the exponent by itself, up to infinity.
LATHE_HOST_DEVICE float round_to_bf16(float x) {
  const uint32_t bits = float_bits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return x;  // NaN
  return bits_float((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
}

LATHE_HOST_DEVICE float round_scale(float scale, ScaleType type) {
  if (type == ScaleType::f16) return round_to_f16(scale);
  if (type == ScaleType::bf16) return round_to_bf16(scale);
  return scale;
}

LATHE_HOST_DEVICE float smallest_normal(ScaleType type) {
  return type == ScaleType::f16 ? bits_float(0x38800000u) : bits_float(0x00800000u);  // 2^-14, 2^-126
}

/// Range [lo, hi] of a group on a floating-point grid -> scale: the largest magnitude becomes the largest
/// number. One that rounds to zero becomes the smallest normal.
LATHE_HOST_DEVICE float choose_float_scale(float lo, float hi, const Grid& grid) {
  const float low = fabsf(lo), high = fabsf(hi);
  const float largest = low > high ? low : high;
  if (grid.scale_type == ScaleType::e4m3) return block_scale_e4m3(largest, grid.number.largest, *grid.global);
  if (grid.scale_type == ScaleType::e8m0) return block_scale_e8m0(largest, grid.number);
  const float scale = round_scale(largest / grid.number.largest, grid.scale_type);
  return scale == 0 ? smallest_normal(grid.scale_type) : scale;
}

/// Range [lo, hi] of a group -> scale and zero point. The scale is rounded to its stored type first, so that
/// zero point and codes are chosen for the scale that a consumer will see. One that rounds to zero becomes
/// the smallest normal. A NaN range gives a NaN scale, one beyond the type an infinite scale: the caller's to
/// refuse.
LATHE_HOST_DEVICE ScaleZero choose_scale_zero(float lo, float hi, const Grid& grid) {
  ScaleZero result;
  if (grid.floats()) {
    result.scale = choose_float_scale(lo, hi, grid);
    result.zero = 0;
    return result;
  }
  if (grid.symmetric) {
    const float low = fabsf(lo), high = fabsf(hi);
    const float largest = low > high ? low : high;
    result.scale = largest / ((grid.qmax - grid.qmin) * 0.5f);
  } else {
    lo = lo > 0 ? 0.0f : lo;
    hi = hi < 0 ? 0.0f : hi;
    result.scale = (hi - lo) / (grid.qmax - grid.qmin);
    if (grid.zero_margin > 0) {  // a step less for what lies above 0
      const float above = hi / (grid.qmax - grid.qmin - grid.zero_margin);
      result.scale = above > result.scale ? above : result.scale;
    }
  }
  result.scale = round_scale(result.scale, grid.scale_type);
  if (result.scale == 0) result.scale = smallest_normal(grid.scale_type);
  result.zero = 0;
  if (!grid.symmetric) {  // clamped before rounding, which is the same for integer ends and keeps the
                          // rounding exact
    result.zero =
        round_half_even(clamp_value(grid.qmin - lo / result.scale, grid.qmin + grid.zero_margin, grid.qmax));
  }
  return result;
}

/// clamp(round(w / scale) + zero, qmin, qmax). The clamp comes first, with ends moved by zero: equal, because
/// the ends are integers and rounding is monotonic.
LATHE_HOST_DEVICE float encode_value(float w, ScaleZero group, float qmin, float qmax) {
  return round_half_even(clamp_value(w / group.scale, qmin - group.zero, qmax - group.zero)) + group.zero;
}

LATHE_HOST_DEVICE float decode_value(float code, ScaleZero group) {
  return group.scale * (code - group.zero);
}

/// A weight's code on a floating-point grid.
LATHE_HOST_DEVICE uint8_t encode_number(float w, float scale, Minifloat format) {
  return nearest_code(w / scale, format);
}

/// What a weight becomes on a floating-point grid; no negative zero matters to anyone.
LATHE_HOST_DEVICE float round_on_grid(float w, float scale, Minifloat format) {
  return scale * nearest_number(w / scale, format);
}

}  // namespace lathe::device
