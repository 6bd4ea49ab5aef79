// Eight codes of one byte each in a 64-bit register: to and from their dense bits, without a branch or a
// table, so that compilers work on several registers at once. code_words.cc uses them.
#pragma once

#include <bit>
#include <cstdint>

namespace lathe {

static_assert(std::endian::native == std::endian::little,
              "eight codes become bytes of a bit stream by shifts of whole registers");

/// The low bits set in each of the fields of `step` bits of a register.
constexpr uint64_t comb(int low, int step) {
  uint64_t mask = 0;
  for (int at = 0; at < 64; at += step) mask |= ((uint64_t{1} << low) - 1) << at;
  return mask;
}

/// In each part of 2 * step bits, the upper field of `width` bits moves from `step` down to the lower one.
constexpr uint64_t join(uint64_t x, int width, int step) {
  const uint64_t low = comb(width, 2 * step);
  return (x & low) | (x >> (step - width) & low << width);
}
/// The inverse.
constexpr uint64_t part(uint64_t x, int width, int step) {
  const uint64_t low = comb(width, 2 * step);
  return (x & low) | (x & low << width) << (step - width);
}

/// Eight fields of one byte each -> their 8 * kBits bits, the first in the low ones: neighbours are pushed
/// together, then pairs, then fours.
template <int kBits>
constexpr uint64_t squeeze(uint64_t x) {
  if constexpr (kBits == 8) return x;
  return join(join(join(x, kBits, 8), 2 * kBits, 16), 4 * kBits, 32);
}

/// The inverse.
template <int kBits>
constexpr uint64_t spread(uint64_t x) {
  if constexpr (kBits == 8) return x;
  return part(part(part(x, 4 * kBits, 32), 2 * kBits, 16), kBits, 8);
}

constexpr uint64_t kTopBits = comb(1, 8) << 7;

/// Adds 2^(b-1) to each of eight bytes, modulo 256.
template <int kBits>
constexpr uint64_t add_half(uint64_t x) {
  constexpr uint64_t kHalf = comb(1, 8) << (kBits - 1);
  if constexpr (kBits == 8) return x ^ kHalf;
  return ((x & ~kTopBits) + kHalf) ^ (x & kTopBits);
}
template <int kBits>
constexpr uint64_t subtract_half(uint64_t x) {
  constexpr uint64_t kHalf = comb(1, 8) << (kBits - 1);
  if constexpr (kBits == 8) return x ^ kHalf;
  return ((x | kTopBits) - kHalf) ^ kTopBits;
}

}  // namespace lathe
