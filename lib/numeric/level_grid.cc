#include "lib/numeric/level_grid.h"

#include <cmath>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// Subnormals m * 2^(1 - bias - mantissa_bits), then normals up to and including `largest`.
LevelGrid minifloat(std::string name, int mantissa_bits, int bias, double largest) {
  LevelGrid grid{std::move(name), {}, false};
  const int steps = 1 << mantissa_bits;
  for (int m = 0; m < steps; ++m) grid.levels.push_back(std::ldexp(m, 1 - bias - mantissa_bits));
  for (int exponent = 1; grid.levels.back() < largest; ++exponent) {
    for (int m = 0; m < steps && grid.levels.back() < largest; ++m)
      grid.levels.push_back(std::ldexp(steps + m, exponent - bias - mantissa_bits));
  }
  return grid;
}

}  // namespace

LevelGrid integer_levels(int bits) {
  LATHE_ASSERT(bits >= 2 && bits <= 16, "a grid of {} bits", bits);
  LevelGrid grid{fmt::format("int{}", bits), {}, true};
  for (int level = 0; level < 1 << (bits - 1); ++level) grid.levels.push_back(level);
  return grid;
}

LevelGrid fp8_e4m3_levels() { return minifloat("fp8_e4m3", 3, 7, 448); }
LevelGrid fp8_e5m2_levels() { return minifloat("fp8_e5m2", 2, 15, 57344); }

}  // namespace lathe
