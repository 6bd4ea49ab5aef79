#include "lib/numeric/mxint8.h"

#include "lib/numeric/float_format.h"

namespace lathe {

double decode_mxint8(uint8_t code) { return static_cast<double>(static_cast<int8_t>(code)) / 64; }

uint8_t encode_mxint8(float value) {
  return static_cast<uint8_t>(mxint8_of(static_cast<int8_t>(encode_float(kMxInt8, value))));
}

int8_t mxint8_of(int8_t code) {
  const int magnitude = code & 0x7f;
  return static_cast<int8_t>(code < 0 ? -magnitude : magnitude);
}

}  // namespace lathe
