#include "lib/numeric/level_grid.h"

#include <cmath>

#include "lib/base/error.h"

namespace lathe {

LevelGrid integer_levels(int bits) {
  LATHE_ASSERT(bits >= 2 && bits <= 16, "a grid of {} bits", bits);
  LevelGrid grid{fmt::format("int{}", bits), {}, true};
  for (int level = 0; level < 1 << (bits - 1); ++level) grid.levels.push_back(level);
  return grid;
}

LevelGrid float_levels(const FloatFormat& format) {
  LevelGrid grid{std::string(format.name), {}, false};
  for (int code = 0; code < format.sign(); ++code) {
    const double level = decode_float(format, static_cast<uint8_t>(code));
    if (std::isfinite(level)) grid.levels.push_back(level);
  }
  return grid;
}

LevelGrid fp8_e4m3_levels() { return float_levels(kE4M3); }
LevelGrid fp8_e5m2_levels() { return float_levels(kE5M2); }

}  // namespace lathe
