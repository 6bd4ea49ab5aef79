// Rounding to a floating-point format of few bits (lib/numeric/float_format.h has the formats and the
// reference), for g++ (CPU) and nvcc (host and device). No tables and no branches, so that loops over weights
// vectorise; single IEEE operations in a fixed order, as in group_quant.cuh.
#pragma once

#include "lib/kernels/device/bits.cuh"

namespace lathe::device {

/// A FloatFormat as the kernels see it. mantissa 0: none, the grid is of integers.
struct Minifloat {
  int32_t mantissa = 0;           // bits
  int32_t smallest_exponent = 0;  // of numbers that are not subnormal
  int32_t sign_bit = 7;           // its place in a code
  float largest = 0;
  uint32_t carry = 0x00200000u;  // 2 - FloatFormat::scale_carry, in units of an FP32 mantissa's last bit
  int32_t specials = 128;        // codes of magnitudes from here on are infinity or NaN; 2^sign_bit: none are
};

/// How a number is rounded: its magnitude, at most the largest, and what adding it to rounds it.
struct Rounding {
  float magnitude;
  uint32_t binade,
      least;    // 2^e of the magnitude's binade, or of the subnormals', which is `least`, as FP32's bits
  float shift;  // numbers from 1.5 * 2^(e + 23 - mantissa) on are 2^(e - mantissa) apart
};

LATHE_HOST_DEVICE Rounding rounding_of(float x, Minifloat format) {
  Rounding rounding;
  const float magnitude = bits_float(float_bits(x) & 0x7fffffffu);
  rounding.magnitude = magnitude > format.largest ? format.largest : magnitude;
  const uint32_t own = float_bits(rounding.magnitude) & 0x7f800000u;
  rounding.least = static_cast<uint32_t>(format.smallest_exponent + 127) << 23;
  rounding.binade = own > rounding.least ? own : rounding.least;
  rounding.shift = bits_float(rounding.binade + (static_cast<uint32_t>(23 - format.mantissa) << 23)) * 1.5f;
  return rounding;
}

/// The nearest number of the format, ties to the even code; beyond the largest, the largest. NaN stays NaN,
/// zeros and what rounds to zero keep their sign.
LATHE_HOST_DEVICE float nearest_number(float x, Minifloat format) {
  const Rounding rounding = rounding_of(x, format);
  const float rounded = (rounding.magnitude + rounding.shift) - rounding.shift;
  return bits_float(float_bits(rounded) | (float_bits(x) & 0x80000000u));
}

/// number_code() of the nearest number: how many steps it is above its binade's, or the subnormals',
/// beginning. Not of a NaN.
LATHE_HOST_DEVICE uint8_t nearest_code(float x, Minifloat format) {
  const Rounding rounding = rounding_of(x, format);
  const uint32_t steps = float_bits(rounding.magnitude + rounding.shift) - float_bits(rounding.shift);
  const uint32_t code = ((rounding.binade - rounding.least) >> (23 - format.mantissa)) + steps;
  return static_cast<uint8_t>(code | ((float_bits(x) >> 31) << format.sign_bit));
}

/// nearest_number() of an FP64 number, which is not rounded to FP32 first. A number of the format, exact in
/// FP32.
LATHE_HOST_DEVICE double nearest_number(double x, Minifloat format) {
  const uint64_t sign = double_bits(x) & 0x8000000000000000ull;
  double magnitude = bits_double(double_bits(x) & 0x7fffffffffffffffull);
  magnitude = magnitude > format.largest ? static_cast<double>(format.largest) : magnitude;
  const uint64_t own = double_bits(magnitude) & 0x7ff0000000000000ull;
  const uint64_t least = static_cast<uint64_t>(format.smallest_exponent + 1023) << 52;
  const uint64_t binade = own > least ? own : least;
  const double shift = bits_double(binade + (static_cast<uint64_t>(52 - format.mantissa) << 52)) * 1.5;
  const double rounded = (magnitude + shift) - shift;
  return bits_double(double_bits(rounded) | sign);
}

/// The code of a number of the format.
LATHE_HOST_DEVICE uint8_t number_code(float number, Minifloat format) {
  const uint32_t bits = float_bits(number) & 0x7fffffffu;
  const uint32_t least = static_cast<uint32_t>(format.smallest_exponent + 127) << 23;
  const uint32_t normal = (bits >> (23 - format.mantissa)) -
                          (static_cast<uint32_t>(format.smallest_exponent + 126) << format.mantissa);
  // The magnitude in units of the smallest one; a power of two, so the product is exact.
  const float unit =
      bits_float(static_cast<uint32_t>(127 + format.mantissa - format.smallest_exponent) << 23);
  // As an integer: the last bits of a sum that is 2^23 and more. (A conversion would keep g++ from
  // vectorising.)
  const uint32_t subnormal = float_bits(bits_float(bits) * unit + 8388608.0f) & 0x7fffffu;
  const uint32_t below = bits < least ? 0xffffffffu : 0;  // a mask: a choice would become a branch
  const uint32_t code = (subnormal & below) | (normal & ~below);
  return static_cast<uint8_t>(code | ((float_bits(number) >> 31) << format.sign_bit));
}

/// What a code stands for; all NaNs are one to anyone.
LATHE_HOST_DEVICE float code_number(uint8_t code, Minifloat format) {
  const uint32_t magnitude = code & ((1u << format.sign_bit) - 1);
  const uint32_t sign = static_cast<uint32_t>(code >> format.sign_bit) << 31;
  const float unit =
      bits_float(static_cast<uint32_t>(127 + format.smallest_exponent - format.mantissa) << 23);
  const float subnormal = static_cast<float>(static_cast<int32_t>(magnitude)) * unit;
  const uint32_t normal =
      (magnitude << (23 - format.mantissa)) + (static_cast<uint32_t>(format.smallest_exponent + 126) << 23);
  const bool below = magnitude < (1u << format.mantissa);
  const uint32_t beyond = magnitude < static_cast<uint32_t>(format.specials) ? 0 : 0x7f800000u;
  return bits_float((below ? float_bits(subnormal) : normal) | beyond | sign);
}

constexpr Minifloat kScaleE4M3{3, -6, 7, 448.0f};
constexpr float kSmallestE4M3 = 0.001953125f;  // 2^-9

/// The E4M3 code that stands for a block's scale under a global one: largest / (largest number * global),
/// within the positive numbers of E4M3; 1 for a block of zeros (NVIDIA modelopt's NVFP4QTensor). NaN stays
/// NaN.
LATHE_HOST_DEVICE float block_scale_e4m3(float largest, float number, float global) {
  if (largest == 0) return 1.0f;
  const float wanted = largest / (number * global);
  return nearest_number(wanted < kSmallestE4M3 ? kSmallestE4M3 : wanted, kScaleE4M3);
}

/// encode_e8m0_scale() as a number: what is added carries a mantissa of scale_carry and more into the
/// exponent. NaN stays NaN.
LATHE_HOST_DEVICE float block_scale_e8m0(float largest, Minifloat format) {
  if (largest != largest) return largest;
  if (largest == 0) return 1.0f;
  const int32_t exponent = static_cast<int32_t>((float_bits(largest) + format.carry) >> 23);
  int32_t field = exponent - static_cast<int32_t>(float_bits(format.largest) >> 23) + 127;
  field = field < 1 ? 1 : (field > 254 ? 254 : field);  // 2^-127 is subnormal in FP32: 2^-126 stands in
  return bits_float(static_cast<uint32_t>(field) << 23);
}

}  // namespace lathe::device
