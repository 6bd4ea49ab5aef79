// The magnitudes that a symmetric number format can represent, for choosing a clip: what lies beyond the
// largest is clipped to it.
#pragma once

#include <string>
#include <vector>

#include "lib/numeric/float_format.h"

namespace lathe {

struct LevelGrid {
  std::string name;            // "int8", "fp8_e4m3"
  std::vector<double> levels;  // ascending from 0; only their ratios matter, since a scale multiplies them
  bool uniform = false;        // 0, 1, 2, ...

  double largest() const { return levels.back(); }
};

/// 0 .. 2^(bits-1) - 1: the symmetric integers without the one that has no opposite. bits: 2 to 16.
LevelGrid integer_levels(int bits);
/// The finite magnitudes of a floating-point format.
LevelGrid float_levels(const FloatFormat& format);
/// OCP FP8 E4M3 (no infinity): largest 448, subnormals from 2^-9.
LevelGrid fp8_e4m3_levels();
/// OCP FP8 E5M2: largest 57344, subnormals from 2^-16.
LevelGrid fp8_e5m2_levels();

}  // namespace lathe
