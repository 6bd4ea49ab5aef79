// The types that are read alone: super-blocks of 256 values whose codes are places in a codebook of vectors
// (IQ1, IQ2, IQ3), NVFP4 and Q1_0. Each function is ggml's dequantize_row_*, in its order of operations, so
// that the bits are the same.
#include "lib/numeric/ggml_grids.h"
#include "lib/numeric/ggml_layouts.h"

#include <bit>
#include <cmath>

namespace lathe {
namespace ggml {
namespace {

constexpr int kSubBlocks = 8;  // of 32 values
constexpr float kIq1Delta = 0.125f;

uint32_t read_word(const uint8_t* bytes) { return read_half(bytes) | uint32_t{read_half(bytes + 2)} << 16; }

/// Seven stored signs and the eighth, which makes their number even (ggml's ksigns_iq2xs).
uint32_t even_signs(uint32_t stored) {
  stored &= 127;
  return stored | static_cast<uint32_t>(std::popcount(stored) & 1) << 7;
}

/// `count` values of an entry, those whose bit in `signs` is set negated.
template <class Levels>
void put_vector(float scale, uint16_t entry, int bits, int count, const Levels& levels, uint32_t signs,
                float* out) {
  for (int j = 0; j < count; ++j) {
    const auto level = static_cast<float>(levels[entry >> (bits * j) & ((1 << bits) - 1)]);
    out[j] = scale * level * ((signs >> j & 1) != 0 ? -1.0f : 1.0f);
  }
}

void put_iq2(float scale, uint16_t entry, uint32_t signs, float* out) {
  put_vector(scale, entry, 2, 8, kIq2Levels, signs, out);
}

/// IQ1: the level moved by an eighth up or down, not negated.
void put_iq1(float scale, uint16_t entry, bool down, float* out) {
  for (int j = 0; j < 8; ++j) {
    const auto level = static_cast<float>(kIq1Levels[entry >> (2 * j) & 3]);
    out[j] = scale * (level + (down ? -kIq1Delta : kIq1Delta));
  }
}

float iq2_scale(float d, int code) { return d * (0.5f + static_cast<float>(code)) * 0.25f; }

/// UE4M3, halved, for levels twice E2M1's. Its sign is not looked at; ggml takes its NaN for 0.
float nvfp4_scale(uint8_t code) {
  if (code == 0 || code == 127) return 0;
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  return exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -10)
                       : std::ldexp(static_cast<float>(8 + mantissa), exponent - 11);
}

}  // namespace

/// d, eight times 32 bits of four codes and 28 bits of signs with a scale's four atop.
void decode_iq2_xxs(const uint8_t* bytes, float* out) {
  const float d = from_half(read_half(bytes));
  for (int b = 0; b < kSubBlocks; ++b) {
    const uint8_t* const codes = bytes + 2 + 8 * b;
    const uint32_t signs = read_word(codes + 4);
    const float scale = iq2_scale(d, static_cast<int>(signs >> 28));
    for (int l = 0; l < 4; ++l)
      put_iq2(scale, kIq2XxsGrid[codes[l]], even_signs(signs >> (7 * l)), out + 32 * b + 8 * l);
  }
}

/// d, 32 times nine bits of code under seven of signs, eight times two scales.
void decode_iq2_xs(const uint8_t* bytes, float* out) {
  const float d = from_half(read_half(bytes));
  for (int v = 0; v < 4 * kSubBlocks; ++v) {
    const uint16_t code = read_half(bytes + 2 + 2 * v);
    const float scale = iq2_scale(d, bytes[66 + v / 4] >> (4 * (v % 4 / 2)) & 15);
    put_iq2(scale, kIq2XsGrid[code & 511], even_signs(code >> 9), out + 8 * v);
  }
}

/// d, 32 codes' low bytes, 32 bytes of signs, eight times four high pairs of bits, eight times two scales.
void decode_iq2_s(const uint8_t* bytes, float* out) {
  const float d = from_half(read_half(bytes));
  for (int v = 0; v < 4 * kSubBlocks; ++v) {
    const int code = bytes[2 + v] | (bytes[66 + v / 4] >> (2 * (v % 4)) & 3) << 8;
    const float scale = iq2_scale(d, bytes[74 + v / 4] >> (4 * (v % 4 / 2)) & 15);
    put_iq2(scale, kIq2SGrid[static_cast<size_t>(code)], bytes[34 + v], out + 8 * v);
  }
}

/// d, 64 codes, eight times 28 bits of signs with a scale's four atop.
void decode_iq3_xxs(const uint8_t* bytes, float* out) {
  const float d = from_half(read_half(bytes));
  for (int b = 0; b < kSubBlocks; ++b) {
    const uint32_t signs = read_word(bytes + 66 + 4 * b);
    const float scale = d * (0.5f + static_cast<float>(signs >> 28)) * 0.5f;
    for (int l = 0; l < 8; ++l)
      put_vector(scale, kIq3XxsGrid[bytes[2 + 8 * b + l]], 4, 4, kIq3XxsLevels,
                 even_signs(signs >> (7 * (l / 2))) >> (4 * (l % 2)), out + 32 * b + 4 * l);
  }
}

/// d, 64 codes' low bytes, eight bytes of their ninth bits, 32 bytes of signs, four times two scales.
void decode_iq3_s(const uint8_t* bytes, float* out) {
  const float d = from_half(read_half(bytes));
  for (int b = 0; b < kSubBlocks; ++b) {
    const float scale = d * static_cast<float>(1 + 2 * (bytes[106 + b / 2] >> (4 * (b % 2)) & 15));
    for (int l = 0; l < 8; ++l) {
      const int code = bytes[2 + 8 * b + l] | (bytes[66 + b] >> l & 1) << 8;
      put_vector(scale, kIq3SGrid[static_cast<size_t>(code)], 4, 4, kIq3SLevels,
                 uint32_t{bytes[74 + 4 * b + l / 2]} >> (4 * (l % 2)), out + 32 * b + 4 * l);
    }
  }
}

/// d, 32 codes' low bytes, eight times three high bits of four codes, a scale's three and the direction.
void decode_iq1_s(const uint8_t* bytes, float* out) {
  const float d = from_half(read_half(bytes));
  for (int b = 0; b < kSubBlocks; ++b) {
    const uint16_t high = read_half(bytes + 34 + 2 * b);
    const float scale = d * static_cast<float>(2 * (high >> 12 & 7) + 1);
    for (int l = 0; l < 4; ++l) {
      const int code = bytes[2 + 4 * b + l] | (high >> (3 * l) & 7) << 8;
      put_iq1(scale, kIq1Grid[static_cast<size_t>(code)], (high & 0x8000) != 0, out + 32 * b + 8 * l);
    }
  }
}

/// 32 codes' low bytes, 16 times three high bits and the direction of two codes, four times four scales of
/// three bits; above them a quarter of d each.
void decode_iq1_m(const uint8_t* bytes, float* out) {
  const uint8_t* const scales = bytes + 48;
  uint16_t half = 0;
  for (int q = 0; q < 4; ++q) half |= static_cast<uint16_t>(scales[2 * q + 1] >> 4 << (4 * q));
  const float d = from_half(half);
  for (int v = 0; v < 4 * kSubBlocks; ++v) {
    const int scale_code = read_half(scales + v / 8 * 2) >> (3 * (v % 8 / 2)) & 7;
    const int high = bytes[32 + v / 2] >> (4 * (v % 2));
    const int code = bytes[v] | (high & 7) << 8;
    put_iq1(d * static_cast<float>(2 * scale_code + 1), kIq1Grid[static_cast<size_t>(code)], (high & 8) != 0,
            out + 8 * v);
  }
}

void decode_nvfp4(const uint8_t* bytes, float* out) {
  std::array<uint8_t, 4> scales;
  std::array<uint8_t, 64> codes;
  unpack_nvfp4(bytes, scales.data(), codes.data());
  for (size_t i = 0; i < codes.size(); ++i)
    out[i] = nvfp4_scale(scales[i / 16]) * static_cast<float>(kMxfp4Levels[codes[i]]);
}

/// d and the signs of 128 values.
void decode_q1_0(const uint8_t* bytes, float* out) {
  const float d = from_half(read_half(bytes));
  for (int i = 0; i < 128; ++i) out[i] = (bytes[2 + i / 8] >> (i % 8) & 1) != 0 ? d : -d;
}

}  // namespace ggml

/// Four scales, then four times the codes of 16 values: byte j holds value j in its low half and value j + 8
/// in its high half.
void unpack_nvfp4(const uint8_t* bytes, uint8_t* scales, uint8_t* codes) {
  for (int s = 0; s < 4; ++s) {
    scales[s] = bytes[s];
    for (int j = 0; j < 8; ++j) {
      codes[16 * s + j] = bytes[4 + 8 * s + j] & 15;
      codes[16 * s + 8 + j] = bytes[4 + 8 * s + j] >> 4;
    }
  }
}

}  // namespace lathe
