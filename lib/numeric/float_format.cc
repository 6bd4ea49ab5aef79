#include "lib/numeric/float_format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr std::array<FloatFormat, 6> kFormats = {kE4M3, kE5M2, kE3M2, kE2M3, kE2M1, kMxInt8};

/// Of the magnitude's code.
double magnitude(const FloatFormat& format, int code) {
  const int mantissa = code & ((1 << format.mantissa_bits) - 1), exponent = code >> format.mantissa_bits;
  if (exponent == 0) return std::ldexp(mantissa, format.smallest_exponent() - format.mantissa_bits);
  const bool last = exponent == (1 << format.exponent_bits) - 1;
  if (format.specials == FloatFormat::Specials::infinity && last) {
    return mantissa == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  if (format.specials == FloatFormat::Specials::nan && code == format.sign() - 1)
    return std::numeric_limits<double>::quiet_NaN();
  return std::ldexp((1 << format.mantissa_bits) + mantissa, exponent - format.bias - format.mantissa_bits);
}

}  // namespace

int FloatFormat::largest_exponent() const { return std::ilogb(largest); }

std::span<const FloatFormat> float_formats() { return kFormats; }

double decode_float(const FloatFormat& format, uint8_t code) {
  const double value = magnitude(format, code & (format.sign() - 1));
  return (code & format.sign()) != 0 ? -value : value;
}

uint8_t encode_float(const FloatFormat& format, float value) {
  const uint8_t sign = std::signbit(value) ? format.sign() : uint8_t{0};
  if (std::isnan(value)) {
    LATHE_ASSERT(format.specials != FloatFormat::Specials::none, "{} has no NaN", format.name);
    return static_cast<uint8_t>(sign | (format.sign() - 1));
  }
  const double wanted = std::min(std::abs(static_cast<double>(value)), format.largest);
  int code = 0;
  while (magnitude(format, code) < wanted) ++code;  // the first that is not below
  if (code > 0) {
    const double above = magnitude(format, code) - wanted, below = wanted - magnitude(format, code - 1);
    if (below < above || (below == above && code % 2 != 0)) --code;
  }
  return static_cast<uint8_t>(sign | code);
}

double decode_e8m0(uint8_t code) {
  return code == 255 ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1, code - 127);
}

uint8_t encode_e8m0_scale(const FloatFormat& format, float largest) {
  LATHE_ASSERT(std::isfinite(largest) && largest >= 0, "an MX block's largest magnitude {}", largest);
  if (largest == 0) return 127;
  int exponent = std::ilogb(largest);
  if (std::ldexp(static_cast<double>(largest), -exponent) >= format.scale_carry) ++exponent;
  return static_cast<uint8_t>(std::clamp(exponent - format.largest_exponent() + 127, 0, 254));
}

}  // namespace lathe
