// From codes to 32-bit words in one pass: signed codes become unsigned fields (code + 2^(b-1)), fields become
// words (bitpack.h's bit stream) and, for GPTQ and AWQ, the matrix of words is transposed, because both count
// inputs along the first dimension where Lathe's W[out, in] counts them along the last.
//
// All functions take and give contiguous CPU tensors, work on several rows at a time in a buffer that stays
// in the first-level cache, and give the same words whatever the number of threads.
#pragma once

#include <ATen/core/Tensor.h>

namespace lathe {

/// Char [rows, n] -> Int [rows, packed_words(n, bits)]: pack_rows(to_fields(codes)), and its inverse. bits: 2
/// to
/// 8. InternalError for a code outside [-2^(b-1), 2^(b-1)).
at::Tensor pack_row_words(const at::Tensor& codes, int bits);
at::Tensor unpack_row_words(const at::Tensor& words, int bits, int64_t n);

/// Char [out, in] -> Int [in * bits / 32, out]: column o is the bit stream of row o's codes. bits: 2, 3, 4
/// or 8; in * bits is a multiple of 32. InternalError for a code outside [-2^(b-1), 2^(b-1)).
at::Tensor pack_gptq_words(const at::Tensor& codes, int bits);
/// The inverse.
at::Tensor unpack_gptq_words(const at::Tensor& words, int bits);

/// Char [out, in] -> Int [in, out / 8]: field s of word c is 4-bit code 8c + order[s] of the column, order =
/// 0 2 4 6 1 3 5 7. out is a multiple of 8.
at::Tensor pack_awq_words(const at::Tensor& codes);
/// The inverse.
at::Tensor unpack_awq_words(const at::Tensor& words);

/// Both as their definitions say, one field at a time: what the fast paths are tested against.
at::Tensor pack_gptq_words_reference(const at::Tensor& codes, int bits);
at::Tensor pack_awq_words_reference(const at::Tensor& codes);

}  // namespace lathe
