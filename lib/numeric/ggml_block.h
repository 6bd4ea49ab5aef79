// One block of a ggml type, taken apart: codes, scale codes, minimum codes, and the super-block's own scales.
// unpack and pack are each other's inverse, bit for bit; values() is what the block stands for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "lib/numeric/ggml_type.h"

namespace lathe {

struct GgmlBlock {
  /// F16 bits. MXFP4: the exponent byte e of 2^(e - 128), for levels twice as large as E2M1's values.
  uint16_t d = 0;
  /// F16 bits; what is subtracted. Q4_1 and Q5_1, whose files hold what is *added*: that, negated.
  uint16_t dmin = 0;
  std::array<uint8_t, 16> scales{};  // as in the file, but Q6_K's, which count from -128
  std::array<uint8_t, 16> mins{};
  std::array<uint8_t, 256> codes{};  // from 0; Q8_0's: the signed value + 128
};

/// bytes: traits(type).bytes of them.
void unpack(GgmlType type, const uint8_t* bytes, GgmlBlock& block);
void pack(GgmlType type, const GgmlBlock& block, uint8_t* bytes);

/// FP32 of traits(type).length values, in the order of operations of ggml's dequantize_row_*, so that the
/// bits are the same: (d * scale) * level - dmin * minimum, each product and the difference rounded once.
void values(GgmlType type, const GgmlBlock& block, float* out);

/// `count` values (a multiple of the block's length) from their bytes, for every type of the table. The slow,
/// obvious reference. TQ codes of 3 and numbers that aren't finite are decoded like any other.
void decode_ggml(GgmlType type, const std::byte* bytes, int64_t count, float* out);

/// A block of NVFP4: the bits of its four groups' scales (UE4M3) and of its 64 codes (E2M1), a byte each.
void unpack_nvfp4(const uint8_t* bytes, uint8_t* scales, uint8_t* codes);

/// IEEE half <-> single; ties to even.
float from_half(uint16_t bits);
uint16_t to_half(float value);

}  // namespace lathe
