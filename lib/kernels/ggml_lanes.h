// Vectors of 16 lanes for the search of ggml's blocks. A lane is one sub-block, so no sum ever crosses lanes
// and every instruction set gives the same bits (compile without contraction to FMA). Inlined into functions
// that are LATHE_CLONES.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "lib/kernels/lanes.h"

namespace lathe::kernels::ggml {

LATHE_INLINE Lanes splat(float v) { return Lanes{v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v}; }
LATHE_INLINE Lanes larger(const Lanes& a, const Lanes& b) { return a > b ? a : b; }
LATHE_INLINE Lanes smaller(const Lanes& a, const Lanes& b) { return a < b ? a : b; }

/// 1 / v; 0 where v is so small that nothing divided by it need be finite.
LATHE_INLINE Lanes inverse_of(const Lanes& v) {
  constexpr float kTiny = 1e-30f;
  const Lanes safe = v * v > kTiny * kTiny ? v : splat(1);
  return v * v > kTiny * kTiny ? 1.0f / safe : Lanes{};
}

/// a / b; 0 where b is not positive.
LATHE_INLINE Lanes ratio(const Lanes& a, const Lanes& b) {
  return b > 0 ? a / (b > 0 ? b : splat(1)) : Lanes{};
}

/// To the nearest whole number, ties to even; |v| < 2^22.
LATHE_INLINE Lanes rounded(const Lanes& v) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction
  return (v + kRound) - kRound;
}

/// One step of a transposition: lanes whose number has the bit `step` set change places with those of the row
/// `step` farther on that have not.
template <int step, int... lane>
LATHE_INLINE void swap_lanes(Lanes& a, Lanes& b, std::integer_sequence<int, lane...>) {
  const Lanes first = __builtin_shufflevector(a, b, ((lane & step) != 0 ? kLanes + lane - step : lane)...);
  b = __builtin_shufflevector(a, b, ((lane & step) != 0 ? kLanes + lane : lane + step)...);
  a = first;
}

template <int step>
LATHE_INLINE void swap_rows(Lanes* rows) {
  for (int i = 0; i < kLanes; ++i) {
    if ((i & step) == 0) swap_lanes<step>(rows[i], rows[i + step], std::make_integer_sequence<int, kLanes>());
  }
}

/// 16 rows become 16 columns.
LATHE_INLINE void transpose(Lanes* rows) {
  swap_rows<1>(rows);
  swap_rows<2>(rows);
  swap_rows<4>(rows);
  swap_rows<8>(rows);
}

/// Levels lo, lo + 1, ..., hi; a code is its level + offset.
struct Uniform {
  float lo, hi, offset;

  LATHE_INLINE Lanes nearest(const Lanes& v) const {
    return rounded(smaller(larger(v, splat(lo)), splat(hi)));
  }
  LATHE_INLINE Lanes place(const Lanes& v) const { return nearest(v) + offset; }
  LATHE_INLINE uint8_t code(int place) const { return static_cast<uint8_t>(place); }
  LATHE_INLINE float bottom() const { return lo; }
  LATHE_INLINE float top() const { return hi; }
};

/// A type's levels in ascending order, each once, with its code, and the middles between neighbours.
struct SortedLevels {
  int count = 0;
  float levels[16] = {}, middles[16] = {}, steps[16] = {};
  uint8_t codes[16] = {};

  explicit constexpr SortedLevels(const std::array<int8_t, 16>& by_code) {
    for (int level = -128; level < 128; ++level) {
      for (uint8_t code = 16; code-- > 0;) {
        if (by_code[code] != level) continue;
        levels[count] = static_cast<float>(level);
        codes[count] = code;  // 0 rather than -0
        if (code == 0 || std::find(by_code.begin(), by_code.begin() + code, level) == by_code.begin() + code)
          ++count;
      }
    }
    for (int k = 0; k + 1 < count; ++k) {
      middles[k] = 0.5f * (levels[k] + levels[k + 1]);
      steps[k] = levels[k + 1] - levels[k];
    }
  }
};

/// Between two levels, the nearer one. place() is a level's number in ascending order.
template <const std::array<int8_t, 16>& by_code>
struct Table {
  static constexpr SortedLevels kSorted{by_code};

  using Middles = std::make_integer_sequence<int, kSorted.count - 1>;

  LATHE_INLINE Lanes nearest(const Lanes& v) const { return nearest(v, Middles()); }
  LATHE_INLINE Lanes place(const Lanes& v) const { return place(v, Middles()); }
  LATHE_INLINE uint8_t code(int place) const { return kSorted.codes[place]; }
  LATHE_INLINE float bottom() const { return kSorted.levels[0]; }
  LATHE_INLINE float top() const { return kSorted.levels[kSorted.count - 1]; }

 private:
  // Unrolled by the language: GCC 12 makes slow code of its own unrolling of vectors' constants.
  template <int... k>
  LATHE_INLINE static Lanes nearest(const Lanes& v, std::integer_sequence<int, k...>) {
    Lanes level = splat(kSorted.levels[0]);
    ((level += v > splat(kSorted.middles[k]) ? splat(kSorted.steps[k]) : Lanes{}), ...);
    return level;
  }
  template <int... k>
  LATHE_INLINE static Lanes place(const Lanes& v, std::integer_sequence<int, k...>) {
    Lanes place{};
    ((place += v > splat(kSorted.middles[k]) ? splat(1) : Lanes{}), ...);
    return place;
  }
};

}  // namespace lathe::kernels::ggml
