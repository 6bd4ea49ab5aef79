// Group quantisation on the CPU: threads over groups, 16 values at a time. The loops are compiled for three
// instruction sets and chosen when the program starts; results are the same in all, and as
// device/group_quant.cuh and device/float_grid.cuh have them for one value. Compiled with -O3
// -ffp-contract=off and without the precompiled header (CMakeLists.txt).
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "lib/kernels/group_quant_rows.h"
#include "lib/kernels/lanes.h"
#include "lib/kernels/wide_clones.h"

namespace lathe::kernels::cpu {
namespace {

using device::Grid;
using device::ScaleZero;

constexpr int64_t kGrainElements = 1 << 15;
/// How far ahead of what they read short groups' loops ask for memory, in values: so much work lies between
/// two loads that the processor comes upon the next ones too late (54 to 82 % of a copy's rate for the ranges
/// of groups of 32).
constexpr int64_t kAhead = 1024;
constexpr auto kAll = std::make_integer_sequence<int, kLanes>();

/// What is known of some values: the least and the largest, lane by lane. 0 * x is NaN for a NaN or an
/// infinity: `spoiled` remembers them, which comparisons would forget.
struct Extent {
  Lanes lo, hi, spoiled;
};

LATHE_INLINE void add_lanes(Extent& extent, const float* w) {
  const Lanes x = load(w);
  extent.lo = x < extent.lo ? x : extent.lo;
  extent.hi = x > extent.hi ? x : extent.hi;
  extent.spoiled += x * 0.0f;
}

/// Every lane becomes what is known of it and of the lane `distance` farther on.
template <int distance, int... lane>
LATHE_INLINE void fold_lanes(Extent& extent, std::integer_sequence<int, lane...>) {
  const Lanes lo = __builtin_shufflevector(extent.lo, extent.lo, ((lane + distance) % kLanes)...);
  const Lanes hi = __builtin_shufflevector(extent.hi, extent.hi, ((lane + distance) % kLanes)...);
  extent.lo = lo < extent.lo ? lo : extent.lo;
  extent.hi = hi > extent.hi ? hi : extent.hi;
  extent.spoiled += __builtin_shufflevector(extent.spoiled, extent.spoiled, ((lane + distance) % kLanes)...);
}

LATHE_INLINE void fold_all(Extent& extent) {
  fold_lanes<8>(extent, kAll);
  fold_lanes<4>(extent, kAll);
  fold_lanes<2>(extent, kAll);
  fold_lanes<1>(extent, kAll);
}

/// In fixed lanes, since g++ won't reorder a floating-point reduction by itself, and two at a time, so that
/// one needn't wait for the other.
LATHE_INLINE void min_max_group(const float* w, int64_t length, float* lo_out, float* hi_out) {
  Extent extent{Lanes{} + w[0], Lanes{} + w[0], Lanes{}}, other = extent;
  int64_t i = 0;
  for (; i + 2 * kLanes <= length; i += 2 * kLanes) {
    add_lanes(extent, w + i);
    add_lanes(other, w + i + kLanes);
  }
  if (i + kLanes <= length) {
    add_lanes(extent, w + i);
    i += kLanes;
  }
  extent.lo = other.lo < extent.lo ? other.lo : extent.lo;
  extent.hi = other.hi > extent.hi ? other.hi : extent.hi;
  extent.spoiled += other.spoiled;
  fold_all(extent);
  float lo = extent.lo[0], hi = extent.hi[0], spoiled = extent.spoiled[0];
  for (; i < length; ++i) {
    lo = w[i] < lo ? w[i] : lo;
    hi = w[i] > hi ? w[i] : hi;
    spoiled += w[i] * 0.0f;
  }
  *lo_out = lo + spoiled;  // spoiled is +0 or NaN, and -0 + +0 is +0
  *hi_out = hi + spoiled;
}

/// Lanes without the bit `step` are a's, the others b's.
template <int step, int... lane>
LATHE_INLINE Lanes own_lanes(const Lanes& a, const Lanes& b, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(a, b, ((lane & step) != 0 ? kLanes + lane : lane)...);
}

/// The same of the lanes that are `step` away.
template <int step, int... lane>
LATHE_INLINE Lanes other_lanes(const Lanes& a, const Lanes& b, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(a, b, ((lane & step) != 0 ? kLanes + lane - step : lane + step)...);
}

/// Two sets of groups that lie `step` apart, in one vector. `spoiled` is of them all.
template <int step>
LATHE_INLINE Extent together(const Extent& a, const Extent& b) {
  const Lanes lo = own_lanes<step>(a.lo, b.lo, kAll), low = other_lanes<step>(a.lo, b.lo, kAll);
  const Lanes hi = own_lanes<step>(a.hi, b.hi, kAll), high = other_lanes<step>(a.hi, b.hi, kAll);
  return {low < lo ? low : lo, high > hi ? high : hi, a.spoiled + b.spoiled};
}

/// Of neighbouring groups, a power of two: what is known of group g is in the lanes whose number's low bits
/// are g.
template <int groups, int length>
LATHE_INLINE Extent extent_of(const float* w) {
  if constexpr (groups == 1) {
    for (int i = 0; i < length; i += kLanes) __builtin_prefetch(w + i + kAhead);
    const Lanes first = load(w);
    Extent extent{first, first, first * 0.0f};
    for (int i = kLanes; i < length; i += kLanes) add_lanes(extent, w + i);
    return extent;
  } else {
    constexpr int kHalf = groups / 2;
    const Extent first = extent_of<kHalf, length>(w);  // in the order in which they lie
    return together<kHalf>(first, extent_of<kHalf, length>(w + kHalf * length));
  }
}

/// 16 short groups at a time, so that their lanes fold together: a vector of their 16 ends is what remains.
/// How many groups that was.
template <int length>
LATHE_INLINE int64_t min_max_short(int64_t groups, const float* w, float* lo, float* hi) {
  int64_t group = 0;
  for (; group + kLanes <= groups; group += kLanes) {
    const Extent ends = extent_of<kLanes, length>(w + group * length);
    Extent all = ends;
    fold_all(all);
    if (all.spoiled[0] != 0) {  // NaN, and one knows not whose
      for (int64_t k = group; k < group + kLanes; ++k) min_max_group(w + k * length, length, lo + k, hi + k);
      continue;
    }
    store(ends.lo + 0.0f, lo + group);  // -0 becomes +0
    store(ends.hi + 0.0f, hi + group);
  }
  return group;
}

template <bool wide>
LATHE_INLINE void min_max_groups_of(GroupLayout layout, const float* w, float* lo, float* hi) {
  const int64_t length = layout.length;
  int64_t group = 0;
  if constexpr (wide) {
    if (length == 16) group = min_max_short<16>(layout.groups, w, lo, hi);
    if (length == 32) group = min_max_short<32>(layout.groups, w, lo, hi);
    if (length == 64) group = min_max_short<64>(layout.groups, w, lo, hi);
    if (length == 128) group = min_max_short<128>(layout.groups, w, lo, hi);
  }
  for (; group < layout.groups; ++group) min_max_group(w + group * length, length, lo + group, hi + group);
}

LATHE_WIDE_CLONES(min_max_groups, (GroupLayout layout, const float* w, float* lo, float* hi), layout, w, lo,
                  hi)

struct Groups {
  const float* scales;
  const int8_t* zeros;  // null for 0
  const float* global;  // by which scales are multiplied first, or null
  LATHE_INLINE ScaleZero of(int64_t group) const {
    return {global == nullptr ? scales[group] : scales[group] * *global,
            zeros == nullptr ? 0.0f : static_cast<float>(static_cast<int32_t>(zeros[group]))};
  }
};

/// device::encode_value() of 16 weights, as an integer in a float.
LATHE_INLINE Lanes integer_lanes(const Lanes& w, ScaleZero group, const Grid& grid) {
  constexpr float kMagic = 12582912.0f;  // as in round_half_even()
  const float lo = grid.qmin - group.zero, hi = grid.qmax - group.zero;
  const Lanes x = w / group.scale, below = x < hi ? x : Lanes{} + hi;
  return (((x > lo ? below : Lanes{} + lo) + kMagic) - kMagic) + group.zero;
}

struct EncodeIntegers {
  using Out = int8_t;
  Grid grid;
  LATHE_INLINE void lanes(const float* w, ScaleZero group, int8_t* codes) const {
    store(__builtin_convertvector(integer_lanes(load(w), group, grid), IntLanes), codes);
  }
  LATHE_INLINE int8_t one(float w, ScaleZero group) const {
    return static_cast<int8_t>(static_cast<int32_t>(device::encode_value(w, group, grid.qmin, grid.qmax)));
  }
};

struct RoundIntegers {
  using Out = float;
  Grid grid;
  LATHE_INLINE void lanes(const float* w, ScaleZero group, float* result) const {
    store((integer_lanes(load(w), group, grid) - group.zero) * group.scale, result);
  }
  LATHE_INLINE float one(float w, ScaleZero group) const {
    return device::decode_value(device::encode_value(w, group, grid.qmin, grid.qmax), group);
  }
};

/// device::rounding_of() of 16 numbers.
struct NumberLanes {
  device::Minifloat format;

  struct Rounding {
    IntLanes sign, binade, shift;  // shift: a float's bits
    Lanes sum;                     // of the magnitude and shift
  };
  LATHE_INLINE Rounding rounding(const Lanes& x) const {
    const Lanes largest = Lanes{} + format.largest, own = lanes_of(bits_of(x) & INT32_MAX);
    const Lanes magnitude = own > largest ? largest : own;
    const IntLanes binade = bits_of(magnitude) & 0x7f800000, lowest = IntLanes{} + least();
    Rounding rounding;
    rounding.sign = bits_of(x) & INT32_MIN;
    rounding.binade = binade > lowest ? binade : lowest;
    rounding.shift = rounding.binade + (((23 - format.mantissa) << 23) | 0x00400000);  // 1.5 times the power
    rounding.sum = magnitude + lanes_of(rounding.shift);
    return rounding;
  }
  LATHE_INLINE int32_t least() const { return (format.smallest_exponent + 127) << 23; }
};

struct EncodeNumbers {
  using Out = int8_t;
  NumberLanes number;
  LATHE_INLINE void lanes(const float* w, ScaleZero group, int8_t* codes) const {
    const NumberLanes::Rounding rounding = number.rounding(load(w) / group.scale);
    const IntLanes steps = bits_of(rounding.sum) - rounding.shift;
    const IntLanes code = ((rounding.binade - number.least()) >> (23 - number.format.mantissa)) + steps;
    const int32_t sign_bit = number.format.sign_bit;
    store(code | ((rounding.sign >> (31 - sign_bit)) & (1 << sign_bit)), codes);
  }
  LATHE_INLINE int8_t one(float w, ScaleZero group) const {
    return static_cast<int8_t>(device::encode_number(w, group.scale, number.format));
  }
};

struct RoundNumbers {
  using Out = float;
  NumberLanes number;
  LATHE_INLINE void lanes(const float* w, ScaleZero group, float* result) const {
    const NumberLanes::Rounding rounding = number.rounding(load(w) / group.scale);
    const Lanes nearest = rounding.sum - lanes_of(rounding.shift);
    store(lanes_of(bits_of(nearest) | rounding.sign) * group.scale, result);
  }
  LATHE_INLINE float one(float w, ScaleZero group) const {
    return device::round_on_grid(w, group.scale, number.format);
  }
};

template <bool wide, class Map>
LATHE_INLINE void map_group(int64_t length, ScaleZero group, const Map& map, const float* w,
                            typename Map::Out* out) {
  int64_t i = 0;
  if constexpr (wide) {
    for (; i + kLanes <= length; i += kLanes) {
      // A loop that writes as many bytes as it reads waits for its stores.
      if constexpr (sizeof(typename Map::Out) == 1) __builtin_prefetch(w + i + kAhead);
      map.lanes(w + i, group, out + i);
    }
  }
  for (; i < length; ++i) out[i] = map.one(w[i], group);
}

/// A group of 16 is one vector, with no loop around it.
template <bool wide, class Map>
LATHE_INLINE void map_groups(GroupLayout layout, const Groups& groups, const Map& map, const float* w,
                             typename Map::Out* out) {
  const int64_t length = layout.length;
  if (length == kLanes) {
    for (int64_t group = 0; group < layout.groups; ++group)
      map_group<wide>(kLanes, groups.of(group), map, w + group * kLanes, out + group * kLanes);
    return;
  }
  for (int64_t group = 0; group < layout.groups; ++group)
    map_group<wide>(length, groups.of(group), map, w + group * length, out + group * length);
}

template <bool wide>
LATHE_INLINE void encode_groups_of(GroupLayout layout, const Grid& grid, const Groups& groups, const float* w,
                                   int8_t* codes) {
  if (grid.floats()) {
    map_groups<wide>(layout, groups, EncodeNumbers{{grid.number}}, w, codes);
  } else {
    map_groups<wide>(layout, groups, EncodeIntegers{grid}, w, codes);
  }
}

template <bool wide>
LATHE_INLINE void round_groups_of(GroupLayout layout, const Grid& grid, const Groups& groups, const float* w,
                                  float* result) {
  if (grid.floats()) {
    map_groups<wide>(layout, groups, RoundNumbers{{grid.number}}, w, result);
  } else {
    map_groups<wide>(layout, groups, RoundIntegers{grid}, w, result);
  }
}

LATHE_WIDE_CLONES(encode_groups,
                  (GroupLayout layout, const Grid& grid, const Groups& groups, const float* w, int8_t* codes),
                  layout, grid, groups, w, codes)
LATHE_WIDE_CLONES(round_groups,
                  (GroupLayout layout, const Grid& grid, const Groups& groups, const float* w, float* result),
                  layout, grid, groups, w, result)

/// body(a part of the groups, the first of them, their first value's place)
template <class Body>
void for_each_part(GroupLayout layout, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, layout.length));
  at::parallel_for(0, layout.groups, grain, [&](int64_t begin, int64_t end) {
    body(GroupLayout{end - begin, layout.length}, begin, begin * layout.length);
  });
}

Groups groups_from(int64_t group, const Grid& grid, const float* scales, const int8_t* zeros) {
  return {scales + group, zeros == nullptr ? nullptr : zeros + group, grid.global};
}

}  // namespace

void min_max(GroupLayout layout, const float* weight, float* lo, float* hi) {
  for_each_part(layout, [&](GroupLayout part, int64_t group, int64_t start) {
    min_max_groups(part, weight + start, lo + group, hi + group);
  });
}

void params(GroupLayout layout, Grid grid, const float* lo, const float* hi, float* scales, int8_t* zeros) {
  for (int64_t group = 0; group < layout.groups; ++group) {
    const ScaleZero chosen = device::choose_scale_zero(lo[group], hi[group], grid);
    scales[group] = chosen.scale;
    if (zeros != nullptr) zeros[group] = static_cast<int8_t>(static_cast<int32_t>(chosen.zero));
  }
}

void encode(GroupLayout layout, Grid grid, const float* weight, const float* scales, const int8_t* zeros,
            int8_t* codes) {
  for_each_part(layout, [&](GroupLayout part, int64_t group, int64_t start) {
    encode_groups(part, grid, groups_from(group, grid, scales, zeros), weight + start, codes + start);
  });
}

void fake_quantize(GroupLayout layout, Grid grid, const float* weight, const float* scales,
                   const int8_t* zeros, float* result) {
  for_each_part(layout, [&](GroupLayout part, int64_t group, int64_t start) {
    round_groups(part, grid, groups_from(group, grid, scales, zeros), weight + start, result + start);
  });
}

}  // namespace lathe::kernels::cpu
