// Dense little-endian bit streams in 32-bit words: how GPTQ, compressed-tensors and others store integer
// fields.
//
// Field i of a row occupies the bits [i * bits, (i + 1) * bits) of the row; word k holds the bits [32k, 32k +
// 32), least significant first. A field may straddle two words (3, 5, 6 and 7 bits). Each row starts on a
// word; the bits after its last field are zero. Words are stored as I32 with the raw bit pattern, and files
// are little-endian.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "lib/base/checked.h"

namespace lathe {

/// 32-bit words that hold `fields` fields of 1 to 8 bits.
constexpr int64_t packed_words(int64_t fields, int bits) { return ceil_div(fields * bits, 32); }

/// Packs a row: `words` has packed_words(fields.size(), bits) elements. Fields must be < 2^bits.
void pack_row(std::span<const uint8_t> fields, int bits, std::span<uint32_t> words);
/// The inverse; bits after the last field are not looked at.
void unpack_row(std::span<const uint32_t> words, int bits, std::span<uint8_t> fields);

/// One bit at a time, straight from the definition above: what the fast paths are tested against.
void pack_row_reference(std::span<const uint8_t> fields, int bits, std::span<uint32_t> words);
void unpack_row_reference(std::span<const uint32_t> words, int bits, std::span<uint8_t> fields);

/// Signed values in [-2^(b-1), 2^(b-1)), Char -> the unsigned fields that are packed, Byte, contiguous, CPU;
/// and back. InternalError for a value outside.
at::Tensor to_fields(const at::Tensor& values, int bits);
at::Tensor to_signed(const at::Tensor& fields, int bits);

/// Byte [rows, n], contiguous, CPU -> Int [rows, packed_words(n, bits)].
at::Tensor pack_rows(const at::Tensor& fields, int bits);
/// Int [rows, packed_words(n, bits)], contiguous, CPU -> Byte [rows, n].
at::Tensor unpack_rows(const at::Tensor& words, int bits, int64_t n);

}  // namespace lathe
