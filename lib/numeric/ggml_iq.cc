// IQ4_XS (a table of 16 levels) and the ternary types.
#include "lib/numeric/ggml_layouts.h"

namespace lathe::ggml {
namespace {

uint8_t byte(int value) { return static_cast<uint8_t>(value); }

/// TQ1_0: byte b of the 52 that hold digits, with `count` digits in base 3; digit n is that of value
/// first + n * stride.
struct Digits {
  int first, stride, count;
};
Digits digits_of(int b) {
  if (b < 32) return {b, 32, 5};
  if (b < 48) return {160 + b - 32, 16, 5};
  return {240 + b - 48, 4, 4};
}

}  // namespace

void unpack_iq4_xs(const uint8_t* bytes, GgmlBlock& block) {
  block.d = read_half(bytes);
  const uint16_t high = read_half(bytes + 2);
  for (int j = 0; j < 8; ++j)
    block.scales[j] = byte((bytes[4 + j / 2] >> (4 * (j % 2)) & 15) | (high >> (2 * j) & 3) << 4);
  for (int j = 0; j < 8; ++j) {
    for (int l = 0; l < 16; ++l) {
      block.codes[32 * j + l] = bytes[8 + 16 * j + l] & 15;
      block.codes[32 * j + 16 + l] = bytes[8 + 16 * j + l] >> 4;
    }
  }
}
void pack_iq4_xs(const GgmlBlock& block, uint8_t* bytes) {
  write_half(block.d, bytes);
  int high = 0;
  for (int j = 0; j < 8; ++j) high |= block.scales[j] >> 4 << (2 * j);
  write_half(static_cast<uint16_t>(high), bytes + 2);
  for (int j = 0; j < 4; ++j)
    bytes[4 + j] = byte((block.scales[2 * j] & 15) | (block.scales[2 * j + 1] & 15) << 4);
  for (int j = 0; j < 8; ++j) {
    const uint8_t* c = block.codes.data() + 32 * j;
    for (int l = 0; l < 16; ++l) bytes[8 + 16 * j + l] = byte((c[l] & 15) | (c[l + 16] & 15) << 4);
  }
}

/// A byte is the fraction 0.t0 t1 t2 ... in base 3, in 256ths and rounded up: multiplied by 3^n (modulo 256)
/// it starts with digit n, and three times that has the digit above its low byte.
void unpack_tq1_0(const uint8_t* bytes, GgmlBlock& block) {
  for (int b = 0; b < 52; ++b) {
    const Digits digits = digits_of(b);
    int power = 1;
    for (int n = 0; n < digits.count; ++n, power *= 3) {
      block.codes[digits.first + n * digits.stride] = byte((bytes[b] * power & 255) * 3 >> 8);
    }
  }
  block.d = read_half(bytes + 52);
}
void pack_tq1_0(const GgmlBlock& block, uint8_t* bytes) {
  for (int b = 0; b < 52; ++b) {
    const Digits digits = digits_of(b);
    int value = 0;
    for (int n = 0; n < 5; ++n)
      value = value * 3 + (n < digits.count ? block.codes[digits.first + n * digits.stride] : 0);
    bytes[b] = byte((value * 256 + 242) / 243);
  }
  write_half(block.d, bytes + 52);
}

/// Value 128 n + 32 j + l has bits 2 j of byte 32 n + l.
void unpack_tq2_0(const uint8_t* bytes, GgmlBlock& block) {
  for (int i = 0; i < 256; ++i) block.codes[i] = bytes[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32)) & 3;
  block.d = read_half(bytes + 64);
}
void pack_tq2_0(const GgmlBlock& block, uint8_t* bytes) {
  for (int b = 0; b < 64; ++b) {
    const uint8_t* c = block.codes.data() + b / 32 * 128 + b % 32;
    bytes[b] = byte((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
  }
  write_half(block.d, bytes + 64);
}

}  // namespace lathe::ggml
