// Vectors of 16 lanes, for loops that g++ would not vectorise as wished: always inlined, into functions that
// are LATHE_CLONES or, better, LATHE_WIDE_CLONES. A number that all lanes share is best an operand as it
// stands: g++ 12 fills a vector of 16 times v lane by lane.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace lathe::kernels {

#define LATHE_INLINE inline __attribute__((always_inline))

inline constexpr int kLanes = 16;
using Lanes = float __attribute__((vector_size(4 * kLanes)));
using IntLanes = int32_t __attribute__((vector_size(4 * kLanes)));
using ByteLanes = int8_t __attribute__((vector_size(kLanes)));

LATHE_INLINE Lanes load(const float* values) {
  Lanes lanes;
  std::memcpy(&lanes, values, sizeof lanes);
  return lanes;
}
LATHE_INLINE void store(const Lanes& lanes, float* values) { std::memcpy(values, &lanes, sizeof lanes); }
/// The low byte of each.
LATHE_INLINE void store(const IntLanes& lanes, int8_t* bytes) {
  const ByteLanes low = __builtin_convertvector(lanes, ByteLanes);
  std::memcpy(bytes, &low, sizeof low);
}

/// The same bits.
LATHE_INLINE IntLanes bits_of(const Lanes& lanes) { return reinterpret_cast<IntLanes>(lanes); }
LATHE_INLINE Lanes lanes_of(const IntLanes& bits) { return reinterpret_cast<Lanes>(bits); }

}  // namespace lathe::kernels
