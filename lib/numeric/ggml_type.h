// The block formats of ggml (llama.cpp): a row of a matrix is cut into blocks of 32 or 256 neighbours; a
// block holds codes, scales and, for some, minima in one run of bytes. The table here says what each looks
// like; ggml_block.h has the bits.
//
// Sources: ggml/src/ggml-common.h and ggml-quants.c of llama.cpp (block structures, dequantize_row_*),
// GGUF's specification for the numbers of the types.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace lathe {

enum class GgmlType : uint8_t {
  F32,
  F16,
  BF16,
  Q8_0,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  Q2_K,
  Q3_K,
  Q4_K,
  Q5_K,
  Q6_K,
  IQ4_NL,
  IQ4_XS,
  TQ1_0,
  TQ2_0,
  MXFP4,
  IQ1_S,
  IQ1_M,
  IQ2_XXS,
  IQ2_XS,
  IQ2_S,
  IQ3_XXS,
  IQ3_S,
  NVFP4,
  Q1_0
};

/// One row of the table. A value is scale * level(code) - minimum, where scale is d times the sub-block's
/// scale code (less scale_offset), or d alone; minimum is dmin times its minimum code, or dmin alone.
struct GgmlTraits {
  GgmlType type;
  std::string_view name;  // "Q4_K", as llama.cpp and gguf-py spell it
  uint32_t id;            // in a file
  int64_t length;         // values of a block; 1: plain numbers
  int64_t bytes;          // of a block
  int64_t group = 0;      // values that share a scale code
  int levels = 0;         // of a code: 0 .. levels - 1; 0: plain numbers
  int offset = 0;         // level = code - offset, where there is no table
  int scale_levels = 0;   // of scale codes: 0 .. scale_levels - 1; 0: d is the scale
  int scale_offset = 0;   // subtracted from a scale code
  bool has_min = false;
  bool made = true;  // Lathe rounds to it; else it is read alone, and what stands above from `group` on is 0
};

std::span<const GgmlTraits> ggml_types();
const GgmlTraits& traits(GgmlType type);
/// The type of that name ("Q4_K") or number in a file; nothing for an unknown one.
std::optional<GgmlType> parse_ggml_type(std::string_view name);
std::optional<GgmlType> ggml_type_of_id(uint32_t id);

/// IQ4_NL and IQ4_XS: what a code stands for.
inline constexpr std::array<int8_t, 16> kIq4Levels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};
/// MXFP4: likewise, twice the values of E2M1.
inline constexpr std::array<int8_t, 16> kMxfp4Levels = {0, 1,  2,  3,  4,  6,  8,  12,
                                                        0, -1, -2, -3, -4, -6, -8, -12};

/// What a code stands for before scale and minimum; null where that is code - offset. 16 entries.
const int8_t* ggml_levels(GgmlType type);

/// Can rows of `columns` values be cut into blocks of this type?
inline bool divides(GgmlType type, int64_t columns) { return columns % traits(type).length == 0; }
/// Bytes of a row; `columns` must be divisible.
inline int64_t row_bytes(GgmlType type, int64_t columns) {
  return columns / traits(type).length * traits(type).bytes;
}
/// 4.5 for Q4_0, ...
double bits_per_weight(GgmlType type);

}  // namespace lathe
