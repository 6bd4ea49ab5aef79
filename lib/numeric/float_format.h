// Floating-point formats of few bits: what each code stands for, and which code a number gets. The exact,
// slow reference; kernels compute with device/float_grid.cuh, which the tests hold against it, code by code.
//
// Sources: OCP 8-bit Floating Point Specification (OFP8), revision 1.0, sections 5.1 and 5.2; OCP
// Microscaling Formats (MX) Specification 1.0, sections 5.3 (elements) and 5.4 (E8M0). Overflow saturates, as
// in OFP8's saturating mode: what every quantiser does that clamps before it casts.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace lathe {

/// Sign, exponent, mantissa from the highest bit down. Exponent field 0: subnormal, m * 2^(1 - bias -
/// mantissa_bits); else (1 + m / 2^mantissa_bits) * 2^(field - bias).
struct FloatFormat {
  enum class Specials : uint8_t {
    none,     // every code is a number
    nan,      // all ones is NaN, there is no infinity (E4M3)
    infinity  // the largest exponent is infinity and NaN, as in IEEE 754 (E5M2)
  };

  std::string_view name;  // "fp8_e4m3", as recipes spell it
  int exponent_bits = 0, mantissa_bits = 0, bias = 0;
  Specials specials = Specials::none;
  double largest = 0;
  /// From this mantissa on the largest magnitude of an MX block counts as the next power of two.
  double scale_carry = 1.75;

  int bits() const { return 1 + exponent_bits + mantissa_bits; }
  int codes() const { return 1 << bits(); }
  uint8_t sign() const { return static_cast<uint8_t>(1 << (bits() - 1)); }
  /// Exponent of the smallest number that is not subnormal.
  int smallest_exponent() const { return 1 - bias; }
  /// Of the largest number.
  int largest_exponent() const;
};

inline constexpr FloatFormat kE4M3{"fp8_e4m3", 4, 3, 7, FloatFormat::Specials::nan, 448};
inline constexpr FloatFormat kE5M2{"fp8_e5m2", 5, 2, 15, FloatFormat::Specials::infinity, 57344};
inline constexpr FloatFormat kE3M2{"fp6_e3m2", 3, 2, 3, FloatFormat::Specials::none, 28, 1.875};
inline constexpr FloatFormat kE2M3{"fp6_e2m3", 2, 3, 1, FloatFormat::Specials::none, 7.5, 1.9375};
inline constexpr FloatFormat kE2M1{"fp4_e2m1", 2, 1, 1, FloatFormat::Specials::none, 6};
/// MXINT8's elements (section 5.3.4): k / 64 with k from -127 to 127, two's complement where they are stored
/// (lib/numeric/mxint8.h). Such a number's magnitude has the bits of E1M6's: m / 64 below 1, (1 + m / 64)
/// from there on. A block's scale is the specification's own, without a carry: what is beyond 127 / 64 loses
/// a step at the most, where the next power of two would make all steps twice as large.
inline constexpr FloatFormat kMxInt8{"mxint8", 1, 6, 1, FloatFormat::Specials::none, 127.0 / 64, 2};

std::span<const FloatFormat> float_formats();

/// What a code stands for; bits above the format's are ignored.
double decode_float(const FloatFormat& format, uint8_t code);
/// The code of the nearest number, ties to the even code; beyond the largest, infinity included, the largest.
/// A zero keeps its sign, and so does what rounds to zero. NaN: the format's, sign kept (E5M2: all ones);
/// InternalError where it has none, for a NaN in a weight is refused before it is rounded.
uint8_t encode_float(const FloatFormat& format, float value);

/// E8M0, a scale: 2^(code - 127); 255 is NaN.
double decode_e8m0(uint8_t code);
/// The scale of an MX block whose largest magnitude is `largest` (finite, >= 0), elements of `format`:
/// 2^(floor(log2 largest) - largest_exponent), where a mantissa of scale_carry and more counts as the next
/// power of two: such a value would round above the format's largest, where its next number is not NaN. (The
/// MX specification, 6.3, has the floor alone; compressed-tensors rounds as here.) 1 for a block of zeros;
/// within 2^-127 .. 2^127.
uint8_t encode_e8m0_scale(const FloatFormat& format, float largest);

}  // namespace lathe
