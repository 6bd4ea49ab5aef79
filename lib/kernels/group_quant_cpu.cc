// Group quantisation on the CPU: threads over groups, one vectorisable loop a group. The loops are compiled
// for three instruction sets and chosen when the program starts; results are the same in all (see
// device/group_quant.cuh). Compiled with -O3 -ffp-contract=off and without the precompiled header
// (CMakeLists.txt).
#include <ATen/Parallel.h>

#include <algorithm>

#include "lib/kernels/group_quant_rows.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::cpu {
namespace {

using device::Grid;
using device::ScaleZero;

constexpr int kLanes = 16;
constexpr int64_t kGrainElements = 1 << 15;

/// Minimum and maximum in fixed lanes, since g++ won't reorder a floating-point reduction by itself. 0 * x is
/// NaN for a NaN or an infinity: `spoiled` remembers them, which comparisons would forget.
LATHE_CLONES void min_max_group(const float* w, int64_t length, float* lo_out, float* hi_out) {
  float lo[kLanes], hi[kLanes], spoiled[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    lo[lane] = hi[lane] = w[0];
    spoiled[lane] = 0;
  }
  int64_t i = 0;
  for (; i + kLanes <= length; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float x = w[i + lane];
      lo[lane] = x < lo[lane] ? x : lo[lane];
      hi[lane] = x > hi[lane] ? x : hi[lane];
      spoiled[lane] += x * 0.0f;
    }
  }
  for (; i < length; ++i) {
    lo[0] = w[i] < lo[0] ? w[i] : lo[0];
    hi[0] = w[i] > hi[0] ? w[i] : hi[0];
    spoiled[0] += w[i] * 0.0f;
  }
  for (int lane = 1; lane < kLanes; ++lane) {
    lo[0] = lo[lane] < lo[0] ? lo[lane] : lo[0];
    hi[0] = hi[lane] > hi[0] ? hi[lane] : hi[0];
    spoiled[0] += spoiled[lane];
  }
  *lo_out = lo[0] + spoiled[0];  // spoiled is +0 or NaN, and -0 + +0 is +0
  *hi_out = hi[0] + spoiled[0];
}

LATHE_CLONES void encode_group(const float* w, int64_t length, float scale, float zero, float qmin,
                               float qmax, int8_t* codes) {
  for (int64_t i = 0; i < length; ++i) {
    codes[i] =
        static_cast<int8_t>(static_cast<int32_t>(device::encode_value(w[i], {scale, zero}, qmin, qmax)));
  }
}

LATHE_CLONES void decode_group(const int8_t* codes, int64_t length, float scale, float zero, float* w) {
  for (int64_t i = 0; i < length; ++i) {
    w[i] = device::decode_value(static_cast<float>(static_cast<int32_t>(codes[i])), {scale, zero});
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

void decode(GroupLayout layout, const int8_t* codes, const float* scales, const int8_t* zeros,
            float* weight) {
  for_each_group(layout, [&](int64_t group, int64_t start) {
    decode_group(codes + start, layout.length, scales[group], zero_of(zeros, group), weight + start);
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
