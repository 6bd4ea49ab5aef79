// Values out of codes on the CPU: threads over groups; 64 codes are loaded together, and each 16 of them
// spread over a vector of 32-bit lanes, where shifts put every code at its lane's upper end: sign first,
// wherever the format has it. (g++ 12 takes a conversion of 16 bytes to 16 integers apart.) Compiled with -O3
// -ffp-contract=off and without the precompiled header (CMakeLists.txt).
#include <ATen/Parallel.h>

#include <algorithm>

#include "lib/kernels/dequantize_rows.h"
#include "lib/kernels/lanes.h"
#include "lib/kernels/wide_clones.h"

namespace lathe::kernels::cpu {
namespace {

using device::Minifloat;
using device::ScaleZero;

constexpr int kCodes = 64;
constexpr int64_t kGrainElements = 1 << 15;

/// The codes of one quarter of 64, each in the highest byte of its lane; what is below is of no meaning.
template <int quarter, int... lane>
LATHE_INLINE IntLanes spread(const IntLanes& codes, std::integer_sequence<int, lane...>) {
  constexpr IntLanes kShifts = {(24 - 8 * (lane % 4))...};
  return __builtin_shufflevector(codes, codes, (4 * quarter + lane / 4)...) << kShifts;
}

struct Integers {
  LATHE_INLINE Lanes values(const IntLanes& codes, ScaleZero group) const {
    return (__builtin_convertvector(codes >> 24, Lanes) - group.zero) * group.scale;
  }
  LATHE_INLINE float value(int8_t code, ScaleZero group) const {
    return device::decode_value(static_cast<float>(static_cast<int32_t>(code)), group);
  }
};

/// device::code_number(), with the code at its lane's upper end.
struct Numbers {
  Minifloat format;
  int32_t to_top, to_fp32;   // shifts: of the sign, then of exponent and mantissa to their places in FP32
  int32_t magnitude;         // its bits
  int32_t normal, specials;  // the first of those that are not subnormal, not finite
  int32_t bias,
      least;  // what makes FP32's exponent; the smallest number that is not subnormal, as FP32's bits

  LATHE_INLINE explicit Numbers(const Minifloat& of)
      : format(of),
        to_top(7 - of.sign_bit),
        to_fp32(8 - (of.sign_bit - of.mantissa)),
        magnitude(((1 << of.sign_bit) - 1) << (31 - of.sign_bit)),
        normal(1 << (31 - of.sign_bit + of.mantissa)),
        specials(of.specials == 1 << of.sign_bit ? INT32_MAX : of.specials << (31 - of.sign_bit)),
        bias((of.smallest_exponent + 126) << 23),
        least((of.smallest_exponent + 127) << 23) {}

  LATHE_INLINE Lanes values(const IntLanes& codes, ScaleZero group) const {
    const IntLanes top = codes << to_top, own = top & magnitude;
    // A subnormal number: (1 + m) * 2^e, less 2^e.
    const IntLanes below = own < normal;
    const IntLanes exponent = (below & 0x00800000) + bias;
    const IntLanes beyond = (own >= specials) & 0x7f800000;
    const Lanes number = lanes_of(((own >> to_fp32) + exponent) | beyond) - lanes_of(below & least);
    return lanes_of(bits_of(number) | (top & INT32_MIN)) * group.scale;
  }
  LATHE_INLINE float value(int8_t code, ScaleZero group) const {
    return device::code_number(static_cast<uint8_t>(code), format) * group.scale;
  }
};

template <class Grid, int... quarter>
LATHE_INLINE void decode_codes(const int8_t* codes, const Grid& grid, const ScaleZero (&groups)[4], float* w,
                               std::integer_sequence<int, quarter...>) {
  IntLanes all;
  std::memcpy(&all, codes, sizeof all);
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>();
  (store(grid.values(spread<quarter>(all, kAll), groups[quarter]), w + quarter * kLanes), ...);
}

template <bool wide, class Grid>
LATHE_INLINE void decode_group(const int8_t* codes, int64_t length, const Grid& grid, ScaleZero group,
                               float* w) {
  int64_t i = 0;
  if constexpr (wide) {
    const ScaleZero same[4] = {group, group, group, group};
    for (; i + kCodes <= length; i += kCodes)
      decode_codes(codes + i, grid, same, w + i, std::make_integer_sequence<int, 4>());
  }
  for (; i < length; ++i) w[i] = grid.value(codes[i], group);
}

/// Groups of 16 or 32: several in one load. How many groups that was.
template <int length, class Grid>
LATHE_INLINE int64_t decode_short(int64_t count, const int8_t* codes, const Grid& grid,
                                  const CodeParams& groups, float* w) {
  constexpr int kTogether = kCodes / length, kQuarters = length / kLanes;
  int64_t group = 0;
  for (; group + kTogether <= count; group += kTogether) {
    ScaleZero own[4];
    for (int quarter = 0; quarter < 4; ++quarter) own[quarter] = groups.of(group + quarter / kQuarters);
    decode_codes(codes + group * length, grid, own, w + group * length, std::make_integer_sequence<int, 4>());
  }
  return group;
}

template <bool wide, class Grid>
LATHE_INLINE void decode_groups(GroupLayout layout, const CodeParams& groups, const Grid& grid,
                                const int8_t* codes, float* w) {
  const int64_t length = layout.length;
  int64_t group = 0;
  if constexpr (wide) {
    if (length == 16) group = decode_short<16>(layout.groups, codes, grid, groups, w);
    if (length == 32) group = decode_short<32>(layout.groups, codes, grid, groups, w);
  }
  for (; group < layout.groups; ++group)
    decode_group<wide>(codes + group * length, length, grid, groups.of(group), w + group * length);
}

template <bool wide>
LATHE_INLINE void decode_of(GroupLayout layout, const CodeParams& groups, const int8_t* codes, float* w) {
  if (groups.number.mantissa != 0) {
    decode_groups<wide>(layout, groups, Numbers(groups.number), codes, w);
  } else {
    decode_groups<wide>(layout, groups, Integers(), codes, w);
  }
}

LATHE_WIDE_CLONES(decode, (GroupLayout layout, const CodeParams& groups, const int8_t* codes, float* w),
                  layout, groups, codes, w)

}  // namespace

void dequantize(GroupLayout layout, CodeParams params, const int8_t* codes, float* values) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, layout.length));
  at::parallel_for(0, layout.groups, grain, [&](int64_t begin, int64_t end) {
    CodeParams part = params;
    part.scales += begin;
    if (part.zeros != nullptr) part.zeros += begin;
    const GroupLayout some{end - begin, layout.length};
    const int64_t start = begin * layout.length;
    decode(some, part, codes + start, values + start);
  });
}

}  // namespace lathe::kernels::cpu
