#include "lib/numeric/float_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/numeric/level_grid.h"

namespace lathe {
namespace {

/// What ml_dtypes makes of codes and numbers (tests/tools/make_float_golden.py).
const nlohmann::json& golden() {
  static const auto parsed = nlohmann::json::parse(
      read_text_file(std::filesystem::path(LATHE_SOURCE_DIR) / "tests/golden/floats/formats.json"));
  return parsed;
}

double value_of(const nlohmann::json& value) {
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (value.is_string()) return std::strtod(value.get<std::string>().c_str(), nullptr);
  return value.get<double>();
}

void expect_same(double found, double expected, int code) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(found)) << code;
  } else {
    EXPECT_EQ(found, expected) << code;
    EXPECT_EQ(std::signbit(found), std::signbit(expected)) << code;
  }
}

TEST(FloatFormat, EveryCodeStandsForWhatMlDtypesSays) {
  ASSERT_EQ(float_formats().size(), 6u);
  for (const FloatFormat& format : float_formats()) {
    SCOPED_TRACE(format.name);
    const auto& values = golden().at(std::string(format.name)).at("values");
    ASSERT_EQ(static_cast<int>(values.size()), format.codes());
    for (int code = 0; code < format.codes(); ++code)
      expect_same(decode_float(format, static_cast<uint8_t>(code)), value_of(values[code]), code);
  }
}

TEST(FloatFormat, EveryE8M0CodeIsAPowerOfTwoOrNaN) {
  const auto& values = golden().at("e8m0").at("values");
  for (int code = 0; code < 256; ++code)
    expect_same(decode_e8m0(static_cast<uint8_t>(code)), value_of(values[code]), code);
}

TEST(FloatFormat, RoundsToNearestEvenAsMlDtypesDoes) {
  for (const FloatFormat& format : float_formats()) {
    SCOPED_TRACE(format.name);
    const auto& pairs = golden().at(std::string(format.name)).at("encode");
    ASSERT_GT(pairs.size(), 50u);
    for (const auto& pair : pairs) {
      const std::string text = pair[0].get<std::string>();
      const float number = std::strtof(text.c_str(), nullptr);
      EXPECT_EQ(encode_float(format, number), pair[1].get<int>()) << text;
    }
  }
}

TEST(FloatFormat, EveryNumberKeepsItsCode) {
  for (const FloatFormat& format : float_formats()) {
    SCOPED_TRACE(format.name);
    for (int code = 0; code < format.codes(); ++code) {
      const double value = decode_float(format, static_cast<uint8_t>(code));
      if (!std::isfinite(value)) continue;
      EXPECT_EQ(encode_float(format, static_cast<float>(value)), code);
    }
  }
}

TEST(FloatFormat, OverflowSaturatesAndNanIsKeptWhereThereIsOne) {
  const float infinity = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  for (const FloatFormat& format : float_formats()) {
    SCOPED_TRACE(format.name);
    for (const float beyond : {infinity, static_cast<float>(format.largest) * 1.5f}) {
      EXPECT_EQ(decode_float(format, encode_float(format, beyond)), format.largest);
      EXPECT_EQ(decode_float(format, encode_float(format, -beyond)), -format.largest);
    }
    if (format.specials == FloatFormat::Specials::none) {
      EXPECT_THROW(encode_float(format, nan), InternalError);
    } else {
      EXPECT_TRUE(std::isnan(decode_float(format, encode_float(format, nan))));
    }
  }
}

TEST(FloatFormat, LevelsAreTheFiniteMagnitudes) {
  const LevelGrid fp4 = float_levels(kE2M1);
  EXPECT_EQ(fp4.levels, (std::vector<double>{0, 0.5, 1, 1.5, 2, 3, 4, 6}));
  EXPECT_EQ(fp8_e4m3_levels().levels.size(), 127u);  // without NaN
  EXPECT_EQ(fp8_e4m3_levels().largest(), 448);
  EXPECT_EQ(fp8_e5m2_levels().levels.size(), 124u);  // without infinity and its NaNs
  EXPECT_EQ(fp8_e5m2_levels().largest(), 57344);
}

TEST(FloatFormat, BlockScaleIsThePowerThatTheLargestFits) {
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kE2M1, 6)), 1);  // 6 = 1.5 * 2^2
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kE2M1, 6.99f)), 1);
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kE2M1, 7)), 2);  // 1.75 * 2^2 would round to 8
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kE2M1, 8)), 2);
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kE2M3, 7.74f)), 1);
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kE2M3, 7.75f)), 2);  // 1.9375 * 2^2 would round to 8
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kE3M2, 29.9f)), 1);
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kE3M2, 30)), 2);  // 1.875 * 2^4 would round to 32
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kE4M3, 256)), 1);
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kMxInt8, 1)), 1);
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kMxInt8, 1.999f)), 1);  // the floor alone
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kMxInt8, 2)), 2);
  EXPECT_EQ(decode_e8m0(encode_e8m0_scale(kE2M1, 0)), 1);
  EXPECT_EQ(encode_e8m0_scale(kE2M1, std::numeric_limits<float>::denorm_min()), 0);
}

}  // namespace
}  // namespace lathe
