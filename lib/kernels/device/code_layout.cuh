// Where a kernel's weight layout puts the code of W[n, k], for g++ (CPU) and nvcc (host and device); n is an
// output channel, k an input channel. C++17, integers only.
//
// Every layout here is a sequence of equal blocks, each a rectangle of W and a run of 32-bit words; the codes
// of a word are its fields, least significant first. A layout is then two functions: at which block of the
// sequence a rectangle stands, and which code of its rectangle a field of a block is. Packer and unpacker of
// both backends use these two and nothing else, so they can only agree.
#pragma once

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::device {

enum class CodeOrder : int32_t {
  rows,       // field j of word w of row n: k = w * fields + j (AutoAWQ's GEMV, and GPTQ's words transposed)
  gemv_fast,  // AutoAWQ's GEMV-fast, llm-awq's second kernel
  exllama,    // GPTQ's words with their fields shuffled: ExLlamaV2, vLLM's gptq_shuffle
  marlin,
  machete,
  trtllm,  // TensorRT-LLM's fpA_intB (CUTLASS mixed-input GEMM)
};

/// A stored matrix. `in` and `out` are multiples of the block's sides: what the matrix lacks of them is
/// filled with the code 0 of the unsigned range.
struct CodeLayout {
  CodeOrder order = CodeOrder::rows;
  int32_t bits = 4;  // 2, 4 or 8
  int64_t in = 0, out = 0;
  int32_t columns = 1;           // trtllm: output channels that are interleaved
  bool shuffled = true;          // trtllm: rows permuted for LDSM, fields shuffled
  bool twos_complement = false;  // fields are signed numbers; else they count from the grid's lowest code
};

/// Of a block: `in` input channels by `out` output channels.
struct BlockSides {
  int32_t in = 0, out = 0;
};
/// Of a code within its block.
struct CodePlace {
  int32_t in = 0, out = 0;
};

LATHE_HOST_DEVICE int32_t fields_of_word(const CodeLayout& layout) { return 32 / layout.bits; }

LATHE_HOST_DEVICE BlockSides block_sides(const CodeLayout& layout) {
  switch (layout.order) {
    case CodeOrder::gemv_fast:
      return {64, 4};
    case CodeOrder::marlin:
      return {16, 64};
    case CodeOrder::machete:
      return {64, 128};
    case CodeOrder::trtllm:
      return {64, layout.columns};
    default:
      return {fields_of_word(layout), 1};
  }
}

LATHE_HOST_DEVICE int32_t words_of_block(const CodeLayout& layout) {
  const BlockSides sides = block_sides(layout);
  return sides.in * sides.out * layout.bits / 32;
}

LATHE_HOST_DEVICE int64_t words_of_layout(const CodeLayout& layout) {
  return layout.in * layout.out * layout.bits / 32;
}

/// Place in the sequence of the block that is the `block_in`-th along `in` and `block_out`-th along `out`.
LATHE_HOST_DEVICE int64_t block_number(const CodeLayout& layout, int64_t block_in, int64_t block_out) {
  const BlockSides sides = block_sides(layout);
  const bool out_first = layout.order == CodeOrder::exllama || layout.order == CodeOrder::marlin ||
                         layout.order == CodeOrder::machete;
  return out_first ? block_in * (layout.out / sides.out) + block_out
                   : block_out * (layout.in / sides.in) + block_in;
}

/// Even elements in the low half, odd ones in the high half: field j of a run of n holds the element that
/// this gives. Kernels then get neighbours as two halves of one 32-bit register by one mask.
LATHE_HOST_DEVICE int32_t even_then_odd(int32_t j, int32_t n) {
  return j < n / 2 ? 2 * j : 2 * (j - n / 2) + 1;
}

/// The same for words of 8 or 4 fields. Four bytes become 0, 2, 1, 3.
LATHE_HOST_DEVICE int32_t shuffled_field(const CodeLayout& layout, int32_t field) {
  return even_then_odd(field, fields_of_word(layout));
}

/// Tensor-core fragments of 16 x 8, four of them side by side for one thread (a run of 32 numbers): thread
/// i holds rows 2 (i % 4) + {0, 1, 8, 9} of column i / 4 in each half of each of four 16 x 16 tiles.
LATHE_HOST_DEVICE CodePlace marlin_place(const CodeLayout& layout, int32_t word, int32_t field) {
  const int32_t e = word * fields_of_word(layout) + shuffled_field(layout, field);
  const int32_t thread = e / 32, tile = e / 8 % 4, half = e / 4 % 2, row = e % 4;
  return {2 * (thread % 4) + row % 2 + 8 * (row / 2), 16 * tile + 8 * half + thread / 4};
}

/// The A fragment of two warp groups' wgmma m64k16 over 128 output by 64 input channels, thread after thread
/// of 32 numbers each; words of 4 bits are shuffled.
LATHE_HOST_DEVICE CodePlace machete_place(const CodeLayout& layout, int32_t word, int32_t field) {
  const int32_t in_word = layout.bits == 4 ? shuffled_field(layout, field) : field;
  const int32_t e = word * fields_of_word(layout) + in_word;
  const int32_t thread = e / 32, v = e % 32;
  const int32_t lane = thread % 32, warp = thread / 32;  // warps 4 to 7 are the second warp group
  return {16 * (v / 8) + 8 * (v / 4 % 2) + 2 * (lane % 4) + v % 2, 16 * warp + 8 * (v / 2 % 2) + lane / 4};
}

/// Which of a run of 128 / bits rows stands at place j after TensorRT-LLM's permutation for LDSM (16-bit
/// activations): it undoes what loading narrow numbers as 16-bit ones does to their order.
LATHE_HOST_DEVICE int32_t trtllm_row(int32_t bits, int32_t j) {
  const int32_t pairs = 16 / bits;  // of rows, 8 apart, that one thread gets
  return 2 * (j / (2 * pairs)) + j % 2 + 8 * (j / 2 % pairs);
}

LATHE_HOST_DEVICE CodePlace trtllm_place(const CodeLayout& layout, int32_t word, int32_t field) {
  const int32_t in_word = layout.shuffled ? shuffled_field(layout, field) : field;
  const int32_t e = word * fields_of_word(layout) + in_word;
  const int32_t row = e % 64, run = 128 / layout.bits;
  return {layout.shuffled ? row / run * run + trtllm_row(layout.bits, row % run) : row, e / 64};
}

/// Four rows of 64: the words of one row after those of the other. In a run of 32, pairs of neighbours are
/// transposed as a 4 x 4 matrix, then each run of 8 is shuffled.
LATHE_HOST_DEVICE CodePlace gemv_fast_place(const CodeLayout& layout, int32_t word, int32_t field) {
  const int32_t run = word % 8 * 8;
  const int32_t e = run % 32 + shuffled_field(layout, field);
  return {run / 32 * 32 + e / 2 % 4 * 8 + e / 8 * 2 + e % 2, word / 8};
}

LATHE_HOST_DEVICE CodePlace code_place(const CodeLayout& layout, int32_t word, int32_t field) {
  switch (layout.order) {
    case CodeOrder::marlin:
      return marlin_place(layout, word, field);
    case CodeOrder::machete:
      return machete_place(layout, word, field);
    case CodeOrder::trtllm:
      return trtllm_place(layout, word, field);
    case CodeOrder::gemv_fast:
      return gemv_fast_place(layout, word, field);
    case CodeOrder::exllama:
      return {layout.bits == 8 ? field : shuffled_field(layout, field), 0};
    default:
      return {field, 0};
  }
}

/// A code in [-2^(bits-1), 2^(bits-1)) as a field, and back.
LATHE_HOST_DEVICE uint32_t field_of_code(const CodeLayout& layout, int8_t code) {
  const int32_t half = 1 << (layout.bits - 1);
  const int32_t value = layout.twos_complement ? code : code + half;
  return static_cast<uint32_t>(value) & ((1u << layout.bits) - 1);
}
LATHE_HOST_DEVICE int8_t code_of_field(const CodeLayout& layout, uint32_t word, int32_t field) {
  const uint32_t mask = (1u << layout.bits) - 1, half = 1u << (layout.bits - 1);
  const uint32_t bits = word >> (layout.bits * field) & mask;
  const uint32_t from_lowest = layout.twos_complement ? bits ^ half : bits;
  return static_cast<int8_t>(static_cast<int32_t>(from_lowest) - static_cast<int32_t>(half));
}

/// ExLlama's words of 3 bits: 32 codes in three words of ten each, even ones in the low half and odd ones in
/// the high half of a word; what is left of the two halves, one bit each, are the bits of codes 30 and 31.
LATHE_HOST_DEVICE int32_t exllama3_word(int32_t k, int32_t bit) { return k < 30 ? k / 10 : bit; }
LATHE_HOST_DEVICE int32_t exllama3_shift(int32_t k, int32_t bit) {
  return k < 30 ? k % 10 / 2 * 3 + k % 2 * 16 + bit : 15 + 16 * (k % 2);
}
/// `word` 0, 1 or 2 of 32 codes, `stride` bytes apart; and code `k` of three words, `stride` words apart.
LATHE_HOST_DEVICE uint32_t exllama3_pack(const int8_t* codes, int64_t stride, int32_t word) {
  uint32_t packed = 0;
  for (int32_t k = 0; k < 32; ++k) {
    const uint32_t field = static_cast<uint32_t>(codes[k * stride] + 4) & 7u;
    for (int32_t bit = 0; bit < 3; ++bit) {
      if (exllama3_word(k, bit) == word) packed |= (field >> bit & 1u) << exllama3_shift(k, bit);
    }
  }
  return packed;
}
LATHE_HOST_DEVICE int8_t exllama3_code(const uint32_t* words, int64_t stride, int32_t k) {
  uint32_t field = 0;
  for (int32_t bit = 0; bit < 3; ++bit)
    field |= (words[exllama3_word(k, bit) * stride] >> exllama3_shift(k, bit) & 1u) << bit;
  return static_cast<int8_t>(static_cast<int32_t>(field) - 4);
}

/// Block scales of MX and NVFP4 for tensor cores (PTX's scale_vec layouts, cuBLASLt's 128x4 tiles, CUTLASS's
/// SfAtom): tiles of 128 rows by 4 columns, tile after tile along a row of tiles; in a tile, 32 rows of 16
/// bytes, each four rows that are 32 apart, with their four scales side by side. `columns` is a multiple of
/// 4.
LATHE_HOST_DEVICE int64_t swizzled_scale(int64_t row, int64_t column, int64_t columns) {
  const int64_t tile = row / 128 * (columns / 4) + column / 4;
  return tile * 512 + row % 32 * 16 + row % 128 / 32 * 4 + column % 4;
}

}  // namespace lathe::device
