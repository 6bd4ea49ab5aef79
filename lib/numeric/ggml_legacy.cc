// Blocks of 32 values. Nibbles: byte j holds value j in its low half and value j + 16 in its high half.
#include "lib/numeric/ggml_layouts.h"

namespace lathe::ggml {
namespace {

constexpr int kHalf = 16;
constexpr uint16_t kSign = 0x8000;

void read_nibbles(const uint8_t* qs, uint8_t* codes) {
  for (int j = 0; j < kHalf; ++j) {
    codes[j] = qs[j] & 15;
    codes[j + kHalf] = qs[j] >> 4;
  }
}

void write_nibbles(const uint8_t* codes, uint8_t* qs) {
  for (int j = 0; j < kHalf; ++j) {
    qs[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + kHalf] & 15) << 4);
  }
}

/// Bit j of the 32-bit word qh is the fifth bit of value j.
void read_fifth_bits(const uint8_t* qh, uint8_t* codes) {
  for (int j = 0; j < 2 * kHalf; ++j) codes[j] |= static_cast<uint8_t>(((qh[j / 8] >> (j % 8)) & 1) << 4);
}

void write_fifth_bits(const uint8_t* codes, uint8_t* qh) {
  for (int j = 0; j < 4; ++j) qh[j] = 0;
  for (int j = 0; j < 2 * kHalf; ++j) qh[j / 8] |= static_cast<uint8_t>((codes[j] >> 4 & 1) << (j % 8));
}

}  // namespace

void unpack_q8_0(const uint8_t* bytes, GgmlBlock& block) {
  block.d = read_half(bytes);
  for (int j = 0; j < 2 * kHalf; ++j) block.codes[j] = bytes[2 + j] ^ 0x80;
}
void pack_q8_0(const GgmlBlock& block, uint8_t* bytes) {
  write_half(block.d, bytes);
  for (int j = 0; j < 2 * kHalf; ++j) bytes[2 + j] = block.codes[j] ^ 0x80;
}

void unpack_q4_0(const uint8_t* bytes, GgmlBlock& block) {
  block.d = read_half(bytes);
  read_nibbles(bytes + 2, block.codes.data());
}
void pack_q4_0(const GgmlBlock& block, uint8_t* bytes) {
  write_half(block.d, bytes);
  write_nibbles(block.codes.data(), bytes + 2);
}

void unpack_q4_1(const uint8_t* bytes, GgmlBlock& block) {
  block.d = read_half(bytes);
  block.dmin = read_half(bytes + 2) ^ kSign;
  read_nibbles(bytes + 4, block.codes.data());
}
void pack_q4_1(const GgmlBlock& block, uint8_t* bytes) {
  write_half(block.d, bytes);
  write_half(block.dmin ^ kSign, bytes + 2);
  write_nibbles(block.codes.data(), bytes + 4);
}

void unpack_q5_0(const uint8_t* bytes, GgmlBlock& block) {
  block.d = read_half(bytes);
  read_nibbles(bytes + 6, block.codes.data());
  read_fifth_bits(bytes + 2, block.codes.data());
}
void pack_q5_0(const GgmlBlock& block, uint8_t* bytes) {
  write_half(block.d, bytes);
  write_fifth_bits(block.codes.data(), bytes + 2);
  write_nibbles(block.codes.data(), bytes + 6);
}

void unpack_q5_1(const uint8_t* bytes, GgmlBlock& block) {
  block.d = read_half(bytes);
  block.dmin = read_half(bytes + 2) ^ kSign;
  read_nibbles(bytes + 8, block.codes.data());
  read_fifth_bits(bytes + 4, block.codes.data());
}
void pack_q5_1(const GgmlBlock& block, uint8_t* bytes) {
  write_half(block.d, bytes);
  write_half(block.dmin ^ kSign, bytes + 2);
  write_fifth_bits(block.codes.data(), bytes + 4);
  write_nibbles(block.codes.data(), bytes + 8);
}

void unpack_mxfp4(const uint8_t* bytes, GgmlBlock& block) {
  block.d = bytes[0];
  read_nibbles(bytes + 1, block.codes.data());
}
void pack_mxfp4(const GgmlBlock& block, uint8_t* bytes) {
  bytes[0] = static_cast<uint8_t>(block.d);
  write_nibbles(block.codes.data(), bytes + 1);
}

}  // namespace lathe::ggml
