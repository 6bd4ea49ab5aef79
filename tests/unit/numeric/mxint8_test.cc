// MXINT8's elements: every code, rounding and saturation, against the specification's words.
#include "lib/numeric/mxint8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/base/error.h"
#include "lib/numeric/float_format.h"

namespace lathe {
namespace {

TEST(MxInt8, EveryCodeIsTwosComplementWithSixFractionBits) {
  for (int code = 0; code < 256; ++code) {
    const int integer = code < 128 ? code : code - 256;
    EXPECT_EQ(decode_mxint8(static_cast<uint8_t>(code)), integer / 64.0) << code;
  }
  EXPECT_EQ(decode_mxint8(0x80), -2);
  EXPECT_EQ(decode_mxint8(0x7f), 1.984375);
}

TEST(MxInt8, EveryNumberButMinusTwoKeepsItsCode) {
  for (int code = 0; code < 256; ++code)
    EXPECT_EQ(encode_mxint8(static_cast<float>(decode_mxint8(static_cast<uint8_t>(code)))),
              code == 0x80 ? 0x81 : code);
}

TEST(MxInt8, TiesGoToTheEvenCodeOfEitherSign) {
  for (int k = 0; k < 127; ++k) {
    const float middle = (static_cast<float>(k) + 0.5f) / 64;
    const int even = k % 2 == 0 ? k : k + 1;
    EXPECT_EQ(encode_mxint8(middle), even);
    EXPECT_EQ(static_cast<int8_t>(encode_mxint8(-middle)), -even);
    EXPECT_EQ(encode_mxint8(std::nextafter(middle, 0.0f)), k);
    EXPECT_EQ(encode_mxint8(std::nextafter(middle, 2.0f)), k + 1);
  }
}

TEST(MxInt8, WhatIsBeyondSaturatesAlike) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float beyond : {1.99f, 1.9921875f, 2.0f, 1e30f, infinity}) {
    EXPECT_EQ(encode_mxint8(beyond), 0x7f);
    EXPECT_EQ(encode_mxint8(-beyond), 0x81);
  }
  EXPECT_EQ(encode_mxint8(-0.0f), 0);
  EXPECT_EQ(encode_mxint8(-1e-30f), 0);
  EXPECT_THROW(encode_mxint8(std::nanf("")), InternalError);
}

TEST(MxInt8, StandsForWhatTheGridsCodeDoes) {
  for (int code = -128; code < 128; ++code)
    EXPECT_EQ(decode_mxint8(static_cast<uint8_t>(mxint8_of(static_cast<int8_t>(code)))),
              decode_float(kMxInt8, static_cast<uint8_t>(code)));
}

}  // namespace
}  // namespace lathe
