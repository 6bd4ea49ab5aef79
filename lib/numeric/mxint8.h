// The elements of MXINT8 as they are stored: 8-bit two's complement with 6 fraction bits, under an E8M0 scale
// for each 32 of them (OCP Microscaling Formats Specification 1.0, sections 5.3.4 and 6.3). A QuantizedTensor
// holds them as codes of kMxInt8 (lib/numeric/float_format.h), sign and magnitude, as all number grids; this
// is the way from one to the other.
#pragma once

#include <cstdint>

namespace lathe {

/// code / 64; 0x80 is -2, which nothing is rounded to.
double decode_mxint8(uint8_t code);
/// The code of the nearest number, ties to the even one, within -127 / 64 and 127 / 64: the specification
/// leaves it open whether -2 is used, and without it negative numbers are rounded as positive ones. (So does
/// Microsoft's microxcaling library, _quantize_elemwise_core.) InternalError for a NaN: there is none.
uint8_t encode_mxint8(float value);

/// Of a code of kMxInt8; both zeros are 0.
int8_t mxint8_of(int8_t code);

}  // namespace lathe
