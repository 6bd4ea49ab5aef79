// Super-blocks of 256 values in sub-blocks of 16 or 32, each with a scale code (and a minimum code).
#include "lib/numeric/ggml_layouts.h"

namespace lathe::ggml {
namespace {

constexpr int kSuper = 256;

uint8_t byte(int value) { return static_cast<uint8_t>(value); }

/// Two bits of each value: 128 values share 32 bytes; value 128 n + 32 j + l has bits 2 j of byte 32 n + l.
void read_pairs(const uint8_t* qs, uint8_t* codes) {
  for (int i = 0; i < kSuper; ++i) codes[i] = qs[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32)) & 3;
}
void write_pairs(const uint8_t* codes, uint8_t* qs) {
  for (int b = 0; b < 64; ++b) {
    const uint8_t* c = codes + b / 32 * 128 + b % 32;
    qs[b] = byte((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
  }
}

/// Four bits of each value: 64 values share 32 bytes, the first 32 of them in the low halves.
void read_nibbles(const uint8_t* qs, uint8_t* codes) {
  for (int c = 0; c < 4; ++c) {
    for (int l = 0; l < 32; ++l) {
      codes[64 * c + l] = qs[32 * c + l] & 15;
      codes[64 * c + 32 + l] = qs[32 * c + l] >> 4;
    }
  }
}
void write_nibbles(const uint8_t* codes, uint8_t* qs) {
  for (int c = 0; c < 4; ++c) {
    for (int l = 0; l < 32; ++l)
      qs[32 * c + l] = byte((codes[64 * c + l] & 15) | (codes[64 * c + 32 + l] & 15) << 4);
  }
}

/// Eight scales and minima of 6 bits in 12 bytes: those of sub-blocks 0 to 3 in the low 6 bits of bytes 0 to
/// 3 and 4 to 7; those of 4 to 7 with their low 4 bits in bytes 8 to 11 and the others atop the former.
void read_scales_mins(const uint8_t* bytes, GgmlBlock& block) {
  for (int j = 0; j < 4; ++j) {
    block.scales[j] = bytes[j] & 63;
    block.mins[j] = bytes[j + 4] & 63;
    block.scales[j + 4] = byte((bytes[j + 8] & 15) | bytes[j] >> 6 << 4);
    block.mins[j + 4] = byte(bytes[j + 8] >> 4 | bytes[j + 4] >> 6 << 4);
  }
}
void write_scales_mins(const GgmlBlock& block, uint8_t* bytes) {
  for (int j = 0; j < 4; ++j) {
    bytes[j] = byte(block.scales[j] | block.scales[j + 4] >> 4 << 6);
    bytes[j + 4] = byte(block.mins[j] | block.mins[j + 4] >> 4 << 6);
    bytes[j + 8] = byte((block.scales[j + 4] & 15) | (block.mins[j + 4] & 15) << 4);
  }
}

}  // namespace

void unpack_q2_k(const uint8_t* bytes, GgmlBlock& block) {
  for (int j = 0; j < 16; ++j) {
    block.scales[j] = bytes[j] & 15;
    block.mins[j] = bytes[j] >> 4;
  }
  read_pairs(bytes + 16, block.codes.data());
  block.d = read_half(bytes + 80);
  block.dmin = read_half(bytes + 82);
}
void pack_q2_k(const GgmlBlock& block, uint8_t* bytes) {
  for (int j = 0; j < 16; ++j) bytes[j] = byte(block.scales[j] | block.mins[j] << 4);
  write_pairs(block.codes.data(), bytes + 16);
  write_half(block.d, bytes + 80);
  write_half(block.dmin, bytes + 82);
}

void unpack_q3_k(const uint8_t* bytes, GgmlBlock& block) {
  const uint8_t* high = bytes;
  const uint8_t* scales = bytes + 96;
  read_pairs(bytes + 32, block.codes.data());
  for (int i = 0; i < kSuper; ++i) block.codes[i] |= byte((high[i % 32] >> (i / 32) & 1) << 2);
  for (int j = 0; j < 16; ++j) {
    const int low = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4;
    block.scales[j] = byte(low | (scales[8 + j % 4] >> (2 * (j / 4)) & 3) << 4);
  }
  block.d = read_half(bytes + 108);
}
void pack_q3_k(const GgmlBlock& block, uint8_t* bytes) {
  uint8_t* scales = bytes + 96;
  for (int l = 0; l < 32; ++l) {
    int high = 0;
    for (int g = 0; g < 8; ++g) high |= (block.codes[32 * g + l] >> 2 & 1) << g;
    bytes[l] = byte(high);
  }
  write_pairs(block.codes.data(), bytes + 32);
  for (int j = 0; j < 8; ++j) scales[j] = byte((block.scales[j] & 15) | (block.scales[j + 8] & 15) << 4);
  for (int j = 0; j < 4; ++j) {
    scales[8 + j] = byte(block.scales[j] >> 4 | block.scales[j + 4] >> 4 << 2 |
                         block.scales[j + 8] >> 4 << 4 | block.scales[j + 12] >> 4 << 6);
  }
  write_half(block.d, bytes + 108);
}

void unpack_q4_k(const uint8_t* bytes, GgmlBlock& block) {
  block.d = read_half(bytes);
  block.dmin = read_half(bytes + 2);
  read_scales_mins(bytes + 4, block);
  read_nibbles(bytes + 16, block.codes.data());
}
void pack_q4_k(const GgmlBlock& block, uint8_t* bytes) {
  write_half(block.d, bytes);
  write_half(block.dmin, bytes + 2);
  write_scales_mins(block, bytes + 4);
  write_nibbles(block.codes.data(), bytes + 16);
}

void unpack_q5_k(const uint8_t* bytes, GgmlBlock& block) {
  block.d = read_half(bytes);
  block.dmin = read_half(bytes + 2);
  read_scales_mins(bytes + 4, block);
  read_nibbles(bytes + 48, block.codes.data());
  for (int i = 0; i < kSuper; ++i) block.codes[i] |= byte((bytes[16 + i % 32] >> (i / 32) & 1) << 4);
}
void pack_q5_k(const GgmlBlock& block, uint8_t* bytes) {
  write_half(block.d, bytes);
  write_half(block.dmin, bytes + 2);
  write_scales_mins(block, bytes + 4);
  for (int l = 0; l < 32; ++l) {
    int high = 0;
    for (int g = 0; g < 8; ++g) high |= (block.codes[32 * g + l] >> 4 & 1) << g;
    bytes[16 + l] = byte(high);
  }
  write_nibbles(block.codes.data(), bytes + 48);
}

/// Value 128 n + 32 k + l: its low 4 bits in byte 64 n + 32 (k % 2) + l of ql, half k / 2; its high 2 bits in
/// byte 32 n + l of qh, from bit 2 k on.
void unpack_q6_k(const uint8_t* bytes, GgmlBlock& block) {
  const uint8_t* high = bytes + 128;
  for (int i = 0; i < kSuper; ++i) {
    const int n = i / 128, k = i % 128 / 32, l = i % 32;
    const int low = bytes[64 * n + 32 * (k % 2) + l] >> (4 * (k / 2)) & 15;
    block.codes[i] = byte(low | (high[32 * n + l] >> (2 * k) & 3) << 4);
  }
  for (int j = 0; j < 16; ++j) block.scales[j] = bytes[192 + j] ^ 0x80;
  block.d = read_half(bytes + 208);
}
void pack_q6_k(const GgmlBlock& block, uint8_t* bytes) {
  for (int n = 0; n < 2; ++n) {
    const uint8_t* c = block.codes.data() + 128 * n;
    for (int l = 0; l < 64; ++l) bytes[64 * n + l] = byte((c[l] & 15) | (c[l + 64] & 15) << 4);
    for (int l = 0; l < 32; ++l) {
      bytes[128 + 32 * n + l] =
          byte(c[l] >> 4 | c[l + 32] >> 4 << 2 | c[l + 64] >> 4 << 4 | c[l + 96] >> 4 << 6);
    }
  }
  for (int j = 0; j < 16; ++j) bytes[192 + j] = block.scales[j] ^ 0x80;
  write_half(block.d, bytes + 208);
}

}  // namespace lathe::ggml
