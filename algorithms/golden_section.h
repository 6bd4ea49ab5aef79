// Minimising a function of one variable on an interval (Kiefer, "Sequential minimax search for a maximum",
// 1953).
#pragma once

#include <cstdint>
#include <limits>

namespace lathe {

struct Minimum {
  double x = 0;
  double value = std::numeric_limits<double>::infinity();
};

/// The best point that was looked at. `evaluations` calls of f; each after the second shrinks the interval by
/// the golden ratio, 0.618. Where f has several minima it finds one of them, or misses all; a NaN counts as
/// larger than anything.
template <class F>
Minimum golden_section(double low, double high, int64_t evaluations, F&& f) {
  constexpr double kRatio = 0.6180339887498949;
  Minimum best;
  const auto look = [&](double x) {
    if (evaluations-- <= 0) return Minimum{x};
    Minimum point{x, f(x)};
    if (!(point.value == point.value)) point.value = std::numeric_limits<double>::infinity();
    if (point.value < best.value) best = point;
    return point;
  };
  Minimum left = look(high - kRatio * (high - low)), right = look(low + kRatio * (high - low));
  while (evaluations > 0) {
    if (left.value <= right.value) {
      high = right.x;
      right = left;
      left = look(high - kRatio * (high - low));
    } else {
      low = left.x;
      left = right;
      right = look(low + kRatio * (high - low));
    }
  }
  return best;
}

}  // namespace lathe
