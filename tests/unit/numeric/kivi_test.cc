// KIVI's grid, one group at a time.
#include "lib/numeric/kivi.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace lathe {
namespace {

std::vector<float> rounded(std::vector<float> values, int bits) {
  round_kivi_group(values, bits, values);
  return values;
}

TEST(KiviGroup, StepsBetweenTheLeastAndTheLargest) {
  std::vector<float> out(5);
  const KiviRange range = round_kivi_group(std::vector<float>{-1, -0.4f, 0.4f, 1, 2}, 2, out);
  EXPECT_EQ(range.least, -1);
  EXPECT_EQ(range.scale, 1);
  EXPECT_EQ(out, (std::vector<float>{-1, 0, 0, 1, 2}));
}

TEST(KiviGroup, TiesAreEven) {
  EXPECT_EQ(rounded({0, 0.5f, 1.5f, 2.5f, 3}, 2), (std::vector<float>{0, 0, 2, 2, 3}));
}

TEST(KiviGroup, FourBitsHaveFifteenSteps) {
  std::vector<float> values;
  for (int code = 0; code < 16; ++code) values.push_back(0.25f * static_cast<float>(code) - 2);
  EXPECT_EQ(rounded(values, 4), values);
  EXPECT_NE(rounded(values, 2), values);
}

TEST(KiviGroup, ScaleAndResultAreFp16) {
  // 1 / 3 in FP16, and one step above 0 in FP16 again.
  EXPECT_EQ(rounded({0, 0.34f, 1}, 2),
            (std::vector<float>{0, 0.333251953125f, 0.99951171875f + 0.00048828125f}));
  EXPECT_EQ(rounded({1.00048828125f}, 2)[0], 1);  // halfway between two of FP16's numbers
}

TEST(KiviGroup, OfOneValueComesBack) {
  EXPECT_EQ(rounded({0.3f, 0.3f}, 2), (std::vector<float>(2, 0.300048828125f)));
  // A range that is no FP16 number when it is divided.
  EXPECT_EQ(rounded({0, 0x1p-24f}, 4), (std::vector<float>{0, 0}));
}

TEST(KiviGroup, WhatIsNoNumberTakesItsGroup) {
  for (const float value : rounded({1, std::numeric_limits<float>::quiet_NaN(), 2}, 2))
    EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace lathe
