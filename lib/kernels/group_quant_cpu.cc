// Group quantisation on the CPU: threads over groups, one vectorisable loop a group. The loops are compiled
// for three instruction sets and chosen when the program starts; results are the same in all (see
// device/group_quant.cuh). Compiled with -O3 -ffp-contract=off and without the precompiled header
// (CMakeLists.txt).
#include <ATen/Parallel.h>

#include <algorithm>

#include "lib/kernels/group_quant_rows.h"
#include "lib/kernels/lanes.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::cpu {
namespace {

using device::Grid;
using device::ScaleZero;

constexpr int64_t kGrainElements = 1 << 15;

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

/// In fixed lanes, since g++ won't reorder a floating-point reduction by itself, and two at a time, so that
/// one needn't wait for the other.
LATHE_CLONES void min_max_group(const float* w, int64_t length, float* lo_out, float* hi_out) {
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
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>();
  fold_lanes<8>(extent, kAll);
  fold_lanes<4>(extent, kAll);
  fold_lanes<2>(extent, kAll);
  fold_lanes<1>(extent, kAll);
  float lo = extent.lo[0], hi = extent.hi[0], spoiled = extent.spoiled[0];
  for (; i < length; ++i) {
    lo = w[i] < lo ? w[i] : lo;
    hi = w[i] > hi ? w[i] : hi;
    spoiled += w[i] * 0.0f;
  }
  *lo_out = lo + spoiled;  // spoiled is +0 or NaN, and -0 + +0 is +0
  *hi_out = hi + spoiled;
}

LATHE_CLONES void encode_group(const float* w, int64_t length, float scale, float zero, float qmin,
                               float qmax, int8_t* codes) {
  for (int64_t i = 0; i < length; ++i) {
    codes[i] =
        static_cast<int8_t>(static_cast<int32_t>(device::encode_value(w[i], {scale, zero}, qmin, qmax)));
  }
}

LATHE_CLONES void fake_quantize_group(const float* w, int64_t length, float scale, float zero, float qmin,
                                      float qmax, float* result) {
  for (int64_t i = 0; i < length; ++i) {
    result[i] = device::decode_value(device::encode_value(w[i], {scale, zero}, qmin, qmax), {scale, zero});
  }
}

LATHE_CLONES void encode_numbers(const float* w, int64_t length, float scale, device::Minifloat number,
                                 int8_t* codes) {
  for (int64_t i = 0; i < length; ++i)
    codes[i] = static_cast<int8_t>(device::encode_number(w[i], scale, number));
}

LATHE_CLONES void round_numbers(const float* w, int64_t length, float scale, device::Minifloat number,
                                float* result) {
  for (int64_t i = 0; i < length; ++i) result[i] = device::round_on_grid(w[i], scale, number);
}

template <class Body>
void for_each_group(GroupLayout layout, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, layout.length));
  at::parallel_for(0, layout.groups, grain, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) body(group, group * layout.length);
  });
}

float zero_of(const int8_t* zeros, int64_t group) {
  return zeros == nullptr ? 0.0f : static_cast<float>(static_cast<int32_t>(zeros[group]));
}

}  // namespace

void min_max(GroupLayout layout, const float* weight, float* lo, float* hi) {
  for_each_group(layout, [&](int64_t group, int64_t start) {
    min_max_group(weight + start, layout.length, lo + group, hi + group);
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
  if (grid.floats()) {
    for_each_group(layout, [&](int64_t group, int64_t start) {
      encode_numbers(weight + start, layout.length, scales[group], grid.number, codes + start);
    });
    return;
  }
  for_each_group(layout, [&](int64_t group, int64_t start) {
    encode_group(weight + start, layout.length, scales[group], zero_of(zeros, group), grid.qmin, grid.qmax,
                 codes + start);
  });
}

void fake_quantize(GroupLayout layout, Grid grid, const float* weight, const float* scales,
                   const int8_t* zeros, float* result) {
  if (grid.floats()) {
    for_each_group(layout, [&](int64_t group, int64_t start) {
      round_numbers(weight + start, layout.length, scales[group], grid.number, result + start);
    });
    return;
  }
  for_each_group(layout, [&](int64_t group, int64_t start) {
    fake_quantize_group(weight + start, layout.length, scales[group], zero_of(zeros, group), grid.qmin,
                        grid.qmax, result + start);
  });
}

}  // namespace lathe::kernels::cpu
